"""Calls, methods, attributes and variables of the environment that changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.data.changes import (
    Argument,
    Default,
    Method,
    arguments,
    changed_tasks,
    defaults,
    environment,
    methods,
    tasks,
)
from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.fixes.source import with_arguments
from tfdiag_ipython.migrate.calls import Calls, kind_of_class
from tfdiag_ipython.migrate.edits import (
    Edit,
    argument_edit,
    attribute_edit,
    keyword,
    name_edit,
    source_of,
    statement_before,
    unwrapped,
)
from tfdiag_ipython.migrate.finder import BY_HAND, Change, Finder
from tfdiag_ipython.migrate.program import Program
from tfdiag_ipython.migrate.spread import spread

if TYPE_CHECKING:
    import libcst as cst

_ENVIRONMENT = frozenset({"os.getenv", "os.putenv", *(f"os.environ.{name}" for name in ("get", "pop", "setdefault"))})


class Uses(Finder):
    """Searches what is called, and with what."""

    def __init__(self, program: Program, calls: Calls) -> None:
        super().__init__(program, calls)
        self._written: set[tuple[Any, str]] = set()  # calls, and arguments that an edit writes into them

    def calls(self) -> Iterator[Change]:
        known: dict[str, list[Argument]] = defaultdict(list)
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
                    yield from self._entry(call, word, change)
            if "pipeline" in words:
                yield from self._task(call)

    def _argument(self, call: cst.Call, word: str, change: Argument) -> Iterator[Change]:
        given = keyword(call, change.old)
        if given is None:
            return
        import libcst as cst

        line = self.program.above(call, cst.SimpleStatementLine)
        edit = argument_edit(call, change)
        more = _more(change)
        title = f"`{change.old}` of {_spoken(word, call)} {change.told}"
        name = (
            change.values.get(source_of(given.value), "").partition("=")[0] if change.edit == "replace" else change.new
        )
        if name and (call, name) in self._written:
            edit = None  # another argument of this call has become that one
        if edit is not None and name:
            self._written.add((call, name))
        edits: list[tuple[Any, Edit]] = []
        if edit is None or (change.before and line is None):
            finding = self.finding(
                given, title, change.note or f"leave one of `{change.old}` and `{change.new}` out", BY_HAND, **more
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
        yield Change(self.finding(given, title, told, Applicability.SAFE, **more), tuple(edits), needed)

    def _entry(self, call: cst.Call, word: str, change: Argument) -> Iterator[Change]:
        """The same for an argument that the call takes from a dictionary."""
        for entry in spread(self.program, call):
            if entry.name != change.old:
                continue
            more = _more(change)
            title = f"`{change.old}` of {_spoken(word, call)} {change.told}"
            others = {other.name for other in spread(self.program, call)}
            taken = keyword(call, change.new) is not None or change.new in others
            edit = entry.changed(change) if entry.own and not taken else None
            if edit is not None:
                told = f"the key `{change.new}`" if change.renamed else change.note or "leave it out"
                finding = self.finding(entry.node, title, told, Applicability.SAFE, **more)
                yield Change(finding, ((entry.node, edit),), (change.needs,) if change.needs else ())
                continue
            told = change.note or f"the key `{change.new}` in its place" if not taken else ""
            told = told or f"leave one of `{change.old}` and `{change.new}` out"
            if change.renamed and not entry.own:
                told += ": this dictionary is used elsewhere, too"
            yield Change(self.finding(entry.node, title, told, BY_HAND, **more))

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
            return Change(self.finding(call, title, told, BY_HAND, changed=True, guide=default.guide))
        finding = self.finding(call, title, f"`{written}`", Applicability.SAFE, changed=True, guide=default.guide)
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
            yield Change(self.finding(call, title, f"use {tasks()[known]}", BY_HAND))
        if known in changed_tasks():
            title = f"the {task} pipeline is the {changed_tasks()[known]} pipeline since 5.0"
            told = "its models are chat models: give a `text=` with each image"
            yield Change(self.finding(call, title, told, BY_HAND, changed=True))

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

        owner_of = "TrainingArguments" if method.of == "arguments" else f"a {method.of}"
        title = f"`.{method.old}` of {owner_of} is gone since {method.gone}"
        parent = self.program.parent(node)
        call = parent if isinstance(parent, cst.Call) and parent.func is node else None
        more = {"since": method.since if method.edit else "", "guide": method.guide}
        if method.edit == "rename":
            finding = self.finding(node, title, f"`.{method.new}`", Applicability.SAFE, **more)
            return Change(finding, ((node, attribute_edit(method.new)),))
        owner = node.value
        if method.edit == "generation":
            if not isinstance(owner, cst.Attribute) or self.resolved.kind(owner.value) != "model":
                return Change(self.finding(node, title, method.note, BY_HAND, **more))
            told = f"`{source_of(owner.value)}.generation_config.{method.old}`"
            return Change(
                self.finding(node, title, told, Applicability.SAFE, **more),
                ((owner, attribute_edit("generation_config")),),
            )
        if method.edit == "call" and call is not None and _same_call(call):
            finding = self.finding(node, title, f"`{source_of(node.value)}(…)`", Applicability.SAFE, **more)
            return Change(finding, ((call, lambda updated: updated.with_changes(func=updated.func.value)),))
        block = self.program.parent(self.program.parent(call)) if call is not None else None
        if method.edit == "target" and isinstance(block, cst.With):
            targets = _target_calls(block, source_of(node.value))
            if targets is not None:
                finding = self.finding(node, title, "`text_target=` in the calls inside it", Applicability.SAFE, **more)
                return Change(finding, (*((one, _as_target) for one in targets), (block, unwrapped)))
        return Change(self.finding(node, title, method.note, BY_HAND, **more))

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
            finding = self.finding(node, title, f"`{known[name]}`", Applicability.SAFE, changed=True, guide=guide)
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
                finding = self.finding(
                    method, title, "`num_items_in_batch=None` as its last parameter", Applicability.SAFE
                )
                yield Change(finding, ((method, _with_parameter),))


def _more(change: Argument) -> dict[str, Any]:
    """What a finding tells besides of an argument's entry; releases of other libraries are not asked for."""
    since = change.since if change.edit and change.library == "transformers" else ""
    return {"changed": change.silent, "since": since, "guide": change.guide}


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
    if word in {"model()", "tokenizer()"}:
        return f"a {word[:-2]}'s call"
    if word == "huggingface_hub":
        return f"`{source_of(call.func)}`"
    return f"`{word}`" if "." in word else word
