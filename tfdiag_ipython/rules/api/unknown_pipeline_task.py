from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data.changes import tasks
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import transform
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.nearest import guess
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, own

_AVAILABLE = re.compile(r"available tasks are \[(?P<names>[^\[\]]*)\]")


class UnknownPipelineTask(Rule):
    """A pipeline task that this release removed, does not have yet, or never had.

    *What it means*
    `pipeline("…")` knows its tasks by name, and the installed release has none of this name.

    *Why it happens*
    transformers 5 removed `summarization`, `translation`, `question-answering` and others; a later release may have more tasks than this
    one; or the name is misspelt.

    *How tfdiag confirms it*
    The message of transformers 5 names a removed task. Else the name is compared with the tasks that the message lists.

    *Fixes and their safety*
    `use-nearest-task` (safe: the only listed task that is spelt nearly so) writes it in the call. For a removed task there is only advice:
    what replaces it is called in another way.

    *Example*
    `pipeline("summarization")` on transformers 5.

    *References*
    transformers: `pipelines/__init__.py`, `REMOVED_TASKS`.
    """

    code = "API003"
    name = "unknown-pipeline-task"
    raised = ("builtins.KeyError",)
    message = re.compile(
        r"(?:The task (?P<removed>[\w-]+) has been removed from transformers|Unknown task (?P<unknown>[^\s,]+), available tasks are)"
    )
    needs = (PackageVersionsProbe,)
    fixes = (Offer("use-nearest-task", Applicability.SAFE),)
    CASES = (
        Match(
            text="KeyError: 'The task summarization has been removed from transformers. Use the `text-generation` pipeline with a chat "
            "model instead.'",
            certainty=Certainty.LIKELY,
            title=r"the task `summarization` is gone from transformers 5: use AutoModelForSeq2SeqLM and generate\(\)",
        ),
        Match(
            text="KeyError: \"Unknown task depth-estimation, available tasks are ['audio-classification', 'fill-mask']\"",
            certainty=Certainty.LIKELY,
            title="has no task `depth-estimation`: it is of another release, or misspelt",
        ),
        NoMatch(text="KeyError: 'Unknown task 3, known are [1, 2]'"),
        NoMatch(text="KeyError: 'summarization'"),
        Reproduce(
            ("from transformers import pipeline", "pipe = pipeline('question-answering')"),
            title="the task `question-answering` is gone from transformers 5",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            (
                "from transformers.pipelines import check_task",
                "kind = check_task('text-clasification')[0]  # spelt in haste",
            ),
            title="no task `text-clasification`: did you mean `text-classification`?",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-task"),),
        ),
        Reproduce(
            ("from transformers.pipelines import check_task", "kind = check_task('zebra-striping')"),
            title="no task `zebra-striping`: it is of another release, or misspelt",
            certainty=Certainty.LIKELY,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None
        seen = evidence[PackageVersionsProbe.name]
        loaded = seen["packages"]["transformers"]["loaded"] if seen else ""
        version = loaded or failure.versions.get("transformers", "")
        removed, task = hit["removed"], hit["unknown"]
        if removed:
            known = tasks().get("translation" if removed.startswith("translation_") else removed, "")
            return self.found(
                f"the task `{removed}` is gone from transformers 5: {f'use {known}' if known else 'nothing replaces it'}",
                Certainty.CONFIRMED,
                what=f"transformers {version or '5'} has no pipeline for it.",
                why="The code is written for transformers 4; `%tfdiag migrate` lists what else is.",
                evidence=seen.seen,
            )
        listed = _AVAILABLE.search(hit.raised.message)
        names = re.findall(r"'([^']+)'", listed["names"]) if listed else []
        near = guess(task, names)
        title = f"transformers {version}".strip() + f" has no task `{task}`: "
        fixes: tuple[Fix, ...] = ()
        if near:
            title += f"did you mean {near.told}?"
            if near.sure:
                elsewhere = bool(failure.source) and task not in failure.source
                values = {"old": task, "new": near.names[0]}
                label = f"Write {near.names[0]}"
                fixes = (self.offer("use-nearest-task", label, "The task of that name.", display=elsewhere, **values),)
        else:
            title += "it is of another release, or misspelt"
        return self.found(
            title,
            Certainty.CONFIRMED if near.sure and loaded else Certainty.LIKELY,
            what="`pipeline` knows its tasks by name.",
            why=f"The release has {', '.join(names[:40])}."
            if names
            else "The name is of another release, or misspelt.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        return edit_cells(scene, lambda source: _write(source, old, new), apart=True)


def _write(source: str, old: str, new: str) -> str:
    """The cell with the string literal ``old`` as ``new``."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_SimpleString(
            self, original_node: cst.SimpleString, updated_node: cst.SimpleString
        ) -> cst.SimpleString:
            if original_node.evaluated_value != old:
                return updated_node
            return updated_node.with_changes(value=original_node.value.replace(old, new))

    return transform(source, lambda tree: tree.visit(Editor()))
