"""Everything that tfdiag raises on purpose: each message is one clear sentence saying what was wrong and what to do."""

from __future__ import annotations


def is_stop(error: BaseException) -> bool:
    """Whether the person pressed Stop or Ctrl-C; whatever else a rule, a probe or a plan raises is a fault of its own."""
    return type(error) is KeyboardInterrupt


class TfdiagError(Exception):
    """Base of tfdiag's own errors."""


class InputError(TfdiagError, ValueError):
    """The person gave something that tfdiag cannot use: a corrupt notebook, a bad option, an unreadable file."""


class UnknownCodeError(TfdiagError, LookupError):
    """A rule code that no loaded pack defines."""

    def __init__(self, code: str, nearest: tuple[str, ...] = ()) -> None:
        hint = f" Did you mean {', '.join(nearest)}?" if nearest else " `tfdiag rules` lists the known codes."
        super().__init__(f"No rule has the code {code!r}.{hint}")
        self.code = code
        self.nearest = nearest


class PlanError(TfdiagError, RuntimeError):
    """A fix cannot be worked out or carried out in this scene; the message says why and what remains to do."""


class BudgetSpent(TfdiagError, TimeoutError):
    """The time that quick probes may take together is used up."""
