"""The magics ``%tfdiag`` and ``%%tfdiag``, and their completion on Tab."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.utils.process import arg_split

from tfdiag_ipython.errors import TfdiagError, is_stop
from tfdiag_ipython.shell.display import ProgressLine, show_line, show_markdown, table
from tfdiag_ipython.shell.journal import fault, logger
from tfdiag_ipython.shell.observe import parse_options
from tfdiag_ipython.shell.scene import history, newest_exception
from tfdiag_ipython.shell.settings import TfdiagSettings

if TYPE_CHECKING:
    from tfdiag_ipython.probe import Evidence, Probe
    from tfdiag_ipython.registry import Registry
    from tfdiag_ipython.shell.extension import Extension


MIGRATE_OPTIONS = ["--diff", "--unsafe"]


@magics_class
class TfdiagMagics(Magics):  # type: ignore[misc]
    """The two magics of one shell."""

    def __init__(self, shell: Any, extension: Extension) -> None:
        super().__init__(shell)
        self._extension = extension
        self._commands: dict[str, Callable[[str], None]] = {
            "on": self._on,
            "off": self._off,
            "rules": self._rules,
            "explain": self._explain,
            "probe": self._probe,
            "migrate": self._migrate,
            "report": self._report,
            "wrong": self._wrong,
            "config": self._config,
        }

    @no_var_expand  # type: ignore[untyped-decorator]
    @line_cell_magic  # type: ignore[untyped-decorator]
    def tfdiag(self, line: str, cell: str | None = None) -> None:
        """What is wrong in the failing cell, the evidence, and fixes that prove themselves.

        Line magic::

            %tfdiag                         show the last diagnosis again
            %tfdiag on | off                look at failing cells, or leave them alone
            %tfdiag on | off WATCH          watch every cell for what raises nothing: %tfdiag on padding
            %tfdiag rules                   list the faults that tfdiag knows
            %tfdiag explain CODE            a rule's page: what it means, why, its fixes and their safety
            %tfdiag probe                   list the probes
            %tfdiag probe NAME [ARGUMENTS]  look at something thoroughly: %tfdiag probe padding model batch
            %tfdiag migrate                 what the cells use of what transformers 5 removed, renamed or changed, and its edits
            %tfdiag migrate --diff          the same as one diff; --unsafe adds edits that change what the program means
            %tfdiag report                  versions, the last diagnosis and tfdiag's own log, redacted, as Markdown
            %tfdiag wrong [CODE]            the last diagnosis is wrong: a report to send, and its rule stays silent from now on
            %tfdiag config                  print the settings
            %tfdiag config NAME=VALUE ...   set some: %tfdiag config panel=off ignored=MEM001,HUB002

        Cell magic, as the first line of a cell, which then runs exactly as it would without it::

            %%tfdiag [--watch NAME] [--guard] [--quiet]

        Besides exceptions it watches what raises nothing: by default everything there is a watch for. ``--watch NAME`` (or
        ``-w``) picks one, and may be repeated: ``warnings``, the libraries' own warnings; ``hub``, loads that hang; ``padding``,
        padded ids whose mask does not say so. ``--guard`` (or ``-g``) looks at indices before the PyTorch call that uses them: a
        bad one raises an IndexError, and CUDA stays alive. ``--quiet`` (or ``-q``) leaves out the line after a clean cell.

        Nothing is changed without a click, and nothing leaves this machine.
        """
        if cell is not None:
            parse_options(line)
            if not cell.strip():
                raise UsageError("%%tfdiag needs a cell to watch: put the code on the lines below it.")
            self.shell.run_cell(cell)  # called by name; IPython's own way goes through the input transformer
            return
        command, _, rest = line.strip().partition(" ")
        if not command:
            self._again()
            return
        if command not in self._commands:
            raise UsageError(f"%tfdiag has no subcommand {command!r}. {_nearest(command, self._commands)}")
        try:
            self._commands[command](rest.strip())
        except TfdiagError as error:
            raise UsageError(str(error)) from None

    def _again(self) -> None:
        last, diagnosed = self._extension.last, self._extension.diagnosed
        if last is None:
            self._say("tfdiag: no cell has failed since tfdiag was loaded.")
            return
        if not last.diagnoses:
            what = f"{last.failure.top.name or 'failure'}{f' in {last.failure.cell}' if last.failure.cell else ''}"
            ignored = ", ".join(sorted(self._extension.settings.ignored))
            silent = f" that may speak ({ignored}: ignored)" if ignored else ""
            earlier = (
                f" This was found in {diagnosed.failure.cell or 'an earlier one'}:" if diagnosed is not None else ""
            )
            self._say(f"tfdiag knows nothing about the last failure ({what}): no rule{silent} fits it.{earlier}")
        if diagnosed is not None:
            self._extension.show(diagnosed)

    def _on(self, rest: str) -> None:
        if rest:
            name = _watch("on", rest)
            self._extension.settings.watch = self._extension.settings.watch | {name}
            self._say(f"tfdiag watches every cell for {_watched(name)}, until `%tfdiag off {name}`.")
            return
        self._extension.settings.enabled = True
        self._say("tfdiag is on: it looks at every failing cell.")

    def _off(self, rest: str) -> None:
        if rest:
            name = _watch("off", rest)
            self._extension.settings.watch = self._extension.settings.watch - {name}
            self._say(f"tfdiag watches for {_watched(name)} only in cells under `%%tfdiag`.")
            return
        self._extension.settings.enabled = False
        self._say("tfdiag is off: failing cells are left alone until `%tfdiag on`.")

    def _rules(self, rest: str) -> None:
        _arguments("rules", rest)
        known = self._registry()
        ignored = self._extension.settings.ignored
        rows = [
            (rule.code, rule.name, f"{_summary(type(rule))}{' (ignored)' if rule.code in ignored else ''}")
            for rule in known
        ]
        left_out = [f"The rule pack {problem.pack} was left out: {problem.reason}." for problem in known.problems]
        self._say("\n".join([table(rows), *left_out]).strip() or "There are no rules.")

    def _explain(self, rest: str) -> None:
        (code,) = _arguments("explain", rest, "CODE")
        show_markdown(self.shell, self._registry().get(code).page())

    def _probe(self, rest: str) -> None:
        probes = self._registry().probes()
        if not rest:
            rows = [(name, f"{kind.usage or '(no arguments)'}", _summary(kind)) for name, kind in probes.items()]
            self._say(table(rows) or "There are no probes.")
            return
        name, _, arguments = rest.partition(" ")
        if name not in probes:
            raise UsageError(f"tfdiag has no probe {name!r}. {_nearest(name, probes)}")
        if arguments.strip() and not probes[name].usage:
            raise UsageError(f"The probe {name} takes no arguments; {arguments.strip()!r} was not looked at.")
        evidence = self._ask(probes[name], arguments.strip())
        if evidence is None:
            return
        if evidence.finding is not None:  # its diagnosis shows the evidence
            self._diagnose(name, evidence)
            return
        from tfdiag_ipython.render.text import with_bar

        rows = [(seen.what, with_bar(seen), seen.source) for seen in evidence.seen]
        missing = f"Not looked at: {evidence.missing}" if evidence.missing else ""
        told = "\n".join(part for part in (table(rows), missing) if part)
        self._say(told or f"The probe {name} saw nothing to report.")

    def _ask(self, kind: type[Probe], arguments: str) -> Evidence | None:
        from tfdiag_ipython.failure import Failure
        from tfdiag_ipython.fix import Progress
        from tfdiag_ipython.probe import Evidence
        from tfdiag_ipython.shell.host import ShellHost

        extension = self._extension
        host = ShellHost(extension, Failure("check", ()), None)
        scene = extension.scene(newest_exception(), None, host)
        line = ProgressLine()
        scene.progress = Progress(line)
        try:
            evidence = kind().ask(arguments, scene)
        except TfdiagError:
            raise
        except BaseException as error:
            if is_stop(error):
                raise
            fault("Probe %s failed.", kind.name)
            raise UsageError(
                f"The probe {kind.name} failed ({type(error).__name__}); `%tfdiag report` has the details."
            ) from None
        finally:
            line.end()
            scene.close()
        if not isinstance(evidence, Evidence):
            logger.error("Probe %s returned %s instead of evidence.", kind.name, type(evidence).__name__)
            raise UsageError(f"The probe {kind.name} returned nothing that can be shown.")
        return evidence

    def _diagnose(self, name: str, evidence: Evidence) -> None:
        cells = history(self.shell, self._extension.listener.ids, self._extension.listener.unstored)
        assert evidence.finding is not None
        session = self._extension.diagnose(
            evidence.finding, None, cells[-1] if cells else None, None, known={name: evidence}
        )
        if not session.diagnoses:
            self._say(table((seen.what, seen.value, seen.source) for seen in evidence.seen))

    def _migrate(self, rest: str) -> None:
        words = _split(rest)
        unknown = [word for word in words if word not in MIGRATE_OPTIONS]
        if unknown:
            raise UsageError(f"%tfdiag migrate has no option {unknown[0]!r}. {_nearest(unknown[0], MIGRATE_OPTIONS)}")
        from tfdiag_ipython.failure import Failure
        from tfdiag_ipython.probes.migration import MigrationProbe, migration_of
        from tfdiag_ipython.render.migration import render_diff, render_migration
        from tfdiag_ipython.shell.host import ShellHost

        extension = self._extension
        scene = extension.scene(None, None, ShellHost(extension, Failure("check", ()), None))
        try:
            if not scene.cells:
                self._say("tfdiag: no cell has been run yet.")
                return
            found = migration_of(scene)
            evidence = MigrationProbe().ask("", scene)
        finally:
            scene.close()
        if "--diff" in words:
            self._say(render_diff(found, found.sources(unsafe="--unsafe" in words)) or "No cell would change.")
            return
        self._say(render_migration(found))
        if evidence.finding is not None:
            cell = found.cells[-1]
            extension.diagnose(evidence.finding, None, cell, None, known={MigrationProbe.name: evidence}, told=True)

    def _report(self, rest: str) -> None:
        _arguments("report", rest)
        show_markdown(self.shell, self._extension.report(self._extension.last))

    def _wrong(self, rest: str) -> None:
        from tfdiag_ipython.render.text import silenced

        session = self._extension.diagnosed
        if session is None:
            self._say("tfdiag: there is no diagnosis that could be wrong.")
            return
        codes = [diagnosis.code for diagnosis in session.diagnoses]
        (code,) = _arguments("wrong", rest.upper(), "CODE") if rest else codes[:1]
        if code not in codes:
            raise UsageError(f"{code} is not in the last diagnosis. {_nearest(code, codes)}")
        show_markdown(self.shell, session.reject(code))
        self._say(f"tfdiag: {silenced(code)}")

    def _config(self, rest: str) -> None:
        settings = self._extension.settings
        if not rest:
            self._say(table(settings.rows()))
            return
        for word in _split(rest):
            name, equals, value = word.partition("=")
            if not equals:
                raise UsageError(f"%tfdiag config takes NAME=VALUE, such as panel=off, not {word!r}.")
            settings.change(name, value)
        unknown = sorted(settings.ignored - {rule.code for rule in self._registry()}) if settings.ignored else []
        told = f"\nThere is no rule {' and no rule '.join(unknown)}." if unknown else ""
        self._say(table(settings.rows()) + told)

    def _registry(self) -> Registry:
        return self._extension.engine().registry

    def _say(self, text: str) -> None:
        show_line(self.shell, text)


def complete(shell: Any, event: Any) -> list[str]:
    """What may follow on the line (the hook ``complete_command`` for both magics)."""
    try:
        words = event.line.split()
        before = words if event.line.endswith((" ", "\t")) else words[:-1]
        return [word for word in _following(before) if word.startswith(event.symbol)]
    except Exception:  # no completion is no reason to disturb the one who types
        fault("A completion failed.")
        return []


def _following(words: list[str]) -> Iterable[str]:
    from tfdiag_ipython.api import registry
    from tfdiag_ipython.watch import WATCHERS

    if words[:1] == ["%%tfdiag"]:
        return WATCHERS if words[-1] in {"-w", "--watch"} else ["--watch", "--guard", "--quiet"]
    if len(words) == 1:
        return ["on", "off", "rules", "explain", "probe", "migrate", "report", "wrong", "config"]
    if words[1] == "migrate":
        return MIGRATE_OPTIONS
    if words[1:] in (["on"], ["off"]):
        return WATCHERS
    if words[1] == "config":
        return [f"{name}=" for name in TfdiagSettings.names()]
    if words[1:] == ["explain"]:
        return [rule.code for rule in registry()]
    if words[1:] == ["probe"]:
        return registry().probes()
    return []


def _arguments(command: str, rest: str, *names: str) -> list[str]:
    """The arguments of a subcommand; raises ``UsageError`` with one sentence."""
    words = _split(rest)
    if len(words) != len(names):
        takes = " ".join(names) or "no arguments"
        given = f"not {' '.join(words)}" if words else "which is missing"
        raise UsageError(f"%tfdiag {command} takes {takes}, {given}.")
    return words


def _watch(command: str, rest: str) -> str:
    """The watch that is to be switched; raises ``UsageError`` with one sentence."""
    from tfdiag_ipython.watch import WATCHERS

    words = _split(rest)
    if len(words) != 1 or words[0] not in WATCHERS:
        raise UsageError(f"%tfdiag {command} cannot switch {rest!r}. {_nearest(rest, WATCHERS)}")
    return words[0]


def _watched(name: str) -> str:
    from tfdiag_ipython.watch import WATCHERS

    return WATCHERS[name]().watched


def _split(text: str) -> list[str]:
    try:
        return [str(word) for word in arg_split(text)]
    except ValueError as error:  # a quote that is not closed
        raise UsageError(f"%tfdiag cannot read {text!r}: {error}.") from None


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}."


def _summary(kind: type) -> str:
    text = (kind.__doc__ or "").strip()
    return text.splitlines()[0] if text else ""
