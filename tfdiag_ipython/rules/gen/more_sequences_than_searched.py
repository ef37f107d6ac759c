from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import is_written, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.generation_call import GenerationCallProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, own
from tfdiag_ipython.rules.gen._examples import MODEL


class MoreSequencesThanSearched(Rule):
    """More texts are asked for than the way of decoding can give: several of greedy decoding, or more than there are beams.

    *What it means*
    Greedy decoding takes the likeliest token each time and has one result. A beam search has as many as it has beams. Only sampling
    gives any number.

    *Why it happens*
    `num_return_sequences` was set without `do_sample=True` or `num_beams`.

    *How tfdiag confirms it*
    It reads the settings that were checked, and the arguments of the call in the cell.

    *Fixes and their safety*
    `sample` (unsafe: other texts each time) writes `do_sample=True`; `search-with-beams` (unsafe: slower, other texts) writes as many beams
    as there are to be texts.

    *Example*
    `model.generate(**inputs, num_return_sequences=3)`.

    *References*
    transformers: `generation/configuration_utils.py`, `GenerationConfig.validate`.
    """

    code = "GEN003"
    name = "more-sequences-than-searched"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"Greedy methods[^\n]{0,40}? without beam search do not support `num_return_sequences` different than 1 \(got (?P<greedy>\d+)\)"
        r"|`?num_return_sequences`? has to be 1, but is (?P<old>\d+) when doing greedy"
        r"|`num_return_sequences`(?: \((?P<asked>\d+)\))? has to be smaller or equal to `num_beams`(?: \((?P<beams>\d+)\))?"
    )
    needs = (GenerationCallProbe,)
    fixes = (Offer("sample", Applicability.UNSAFE), Offer("search-with-beams", Applicability.UNSAFE))
    links = (Link("Generation strategies", "https://huggingface.co/docs/transformers/generation_strategies"),)
    CASES = (
        Match(
            text="ValueError: Greedy methods without beam search do not support `num_return_sequences` different than 1 (got 4).",
            certainty=Certainty.LIKELY,
            title=r"4 texts are asked for, and greedy decoding has one: do_sample=True, or num_beams=4",
            fixes=("sample", "search-with-beams"),
        ),
        Match(
            text="ValueError: num_return_sequences has to be 1, but is 5 when doing greedy search.",
            title="5 texts are asked for, and greedy decoding has one",
        ),
        Match(
            text="ValueError: `num_return_sequences` has to be smaller or equal to `num_beams`.",
            title="More texts are asked for than",
        ),
        NoMatch(text="ValueError: `num_beams` has to be an integer strictly greater than 1"),
        Reproduce(
            (
                MODEL,
                "out = model.generate(prompt, max_new_tokens=2, num_return_sequences=3)\n"
                "same = model.generate(prompt, max_new_tokens=2) == model.generate(prompt, max_new_tokens=2)\nassert same.all()",
            ),
            title=r"3 texts are asked for, and greedy decoding has one: do_sample=True, or num_beams=3",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("sample"), Try("search-with-beams")),
        ),
        Reproduce(
            (MODEL, "out = model.generate(\n    prompt, num_beams=2, num_return_sequences=3, max_new_tokens=2\n)"),
            title=r"3 texts are asked for, and a search with 2 beams has 2: num_beams=3",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("search-with-beams"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None  # words of the person's own
        seen = evidence[GenerationCallProbe.name]
        asked = int(hit["greedy"] or hit["old"] or hit["asked"] or 0)
        beams = hit["beams"]
        called = str(seen.get("called", ""))
        display = bool(seen) and (not called or seen["opaque"])
        fixes: tuple[Fix, ...] = ()
        if asked:
            note = f"Writes `num_beams={asked}` in the call: the {asked} likeliest texts, for {asked} times the work of one."
            change = {"num_beams": str(asked)}
            fixes = (
                self.offer(
                    "search-with-beams",
                    f"Search with {asked} beams",
                    note,
                    display=display,
                    call=str(seen.get("written", "")),
                    change=change,
                ),
            )
        if not asked:
            title = (
                "More texts are asked for than the search has beams: num_beams must be at least num_return_sequences"
            )
        elif hit["asked"]:
            title = f"{asked} texts are asked for, and a search with {beams} beams has {beams}: num_beams={asked}"
        else:
            title = f"{asked} texts are asked for, and greedy decoding has one: do_sample=True, or num_beams={asked}"
            note = "Writes `do_sample=True` in the call: tokens are drawn, other ones each time."
            change = {"do_sample": "True"}
            sample = self.offer(
                "sample",
                "Draw them by sampling",
                note,
                display=display,
                call=str(seen.get("written", "")),
                change=change,
            )
            fixes = (sample, *fixes)
        return self.found(
            title,
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="`num_return_sequences` is more than this way of decoding finds.",
            why="The likeliest token each time makes one text only; a beam search keeps as many as it has beams.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        written, change = str(fix.parameters["call"]), fix.parameters["change"]
        return edit_cells(
            scene, lambda source: set_arguments(source, lambda call: is_written(call, written), change), apart=True
        )
