"""Be told when a module has been imported."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def after_import(
    name: str, told: Callable[[ModuleType], None], around: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """Call ``told`` with the module of this name: now if it is loaded, else as soon as it is while the context lasts.

    ``around`` makes the context in which the module's own code then runs.
    """
    loaded = sys.modules.get(name)
    finder = _Finder(name, told, around)
    if loaded is not None:
        told(loaded)
    else:
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.leave()


class _Finder(MetaPathFinder):
    """Stands before the others until the module is looked for, and lets them find it."""

    def __init__(
        self, name: str, told: Callable[[ModuleType], None], around: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.name = name
        self.told = told
        self.around = around

    def leave(self) -> None:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        self.leave()
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            with self.around():
                execute(module)
            with contextlib.suppress(Exception):
                self.told(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec
