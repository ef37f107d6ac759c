from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, edit_calls, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.loss_graph import OFF, LossGraphProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.rules.imp._symbols import older

if TYPE_CHECKING:
    import libcst as cst

LAYER = "import torch\nlayer = torch.nn.Linear(2, 1)\nx = torch.ones(3, 2)"
ADAPTED = (
    "import torch\nfrom transformers import GPT2Config, GPT2LMHeadModel\n"
    "model = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_positions=8, n_embd=4, n_layer=1, n_head=1)).train()\n"
    "for name, weight in model.named_parameters():\n    weight.requires_grad_('c_attn' in name)  # as an adapter's\n"
    "ids = torch.tensor([[1, 2]])"
)


class LossWithoutGraph(Rule):
    """`backward` was called on a value that was computed without a graph: there is nothing to go back through.

    *What it means*
    PyTorch records a graph only where gradients are on and something that requires them takes part. This loss has none.

    *Why it happens*
    The forward pass ran under `torch.no_grad()` or `inference_mode()`; the loss was made anew from numbers (`torch.tensor(…)`, `.item()`) or
    detached; all parameters are frozen; or gradient checkpointing (`use_reentrant=True`) got the output of frozen embeddings, as with PEFT.

    *How tfdiag confirms it*
    It follows the loss back through the assignments of the cell or function, looks for contexts around them (one around `backward` alone cuts nothing), and counts the model's
    trainable parameters.

    *Fixes and their safety*
    `record-gradients` (unsafe: needs more memory) writes `enable_grad` for `no_grad`. `checkpoint-without-reentry` (unsafe: other memory and
    speed) sets `use_reentrant=False`. `unfreeze` and `keep-graph` are shown only.

    *Example*
    `with torch.no_grad(): loss = model(**batch).loss`, then `loss.backward()`.

    *References*
    PyTorch: notes on autograd mechanics; `torch.utils.checkpoint`.
    """

    code = "TRN005"
    name = "loss-without-graph"
    raised = ("builtins.RuntimeError",)
    message = re.compile(r"element \d+ of (?:tensors|variables) does not require grad and does not have a grad_fn")
    needs = (LossGraphProbe,)
    fixes = (
        Offer("record-gradients", Applicability.UNSAFE),
        Offer("checkpoint-without-reentry", Applicability.UNSAFE),
        Offer("unfreeze", Applicability.DISPLAY_ONLY),
        Offer("keep-graph", Applicability.DISPLAY_ONLY),
    )
    links = (Link("Autograd mechanics", "https://pytorch.org/docs/stable/notes/autograd.html"),)
    CASES = (
        Match(
            text="RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
            certainty=Certainty.LIKELY,
            title="The loss has no graph: it was computed with gradients off, made anew from numbers, or of frozen parameters",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/env/site-packages/torch/utils/checkpoint.py", line 319, in backward\n'
            '    torch.autograd.backward(outputs_with_grad, args_with_grad)\n  File "/env/site-packages/peft/peft_model.py", line 9, in forward\n'
            "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
            certainty=Certainty.LIKELY,
            title="Gradient checkpointing with frozen embeddings",
        ),
        Match(
            failure=Failure.from_text(
                "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"
            ),
            evidence={
                "loss-graph": {
                    "loss": "total",
                    "reason": "frozen",
                    "by": "",
                    "where": "",
                    "model": "net",
                    "parameters": 4,
                    "trainable": 0,
                }
            },
            certainty=Certainty.CONFIRMED,
            title="All 4 parameters of `net` are frozen",
            fixes=("unfreeze",),
        ),
        Match(
            failure=Failure.from_text(
                "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"
            ),
            evidence={
                "loss-graph": {
                    "loss": "total",
                    "reason": "cut",
                    "sure": True,
                    "by": "total.detach()",
                    "where": "cell 3, line 2",
                    "model": "",
                    "parameters": 0,
                    "trainable": 0,
                }
            },
            certainty=Certainty.CONFIRMED,
            title=r"`total.detach\(\)` cuts `total` off from its graph .cell 3, line 2.",
            fixes=("keep-graph",),
        ),
        NoMatch(text="RuntimeError: element 0 of tensors is on another device"),
        NoMatch(
            text="RuntimeError: Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.",
            code=None,
        ),
        Reproduce(
            (LAYER, "with torch.no_grad():  # faster\n    loss = layer(x).mean()\nloss.backward()"),
            title=r"`loss` was computed under `torch.no_grad\(\)` \(line 1\): no graph was recorded",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("record-gradients"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                f"{LAYER}\n@torch.inference_mode()\ndef step(inputs):\n    loss = layer(inputs).mean()\n    loss.backward()",
                "step(x)",
            ),
            title=r"`loss.backward\(\)` runs under `@torch.inference_mode\(\)`: no graph was recorded",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("record-gradients"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                LAYER,
                "out = layer(x)\nscore = torch.nn.functional.mse_loss(out, torch.zeros(3, 1))\nloss = torch.tensor(score.item())",
                "loss.backward()",
            ),
            title=r"`torch.tensor\(score.item\(\)\)` cuts `loss` off from its graph \(cell 2, line 3\)",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # gradients are off around `backward` alone, which cuts nothing
            (LAYER, "loss = layer(x).sum().detach()", "with torch.no_grad():\n    loss.backward()"),
            title=r"`layer\(x\).sum\(\).detach\(\)` cuts `loss` off from its graph \(cell 2, line 1\)",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # the loss comes from the caller
            (
                f"{LAYER}\n@torch.no_grad()\ndef step(l):\n    l.backward()",
                "step(torch.tensor(layer(x).sum().item()))",
            ),
            title="The loss has no graph",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                f"{LAYER}\ndef step(inputs):\n    loss = layer(inputs).sum()\n    loss.backward()",
                "with torch.no_grad():\n    step(x)",
            ),
            title=r"`loss.backward\(\)` runs under `torch.no_grad\(\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("record-gradients"),),
            needs=("torch",),
        ),
        Reproduce(  # out of a container, filled where it cannot be followed
            (
                f"{LAYER}\nlosses = [torch.tensor(1.0)]",
                "with torch.no_grad():\n    loss = losses.pop()\n    loss.backward()",
            ),
            title="The loss has no graph",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # a parameter of the name that the notebook gives to another value
            (f"{LAYER}\nloss = torch.tensor(0.0)\ndef back(loss):\n    loss.backward()", "back((x * 2).sum())"),
            title="The loss has no graph",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # gradients are on where it matters
            (
                f"{LAYER}\nlayer.requires_grad_(False)",
                "with torch.no_grad():\n    with torch.enable_grad():\n        layer(x).sum().backward()",
            ),
            title="All 2 parameters of `layer` are frozen",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                f"{LAYER}\nlayer.requires_grad_(False)",
                "out = layer(x)\nloss = (out - 1).pow(2).mean()\nloss.backward()",
            ),
            title="All 2 parameters of `layer` are frozen",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                f"{ADAPTED}\nmodel.gradient_checkpointing_enable()",
                "loss = model(ids, labels=ids).loss\nloss.backward()",
            ),
            title="Gradient checkpointing with frozen embeddings cuts the graph of `model`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("checkpoint-without-reentry"),),
            needs=("torch", "transformers<5"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[LossGraphProbe.name]
        if own(failure):
            return None
        reason = seen["reason"] if seen else ""
        loss = f"`{seen['loss']}`" if seen and seen["loss"] else "the loss"
        where = f" ({seen['where']})" if seen and seen["where"] else ""
        if reason == "off" or (reason == "off-here" and seen["sure"]):  # `no_grad` around `backward` alone does no harm
            return self._off(seen, loss, where)
        if reason == "disabled":
            title = "Gradients are switched off for the whole program: no graph was recorded"
            why = "`torch.set_grad_enabled(False)` holds until `torch.set_grad_enabled(True)`: call that before the forward pass."
            return self._found(title, Certainty.CONFIRMED, seen, why)
        if reason == "cut":
            note = "Call `backward` on the value itself; take numbers out of it (`.item()`) only to show them."
            fix = self.offer("keep-graph", "Keep the graph", note)
            title = f"`{seen['by']}` cuts {loss} off from its graph{where}"
            certainty = Certainty.CONFIRMED if seen["sure"] else Certainty.LIKELY
            return self._found(title, certainty, seen, note, (fix,))
        if reason == "frozen":
            note = f"Unfreeze what is to learn: `{seen['model']}.requires_grad_(True)`, or its last layers only."
            title = f"All {seen['parameters']:,} parameters of `{seen['model']}` are frozen (requires_grad=False): nothing can learn"
            return self._found(title, Certainty.CONFIRMED, seen, note, (self.offer("unfreeze", "Unfreeze", note),))
        checkpointed = (
            not seen and failure.says(r"torch[/\\]utils[/\\]checkpoint\.py") and failure.says(r"\bpeft[/\\.]")
        )
        if reason == "checkpointed" or checkpointed:
            named = f" of `{seen['model']}`" if seen else ""
            note = "Layers are then recomputed in a way that needs no gradient of their inputs."
            fix = self.offer("checkpoint-without-reentry", "use_reentrant=False", note)
            why = f"Set use_reentrant=False, or call `enable_input_require_grads()` on the model. {note}"
            title = f"Gradient checkpointing with frozen embeddings cuts the graph{named}: no layer's input requires gradients"
            known = bool(seen) and older(
                failure.versions.get("transformers", ""), "5"
            )  # 5 gives the layers such inputs
            certainty = Certainty.CONFIRMED if known else Certainty.LIKELY
            return self._found(title, certainty, seen, why, (fix,) if seen else ())
        return self._found(
            "The loss has no graph: it was computed with gradients off, made anew from numbers, or of frozen parameters only",
            Certainty.LIKELY,
            seen,
            "Look for `torch.no_grad()` around the forward pass, for `.item()`, `.detach()` and `torch.tensor(…)` on the way to the loss, and for "
            "`requires_grad=False`; with PEFT and gradient checkpointing call `model.enable_input_require_grads()`.",
        )

    def _off(self, seen: Evidence, loss: str, where: str) -> Diagnosis:
        by = str(seen["by"])
        able = "." in by and any(name in by for name in OFF)
        fix = self.offer(
            "record-gradients",
            "Record gradients there",
            "enable_grad in its place: it needs more memory.",
            display=not able,
            by=by,
        )
        did = (
            f"{loss[:-1]}.backward()` runs"
            if seen["reason"] == "off-here" and loss[0] == "`"
            else f"{loss} was computed"
        )
        place = "" if by.startswith("@") else where
        title = f"{did[0].upper() + did[1:] if did[0] != '`' else did} under `{by}`{place}: no graph was recorded"
        why = "Compute the loss where gradients are on; `no_grad` is for evaluation."
        return self._found(title, Certainty.CONFIRMED, seen, why, (fix,))

    def _found(
        self, title: str, certainty: Certainty, seen: Evidence, why: str, fixes: tuple[Fix, ...] = ()
    ) -> Diagnosis:
        what = "`backward` follows the graph of a value back to the parameters, and this value has none."
        return self.found(title, certainty, what=what, why=why, evidence=seen.seen, fixes=fixes)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "record-gradients":
            by = str(fix.parameters["by"]).lstrip("@")
            return edit_cells(scene, lambda source: _recording(source, by))
        given = {"gradient_checkpointing_kwargs": '{"use_reentrant": False}'}
        return edit_cells(scene, lambda source: set_arguments(source, _checkpoints, given), undoable=False)


def _recording(source: str, by: str) -> str:
    """The cell with gradients on where they were switched off; one that does so in several places, as for evaluation, is left alone."""
    found: list[str] = []

    def switches_off(call: cst.Call) -> bool:
        found.append(dotted(call.func) if dotted(call.func) in {f"torch.{name}" for name in OFF} else "")
        return bool(found[-1])

    changed = edit_calls(source, switches_off, _switched_on)
    return changed if [one for one in found if one] == [by.partition("(")[0]] else source


def _switched_on(call: cst.Call) -> cst.BaseExpression:
    import libcst as cst

    return call.with_changes(func=cst.parse_expression("torch.enable_grad"), args=[])


def _checkpoints(call: cst.Call) -> bool:
    """A call that switches gradient checkpointing on, and gives its options by name or not at all."""
    enables = dotted(call.func).endswith(".gradient_checkpointing_enable")
    return (enables and all(arg.keyword is not None for arg in call.args)) or any(
        arg.keyword is not None and arg.keyword.value == "gradient_checkpointing" for arg in call.args
    )
