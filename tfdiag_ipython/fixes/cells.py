"""Edit the cell that must change, wherever in the history it stands, and run it and what depends on it again."""

from __future__ import annotations

import ast
import difflib
import linecache
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tfdiag_ipython.bindings import keepable
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import CELL_FILE, Failure
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.fixes.aliases import resolved
from tfdiag_ipython.fixes.names import depending, feeding, groups, names_used
from tfdiag_ipython.fixes.source import python_of, transform
from tfdiag_ipython.probe import Cell, Scene


@dataclass(frozen=True)
class CellEdit:
    """One cell before and after."""

    cell: Cell
    source: str


class EditCells(Plan):
    """Run edited cells, and those that depend on them up to the failing one, in their order.

    Undo binds the names that these cells bind to what they were before. Only plain values are kept for that; the cells that made
    others run again as they stand. What was changed in place stays changed.
    ``fails`` says that the last of ``reruns`` is the failing cell, which made nothing.
    """

    def __init__(
        self,
        host: Host,
        edits: Sequence[CellEdit],
        reruns: Sequence[Cell],
        *,
        failure: Failure | None = None,
        note: str = "",
        undoable: bool = True,
        fails: bool = True,
    ) -> None:
        super().__init__(host, reruns=tuple(reruns), failure=failure)
        self.edits = tuple(edits)
        self.note = note
        self._in_place = not undoable
        self._made = self.reruns[:-1] if fails else self.reruns
        self._lost = lost_by(self.reruns, host)
        self._stays = sorted(self._lost - _bound(self._to_run_again(self._lost)))
        self.undoable = undoable and bool(_bound(self.reruns) - set(self._stays))

    def _to_run_again(self, lost: Iterable[str]) -> list[Cell]:
        """The cells as they stand that made the values that are not kept."""
        edited = {edit.cell.number: edit.cell for edit in self.edits}
        cells = (edited.get(cell.number, cell) for cell in self._made)
        return [cell for cell in cells if _bound([cell]) & set(lost)]

    @property
    def sources(self) -> tuple[str, ...]:
        """The new source of each edited cell, for copying or for putting into the notebook."""
        return tuple(edit.source for edit in self.edits)

    def preview(self) -> Preview:
        diffs = [diff(edit.cell.source, edit.source, edit.cell.label) for edit in self.edits]
        note = f"{self.note} {self.then_runs()} {self._takes_back()}"
        return Preview("diff", "\n".join(diffs), note.strip())

    def execute(self, progress: Progress) -> str:
        labels = ", ".join(edit.cell.label for edit in self.edits)
        return f"Used an edited copy of {labels}."

    def undo(self) -> str:
        bindings = self.bindings
        if bindings is None:
            since = (
                "Another cell was run since, and Undo might take back what it did"
                if self.forgotten
                else "Nothing was run"
            )
            raise PlanError(f"{since}: to go back, run your cells again as they were.")
        again = self._to_run_again(bindings.lost)
        told = [self.put_back(_bound(again))]
        told += [self._as_it_stands(cell) for cell in again]
        bindings.restore()  # once more: those cells bind plain values, too
        return " ".join(told).strip() or "No variable of yours had been bound anew."

    def _as_it_stands(self, cell: Cell) -> str:
        result = self.host.run(cell)
        if result.deferred:
            return f"Run {cell.label} again as it stands: {result.deferred}"
        return f"Ran {cell.label} as it stands." if result.failure is None else f"{cell.label} as it stands failed."

    def _takes_back(self) -> str:
        """What Undo can and cannot do, to be said before anything is run."""
        if self._in_place:
            return "It cannot be undone: an object of yours is changed in place."
        stays = ", ".join(f"`{name}`" for name in self._stays)
        if not self.undoable:
            return f"It cannot be undone: {stays} will be bound anew." if stays else "There will be nothing to undo."
        again = self._to_run_again(self._lost)
        cells = " and ".join(cell.label for cell in again)
        runs = f" and runs {cells} as {'it stands' if len(again) == 1 else 'they stand'}" if again else ""
        told = f"Until you run another cell, Undo binds the variables to what they were{runs}"
        told += f", but for {stays}" if stays else ""
        return f"{told}; what the cells change in place stays changed."


def _bound(cells: Iterable[Cell]) -> set[str]:
    """Names that the cells bind, as far as their source shows it."""
    return set().union(*(names_used(cell.source)[0] for cell in cells))


def lost_by(cells: Iterable[Cell], host: Host) -> set[str]:
    """Variables of which these cells, when they run, leave no value to go back to."""
    return {name for name in _bound(cells) if name in host.namespace and not keepable(host.namespace[name])}


def edit_cells(
    scene: Scene,
    change: Callable[[str], str],
    *,
    failure: Failure | None = None,
    note: str = "",
    every: bool = False,
    apart: bool = False,
    anywhere: bool = False,
    makes: str = "",
    undoable: bool = True,
    fails: bool = True,
) -> EditCells:
    """Plan the edit of the newest cell on which the failure depends and in which ``change`` changes something (``every``: of all such).

    ``apart`` says that each statement can be changed by itself: then only those are on which the failing line depends.
    ``anywhere`` says that the failure may depend on any cell: each holds memory, for example.
    ``makes`` is what the edit is to change (a variable, say) where no line failed: only what this depends on is edited.
    ``undoable=False`` says that the edited cells change an object in place, which binding names cannot take back;
    ``fails=False`` that the last cell did not fail: any cell is edited, and the last need not run again where it does not depend on it.
    Raises :class:`PlanError` when no such cell is changed by it: the code stands in an imported file, for example.
    """
    if scene.host is None or not scene.cells:
        raise PlanError("The cells that were run are not known here: make the change by hand.")
    cells = that_ended_well(scene.cells)
    with resolved(scene):
        edits = _edits(scene, cells, change, every=every, apart=apart, traced=fails and not anywhere, makes=makes)
    if not edits:
        raise PlanError(
            "The code to change stands in none of the cells that ran and on which this depends: make the change by hand."
        )
    return EditCells(
        scene.host, edits, _affected(cells, edits, fails), failure=failure, note=note, undoable=undoable, fails=fails
    )


def _edits(
    scene: Scene,
    cells: Sequence[Cell],
    change: Callable[[str], str],
    *,
    every: bool,
    apart: bool,
    traced: bool,
    makes: str,
) -> list[CellEdit]:
    """The newest cell that ``change`` changes (``every``: all); ``traced``: of those on which the last cell's failing line depends."""
    sources = [cell.source for cell in cells]
    traced = traced and bool(groups(sources[-1]))
    picked = feeding(sources, failing_line(scene)) if traced else None
    if makes:
        picked = feeding([*sources, makes], None)[:-1]
    edits: list[CellEdit] = []
    for number in reversed(range(len(cells))):
        cell = cells[number]
        wanted = None if picked is None else picked[number]
        changed = change(cell.source)
        if wanted is not None and changed != cell.source:
            changed = _where(cell.source, changed, wanted, apart, number == len(cells) - 1)
        if changed != cell.source:
            edits.insert(0, CellEdit(cell, changed))
            if not every:
                break
    return edits


def failing_line(scene: Scene) -> int | None:
    """The line of the last cell's Python in which it failed; ``None`` where the traceback is gone or does not show it."""
    trace = scene.exception.__traceback__ if scene.exception is not None else None
    body = python_of(scene.cells[-1].source)
    while trace is not None and body is not None:
        file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        if file == "<timed exec>":  # what `%%time` runs, which nobody can read back
            return line
        if file.startswith("<cell") or CELL_FILE.match(file):
            text = linecache.getline(file, line).strip()
            lines = body.splitlines()
            above = len(scene.cells[-1].source.splitlines()) - len(lines)
            fits = [one for one in (line - above, line) if 0 < one <= len(lines) and lines[one - 1].strip() == text]
            return fits[0] if fits and text else None
        trace = trace.tb_next
    return None


def _where(source: str, changed: str, wanted: set[int], apart: bool, fails: bool) -> str:
    """The change, if it concerns one of these statements; ``apart``: of these alone, and of those of the failing cell that have not run."""
    import libcst as cst

    bodies: list[list[cst.CSTNode]] = []

    def read(tree: cst.Module) -> cst.Module:
        bodies.append(list(tree.body))
        return tree

    transform(source, read)
    transform(changed, read)
    if len(bodies) < 2 or len(bodies[0]) != len(bodies[1]):  # a statement was put in
        return changed if wanted else source
    before, after = bodies
    differs = {number for number, (old, new) in enumerate(zip(before, after, strict=True)) if not old.deep_equals(new)}
    if not differs & wanted:
        return source
    if not apart:
        return changed
    kept = wanted | ({number for number in differs if number > max(wanted)} if fails else set())
    body = [after[number] if number in kept else old for number, old in enumerate(before)]
    return transform(source, lambda tree: tree.with_changes(body=body))


def asks_first(plan: Plan) -> bool:
    """Whether a safe plan is shown before it is carried out: it cannot be undone, loses a variable's value, or runs something twice."""
    return plan.changes and (not plan.undoable or bool(lost_by(plan.reruns, plan.host)) or runs_twice(plan))


def runs_twice(plan: Plan) -> bool:
    """Whether the plan's check runs again what has already run: another cell, or what ran before the failing call.

    Imports, plain constants and definitions do not count, nor does a failing line that is an import or a single call of a library.
    """
    if not plan.reruns:
        return False
    failure = plan.failure
    if failure is None or failure.kind != "exception" or len(plan.reruns) > 1:
        return True
    own = [frame for frame in failure.frames if frame.file.startswith("<cell")]
    try:
        body = ast.parse(python_of(failure.source) or "").body
    except (SyntaxError, ValueError, RecursionError):
        return True
    if len(own) != 1 or own[0].line is None:
        return True  # a function of the person's was running
    line = own[0].line
    above = [node for node in body if (node.end_lineno or node.lineno) < line]
    failing = [node for node in body if node.lineno <= line <= (node.end_lineno or node.lineno)]
    return not all(map(_does_nothing, above)) or not all(map(_is_one_step, failing))


def _does_nothing(node: ast.stmt) -> bool:
    """Whether running the statement twice is the same as running it once."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return not node.decorator_list and not any(isinstance(part, ast.Call) for part in ast.walk(node.args))
    if isinstance(node, ast.ClassDef):
        return not node.decorator_list and all(map(_does_nothing, node.body))
    constant = isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, ast.Constant)
    return constant or isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass))


def _is_one_step(node: ast.stmt) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    simple = isinstance(node, (ast.Expr, ast.Assign, ast.AnnAssign))
    return simple and sum(isinstance(part, (ast.Call, ast.Await)) for part in ast.walk(node)) == 1


def that_ended_well(cells: Sequence[Cell]) -> list[Cell]:
    """The newest versions of the cells that ended well, and the last one: another that failed would fail again."""
    return newest_versions([*(cell for cell in cells[:-1] if not cell.failed), *cells[-1:]])


def newest_versions(cells: Sequence[Cell]) -> list[Cell]:
    """The history in which a cell that was run several times stands once, where it was run last."""
    newest: dict[str, Cell] = {}
    for cell in cells:
        key = cell.id or cell.source
        newest.pop(key, None)
        newest[key] = cell
    return list(newest.values())


def _affected(cells: Sequence[Cell], edits: Sequence[CellEdit], fails: bool) -> list[Cell]:
    """The edited cells with their new source, those after them that read what they bind, and the last cell if it failed."""
    new = {edit.cell: edit.source for edit in edits}
    sources = [new.get(cell, cell.source) for cell in cells]
    again = depending(sources, [number for number, cell in enumerate(cells) if cell in new])
    if fails and again[-1] != len(cells) - 1:
        again.append(len(cells) - 1)
    return [replace(cells[number], source=sources[number]) for number in again]


def diff(before: str, after: str, label: str) -> str:
    """A unified diff of a cell's source."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{label}, as it ran", f"{label}, fixed", lineterm="", n=2
    )
    return "\n".join(lines)
