from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.sampling_scores import SamplingScoresProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._places import plain, raised_by_hand
from tfdiag_ipython.rules.idx._assertions import asserted

MODEL = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel
model = GPT2LMHeadModel(GPT2Config(vocab_size=7, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0))
"""


class InvalidProbabilities(Rule):
    """The probabilities from which a token is drawn are not numbers, are infinite, or are negative.

    *What it means*
    `torch.multinomial` draws from probabilities and refuses what is none. On a GPU the same call is a device-side assert.

    *Why it happens*
    The model's own scores are not numbers: float16 overflowed, the weights are damaged or diverged in training, or a row is masked
    entirely. Or the scores were sound and what `generate` did with them (a tiny temperature, a processor) was not.

    *How tfdiag confirms it*
    It counts what is not a number in the scores that the model gave and in the probabilities made of them, in the frame of `generate`.

    *Fixes and their safety*
    None here: load the model in `bfloat16` or `float32`, or look for the damaged weights.

    *Example*
    `model.generate(ids, do_sample=True)` with a model that overflows in float16.

    *References*
    torch: `multinomial`; transformers: `generation/utils.py`, `_sample`.
    """

    code = "IDX006"
    name = "invalid-probabilities"
    raised = ("builtins.RuntimeError",)
    message = re.compile(
        r"probability tensor contains either `?inf`?, `?nan`? or element < 0|invalid multinomial distribution"
    )
    needs = (SamplingScoresProbe,)
    links = (Link("torch.multinomial", "https://docs.pytorch.org/docs/stable/generated/torch.multinomial.html"),)
    CASES = (
        Match(
            text="RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",
            certainty=Certainty.LIKELY,
            title="drawn from",
        ),
        Match(
            text="RuntimeError: invalid multinomial distribution (encountering probability entry < 0)",
            title="drawn from",
        ),
        Match(
            text="RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",
            evidence={
                "sampling-scores": {
                    "dtype": "float16",
                    "temperature": 1.0,
                    "logits": {"nan": 7, "inf": 0, "total": 7},
                    "probabilities": {"nan": 7, "inf": 0, "total": 7},
                }
            },
            certainty=Certainty.CONFIRMED,
            title="7 of 7 scores.*float16",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "draw.py", line 3, in <module>\n    torch.multinomial(weights, 1)\n'
            "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",
            certainty=Certainty.LIKELY,
            title="`torch.multinomial` was given what are no probabilities",
        ),
        NoMatch(
            text="/pytorch/aten/src/ATen/native/cuda/TensorCompare.cu:110: _assert_async_cuda_kernel: block: [0,0,0], thread: [0,0,0] "
            "Assertion `probability tensor contains either `inf`, `nan` or element < 0` failed.",
            code="IDX004",
        ),
        NoMatch(text="ValueError: probabilities contain NaN"),
        NoMatch(text="ValueError: pvals < 0, pvals > 1 or pvals contains NaNs"),
        Reproduce(
            (
                MODEL + "with torch.no_grad():\n    model.transformer.ln_f.bias[0] = float('nan')",
                "text = model.generate(torch.tensor([[1, 2]]), do_sample=True, max_new_tokens=2)",
            ),
            certainty=Certainty.CONFIRMED,
            title="7 of 7 scores .*model.*float32",
        ),
        Reproduce(
            (
                MODEL,
                "model.generate(torch.tensor([[1, 2]]), do_sample=True, max_new_tokens=2, suppress_tokens=list(range(7)))",
            ),
            certainty=Certainty.CONFIRMED,
            title="from finite scores",
        ),
        Reproduce(
            ("import torch", "torch.multinomial(torch.tensor([-1.0, 2.0]), 1)"),
            certainty=Certainty.LIKELY,
            title="`torch.multinomial` was given",
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if raised_by_hand(hit.raised):
            return None  # words of the person's own
        if asserted(failure) is not None:
            return None  # a kernel's assertion on the GPU: IDX004
        seen = evidence[SamplingScoresProbe.name]
        logits, drawn = seen.get("logits"), seen.get("probabilities")
        if logits and logits["nan"] + logits["inf"]:
            count, dtype = logits["nan"] + logits["inf"], seen["dtype"]
            return self.found(
                f"{count:,} of {logits['total']:,} scores that the model gave are not finite (the model is in {dtype})",
                Certainty.CONFIRMED,
                what="The model's own scores are not a number or infinite, before `generate` did anything with them.",
                why="float16 overflows above 65,504: load the model in bfloat16 or float32."
                if dtype == "float16"
                else "Its weights are damaged or diverged in training, or a row of the attention mask is all zeros.",
                evidence=seen.seen,
            )
        if logits and drawn and drawn["nan"] + drawn["inf"]:
            return self.found(
                f"`generate` made {drawn['nan'] + drawn['inf']:,} of {drawn['total']:,} probabilities inf or nan from finite scores: look at its settings",
                Certainty.CONFIRMED,
                what="The model's own scores are finite; what `generate` does with them before it draws is not.",
                why=f"A processor forbids every token, or the temperature ({seen['temperature']}) makes the scores overflow.",
                evidence=seen.seen,
            )
        if plain(failure):
            return self.found(
                "`torch.multinomial` was given what are no probabilities: a number is negative, inf or nan, or all are 0",
                Certainty.LIKELY,
                what="It draws from probabilities and refuses anything else; no model of Transformers is in this traceback.",
            )
        return self.found(
            "The probabilities that a token is drawn from hold inf, nan or a negative number: the model's scores overflowed",
            Certainty.LIKELY,
            what="`torch.multinomial` draws from probabilities and refuses anything else.",
            why="Most often float16 overflowed (load in bfloat16 or float32), the weights are damaged, or a row is masked entirely.",
            evidence=seen.seen,
        )
