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


class PromptBeyondMaxLength(Rule):
    """The prompt alone has as many tokens as `max_length` allows for prompt and answer together.

    *What it means*
    `max_length` counts the tokens of the prompt, too. Nothing is left for new ones.

    *Why it happens*
    It was taken for the length of the answer; or nothing was set, and the default of 20 tokens, or the one in the checkpoint's
    `generation_config.json`, holds.

    *How tfdiag confirms it*
    The message tells both numbers; the call in the cell tells whether `max_length` was given there.

    *Fixes and their safety*
    `count-new-tokens` (unsafe: the answer's length is what you want it to be) writes `max_new_tokens=` in the call, with the number that
    `max_length` had.

    *Example*
    `model.generate(prompt_of_50_tokens, max_length=30)`.

    *References*
    transformers: `generation/utils.py`, `_validate_generated_length`.
    """

    code = "GEN002"
    name = "prompt-beyond-max-length"
    kinds = ("exception", "warning")
    message = re.compile(
        r"Input length of (?P<ids>(?:decoder_)?input_ids|inputs_embeds) is (?P<prompt>\d+), but `?max_length`? is set to (?P<most>-?\d+)"
    )
    needs = (GenerationCallProbe,)
    fixes = (Offer("count-new-tokens", Applicability.UNSAFE),)
    links = (Link("Generation", "https://huggingface.co/docs/transformers/llm_tutorial"),)
    CASES = (
        Match(
            text="ValueError: Input length of input_ids is 77, but `max_length` is set to 64. This can lead to unexpected behavior.",
            certainty=Certainty.LIKELY,
            title="The prompt has 77 tokens, and `max_length=64` counts them, too: give max_new_tokens=",
            fixes=("count-new-tokens",),
        ),
        Match(
            text="UserWarning: Input length of input_ids is 31, but `max_length` is set to 20. This can lead to unexpected behavior.",
            title="The prompt has 31 tokens, and the default `max_length=20`",
        ),
        NoMatch(text="ValueError: Input length 77 is more than the maximum of 64"),
        Reproduce(
            (MODEL, "out = model.generate(prompt, max_length=4)  # a few words"),
            title="The prompt has 5 tokens, and `max_length=4` counts them, too: max_new_tokens=4 counts the answer alone",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("count-new-tokens"),),
        ),
        Reproduce(
            (
                MODEL + "settings = {'max_length': 5, 'do_sample': False}\n",
                "def answer(ids):\n    return model.generate(ids, **settings)\nout = answer(prompt)",
            ),
            title="`max_length=5` counts them, too",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("count-new-tokens"),),
        ),
        Reproduce(
            (
                MODEL,
                "model.generation_config.max_length = 24\nlong = prompt.repeat(1, 5)",
                "out = model.generate(long)",
            ),
            title="The prompt has 25 tokens, and `max_length=24` counts them, too: the model has 32 positions, room for 7 new ones",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None  # words of the person's own
        seen, prompt, most = evidence[GenerationCallProbe.name], int(hit["prompt"]), int(hit["most"])
        called, written = str(seen.get("called", "")), "max_length" in seen.get("keywords", {})
        default = most == 20 and not seen
        room = int(seen.get("positions", 0)) - prompt if seen.get("positions") else most
        new = max(most, 1)
        fits = room >= new
        remedy = f"max_new_tokens={new} counts the answer alone" if seen and fits else "give max_new_tokens="
        if seen and not fits:
            remedy = (
                f"the model has {seen['positions']:,} positions, room for {max(room, 0)} new ones: give max_new_tokens="
            )
        note = f"Writes `max_new_tokens={new}` in the call, in the place of max_length."
        display = bool(seen) and (not called or not fits or seen["opaque"])
        fix: Fix = self.offer(
            "count-new-tokens",
            f"Write max_new_tokens={new}",
            note,
            display=display,
            call=str(seen.get("written", "")),
            count=new,
        )
        ids = "The decoder's prompt" if hit["ids"].startswith("decoder") else "The prompt"
        return self.found(
            f"{ids} has {prompt:,} tokens, and {'the default ' if default else ''}`max_length={most}` counts them, too: {remedy}",
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="Nothing is left for new tokens.",
            why="Nothing is set in the call: the model's generation_config, or what is handed on from elsewhere, holds."
            if seen and not written
            else "`max_length` is the length of prompt and answer together; a shorter prompt (truncation) would do, too.",
            evidence=seen.seen,
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        written = str(fix.parameters["call"])
        change = {"max_new_tokens": str(fix.parameters["count"]), "max_length": None}
        return edit_cells(
            scene, lambda source: set_arguments(source, lambda call: is_written(call, written), change), apart=True
        )
