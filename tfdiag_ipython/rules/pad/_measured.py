"""What the rules about measured padding share: their evidence, the click that measures, and the edit that is measured again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix, Observation, Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Plan, Preview, Progress
from tfdiag_ipython.fixes.cells import EditCells, edit_cells
from tfdiag_ipython.fixes.model_calls import Program, add_mask
from tfdiag_ipython.fixes.source import dotted, edit_calls
from tfdiag_ipython.fixes.statements import insert_before_call
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import REMEDIES, PaddingProbe, measure, picture, size
from tfdiag_ipython.probes.padding_batch import placed
from tfdiag_ipython.rule import Rule
from tfdiag_ipython.watch.padding import PaddingWatch
from tfdiag_ipython.watch.padding_names import prepare

NOT_MEASURED = "It was not measured whether the padding changes the outputs: {}."
REASONS = {
    "slow": "the model takes too long to be run unasked",
    "hooks": "your hooks in the model would see every run",
}


def evidence_of(seen: Mapping[str, Any]) -> tuple[Observation, ...]:
    """The measured numbers, with a bar for each padded row."""
    where = f"{seen['model']} on {seen['inputs']}, measured"
    changed = ", ".join(map(str, seen["changed"])) or "none"
    given = seen["asgiven"] > seen["tolerance"]
    return (
        *picture(seen),
        Observation(
            "largest difference as given" if given else "largest difference without the mask",
            size(seen["asgiven"] if given else seen["without"], seen),
            where,
        ),
        Observation("largest difference put right", size(cured(seen), seen), where),
        *(Observation("the call", source, cell) for cell, source in seen["unmasked"]),
        Observation("numbers of the rows that change their answer", changed, where),
        Observation("padding", f"{seen['padded']} of {seen['rows']} rows, {placed(seen['side'])}", seen["inputs"]),
    )


def cured(seen: Mapping[str, Any]) -> float:
    """The largest difference that is left when what is wrong was put right."""
    left = seen[REMEDIES.get(seen["cause"], "with")]
    return float(left)


def of_output(seen: Mapping[str, Any]) -> str:
    """What was compared: the output's name as code, or words as they are."""
    return str(seen["output"]) if " " in seen["output"] else f"`{seen['output']}`"


def lacks(source: str, model: str, argument: str) -> str:
    """What a call does that gave the model no such argument: it may name it and hand on ``None``, or only lead to the model's call."""
    if re.search(rf"\b{argument}\s*=\s*(?!None\b)", source):
        return f"hands on an `{argument}` that is None"
    direct = re.search(rf"\b{re.escape(model)}(?:\.generate)?\(", source)
    return f"passes no `{argument}`" if direct else f"gives the model no `{argument}`"


def by_hand(argument: str) -> str:
    """How an argument gets into a call that tfdiag cannot edit: most often it stands in a function, under other names."""
    return f"Give the call `{argument}`; if it stands in a function, hand that through to it."


def on_click(seen: Mapping[str, Any]) -> str:
    """The arguments of ``%tfdiag probe padding`` that measure a suspected call; empty where the notebook has no names for it."""
    return f"{seen['model']} {seen['inputs']}" if " " not in f"{seen['model']}{seen['inputs']}" else ""


def suspected(rule: Rule, seen: Mapping[str, Any], title: str, why: str = "", *others: Fix) -> Diagnosis:
    """A call that was watched and not measured: possible, with what measures it."""
    asked = on_click(seen)
    hooks = ", your hooks included" if seen["unmeasured"] == "hooks" else ""
    measure = rule.offer(
        "measure",
        "Measure it now",
        f"`%tfdiag probe padding {asked}` runs the model{hooks}; it changes nothing.",
        arguments=asked,
        method=seen["method"],
    )
    how = "" if asked else "Name model and inputs to `%tfdiag probe padding`, and it is measured."
    return rule.found(
        title,
        Certainty.POSSIBLE,
        what=NOT_MEASURED.format(REASONS[seen["unmeasured"]]),
        why=f"{why} {how}".strip(),
        fixes=(*((measure,) if asked else ()), *others),
    )


class Measure(Plan):
    """Runs the comparison that was too slow to be run unasked; nothing of the program changes."""

    undoable = False
    changes = False

    def __init__(self, scene: Scene, told: Mapping[str, Any]) -> None:
        if scene.host is None:
            raise PlanError("There is no program here to measure.")
        super().__init__(scene.host)
        self.arguments = str(told["arguments"])
        self._generates = told["method"] == "generate"
        self._cells = scene.cells
        self._seen = Evidence()

    def preview(self) -> Preview:
        return Preview(
            "command", f"%tfdiag probe padding {self.arguments}", "Runs the model in eval mode; changes nothing."
        )

    def execute(self, progress: Progress) -> str:
        progress.report("Measuring …")
        scene = Scene(self.host.namespace, cells=self._cells, live=True, cuda_dead=self.host.cuda_dead)
        self._seen = PaddingProbe().ask(self.arguments, scene, generates=self._generates)
        if not self._seen:
            raise PlanError(f"It could not be measured: {self._seen.missing}.")
        rows = "; ".join(f"{seen.what}: {' '.join(seen.value.split())}" for seen in picture(self._seen.facts))
        return f"Measured: {rows}."

    def verify(self, progress: Progress) -> Verification:
        seen = self._seen
        if seen["cause"]:
            worst = max(seen["without"], seen["asgiven"])
            told = f"the padding changes the answers, by up to {worst:.2g}; `%tfdiag probe padding {self.arguments}` offers the fix"
            return Verification(Status.STILL_FAILING, told)
        told = f"harmless here, all differences are rounding (up to {seen['tolerance']:.1g})"
        return Verification(Status.VERIFIED, told)


class Remeasured(EditCells):
    """Runs the edited cells and what depends on them, watches the calls of the model, and measures each of them again."""

    def __init__(self, plan: EditCells, seen: Mapping[str, Any], *, undoable: bool = True) -> None:
        super().__init__(plan.host, plan.edits, plan.reruns, fails=False, undoable=undoable)
        self._model_class = str(seen["model_class"])
        self._before = float(seen["before"])

    def verify(self, progress: Progress) -> Verification:
        watch = PaddingWatch(every=True)
        watch.start()
        try:
            ran = super().verify(progress)
        finally:
            calls = watch.calls()
        if ran.status is not Status.VERIFIED:
            return ran
        progress.report("Measuring again …")
        scene = Scene(self.host.namespace, live=True, cuda_dead=self.host.cuda_dead)
        measured, worst = 0, 0.0
        for call in calls:
            prepared = prepare(call, scene, asked=True)
            if prepared is None or type(prepared[0]).__name__ != self._model_class:
                continue
            model, batch, _, name, inputs = prepared
            try:
                generates = call.method == "generate"
                seen = measure(model, batch, name, inputs, scene, (("", call.source),), generates=generates)
            except LookupError as error:
                return Verification(
                    Status.NOT_CHECKED, f"{ran.detail} It could not be measured again: {error.args[0]}."
                )
            measured += 1
            worst = max(worst, seen["asgiven"])
            if seen["asgiven"] > seen["tolerance"]:
                told = f"a call still gives another answer than the row alone, by {seen['asgiven']:.2g}"
                return Verification(Status.STILL_FAILING, f"{ran.detail} But {told}.")
        if not measured:
            return Verification(Status.NOT_CHECKED, f"{ran.detail} But no call of the model on padded rows was seen.")
        told = f"the largest difference to the row alone is {worst:.1g}, it was {self._before:.2g}"
        return Verification(Status.VERIFIED, f"{ran.detail} Measured again: {told}.")


def pad_on(side: str, tokenizer: str, seen: Mapping[str, Any], scene: Scene) -> Plan:
    """Sets the tokenizer's padding side before the call that pads, runs the cells again, and measures again.

    A mask that was ``lost`` is passed, too: without it padding on the left is read as text.
    """
    statement = f'{tokenizer}.padding_side = "{side}"'
    padding = next((cell.source for cell in reversed(scene.cells) if _pads(cell.source, tokenizer)), None)
    lost = Program(str(seen["model"]), str(seen["inputs"]), given=False, infers=False) if seen.get("lost") else None

    def change(source: str) -> str:
        changed = insert_before_call(source, tokenizer, statement) if source == padding else source
        return add_mask(changed, lost, str(seen["mask"])) if lost is not None else changed

    return Remeasured(
        edit_cells(scene, change, every=lost is not None, undoable=False, fails=False), seen, undoable=False
    )


def _pads(source: str, tokenizer: str) -> bool:
    """Whether a cell calls this tokenizer, or a method of it, with ``padding``."""
    found: list[bool] = []

    def look(call: Any) -> bool:
        callee = dotted(call.func)
        padded = any(arg.keyword is not None and arg.keyword.value == "padding" for arg in call.args)
        found.append(
            (callee == tokenizer or callee.startswith(f"{tokenizer}.")) and (padded or callee.endswith(".pad"))
        )
        return False

    edit_calls(source, look, lambda call: call)
    return any(found)
