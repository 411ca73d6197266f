"""A point in time by which a call must return.

The databases pass the time itself, a float on `time.monotonic`, because an object costs too much in each write of some
20 µs. `Deadline` is that number with a name, for code that waits several times.
"""

from __future__ import annotations

import math
import time


class Deadline:
    """When a call must return. A call makes one, and passes it to everything that it waits for.

    ``timeout`` arguments are durations: two waits of one second each take two seconds. A deadline is shared by all waits.
    """

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at
        """The time, by `time.monotonic`."""

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline that is `seconds` from now; None: there is none."""
        return cls(math.inf if seconds is None else time.monotonic() + seconds)

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.at

    def left(self) -> float:
        """Return the seconds that remain, 0 if none do, and infinity if there is no deadline."""
        return max(self.at - time.monotonic(), 0.0)
