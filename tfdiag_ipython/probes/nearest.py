"""Which existing name was meant by one that does not exist: the right one, or none.

All rules that guess a name do it here. The measure is the optimal string alignment distance: letters put in, left out, changed, or swapped
with their neighbour. It counts slips of the fingers, where the likeness of ``difflib`` finds words that share letters (``astype``, ``type``).
"""

from __future__ import annotations

import builtins
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from tfdiag_ipython.data import table

SHORT, LONG = 4, 10
"""Letters from which on a name may be one, and two, slips away. In a shorter one a slip makes another word (``len``, ``le``; two in eight
letters make ``nelement`` of ``elements``). Three slips are never taken for one name: names that mean different things are three letters
apart (``min_new_tokens``, ``max_new_tokens`` are two, and then both are near).
"""
MOST = 2
WORD = 6
"""Letters from which on a word with one letter changed is no other word of English."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_KIND = re.compile(
    r"(?P<stem>\w*?)(?P<kind>For[A-Z]\w+|(?:PreTrained|LMHead)?Model|Config|Tokenizer(?:Fast)?|(?:Image|Video)?Processor(?:Fast)?"
    r"|FeatureExtractor|Pipeline)"
)


@dataclass(frozen=True)
class Guess:
    """The names that are fewest slips away, at most three, and whether it can only be the first."""

    names: tuple[str, ...] = ()
    sure: bool = False
    slips: int = MOST + 1

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def told(self) -> str:
        """The names as a question names them."""
        return " or ".join(f"`{name}`" for name in self.names)


def guess(asked: str, known: Iterable[str]) -> Guess:
    """What was meant by ``asked``, of the ``known`` names.

    A name that differs only in capitals is nearest; capitals decide between two that differ from each other in nothing else (``tensor``,
    ``Tensor``). Names with other digits or another label are other things (``Llama4Model``, ``k_proj``, ``layer_b``), and of two names of
    one kind (``…Tokenizer``) what stands in front must be alike. It is not sure between names equally near, nor of a word of its own.
    """
    plain, letters = asked.lower(), set(asked.lower())
    best, near, nearest_other = MOST, set[str](), MOST + 1
    for name in known:
        if abs(len(name) - len(asked)) > best or name == asked:
            continue
        other = name.lower()
        if len(letters.symmetric_difference(other)) > 2 * best:
            continue
        slips = distance(plain, other, best)
        if slips > best:
            continue
        if slips and (slips > _bound(asked, name) or _other_label(asked, name)):
            nearest_other = min(nearest_other, slips)
            continue
        near = {*near, name} if slips == best else {name}
        best = slips
    if not near:
        return Guess()
    spelt = {name: distance(asked, name, len(asked) + best) for name in near}
    order = sorted(near, key=lambda name: (spelt[name], name))
    alone = len({name.lower() for name in near}) == 1 and (len(order) == 1 or spelt[order[0]] < spelt[order[1]])
    sure = alone and best < nearest_other and not _own_word(asked, order[0], best)
    return Guess(tuple(order[:3]), sure, best)


def _own_word(asked: str, name: str, slips: int) -> bool:
    """Whether ``asked`` may well be no slip but another word.

    Python or another library has it (``items``); an underscore at an end is what differs, which to torch is another method (``copy_`` writes
    in place); it begins with another letter, where people seldom slip (``vconcat``); a class was asked for and no function or module
    (``nn.Attention``, ``nn.attention``); one letter of a short word is another (``close``, ``clone``), or two of one word of a longer name
    (``save_model``, ``base_model``).
    """
    if home(asked) or (asked[0] == "_", asked[-1] == "_") != (name[0] == "_", name[-1] == "_"):
        return True
    if (slips and asked[0] != name[0]) or (asked[0].isupper() and name[0].islower()):
        return True
    plain, other = asked.lower(), name.lower()
    changed = len(plain) == len(other) and sum(a != b for a, b in zip(plain, other, strict=True))
    if slips == 1 and changed == 1 and len(plain) < WORD:
        return True
    pairs = [(a, b) for a, b in zip(plain.split("_"), other.split("_"), strict=False) if a != b]
    return slips == 2 and plain.count("_") == other.count("_") and len(pairs) == 1 and min(map(len, pairs[0])) < LONG


def home(word: str) -> str:
    """The library from which people know this name of a function or method, ``Python`` included; empty for other words."""
    return _homes().get(word, "")


@functools.cache
def _homes() -> Mapping[str, str]:
    own = {name for kind in (builtins, str, list, dict, set, int) for name in dir(kind)}
    others: Mapping[str, str] = table("other_names")["names"]
    return {name: library for library, names in others.items() for name in names.split()} | dict.fromkeys(own, "Python")


def with_a_word(asked: str, known: Iterable[str]) -> Guess:
    """The names that have one word more (``max_new_tokens`` for ``max_tokens``): never sure, since the word has its meaning."""
    words = asked.split("_")
    longer = (name.split("_") for name in known if len(words) > 1 and name.count("_") == len(words))
    found = sorted(
        "_".join(other) for other in longer if any(other[:at] + other[at + 1 :] == words for at in range(len(other)))
    )
    return Guess(tuple(found)) if len(found) <= 3 else Guess()


def distance(one: str, other: str, most: int = MOST) -> int:
    """Slips between two words; ``most + 1`` where there are more than ``most``."""
    for _ in range(2):  # what both begin with, then what both end with, is left out
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
        one, other = one[same:][::-1], other[same:][::-1]
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        earlier, before, row = before, row, [i] + [most + 1] * len(other)
        for j in range(max(1, i - most), min(len(other), i + most) + 1):  # farther off there are more slips
            counterpart = other[j - 1]
            slips = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != counterpart))
            if i > 1 and j > 1 and (letter, one[i - 2]) == (other[j - 2], counterpart):
                slips = min(slips, earlier[j - 2] + 1)
            row[j] = slips
        if min(*row, *before) > most:
            return most + 1
    return min(row[-1], most + 1)


def _bound(asked: str, name: str) -> int:
    """Slips that may lie between the two, by the length of what tells them apart."""
    one, two = _KIND.fullmatch(asked), _KIND.fullmatch(name)
    if one and two and one["kind"] == two["kind"]:
        asked, name = one["stem"], two["stem"]
    length = min(len(asked), len(name))
    return (length >= SHORT) + (length >= LONG)


def _other_label(asked: str, name: str) -> bool:
    """Whether the two differ in a number or in a part of one or two letters, which people count and tell things apart with."""
    one, two = ([word.lower() for word in _WORDS.findall(each)] for each in (asked, name))
    if [word for word in one if word.isdigit()] != [word for word in two if word.isdigit()]:
        return True
    if len(one) == len(two):
        return any(a != b and min(len(a), len(b)) <= 2 for a, b in zip(one, two, strict=True))
    less, more = sorted((one, two), key=len)
    return any(len(word) <= 2 and more[:at] + more[at + 1 :] == less for at, word in enumerate(more))
