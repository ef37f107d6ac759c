"""A callable that took another's place with other defaults and fewer arguments: calls that keep their meaning, and what cannot be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.fixes.source import ALIASES, called, dotted, transform, with_arguments

if TYPE_CHECKING:
    import libcst as cst


@dataclass(frozen=True)
class Successor:
    """``defaults``: the old value of each argument whose default is another now, with its position. ``dropped``: the arguments that
    follow the ``shared`` ones and that the successor does not take, with the value that means what it always does (empty: any).
    """

    defaults: Mapping[str, tuple[int, str]]
    dropped: Mapping[str, str]
    shared: int

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Successor | None:
        """The one of an entry of the table of removed names; ``None`` where calls mean the same."""
        if "defaults" not in entry:
            return None
        defaults = {name: (int(place), str(value)) for name, (place, value) in entry["defaults"].items()}
        return cls(defaults, entry["dropped"], int(entry["shared"]))

    def adapted(self, call: cst.Call, skip: int = 0) -> cst.Call:
        """The call with the old defaults written out and without the dropped arguments; ``skip`` arguments stand before its own.

        A ``**`` argument may give them itself: they go in front of what it holds. After a ``*`` argument nothing is known.
        """
        import libcst as cst

        surplus = self._surplus(call, skip)
        args = [arg for arg in call.args if all(arg is not one for _, one in surplus)]
        if len(args) < len(call.args):
            call = call.with_changes(args=[*args[:-1], args[-1].with_changes(comma=call.args[-1].comma)])
        if any(arg.star == "*" for arg in call.args):
            return call
        given = {arg.keyword.value for arg in call.args if arg.keyword is not None}
        positional = sum(1 for arg in call.args if arg.keyword is None and not arg.star) - skip
        left = {
            name: value for name, (place, value) in self.defaults.items() if name not in given and positional <= place
        }
        spread = next((arg for arg in call.args if arg.star == "**"), None)
        if spread is None or not left:
            return with_arguments(call, left)
        held = cst.Module([]).code_for_node(spread.value)
        written = "".join(f'"{name}": {value}, ' for name, value in left.items())
        merged = spread.with_changes(value=cst.parse_expression(f"{{{written}**{held}}}"))
        return call.with_changes(args=[merged if arg is spread else arg for arg in call.args])

    def _surplus(self, call: cst.Call, skip: int) -> list[tuple[str, cst.Arg]]:
        """The arguments that the successor does not take, by name."""
        places = dict(enumerate(self.dropped, start=self.shared))
        found: list[tuple[str, cst.Arg]] = []
        position = -skip
        for arg in call.args:
            if arg.keyword is not None and arg.keyword.value in self.dropped:
                found.append((arg.keyword.value, arg))
            elif arg.keyword is None and not arg.star:
                if position in places:
                    found.append((places[position], arg))
                position += 1
        return found

    def lost(self, call: cst.Call, skip: int = 0) -> list[str]:
        """What of the call may not mean the same afterwards, in words."""
        import libcst as cst

        code = cst.Module([]).code_for_node
        gone = [(name, code(arg.value)) for name, arg in self._surplus(call, skip)]
        told = [
            f"`{name}={value}` has no counterpart and is left out"
            for name, value in gone
            if self.dropped[name] not in ("", value)
        ]
        for arg in call.args:
            if arg.star == "*":
                told.append(f"beside `*{code(arg.value)}` the new defaults hold")
            elif arg.star:
                told.append(f"`**{code(arg.value)}` may hold an argument that is gone")
        return told


class _Calls:
    """Where a cell calls ``module.old``, and how else it uses it."""

    def __init__(self, tree: cst.Module, old: str, module: str) -> None:
        import libcst as cst

        found: list[tuple[cst.Call, int]] = []
        uses: list[cst.BaseExpression] = []
        callees: list[cst.BaseExpression] = []
        imports = dict(ALIASES.get())

        def is_it(node: cst.BaseExpression) -> bool:
            root, dot, rest = dotted(node).partition(".")
            name = f"{imports.get(root, root)}{dot}{rest}"
            return name.partition(".")[0] == module and name.rpartition(".")[2] == old

        class Finder(cst.CSTVisitor):
            def visit_Import(self, node: cst.Import) -> bool:
                return False

            def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
                for alias in () if isinstance(node.names, cst.ImportStar) else node.names:
                    name = alias.evaluated_alias or alias.evaluated_name
                    imports[name] = f"{dotted(node.module) if node.module else ''}.{alias.evaluated_name}"
                return False

            def visit_Call(self, node: cst.Call) -> None:
                if is_it(node.func):
                    found.append((node, 0))
                    callees.append(node.func)
                elif called(node.func).rpartition(".")[2] == "partial" and node.args and is_it(node.args[0].value):
                    found.append((node, 1))
                    callees.append(node.args[0].value)

            def visit_Attribute(self, node: cst.Attribute) -> bool:
                if is_it(node):
                    uses.append(node)
                return not is_it(node)

            def visit_Arg(self, node: cst.Arg) -> bool:
                node.value.visit(self)
                return False  # a keyword is no use of the name

            def visit_Name(self, node: cst.Name) -> None:
                if is_it(node):
                    uses.append(node)

        tree.visit(Finder())
        self.calls = found
        self.other = [node for node in uses if all(node is not callee for callee in callees)]


def adapt_calls(source: str, old: str, module: str, successor: Successor) -> str:
    """The cell with each of its calls of ``module.old``, also those in a ``partial``, as the successor must be called."""
    import libcst as cst

    def edit(tree: cst.Module) -> cst.Module:
        calls = {id(call): skip for call, skip in _Calls(tree, old, module).calls}

        class Editor(cst.CSTTransformer):
            def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
                if id(original_node) not in calls:
                    return updated_node
                return successor.adapted(updated_node, calls[id(original_node)])

        return tree.visit(Editor())

    return transform(source, edit)


def not_kept(source: str, old: str, module: str, successor: Successor) -> list[str]:
    """What of the cell's use of ``module.old`` the successor cannot keep, in words; empty where each call means the same afterwards."""
    told: list[str] = []

    def read(tree: cst.Module) -> cst.Module:
        found = _Calls(tree, old, module)
        told.extend(one for call, skip in found.calls for one in successor.lost(call, skip))
        if found.other:
            told.append(f"where `{old}` is used here but not called, the new defaults hold")
        elif not found.calls:
            told.append("calls in other cells get the new defaults")
        return tree

    transform(source, read)
    return list(dict.fromkeys(told))
