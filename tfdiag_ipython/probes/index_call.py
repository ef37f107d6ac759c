"""The call that took an index out of range: which tensor was the index, its first bad value, and the tensor that it is too large for.

Source: the messages of torch 2.13 on a CPU ("index 5 is out of bounds for dimension 1 with size 4": ``gather``, ``scatter``, ``x[index]``,
``index_add``, ``index_copy``, ``index_fill``; "out of range: tried to access index 12 on a tensor of 12 elements": ``take``, ``put_``; "index
out of range in self" and "INDICES element is out of DATA bounds, id=9 axis_dim=4": ``index_select``). What a message says of the value, the
dimension and the size is held against what is found; where they differ, nothing is found.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import FailingCall, failing_call
from tfdiag_ipython.probes._frame_values import UNKNOWN, FrameValues
from tfdiag_ipython.probes._host_indices import indices_of, variable_of

if TYPE_CHECKING:
    from tfdiag_ipython.probes.index_checks import Check, Find

    Read = tuple[tuple[str, Find], ast.expr, list[ast.expr], dict[str, ast.expr]]
    """A function's name and checks, the expressions of the tensor that it is called on, of the other arguments and of those by name."""
ELSEWHERE = frozenset({"embedding", "embedding_bag", "cross_entropy", "nll_loss"})
"""Functions whose limits come from a model: ``index-tensors`` reads them."""
SAID = re.compile(
    r"index (?P<value>-?\d+) is out of bounds for dimension (?P<dimension>\d+) with size (?P<size>\d+)"
    r"|INDICES element is out of DATA bounds, id=(?P<id>-?\d+) axis_dim=(?P<axis>\d+)"
    r"|tried to access index (?P<taken>-?\d+) on a tensor of (?P<elements>\d+) elements"
)

WORDLESS = re.compile(r"index out of range in self|Class values must be|device-side assert|tfdiag\.guard stopped")
"""Messages of such calls that name neither the value nor the size."""


@dataclass(frozen=True)
class Told:
    """What the message says; ``None`` for what it does not."""

    value: int | None = None
    dimension: int | None = None
    size: int | None = None

    @classmethod
    def by(cls, message: str) -> Told:
        found = SAID.search(message)
        if found is None:
            return cls()
        said = {name: int(number) for name, number in found.groupdict().items() if number is not None}
        return cls(
            said.get("value", said.get("id", said.get("taken"))),
            said.get("dimension"),
            said.get("size", said.get("axis", said.get("elements"))),
        )


class IndexCallProbe(Probe):
    """The failing call of a function that takes indices, read in the frame in which it stands.

    Facts: ``operation`` (``gather``, ``x[index]``), ``index`` (what the program calls the index tensor; ``argument`` where it has no name),
    ``own`` (whether that is a name in the notebook or the cell), ``tensor`` (the expression of the tensor that it is used on, or empty),
    ``limit`` (in words, such as "dimension 1 of `x` has 3 entries"), ``low``, ``high`` (the values that it may have), ``values``
    (``smallest``, ``largest``, ``first``, ``place``, ``count``, ``total``), ``where``, and ``library``, the same for a call in a library's own
    code. Without facts nothing was found.
    """

    name: ClassVar[str] = "index-call"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence()
        message, exception = _about_an_index(failure, scene.exception)
        call = failing_call(exception)
        if call is None:
            return Evidence()
        told = Told.by(message)
        found: list[dict[str, Any]] = []
        for node in call.nodes:
            scene.deadline.check()
            found += _Reader(call, told, torch).bad_indices(node)
        if not found or (len(found) > 1 and not call.exact):  # several that are bad: which one failed is not known
            return Evidence()
        facts = found[0]
        tensor = facts.pop("tensor_itself")
        if not call.own:
            variable = variable_of(scene.namespace, tensor, torch)
            facts |= {"index": variable or facts["index"], "own": bool(variable), "library": call.where}
        return Evidence(MappingProxyType(facts), _observations(facts))


def _about_an_index(failure: Failure, exception: BaseException | None) -> tuple[str, BaseException | None]:
    """The message that speaks of an index and its exception: the one that reached the top, or what that was raised from."""
    current = exception
    for raised in failure.chain[:8]:
        if current is None or SAID.search(raised.message) or WORDLESS.search(raised.message):
            return raised.message, current
        current = current.__cause__ or current.__context__
    return "", None


class _Reader:
    """Reads calls in one frame, with what the message says of them."""

    def __init__(self, call: FailingCall, told: Told, torch: Any) -> None:
        from tfdiag_ipython.probes.index_checks import checks

        self._call, self._told, self._torch = call, told, torch
        self._values = FrameValues(call.locals, call.globals, torch)
        self._table = {place: found for place, found in checks(torch).items() if found[0] not in ELSEWHERE}
        self._written: list[tuple[Any, ast.expr]] = []

    def bad_indices(self, node: ast.expr) -> Iterator[dict[str, Any]]:
        """The index tensors of a call or a subscript that are out of range."""
        read = self._subscript(node) if isinstance(node, ast.Subscript) else self._function(node)
        if read is None:
            return
        (operation, find), first, rest, keywords = read
        values = self._argument(first) if operation == "one_hot" else self._tensor(first, rest, keywords)
        if values is UNKNOWN:
            return
        try:
            named = {name: self._argument(value) for name, value in keywords.items()}
            if self._told.dimension is not None and named.get("dim") is UNKNOWN:
                named["dim"] = self._told.dimension
            found = list(find((values, *map(self._argument, rest)), named))
        except Exception:  # arguments that the function itself refuses
            return
        for check in found:
            facts = self._held_against(check, counts_indices=isinstance(node, ast.Subscript))
            if facts:
                tensor = "" if operation == "one_hot" else self._call.text(first)
                yield {"operation": operation, "tensor": tensor, "limit": _limit(check.limit, tensor), **facts}

    def _held_against(self, check: Check, *, counts_indices: bool) -> dict[str, Any]:
        index = check.index
        if not self._values.is_tensor(index) or index.is_meta:
            return {}
        limit = min(check.high, sys.maxsize - 1) + 1
        seen = indices_of(index, limit, check.ignore, self._torch, check.low).get("values") or {}
        if "first" not in seen or not self._agrees(check, counts_indices):
            return {}
        node = next((node for value, node in self._written if value is index or _becomes(value, index)), None)
        named = node is not None and not isinstance(node, (ast.Call, ast.List))
        return {
            "argument": check.argument,
            "index": self._call.text(node) if node is not None and named else "",
            "own": named,
            "low": check.low,
            "high": check.high,
            "values": seen,
            "where": self._call.where,
            "tensor_itself": index,
        }

    def _agrees(self, check: Check, counts_indices: bool) -> bool:
        """Whether this is what the message speaks of. Of ``x[:, index]`` it counts the indices, not the dimensions: it says 0."""
        told = self._told
        dimension = None if counts_indices else re.search(r"dimension (\d+)", check.limit)
        if told.size is not None and told.size != check.high + 1:
            return False
        if told.dimension is not None and dimension is not None and int(dimension[1]) != told.dimension:
            return False
        return told.value is None or bool((check.index == told.value).any())

    def _subscript(self, node: ast.Subscript) -> Read | None:
        return self._table[self._torch.Tensor, "__getitem__"], node.value, [node.slice], {}

    def _function(self, node: ast.expr) -> Read | None:
        """The function that is called, if it is one of PyTorch's that take indices, and the arguments as they are written."""
        if not isinstance(node, ast.Call) or any(isinstance(value, ast.Starred) for value in node.args):
            return None
        keywords = {word.arg: word.value for word in node.keywords if word.arg is not None}
        called = self._values.read(node.func)
        own = (found for (owner, name), found in self._table.items() if called is getattr(owner, name))
        found = next(own, None) if called is not UNKNOWN else None
        arguments = list(node.args)
        if found is None and called is UNKNOWN and isinstance(node.func, ast.Attribute):
            found = self._table.get((self._torch.Tensor, node.func.attr))
            arguments.insert(0, node.func.value)
        elif found is not None and not arguments and "input" in keywords:
            arguments.append(keywords.pop("input"))
        return (found, arguments[0], arguments[1:], keywords) if found is not None and arguments else None

    def _argument(self, node: ast.expr) -> Any:
        """An argument's value, for an index the tensor that its values come from; what is written is kept for the names."""
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        found = []
        for part in parts:
            value, written = self._values.source(part)
            self._written.append((value, written))
            found.append(self._unread(part, value) if isinstance(node, ast.Tuple) else value)
        return tuple(found) if isinstance(node, ast.Tuple) else found[0]

    def _unread(self, node: ast.expr, value: Any) -> Any:
        """In ``x[torch.arange(n), labels]`` the first is taken for indices of one dimension; the message must agree with it."""
        return self._torch.empty(1, dtype=self._torch.int64, device="meta") if value is UNKNOWN else value

    def _tensor(self, node: ast.expr, rest: list[ast.expr], keywords: Mapping[str, ast.expr]) -> Any:
        """The tensor that the index is used on; where it is not read, one of the size that the message says."""
        value = self._values.read(node)
        if value is not UNKNOWN:
            return value if self._values.is_tensor(value) else UNKNOWN
        size, place = self._told.size, self._told.dimension
        if size is None:
            return UNKNOWN
        if not keywords and len(rest) == 1:  # a subscript
            parts = rest[0].elts if isinstance(rest[0], ast.Tuple) else [rest[0]]
            known = not any(isinstance(part, ast.Constant) and part.value is Ellipsis for part in parts)
            return self._torch.empty((size,) * len(parts), device="meta") if known else UNKNOWN
        given = self._values.read(keywords["dim"] if "dim" in keywords else rest[0])
        place = place if place is not None else given if type(given) is int and given >= 0 else 0
        return self._torch.empty((1,) * place + (size,), device="meta")


def _becomes(value: Any, tensor: Any) -> bool:
    """Whether the tensor was made of this list, or of this NumPy array, whose memory it shares."""
    kind = type(value)
    if kind is list:
        return (
            all(type(one) is int for one in value) and value == tensor.tolist()
        )  # others may do anything when compared
    if (kind.__module__, kind.__name__) != ("numpy", "ndarray"):
        return False
    return bool(value.__array_interface__["data"][0] == tensor.data_ptr())


def _limit(limit: str, tensor: str) -> str:
    """In words whose entries they are: "dimension 1 of `x` has 3 entries"."""
    if not tensor:
        return limit
    whose = f"`{tensor}`"
    return (
        limit.replace("the tensor", whose)
        if limit.startswith("the tensor")
        else limit.replace(" has ", f" of {whose} has ")
    )


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    values, where = facts["values"], facts["where"]
    place = f"[{', '.join(map(str, values['place']))}]" if values["place"] else ""
    return (
        Observation(f"{facts['index'] or facts['argument']}{place}", str(values["first"]), where),
        Observation("out of range", f"{values['count']} of {values['total']}", where),
        Observation("smallest and largest", f"{values['smallest']}, {values['largest']}", where),
        Observation("allowed", f"{facts['low']} to {facts['high']}", facts["limit"].replace("`", "")),
    )
