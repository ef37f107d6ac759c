from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import called, dotted, edit_calls, transform, with_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.half_weights import HalfWeightsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.rules.imp._symbols import older

if TYPE_CHECKING:
    import libcst as cst

SCALED = (
    "scaler = torch.amp.GradScaler('cpu')\noptimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
    "loss = net(torch.ones(1, 2, dtype=net.weight.dtype)).sum()\nscaler.scale(loss).backward()\nscaler.unscale_(optimizer)"
)
_HALF = re.compile(r"(?:torch\.)?(?:float16|half)|['\"](?:float16|half|auto)['\"]")


class HalfWeightsScaled(Rule):
    """Weights in float16 are trained with fp16 mixed precision, which wants them in float32.

    *What it means*
    Mixed precision (`fp16=True`, `autocast` with a GradScaler) computes in float16 by itself, and keeps weights and gradients in float32.

    *Why it happens*
    The model was loaded or cast in half precision (`dtype=torch.float16`, `.half()`; transformers 5 loads a checkpoint in the type it was saved
    in), or an adapter was made in float16.

    *How tfdiag confirms it*
    It takes the optimizer from the GradScaler's frame and counts the float16 weights among those that are trained.

    *Fixes and their safety*
    `weights-in-float32` (unsafe: twice the memory of the weights) loads or casts in float32. `cast-trained-weights` is shown only.

    *Example*
    `AutoModelForCausalLM.from_pretrained(name, dtype=torch.float16)` with `TrainingArguments(fp16=True)`.

    *References*
    PyTorch: `torch/amp/grad_scaler.py`, `GradScaler._unscale_grads_`.
    """

    code = "TRN007"
    name = "half-weights-scaled"
    raised = ("builtins.ValueError",)
    message = re.compile(r"Attempting to unscale FP16 gradients")
    needs = (HalfWeightsProbe,)
    fixes = (
        Offer("weights-in-float32", Applicability.UNSAFE),
        Offer("cast-trained-weights", Applicability.DISPLAY_ONLY),
    )
    links = (Link("Automatic mixed precision", "https://pytorch.org/docs/stable/notes/amp_examples.html"),)
    CASES = (
        Match(
            text="ValueError: Attempting to unscale FP16 gradients.",
            certainty=Certainty.LIKELY,
            title="The trained weights are float16, and fp16 mixed precision wants them in float32",
            fixes=("cast-trained-weights",),
        ),
        NoMatch(text="ValueError: Attempting to unscale BF16 images"),
        Reproduce(
            ("import torch\nnet = torch.nn.Linear(2, 2).half()  # small", SCALED),
            title="`net.weight` is float16, as 2 of 2 trained weights are: fp16 mixed precision wants float32",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("weights-in-float32"),),
            needs=("torch>=2.3",),
        ),
        Reproduce(  # saved in float16, and loaded so from transformers 5 on
            (
                "import tempfile, torch\nfrom transformers import GPT2Config, GPT2LMHeadModel\nfolder = tempfile.mkdtemp()\n"
                "config = GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, bos_token_id=0, eos_token_id=0)\n"
                "GPT2LMHeadModel(config).half().save_pretrained(folder)",
                "model = GPT2LMHeadModel.from_pretrained(folder)  # mine",
                "scaler = torch.amp.GradScaler('cpu')\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
                "ids = torch.tensor([[1, 2]])\nscaler.scale(model(ids, labels=ids).loss).backward()\nscaler.step(optimizer)",
            ),
            title="`model.transformer.wte.weight` is float16",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("weights-in-float32"),),
            needs=("torch>=2.3", "transformers>=5"),
        ),
        Reproduce(  # another model, and data, stay in half precision
            (
                "import torch\nteacher = torch.nn.Linear(2, 2).half()\nnet = torch.nn.Linear(2, 2)\nnet.to(torch.float16)",
                f"kind = teacher.weight.dtype\n{SCALED}\nassert kind is torch.float16",
            ),
            title="`net.weight` is float16",
            fixes=(Try("weights-in-float32"),),
            needs=("torch>=2.3",),
        ),
        Reproduce(  # an adapter's case: the frozen weights may stay small
            (
                "import torch\nnet = torch.nn.Linear(2, 2).half()\nnet.bias.requires_grad_(False)",
                SCALED.replace("net.parameters()", "[net.weight]"),
            ),
            title="`net.weight` is float16, as 1 of 1 trained weights are",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch>=2.3",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[HalfWeightsProbe.name]
        if not seen and own(failure):
            return None
        if not seen or not seen["half"]:
            title = "The trained weights are float16, and fp16 mixed precision wants them in float32"
            return self._found(title, Certainty.LIKELY, seen, (self._cast("model"),))
        named = f"{seen['model']}.{seen['weight']}" if seen["weight"] else ""
        count = f"{seen['half']:,} of {seen['trained']:,} trained weights are"
        title = f"`{named}` is float16, as {count}" if named else f"{count} float16"
        fix = (
            self._cast(seen["model"] or "model")
            if seen["frozen"] or not named
            else self._load(failure, str(seen["model"]))
        )
        return self._found(f"{title}: fp16 mixed precision wants float32", Certainty.CONFIRMED, seen, (fix,))

    def _load(self, failure: Failure, model: str) -> Fix:
        note = "The weights take twice the memory; mixed precision still computes in float16. With bf16 they may stay half."
        version = failure.versions.get("transformers", "")
        return self.offer(
            "weights-in-float32",
            "Weights in float32",
            note,
            by_default=bool(version) and not older(version, "5"),
            model=model,
        )

    def _cast(self, model: str) -> Fix:
        note = f"for weight in {model}.parameters(): weight.data = weight.data.float() if weight.requires_grad else weight.data"
        return self.offer("cast-trained-weights", "Cast the trained weights before training", note)

    def _found(self, title: str, certainty: Certainty, seen: Evidence, fixes: tuple[Fix, ...]) -> Diagnosis:
        return self.found(
            title,
            certainty,
            what="A GradScaler scales the loss so that float16 does not lose small gradients; it updates float32 weights only.",
            why="Load the model in float32 and leave float16 to fp16=True; or train in bfloat16 (bf16=True), which needs no scaling. Of a "
            "model with adapters cast the trained weights alone.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        by_default = bool(fix.parameters["by_default"])
        change = partial(_in_float32, by_default=by_default)
        model = str(fix.parameters["model"])
        return edit_cells(scene, lambda source: _of_model(source, model, change))


def _of_model(source: str, model: str, change: Callable[[cst.Call], cst.BaseExpression]) -> str:
    """The cell with the calls changed that make or cast this model; where none is known by its name, the only one of the cell."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        inside = 0

        def visit_Assign(self, node: cst.Assign) -> None:
            self.inside += model in [dotted(target.target) for target in node.targets]

        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            self.inside -= model in [dotted(target.target) for target in original_node.targets]
            return updated_node

        def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
            func = original_node.func
            casts = isinstance(func, cst.Attribute) and dotted(func.value) == model
            return change(updated_node) if self.inside or casts else updated_node

    found = transform(source, lambda tree: tree.visit(Editor()))
    if found != source:
        return found
    count: list[bool] = []

    def counted(call: cst.Call) -> cst.BaseExpression:
        new = change(call)
        count.append(new is not call)
        return new

    changed = edit_calls(source, lambda call: True, counted)
    return changed if sum(count) == 1 else source


def _in_float32(call: cst.Call, by_default: bool) -> cst.BaseExpression:
    """The call in float32, where it casts or loads a model in half precision; ``by_default``: also where it does not say in which."""
    import libcst as cst

    code = cst.Module([]).code_for_node
    func = call.func
    name = func.attr.value if isinstance(func, cst.Attribute) else ""
    if name == "half" and not call.args and isinstance(func, cst.Attribute):
        return call.with_changes(func=func.with_changes(attr=cst.Name("float")))
    if name == "to" and call.args and _HALF.fullmatch(code(call.args[0].value)):
        return call.with_changes(
            args=[call.args[0].with_changes(value=cst.parse_expression("torch.float32")), *call.args[1:]]
        )
    if name == "from_pretrained" and re.search(r"Model|For[A-Z]", called(func)):
        for word in ("dtype", "torch_dtype"):
            given = [arg for arg in call.args if arg.keyword is not None and arg.keyword.value == word]
            if given and _HALF.fullmatch(code(given[0].value)):
                return with_arguments(call, {word: '"float32"'})
            if given:
                return call
        options = {arg.keyword.value for arg in call.args if arg.keyword is not None}
        if by_default and not options & {"quantization_config", "load_in_8bit", "load_in_4bit"}:
            return with_arguments(call, {"dtype": '"float32"'})
    return call
