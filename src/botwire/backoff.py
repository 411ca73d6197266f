"""The pause before a failed operation is tried again."""

from __future__ import annotations

from .deadline import Deadline

MAX_ATTEMPTS = 100
"""How often a compare-and-set is tried while other clients change the entry."""
_FIRST, _LONGEST = 0.0005, 0.1
"""The pauses of a compare-and-set, in seconds: a conflict ends with the other write."""


class Backoff:
    """Growing pauses between attempts, up to a deadline.

    Each pause is twice as long as the one before, up to `longest`. Half of it is random, so that clients that lost their
    server at the same time do not return at the same time. `first` and `longest` are in seconds.
    """

    def __init__(self, first: float, longest: float, deadline: Deadline | None = None) -> None:
        self._first = first
        self._longest = longest
        self.deadline = Deadline.after(None) if deadline is None else deadline
        self._base = first

    def next(self, at_least: float = 0.0) -> float | None:
        """Return the seconds to wait now, at least those of a ``Retry-After``; None if the deadline is earlier."""
        base = max(self._base, at_least)
        self._base = min(base * 2, self._longest)
        pause = base * (0.5 + 0.5 * _random())
        return None if pause >= self.deadline.left() else pause

    def restart(self) -> None:
        """Start again with the first pause, after a success."""
        self._base = self._first


def pause_after(attempt: int) -> float:
    """Return the seconds to wait after a conflict of a compare-and-set. The first attempt is 0."""
    # From 0 on, so that two writers do not repeat their conflict at the same time.
    return _random() * min(_LONGEST, _FIRST * 2.0**attempt)


def _random() -> float:
    import random  # most programs never need it

    return random.random()  # noqa: S311 - not a secret
