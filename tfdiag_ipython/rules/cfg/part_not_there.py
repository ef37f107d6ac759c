from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.asked_part import AskedPartProbe
from tfdiag_ipython.probes.nearest import guess
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.cfg._examples import PLACE

if TYPE_CHECKING:
    import libcst as cst

MODEL = f"{PLACE}BertModel(BertConfig(**SMALL)).save_pretrained(folder)\n"
PARTS = f"{PLACE}BertModel(BertConfig(**SMALL)).save_pretrained(folder / 'encoder')\n"
ABSENT = {
    "place": "acme/tiny",
    "local": False,
    "subfolder": "unet",
    "variant": "",
    "absent": "subfolder",
    "subfolders": (),
    "variants": ("",),
    "whole": True,
}


class PartNotThere(Rule):
    """The subfolder or the variant that was asked for is not there.

    *What it means*
    `subfolder=` names a folder inside the checkpoint, `variant=` a part of the weights' file name (`model.fp16.safetensors`). What the
    loader then misses is reported as if the whole checkpoint lacked it.

    *Why it happens*
    A call was copied from another checkpoint's page, or the name is misspelt.

    *How tfdiag confirms it*
    It reads both arguments from the loading frames and lists the checkpoint's folder; of a repository, what is in the local cache.

    *Fixes and their safety*
    `use-what-is-there` (unsafe: other weights are loaded) names the part that there is, or takes the argument out.

    *Example*
    `AutoModel.from_pretrained("bert-base-cased", variant="fp16")`

    *References*
    transformers: `modeling_utils.py`, `_add_variant`; `utils/hub.py`, `cached_files`.
    """

    code = "CFG006"
    name = "part-not-there"
    raised = ("builtins.OSError", "builtins.ValueError")
    specific = True
    message = re.compile(
        r"Unrecognized (?:model|image processor|processing class)|Error no file named|does not appear to have (?:a|any) file"
        r"|Can't load|Couldn't instantiate the backend tokenizer"
    )
    needs = (AskedPartProbe,)
    fixes = (Offer("use-what-is-there", Applicability.UNSAFE),)
    links = (Link("from_pretrained", "https://huggingface.co/docs/transformers/main_classes/model"),)
    CASES = (
        Match(
            text="OSError: acme/tiny does not appear to have a file named unet/config.json.",
            evidence={"asked-part": ABSENT},
            certainty=Certainty.LIKELY,
            title="`acme/tiny` in the local cache has no subfolder `unet` with a model in it: the model lies in the folder itself",
            fixes=("use-what-is-there",),
        ),
        NoMatch(text="OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory ./out.", code="CKP001"),
        Reproduce(
            (MODEL, "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder, variant='fp16')  # half"),
            title="has no weights of the variant `fp16`: it has those without a name",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-what-is-there"),),
        ),
        Reproduce(
            (MODEL, "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder, subfolder='unet')"),
            title="has no subfolder `unet` with a model in it: the model lies in the folder itself",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-what-is-there"),),
        ),
        Reproduce(
            (PARTS, "model = BertModel.from_pretrained(folder, subfolder='encodr')"),
            title="has no subfolder `encodr` with a model in it: it has encoder",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-what-is-there"),),
        ),
    )  # fmt: skip

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[AskedPartProbe.name]
        if not seen or not seen["absent"]:
            return None
        place, part = f"`{str(seen['place'])[-60:]}`", str(seen["absent"])
        place += "" if seen["local"] else " in the local cache"
        asked = str(seen[part])
        offered: tuple[Fix, ...] = ()
        if part == "subfolder":
            there = [name for name in seen["subfolders"] if name]
            told = f"{place} has no subfolder `{asked}` with a model in it"
            best = next(iter(guess(asked, there).names), None)
            if best is None and seen["whole"]:
                told, best = f"{told}: the model lies in the folder itself", ""
            elif there:
                told = f"{told}: it has {', '.join(there[:5])}"
        else:
            there = [name or "those without a name" for name in seen["variants"]]
            told = f"{place} has no weights of the variant `{asked}`: it has {', '.join(there[:5])}"
            best = "" if "" in seen["variants"] else None
        if best is not None:
            label = f'{part}="{best}"' if best else f"Leave out {part}="
            offered = (self.offer("use-what-is-there", label, "Other weights are loaded.", part=part, value=best),)
        return self.found(
            told[:200],
            Certainty.CONFIRMED if seen["local"] else Certainty.LIKELY,
            what="The loader looked for files of that part alone; the message speaks of the whole checkpoint.",
            why="The call may have been written for another checkpoint.",
            evidence=seen.seen,
            fixes=offered,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        part, value = str(fix.parameters["part"]), str(fix.parameters["value"])

        def asks(call: cst.Call) -> bool:
            named = any(arg.keyword is not None and arg.keyword.value == part for arg in call.args)
            return named and calls_to("from_pretrained")(call)

        return edit_cells(
            scene, lambda source: set_arguments(source, asks, {part: f'"{value}"' if value else None}), apart=True
        )
