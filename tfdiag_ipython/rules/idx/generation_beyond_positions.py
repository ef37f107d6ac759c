from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._words import too_long

MODEL = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel
small = dict(vocab_size=7, n_embd=8, n_layer=1, n_head=1, n_positions=12)
model = GPT2LMHeadModel(GPT2Config(**small, bos_token_id=None, eos_token_id=None, pad_token_id=0))
prompt = torch.tensor([[3, 4, 5, 6]])
"""
SEEN = {
    "kind": "embedding",
    "role": "positions",
    "limit": 1024,
    "length": 0,
    "positions": {"most": 1024, "length": 1200, "learned": True, "argument": "generate", "prompt": 1000},
    "config": {"max_position_embeddings": 1024},
    "model": "model",
    "values": {"smallest": 1024, "largest": 1024, "first": 1024, "place": (0, 0), "count": 1, "total": 1},
}


class GenerationBeyondPositions(Rule):
    """`generate` went on until the model had no position left for the next token.

    *What it means*
    A model with learned positions has room for the prompt and the new tokens together. The step that needs one more fails like any index
    out of range, after all the others were computed.

    *Why it happens*
    `max_new_tokens` or `max_length` is larger than what the prompt leaves.

    *How tfdiag confirms it*
    In the frame of `generate` it reads how many tokens the prompt has and how far it was to go, and holds that against the rows of the
    learned positions.

    *Fixes and their safety*
    `fewer-new-tokens` (unsafe: the text ends earlier) sets `max_new_tokens` in the call of `generate`.

    *Example*
    `model.generate(prompt, max_new_tokens=300)` with GPT-2, 1,024 positions and a prompt of 1,000 tokens.

    *References*
    transformers: `generation/utils.py`; Generation strategies.
    """

    code = "IDX010"
    name = "generation-beyond-positions"
    raised = ("builtins.IndexError", "builtins.RuntimeError")
    specific = True  # asks for the frame of generate
    message = re.compile(
        r"index out of range in self|tfdiag\.guard stopped embedding(?!_)"
        r"|The size of tensor a \(\d+\) must match the size of tensor b \(\d+\) at non-singleton dimension [13]\b"
        r"|index \d+ is out of bounds for dimension [01] with size \d+"
    )
    needs = (IndexTensorsProbe,)
    fixes = (Offer("fewer-new-tokens", Applicability.UNSAFE),)
    links = (Link("Generation", "https://huggingface.co/docs/transformers/llm_tutorial"),)
    CASES = (
        Match(
            text="IndexError: index out of range in self",
            evidence={"index-tensors": SEEN},
            certainty=Certainty.CONFIRMED,
            title="token 1,200.*1,024 positions",
            fixes=("fewer-new-tokens",),
        ),
        NoMatch(text="IndexError: index out of range in self", code="IDX001"),
        Reproduce(
            (MODEL, "text = model.generate(prompt, max_new_tokens=20)"),
            title="token 24.*12 positions",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("fewer-new-tokens"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[IndexTensorsProbe.name]
        places = seen.get("positions") or {}
        if places.get("argument") != "generate" or not too_long(seen, hit.raised.message):
            return None
        most, prompt, end = places["most"], places["prompt"], places["length"]
        left = most - prompt
        told = f"Sets `max_new_tokens={left}` where `generate` is called: the text ends there."
        fix: Fix = self.offer("fewer-new-tokens", f"Generate at most {left:,} new tokens", told, count=left)
        return self.found(
            f"`generate` was to go on to token {end:,}, and the model has {most:,} positions",
            Certainty.CONFIRMED,
            what=f"The {prompt:,} tokens that it begins with and the new ones share the positions: {left:,} new ones fit.",
            why="`max_new_tokens` or `max_length` is larger than what the prompt leaves.",
            evidence=seen.seen,
            fixes=(fix,) if left > 0 else (),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        fewer = {"max_new_tokens": str(fix.parameters["count"]), "max_length": None}
        return edit_cells(scene, lambda source: set_arguments(source, calls_to("generate"), fewer), apart=True)
