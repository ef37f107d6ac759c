"""Which tensor was overwritten between the forward and the backward pass, and by which statement."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import LIBRARY, Failure
from tfdiag_ipython.fixes.source import python_of
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.sizes import sized

MESSAGE = re.compile(
    r"modified by an inplace operation(?:: \[(?P<type>[\w.]{1,60}) \[(?P<shape>[\d, ]{0,60})\]\]"
    r"(?:, which is output (?P<number>\d{1,4}) of (?P<op>\w{1,60}),)? is at version (?P<version>\d{1,9}); expected version (?P<expected>\d{1,9}))?"
)
"""The message; a bare one names nothing."""
_WEIGHT_OPS = re.compile(r"AsStrided|^T(?:Backward)?\d*$|Transpose")
"""What a layer's weight passes through: a parameter itself has no operation."""
_COUNTS = re.compile(r"loss|total|count|correct|running|num|sum|step|epoch|index|^[ijkn]$", re.I)
"""Names of what is added up, which a graph seldom goes through."""
MOST = 200


class OverwrittenProbe(Probe):
    """The variables, parameters and modules that fit the tensor of the message, and the statement that changed one; nothing is run.

    Facts: ``variable`` (of the frames or the notebook, whose tensor has this shape, type and version), ``statement``, ``kind`` (``augmented``: ``x += …``,
    ``item``: ``x[…] = …``, ``method``: ``x.add_(…)``) and ``where`` (cell or function and line) of what changed it, ``sure`` (it stands in the scope of the variable; else it is the only one in a function), ``parameters`` (name of a parameter
    that fits, of each model), ``modules`` (those with ``inplace=True``: name and class).
    """

    name: ClassVar[str] = "overwritten"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        told = failure.says(MESSAGE)
        if torch is None or scene.exception is None or told is None or not told["version"]:
            return Evidence(missing="there is no live failure of torch that tells a tensor's version")
        shape = tuple(int(size) for size in told["shape"].split(",") if size.strip())
        weights = _WEIGHT_OPS.search(told["op"] or "T") is not None
        version, kind = int(told["version"]), str(told["type"]).rpartition(".")[2]

        def fits(value: Any, *shapes: tuple[int, ...]) -> bool:
            own = type(value) in (torch.Tensor, torch.nn.Parameter) and not value.is_inference()
            same = own and tuple(value.shape) in shapes and value._version == version
            if not same or (told["op"] and not weights and not value.requires_grad):  # no operation's output
                return False
            return bool(value.type().rpartition(".")[2] == kind)

        facts: dict[str, Any] = {
            "variable": "",
            "statement": "",
            "kind": "",
            "where": "",
            "parameters": (),
            "modules": (),
        }
        frames = [frame for frame in scene.find_frames() if not LIBRARY.search(frame.file)]
        names: dict[str, Any] = {}
        for held in (scene.namespace, *(frame.locals for frame in reversed(frames))):
            names.update({name: value for name, value in list(held.items())[:2000] if not name.startswith("_")})
        scene.deadline.check()
        known: set[int] = set()
        modules = [(name, value) for name, value in names.items() if issubclass(type(value), torch.nn.Module)]
        for name, module in modules:
            named = module.named_parameters() if weights else ()
            held_by = [(path, one) for path, one in named if fits(one, shape, shape[::-1])]
            if held_by and not {id(one) for _, one in held_by} & known:  # not the same model by another name
                facts["parameters"] += (f"{name}.{held_by[0][0]}",)
            known |= {id(one) for _, one in held_by}
            inner = [(path, one) for path, one in module.named_modules() if vars(one).get("inplace") is True]
            facts["modules"] += tuple((".".join(filter(None, (name, path))), type(one).__name__) for path, one in inner)
            scene.deadline.check()
        inside: list[tuple[str, ast.stmt, str]] = []
        for body, label, scope in _sources(scene, frames):
            fitting = [name for name, value in (names if scope is None else scope).items() if fits(value, shape)]
            found = [one for name in fitting for one in changes(_own(body), name)]
            if scope is None:
                inside += [(label, node, way) for node, way in _in_functions(body)]
            if found:
                self._tell(facts, label, *found[0], sure=True)
                break
        if not facts["variable"] and not facts["parameters"] and len(inside) == 1:
            label, node, way = inside[0]
            self._tell(facts, label, _base(_target(node)), node, way, sure=False)
        seen = []
        if facts["variable"]:
            sizes = sized(shape)
            if facts["sure"]:
                told_version = f"expected version {told['expected']}"
                seen.append(Observation(facts["variable"], f"{sizes}, version {version}", told_version))
            seen.append(Observation("Changed by", facts["statement"], facts["where"]))
        for name in () if facts["variable"] else facts["parameters"][:3]:
            seen.append(Observation(name, f"version {version}", f"expected version {told['expected']}"))
        seen += [Observation(name, f"{kind_}(inplace=True)", "the module") for name, kind_ in facts["modules"][:3]]
        return Evidence(MappingProxyType(facts), tuple(seen))

    def _tell(self, facts: dict[str, Any], label: str, name: str, node: ast.stmt, way: str, *, sure: bool) -> None:
        line = f"line {node.lineno}"
        where = f"{label}, {line}" if label else line
        facts.update(variable=name, statement=ast.unparse(node)[:60], kind=way, where=where, sure=sure)


def _own(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The nodes of a scope, in their order, without those of functions and classes inside."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        yield statement
        for field in ("body", "orelse", "finalbody"):
            yield from _own(getattr(statement, field, []))


def _in_functions(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """The statements of functions, as `forward`, that write into what a name stands for; sums of numbers left out."""
    functions = [one for statement in body for one in ast.walk(statement) if isinstance(one, ast.FunctionDef)]
    for function in functions:
        for node in _own(function.body):
            target = _target(node)
            name = _base(target)
            way = next((way for _, _, way in changes([node], name)), "") if name else ""
            if way and not (isinstance(target, ast.Name) and _COUNTS.search(name)) and isinstance(node, ast.stmt):
                yield node, way


def _target(node: ast.AST) -> ast.expr:
    """What a statement writes into; a constant for one that writes into nothing."""
    if isinstance(node, ast.AugAssign):
        return node.target
    if isinstance(node, ast.Assign):
        return node.targets[0]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return node.value.func
    return ast.Constant(None)


def changes(nodes: Iterable[ast.AST], name: str) -> Iterator[tuple[str, ast.stmt, str]]:
    """The statements that change the tensor of this name in its place."""
    for node in nodes:
        if isinstance(node, ast.AugAssign):
            if isinstance(node.target, ast.Name) and node.target.id == name:
                yield name, node, "augmented"
            elif _base(node.target) == name:
                yield name, node, "item"
        elif isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Subscript) and _base(one) == name for one in node.targets
        ):
            yield name, node, "item"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            method = isinstance(called, ast.Attribute) and called.attr.endswith("_") and not called.attr.endswith("__")
            if method and _base(called) == name and called.attr not in ("requires_grad_", "retain_grad_"):  # type: ignore[attr-defined]
                yield name, node, "method"


def _base(node: ast.expr) -> str:
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        if isinstance(node, ast.Attribute) and (node.attr.startswith("grad") or node.attr == "data"):  # not counted
            return ""
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _sources(scene: Scene, frames: list[LiveFrame]) -> Iterator[tuple[list[ast.stmt], str, Mapping[str, Any] | None]]:
    """The functions of the program's frames with their locals, then the cells, the newest first, with ``None`` for the notebook's names."""
    for frame in frames:
        tree = _tree("".join(linecache.getlines(frame.file, dict(frame.globals))))
        for node in ast.walk(tree):
            here = isinstance(node, ast.FunctionDef) and node.name == frame.function
            if here and node.lineno <= frame.line <= (node.end_lineno or 0):  # type: ignore[attr-defined]
                yield node.body, f"`{frame.function}`", frame.locals  # type: ignore[attr-defined]
    for number, cell in enumerate(reversed(scene.cells[-MOST:])):
        yield _tree(python_of(cell.source) or "").body, cell.label if number else "", None


def _tree(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])
