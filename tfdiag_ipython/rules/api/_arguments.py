"""Whose argument it is that a call does not take, where the program gives it, and the plan that changes it there."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.data.changes import Argument, arguments
from tfdiag_ipython.errors import InputError, PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.aliases import resolved
from tfdiag_ipython.fixes.cells import edit_cells, newest_versions
from tfdiag_ipython.fixes.source import calls_to, python_of
from tfdiag_ipython.migrate.edits import Edit, add_import, keyword
from tfdiag_ipython.migrate.program import Program
from tfdiag_ipython.migrate.spread import Entry, spread
from tfdiag_ipython.probe import Scene

if TYPE_CHECKING:
    import libcst as cst

MODEL = "model"
"""The table's word for loading one, whose class then complains of what `from_pretrained` handed on."""
_CALLED = re.compile(r"(?:forward|__call__|_\w+)$")
"""Methods that a program reaches by calling the object, or through another method."""


def edit_argument(
    scene: Scene,
    old: str,
    callee: str,
    on_call: Callable[[cst.Call], Edit | None],
    on_entry: Callable[[Entry], Edit | None],
    new: str = "",
    needs: str = "",
) -> Plan:
    """Change the argument in the newest cell that gives it to ``callee``: in the call, or in the dictionary that it takes it from.

    ``new`` is its new name: a call that is given both stays as it is, since which value is meant is not known. ``needs`` is a name that
    the new form uses. Raises ``PlanError`` where none of the cells gives it so.
    """
    cells = newest_versions(scene.cells)
    try:
        program = Program(cells)
    except InputError as error:
        raise PlanError(str(error)) from error
    sites: defaultdict[int, list[tuple[Any, Edit]]] = defaultdict(list)
    shared = both = False
    with resolved(scene):
        calls = list(_calls(program, old, callee))
    for call in calls:
        entries = list(spread(program, call))
        given = {entry.name for entry in entries} | {arg.keyword.value for arg in call.args if arg.keyword}
        if {old, new} <= given:
            both = True
            continue
        edit = on_call(call) if keyword(call, old) is not None else None
        if edit is not None:
            sites[program.place(call).cell].append((call, edit))
        for entry in entries:
            shared = shared or (entry.name == old and not entry.own)
            edit = on_entry(entry) if entry.name == old and entry.own else None
            if edit is not None:
                sites[program.place(entry.node).cell].append((entry.node, edit))
    if not sites:
        told = (
            f"`{old}` stands in a dictionary that is used elsewhere, too"
            if shared
            else f"`{old}` and `{new}` are both given, and only you know which value is meant"
            if both
            else f"No cell that was run gives `{old}` so"
        )
        raise PlanError(f"{told}: make the change by hand.")
    newest = max(sites)
    edits: defaultdict[Any, list[Edit]] = defaultdict(list)
    for node, edit in sites[newest]:
        edits[node].append(edit)
    new = program.edited(edits)[newest]
    if needs and needs.rpartition(".")[2] in new and not program.imports(needs, newest):
        new = add_import(new, needs)
    before = cells[newest].source
    return edit_cells(scene, lambda source: new if source == before else source)


def gives_both(source: str, old: str, new: str) -> bool:
    """Whether a call or a dictionary of the cell has both names."""
    try:
        tree = ast.parse(python_of(source) or "")
    except (SyntaxError, ValueError, RecursionError):
        return False
    names = (
        {word.arg for word in node.keywords}
        if isinstance(node, ast.Call)
        else {key.value for key in node.keys if isinstance(key, ast.Constant)}
        for node in ast.walk(tree)
        if isinstance(node, (ast.Call, ast.Dict))
    )
    return any({old, new} <= given for given in names)


def _calls(program: Program, old: str, callee: str) -> Iterator[cst.Call]:
    """The calls of the callable of this name; of a method that is reached by calling an object, the calls of objects."""
    import libcst as cst

    calls = program.nodes(cst.Call)
    if not _CALLED.match(callee):
        yield from filter(calls_to(callee), calls)
        return
    for call in calls:
        own = program.bindings(call.func) if isinstance(call.func, cst.Name) else []
        made = any(isinstance(node, (cst.FunctionDef, cst.ClassDef)) for node in own)
        if not made and not program.imported(call.func):
            yield call


def entry_for(callee: str, where: str, failure: Failure, fits: Callable[[Argument], bool]) -> Argument | None:
    """The entry of the table for a callable that complains."""
    speaks = _speaks_of_transformers(failure, callee)
    return next(
        (
            entry
            for entry in arguments()
            if fits(entry) and not entry.silent and _belongs(callee, where, entry.of) and (entry.of != MODEL or speaks)
        ),
        None,
    )


def _belongs(callee: str, where: str, owner: str) -> bool:
    """Whether the callable that complains is, by name, the one that the table speaks of or a child of it; ``where`` it was found."""
    kind = callee.replace(".__init__", "")
    if owner == "huggingface_hub":
        return where.startswith("huggingface_hub.") or kind in {"hf_hub_download", "snapshot_download"}
    if owner == "torch.optim.AdamW":
        return kind == "AdamW" and (not where or where.startswith("torch.optim."))
    if owner == "tokenizer()":
        return bool(re.search(r"Tokenizer\w*\.(?:__call__|_?(?:batch_)?encode(?:_plus)?)$", kind))
    if owner == MODEL:
        return bool(re.search(r"(?:Model|For[A-Z]\w{1,80})$", kind))
    if owner == "trainer.train":
        return kind.endswith("Trainer.train")
    return (callee == "__init__" and owner == "TrainingArguments") or kind.endswith(owner)


def _speaks_of_transformers(failure: Failure, callee: str) -> bool:
    """Whether a model class of that name is a model of Transformers: others are called `…Model`, too."""
    frames = any("transformers" in frame.file for raised in failure.chain for frame in raised.frames)
    return frames or "transformers" in failure.text or "For" in callee
