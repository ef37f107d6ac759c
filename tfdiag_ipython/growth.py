"""Finds texts on which a regular expression takes more than time in proportion to their length.

Messages and pasted text are other people's: a pattern that takes the square of their length would stall the hook. The texts are made
from the pattern itself: each of its repeats, what may stand before it, and a whole match that lacks its end, over and over.
Two lengths are compared, so the speed of the machine does not matter.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tfdiag_ipython.patterns import parsed

LENGTHS = (2_500, 10_000)
"""Characters of the shorter text: the first of these on which the time can be measured; on faster machines that is the second."""
LONGER = 4
"""How many times as long the second text is: time in proportion is 4 times as much, time by the square 16 times."""
TOO_MUCH = 8.5
_MEASURABLE = 0.001
"""Seconds."""
_LETTERS = "a \n1._-A\t'\"/\\,:;()[]{}<>`@=|+*#x"
_KEPT = 3
_LETTERS_TRIED = 6
_SINGLE = {"LITERAL", "NOT_LITERAL", "ANY", "IN"}
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_CATEGORIES = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}


def grows(pattern: re.Pattern[str]) -> str:
    """A text of which repetitions take this pattern more than time in proportion, or an empty string."""
    for head, piece in sorted(_Texts(pattern).pieces, key=lambda pair: (len(pair[1]), pair)):
        made = [(length, _text(head, piece, length)) for length in LENGTHS]
        found = next((one for one in made if _seconds(pattern, one[1]) >= _MEASURABLE), None)
        if found is None:
            continue
        length, short = found
        long = _text(head, piece, length * LONGER)
        if all(_seconds(pattern, long) > TOO_MUCH * _seconds(pattern, short) for _ in range(3)):
            return f"{head!r}, then {piece!r} over and over"
    return ""


def _text(head: str, piece: str, length: int) -> str:
    return head + piece * (length // len(piece)) + "\x00"


def _seconds(pattern: re.Pattern[str], text: str) -> float:
    before = time.thread_time()
    for _ in pattern.finditer(text):
        pass
    return time.thread_time() - before


class _Texts:
    """What to repeat: ``pieces`` are pairs of a beginning and what comes after it over and over."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        tree = parsed(pattern)
        self._flags = pattern.flags
        singles = list(_singles(tree))
        written = sorted({chr(argument) for name, argument in singles if name == "LITERAL"})
        alike: dict[tuple[bool, ...], str] = {}
        for letter in (*_LETTERS, *written):  # one for all that the pattern does not tell apart
            alike.setdefault(tuple(self._takes(name, argument, letter) for name, argument in singles), letter)
        self._alphabet = list(alike.values())
        self.pieces: set[tuple[str, str]] = set()
        for whole in self._walk(tree, [""]):
            self._add("", whole)
            self._add("", whole[:-1])

    def _add(self, head: str, piece: str) -> None:
        self.pieces.add(("", f"{head}\n" if head else f"{piece}\n"))
        if piece:
            self.pieces.add((head, piece))
        for end in range(1, len(head) + 1):
            if end == len(head) or not head[end - 1].isalnum():
                self.pieces.add(("", head[:end]))

    def _walk(self, nodes: Any, starts: list[str]) -> list[str]:
        """Texts that begin with one of ``starts`` and go on with what ``nodes`` match; notes what they repeat."""
        for operation, argument in nodes:
            name = str(operation)
            if name in _SINGLE:
                letters = self._letters(name, argument)
                starts = [start + ("a" if "a" in letters else letters[0]) for start in starts]
            elif name == "SUBPATTERN":
                starts = self._walk(argument[-1], starts)
            elif name == "ATOMIC_GROUP":
                starts = self._walk(argument, starts)
            elif name == "BRANCH":
                starts = [text for branch in argument[1] for text in self._walk(branch, starts[:1])[:1]]
            elif name == "ASSERT":
                self._walk(argument[1], starts)
            elif name in _REPEATS:
                least, _, body = argument
                once = self._walk(body, starts)
                for start in starts[:2]:
                    for piece in self._repeated(body):
                        self._add(start, piece)
                starts = self._more(body, once, least) if least else [*once[:1], *starts]
            starts = list(dict.fromkeys(starts))[:_KEPT]
        return starts

    def _repeated(self, body: Any) -> list[str]:
        (name, argument), *others = [(str(operation), argument) for operation, argument in body]
        return (
            self._letters(name, argument)[:_LETTERS_TRIED] if name in _SINGLE and not others else self._walk(body, [""])
        )

    def _more(self, body: Any, once: list[str], least: int) -> list[str]:
        for _ in range(1, min(least, 40)):
            once = self._walk(body, once)
        return once

    def _letters(self, name: str, argument: Any) -> list[str]:
        found = [letter for letter in self._alphabet if self._takes(name, argument, letter)]
        return found or [chr(argument) if name == "LITERAL" else _first(argument)]

    def _takes(self, name: str, argument: Any, letter: str) -> bool:
        if name == "ANY":
            return letter != "\n" or bool(self._flags & re.DOTALL)
        if name != "IN":
            same = letter == chr(argument) or bool(
                self._flags & re.IGNORECASE and letter.lower() == chr(argument).lower()
            )
            return same == (name == "LITERAL")
        members = [(str(operation), value) for operation, value in argument]
        return any(_holds(kind, value, letter) for kind, value in members) != (members[0][0] == "NEGATE")


def _holds(kind: str, value: Any, letter: str) -> bool:
    """Whether one entry of a set of characters has this one."""
    if kind == "LITERAL":
        return letter == chr(value)
    if kind == "RANGE":
        return bool(value[0] <= ord(letter) <= value[1])
    if kind != "CATEGORY":
        return False
    *_, name = str(value).split("_")
    return bool(re.match(_CATEGORIES.get(name, "(?!)"), letter)) != ("_NOT_" in str(value))


def _first(members: Iterable[tuple[Any, Any]]) -> str:
    """A character of a set of which the alphabet has none."""
    return next(
        (
            chr(value if str(kind) == "LITERAL" else value[0])
            for kind, value in members
            if str(kind) in {"LITERAL", "RANGE"}
        ),
        "a",
    )


def _singles(nodes: Any) -> Iterator[tuple[str, Any]]:
    """What matches a single character, wherever it stands in the pattern."""
    for operation, argument in nodes:
        name = str(operation)
        if name in _SINGLE:
            yield name, argument
        elif name == "BRANCH":
            for branch in argument[1]:
                yield from _singles(branch)
        elif name in _REPEATS:
            yield from _singles(argument[2])
        elif name in {"SUBPATTERN", "ASSERT", "ASSERT_NOT"}:
            yield from _singles(argument[-1])
        elif name == "ATOMIC_GROUP":
            yield from _singles(argument)
