from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Observation
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.migration import SENTENCE, loaded_release, migration_of
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

CHAT = """\
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""
FACTS = {
    "title": "2 uses of what transformers 5 removed or renamed; safe edits for 1 of 2",
    "uses": (
        ("cell 1, line 2", "`AdamW` is gone since 4.50 → `torch.optim.AdamW`, with the old defaults written out"),
        ("cell 2, line 1", "`TFBertModel` is a TensorFlow class → `BertModel`, the PyTorch class"),
    ),
    "safe": ("cell 1",),
    "unsafe": ("cell 1", "cell 2"),
}


class WrittenForVersion4(Rule):
    """The program uses what transformers 5 removed, renamed or changed.

    *What it means*
    These cells were written for transformers 4. Some of what they use fails on 5 (names, arguments, methods), some runs on and means
    something else: a default changed, or an argument is ignored.

    *Why it happens*
    transformers 5 dropped what 4 had deprecated, and all of TensorFlow and Flax.

    *How tfdiag confirms it*
    `%tfdiag migrate` (`tfdiag migrate FILE` for a notebook or a Python file) resolves every name in the cells to where it comes from, and
    looks it up in tables read from the released wheels and tried on 4.57 and 5.23. Comments, strings, other libraries' names and functions
    of your own are left alone, and so are imports that stand in a `try`.

    *Fixes and their safety*
    `migrate-cells` (safe: the program means the same; old defaults are written out) shows one diff of all cells, and runs the edited ones
    again when you apply it. `migrate-all-cells` (unsafe) adds the edits after which the program means something else: the PyTorch class for
    a TensorFlow or Flax one, a successor whose defaults differ and cannot all be written out.

    *Example*
    `TrainingArguments("out", evaluation_strategy="epoch", overwrite_output_dir=True)`

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`.
    """

    code = "API002"
    name = "written-for-version-4"
    kinds = ("check",)
    raised = ("migration",)
    message = re.compile(re.escape(SENTENCE))
    fixes = (
        Offer("migrate-cells", Applicability.SAFE),
        Offer("migrate-all-cells", Applicability.UNSAFE),
    )
    links = (Link("Migration guide", "https://github.com/huggingface/transformers/blob/main/MIGRATION_GUIDE_V5.md"),)
    CASES = (
        Match(
            failure=Failure.from_finding("migration", SENTENCE, FACTS),
            certainty=Certainty.CONFIRMED,
            title="2 uses of what transformers 5 removed",
            fixes=("migrate-cells", "migrate-all-cells"),
        ),
        NoMatch(text=SENTENCE),
        NoMatch(failure=Failure.from_finding("memory", "Nothing about versions.", {})),
        Reproduce(
            (
                CHAT,
                'ids = tokenizer.apply_chat_template([{"role": "user", "content": "b"}])',
                "def encode(text):\n    return tokenizer.encode_plus(text)",
            ),
            probe="migration",
            title="1 use of what .* removed or renamed and 1 that runs on and means something else; safe edits for 2 of 2",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("migrate-cells"),),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                'arguments = TrainingArguments("out", overwrite_output_dir=True, no_cuda=True)',
            ),
            probe="migration",
            title="2 uses of what transformers 5 removed or renamed; safe edits for 2 of 2",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("migrate-cells"),),
            needs=("torch", "transformers<5", "accelerate"),
        ),
        Reproduce(
            ("from transformers import BertConfig, TFBertModel", "kind = TFBertModel"),
            probe="migration",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("migrate-all-cells"),),
            needs=("torch", "transformers<5"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        if not seen:
            return None
        offered: list[Fix] = []
        for identity, label, cells in (
            ("migrate-cells", "Migrate", seen["safe"]),
            ("migrate-all-cells", "Migrate with unsafe edits", seen["unsafe"]),
        ):
            if cells:
                many = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
                offered.append(self.offer(identity, f"{label} {many}", "One diff first; then the cells run again."))
        return self.found(
            seen["title"],
            Certainty.CONFIRMED,
            what="Every name was resolved to where it comes from; words in comments and strings do not count.",
            why="The program is written for transformers 4. `%tfdiag migrate --diff` prints the edits.",
            evidence=tuple(Observation(where, told) for where, told in seen["uses"]),
            fixes=tuple(offered),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if not scene.cells:
            raise PlanError("The cells that were run are not known here: use `tfdiag migrate FILE`.")
        found = migration_of(scene)
        sources = found.sources(unsafe=fix.id == "migrate-all-cells", release=loaded_release(scene))
        new = {found.cells[index].source: source for index, source in sources.items()}
        return edit_cells(scene, lambda source: new.get(source, source), every=True, fails=False)
