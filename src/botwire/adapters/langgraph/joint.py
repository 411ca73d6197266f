"""Small writes that go to disk together with the larger one that nearly always follows at once.

LangGraph saves what a task wrote in the background, waits for nothing, and a moment later saves the checkpoint that
this led to, once the one before is on disk. A sync to disk costs the same for both as for one. So the first waits until nothing
is under way to the disk, and then a moment, for the second, and is done when it is on disk, as always; where none
follows, as between parallel tasks of which one is slow, it goes alone, and those after it do not wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from ...operations import Operation

MOMENT = 0.003
"""Seconds to wait for company. Between the two calls LangGraph applies what the tasks wrote, which takes less than a millisecond."""
_LONGEST = 1.0
"""Seconds after which nobody waits for a host any more: it is stuck, or was lost in a fork."""
_MOST = 100
_MOST_BYTES = 4 * 1024 * 1024
_MOST_SKIPPED = 63


class Guest:
    """A small write that waits. Its future says whether it was taken along; if not, it has to go alone."""

    __slots__ = ("operation", "size", "taken")

    def __init__(self, operation: Operation, size: int) -> None:
        self.operation = operation
        self.size = size
        self.taken: Future[bool] = Future()


class Joint:
    """Where guests wait for a host. Safe to share between threads and event loops."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: list[Guest] = []
        self._misses = 0
        self._skip = 0
        self._hosts = 0
        self._until = 0.0

    @property
    def is_worth_waiting(self) -> bool:
        """Whether a host is under way, or was until a moment ago, so that the next one is still to come."""
        return time.monotonic() < self._until

    def wait(self, operation: Operation, size: int) -> Guest | None:
        """Return a guest that waits from now on, or None when it is not worth while: lately nobody came."""
        with self._mutex:
            if self._skip or len(self._waiting) >= _MOST or size > _MOST_BYTES:
                self._skip = max(0, self._skip - 1)
                return None
            guest = Guest(operation, size)
            self._waiting.append(guest)
            return guest

    def leave(self, guest: Guest) -> bool:
        """Stop waiting; False when a host has taken the guest along already."""
        with self._mutex:
            if guest not in self._waiting:
                return False
            self._waiting.remove(guest)
            self._misses += 1
            self._skip = min(2**self._misses - 1, _MOST_SKIPPED)
            return True

    def take(self) -> list[Guest]:
        """Begin as a host: return who waits, to be taken along."""
        with self._mutex:
            self._hosts += 1
            self._until = time.monotonic() + _LONGEST
            taken: list[Guest] = []
            room = _MOST_BYTES
            while self._waiting and (room := room - self._waiting[0].size) >= 0:
                taken.append(self._waiting.pop(0))
            if taken:
                self._misses = 0
            return taken

    def bring(self, guests: Sequence[Guest], *, arrived: bool) -> None:
        """End as a host: tell the guests whether they are on disk."""
        with self._mutex:
            self._hosts -= 1
            if not self._hosts:
                self._until = time.monotonic() + MOMENT
        for guest in guests:
            guest.taken.set_result(arrived)
