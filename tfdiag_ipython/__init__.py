"""tfdiag: under every failing cell, what is wrong in this very program, the evidence, and a button that fixes it.

In a notebook or IPython: ``%load_ext tfdiag``. From Python: :func:`diagnose`, :func:`diagnose_text`, :func:`diagnose_notebook`.
Importing this package imports neither torch nor transformers nor ipywidgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Status, Verification
from tfdiag_ipython.errors import InputError, TfdiagError, UnknownCodeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import Any

    from tfdiag_ipython.watch.index_guard import IndexGuard

__version__ = "0.1.0"
__all__ = [
    "Applicability",
    "Certainty",
    "Diagnosis",
    "Fix",
    "InputError",
    "Status",
    "TfdiagError",
    "UnknownCodeError",
    "Verification",
    "diagnose",
    "diagnose_notebook",
    "diagnose_text",
    "guard",
]


def diagnose(
    exception: BaseException, *, source: str | None = None, namespace: Mapping[str, Any] | None = None
) -> list[Diagnosis]:
    """What tfdiag knows of a live exception, best first; an empty list when it knows nothing.

    ``source`` is the code that raised it (a cell's source), ``namespace`` the variables of the program; the frames of the
    exception's traceback are looked at, too. Neither is changed or kept. Raises ``InputError`` for what is no exception.
    """
    from tfdiag_ipython.api import diagnose as implementation

    return implementation(exception, source=source, namespace=namespace)


def diagnose_text(text: str, *, versions: Mapping[str, str] | None = None) -> list[Diagnosis]:
    """What tfdiag knows of a pasted traceback or message, best first; an empty list when it knows nothing.

    It is judged from what the text says alone: the packages installed here are no evidence about another machine, whose
    ``versions`` (``{"transformers": "4.25.1"}``) may be given. Fixes are display-only. Raises ``InputError`` for what is no text.
    """
    from tfdiag_ipython.api import diagnose_text as implementation

    return implementation(text, versions=versions)


def diagnose_notebook(path: str | PathLike[str]) -> list[Diagnosis]:
    """What tfdiag knows of the error outputs stored in a notebook file, in the order of its cells (``Diagnosis.cell``).

    Raises ``InputError``, with one sentence, for a file that is missing or no notebook.
    """
    from tfdiag_ipython.api import diagnose_notebook as implementation

    return implementation(path)


def guard() -> IndexGuard:
    """``with guard():`` looks at indices before the PyTorch call that uses them: a bad one raises an ``IndexError`` that names it.

    The CUDA context stays alive, because the call is not made. Raises ``InputError`` where torch is not installed.
    """
    from tfdiag_ipython.watch.index_guard import IndexGuard

    return IndexGuard()


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext tfdiag``: look at every failing cell from now on. Loading twice, or under both names, changes nothing."""
    from tfdiag_ipython.shell.extension import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext tfdiag``: leave IPython's hooks, transformers, magics and log handlers as they were before."""
    from tfdiag_ipython.shell.extension import unload

    unload(ipython)
