"""A migration as text: what was found, cell by cell, and its diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import unified_diff

from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.migrate import Finding, Migration, summary
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.render.text import line

GUIDE = "https://github.com/huggingface/transformers/blob/main/MIGRATION_GUIDE_V5.md"
_HEADS = {
    Applicability.SAFE: "Edited, and means the same",
    Applicability.UNSAFE: "Edited on request (unsafe: the program means something else)",
    Applicability.DISPLAY_ONLY: "By hand",
}


def render_migration(migration: Migration, *, label: str = "") -> str:
    """The answer in the first line, then every use with its edit; ``label`` names the one file that has no cells."""
    findings = migration.findings
    blocks = [summary(findings)]
    for applicability, head in _HEADS.items():
        found = [finding for finding in findings if finding.applicability is applicability]
        if found:
            blocks.append("\n".join([f"{head} ({len(found)})", *_rows(migration.cells, found, label)]))
    if migration.skipped:
        blocks.append(f"Skipped, because it is not Python that can be read: {_labels(migration.skipped, label)}.")
    sections = sorted({finding.guide for finding in findings if finding.guide})
    if sections:
        blocks.append(f"More: {GUIDE} ({'; '.join(sections)})")
    return "\n\n".join(blocks)


def render_diff(migration: Migration, sources: Mapping[int, str], *, label: str = "") -> str:
    """One unified diff of all cells that change."""
    parts: list[str] = []
    for index, source in sorted(sources.items()):
        cell = migration.cells[index]
        name = _label(cell, label)
        parts += unified_diff(
            cell.source.splitlines(), source.splitlines(), name, f"{name}, migrated", lineterm="", n=2
        )
    return "\n".join(parts)


def _rows(cells: Sequence[Cell], findings: Sequence[Finding], label: str) -> list[str]:
    rows = []
    for finding in findings:
        where = f"{_label(cells[finding.place.cell], label)}, line {finding.place.line}"
        due = f" (from transformers {finding.since} on)" if finding.since else ""
        rows.append(f"  {where}: {line(finding.title)}\n      → {line(finding.edit)}{due}")
    return rows


def _label(cell: Cell, label: str) -> str:
    return cell.label if cell.number else label


def _labels(cells: Sequence[Cell], label: str) -> str:
    return ", ".join(_label(cell, label) for cell in cells)
