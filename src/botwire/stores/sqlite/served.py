"""The store in one SQLite file, for a server: one event loop whose only work it is."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ...errors import Timeout
from ...operations import Append, Clear, Forget, Operation, Permit, Pop, Put, Result, Write
from ..engine.group_commit import MAX_GROUP, TOO_LATE, Outcome
from .async_store import AsyncSqliteStore
from .connection import Connection
from .store import SqliteStore

MAX_HERE = 1_000
"""Rows that a group may touch to be applied on the event loop, some 20 µs each."""
ROW_BYTES = 16_384
"""How much of a value takes as long to write as a row."""
_NO_DISK = "the disk did not answer within {:g} s; the write may still happen"


class ServedSqliteStore(AsyncSqliteStore):
    """An `AsyncStore` that applies writes on the event loop and leaves to a thread only what waits for the disk.

    apsw gives Python's lock away with every statement, and while the loop is busy it takes up to 5 ms to get it back: a
    group of 64 writes that a thread applied took 36 ms at the 99th percentile, here it takes 5. A program whose loop has
    other work, or sometimes stands still, is better served by `AsyncSqliteStore`.

    Args:
        store: the store.
        on_commit: is told of how many writes a commit was.
    """

    def __init__(self, store: SqliteStore, *, on_commit: Callable[[int], None] = lambda _: None) -> None:
        super().__init__(store)
        self._on_commit = on_commit
        self._waiting: deque[_Turn] = deque()
        self._group: list[_Turn] = []
        self._busy = False
        self._watch: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="botwire-commit")

    async def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        permit: Permit | None = None,
    ) -> list[Result]:
        """As `GuardedStore.write`, gathered with whatever else is being written into one commit.

        Cancelled while it waits, it does not happen; once its commit has begun, it does.
        """
        loop = asyncio.get_running_loop()
        turn = _Turn(Write(namespace, tuple(operations), idempotency_key, permit), loop)
        self._waiting.append(turn)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._lead)  # so that whatever else has arrived by now comes along
        if self._watch is None:
            self._watch = loop.call_later(self.store.timeout, self._expire)
        return await turn.done

    async def close(self) -> None:
        """As `Store.close`."""
        await asyncio.to_thread(self._thread.shutdown)
        await super().close()

    def _lead(self) -> None:
        """Commit one group of those that wait, if anybody does."""
        self._group = group = self._next_group()
        if not group:
            self._busy = False
            return
        writes = [turn.write for turn in group]
        begun: tuple[Connection, list[Outcome]] | None = None
        if sum(map(_weight, writes)) <= MAX_HERE:
            try:
                begun = self.store.begin(lambda run: self.store.apply(run, writes), 0)
            except Timeout:
                pass  # another process writes: waiting for it is for the thread
            except Exception as error:  # noqa: BLE001
                self._deliver(group, [error] * len(group))
                return
        loop = asyncio.get_running_loop()
        self._thread.submit(self._commit, loop, group, begun)

    def _expire(self) -> None:
        """Give up those that have waited for too long; one timer watches over all of them."""
        self._watch = None
        loop, timeout = asyncio.get_running_loop(), self.store.timeout
        for turns, text in (self._group, _NO_DISK), (self._waiting, TOO_LATE):
            for turn in turns:
                if turn.since + timeout <= loop.time():
                    turn.end(Timeout(text.format(timeout)))
        left = [turn.since for turn in (*self._group, *self._waiting) if not turn.done.done()]
        if left:
            self._watch = loop.call_at(min(left) + timeout, self._expire)

    def _next_group(self) -> list[_Turn]:
        group: list[_Turn] = []
        while self._waiting and len(group) < MAX_GROUP:
            turn = self._waiting.popleft()
            if not turn.done.done():
                group.append(turn)
        return group

    def _commit(
        self, loop: asyncio.AbstractEventLoop, group: list[_Turn], begun: tuple[Connection, list[Outcome]] | None
    ) -> None:
        """On the thread: put down what was begun, or do all of it."""
        outcomes: list[Outcome]
        try:
            if begun is None:
                writes = [turn.write for turn in group]
                left = group[-1].since + self.store.timeout - loop.time()
                begun = self.store.begin(lambda run: self.store.apply(run, writes), max(left, 0.001))
            connection, outcomes = begun
            self.store.commit(connection)
        except Exception as error:  # noqa: BLE001
            outcomes = [error] * len(group)
        loop.call_soon_threadsafe(self._deliver, group, outcomes)

    def _deliver(self, group: list[_Turn], outcomes: list[Outcome]) -> None:
        self._on_commit(len(group))
        for turn, outcome in zip(group, outcomes, strict=True):
            turn.end(outcome)
        self._lead()


class _Turn:
    """A write that waits, and where its results go."""

    __slots__ = ("done", "since", "write")

    def __init__(self, write: Write, loop: asyncio.AbstractEventLoop) -> None:
        self.write = write
        self.done: asyncio.Future[list[Result]] = loop.create_future()
        self.since = loop.time()

    def end(self, outcome: Outcome) -> None:
        if self.done.done():
            return
        if isinstance(outcome, BaseException):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


def _weight(write: Write) -> float:
    """Return about how many rows a write touches; a large value counts as several."""
    return sum(map(_weight_of, write.operations))


def _weight_of(operation: Operation) -> float:
    match operation:
        case Put(stored=stored):
            return 1 + len(stored) // ROW_BYTES
        case Append(messages=messages):
            return sum(1 + len(message.stored) // ROW_BYTES for message in messages)
        case Pop(count=count):
            return count
        case Clear() | Forget():
            return math.inf
    return 1
