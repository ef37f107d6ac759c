"""The report that a person can paste into an issue: versions, the failure, its diagnoses and tfdiag's own log, redacted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tfdiag_ipython.diagnosis import Diagnosis
from tfdiag_ipython.failure import Failure, clip
from tfdiag_ipython.redact import redact

ASKED = "What it really was (please write it here): "
MESSAGE_LIMIT = 4_000
FRAMES_SHOWN = 30


def build_report(
    diagnoses: Sequence[Diagnosis],
    failure: Failure | None,
    versions: Mapping[str, str],
    log: Iterable[str] = (),
    *,
    wrong: str = "",
    environment: Mapping[str, str] | None = None,
) -> str:
    """The report as Markdown, redacted; ``environment`` is what :func:`tfdiag_ipython.redact.redact` takes.

    ``wrong`` is the code of a diagnosis that the person calls wrong: the report then begins with that.

    The cell's source and the values of variables are left out: they are the person's own to add.
    """
    parts = [f"# Wrong diagnosis: {wrong}\n\n{ASKED}" if wrong else "# tfdiag report"]
    parts += [_versions({**versions, **(failure.versions if failure else {})})]
    if failure is None:
        parts.append("## Failure\n\nNo cell has failed.")
    else:
        parts += [_failure(failure), _diagnoses(diagnoses)]
    lines = list(log)
    parts.append("## tfdiag's own log\n\n" + (_fenced("\n".join(lines)) if lines else "Empty."))
    return redact("\n\n".join(parts) + "\n", environment)


def _versions(versions: Mapping[str, str]) -> str:
    rows = "\n".join(f"| {name} | {version} |" for name, version in versions.items())
    return f"## Versions\n\n| what | version |\n|---|---|\n{rows}"


def _failure(failure: Failure) -> str:
    parts = [f"## Failure{f' in {failure.cell}' if failure.cell else ''}"]
    for raised in failure.chain:
        relation = f" ({raised.relation})" if raised.relation else ""
        parts.append(f"**{raised.types[0] if raised.types else 'unnamed'}**{relation}")
        parts.append(_fenced(clip(raised.message, MESSAGE_LIMIT)))
        frames = raised.frames[-FRAMES_SHOWN:]
        if frames:
            parts.append(_fenced("\n".join(f"{frame.file}:{frame.line} {frame.function}" for frame in frames)))
    return "\n\n".join(parts)


def _diagnoses(diagnoses: Sequence[Diagnosis]) -> str:
    parts = ["## Diagnosis"]
    if not diagnoses:
        parts.append("No rule knows this failure.")
    for found in diagnoses:
        parts.append(f"### {found.code} {found.name} ({found.certainty.value})")
        parts.append(_fenced(found.title))
        seen = [f"{item.what}: {item.value}{f' ({item.source})' if item.source else ''}" for item in found.evidence]
        seen += [f"not looked at: {reason}" for reason in found.unseen]
        if seen:
            parts.append(_fenced("\n".join(seen)))
        if found.fixes:
            parts.append("Fixes offered: " + ", ".join(f"{fix.id} ({fix.applicability.value})" for fix in found.fixes))
    return "\n\n".join(parts)


def _fenced(text: str) -> str:
    """A code block that nothing in the text can close."""
    longest = max((len(ticks) for ticks in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"
