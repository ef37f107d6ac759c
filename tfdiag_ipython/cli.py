"""The command ``tfdiag``: explain a stored traceback or notebook, migrate a program, list the rules, print a rule's page.

Exit status: 0 something was diagnosed, found or printed, 1 nothing is known of it or to be migrated, 2 bad input, with one sentence on stderr.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdiag_ipython import __version__
from tfdiag_ipython.api import is_notebook, notebook_failures, read_notebook, registry
from tfdiag_ipython.diagnosis import Diagnosis
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.errors import InputError, TfdiagError
from tfdiag_ipython.failure import Failure

FOUND, NOTHING, BAD_INPUT = 0, 1, 2
STDIN_LIMIT = 100_000_000
"""Bytes read of standard input, which may be a notebook with its pictures."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's own) and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except TfdiagError as error:
        print(f"tfdiag: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # `tfdiag rules | head` is no mistake
        sys.stderr.close()
        return FOUND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfdiag",
        description="Explains failures of Hugging Face Transformers and PyTorch programs from stored text.",
        epilog="Exit status: 0 something was diagnosed or is to be migrated, 1 nothing is, 2 bad input.",
    )
    parser.add_argument("--version", action="version", version=f"tfdiag {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    explain = commands.add_parser("explain", help="diagnose a traceback, or the errors stored in a notebook")
    explain.add_argument("file", nargs="?", default="-", help="a text file or a saved notebook; - reads standard input")
    explain.add_argument("--format", choices=("text", "json"), default="text")
    explain.set_defaults(run=_explain)

    migrate = commands.add_parser(
        "migrate", help="list what a notebook or Python file uses of what transformers 5 removed, renamed or changed"
    )
    migrate.add_argument("file", help="a notebook (.ipynb) or a Python file (.py)")
    migrate.add_argument("--diff", action="store_true", help="print the edits as a diff")
    migrate.add_argument("--write", action="store_true", help="print the diff, and change the file")
    migrate.add_argument(
        "--unsafe",
        action="store_true",
        help="also edit where it means something else then, such as PyTorch classes for TensorFlow's",
    )
    migrate.set_defaults(run=_migrate)

    rules = commands.add_parser("rules", help="list the rules")
    rules.add_argument("--format", choices=("text", "json"), default="text")
    rules.set_defaults(run=_rules)

    rule = commands.add_parser("rule", help="print a rule's page")
    rule.add_argument("code", help="a code such as CFG001, or a rule's name")
    rule.set_defaults(run=_rule)
    return parser


def _explain(options: argparse.Namespace) -> int:
    failures = _read(options.file)
    engine = Engine(registry())
    found = [(failure, engine.diagnose(failure)) for failure in failures]
    if options.format == "json":
        print(json.dumps([entry.to_dict() for _, entries in found for entry in entries], indent=2, ensure_ascii=False))
    else:
        for failure, entries in found:
            print(_told(failure, entries))
    return FOUND if any(entries for _, entries in found) else NOTHING


def _told(failure: Failure, entries: list[Diagnosis]) -> str:
    label = f"{failure.cell}: " if failure.cell else ""
    if not entries:
        return f"{label}tfdiag knows nothing about {failure.top.name or 'this text'}."
    from tfdiag_ipython.render.text import render_text

    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    return label.capitalize() + render_text(entries, width=width, color=sys.stdout.isatty())


def _migrate(options: argparse.Namespace) -> int:
    from tfdiag_ipython.migrate import migrate
    from tfdiag_ipython.migrate.files import read_program
    from tfdiag_ipython.render.migration import render_diff, render_migration

    file = read_program(options.file)
    found = migrate(file.cells)
    label = file.path.name
    if not options.diff and not options.write:
        print(render_migration(found, label=label))
    sources = found.sources(unsafe=options.unsafe)
    if sources and (options.diff or options.write):
        print(render_diff(found, sources, label=label))
    for cell in found.skipped if options.diff or options.write else ():
        where = cell.label if cell.number else label
        print(f"tfdiag: {where} is not Python that can be read, and was skipped.", file=sys.stderr)
    if options.write:
        if sources:
            file.write(sources)
        many = f"{len(found.findings)} found, {sum(1 for one in found.findings if one.by_hand)} of them to be seen to by hand"
        print(f"{'Wrote' if sources else 'Left as it is:'} {options.file}: {many}.")
    return FOUND if found.findings else NOTHING


def _read(name: str) -> list[Failure]:
    called = "Standard input" if name == "-" else name
    if name.endswith(".ipynb"):
        failures = read_notebook(name)
    else:
        text = _text(name)
        if not text.strip():
            raise InputError(f"{called} is empty: give it a traceback.")
        if not is_notebook(text):
            return [Failure.from_text(text)]
        failures = notebook_failures(text, called)
    if not failures:
        raise InputError(f"{called} holds no error output: run it, save it, and try again.")
    return failures


def _text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read(STDIN_LIMIT) if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error
    if b"\x00" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name} is not a text file: give it a traceback or a notebook.")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    return data.decode(encoding, errors="replace")


def _rules(options: argparse.Namespace) -> int:
    entries: list[dict[str, Any]] = [
        {"code": rule.code, "name": rule.name, "summary": (type(rule).__doc__ or rule.name).strip().partition("\n")[0]}
        for rule in registry()
    ]
    if options.format == "json":
        print(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        wide = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            print(f"{entry['code']}  {entry['name']:{wide}}  {entry['summary']}")
    for problem in registry().problems:
        print(f"tfdiag: the rule pack {problem.pack} was left out: {problem.reason}.", file=sys.stderr)
    return FOUND


def _rule(options: argparse.Namespace) -> int:
    print(registry().get(options.code).page())
    return FOUND
