"""The cells as one Python module, so that a name imported in one cell is known in the next, and what each name stands for.

A name is resolved by LibCST's scopes. One that several cells bind means what the last binding before the use says; inside a function,
where the order of calls decides, it is left unresolved.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.errors import InputError
from tfdiag_ipython.fixes.source import PYTHON_CELL_MAGICS, head_of, python_of, transform
from tfdiag_ipython.probe import Cell

if TYPE_CHECKING:
    import libcst as cst
    from libcst.metadata import BaseAssignment, Scope

LIMIT = 500_000
"""Characters of source that are read: a program of 10,000 lines, which takes half a minute."""
_MARK = "__tfdiag_cell_{}__"
_MARKED = re.compile(r"^__tfdiag_cell_(\d+)__\r?\n", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Where something stands: the cell's index, and the line in it (from 1)."""

    cell: int
    line: int


class Program:
    """The Python of some cells. ``skipped`` holds the indexes of those that cannot be read as Python."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        import libcst as cst

        if sum(len(cell.source) for cell in cells) > LIMIT:
            raise InputError(f"The program has more than {LIMIT:,} characters of source: give it in parts.")
        self.cells = tuple(cells)
        self.skipped: list[int] = []
        self._first: list[tuple[int, int]] = []  # line of the joined text before a cell's first one, and the cell
        self._end = "\r\n" if any("\r\n" in cell.source for cell in cells) else "\n"  # that of new lines, too
        joined, line = "", 0
        for index, cell in enumerate(cells):
            body = _python(cell.source)
            if body is None:
                if not _other_language(cell.source):
                    self.skipped.append(index)
                continue
            text = _MARK.format(index) + self._end + body + ("" if body.endswith("\n") else self._end)
            self._first.append((line + 1 - head_of(cell.source).count("\n"), index))
            joined += text
            line += text.count("\n")
        self.module = cst.parse_module(joined)
        self._of_kind: dict[type[Any], list[Any]] = {}

    @functools.cached_property
    def _metadata(self) -> Mapping[Any, Mapping[Any, Any]]:
        """What LibCST knows of each node; this is what takes time."""
        from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider, ScopeProvider

        wrapper = MetadataWrapper(self.module, unsafe_skip_copy=True)
        return wrapper.resolve_many([ScopeProvider, ParentNodeProvider, PositionProvider])

    @property
    def _scopes(self) -> Mapping[Any, Any]:
        from libcst.metadata import ScopeProvider

        return self._metadata[ScopeProvider]

    @property
    def _parents(self) -> Mapping[Any, Any]:
        from libcst.metadata import ParentNodeProvider

        return self._metadata[ParentNodeProvider]

    @property
    def _positions(self) -> Mapping[Any, Any]:
        from libcst.metadata import PositionProvider

        return self._metadata[PositionProvider]

    def mentions(self, words: Iterable[str]) -> bool:
        """Whether one of these words stands anywhere in the cells."""
        return any(word in cell.source for cell in self.cells for word in words)

    def place(self, node: cst.CSTNode) -> Place:
        line = self._positions[node].start.line
        first, cell = next(pair for pair in reversed(self._first) if pair[0] <= line)
        return Place(cell, line - first)

    def parent(self, node: cst.CSTNode | None) -> cst.CSTNode | None:
        found: cst.CSTNode | None = self._parents.get(node)
        return found

    def above(self, node: cst.CSTNode, kind: type[Any]) -> Any:
        """The nearest node of this kind around ``node``; ``None`` where there is none."""
        found = self.parent(node)
        while found is not None and not isinstance(found, kind):
            found = self.parent(found)
        return found

    def nodes(self, kind: type[Any]) -> list[Any]:
        """Every node of this kind, in the order of the text."""
        if kind not in self._of_kind:
            self._of_kind[kind] = [node for node in self._parents if isinstance(node, kind)]
        return self._of_kind[kind]

    def imported(self, node: cst.CSTNode) -> str:
        """The dotted name that a name or attribute chain stands for where it comes from an import; else empty."""
        from libcst.metadata import ImportAssignment, QualifiedNameSource

        scope = self._scopes.get(node)
        if scope is None or not _dotted(root_of(node)):
            return ""
        names = scope.get_qualified_names_for(node)
        if not names and self._star and not list(scope[_dotted(root_of(node))]):
            return f"{self._star}.{_dotted(node)}"
        if len(names) == 1:
            (name,) = names
            return str(name.name) if name.source is QualifiedNameSource.IMPORT else ""
        last = self._last(root_of(node), scope)
        if not isinstance(last, ImportAssignment):
            return ""
        (name,) = last.get_qualified_names_for(_dotted(node)) or [None]
        return str(name.name) if name is not None else ""

    @functools.cached_property
    def _star(self) -> str:
        """The module whose names a ``from … import *`` brings, where it is the only one; else empty."""
        import libcst as cst

        found = [one for one in self.nodes(cst.ImportFrom) if isinstance(one.names, cst.ImportStar)]
        return _dotted(found[0].module) if len(found) == 1 and not found[0].relative and found[0].module else ""

    def bindings(self, name: cst.Name) -> list[cst.CSTNode]:
        """The nodes that bind a name that is not imported: its assignment's target, its class, function or parameter."""
        scope = self._scopes.get(name)
        if scope is None:
            return []
        last = self._last(name, scope)
        found = [last] if last is not None else list(scope[name.value])
        return [node for node in (getattr(assignment, "node", None) for assignment in found) if node is not None]

    def assigned(self, name: cst.Name) -> tuple[cst.BaseExpression | None, int]:
        """What a name's only assignment gives it, and how often it is used; ``None`` where others may bind it, too."""
        import libcst as cst

        scope = self._scopes.get(name)
        found = list(scope[name.value]) if scope is not None else []
        target = self.parent(getattr(found[0], "node", None)) if len(found) == 1 else None
        statement = self.parent(target)
        if not isinstance(target, cst.AssignTarget) or not isinstance(statement, cst.Assign):
            return None, 0
        return statement.value, len(found[0].references)

    def is_global(self, name: cst.Name) -> bool:
        from libcst.metadata import GlobalScope

        scope = self._scopes.get(name)
        found = list(scope[name.value]) if scope is not None else []
        return all(isinstance(assignment.scope, GlobalScope) for assignment in found)

    def _last(self, name: cst.CSTNode, scope: Scope) -> BaseAssignment | None:
        """The last binding before a use, where both stand at the top level of cells and nothing depends on a branch."""
        import libcst as cst
        from libcst.metadata import GlobalScope

        if not isinstance(name, cst.Name) or not isinstance(scope, GlobalScope):
            return None
        line = self._positions[name].start.line
        before = [
            assignment
            for assignment in scope[name.value]
            if getattr(assignment, "node", None) in self._positions
            and self._positions[assignment.node].start.line < line  # type: ignore[attr-defined]
        ]
        if not before or any(self._depends(assignment.node) for assignment in before):  # type: ignore[attr-defined]
            return None
        return max(before, key=lambda assignment: self._positions[assignment.node].start.line)  # type: ignore[attr-defined]

    def _depends(self, node: cst.CSTNode) -> bool:
        """Whether a branch decides if this statement is run."""
        import libcst as cst

        return any(self.above(node, kind) is not None for kind in (cst.If, cst.Try, cst.For, cst.While, cst.Match))

    def guarded(self, node: cst.CSTNode, *errors: str) -> bool:
        """Whether the program itself sees to one of these errors: this stands in the body or a handler of such a ``try``."""
        import libcst as cst

        found = self.above(node, cst.Try)
        while found is not None:
            for handler in found.handlers:
                if any(error in (_code(handler.type) if handler.type is not None else "") for error in errors):
                    return True
            found = self.above(found, cst.Try)
        return False

    def imports(self, name: str, cell: int) -> bool:
        """Whether this cell or one before it imports, at its top level, a module (or its package), or a name from one."""
        import libcst as cst

        module, _, last = name.rpartition(".")
        for statement in self.nodes(cst.Import) + self.nodes(cst.ImportFrom):
            if self.place(statement).cell > cell or isinstance(statement.names, cst.ImportStar):
                continue
            if not isinstance(self.parent(self.parent(statement)), cst.Module):
                continue
            names = {alias.evaluated_name for alias in statement.names if alias.asname is None}
            if isinstance(statement, cst.ImportFrom):
                if last in names and statement.module is not None and _dotted(statement.module) == module:
                    return True
            elif not last[:1].isupper() and names & {name, name.split(".")[0]}:
                return True
        return False

    def edited(self, edits: Mapping[cst.CSTNode, Sequence[Callable[[Any], Any]]]) -> dict[int, str]:
        """The new source of each cell that changes, by its index."""
        import libcst as cst

        class Editor(cst.CSTTransformer):
            def on_leave(self, original_node: Any, updated_node: Any) -> Any:
                for edit in edits.get(original_node, ()):
                    updated_node = edit(updated_node)
                return updated_node

        parts = _MARKED.split(self.module.visit(Editor()).code)
        changed: dict[int, str] = {}
        for index, body in zip(map(int, parts[1::2]), parts[2::2], strict=True):
            source = self.cells[index].source
            old = python_of(source) or ""
            body = body if old.endswith("\n") else body[: -len(self._end)]
            if body != old:
                changed[index] = transform(source, lambda tree, new=body: cst.parse_module(new))  # type: ignore[misc]
        return changed


def root_of(node: cst.CSTNode) -> cst.CSTNode:
    """``a`` of ``a.b.c``."""
    import libcst as cst

    while isinstance(node, cst.Attribute):
        node = node.value
    return node


def _code(node: cst.CSTNode) -> str:
    import libcst as cst

    return cst.Module([]).code_for_node(node)


def _dotted(node: cst.CSTNode) -> str:
    import libcst as cst
    from libcst.helpers import get_full_name_for_node

    return get_full_name_for_node(node) or "" if isinstance(node, (cst.Name, cst.Attribute)) else ""


def _python(source: str) -> str | None:
    """The Python of a cell as far as LibCST can read it."""
    import libcst as cst

    body = python_of(source)
    try:
        if body is not None:
            cst.parse_module(body)
    except (cst.ParserSyntaxError, RecursionError):
        return None
    return body


def _other_language(source: str) -> bool:
    magics = [line[2:].split()[:1] for line in head_of(source).splitlines() if line.startswith("%%")]
    return any(magic and magic[0] not in PYTHON_CELL_MAGICS for magic in magics)
