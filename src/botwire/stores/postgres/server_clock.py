"""The time of the PostgreSQL server, estimated between the round trips that report it."""

from __future__ import annotations

import math
import time


class ServerClock:
    """The server's time in microseconds since 1970: one clock for all clients of the database.

    Between two reports it advances with the monotonic clock of this machine, from the moment in which the server was asked. So
    it may be ahead of the server by the duration of the request, but is never late.
    """

    def __init__(self) -> None:
        self._reported = 0
        self._asked = -_FRESH_FOR
        self._took = math.inf

    def __call__(self) -> int:
        return self._reported + int((time.monotonic() - self._asked) * 1_000_000)

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self._asked > _FRESH_FOR

    def update(self, reported: int, asked: float) -> None:
        """Use a report if it is more exact than the last one, or contradicts it. `asked`: when, on `time.monotonic`."""
        took = time.monotonic() - asked
        off = (self() - reported) / 1_000_000
        # A report is as inexact as its request was slow: one that waited for a lock is worth less than an earlier, quick one.
        if took <= self._took or self.is_old or not -_DRIFT <= off <= took + self._took + _DRIFT:
            self._reported, self._asked, self._took = reported, asked, took


_FRESH_FOR = 10.0
"""Seconds for which a quick report is preferred to a later, slow one."""
_DRIFT = 0.01
"""Seconds by which two correct clocks may differ after that time."""
