"""What transformers 5 removed, renamed or changed in a program: each use, and its edit.

It finds uses, not words: every name is resolved to where it comes from, so a comment, a string, another library's class or a local
function of the same name is left alone, and so is an import that the program itself guards with ``try``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.data import moved_to, table
from tfdiag_ipython.data.changes import Default, Method, arguments, defaults, environment, methods, tasks
from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.fixes.source import with_arguments, with_defaults
from tfdiag_ipython.migrate.calls import Calls, kind_of_class
from tfdiag_ipython.migrate.edits import (
    Edit,
    argument_edit,
    attribute_edit,
    import_edit,
    keyword,
    module_edit,
    name_edit,
    source_of,
    statement_before,
    unwrapped,
)
from tfdiag_ipython.migrate.program import Place, Program, root_of
from tfdiag_ipython.rules.imp._symbols import Removal, Wanted, removal

if TYPE_CHECKING:
    import libcst as cst

_LIBRARIES = frozenset({"transformers", "huggingface_hub"})
_GONE_FILES = ("modeling_tf_", "modeling_flax_")
_ENVIRONMENT = frozenset({"os.getenv", "os.putenv", *(f"os.environ.{name}" for name in ("get", "pop", "setdefault"))})
_TF = "Removal of TensorFlow and Jax"
_BY_HAND = Applicability.DISPLAY_ONLY


@dataclass(frozen=True)
class Finding:
    """One use of what changed. ``edit`` says what is written instead, or (display-only) what a person has to do."""

    place: Place
    title: str
    edit: str
    applicability: Applicability
    changed: bool = False  # runs on, and means something else
    since: str = ""  # the first minor release of transformers that takes the new form
    guide: str = ""

    @property
    def by_hand(self) -> bool:
        return self.applicability is Applicability.DISPLAY_ONLY


@dataclass(frozen=True)
class Change:
    """A finding with its edits of the tree, by node, and the names that the new form needs."""

    finding: Finding
    edits: tuple[tuple[Any, Edit], ...] = ()
    imports: tuple[str, ...] = ()


def find(program: Program, live: Mapping[str, str], *, runs_on_4: bool) -> list[Change]:
    """Every change that concerns this program, in the order of its text.

    A changed default concerns a program that was written for transformers 4: it runs there (``runs_on_4``), or uses what is gone.
    """
    if not live and not program.mentions((*_LIBRARIES, *environment())):
        return []
    finder = _Finder(program, Calls(program, live))
    changes = [*finder.imports(), *finder.chains(), *finder.calls(), *finder.attributes(), *finder.signatures()]
    old = runs_on_4 or bool(changes)
    changes += [*finder.variables(), *finder.defaults(certain=old)]
    return sorted(changes, key=lambda change: (change.finding.place.cell, change.finding.place.line))


class _Finder:
    def __init__(self, program: Program, calls: Calls) -> None:
        import libcst as cst

        self.program = program
        self.resolved = calls
        self.all_calls: list[cst.Call] = program.nodes(cst.Call)

    def _finding(self, node: cst.CSTNode, title: str, edit: str, applicability: Applicability, **more: Any) -> Finding:
        return Finding(self.program.place(node), title, edit, applicability, **more)

    # names and modules

    def imports(self) -> Iterator[Change]:
        import libcst as cst

        for line in self.program.nodes(cst.SimpleStatementLine):
            statement = line.body[0]
            if len(line.body) == 1 and isinstance(statement, cst.ImportFrom) and not statement.relative:
                module = source_of(statement.module) if statement.module is not None else ""
                ours = module.split(".")[0] in _LIBRARIES
                if ours and not isinstance(statement.names, cst.ImportStar) and not self._sees_to_it(line):
                    yield from self._import_line(line, module, list(statement.names))

    def _import_line(self, line: Any, module: str, names: list[cst.ImportAlias]) -> Iterator[Change]:
        known = [(alias, _removal(source_of(alias.name), module)) for alias in names]
        for alias, gone in known:
            if gone is None:
                continue
            old = source_of(alias.name)
            finding, has_edit = self._removed(alias, module, old, gone)
            edits: list[tuple[Any, Edit]] = []
            if has_edit:
                edits = [(line, import_edit(old, gone.new, "" if gone.module == module else gone.module))]
                if gone.new != old and alias.asname is None:
                    edits += [(use, name_edit(gone.new)) for use in self._uses(module, old)]
                edits += self._kept_defaults(module, old)
            yield Change(finding, tuple(edits))
        if not any(gone for _, gone in known):
            yield from self._moved(line, module)

    def _moved(self, line: Any, module: str) -> Iterator[Change]:
        """A module that is elsewhere now, or gone."""
        gone = any(part in module for part in _GONE_FILES)
        moved = "" if gone else moved_to(module)
        if moved:
            finding = self._finding(line, f"`{module}` is now `{moved}`", f"import from `{moved}`", Applicability.SAFE)
            yield Change(finding, ((line, module_edit(moved)),))
        elif moved is not None:
            guide = _TF if gone else ""
            yield Change(self._finding(line, f"`{module}` is gone", "nothing replaces it", _BY_HAND, guide=guide))

    def _removed(self, node: cst.CSTNode, module: str, old: str, gone: Removal) -> tuple[Finding, bool]:
        """The finding of a removed name, and whether it has an edit."""
        guide = _TF if gone.other_framework else ""
        if not gone.new or gone.calls_differ:
            told = (f"use `{gone.target}`: {gone.note}" if gone.new else gone.note) or "nothing replaces it"
            title = f"`{old}` is gone from {module.split('.')[0]} since {gone.gone}"
            return self._finding(node, title, told, _BY_HAND, guide=guide), False
        if gone.other_framework:
            told = f"`{gone.new}`, the PyTorch class; the code after it must speak PyTorch"
            title = f"`{old}` is a {gone.other_framework} class"
            return self._finding(node, title, told, Applicability.UNSAFE, guide=guide), True
        title = f"`{old}` is gone since {gone.gone}" if gone.gone else f"`{old}` is gone"
        told = f"`{gone.target}`" + (", with the old defaults written out" if old in _with_defaults() else "")
        return self._finding(node, title, told, Applicability.SAFE), True

    def chains(self) -> Iterator[Change]:
        """``transformers.AdamW`` and the like."""
        import libcst as cst

        for node in self.program.nodes(cst.Attribute):
            module, _, old = self.program.imported(node).rpartition(".")
            if module.split(".")[0] not in _LIBRARIES or self._inside_import(node) or self._sees_to_it(node):
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
                edits = ((node, name_edit(target)), *self._kept_defaults(module, old, only=node))
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
        values = {name: (int(place), str(value)) for name, (place, value) in known["defaults"].items()}
        dropped = tuple(known.get("dropped", ()))
        return [
            (call, lambda updated: with_defaults(updated, values, dropped))
            for call in self.all_calls
            if self.program.imported(call.func) == f"{module}.{old}" and (only is None or call.func is only)
        ]

    # calls

    def calls(self) -> Iterator[Change]:
        known: dict[str, list[Any]] = defaultdict(list)
        for entry in arguments():
            if entry.gone:
                known[entry.of].append(entry)
        for call in self.all_calls:
            words = self.resolved.names(call)
            if words and self.program.guarded(call, "TypeError"):
                continue
            for word in words:
                for change in known.get(word, ()):
                    yield from self._argument(call, word, change)
            if "pipeline" in words:
                yield from self._task(call)

    def _argument(self, call: cst.Call, word: str, change: Any) -> Iterator[Change]:
        given = keyword(call, change.old)
        if given is None:
            return
        import libcst as cst

        line = self.program.above(call, cst.SimpleStatementLine)
        edit = argument_edit(call, change)
        more = {"changed": change.silent, "since": change.since if change.edit else "", "guide": change.guide}
        title = f"`{change.old}` of {_spoken(word, call)} {change.told}"
        edits: list[tuple[Any, Edit]] = []
        if edit is None or (change.before and line is None):
            finding = self._finding(
                given, title, change.note or f"leave one of `{change.old}` and `{change.new}` out", _BY_HAND, **more
            )
            yield Change(finding)
            return
        edits.append((call, edit))
        told = f"`{change.new}=`" if change.edit == "rename" else "leave it out"
        written = change.values.get(source_of(given.value), "") if change.edit == "replace" else ""
        if written:
            told = f"`{written}`"
        if change.before:
            statement = change.before.format(value=source_of(given.value))
            edits.append((line, statement_before(statement)))
            told = f"`{statement}` before it"
        needed = (change.needs,) if change.needs and (written or change.before) else ()
        yield Change(self._finding(given, title, told, Applicability.SAFE, **more), tuple(edits), needed)

    def defaults(self, *, certain: bool) -> Iterator[Change]:
        """Calls that rely on a default that changed; ``certain`` says that the program was written before."""
        for call in self.all_calls:
            words = self.resolved.names(call)
            for default in defaults():
                if default.of in words and not _given(call, default) and (certain or default.edit):
                    yield self._default(call, default, certain)

    def _default(self, call: cst.Call, default: Default, certain: bool) -> Change:
        written = f"{default.argument}={default.value}"
        title = f"{_spoken(default.of, call)}: {default.note}"
        if default.edit != "keep" or not certain:
            told = f"`{written}`, if {'you need it' if certain else 'the code after it expects that'}"
            return Change(self._finding(call, title, told, _BY_HAND, changed=True, guide=default.guide))
        finding = self._finding(call, title, f"`{written}`", Applicability.SAFE, changed=True, guide=default.guide)
        values: dict[str, str | None] = {default.argument: default.value}
        return Change(finding, ((call, lambda updated: with_arguments(updated, values)),))

    def _task(self, call: cst.Call) -> Iterator[Change]:
        import libcst as cst

        given = keyword(call, "task") or (call.args[0] if call.args and call.args[0].keyword is None else None)
        if given is None or not isinstance(given.value, cst.SimpleString):
            return
        task = str(given.value.evaluated_value)
        known = "translation" if task.startswith("translation_") else task
        if known in tasks():
            title = f"the {task} pipeline is gone since 5.0"
            yield Change(self._finding(call, title, f"use {tasks()[known]}", _BY_HAND))

    # methods and attributes

    def attributes(self) -> Iterator[Change]:
        import libcst as cst

        known: dict[str, list[Method]] = defaultdict(list)
        for entry in methods():
            if not entry.back:
                known[entry.old].append(entry)
        for node in self.program.nodes(cst.Attribute):
            for method in known.get(node.attr.value, ()):
                if self.resolved.kind(node.value) == method.of:
                    yield self._method(node, method)

    def _method(self, node: cst.Attribute, method: Method) -> Change:
        import libcst as cst

        title = f"`.{method.old}` of a {method.of} is gone since {method.gone}"
        parent = self.program.parent(node)
        call = parent if isinstance(parent, cst.Call) and parent.func is node else None
        more = {"since": method.since if method.edit else "", "guide": method.guide}
        if method.edit == "rename":
            finding = self._finding(node, title, f"`.{method.new}`", Applicability.SAFE, **more)
            return Change(finding, ((node, attribute_edit(method.new)),))
        owner = node.value
        if method.edit == "generation":
            if not isinstance(owner, cst.Attribute) or self.resolved.kind(owner.value) != "model":
                return Change(self._finding(node, title, method.note, _BY_HAND, **more))
            told = f"`{source_of(owner.value)}.generation_config.{method.old}`"
            return Change(
                self._finding(node, title, told, Applicability.SAFE, **more),
                ((owner, attribute_edit("generation_config")),),
            )
        if method.edit == "call" and call is not None and _same_call(call):
            finding = self._finding(node, title, f"`{source_of(node.value)}(…)`", Applicability.SAFE, **more)
            return Change(finding, ((call, lambda updated: updated.with_changes(func=updated.func.value)),))
        block = self.program.parent(self.program.parent(call)) if call is not None else None
        if method.edit == "target" and isinstance(block, cst.With):
            targets = _target_calls(block, source_of(node.value))
            if targets is not None:
                finding = self._finding(
                    node, title, "`text_target=` in the calls inside it", Applicability.SAFE, **more
                )
                return Change(finding, (*((one, _as_target) for one in targets), (block, unwrapped)))
        return Change(self._finding(node, title, method.note, _BY_HAND, **more))

    # variables of the environment

    def variables(self) -> Iterator[Change]:
        """``os.environ["TRANSFORMERS_CACHE"]`` and the like."""
        import libcst as cst

        known = environment()
        for node in self.program.nodes(cst.SimpleString):
            name = str(node.evaluated_value)
            if name not in known or not self._is_variable(node):
                continue
            title = f"the variable {name} is ignored since 5.0"
            edit = name_edit(node.value.replace(name, known[name]))
            guide = "Environment variables"
            finding = self._finding(node, title, f"`{known[name]}`", Applicability.SAFE, changed=True, guide=guide)
            yield Change(finding, ((node, edit),))

    def _is_variable(self, node: cst.CSTNode) -> bool:
        """Whether a string stands as a key of ``os.environ``, or as the first argument of what reads or sets it."""
        import libcst as cst

        parent = self.program.parent(node)
        if isinstance(parent, cst.Index):
            owner = self.program.above(parent, cst.Subscript)
            return self.program.imported(owner.value) == "os.environ"
        call = self.program.parent(parent)
        if not isinstance(call, cst.Call) or call.args[0] is not parent:
            return False
        return self.program.imported(call.func) in _ENVIRONMENT

    # what the person's own classes must take

    def signatures(self) -> Iterator[Change]:
        """``compute_loss`` of a trainer, which is called with ``num_items_in_batch`` from 4.46 on."""
        import libcst as cst

        for made in self.program.nodes(cst.ClassDef):
            if not any(kind_of_class(self.resolved.class_of(base.value)) == "trainer" for base in made.bases):
                continue
            for method in made.body.body:
                if not isinstance(method, cst.FunctionDef) or method.name.value != "compute_loss":
                    continue
                params = method.params
                taken = {param.name.value for param in (*params.params, *params.kwonly_params)}
                if params.star_kwarg is not None or "num_items_in_batch" in taken or len(taken) < 3:
                    continue
                title = "`compute_loss` is called with `num_items_in_batch` since 4.46"
                finding = self._finding(
                    method, title, "`num_items_in_batch=None` as its last parameter", Applicability.SAFE
                )
                yield Change(finding, ((method, _with_parameter),))


def _with_defaults() -> Mapping[str, Any]:
    return {name: known for name, known in table("symbols")["removed"].items() if "defaults" in known}


def _removal(old: str, module: str) -> Removal | None:
    """What became of a name that is taken from this module; below the top level only what is known of there, too."""
    gone = removal(Wanted(old, module))
    if gone is None or "." not in module or gone.other_framework or old in table("symbols")["removed"]:
        return gone
    return gone if ".models." in module and (gone.pattern or gone.note) else None


def _given(call: cst.Call, default: Default) -> bool:
    """Whether the call says itself what the default was, or does not come to it."""
    if any(arg.star for arg in call.args) or keyword(call, default.argument) is not None:
        return True
    others = ((keyword(call, name), value) for name, value in default.unless.items())
    return any(given is not None and value in {"", source_of(given.value)} for given, value in others)


def _same_call(call: cst.Call) -> bool:
    """Whether the tokenizer itself takes this call of ``encode_plus`` as it is: further positions mean something else."""
    positional = sum(1 for arg in call.args if arg.keyword is None)
    stars = any(arg.star for arg in call.args if arg.star == "*")
    return positional <= 2 and not stars and keyword(call, "batch_text_or_text_pairs") is None


def _target_calls(block: cst.With, tokenizer: str) -> list[cst.Call] | None:
    """The tokenizer's calls in ``with tokenizer.as_target_tokenizer():``; ``None`` where the block is more than a few such calls."""
    import libcst as cst
    import libcst.matchers as m

    body = block.body
    if len(block.items) != 1 or block.items[0].asname is not None or not isinstance(body, cst.IndentedBlock):
        return None
    if body.footer or body.header.comment is not None:
        return None
    found = [node for node in m.findall(body, m.Call()) if source_of(cst.ensure_type(node, cst.Call).func) == tokenizer]
    calls = [cst.ensure_type(node, cst.Call) for node in found]
    plain = all(
        call.args and sum(arg.keyword is None for arg in call.args) == 1 and not call.args[0].star for call in calls
    )
    return calls if calls and plain else None


def _as_target(call: cst.Call) -> cst.Call:
    import libcst as cst

    no_space = cst.SimpleWhitespace("")
    first = call.args[0].with_changes(keyword=cst.Name("text_target"), equal=cst.AssignEqual(no_space, no_space))
    return call.with_changes(args=[first, *call.args[1:]])


def _with_parameter(method: cst.FunctionDef) -> cst.FunctionDef:
    import libcst as cst

    no_space = cst.SimpleWhitespace("")
    new = cst.Param(cst.Name("num_items_in_batch"), default=cst.Name("None"), equal=cst.AssignEqual(no_space, no_space))
    params = list(method.params.params)
    last = params[-1]
    params[-1] = last.with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))
    params.append(new.with_changes(comma=last.comma))
    return method.with_changes(params=method.params.with_changes(params=params))


def _spoken(word: str, call: cst.Call) -> str:
    """A word of ``changes.json`` as people say it, here."""
    if word in {"model", "auto class"}:
        return f"`{source_of(call.func)}`"
    if word == "model()":
        return "a model's call"
    return f"`{word}`" if "." in word else word
