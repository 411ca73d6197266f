"""Small writes that go to disk together with the larger one that nearly always follows at once.

LangGraph saves what a task wrote in the background, waits for nothing, and a moment later saves the checkpoint that
this led to. A sync to disk costs the same for both as for one. So the first waits a moment for the second, and is done when it is on
disk, as always; where none follows, as between parallel tasks of which one is slow, it goes alone, and those
after it do not wait.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future

from ...records import Operation

MOMENT = 0.003
"""Seconds to wait for company. Between the two calls LangGraph applies what the tasks wrote, which takes less than a millisecond."""
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
        """Return who waits, to be taken along."""
        if not self._waiting:
            return []
        with self._mutex:
            taken: list[Guest] = []
            room = _MOST_BYTES
            while self._waiting and (room := room - self._waiting[0].size) >= 0:
                taken.append(self._waiting.pop(0))
            self._misses = 0
            return taken
