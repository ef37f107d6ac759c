from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Status
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.model_calls import Program, add_mask
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import UNMASKED, size
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.pad._examples import FACTS, SETUP, SUSPICION, TRANSLATOR
from tfdiag_ipython.rules.pad._measured import Measure, Remeasured, by_hand, evidence_of, lacks, of_output, suspected
from tfdiag_ipython.watch.padding import SUSPECTED

UNSEEN = (
    "The cells that were run do not show whether `{model}` is called on `{inputs}` without a mask: if your call passes it, all is well; "
    "else padding counts as text."
)


class UnmaskedPadding(Rule):
    """The model reads the padding, because the call gives it no attention mask.

    *What it means*
    Shorter rows are filled up with a padding token. Without `attention_mask` the model takes these tokens for text, and its answer for a row
    depends on how long the other rows of the batch are. Nothing is raised.

    *Why it happens*
    The call passes `batch["input_ids"]` alone, or the mask got lost on the way (a collator, a `DataLoader`). `generate` makes the mask
    itself for decoders only: since transformers 5.2 not for T5, BART and other encoder-decoders.

    *How tfdiag confirms it*
    `%%tfdiag` (or `%tfdiag on padding` for all cells) notices a call of a Transformers model whose ids look padded and that passes no
    mask, and measures it when the cell has ended, if that takes about two seconds at most; `%tfdiag probe padding MODEL INPUTS` measures
    on request: it runs the model as the inputs are, with the mask, and row by row without any padding, and compares the outputs
    at real tokens. It speaks only when they differ by more than rounding; GPT-2 with padding on the right, for example, does not. It is
    `confirmed` where a cell that was run calls the model on these inputs without a mask, and silent where all such calls pass it.

    *Fixes and their safety*
    `add-attention-mask` (unsafe: the outputs change, which is the point) passes the mask in the calls on these inputs: the tokenizer's
    where there is one, else one made from the padding token. It is verified by watching the calls while the cells run again, and by
    measuring them once more. `measure` (safe: the model is run, nothing is changed) measures a call that was too slow to be measured
    unasked.

    *Example*
    `model(batch["input_ids"])` → `model(batch["input_ids"], attention_mask=batch["attention_mask"])`

    *References*
    transformers: the glossary's "attention mask"; Padding and truncation.
    """

    code = "PAD001"
    name = "unmasked-padding"
    kinds = ("check",)
    raised = ("padding",)
    message = re.compile(f"{re.escape(UNMASKED)}|{re.escape(SUSPECTED['mask'])}")
    fixes = (Offer("add-attention-mask", Applicability.UNSAFE), Offer("measure", Applicability.SAFE))
    links = (Link("Attention mask", "https://huggingface.co/docs/transformers/glossary#attention-mask"),)
    CASES = (
        Match(
            failure=Failure.from_finding("padding", UNMASKED, FACTS),
            certainty=Certainty.CONFIRMED,
            title="2 of 4 rows .*without `attention_mask` in cell 3.*0.42",
            fixes=("add-attention-mask",),
        ),
        Match(
            failure=Failure.from_finding("padding", UNMASKED, {**FACTS, "unmasked": (), "editable": False}),
            certainty=Certainty.POSSIBLE,
            title="would",
        ),
        Match(
            failure=Failure.from_finding(
                "padding", UNMASKED, {**FACTS, "argument": "decoder_attention_mask", "editable": False}
            ),
            certainty=Certainty.CONFIRMED,
            title="without `decoder_attention_mask`",
        ),
        Match(
            failure=Failure.from_finding(
                "padding", UNMASKED, {**FACTS, "inputs": "its inputs", "mask": "", "editable": False}
            ),
            certainty=Certainty.CONFIRMED,
            fixes=("add-attention-mask",),
        ),
        Match(
            failure=Failure.from_finding("padding", SUSPECTED["mask"], SUSPICION),
            certainty=Certainty.POSSIBLE,
            title="in cell 3 passes no .* 3 of 4 rows",
            fixes=("measure",),
        ),
        NoMatch(text=UNMASKED),
        NoMatch(failure=Failure.from_finding("memory", "Nothing about masks.", {})),
        Reproduce(
            (SETUP, 'logits = model(batch["input_ids"]).logits'),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-attention-mask"),),
        ),
        Reproduce(
            (SETUP, "with torch.no_grad():\n    logits = model(input_ids=ids).logits  # no mask"),
            probe="padding model ids",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-attention-mask"),),
        ),
        Reproduce(
            (
                f"{SETUP}\nother = {{'input_ids': ids[:1]}}\nlogits = model(batch['input_ids'].to('cpu')).logits; model(other['input_ids'])",
            ),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-attention-mask"),),
        ),
        Reproduce(
            (SETUP + TRANSLATOR, 'out = model.generate(batch["input_ids"], max_new_tokens=2, do_sample=False)'),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-attention-mask"),),
            needs=("torch", "transformers>=5.2"),
        ),
        Reproduce(
            (
                SETUP,
                'def predict(network, rows):\n    return network(rows["input_ids"]).logits\nlogits = predict(model, batch)',
            ),
            probe="padding model batch",
            certainty=Certainty.POSSIBLE,
            title="would",
        ),
        Reproduce(
            (SETUP, "logits = model(ids).logits"),
            finding=Failure.from_finding("padding", SUSPECTED["mask"], {**SUSPICION, "inputs": "ids"}),
            certainty=Certainty.POSSIBLE,
            fixes=(Try("measure", Status.STILL_FAILING),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        if not seen:
            return None
        if "tolerance" not in seen:
            cell, source = seen["unmasked"][0]
            rows = f"{seen['padded']} of {seen['rows']} rows look padded"
            return suspected(
                self, seen, f"`{source}` in {cell} {lacks(source, seen['model'], 'attention_mask')}, and {rows}"
            )
        calls, argument = seen["unmasked"], seen["argument"]
        count = len(seen["changed"])
        does = (
            ("would give" if not calls else "gives" if count == 1 else "give")
            if count
            else "would come out"
            if not calls
            else "come out"
        )
        rows = f"{count} of {seen['rows']} rows {does} another answer" if count else f"Padded rows {does} differently"
        where = f" in {calls[0][0]}" if calls else ""
        cured = seen["with"] <= seen["tolerance"]
        offered: tuple[Fix, ...] = ()
        if cured:
            passed = f"{argument}={seen['mask']}"
            told = f"Adds `{passed}` to the call." if seen["editable"] else by_hand(passed)
            if not seen["mask"]:
                told = "Pass the `attention_mask` that the tokenizer returns with these ids; a collator that makes the batch must keep it."
            if argument != "attention_mask":
                told = f"Add `{argument}`: 1 at the decoder's tokens, 0 at its padding."
            offered = (
                self.offer(
                    "add-attention-mask",
                    "Pass the attention mask",
                    told,
                    display=not seen["editable"] or not seen["mask"] or argument != "attention_mask",
                    before=max(seen["without"], seen["asgiven"]),
                    **{key: seen[key] for key in ("model", "inputs", "mask", "given", "method", "model_class")},
                ),
            )
        why = UNSEEN.format(**seen)
        if calls:
            why = f"`{calls[0][1]}` {lacks(calls[0][1], seen['model'], argument)}, so padding counts as text."
        if not cured:
            why += " The mask alone does not cure it here: this model sees the padding in other ways, too."
        return self.found(
            f"{rows} without `{argument}`{where}: the largest difference in {of_output(seen)} is {seen['without']:.2g}",
            Certainty.CONFIRMED if calls else Certainty.POSSIBLE,
            what=f"Each row was compared with the same row alone. With the mask the largest difference is {size(seen['with'], seen)}.",
            why=why,
            evidence=evidence_of(seen),
            fixes=offered,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        told = fix.parameters
        if fix.id == "measure":
            return Measure(scene, fix.parameters)
        program = Program(str(told["model"]), str(told["inputs"]), bool(told["given"]), told["method"] == "call")

        def change(source: str) -> str:
            return add_mask(source, program, str(told["mask"]))

        return Remeasured(edit_cells(scene, change, every=True, fails=False), told)
