from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.loading import load_from
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.fixes.source import replace_symbol
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.asked_part import AskedPartProbe
from tfdiag_ipython.probes.model_folder import ModelFolderProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import passes
from tfdiag_ipython.rules.cfg._examples import FOLDER, PLACE, UNRECOGNIZED, files_of
from tfdiag_ipython.rules.cfg._model_types import first_release, removed_in
from tfdiag_ipython.rules.cfg.foreign_checkpoint import KINDS
from tfdiag_ipython.rules.imp._symbols import older

_AUTO = re.compile(r"configuration_auto\.py")
SETUP = PLACE + files_of(("config.json", "{'model_type': 'nosuchtype', 'transformers_version': '99.1.0'}"))


def saved(place: str) -> str:
    """The first cell of a case: a small model saved at ``place``."""
    return PLACE + f"BertModel(BertConfig(**SMALL)).save_pretrained({place})\n"


class UnknownModelType(Rule):
    """The checkpoint's configuration names no model type, or one that this version does not know.

    *What it means*
    `model_type` in `config.json` decides which classes are used. It is missing, or the installed transformers has no such type.

    *Why it happens*
    The model is newer than the library; the folder above or below the model's was given; `config.json` was left behind when the
    weights were copied, or was written before 2020 or by hand.

    *How tfdiag confirms it*
    It looks into the folder, or the cached repository, that was given, and into the history of the model types that transformers' releases
    know (4.19 to 5.23), and compares the version that wrote the file.

    *Fixes and their safety*
    `use-nested-folder` (unsafe: which of several is meant is the person's to say) loads the subfolder that holds a model.
    `use-concrete-class` (unsafe) names the model's own class where `architectures` tells it. `upgrade` is shown only.

    *Example*
    `AutoConfig.from_pretrained(folder)` where `config.json` holds a `model_type` of a later version.

    *References*
    transformers: `models/auto/configuration_auto.py`, `AutoConfig.from_pretrained`.
    """

    code = "CFG002"
    name = "unknown-model-type"
    message = re.compile(
        r"Unrecognized (?P<part>model|model identifier|image processor|video processor|feature extractor|processing class) in "
        r"(?P<where>.{1,300}?)[. ]{1,2}(?:Should (?:have a|contains? one of)|Can't instantiate)"
        r"|has model type `(?P<type>[\w.-]+)` but Transformers does not recognize this architecture"
        r"|\A'(?P<key>[\w.-]+)'\Z"
    )
    needs = (ModelFolderProbe, AskedPartProbe)
    fixes = (
        Offer("use-nested-folder", Applicability.UNSAFE),
        Offer("use-concrete-class", Applicability.UNSAFE),
        Offer("upgrade", Applicability.DISPLAY_ONLY),
    )
    CASES = (
        Match(
            text="ValueError: Unrecognized model in ./out. Should have a `model_type` key in its config.json, or contain one of",
            certainty=Certainty.LIKELY,
            title=r"`\./out` names no model type",
        ),
        Match(
            text="ValueError: Unrecognized image processor in acme/eyes. Should have a `image_processor_type` key in its "
            "preprocessor_config.json of config.json, or one of the following `model_type` keys in its config.json: align",
            title=r"`acme/eyes` names no image processor",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/transformers/models/auto/configuration_auto.py", line 790, in from_pretrained\n'
            "    config_class = CONFIG_MAPPING[config_dict[\"model_type\"]]\nKeyError: 'qwen3_moe'",
            certainty=Certainty.LIKELY,
            title="model type `qwen3_moe` is first in transformers 4.51",
            fixes=("upgrade",),
        ),
        Match(
            text="ValueError: The checkpoint you are trying to load has model type `acme5` but Transformers does not recognize this "
            "architecture.",
            title="does not know the model type `acme5`",
        ),
        Match(
            failure=Failure.from_text(
                "ValueError: The checkpoint you are trying to load has model type `transfo-xl` but Transformers does not recognize this "
                "architecture.",
                versions={"transformers": "5.23.0"},
            ),
            title="model type `transfo-xl` is gone from transformers 5.23.0: release 5.0 removed it",
        ),
        Match(  # the type is younger than its configuration class, Blip2QFormerConfig
            failure=Failure.from_text(
                "ValueError: The checkpoint you are trying to load has model type `blip_2_qformer` but Transformers does not recognize "
                "this architecture.",
                versions={"transformers": "4.50.0"},
            ),
            title="model type `blip_2_qformer` is first in transformers 4.52, here is 4.50.0",
        ),
        NoMatch(text="KeyError: 'llama'"),
        NoMatch(
            text="Traceback (most recent call last):\n  File \"/x/shop.py\", line 7, in sell\n    prices[name]\nKeyError: 'llama'"
        ),
        NoMatch(text="ValueError: Unrecognized model in the shop window."),
        Match(
            text=UNRECOGNIZED,
            evidence={"model-folder": FOLDER | {"kind": "weights-only", "files": ("model.safetensors",)}},
            certainty=Certainty.CONFIRMED,
            title="`out` holds weights and no config.json",
        ),
        Reproduce(
            (
                saved("folder / 'checkpoint-9' / 'best'")
                + "shutil.copytree(folder / 'checkpoint-9' / 'best', folder / 'checkpoint-12')",
                "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder)",
            ),
            title="holds no config.json, .*/checkpoint-12` does",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nested-folder"),),
        ),
        Reproduce(
            (
                saved("folder / 'snapshots' / '0123'"),
                "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(str(folder))",
            ),
            title="holds no config.json, .*snapshots/0123` does",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nested-folder"),),
        ),
        Reproduce(
            (
                saved("folder") + "(folder / 'config.json').unlink()",
                "from transformers import AutoModel\nAutoModel.from_pretrained(folder)",
            ),
            title="holds weights and no config.json",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                PLACE + "(folder / 'config.json').symlink_to(folder / 'blob')",
                "from transformers import AutoModel\nAutoModel.from_pretrained(folder)",
            ),
            title="config.json` is a link to a file that is gone",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (PLACE, "from transformers import AutoModel\nAutoModel.from_pretrained(folder)"),
            title="is empty",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                saved("folder")
                + "file = folder / 'config.json'\n"
                + "file.write_text(file.read_text().replace('model_type', 'kind_of_model'))",
                "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder)",
            ),
            title=r"config.json` names no `model_type`; by its architectures \(BertModel\) it is `bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-concrete-class"),),
        ),
        Reproduce(
            (SETUP, "from transformers import AutoConfig\nAutoConfig.from_pretrained(folder)"),
            title=r"model type `nosuchtype`: its config.json was written by transformers 99\.1\.0",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["key"] and not hit.raised.is_a("KeyError"):
            return None
        if hit["key"] and not failure.says(r"configuration_auto|CONFIG_MAPPING") and not passes(failure, _AUTO):
            return None  # a key of the person's own dictionary
        if evidence[AskedPartProbe.name].get("absent"):
            return None  # a subfolder that is not there: CFG006
        held = evidence[ModelFolderProbe.name]
        known = hit["type"] or hit["key"]
        if known:
            return self._newer(known, failure, held)
        if held and held["kind"] in {*KINDS, "tensorflow"}:
            return None  # another library's folder: CFG004, TFW001
        if hit["part"] not in {"model", "model identifier"}:
            part = "processor or tokenizer" if hit["part"] == "processing class" else hit["part"]
            title = f"`{hit['where'][:120]}` names no {part} that this version knows"
        elif held:
            return self._looked(held)
        else:
            title = f"The configuration of `{hit['where'][:120]}` names no model type that this version knows"
        return self.found(title, Certainty.LIKELY, what="Without a known `model_type` no auto class can be chosen.")

    def _newer(self, model_type: str, failure: Failure, held: Evidence) -> Diagnosis:
        """A model type that the installed release does not have: since when there is one, by the history or by the file itself."""
        version = failure.versions.get("transformers", "")
        first, gone = first_release(model_type), removed_in(model_type)
        name = f"`{model_type[:60]}`"
        saved_by = str(held["saved_by"]) if held else ""
        certainty = Certainty.LIKELY
        fixes: tuple[Fix, ...] = ()
        what = "Without a known `model_type` no auto class can be chosen."
        why = "The model is newer than this release, or its code lies beside it or in a package of its authors."
        if first and (not version or older(version, first)):
            here = f", here is {version}" if version else ""
            title = f"The model type {name} is first in transformers {first}{here}: upgrade and restart the kernel"
            why = "By the history of the model types that transformers' releases know."
            certainty = Certainty.CONFIRMED if version and not failure.stored else certainty
            fixes = (self._upgrade(first),)
        elif gone and version and not older(version, gone):
            title = f"The model type {name} is gone from transformers {version}: release {gone} removed it"
            why = "By the history of the model types that transformers' releases know: an older release still loads it."
            certainty = certainty if failure.stored else Certainty.CONFIRMED
        elif saved_by and older(version, saved_by):
            title = f"transformers {version} does not know the model type {name}: its config.json was written by transformers {saved_by}"
            certainty = Certainty.CONFIRMED
            fixes = (self._upgrade(saved_by),)
        else:
            title = f"transformers {version} does not know the model type {name}".replace("  ", " ")
            if held and held["auto_map"]:
                title += ": its code lies beside it, without a configuration class in its auto_map"
        return self.found(title[:200], certainty, what=what, why=why, evidence=held.seen, fixes=fixes)

    def _upgrade(self, release: str) -> Fix:
        label = f"pip install --upgrade transformers (at least {release[:20]})"
        return self.offer("upgrade", label, f"{THEN_RESTART}.")

    def _looked(self, held: Evidence) -> Diagnosis:
        """What the folder is, and what is to be done with one of its kind."""
        path, asked = str(held["shown"]), str(held["asked"])
        offered: tuple[Fix, ...] = ()
        why = "The files of a model are its `config.json` and its weights; `save_pretrained` writes both."
        if "config.json" in held["dangling"]:
            title = f"`{path}/config.json` is a link to a file that is gone"
            why = "A cache of the Hub was cleaned or copied in part: load the model again by its name, or copy it with its links resolved."
        elif held["config"]:
            title = f"`{path}/config.json` names no `model_type`, so no auto class can be chosen"
            why = "It is of a version before 2020 or of another library: load it with the model's own class, or write the type into it."
            if held["known_as"]:
                title = f"`{path[-60:]}/config.json` names no `model_type`; by its architectures "
                title += f"({held['architectures'][0][:40]}) it is `{held['known_as']}`"
                why = f'Write `"model_type": "{held["known_as"]}"` into the file, or name the class.'
            if held["concrete"]:
                label = f"Load it with {held['concrete']}"
                note = f"It is what {asked} loads for the model type `{held['known_as']}`."
                offered = (self.offer("use-concrete-class", label, note, old=asked, new=held["concrete"]),)
        elif held["nested"]:
            inner = max(held["nested"], key=_number)
            title = f"`{path[-60:]}` holds no config.json, `{path[-60:]}/{inner[-60:]}` does: load that folder"
            others = ", ".join(other for other in held["nested"][:6] if other != inner)
            note = f"There are also: {others}." if others else ""
            place = f"{str(held['path']).rstrip('/')}/{inner}"
            offered = (self.offer("use-nested-folder", f"Load {place[-80:]}", note, asked=asked, place=place),)
        elif held["kind"] == "weights-only":
            title = f"`{path}` holds weights and no config.json: copy it from where the weights come from"
            why += " Without it nothing says how many layers there are, nor which class they are of."
        elif held["kind"] == "empty":
            title = f"`{path}` is empty: nothing was saved or downloaded there"
        else:
            title = f"`{path}` holds no config.json: it is not the folder of a saved model"
        count = len(held["files"])
        what = f"{count} file{'' if count == 1 else 's'} {'is' if count == 1 else 'are'} there, and none says which model it is."
        return self.found(title, Certainty.CONFIRMED, what=what, why=why, evidence=held.seen, fixes=offered)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "use-concrete-class":
            old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
            return edit_cells(scene, lambda source: replace_symbol(source, old, new, module="transformers"))
        asked, place = str(fix.parameters["asked"]), str(fix.parameters["place"])
        return edit_cells(scene, lambda source: load_from(source, asked, place), apart=True)


def _number(name: str) -> tuple[int, str]:
    """Newer checkpoints have larger numbers, and `checkpoint-12` follows `checkpoint-9`."""
    found = re.search(r"(\d+)\Z", name) if not name.startswith("snapshots") else None
    return (int(found[1][-12:]) if found else -1, name)
