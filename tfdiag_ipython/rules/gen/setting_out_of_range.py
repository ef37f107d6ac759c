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

NAMES = {"penalty": "repetition_penalty", "ngram_size": "no_repeat_ngram_size"}
"""Settings that the message calls otherwise."""
_TYPES = {
    "temperature": "a float above 0",
    "repetition_penalty": "a float above 0",
    "top_k": "an int above 0",
    "top_p": "a float between 0 and 1",
    "no_repeat_ngram_size": "an int above 0",
    "max_new_tokens": "an int above 0",
}


class SettingOutOfRange(Rule):
    """A number that steers generation is one that it cannot work with: `temperature=0`, `top_k=-1`, or an int where a float must be.

    *What it means*
    Each setting has its range and, in most releases, its type: `temperature` divides the scores, so that 0 is impossible, and 2 is an int
    where 2.0 is asked for.

    *Why it happens*
    Other services take temperature 0 for "always the likeliest token"; here that is `do_sample=False`. Numbers that were read from a form, a
    file or a slider are ints or text.

    *How tfdiag confirms it*
    It reads value and class in the frame of the check, and the arguments of the call in the cell.

    *Fixes and their safety*
    `decode-greedily` (safe: what temperature 0 stands for) writes `do_sample=False`. `write-a-number` (safe: the same value) writes the
    float or the int that is asked for.

    *Example*
    `model.generate(**inputs, do_sample=True, temperature=0.0)`.

    *References*
    transformers: `generation/logits_process.py`.
    """

    code = "GEN001"
    name = "setting-out-of-range"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"`(?P<setting>temperature|penalty|top_k|top_p|ngram_size)`(?: \(=(?P<value>[^)\n]{1,60})\))? has to be an? "
        r"(?:strictly positive )?(?:float|integer)\b(?:[^\n]{0,40}?but is (?P<is>-?[\w.+-]{1,60}\b))?"
        r"|`(?P<length>max_new_tokens)` must be greater than 0, but is (?P<count>-?[\d.]+)"
    )
    needs = (GenerationCallProbe,)
    fixes = (Offer("decode-greedily", Applicability.SAFE), Offer("write-a-number", Applicability.SAFE))
    links = (Link("Generation strategies", "https://huggingface.co/docs/transformers/generation_strategies"),)
    CASES = (
        Match(
            text="ValueError: `temperature` (=0.0) has to be a strictly positive float, otherwise your next token scores will be invalid.",
            certainty=Certainty.LIKELY,
            title="`temperature` is 0.0, .*: do_sample=False takes the likeliest token, which 0 stands for",
            fixes=("decode-greedily",),
        ),
        Match(
            text="ValueError: `temperature` has to be a strictly positive float, but is 3",
            certainty=Certainty.LIKELY,
            title="`temperature` is 3, and must be a float above 0: write 3.0",
            fixes=("write-a-number",),
        ),
        Match(
            text="ValueError: `penalty` has to be a strictly positive float, but is -2.0",
            title="`repetition_penalty` is -2.0, and must be a float above 0",
        ),
        Match(
            text="ValueError: `top_p` has to be a float > 0 and < 1, but is 7.0",
            title="`top_p` is 7.0, and must be a float between",
        ),
        NoMatch(text="ValueError: `temperature` has to be given in kelvin"),
        NoMatch(text="ValueError: `width` has to be a strictly positive integer, but is -1"),
        Reproduce(  # without samples it would search by beams
            (MODEL, "out = model.generate(prompt, do_sample=True, num_beams=2, temperature=0.0, max_new_tokens=2)"),
            title="`temperature` is 0.0",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        *(
            Reproduce(
                (MODEL, f"out = model.generate(prompt, do_sample=True, temperature={zero}, max_new_tokens=2)  # exact"),
                title=f"`temperature` is {zero}, and must be a float above 0: do_sample=False",
                certainty=Certainty.CONFIRMED,
                fixes=(Try("decode-greedily"),),
            )
            for zero in ("0.0", "0")
        ),
        Reproduce(
            (
                MODEL,
                "settings = dict(do_sample=True, temperature=2)\nout = model.generate(prompt, **settings, max_new_tokens=2)",
            ),
            title="`temperature` is 2, and must be a float above 0: write 2.0",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-a-number"),),
        ),
        Reproduce(
            (
                MODEL,
                "def answer(ids, warmth):\n    return model.generate(ids, do_sample=True, temperature=warmth, max_new_tokens=2)",
                "out = answer(prompt, '0.7')",
            ),
            title=r"`temperature` is '0\.7' \(str\), and must be a float above 0",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-a-number"),),
        ),
        *(
            Reproduce(  # what the function is given, other callers give otherwise
                (MODEL, f"def answer(ids, {takes}):\n    return model.generate(ids, do_sample=True, {gives})", call),
                title="`temperature` is 0.0, and must be a float above 0: do_sample=False",
                bare=True,
            )
            for takes, gives, call in (
                ("warmth", "temperature=warmth", "out = answer(prompt, 0.0)"),
                ("**settings", "**settings", "out = answer(prompt, temperature=0.0)"),
            )
        ),
        Reproduce(
            (MODEL, "out = model.generate(prompt, repetition_penalty=2, max_new_tokens=2)"),
            title="`repetition_penalty` is 2, and must be a float above 0: write 2.0",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-a-number"),),
        ),
        Reproduce(
            (MODEL, "out = model.generate(prompt, do_sample=True, top_k=5.0, max_new_tokens=2)"),
            title="`top_k` is 5.0, and must be an int above 0: write 5",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-a-number"),),
        ),
        Reproduce(
            (MODEL, "out = model.generate(prompt, do_sample=True, temperature=-1.0, max_new_tokens=2)"),
            title=r"`temperature` is -1\.0, and must be a float above 0",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None  # words of the person's own
        seen, word = evidence[GenerationCallProbe.name], hit["setting"] or hit["length"]
        setting = NAMES.get(word, word)
        kind, value = seen.get("refused", {}).get(word, ("", "")) if seen else ("", "")
        value = value or hit["value"] or hit["is"] or hit["count"]
        told = f"'{value}' (str)" if kind == "str" else value
        right = _right(setting, value)
        greedy = setting == "temperature" and right == "0.0"
        remedy = f": write {right}" if right and not greedy else ""
        why = "The check asks for the type, too." if remedy else ""
        if greedy:
            remedy = ": do_sample=False takes the likeliest token, which 0 stands for"
            why = "The scores are divided by the temperature. Where others say temperature 0, generate() says do_sample=False."
        return self.found(
            f"`{setting}` is {told or 'out of range'}, and must be {_TYPES[setting]}{remedy}",
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what=f"generate() cannot work with this `{setting}`.",
            why=why,
            evidence=seen.seen,
            fixes=self._remedy(setting, right, greedy, seen),
        )

    def _remedy(self, setting: str, right: str, greedy: bool, seen: Evidence) -> tuple[Fix, ...]:
        called = str(seen.get("called", "")) if seen.get("model") else ""  # a processor made by hand takes no settings
        display = bool(seen) and (not called or seen["opaque"])
        written = str(seen["keywords"].get(setting, "")) if seen else ""
        number = re.fullmatch(r"['\"]?-?[\d.]+['\"]?", written) is not None
        if greedy:
            searched = ("num_return_sequences", "num_beams")  # another search than the greedy one
            display = display or bool(seen and any(seen["settings"].get(name, 1) > 1 for name in searched))
            display = display or bool(written and not number)  # a variable may hold another temperature the next time
            note = "Writes `do_sample=False` in the call: the likeliest token each time, the same text for the same prompt."
            change: dict[str, str | None] = {"do_sample": "False", "temperature": None}
            return (
                self.offer(
                    "decode-greedily",
                    "Decode greedily",
                    note,
                    display=display,
                    call=str(seen.get("written", "")),
                    change=change,
                ),
            )
        if not right:
            return ()
        new = right if not written or number else f"{_type(setting)}({written})"
        note = f"Writes `{setting}={new}` in the call."
        return (
            self.offer(
                "write-a-number",
                f"Write {setting}={new}",
                note,
                display=display,
                call=str(seen.get("written", "")),
                change={setting: new},
            ),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        written, change = str(fix.parameters["call"]), fix.parameters["change"]
        return edit_cells(
            scene, lambda source: set_arguments(source, lambda call: is_written(call, written), change), apart=True
        )


def _type(setting: str) -> str:
    return "int" if "an int" in _TYPES[setting] else "float"


def _right(setting: str, value: str) -> str:
    """The same value as the type that is asked for; ``0.0`` is a temperature's own case, and empty says that the value itself is wrong."""
    try:
        number = float(value)
    except ValueError:
        return ""
    if setting == "temperature" and number == 0:
        return "0.0"
    if not 0 < number < (1 if setting == "top_p" else 1e6):
        return ""
    if _type(setting) == "float":
        return str(number)
    return str(int(number)) if number == int(number) and str(int(number)) != value else ""
