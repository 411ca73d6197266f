"""Small writes that share a sync to disk with the checkpoint that follows.

LangGraph stores the writes of a task in the background and the next checkpoint a moment later. So a pending write waits until a
checkpoint stores it too. Without this a turn takes 10 to 30 % longer (``benchmarks/graphs.py``). If no checkpoint follows, the pending
write is stored alone, and the next ones do not wait for a while. That is always safe: if a checkpoint has stored it after all, the
second write meets a `Conflict` and merges.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

from ...aio import AsyncMemory
from ...errors import Conflict, InvalidArgument, InvalidValue, QuotaExceeded, StorageExceeded
from ...namespace import Namespace
from ...operations import Operation, Put, Result
from ...values import size

MOMENT = 0.003
"""Seconds to wait for a checkpoint. LangGraph needs less than one millisecond between the two calls."""
LONGEST = 1.0
"""Seconds to wait for a checkpoint whose write has started. Then it is stuck, or its thread ended in a fork."""
_MOST = 100
_MOST_BYTES = 4 * 1024 * 1024
_MOST_SKIPPED = 63
_REFUSED = (Conflict, InvalidArgument, InvalidValue, QuotaExceeded, StorageExceeded)
"""Errors that depend on what a write contains, and after which nothing is written."""


class PendingWrite:
    """A small write that waits. Its future says whether a checkpoint stored it."""

    __slots__ = ("operation", "size", "stored")

    def __init__(self, operation: Put) -> None:
        self.operation = operation
        self.size = size(operation.stored)
        self.stored: Future[bool] = Future()
        # A running future cannot be cancelled: a cancelled task must not change what the checkpoint reports.
        self.stored.set_running_or_notify_cancel()

    async def wait(self, seconds: float, *, on_event_loop: bool) -> bool | None:
        """Return whether a checkpoint stored it, or None if none reports that in time."""
        if on_event_loop:
            waiting = asyncio.wrap_future(self.stored)
            try:
                await asyncio.wait([waiting], timeout=seconds)
            finally:
                waiting.cancel()  # so that a later report does not meet a closed loop
        else:
            with suppress(TimeoutError):
                self.stored.result(seconds)
        return self.stored.result() if self.stored.done() else None


class WriteBatcher:
    """Stores pending writes together with checkpoints. Threads and event loops may share it."""

    def __init__(self) -> None:
        # Re-entrant: a garbage collection inside a method may run a finalizer that writes with the same saver.
        self._mutex = threading.RLock()
        self._waiting: deque[PendingWrite] = deque()
        self._misses = 0
        self._skip = 0
        self._checkpoints = 0
        self._expected_until = 0.0

    async def write(self, memory: Namespace, operations: Sequence[Operation]) -> list[Result]:
        """Store a checkpoint in one write, together with the pending writes. Returns the results of its operations."""
        pending = self.start()
        results: list[Result] = []
        try:
            results = await memory.bridge.write(*operations, *[write.operation for write in pending])
        except _REFUSED:
            if not pending:
                raise
        finally:
            self.finish(pending, stored=bool(results))
        if not results:  # perhaps because of a pending write, for which a checkpoint must not fail
            results = await memory.bridge.write(*operations)
        return results[: len(operations)]

    async def join(self, memory: Namespace, operation: Put) -> bool:
        """Wait for a checkpoint; returns whether one has stored the operation. If not, the caller stores it alone."""
        pending = self._add(operation)
        if pending is None:
            return False
        on_event_loop = isinstance(memory, AsyncMemory)
        try:
            stored = await pending.wait(MOMENT, on_event_loop=on_event_loop)
            while stored is None and time.monotonic() < self._expected_until:
                stored = await pending.wait(MOMENT, on_event_loop=on_event_loop)
            if stored is None and not self._withdraw(pending):
                stored = await pending.wait(LONGEST, on_event_loop=on_event_loop)  # a checkpoint is storing it now
        except BaseException:  # cancelled, or Ctrl-C: no checkpoint should store what no caller waits for
            self._withdraw(pending)
            raise
        return bool(stored)

    def _add(self, operation: Put) -> PendingWrite | None:
        """Let a write wait from now on; None if waiting is not worthwhile, because lately no checkpoint followed."""
        pending = PendingWrite(operation)
        with self._mutex:
            if self._skip or len(self._waiting) >= _MOST or pending.size > _MOST_BYTES:
                self._skip = max(0, self._skip - 1)
                return None
            self._waiting.append(pending)
            return pending

    def _withdraw(self, pending: PendingWrite) -> bool:
        """Stop waiting. Returns False if a checkpoint has started to store the write."""
        with self._mutex:
            try:
                self._waiting.remove(pending)
            except ValueError:
                return False
            # If one of several parallel tasks is slow, no checkpoint follows: after each miss, twice as many do not wait.
            self._misses += 1
            self._skip = min(2**self._misses - 1, _MOST_SKIPPED)
            return True

    def start(self) -> list[PendingWrite]:
        """Begin to write a checkpoint: return the pending writes to store with it."""
        with self._mutex:
            self._checkpoints += 1
            self._expected_until = time.monotonic() + LONGEST
            taken: list[PendingWrite] = []
            room = _MOST_BYTES
            while self._waiting and (room := room - self._waiting[0].size) >= 0:
                taken.append(self._waiting.popleft())
            if taken:
                self._misses = 0
            return taken

    def finish(self, pending: Sequence[PendingWrite], *, stored: bool) -> None:
        """End the write of a checkpoint: report whether the pending writes are stored."""
        with self._mutex:
            self._checkpoints -= 1
            if not self._checkpoints:
                self._expected_until = time.monotonic() + MOMENT
        for write in pending:
            write.stored.set_result(stored)
