"""What a release did to an argument, a method, a default or a pipeline task: one entry of ``changes.json`` each.

The rules for live failures and ``%tfdiag migrate`` read the same entries; names and modules stand in ``symbols.json``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from tfdiag_ipython.data import table


@dataclass(frozen=True)
class Argument:
    """What became of a keyword argument of a callable."""

    of: str
    old: str = ""  # empty: it is new
    edit: str = ""  # rename, drop, replace, before; empty: by hand
    new: str = ""
    since: str = ""  # the first minor release of transformers that takes the new form
    gone: str = ""  # the first one known not to take the old
    note: str = ""  # what to write where that is more than another name
    silent: bool = False  # the old form is ignored, not refused
    ignored: str = ""  # the release from which on it is ignored, where it was refused before
    library: str = "transformers"  # whose releases these are
    values: Mapping[str, str] = field(default_factory=dict)  # source of a value → the argument to write instead
    before: str = ""  # a statement in the place of the argument
    needs: str = ""  # a name that the new form uses
    guide: str = ""  # the section of MIGRATION_GUIDE_V5.md

    @property
    def renamed(self) -> bool:
        return self.edit == "rename"

    @property
    def told(self) -> str:
        """What became of it, to be said after its name."""
        if self.renamed:
            return f"is now `{self.new}`"
        if self.silent and self.note:
            return f"is ignored: {self.note}"
        return f"is gone: {self.note or 'leave it out'}"


@dataclass(frozen=True)
class Method:
    """What became of a method or attribute of a kind of object."""

    of: str
    old: str
    edit: str = ""  # see migrate/uses.py; empty: by hand
    new: str = ""
    since: str = ""
    gone: str = ""
    back: str = ""  # the release from which on it is there again
    common: bool = False  # a word that other libraries' classes have, too
    note: str = ""
    guide: str = ""


@dataclass(frozen=True)
class Default:
    """A default that a release changed, and the argument that keeps the old one."""

    of: str
    argument: str
    value: str
    changed: str
    unless: Mapping[str, str] = field(
        default_factory=dict
    )  # arguments that make it void, with this value or (empty) any
    edit: str = ""  # keep: write the old default out
    note: str = ""
    guide: str = ""


@functools.cache
def arguments() -> tuple[Argument, ...]:
    return tuple(Argument(**entry) for entry in table("changes")["arguments"])


@functools.cache
def methods() -> tuple[Method, ...]:
    """The methods and attributes; generation parameters of a model's config, and settings of TrainingArguments, are spelt out."""
    known = table("changes")
    note = "use `model.generation_config`"
    generation = (
        Method("config", name, "generation", gone="5.0", common=True, note=note, guide="Generate")
        for name in known["generation"].split()
    )
    settings = (
        Method("arguments", one.old, "rename", one.new, one.since, one.gone, note=f"use `{one.new}`", guide=one.guide)
        for one in arguments()
        if one.of == "TrainingArguments" and one.renamed
    )
    return (*(Method(**entry) for entry in known["methods"]), *settings, *generation)


@functools.cache
def defaults() -> tuple[Default, ...]:
    return tuple(Default(**entry) for entry in table("changes")["defaults"])


def tasks() -> Mapping[str, str]:
    """Pipeline tasks that transformers 5 removed, and what does the same."""
    removed: Mapping[str, str] = table("changes")["tasks"]
    return removed


def changed_tasks() -> Mapping[str, str]:
    """Pipeline tasks that transformers 5 takes for another one, which is called in another way."""
    renamed: Mapping[str, str] = table("changes")["tasks_changed"]
    return renamed


def environment() -> Mapping[str, str]:
    """Variables that transformers 5 ignores, and those that it reads for the same."""
    renamed: Mapping[str, str] = table("changes")["environment"]
    return renamed
