"""Names and modules that went, moved or were renamed: their imports, and their uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.data import moved_to, table
from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.fixes.successor import Successor
from tfdiag_ipython.migrate.edits import Edit, import_edit, module_edit, name_edit, source_of
from tfdiag_ipython.migrate.finder import BY_HAND, Change, Finder, Finding
from tfdiag_ipython.migrate.program import root_of
from tfdiag_ipython.rules.imp._symbols import Removal, Wanted, removal

if TYPE_CHECKING:
    import libcst as cst

LIBRARIES = frozenset({"transformers", "huggingface_hub"})
_GONE_FILES = ("modeling_tf_", "modeling_flax_")
_TF = "Removal of TensorFlow and Jax"


class Names(Finder):
    """Searches the imports, and chains such as ``transformers.AdamW``."""

    def imports(self) -> Iterator[Change]:
        import libcst as cst

        for statement in self.program.nodes(cst.ImportFrom):
            if statement.relative or self._sees_to_it(statement):
                continue
            if isinstance(statement.names, cst.ImportStar):
                yield from self._star(source_of(statement.module) if statement.module is not None else "")
                continue
            module = source_of(statement.module) if statement.module is not None else ""
            if module.split(".")[0] in LIBRARIES:
                yield from self._import(statement, module, list(statement.names))

    def _import(self, statement: cst.ImportFrom, module: str, names: list[cst.ImportAlias]) -> Iterator[Change]:
        import libcst as cst

        line = self.program.above(statement, cst.SimpleStatementLine)
        shared = len(line.body) > 1
        known = [(alias, _removal(source_of(alias.name), module)) for alias in names]
        for alias, gone in known:
            if gone is None:
                continue
            old = source_of(alias.name)
            finding, has_edit = self._removed(alias, module, old, gone)
            if has_edit and shared:
                told = f"{finding.edit}: put the import on a line of its own first"
                yield Change(replace(finding, edit=told, applicability=BY_HAND))
                continue
            edits: list[tuple[Any, Edit]] = []
            if has_edit:
                edits = [(line, import_edit(old, gone.new, "" if gone.module == module else gone.module))]
                if gone.new != old and alias.asname is None:
                    edits += [(use, name_edit(gone.new)) for use in self._uses(module, old)]
                kept = self._kept_defaults(module, old)
                edits += kept
                bound = source_of(alias.asname.name) if alias.asname is not None else old
                finding = self._without_counterpart(finding, old, [call for call, _ in kept])
                if old in _with_defaults() and self._used_otherwise(bound, {call for call, _ in kept}):
                    told = (
                        f"{finding.edit} where it is called here; elsewhere the new ones hold: {gone.note}"
                        if kept
                        else f"`{gone.target}`, with its own defaults: {gone.note}"
                    )
                    finding = replace(finding, edit=told, applicability=Applicability.UNSAFE)
            yield Change(finding, tuple(edits))
        if not any(gone for _, gone in known) and not shared:
            yield from self._moved(line, module)

    def _star(self, module: str) -> Iterator[Change]:
        """Names that are used, and that a ``from … import *`` brought; where each comes from only a person can write."""
        import libcst as cst

        told: set[str] = set()
        for node in self.program.nodes(cst.Name) if module in LIBRARIES else ():
            gone = _removal(node.value, module) if node.value not in told and not self._label(node) else None
            if gone is None or self._inside_import(node) or self.program.imported(node) != f"{module}.{node.value}":
                continue
            told.add(node.value)
            finding, _ = self._removed(node, module, node.value, gone)
            edit = f"import `{gone.target}`, which `import *` does not bring: {gone.note}".removesuffix(": ")
            yield Change(replace(finding, edit=edit if gone.new else finding.edit, applicability=BY_HAND))

    def _used_otherwise(self, name: str, calls: set[Any]) -> bool:
        """Whether a class is used but in these calls: passed on, called with ``*``, or bound again under a condition."""
        import libcst as cst

        plain = {call.func for call in calls if not any(arg.star for arg in call.args)}
        return any(
            node.value == name
            and node not in plain
            and not self._inside_import(node)
            and not self._label(node)
            and self.program.imported(node).split(".")[0] in {"", *LIBRARIES}
            for node in self.program.nodes(cst.Name)
        )

    def _moved(self, line: Any, module: str) -> Iterator[Change]:
        """A module that is elsewhere now, or gone."""
        gone = any(part in module for part in _GONE_FILES)
        moved = "" if gone else moved_to(module)
        if moved:
            finding = self.finding(line, f"`{module}` is now `{moved}`", f"import from `{moved}`", Applicability.SAFE)
            yield Change(finding, ((line, module_edit(moved)),))
        elif moved is not None:
            guide = _TF if gone else ""
            yield Change(self.finding(line, f"`{module}` is gone", "nothing replaces it", BY_HAND, guide=guide))

    def _removed(self, node: cst.CSTNode, module: str, old: str, gone: Removal) -> tuple[Finding, bool]:
        """The finding of a removed name, and whether it has an edit."""
        guide = _TF if gone.other_framework else ""
        if not gone.new or gone.calls_differ:
            told = (f"use `{gone.target}`: {gone.note}" if gone.new else gone.note) or "nothing replaces it"
            title = f"`{old}` is gone from {module.split('.')[0]} since {gone.gone}"
            return self.finding(node, title, told, BY_HAND, guide=guide), False
        if gone.other_framework:
            told = f"`{gone.new}`, the PyTorch class; the code after it must speak PyTorch"
            title = f"`{old}` is a {gone.other_framework} class"
            return self.finding(node, title, told, Applicability.UNSAFE, guide=guide), True
        title = f"`{old}` is gone since {gone.gone}" if gone.gone else f"`{old}` is gone"
        told = f"`{gone.target}`" + (", with the old defaults written out" if old in _with_defaults() else "")
        return self.finding(node, title, told, Applicability.SAFE), True

    def chains(self) -> Iterator[Change]:
        """``transformers.AdamW`` and the like."""
        import libcst as cst

        for node in self.program.nodes(cst.Attribute):
            module, _, old = self.program.imported(node).rpartition(".")
            if module.split(".")[0] not in LIBRARIES or self._inside_import(node) or self._sees_to_it(node):
                continue
            gone = _removal(old, module) if self.program.imported(node.value) == module else None
            if gone is None:
                continue
            finding, has_edit = self._removed(node, module, old, gone)
            root = root_of(node)
            at_hand = self.program.imported(root) == gone.module
            edits: tuple[tuple[Any, Edit], ...] = ()
            if has_edit:
                target = f"{source_of(root)}.{gone.new}" if at_hand else f"{gone.module}.{gone.new}"
                kept = self._kept_defaults(module, old, only=node)
                finding = self._without_counterpart(finding, old, [call for call, _ in kept])
                edits = ((node, name_edit(target)), *kept)
            yield Change(finding, edits, (gone.module,) if edits and not at_hand else ())

    def _uses(self, module: str, old: str) -> list[cst.Name]:
        import libcst as cst

        found = []
        for node in self.program.nodes(cst.Name):
            if node.value != old or self._inside_import(node) or self._label(node):
                continue
            if self.program.imported(node) == f"{module}.{old}":
                found.append(node)
        return found

    def _sees_to_it(self, node: cst.CSTNode) -> bool:
        """Whether the program is ready for the name to be missing."""
        return self.program.guarded(node, "ImportError", "ModuleNotFoundError", "AttributeError", "Exception")

    def _inside_import(self, node: cst.CSTNode) -> bool:
        import libcst as cst

        return self.program.above(node, cst.ImportFrom) is not None or self.program.above(node, cst.Import) is not None

    def _label(self, node: cst.CSTNode) -> bool:
        """Whether a name is an attribute's or a keyword's, not a variable."""
        import libcst as cst

        parent = self.program.parent(node)
        name = parent.attr if isinstance(parent, cst.Attribute) else getattr(parent, "keyword", None)
        return name is node

    def _kept_defaults(self, module: str, old: str, only: Any = None) -> list[tuple[Any, Edit]]:
        """The calls of a moved class whose successor has other defaults, with the old ones written out."""
        known = _with_defaults().get(old)
        if known is None:
            return []
        return [
            (call, known.adapted)
            for call in self.all_calls
            if self.program.imported(call.func) == f"{module}.{old}" and (only is None or call.func is only)
        ]

    def _without_counterpart(self, finding: Finding, old: str, calls: list[Any]) -> Finding:
        """The finding, which is no longer the same where a call passes something that the successor does not take."""
        lost = [told for call in calls for told in _with_defaults()[old].lost(call)]
        if not lost:
            return finding
        told = "; ".join([finding.edit, *dict.fromkeys(lost)])
        return replace(finding, edit=told, applicability=Applicability.UNSAFE)


def _with_defaults() -> Mapping[str, Successor]:
    known = {name: Successor.of(entry) for name, entry in table("symbols")["removed"].items()}
    return {name: successor for name, successor in known.items() if successor is not None}


def _removal(old: str, module: str) -> Removal | None:
    """What became of a name that is taken from this module; below the top level only what is known of there, too."""
    gone = removal(Wanted(old, module))
    if gone is None or "." not in module or gone.other_framework or old in table("symbols")["removed"]:
        return gone
    return gone if ".models." in module and (gone.pattern or gone.note) else None
