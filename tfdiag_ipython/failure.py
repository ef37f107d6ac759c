"""What went wrong, as plain frozen data: no exception, frame, traceback or tensor is ever kept.

Extraction and display are two steps joined by these values (the habit of ``traceback.TracebackException`` and
``rich.traceback``), so that a rule can be tested without the hardware that the error needs.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, TracebackType
from typing import Any, Literal

Kind = Literal["exception", "warning", "check"]
Relation = Literal["", "cause", "context", "handled", "group", "embedded"]
"""How an exception of the chain hangs on the one before it. ``handled``: the person's own code caught it, and then raised another."""

MESSAGE_LIMIT = 64_000
"""Characters kept of one message: its head and its tail (a hostile or huge message must not stall the hook)."""
CHAIN_LIMIT = 32
FRAME_LIMIT = 200
PACKAGES = (
    "transformers",
    "torch",
    "huggingface_hub",
    "tokenizers",
    "accelerate",
    "datasets",
    "safetensors",
    "peft",
    "numpy",
    "tensorflow",
)
"""Distributions whose versions a failure records."""


@dataclass(frozen=True)
class Frame:
    """One line of a traceback: where the program was."""

    file: str
    function: str
    line: int | None = None
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"file": self.file, "function": self.function, "line": self.line, "source": self.source}


@dataclass(frozen=True)
class Raised:
    """One exception of the chain.

    ``types`` holds the qualified names of the exception's method resolution order, the class itself first
    (``("torch.OutOfMemoryError", "builtins.RuntimeError", "builtins.Exception", …)``). Stored text names only the class
    as printed, followed by its built-in bases where it is a built-in; it is empty where the text names none.
    """

    types: tuple[str, ...]
    message: str
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    relation: Relation = ""

    @property
    def name(self) -> str:
        """The class as a traceback prints it, without its module."""
        return self.types[0].rpartition(".")[2] if self.types else ""

    def is_a(self, *names: str) -> bool:
        """Whether the class or one of its bases is called so, with or without its module."""
        short = {name.rpartition(".")[2] for name in self.types}
        return any(name in self.types or ("." not in name and name in short) for name in names)

    def to_dict(self) -> dict[str, Any]:
        return {
            "types": list(self.types),
            "message": self.message,
            "notes": list(self.notes),
            "frames": [frame.to_dict() for frame in self.frames],
            "relation": self.relation,
        }


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong.

    ``chain`` starts with what the person sees last in the traceback (the exception that reached the top) and goes on to its
    causes, contexts, group members and tracebacks embedded in its message. ``source`` is the cell's source, ``cell`` its label
    (``"cell 12"``), ``text`` the whole of what was pasted. ``facts`` carries the numbers of a ``check``.
    ``stored`` says that the failure comes from text: the reader's machine is no evidence about it.
    """

    kind: Kind
    chain: tuple[Raised, ...]
    source: str = ""
    cell: str = ""
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    text: str = ""
    stored: bool = False
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def top(self) -> Raised:
        return self.chain[0]

    @property
    def frames(self) -> tuple[Frame, ...]:
        return self.top.frames

    def says(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        """The first match in any message of the chain, in the whole stored text where there is one."""
        found = (re.search(pattern, raised.message) for raised in self.chain)
        hit = next((match for match in found if match), None)
        return hit or (re.search(pattern, self.text) if self.text else None)

    def find(self, *names: str) -> Raised | None:
        """The first exception of the chain that is one of these classes (by name)."""
        return next((raised for raised in self.chain if raised.is_a(*names)), None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "chain": [raised.to_dict() for raised in self.chain],
            "source": self.source,
            "cell": self.cell,
            "versions": dict(self.versions),
            "stored": self.stored,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_exception(
        cls,
        exception: BaseException,
        *,
        source: str = "",
        cell: str = "",
        versions: Mapping[str, str] | None = None,
    ) -> Failure:
        """Extract the values of a live exception; a hostile one costs at most a placeholder in its place."""
        from tfdiag_ipython.stored import embedded_traceback

        chain = tuple(_walk(exception))
        for raised in chain:
            embedded = embedded_traceback(raised.message)
            relation: Relation = "handled" if raised.relation == "handled" else "embedded"
            inner = cls.from_text(embedded).chain if embedded else ()
            chain += tuple(replace(one, relation=relation) for one in inner)
        known = installed_versions() if versions is None else versions
        return cls("exception", chain, source=source, cell=cell, versions=MappingProxyType(dict(known)))

    @classmethod
    def from_text(cls, text: str, *, versions: Mapping[str, str] | None = None) -> Failure:
        """Read what people paste: coloured, plain or chained tracebacks, the last line only, log lines in front of it."""
        from tfdiag_ipython.stored import read_text

        return read_text(text, versions=versions)

    @classmethod
    def from_warning(
        cls, message: str, *, category: str = "builtins.UserWarning", source: str = "", cell: str = ""
    ) -> Failure:
        """A library's own warning or log line; ``category`` is the warning class or the logger's name."""
        raised = Raised((category,), clip(message))
        return cls("warning", (raised,), source=source, cell=cell, versions=MappingProxyType(installed_versions()))

    @classmethod
    def from_finding(
        cls, name: str, message: str, facts: Mapping[str, Any], *, source: str = "", cell: str = ""
    ) -> Failure:
        """A finding of a watch or a probe that no exception reports, with its numbers in ``facts``."""
        return cls(
            "check",
            (Raised((name,), clip(message)),),
            source=source,
            cell=cell,
            versions=MappingProxyType(installed_versions()),
            facts=MappingProxyType(dict(facts)),
        )


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """``text`` without NULs, at most ``limit`` characters: its head and its tail."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"
    return text.replace("\x00", "")


def qualified(kind: type) -> str:
    """``module.name`` of a class, as rules write it in ``raised``."""
    return f"{getattr(kind, '__module__', 'builtins')}.{getattr(kind, '__qualname__', str(kind))}"


def installed_versions() -> dict[str, str]:
    """Versions of the packages that matter: the loaded module's own where it is loaded, else the installed metadata."""
    import importlib.metadata  # a fifth of what loading the extension may cost

    found: dict[str, str] = {}
    for name in PACKAGES:
        loaded = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(loaded, str):
            found[name] = str(loaded)
            continue
        if name in _VERSIONS:
            version = _VERSIONS[name]
        else:
            try:
                version = importlib.metadata.version(name)
            except Exception:  # broken metadata is no reason to lose the diagnosis
                version = ""
            _VERSIONS[name] = version
        if version:
            found[name] = version
    return found


_VERSIONS: dict[str, str] = {}


def _walk(exception: BaseException) -> Iterator[Raised]:
    """The exception and all that hangs on it, breadth first, each once, at most ``CHAIN_LIMIT``."""
    seen: set[int] = set()
    queue: list[tuple[BaseException, Relation]] = [(exception, "")]
    while queue and len(seen) < CHAIN_LIMIT:
        current, relation = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield _raised(current, relation)
        handled = relation == "handled"  # so is all that hangs on it
        cause, context = _attribute(current, "__cause__"), _attribute(current, "__context__")
        if isinstance(cause, BaseException):
            queue.append((cause, "handled" if handled else "cause"))
        if isinstance(context, BaseException):  # kept when suppressed: v5 hides ProxyError there
            queue.append((context, "handled" if handled or _handled(context, current) else "context"))
        members = _attribute(current, "exceptions")
        if isinstance(members, tuple):
            found = [member for member in members if isinstance(member, BaseException)]
            queue.extend((member, "handled" if handled else "group") for member in found)


def _handled(context: BaseException, raised: BaseException) -> bool:
    """Whether the person's own ``except`` had caught ``context`` when ``raised`` was raised in it.

    Not so where a library caught it, nor in a ``finally`` or at the end of a ``with``, where it is still on its way.
    """
    trace = context.__traceback__
    if trace is None or LIBRARY.search(trace.tb_frame.f_code.co_filename):
        return False
    later = raised.__traceback__
    while later is not None and later.tb_frame is not trace.tb_frame:
        later = later.tb_next
    return later is not None and _in_handler(trace.tb_frame.f_code.co_filename, later.tb_lineno)


def _in_handler(file: str, line: int) -> bool:
    """Whether this line stands in an ``except`` clause; where the source cannot be read, it may."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return True
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    return not tree.body or any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in handlers)


def _raised(exception: BaseException, relation: Relation) -> Raised:
    kind = type(exception)
    try:
        types = tuple(qualified(base) for base in kind.__mro__ if base is not object)
    except Exception:
        types = ("builtins.BaseException",)
    notes = _attribute(exception, "__notes__")
    try:
        message = clip(str(exception))
    except BaseException as error:  # a hostile __str__ may raise anything, KeyboardInterrupt included
        message = f"<the message could not be read: __str__ raised {type(error).__name__}>"
    return Raised(
        types=types,
        message=message,
        notes=tuple(clip(note) for note in notes if isinstance(note, str)) if isinstance(notes, list) else (),
        frames=tuple(_frames(exception.__traceback__)),
        relation=relation,
    )


def _attribute(value: object, name: str) -> object:
    try:
        return getattr(value, name, None)
    except BaseException:  # properties of hostile classes may raise anything
        return None


LIBRARY = re.compile(
    rf"[\\/](?:site|dist)-packages[\\/]|^<frozen |[\\/]lib[\\/]python\d|[\\/](?:{'|'.join(PACKAGES)})[\\/]"
    rf"|^{re.escape(os.path.dirname(os.__file__))}[\\/]"
)
"""Files that are no one's own program: installed packages, the standard library, checkouts of the known libraries."""
CELL_FILE = re.compile(r"^(?:.*[\\/]ipykernel_\d+[\\/]\d+\.py|<ipython-input-\d+-\w+>)$")
"""What IPython calls a cell's file: a name that says nothing and is another one in every process."""
CELL_BODY = re.compile(r"<module>|<cell line: \d+>")
"""What a cell's own statements are called in tracebacks; the latter in some IPythons."""


def _frames(trace: TracebackType | None) -> Iterator[Frame]:
    count = 0
    while trace is not None and count < FRAME_LIMIT:
        code, line = trace.tb_frame.f_code, trace.tb_lineno
        try:
            text = linecache.getline(code.co_filename, line or 0, trace.tb_frame.f_globals).strip()
        except Exception:  # a loader of the user's own may fail to give source
            text = ""
        yield Frame(CELL_FILE.sub("<cell>", code.co_filename), code.co_name, line, text[:500])
        trace = trace.tb_next
        count += 1
