"""Which names the statements of cells bind, read and change: what a failing line depends on, and what depends on an edit."""

from __future__ import annotations

import ast
import symtable
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfdiag_ipython.fixes.source import python_of

_COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}
_ONLY_LOOK = {"print", "display", "len", "repr", "type", "help"}
_PERHAPS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Uses:
    """What statements do with a program's variables, as the compiler resolves the names.

    ``later`` are those that the functions defined here read when they are called; ``changed`` those whose objects may be changed in
    place. ``certain`` says that what is bound is bound whatever happens: not in a branch, in a ``with`` that may swallow an error, or when
    a function defined here is called.
    """

    bound: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    certain: bool = True


def uses(nodes: Sequence[ast.stmt]) -> Uses:
    """What these statements, which stand side by side at the top level, do."""
    module = ast.Module(list(nodes), [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apart = _Generators().visit(ast.parse(ast.unparse(module)))
        table = symtable.symtable(ast.unparse(apart), "<cell>", "exec")
    bound = {one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()}
    read = {one.get_name() for one in table.get_symbols() if one.is_referenced()}
    later: set[str] = set()
    by_calls: set[str] = set()
    waiting = [(child, False) for child in table.get_children()]
    while waiting:
        scope, called = waiting.pop()
        called = called or (scope.get_type() == "function" and scope.get_name().strip("<>") not in _COMPREHENSIONS)
        outer = [one for one in scope.get_symbols() if one.is_global()]
        (later if called else read).update(one.get_name() for one in outer if one.is_referenced())
        by_calls.update(one.get_name() for one in outer if one.is_assigned())
        waiting += [(child, called) for child in scope.get_children()]
    changed, added = _changed(module)
    bound |= by_calls
    certain = not by_calls and not any(isinstance(node, _PERHAPS) for node in nodes)
    return Uses(
        frozenset(bound), frozenset(read | added), frozenset(later), frozenset(changed - bound | added), certain
    )


class _Generators(ast.NodeTransformer):
    """Makes generators of comprehensions, whose variables are else among those of the program from Python 3.12 on (PEP 709)."""

    def visit_ListComp(self, node: ast.ListComp) -> ast.GeneratorExp:
        self.generic_visit(node)
        return ast.GeneratorExp(node.elt, node.generators)

    def visit_SetComp(self, node: ast.SetComp) -> ast.GeneratorExp:
        self.generic_visit(node)
        return ast.GeneratorExp(node.elt, node.generators)

    def visit_DictComp(self, node: ast.DictComp) -> ast.GeneratorExp:
        self.generic_visit(node)
        return ast.GeneratorExp(ast.Tuple([node.key, node.value], ast.Load()), node.generators)


def _changed(module: ast.Module) -> tuple[set[str], set[str]]:
    """Names whose objects are changed or handed to a function for its own sake, and those that are added to (``x += 1``)."""
    found: set[str] = set()
    added: set[str] = set()
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            found |= _root(node)
        elif isinstance(node, ast.AugAssign):
            added |= _root(node.target)
        elif isinstance(node, ast.Expr):
            call = node.value.value if isinstance(node.value, ast.Await) else node.value
            if isinstance(call, ast.Call) and not (_root(call.func) & _ONLY_LOOK):
                given = [*call.args, *(word.value for word in call.keywords)]
                found = found.union(
                    *map(_root, given), _root(call.func) if isinstance(call.func, ast.Attribute) else ()
                )
        if not isinstance(node, _NESTED):
            waiting += ast.iter_child_nodes(node)
    return found, added


def _root(node: ast.AST) -> set[str]:
    """``a`` of ``a.b[0].c`` and of ``a.b().c``."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def groups(source: str) -> list[list[ast.stmt]]:
    """The top-level statements of a cell, those joined by ``;`` together; none when the cell is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(python_of(source) or "").body
    except (SyntaxError, ValueError, RecursionError):
        return []
    found: list[list[ast.stmt]] = []
    for node in body:
        joined = bool(found) and node.lineno <= (found[-1][-1].end_lineno or 0)
        found[-1].append(node) if joined else found.append([node])
    return found


def cell_uses(source: str) -> Uses:
    """What a whole cell does; nothing where it is not Python."""
    nodes = [node for group in groups(source) for node in group]
    try:
        return uses(nodes)
    except (SyntaxError, ValueError, RecursionError):
        return Uses()


def names_used(source: str) -> tuple[set[str], set[str]]:
    """The variables that a cell binds, and those that it or its functions read; both empty when it is not Python."""
    found = cell_uses(source)
    return set(found.bound), set(found.read | found.later)


def lines_bound(source: str) -> list[tuple[str, int]]:
    """Each name that the cell assigns outside functions, and the line; empty when the cell is not Python."""
    waiting: list[ast.AST] = [node for group in groups(source) for node in group]
    found: list[tuple[str, int]] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append((node.id, node.lineno))
        if not isinstance(node, _NESTED):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def feeding(sources: Sequence[str], line: int | None) -> list[set[int]]:
    """Of each cell the numbers of the statements (as in :func:`groups`) on which the last cell's failing line depends.

    Without a ``line`` (of the last cell's Python), whatever the last cell reads counts. A statement that cannot be read depends on nothing.
    """
    units: list[tuple[int, int, Uses]] = []
    starts: list[int] = []
    for position, source in enumerate(sources):
        for number, group in enumerate(groups(source)):
            last = position == len(sources) - 1
            if last and (line is None or _first(group) <= line <= (group[-1].end_lineno or 0)):
                starts.append(len(units))
            try:
                units.append((position, number, uses(group)))
            except (SyntaxError, ValueError, RecursionError):
                units.append((position, number, Uses()))
    makers: dict[str, list[int]] = defaultdict(list)
    for index, (_, _, found) in enumerate(units):
        for name in found.bound | found.changed:
            makers[name].append(index)
    end = max(starts, default=0)
    chosen = set(starts)
    waiting = [need for index in starts for need in _needs(units[index][2], index, end)]
    done = set(waiting)
    while waiting:
        name, before = waiting.pop()
        for index in reversed(makers[name]):
            if index >= before:
                continue
            found = units[index][2]
            if index not in chosen:
                chosen.add(index)
                new = set(_needs(found, index, end)) - done
                done |= new
                waiting += new
            if name in found.bound and found.certain and name not in found.changed:
                break
    picked: list[set[int]] = [set() for _ in sources]
    for index in chosen:
        picked[units[index][0]].add(units[index][1])
    return picked


def _first(group: Sequence[ast.stmt]) -> int:
    decorators: list[ast.expr] = getattr(group[0], "decorator_list", [])
    return min([group[0].lineno, *(node.lineno for node in decorators)])


def _needs(found: Uses, index: int, end: int) -> list[tuple[str, int]]:
    """What a statement reads, from before it; what its functions read, from before the failing line, where they are called."""
    return [*((name, index) for name in found.read), *((name, end) for name in found.later)]


def depending(sources: Sequence[str], changed: Iterable[int]) -> list[int]:
    """The numbers of the cells in ``changed``, and of those after them that read what they bind, if through functions."""
    wanted = set(changed)
    found: list[int] = []
    tainted: set[str] = set()
    functions: dict[str, frozenset[str]] = {}
    for number, source in enumerate(sources):
        seen = cell_uses(source)
        if number in wanted or _all_read(seen, functions) & tainted:
            found.append(number)
            tainted |= seen.bound
        called = seen.later.union(*(functions.get(name, ()) for name in seen.read))  # an object has its class's methods
        functions.update(dict.fromkeys(seen.bound, called))
    return found


def _all_read(seen: Uses, functions: Mapping[str, frozenset[str]]) -> set[str]:
    """What a cell reads, and what the functions read that it may call."""
    reached: set[str] = set()
    waiting = list(seen.read)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += functions.get(name, ())
    return reached
