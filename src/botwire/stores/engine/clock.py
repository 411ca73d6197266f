"""The time by which a store goes: the wall clock's, as long as that goes forwards.

What has expired must not come back when the wall clock is set back, and nothing that is new must be lost because the clock
was once too far ahead. So a store knows the latest time by which it has answered. Where the wall clock is a little
behind that, time stands still until it has caught up; where it is far behind, the store first removes what had expired
by then (`Clock.back`), and goes on from the new time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

HOLD = 10_000_000
"""How far the wall clock may be behind for time to stand still, in microseconds."""
KEEP = 10_000_000
"""How often a store that writes puts down the latest time, in microseconds."""
_ANSWERS_KEPT = 600.0


class Clock:
    """Time in microseconds since 1970, and what a store has to know of its past.

    Args:
        wall: the wall clock.
    """

    def __init__(self, wall: Callable[[], int]) -> None:
        self.wall = wall
        self.latest = 0
        self.kept = 0
        """The latest time that is on disk."""
        self.turns = 0
        """How often the file has gone back in time; another process may have seen to it already."""
        self.back = False
        """Whether the wall clock is so far behind that what had expired has to be removed now."""
        self._seen = wall(), time.monotonic()
        self._leapt = -_ANSWERS_KEPT

    def now(self) -> int:
        """Return the time, never earlier than the last one."""
        wall = self.wall()
        if wall < self.latest:
            self.back = self.latest - wall > HOLD
            return self.latest
        self.latest = wall
        return wall

    def start(self, seen: int, turns: int) -> None:
        """Go on from what is on disk."""
        self.latest = self.kept = seen
        self.turns = turns

    def go_back(self, turns: int) -> None:
        """Take the wall clock's time, now that it is safe."""
        self.latest = self.kept = self.wall()
        self.turns, self.back = turns, False

    def leaps(self) -> bool:
        """Whether the wall clock has lately gone forwards by more than has passed, so that ages measured by it are wrong."""
        wall, steady = self.wall(), time.monotonic()
        before, then = self._seen
        self._seen = wall, steady
        if wall - before > (steady - then) * 1_000_000 + HOLD:
            self._leapt = steady
        return steady - self._leapt < _ANSWERS_KEPT
