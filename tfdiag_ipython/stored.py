"""Reads error text as people paste it, and turns it into the same values that a live exception gives.

Plain and IPython tracebacks (7 to 9; coloured or not), chains, exception groups, log lines in front, the tracebacks that a
DataLoader worker or another process writes into its parent's message, or only the last line; indented, quoted (``> ``),
between fences, or with a rank, a container's name or a time stamp in front of every line.
Every pattern takes time in proportion to the text, whatever that is (:mod:`tfdiag_ipython.growth`).
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure, Frame, Raised, Relation

TEXT_LIMIT = 400_000
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_RANK = re.compile(r"^\[(?:default|\d{1,6}:)?(?:rank)?\d{1,6}\]:[ \t]?", re.MULTILINE)
_BEGIN = re.compile(
    r"(?P<before>|.{0,199}?[^\w.])(?P<start>(?:  \+ Exception Group |Original |\w{1,80}Exception )?Traceback \(most recent call last\):[ \t]*"
    r"|(?:[A-Za-z_][\w.]{0,200}[ \t]{1,100})?Traceback \(most recent call last\)[ \t]*)"
)
"""The first line of a traceback, with what stands before it; that without a colon is IPython's."""
_FENCE = re.compile(r"[>\s]{0,40}(?:`{3,}|~{3,})[\w-]{0,40}\s*")
_GROUP_LINE = re.compile(r"^[ \t]*(?:\| ?|\+ (?=Exception Group))", re.MULTILINE)
_GROUP_RULE = re.compile(r"^[ \t]*\+-[-+ \d.]*$", re.MULTILINE)
_LINKS = re.compile(
    r"^(?P<cause>The above exception was the direct cause of the following exception:)\s*$"
    r"|^(?P<context>During handling of the above exception, another exception occurred:)\s*$",
    re.MULTILINE,
)
_START = re.compile(
    r"^[ \t]*(?P<embedded>Original )?(?:\w+Exception |Exception Group )?Traceback \(most recent call last\):?[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_IPYTHON_START = re.compile(r"^(?P<name>[\w.]+)[ \t]+Traceback \(most recent call last\):?[ \t]*$", re.MULTILINE)
_FRAME = re.compile(
    r"""^[ \t]*File\ "(?P<file>[^"\n]+)",\ line\ (?P<line>\d{1,9})(?:,\ in\ (?P<function>\S[^\n]*))?[ \t]*$
      | ^[ \t]*File\ (?P<file8>(?:[A-Za-z]:)?[^\s:"][^:"\n]*):(?P<line8>\d{1,9}),?\ in\ (?P<function8>[^\s(]+)[^\n]*$
      | ^[ \t]*(?:Cell|Input)\ In\ ?\[\d{1,9}\],(?:\ line|\ in)\ [^\n]*$
      | ^(?P<file7>(?:[A-Za-z]:)?[~/\\\w<.][^\n:]{0,400}?)\ in\ (?P<function7>[\w<>.]{1,200})(?:\([^\n]*\))?[ \t]*$""",
    re.MULTILINE | re.VERBOSE,
)
_ARROW = re.compile(r"^(?:-+> ?|[ \t]+)\d+\b", re.MULTILINE)
_NAME = r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*"
_HEADER = re.compile(rf"^(?P<name>{_NAME})(?::[ \t]+(?P<message>.*)|:?[ \t]*)$", re.DOTALL)
_FAULT = re.compile(r"(?:Error|Exception|Warning|Interrupt|Exit|Iteration|Group|Failed|Timeout|NotFound|OutOfMemory)$")
_INLINE = re.compile(
    r"(?:^|[\s:>\]])(?P<name>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)):[ \t]+(?P<message>\S.*)\Z",
    re.DOTALL,
)


def strip_ansi(text: str) -> str:
    """``text`` without terminal colour and control sequences."""
    return ANSI.sub("", text)


def embedded_traceback(message: str) -> str:
    """The traceback that another process or thread wrote into this message, or an empty string."""
    found = _START.search(message)
    return message[found.start() :] if found else ""


def read_text(text: str, *, versions: Mapping[str, str] | None = None) -> Failure:
    """The failure that ``text`` tells of; ``versions`` are those of the machine that it was written on, if known."""
    from tfdiag_ipython.failure import Failure, clip

    clean = strip_ansi(clip(text, TEXT_LIMIT)).replace("\r\n", "\n").replace("\r", "\n")
    clean = _RANK.sub("", clean)
    told = _bared(clean)
    if "Exception Group Traceback" in told:
        told = _GROUP_LINE.sub("", _GROUP_RULE.sub("", told))
    chain = _chain(told)
    return Failure(
        "exception", tuple(chain), versions=MappingProxyType(dict(versions or {})), text=clean.strip(), stored=True
    )


def _bared(text: str) -> str:
    """The text without what stands before every line of a traceback in it, and without what follows where a fence ends it."""
    kept: list[str] = []
    front: re.Pattern[str] | None = None
    fenced = begun = inside = over = False
    lines = text.split("\n")
    for number, line in enumerate(lines):
        begin = _BEGIN.fullmatch(line) if "raceback (most" in line else None
        if begin:
            front = _front(begin, lines[number + 1 : number + 9])
            begun, inside, over = True, fenced, False
            kept.append(begin["start"])
            continue
        if _FENCE.fullmatch(line):
            fenced, over, inside = not fenced, over or inside, False
            if not begun:
                continue
        found = front.match(line) if front else None
        if not over and (found or front is None):  # another line is another writer's
            kept.append(line[found.end() :] if found else line)
    return "\n".join(kept)


def _front(begin: re.Match[str], following: list[str]) -> re.Pattern[str] | None:
    """What stands before each line of this traceback, with any numbers in it; ``None`` where it is only before its first."""
    before = begin["before"]
    if not before:
        return None
    shape = "".join(
        r"\d{1,40}" if part.isdecimal() else re.escape(part) for part in re.split(r"(\d+)", before.rstrip())
    )
    blank = re.escape(before[len(before.rstrip()) :])
    front = re.compile(rf"{shape}(?:{blank}|[ \t]*$)")
    inner = next((line[found.end() :] for line in following if (found := front.match(line))), "")
    plain = begin["start"].rstrip().endswith(":")  # Python's own, whose next line is a frame, indented by two
    return front if (inner.startswith("  ") if plain else inner.strip()) else None


def _chain(text: str) -> list[Raised]:
    """The exceptions of the text: what reached the top first, then its causes, then what its message embeds."""
    from tfdiag_ipython.failure import CHAIN_LIMIT

    cuts = sorted({match.start() for match in (*_START.finditer(text), *_IPYTHON_START.finditer(text))})
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    chain: list[Raised] = []
    embedded: list[Raised] = []
    for number, piece in enumerate(pieces):
        joint = _LINKS.search(piece)
        relation: Relation = "cause" if joint and joint["cause"] else "context"
        inside = bool(number) and _is_embedded(piece, pieces[number - 1])
        body = piece[: joint.start()] if joint else piece
        raised = _read_block(body, relation="embedded" if inside else relation, only=not cuts)
        if raised is not None:
            (embedded if inside else chain).append(raised)
    ordered = [*reversed(chain), *reversed(embedded)][:CHAIN_LIMIT] or [_bare("" if cuts else text)]
    return [replace(ordered[0], relation=""), *map(_as_handled, ordered[1:])]


def _as_handled(raised: Raised) -> Raised:
    """What a frame of the person's own had caught is told from what a library had: a traceback begins where it was caught."""
    from tfdiag_ipython.failure import LIBRARY

    own = bool(raised.frames) and not LIBRARY.search(raised.frames[0].file)
    return replace(raised, relation="handled") if raised.relation == "context" and own else raised


def _is_embedded(piece: str, before: str) -> bool:
    start = _START.match(piece)
    return bool(start and start["embedded"]) or bool(re.search(r"terminated with the following error:\s*\Z", before))


def _read_block(block: str, *, relation: Relation, only: bool) -> Raised | None:
    """One traceback, or a text without any: its frames and its last exception line with the message that follows."""
    from tfdiag_ipython.failure import Raised, clip

    frames, end = _read_frames(block)
    header = _header(block[end:])
    if header is not None:
        return Raised(_types(header[0]), clip(header[1]), frames=tuple(frames), relation=relation)
    start = _IPYTHON_START.match(block)
    if start and frames:  # IPython names the class at the top, too
        return Raised(_types(start["name"]), clip(block[end:].strip()), frames=tuple(frames), relation=relation)
    rest = "\n".join(line for line in block[end:].split("\n") if not line.startswith("    ")) if frames else block
    if rest.strip() if frames else only:  # a traceback cut off before its last line tells nothing
        return replace(_bare(rest), frames=tuple(frames), relation=relation)
    return None


def _header(text: str) -> tuple[str, str] | None:
    """The exception line of a text, as name and message; what follows the line is the message's own text."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        header = _HEADER.match(line)
        if header and (_FAULT.search(header["name"]) or "." in header["name"]):
            message = "\n".join([header["message"] or "", *lines[number + 1 :]]).strip()
            return header["name"], message.removesuffix('\n"""')  # in which a pool puts what its process raised
    return None


def _bare(text: str) -> Raised:
    """A text without a traceback: a log line with an exception in it, or only a message."""
    from tfdiag_ipython.failure import Raised, clip

    text = text.strip()
    found = _INLINE.search(text)
    if found:
        return Raised(_types(found["name"]), clip(found["message"].strip()))
    name = text.rstrip(":")
    if _FAULT.search(name) and re.fullmatch(_NAME, name):
        return Raised(_types(name), "")
    return Raised((), clip(text))


def _read_frames(block: str) -> tuple[list[Frame], int]:
    from tfdiag_ipython.failure import FRAME_LIMIT, Frame

    frames: list[Frame] = []
    end = 0
    for match in _FRAME.finditer(block):
        file = match["file"] or match["file8"] or match["file7"] or "cell"
        function = match["function"] or match["function8"] or match["function7"] or "<module>"
        line = match["line"] or match["line8"]
        follow = block[match.end() :].lstrip("\n").split("\n", 1)[0]
        source = follow.strip() if follow.startswith("    ") and not _ARROW.match(follow) else ""
        frames.append(Frame(file[:1000], function.strip()[:200], int(line) if line else None, source[:500]))
        end = match.end()
    for arrow in _ARROW.finditer(block, end):  # the code lines that IPython prints under its last frame
        if _header(block[end : arrow.start()]) is not None:
            break  # a line of the message that begins with a number
        end = block.find("\n", arrow.end())
        if end < 0:
            end = len(block)
            break
    return frames[-FRAME_LIMIT:], end


def _types(name: str) -> tuple[str, ...]:
    """The printed class and, for a built-in one, its bases."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return tuple(f"builtins.{base.__name__}" for base in kind.__mro__ if base is not object)
    return (name,)
