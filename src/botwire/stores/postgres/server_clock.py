"""The time of the PostgreSQL server, estimated between the round trips that report it."""

from __future__ import annotations

import math
import time


class ServerClock:
    """The server's time in microseconds since 1970: one clock for all who use the database, whatever their own ones say.

    It goes on by the monotonic clock of this machine from when the server was asked. So it may be ahead of the server's by what the
    question took to arrive, but never behind. That the server's clock has jumped is known when it is heard of next.
    """

    def __init__(self) -> None:
        self._heard = 0
        self._asked = -_HEARD_FOR
        self._took = math.inf

    def __call__(self) -> int:
        """Return the time."""
        return self._heard + int((time.monotonic() - self._asked) * 1_000_000)

    @property
    def is_old(self) -> bool:
        """Whether the server was not heard of for long."""
        return time.monotonic() - self._asked > _HEARD_FOR

    def hear(self, time_there: int, asked: float) -> None:
        """Go on from what the server said, if that tells more than what it said before, or something else.

        Args:
            time_there: what it said.
            asked: when it was asked, by `time.monotonic`.
        """
        took = time.monotonic() - asked
        off = (self() - time_there) / 1_000_000
        if took <= self._took or self.is_old or not -_DRIFT <= off <= took + self._took + _DRIFT:
            self._heard, self._asked, self._took = time_there, asked, took


_HEARD_FOR = 10.0
"""Seconds for which what the server said in a moment is worth more than what it says after a wait."""
_DRIFT = 0.01
"""Seconds by which clocks that go right may differ after that time."""
