from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, set_arguments, transform
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.overwritten import MESSAGE, OverwrittenProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.sizes import sized

if TYPE_CHECKING:
    import libcst as cst

X = "import torch\nx = torch.ones(3, requires_grad=True)"
TWICE = (
    "import torch\nlayer, first = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)\n"
    "optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)\nx = torch.ones(1, 2)"
)


class OverwrittenBeforeBackward(Rule):
    """A tensor that the backward pass needs was changed in its place after the forward pass had kept it.

    *What it means*
    Many operations keep a tensor for the backward pass. PyTorch counts the writes to each, and refuses to compute wrong gradients from one
    that was written to since.

    *Why it happens*
    `x += …`, `x[…] = …`, `x.add_(…)` or `ReLU(inplace=True)` on such a tensor; `optimizer.step()` between two backward passes of one graph;
    or DistributedDataParallel, which copies its buffers at each forward pass, run forward twice before one backward.

    *How tfdiag confirms it*
    It looks for the variable or parameter of the shape, type and number of writes that the message tells, and for the statement that wrote.

    *Fixes and their safety*
    `write-new-tensor` (unsafe: other names of the tensor keep the old value) writes `x = x + …` for `x += …`. `not-in-place` (unsafe: more
    memory) sets `inplace=False`. `keep-forward-values` is shown only.

    *Example*
    `h = torch.sigmoid(x); h += 1; h.sum().backward()`

    *References*
    PyTorch: autograd mechanics, in-place correctness checks.
    """

    code = "TRN006"
    name = "overwritten-before-backward"
    raised = ("builtins.RuntimeError",)
    message = MESSAGE
    needs = (OverwrittenProbe,)
    fixes = (
        Offer("write-new-tensor", Applicability.UNSAFE),
        Offer("not-in-place", Applicability.UNSAFE),
        Offer("keep-forward-values", Applicability.DISPLAY_ONLY),
    )
    links = (
        Link(
            "In-place operations",
            "https://pytorch.org/docs/stable/notes/autograd.html#in-place-operations-with-autograd",
        ),
    )
    CASES = (
        Match(
            text="RuntimeError: one of the variables needed for gradient computation has been modified by an inplace operation: "
            "[torch.cuda.FloatTensor [16, 8]], which is output 0 of ReluBackward0, is at version 2; expected version 1 instead.",
            certainty=Certainty.LIKELY,
            title="The output of Relu .16 × 8. was changed in its place before backward",
            fixes=("keep-forward-values",),
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/env/torch/nn/parallel/distributed.py", line 511, in forward\n'
            "RuntimeError: one of the variables needed for gradient computation has been modified by an inplace operation: "
            "[torch.cuda.LongTensor [1, 128]] is at version 4; expected version 3 instead.",
            certainty=Certainty.LIKELY,
            title="DistributedDataParallel wrote its buffers",
        ),
        Match(
            text="RuntimeError: one of the variables needed for gradient computation has been modified by an inplace operation",
            certainty=Certainty.LIKELY,
            title="A tensor that backward needs was changed in its place",
        ),
        NoMatch(text="RuntimeError: Output 0 of UnbindBackward0 is a view and is being modified inplace."),
        NoMatch(text="ValueError: the frame has been modified by an in-place operation"),
        Reproduce(
            (X, "h = torch.sigmoid(x)\nh += 1  # shifted\nloss = h.sum()\nloss.backward()"),
            title=r"`h \+= 1` \(line 2\) overwrites `h`, the output of Sigmoid, which backward needs",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-new-tensor"),),
            needs=("torch",),
        ),
        Reproduce(  # another of the same shape and as many writes; `.data` counts none
            (X, "n = torch.ones(3)\nn += 1\nh = torch.sigmoid(x)\nh.data.add_(1)\nh.add_(1)\nh.sum().backward()"),
            title=r"`h\.add_\(1\)` \(line 5\) overwrites `h`, the output of Sigmoid",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # in a forward pass that has returned
            (
                "import torch\nclass Decoder(torch.nn.Module):\n"
                "    def __init__(self):\n        super().__init__()\n        self.line = torch.nn.Linear(2, 2)\n"
                "    def forward(self, x):\n        h = torch.sigmoid(self.line(x))\n        h *= 2 if len(h) else 1\n        return h",
                "decoder = Decoder()\ntotal = 0\nloss = decoder(torch.ones(1, 2)).sum()\ntotal += loss.item()\nloss.backward()",
            ),
            title=r"`h \*= 2 if len\(h\) else 1` \(cell 1, line 8\) overwrites `h`, the output of Sigmoid",
            certainty=Certainty.LIKELY,
            fixes=(Try("write-new-tensor"),),
            needs=("torch",),
        ),
        Reproduce(
            (X, "h = torch.relu(x)\nh[0] = 3\nh.sum().backward()"),
            title=r"`h\[0\] = 3` \(line 2\) overwrites `h`, the output of Relu",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch\nfrom torch import nn",
                "net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.ReLU(inplace=True))",
                "net(torch.ones(1, 2)).sum().backward()",
            ),
            title=r"`ReLU\(inplace=True\)` \(net.2\) overwrites the output of Sigmoid, which backward needs",
            certainty=Certainty.LIKELY,
            fixes=(Try("not-in-place"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                TWICE,
                "loss = layer(first(x)).sum()\nloss.backward(retain_graph=True)\noptimizer.step()\nloss.backward()",
            ),
            title="`layer.weight` was changed, as by an optimizer's step, between the forward pass and this backward",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # weights of two models fit
            (
                f"{TWICE}\nother = torch.nn.Sequential(torch.nn.Linear(2, 2))\nother(x).sum().backward()\n"
                "torch.optim.SGD(other.parameters(), lr=0.1).step()",
                "loss = layer(first(x)).sum()\nloss.backward(retain_graph=True)\noptimizer.step()\nloss.backward()",
            ),
            title="`layer.weight` or `other.0.weight` was changed",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[OverwrittenProbe.name]
        if own(failure):
            return None
        op = re.sub(r"(?:Backward)?\d*$", "", hit["op"])
        output = f"the output of {op}" if op and op not in ("AsStrided", "T") else ""
        if seen and seen["variable"]:
            told = f", {output}," if output else ","
            title = (
                f"`{seen['statement']}` ({seen['where']}) overwrites `{seen['variable']}`{told} which backward needs"
            )
            certainty = Certainty.CONFIRMED if seen["sure"] else Certainty.LIKELY
            return self._found(title, certainty, seen, _WHY, (self._fix(seen),))
        if seen and seen["parameters"]:
            names = " or ".join(f"`{name}`" for name in seen["parameters"][:3])
            certainty = Certainty.CONFIRMED if len(seen["parameters"]) == 1 else Certainty.LIKELY
            title = f"{names} was changed, as by an optimizer's step, between the forward pass and this backward"
            note = "Run the model forward again after `optimizer.step()`, or call all `backward()` before any `step()`."
            fix = self.offer("keep-forward-values", "Go forward again after a step", note)
            return self._found(title, certainty, seen, note, (fix,))
        if seen and len(seen["modules"]) == 1:
            name, kind = seen["modules"][0]
            title = f"`{kind}(inplace=True)` ({name}) overwrites {output or 'a tensor'}, which backward needs"
            fix = self.offer(
                "not-in-place", f"{kind}(inplace=False)", "It then writes a new tensor, which takes memory.", kind=kind
            )
            return self._found(title, Certainty.LIKELY, seen, _WHY, (fix,))
        if (
            failure.says(r"torch[/\\]nn[/\\]parallel[/\\]distributed\.py|DistributedDataParallel")
            and "Long" in hit["type"]
        ):
            note = "Give it broadcast_buffers=False, or run the model forward once for each backward."
            fix = self.offer("keep-forward-values", "broadcast_buffers=False", note)
            title = "DistributedDataParallel wrote its buffers in a second forward pass before this backward"
            return self._found(title, Certainty.LIKELY, seen, note, (fix,))
        sizes = f" ({sized(tuple(map(int, hit['shape'].split(','))))})" if hit["shape"] else ""
        what = output or (f"a {hit['type'].removeprefix('torch.')}" if hit["type"] else "a tensor that backward needs")
        title = f"{what[0].upper()}{what[1:]}{sizes} was changed in its place before backward"
        return self._found(title, Certainty.LIKELY, seen, _WHY, (self._keep(),))

    def _keep(self) -> Fix:
        note = "Write x = x + … for x += …, clone() a tensor before you write into it, and leave inplace=True and relu_() out."
        return self.offer("keep-forward-values", "Write new tensors", note)

    def _fix(self, seen: Evidence) -> Fix:
        name = str(seen["variable"])
        if seen["kind"] == "augmented":
            label, note = f"{name} = {name} …", "It writes a new tensor; other names of the old one keep its value."
            return self.offer("write-new-tensor", label, note, variable=name, statement=str(seen["statement"]))
        if seen["kind"] == "item":
            note = f"Write `{name} = {name}.clone()` before `{seen['statement']}`, or make the new values with torch.where."
            return self.offer("keep-forward-values", "Write into a copy", note)
        return self._keep()

    def _found(
        self, title: str, certainty: Certainty, seen: Evidence, why: str, fixes: tuple[Fix, ...] = ()
    ) -> Diagnosis:
        what = "The forward pass kept this tensor for the backward pass, and it was written to since."
        return self.found(title, certainty, what=what, why=why, evidence=seen.seen, fixes=fixes)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "not-in-place":
            kind = str(fix.parameters["kind"])
            return edit_cells(scene, lambda source: set_arguments(source, _in_place(kind), {"inplace": "False"}))
        name, statement = str(fix.parameters["variable"]), str(fix.parameters["statement"])
        return edit_cells(scene, lambda source: _written_anew(source, name, statement))


_WHY = "Operations that keep the old value compute no gradients from the new one: write the result into a new tensor."


def _in_place(kind: str) -> Callable[[cst.Call], bool]:
    def accepts(call: cst.Call) -> bool:
        named = any(arg.keyword is not None and arg.keyword.value == "inplace" for arg in call.args)
        return named and dotted(call.func).rpartition(".")[2] == kind

    return accepts


def _written_anew(source: str, name: str, statement: str) -> str:
    """``x = x + y`` for the statement ``x += y``."""
    import ast

    import libcst as cst

    code = cst.Module([]).code_for_node

    class Editor(cst.CSTTransformer):
        def leave_AugAssign(
            self, original_node: cst.AugAssign, updated_node: cst.AugAssign
        ) -> cst.Assign | cst.AugAssign:
            target, value = updated_node.target, code(updated_node.value)
            if not isinstance(target, cst.Name) or target.value != name:
                return updated_node
            if ast.unparse(ast.parse(code(updated_node)))[:60] != statement:
                return updated_node
            simple = isinstance(
                updated_node.value, (cst.Name, cst.Call, cst.Attribute, cst.Subscript, cst.Integer, cst.Float)
            )
            operator = code(updated_node.operator).strip().removesuffix("=")
            new = cst.parse_expression(f"{name} {operator} {value if simple else f'({value})'}")
            return cst.Assign([cst.AssignTarget(target)], new, semicolon=updated_node.semicolon)

    return transform(source, lambda tree: tree.visit(Editor()))
