"""Why a loss has no graph to go back through: where gradients were off, what cut it, or that nothing is trainable."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import CELL_FILE, LIBRARY, Failure
from tfdiag_ipython.fixes.source import python_of
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.probes._frame_values import UNKNOWN, FrameValues
from tfdiag_ipython.probes._module_calls import name_of
from tfdiag_ipython.probes.trainer import trainer_of

CUTS = frozenset({"detach", "item", "numpy", "tolist", "argmax", "long", "int"})
"""Methods after which nothing of the graph is left."""
MAKERS = frozenset(
    {"torch.tensor", "torch.as_tensor", "torch.from_numpy", "torch.Tensor", "torch.FloatTensor", "np.array", "np.mean"}
)
"""Calls that make a value of numbers, without a graph."""
HANDED = frozenset({"pop", "get", "next"})
"""Calls that give what was made before."""
OFF = ("no_grad", "inference_mode")
DEEPEST = 8


class LossGraphProbe(Probe):
    """The line that calls `backward`, how the loss came to be there, and the parameters of the model that made it; nothing is run.

    Facts: ``loss`` (the expression that `backward` starts from, empty where a Trainer does it), ``reason`` (``off``: gradients were off where
    it was computed; ``off-here``: they are off where `backward` is called, and ``sure`` says that the loss is computed there, too; ``disabled``: off for the whole program; ``cut``: an expression cut the graph;
    ``frozen``: no parameter of the model is trainable; ``checkpointed``: gradient checkpointing whose inputs need no gradient; empty where nothing
    was found), ``by`` (the expression or context that did it), ``where`` (cell or function and line), ``sure`` (the graph could come through nothing else), ``model`` (its name), ``parameters`` (their number),
    ``trainable`` (how many tensors of them are).
    """

    name: ClassVar[str] = "loss-graph"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None or scene.exception is None:
            return Evidence(missing="there is no live failure of torch")
        frames = [frame for frame in scene.find_frames() if not LIBRARY.search(frame.file)]
        if not frames:
            return Evidence(missing="no frame of the program is left in this traceback")
        facts: dict[str, Any] = {"loss": "", "reason": "", "by": "", "where": ""}
        facts |= {"model": "", "parameters": 0, "trainable": 0, "sure": True}
        places = [place for frame in frames if (place := _Place.of(frame)) is not None]
        nearest = next((place for place in places if place.off() or place.on()), None)
        off = nearest.off() if nearest is not None and not nearest.on() else None
        trainer = trainer_of(scene)
        if off is not None:
            facts.update(reason="off-here", by=off[0], where=off[1], sure=_computed_there(places, nearest, off))
        elif not torch.is_grad_enabled():
            facts.update(reason="disabled", by="torch.set_grad_enabled(False)")
        loss = places[0].loss() if places else None
        if loss is not None:
            facts["loss"] = ast.unparse(loss)[:60]
        scene.deadline.check()
        if trainer is not None:
            facts.update(_of_model(scene, torch, vars(trainer).get("model"), facts["reason"]))
        elif loss is not None and (not facts["reason"] or not facts["sure"]):
            values = FrameValues(frames[0].locals, frames[0].globals, torch)
            tracer = _Tracer(torch, values, [*_scopes(places[0], scene)], places[0].parameters)
            cut = tracer.follow(loss)
            if cut is not None:
                facts.update(reason=cut[0], by=cut[1], where=cut[2], sure=tracer.sure)
            else:
                model = _of_model(scene, torch, tracer.model, "")
                facts.update(model, sure=facts["sure"] or "reason" in model)
        seen = []
        if facts["loss"]:
            seen.append(Observation(facts["loss"], "requires_grad=False, no grad_fn", places[0].label))
        if facts["model"]:
            told = f"{facts['trainable']:,} of {facts['parameters']:,} tensors are trainable"
            seen.append(Observation(f"Parameters of {facts['model']}", told, "requires_grad of each"))
        return Evidence(MappingProxyType(facts), tuple(seen))


@dataclass(frozen=True)
class _Place:
    """A frame's function or cell as a syntax tree, and the line where it stands."""

    body: list[ast.stmt]
    line: int
    label: str
    decorators: tuple[ast.expr, ...] = ()
    parameters: frozenset[str] = frozenset()

    @classmethod
    def of(cls, frame: LiveFrame) -> _Place | None:
        cell = CELL_FILE.match(frame.file) or frame.file.startswith("<cell")
        try:
            tree = ast.parse("".join(linecache.getlines(frame.file, dict(frame.globals))))
        except (SyntaxError, ValueError, RecursionError):
            return None
        functions = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and node.name == frame.function
            and node.lineno <= frame.line <= (node.end_lineno or 0)
        ]
        label = f"`{frame.function}`, line {frame.line}" if functions or not cell else f"line {frame.line}"
        if functions:
            names = frozenset(one.arg for one in ast.walk(functions[-1].args) if isinstance(one, ast.arg))
            return cls(functions[-1].body, frame.line, label, tuple(functions[-1].decorator_list), names)
        return cls(tree.body, frame.line, label)

    def off(self) -> tuple[str, str] | None:
        """The context or decorator that switches gradients off at the line."""
        found = next((one for one in map(_switches_off, self.decorators) if one), "")
        if found:
            return f"@{found}", self.label
        return _off_at(self.body, self.line)

    def on(self) -> bool:
        """Whether a context or decorator nearest to the line switches gradients on."""
        inside = [one for one in _around(self.body, self.line) if _switches_off(one) or _switches_on(one)]
        return bool(_switches_on(inside[-1])) if inside else any(map(_switches_on, self.decorators))

    def loss(self) -> ast.expr | None:
        """What `backward` is called on at the line: ``loss`` of ``scaler.scale(loss).backward()``."""
        for node in (node for statement in self.body for node in ast.walk(statement)):
            if not isinstance(node, ast.Call) or not node.lineno <= self.line <= (node.end_lineno or node.lineno):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
                value: ast.expr = node.args[0] if node.args else node.func.value
                scaled = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
                if scaled and value.func.attr == "scale" and value.args:  # type: ignore[attr-defined]
                    value = value.args[0]  # type: ignore[attr-defined]
                return value
        return None

    def computes(self, node: ast.expr, off: tuple[str, str] | None, line: int = 0, depth: int = 0) -> bool:
        """Whether a step on the way to the value is made here, before the line, and under the same context where ``off`` is one."""
        line = line or self.line
        if depth > DEEPEST:
            return False
        node = _holder(node)
        if not isinstance(node, ast.Name):
            return _makes(node)
        found = [one for one in _assignments(self.body, node.id) or () if one.lineno < line]
        if not found:
            return False
        newest = found[-1]
        inside = [one for one in _around(self.body, newest.lineno) if _switches_off(one) or _switches_on(one)]
        here = not (inside and _switches_on(inside[-1])) if off is None else _off_at(self.body, newest.lineno) == off
        return here and self.computes(newest.value, off, newest.lineno, depth + 1)


def _holder(node: ast.expr) -> ast.expr:
    """``out`` of ``out.losses[0]``: a member or an item was made when what holds it was."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node


def _makes(node: ast.expr) -> bool:
    """Whether an expression makes a value that gets a graph where gradients are on, and does not only hand one on."""
    node = _holder(node)
    if not isinstance(node, ast.Call):
        return isinstance(node, (ast.BinOp, ast.UnaryOp))
    called = ast.unparse(node.func)
    return called not in MAKERS and called.rpartition(".")[2] not in HANDED | CUTS


def _computed_there(places: list[_Place], nearest: _Place | None, off: tuple[str, str]) -> bool:
    """Whether the loss is computed under what switches gradients off at its `backward`; where a library calls that, it also computes it."""
    loss = places[0].loss()
    whole = nearest is not places[0] or off[0].startswith("@")  # all of the function runs under it
    return loss is None or places[0].computes(loss, None if whole else off)


class _Tracer:
    """Follows the loss back through the assignments before it, along what a graph would go through."""

    def __init__(
        self,
        torch: Any,
        values: FrameValues,
        scopes: list[tuple[list[ast.stmt], int, str]],
        parameters: frozenset[str] = frozenset(),
    ) -> None:
        self._torch, self._values, self._scopes = torch, values, scopes
        self._body, self._parameters = scopes[0][0], parameters
        self.model: Any = None
        self.sure = True

    def follow(self, node: ast.expr, depth: int = 0) -> tuple[str, str, str] | None:
        """Reason, expression and place of what cut the graph; ``None`` where nothing is seen to."""
        if depth > DEEPEST:
            return None
        again: Callable[[ast.expr], tuple[str, str, str] | None] = lambda one: self.follow(one, depth + 1)  # noqa: E731
        if isinstance(node, ast.Name):
            return self._assigned(node.id, depth)
        if isinstance(node, ast.Attribute):
            return self._cut(node) if node.attr == "data" else again(node.value)
        if isinstance(node, (ast.Subscript, ast.UnaryOp)):
            return again(node.value if isinstance(node, ast.Subscript) else node.operand)
        if isinstance(node, ast.BinOp):
            sides = [side for side in (node.left, node.right) if not isinstance(side, ast.Constant)]
            found = [again(side) for side in sides]
            return found[0] if found and all(found) else None
        if not isinstance(node, ast.Call):
            return None
        if ast.unparse(node.func) in MAKERS:
            grad = any(word.arg == "requires_grad" for word in node.keywords)
            return None if grad else self._cut(node)
        called = self._values.read(node.func)
        if called is not UNKNOWN and issubclass(type(called), self._torch.nn.Module):
            if any(True for _ in called.parameters()):
                self.model = called
                return None
            return self._first(node, depth)
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in CUTS:
                return self._cut(node)
            base = self._values.read(node.func.value)
            if base is UNKNOWN or self._values.is_tensor(base):
                return again(node.func.value)
        return self._first(node, depth)

    def _first(self, node: ast.Call, depth: int) -> tuple[str, str, str] | None:
        """What cut the first argument off; of several, the graph might have come through another one."""
        found = self.follow(node.args[0], depth + 1) if node.args else None
        if found is not None and found[0] == "cut" and len(node.args) > 1:
            self.sure = False
        return found

    def _cut(self, node: ast.expr) -> tuple[str, str, str]:
        return "cut", ast.unparse(node)[:60], ""

    def _assigned(self, name: str, depth: int) -> tuple[str, str, str] | None:
        """The newest assignment before the line, in the function or cell, then in the cells before."""
        for number, (body, line, label) in enumerate(self._scopes):
            every = _assignments(body, name)
            found = [one for one in every or () if number or one.lineno < line]
            given = body is self._body and name in self._parameters
            if every is None or (given and not found):
                return None  # what the name stands for came in another way
            if not found:
                continue
            newest = found[-1]
            off = _off_at(body, newest.lineno) if _makes(newest.value) else None
            if off is not None:
                return "off", off[0], f"{label}, {off[1]}" if number else off[1]
            scopes, self._scopes = self._scopes, [(body, newest.lineno, label), *self._scopes[number + 1 :]]
            try:
                cut = self.follow(newest.value, depth + 1)
            finally:
                self._scopes = scopes
            place = f"line {newest.lineno}" if not number else f"{label}, line {newest.lineno}"
            return (cut[0], cut[1], cut[2] or place) if cut is not None else None
        return None


def _scopes(place: _Place, scene: Scene) -> Iterator[tuple[list[ast.stmt], int, str]]:
    """The function or cell of the line, then the cells that ran before, the newest first."""
    yield place.body, place.line, ""
    for cell in reversed(scene.cells[:-1]):
        try:
            yield ast.parse(python_of(cell.source) or "").body, 0, cell.label
        except (SyntaxError, ValueError, RecursionError):
            continue


def _assignments(body: list[ast.stmt], name: str) -> list[ast.Assign] | None:
    """Plain assignments to the name, not those of functions inside; ``None`` where it is also bound in other ways, as by a loop."""
    found: list[ast.Assign] = []
    queue: list[ast.AST] = list(body)
    while queue:
        node = queue.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            found.append(node)
            queue.append(node.value)
            continue
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return None
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            continue  # a scope of its own
        queue += list(ast.iter_child_nodes(node))
    return sorted(found, key=lambda one: one.lineno)


def _off_at(body: list[ast.stmt], line: int) -> tuple[str, str] | None:
    """The ``with`` around the line that switches gradients off, unless one inside switches them on."""
    found: tuple[str, str] | None = None
    for context in _around(body, line):
        if _switches_off(context):
            found = ast.unparse(context), f"line {context.lineno}"
        elif _switches_on(context):
            found = None
    return found


def _around(body: list[ast.stmt], line: int) -> list[ast.expr]:
    """The contexts of the ``with`` statements around the line, the outermost first."""
    around = [node for statement in body for node in ast.walk(statement) if isinstance(node, ast.With)]
    inside = [
        node
        for node in sorted(around, key=lambda one: one.lineno)
        if node.lineno < line <= (node.end_lineno or 0) or (node.lineno == line == node.end_lineno)
    ]
    return [item.context_expr for node in inside for item in node.items]


def _switches_on(node: ast.expr) -> bool:
    return ast.unparse(node).endswith(("enable_grad()", "enable_grad", "set_grad_enabled(True)"))


def _switches_off(node: ast.expr) -> str:
    text = ast.unparse(node)
    name = text.partition("(")[0].rpartition(".")[2]
    plain = name in OFF and text.endswith((f"{name}()", f"{name}(True)", name))
    return text if plain or text.endswith("set_grad_enabled(False)") else ""


def _of_model(scene: Scene, torch: Any, model: Any, reason: str) -> dict[str, Any]:
    """Whether the model has nothing to train, or its checkpointed layers get inputs that need no gradient."""
    if not issubclass(type(model), torch.nn.Module):
        return {}
    parameters = [one.requires_grad for one in model.parameters()]
    name = name_of(model, scene) or type(model).__name__
    facts: dict[str, Any] = {"model": name, "parameters": len(parameters), "trainable": sum(parameters)}
    if reason:
        return facts
    if parameters and not any(parameters):
        facts["reason"] = "frozen"
    elif any(_reentrant(module) for module in model.modules()):
        embeddings = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
        if embeddings and not any(one.weight.requires_grad for one in embeddings):
            facts["reason"] = "checkpointed"
    return facts


def _reentrant(module: Any) -> bool:
    """Whether a module checkpoints so that only inputs with gradients give some."""
    held = vars(module)
    options = getattr(held.get("_gradient_checkpointing_func"), "keywords", None) or {}
    return bool(held.get("gradient_checkpointing")) and options.get("use_reentrant", True) is not False
