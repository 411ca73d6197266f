"""Small writes that share a sync to disk with the checkpoint that follows.

LangGraph saves what a task wrote in the background and does not wait for it. A moment later it saves the checkpoint
that this led to. A sync to disk costs the same for both writes as for one. So the small write, the guest, waits until a
checkpoint, the host, takes it along in the same write. Without this a turn takes 10 to 30 % longer
(``benchmarks/graphs.py``).

A guest that no host takes along goes alone. After a guest has waited in vain, the next ones do not wait for a while.
Going alone is always safe: if the host has stored the guest after all, the second write meets a `Conflict` and merges.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from ...operations import Operation

MOMENT = 0.003
"""Seconds to wait for a host. LangGraph needs less than one millisecond between the two calls."""
LONGEST = 1.0
"""Seconds after which a guest stops waiting for a host that started: it is stuck, or a fork lost its thread."""
_MOST = 100
_MOST_BYTES = 4 * 1024 * 1024
_MOST_SKIPPED = 63


class Guest:
    """A small write that waits. Its future says whether a host stored it; if not, it goes alone."""

    __slots__ = ("operation", "size", "taken")

    def __init__(self, operation: Operation, size: int) -> None:
        self.operation = operation
        self.size = size
        self.taken: Future[bool] = Future()
        # A running future cannot be cancelled: a task that stops waiting must not change what the host reports.
        self.taken.set_running_or_notify_cancel()


class Joint:
    """Where guests wait for a host. Threads and event loops may share it."""

    def __init__(self) -> None:
        # Re-entrant: a garbage collection inside a method may run a finalizer that writes with the same saver.
        self._mutex = threading.RLock()
        self._waiting: deque[Guest] = deque()
        self._misses = 0
        self._skip = 0
        self._hosts = 0
        self._until = 0.0

    @property
    def is_worth_waiting(self) -> bool:
        """Whether a host is writing, or was until a moment ago, so that the next one is still to come."""
        return time.monotonic() < self._until

    def wait(self, operation: Operation, size: int) -> Guest | None:
        """Return a guest that waits from now on, or None when waiting would not pay: lately no host came."""
        with self._mutex:
            if self._skip or len(self._waiting) >= _MOST or size > _MOST_BYTES:
                self._skip = max(0, self._skip - 1)
                return None
            guest = Guest(operation, size)
            self._waiting.append(guest)
            return guest

    def leave(self, guest: Guest) -> bool:
        """Stop waiting. Returns False when a host has taken the guest along already."""
        with self._mutex:
            try:
                self._waiting.remove(guest)
            except ValueError:
                return False
            # Parallel tasks of which one is slow have no host: after each miss, twice as many guests go alone at once.
            self._misses += 1
            self._skip = min(2**self._misses - 1, _MOST_SKIPPED)
            return True

    def take(self) -> list[Guest]:
        """Start as a host: return the guests that it takes along."""
        with self._mutex:
            self._hosts += 1
            self._until = time.monotonic() + LONGEST
            taken: list[Guest] = []
            room = _MOST_BYTES
            while self._waiting and (room := room - self._waiting[0].size) >= 0:
                taken.append(self._waiting.popleft())
            if taken:
                self._misses = 0
            return taken

    def bring(self, guests: Sequence[Guest], *, arrived: bool) -> None:
        """End as a host: report to the guests whether they are stored."""
        with self._mutex:
            self._hosts -= 1
            if not self._hosts:
                self._until = time.monotonic() + MOMENT
        for guest in guests:
            guest.taken.set_result(arrived)
