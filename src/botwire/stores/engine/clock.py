"""The time of a store: the wall clock's, as long as that moves forwards.

What has expired must not come back when the wall clock is set back, and no new entry may be lost because the clock was once
too far ahead. So a store knows the latest time that it has used. While the wall clock is a little earlier than that, the
store's time stops until the wall clock reaches it. If it is much earlier, the store first removes what had expired by then
(`Clock.is_behind`), and continues from the new time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TOLERANCE = 10_000_000
"""How much earlier the wall clock may be before the store follows it, in microseconds."""
SAVE_INTERVAL = 10_000_000
"""How often a store that writes saves the latest time, in microseconds."""
_RESPONSES_KEPT = 600.0
"""Seconds for which responses are kept for their idempotency keys."""


class Clock:
    """Time in microseconds since 1970, and what a store must remember of it. `wall_ns` is the wall clock, in nanoseconds."""

    def __init__(self, wall_ns: Callable[[], int]) -> None:
        self._wall_ns = wall_ns
        self.latest = 0
        self.saved = 0
        """The latest time that is on disk."""
        self.turns = 0
        """How often the file's time has been set back. Another process may have done it already."""
        self.is_behind = False
        """Whether the wall clock is so much earlier that what had expired must be removed now."""
        self._seen = self.wall(), time.monotonic()
        self._jumped = -_RESPONSES_KEPT

    def wall(self) -> int:
        """Return the wall clock's time, in microseconds."""
        return self._wall_ns() // 1000

    def now(self) -> int:
        """Return the time, never earlier than before."""
        wall = self.wall()
        if wall < self.latest:
            self.is_behind = self.latest - wall > TOLERANCE
            return self.latest
        self.latest = wall
        return wall

    def start(self, seen: int, turns: int) -> None:
        """Continue from what is on disk."""
        self.latest = self.saved = seen
        self.turns = turns

    def go_back(self, turns: int) -> None:
        """Follow the wall clock back, after everything that had expired was removed."""
        self.latest = self.saved = self.wall()
        self.turns, self.is_behind = turns, False

    def ages_are_known(self) -> bool:
        """Whether ages can be computed: not for ten minutes after the wall clock has jumped forwards."""
        wall, steady = self.wall(), time.monotonic()
        before, then = self._seen
        self._seen = wall, steady
        if wall - before > (steady - then) * 1_000_000 + TOLERANCE:
            self._jumped = steady
        return steady - self._jumped >= _RESPONSES_KEPT
