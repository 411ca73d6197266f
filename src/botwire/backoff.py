"""How long to wait before an operation that failed is tried again."""

from __future__ import annotations

from .deadline import Deadline

MAX_ATTEMPTS = 100
"""How often a compare-and-set is tried while other writers are faster."""
_FIRST, _LONGEST = 0.0005, 0.1
"""The pauses of a compare-and-set, in seconds: a conflict is over as soon as the other write is."""


class Backoff:
    """Growing pauses between attempts, up to a deadline.

    Each pause is twice as long as the one before, up to `longest`. Half of it is random, so that clients that lost their
    server at the same time do not return at the same time.

    Args:
        first: the first pause in seconds.
        longest: the longest pause in seconds.
        deadline: no pause ends after it; None: there is no deadline.
    """

    def __init__(self, first: float, longest: float, deadline: Deadline | None = None) -> None:
        self._first = first
        self._longest = longest
        self.deadline = Deadline.after(None) if deadline is None else deadline
        self._base = first

    def next(self, at_least: float = 0.0) -> float | None:
        """Return how long to wait now, in seconds; None: the deadline comes first.

        Args:
            at_least: seconds for which the other side asked to be left alone, as in ``Retry-After``.
        """
        base = max(self._base, at_least)
        self._base = min(base * 2, self._longest)
        pause = base * (0.5 + 0.5 * _random())
        return None if pause >= self.deadline.left() else pause

    def restart(self) -> None:
        """Begin with the first pause again, because an attempt succeeded."""
        self._base = self._first


def pause_after(attempt: int) -> float:
    """Return how many seconds to wait after a compare-and-set that met a conflict. The first attempt is 0."""
    # Anything from no pause at all: two writers must not stay in step.
    return _random() * min(_LONGEST, _FIRST * 2.0**attempt)


def _random() -> float:
    import random  # most programs never need it

    return random.random()  # noqa: S311 - not a secret
