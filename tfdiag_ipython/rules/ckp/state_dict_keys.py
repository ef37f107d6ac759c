from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, edit_calls
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

if TYPE_CHECKING:
    import libcst as cst

WRAPPERS = {
    "module.": "DataParallel or DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "model.": "a wrapper (Lightning, a trainer class)",
    "base_model.model.": "PEFT",
    "net.": "a wrapper class",
    "_fsdp_wrapped_module.": "FSDP",
}
"""Prefix of every key → what puts it there when its `state_dict()` is saved."""


class StateDictKeys(Rule):
    """A state dict's names are not the model's.

    *What it means*
    `load_state_dict` is strict: every name of the model must be in the dictionary, and no other.

    *Why it happens*
    The dictionary was saved from a wrapped model (`module.` of DataParallel, `_orig_mod.` of torch.compile), the file holds more than the
    weights (`{"state_dict": …}`), or it belongs to another architecture or library version.

    *How tfdiag confirms it*
    The message lists both sides: tfdiag looks for a prefix whose removal (or addition) makes the unexpected names the missing ones.

    *Fixes and their safety*
    `match-prefix` (unsafe: it edits what is loaded) takes the prefix off, or puts it on, in the call.

    *Example*
    `model.load_state_dict(torch.load("ddp.pt"))`: Missing "fc.weight", unexpected "module.fc.weight"

    *References*
    torch: `Module.load_state_dict`; "Saving and loading models" tutorial.
    """

    code = "CKP004"
    name = "state-dict-keys"
    raised = ("builtins.RuntimeError",)
    message = re.compile(
        r"Error\(s\) in loading state_dict for (?P<model>\w+):.{0,20}?(?P<side>Missing|Unexpected) key\(s\) in state_dict: (?P<first>\S+)",
        re.DOTALL,
    )
    fixes = (Offer("match-prefix", Applicability.UNSAFE),)
    links = (Link("load_state_dict", "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html"),)
    CASES = (
        Match(
            text='RuntimeError: Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "fc.weight", "fc.bias". \n\t'
            'Unexpected key(s) in state_dict: "module.fc.weight", "module.fc.bias".',
            certainty=Certainty.LIKELY,
            title="`module.` .*DataParallel",
            fixes=("match-prefix",),
        ),
        Match(
            text='RuntimeError: Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "fc.weight". \n\t'
            'Unexpected key(s) in state_dict: "epoch", "state_dict", "optimizer".',
            title="under `state_dict`",
        ),
        Match(
            text='RuntimeError: Error(s) in loading state_dict for BertModel:\n\tUnexpected key(s) in state_dict: "embeddings.position_ids". ',
            title="BertModel has no place for 1 of the state dict's tensors: `embeddings.position_ids`",
        ),
        NoMatch(text="KeyError: 'state_dict'"),
        Reproduce(
            (
                "import torch\nmodel = torch.nn.Linear(2, 2)\nsaved = torch.nn.DataParallel(model).state_dict()",
                "# resume\nmodel.load_state_dict(saved)  # from the cluster",
            ),
            certainty=Certainty.CONFIRMED,
            title="`module.`",
            fixes=(Try("match-prefix"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch\nmodel = torch.nn.DataParallel(torch.nn.Linear(2, 2))\nsaved = model.module.state_dict()",
                "model.load_state_dict(saved)",
            ),
            certainty=Certainty.CONFIRMED,
            title="lacks the prefix `module.`",
            fixes=(Try("match-prefix"),),
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        message = hit.raised.message
        if "size mismatch for" in message:
            return None
        missing, unexpected = _listed(message, "Missing"), _listed(message, "Unexpected")
        model = hit["model"]
        added, lacking = _prefix(unexpected, missing), _prefix(missing, unexpected)
        title = f"The state dict lacks {len(missing)} {'tensor' if len(missing) == 1 else 'tensors'} of {model}: `{(missing or [''])[0]}` …"
        why = "The dictionary belongs to another architecture, or to another version of the code. Compare the names."
        fixes: tuple[Fix, ...] = ()
        certainty = Certainty.LIKELY
        if added or lacking:
            prefix = added or lacking
            wrapper = WRAPPERS.get(prefix, "a wrapper")
            side = "has" if added else "lacks"
            title = f"Every name in the state dict {side} the prefix `{prefix}` that {wrapper} adds; {model} expects the other"
            why = f"{'The saved' if added else 'Your'} model is wrapped; the names are the same otherwise."
            label = f"{'Take' if added else 'Put'} `{prefix}` {'off' if added else 'on'} in the call"
            fixes = (
                self.offer(
                    "match-prefix",
                    label,
                    "In every name, where `load_state_dict` is called.",
                    prefix=prefix,
                    add=bool(lacking),
                ),
            )
            certainty = Certainty.CONFIRMED
        elif holder := next((name for name in ("state_dict", "model_state_dict", "model") if name in unexpected), ""):
            title = f"The file holds more than weights: {model}'s are under `{holder}` of what was loaded"
            why = f"Load `checkpoint[{holder!r}]`."
        elif not missing:
            title = f"{model} has no place for {len(unexpected)} of the state dict's tensors: `{unexpected[0]}`"
            if len(unexpected) > 1:
                title += " …"
            why = "Older versions saved buffers that newer ones do not have (position_ids): strict=False is harmless for those alone."
        return self.found(
            title[:200],
            certainty,
            what=f"Missing names: {len(missing)}; unexpected ones: {len(unexpected)}.",
            why=why,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        prefix, add = str(fix.parameters["prefix"]), bool(fix.parameters["add"])
        key = f'"{prefix}" + key' if add else f'key.removeprefix("{prefix}")'

        def change(call: cst.Call) -> cst.Call:
            import libcst as cst

            if not call.args:
                return call
            given = cst.Module(body=()).code_for_node(call.args[0].value)
            wrapped = cst.parse_expression(f"{{{key}: value for key, value in ({given}).items()}}")
            return call.with_changes(args=[call.args[0].with_changes(value=wrapped), *call.args[1:]])

        return edit_cells(scene, lambda source: edit_calls(source, calls_to("load_state_dict"), change), apart=True)


def _listed(message: str, side: str) -> list[str]:
    found = re.search(rf'{side} key\(s\) in state_dict: ((?:"[^"]+",? ?)+)', message)
    return re.findall(r'"([^"]+)"', found[1]) if found else []


def _prefix(longer: list[str], shorter: list[str]) -> str:
    """The known prefix that all of the longer names have and that turns them into the shorter ones."""
    plain = set(shorter)
    for prefix in sorted(WRAPPERS, key=len, reverse=True):
        stripped = {name.removeprefix(prefix) for name in longer if name.startswith(prefix)}
        if (
            longer
            and len(stripped) == len(longer)
            and plain
            and (stripped == plain or len(stripped & plain) > 0.9 * len(plain))
        ):
            return prefix
    return ""
