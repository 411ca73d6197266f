"""The store in one SQLite file, for a server: one event loop that has no other work."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import apsw

from ...errors import Timeout
from ...operations import Guard, Result, Write
from ...queries import ListSessions, Query, Search
from ...store import GUARD_FAILED, GuardFailed
from ..engine.answer import answer, is_heavy, is_short, reads_several
from ..engine.effort import NotHere
from ..engine.group_commit import COMMIT_THREAD, CommitQueue, Outcome
from ..engine.stop import Stop
from ..engine.turns import LARGE_WORK
from .connection import Connection
from .store import LOOK, AsyncSqliteStore, SqliteStore
from .tables import SqliteTables

T = TypeVar("T")

LONGEST_HERE = 64 * 1024
"""Bytes of a row that is read on the event loop. Fifty such rows take some milliseconds, a value of 16 MiB alone takes 30."""
READERS = 4
"""Threads that search at once, and that read names and numbers. One thread reads values: 16 MiB may be 64 MiB as a str."""
LONGEST_REST = 0.1
"""Seconds."""
REMEMBERED = 1_000
"""Reads of long rows that are remembered, so that they begin in a thread."""
_ANY_LENGTH = 2**31 - 1
"""SQLite lowers it to its own limit (https://www.sqlite.org/limits.html)."""
MAX_HERE = 1_000
"""Rows that a group may touch to be applied on the event loop, some 20 µs each."""


class NotShort(Exception):
    """A read would keep an event loop busy for too long. Nothing was returned."""


class ServedSqliteStore(AsyncSqliteStore):
    """An `AsyncStore` that applies writes on the event loop. A thread only waits for the disk.

    apsw releases Python's lock with every statement, and while the loop is busy it takes up to 5 ms to get it back: a group of
    64 writes applied by a thread took 36 ms at the 99th percentile, here it takes 5. A program whose loop has other work, or
    stops at times, is better served by `AsyncSqliteStore`.

    Args:
        store: the store.
        on_commit: called with the number of writes of each commit; refused writes do not count.
    """

    def __init__(self, store: SqliteStore, *, on_commit: Callable[[int], None] = lambda _: None) -> None:
        super().__init__(store)
        self._searching, self._counting = Readers("botwire-search", READERS), Readers("botwire-count", READERS)
        self._reading = Readers("botwire-read", 1)
        self._long: set[tuple[str, Query[Any]]] = set()
        """Reads of few but long rows. To find that one is long, SQLite reads those before it."""
        store.commits.executor = LoopExecutor(store, on_commit)
        store.commits.commit = self._commit

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        """As `AsyncSqliteStore.read`. Also a read of few rows runs in a thread if one of them is long."""
        if is_short(query) and (not self._long or (namespace, query) not in self._long):
            try:
                return self._read_short(namespace, query, guard)
            except NotShort:  # the thread returns the rows, or raises what failed
                if len(self._long) >= REMEMBERED:
                    self._long.clear()
                self._long.add((namespace, query))
        return await self._read_long(namespace, query, guard)

    def _read_short(self, namespace: str, query: Query[T], guard: Guard | None) -> T:
        """Read here, or raise `NotShort` at once if a row has more than `LONGEST_HERE` bytes, or anything else fails."""
        store = self.store
        moment = store._follow_clock()
        connection = store._borrow()
        try:
            if not moment < store._look_at <= moment + LOOK:
                store._check_names(connection, moment)
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, LONGEST_HERE)
            if reads_several(query):
                result = store._answer(connection, namespace, query, moment, Stop(math.inf))
            else:
                result = answer(connection.tables, store.plans, namespace, query, moment)
            if guard is not None and not connection.holds(guard, moment):
                raise GuardFailed(GUARD_FAILED)
        except (apsw.Error, UnicodeDecodeError, TypeError) as error:
            raise NotShort from error
        else:
            return result
        finally:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, _ANY_LENGTH)
            if connection.in_transaction:
                connection.roll_back()
            store._return(connection)

    async def _in_thread(self, query: Query[T], read: Callable[[], T]) -> T:
        if isinstance(query, Search) or (is_heavy(query) and isinstance(query, ListSessions)):
            readers = self._searching
        else:
            readers = self._reading if getattr(query, "values", "") in {"sealed", "plain"} else self._counting
        return await readers.run(read)

    def _commit(self, writes: Sequence[Write], deadline: float) -> list[Outcome]:
        """Commit a group on a thread, because it is large or another process writes."""

        def apply(tables: SqliteTables) -> list[Outcome]:
            with LARGE_WORK:
                return self.store.apply(tables, writes)

        return self.store._transact(apply, deadline)

    def _write(self, write: Write) -> Coroutine[Any, Any, list[Result]]:  # no coroutine of its own, see `write`
        return self.store.commits.write_async(write, time.monotonic() + self.store.timeout)


class Readers:
    """Threads that read, ``count`` at once. The next read begins when the caller of one before has its rows.

    Otherwise the threads would be faster than a busy event loop, and all rows that wait for it would be in memory at once.
    """

    def __init__(self, name: str, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, name)
        self._free = asyncio.Semaphore(count)

    async def run(self, read: Callable[[], T]) -> T:
        """Run a read in a thread and return its rows."""
        async with self._free:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    def _read(self, read: Callable[[], T]) -> T:
        """Read, and rest for as long: making a str of a long value holds Python's lock, which the event loop needs often."""
        begun = time.monotonic()
        try:
            return read()
        finally:
            self._threads.submit(time.sleep, min(time.monotonic() - begun, LONGEST_REST))


class _Lead(NamedTuple):
    """The executor's lead of a queue, with its token, and the event loop on which it applies groups."""

    queue: CommitQueue
    token: object
    loop: asyncio.AbstractEventLoop


class LoopExecutor:
    """An `Executor` that applies groups on the event loop, and commits them on a thread."""

    def __init__(self, store: SqliteStore, on_commit: Callable[[int], None]) -> None:
        self._store = store
        self._on_commit = on_commit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=COMMIT_THREAD)

    def lead(self, queue: CommitQueue, leader: object, loop: asyncio.AbstractEventLoop) -> None:
        """As `Executor.lead`. The loop comes back to it, so that whatever else has arrived by then joins the group."""
        queue.led_by = loop
        is_here = asyncio._get_running_loop() is loop  # if not, a thread hands on
        call = loop.call_soon if is_here else loop.call_soon_threadsafe
        call(queue.no_reentry, self._begin, queue, leader, loop)

    def close(self, *, wait: bool) -> None:
        if wait:
            with contextlib.suppress(RuntimeError):  # a finalizer runs on this very thread
                self._thread.shutdown()

    def _begin(self, queue: CommitQueue, leader: object, loop: asyncio.AbstractEventLoop) -> None:
        token = queue.take_over(leader)
        if token is not None:
            self._commit_next(_Lead(queue, token, loop))

    def _commit_next(self, lead: _Lead) -> None:
        """Apply the next group on the loop if it is small and no other process writes, and have a thread do the rest."""
        group = lead.queue.next_group()
        begun: Connection | None = None
        outcomes: list[Any] = []
        writes = [turn.write for turn in group if turn.write is not None]
        if group and len(writes) == len(group) and sum(turn.rows() for turn in group) <= MAX_HERE:
            try:
                begun, outcomes = self._store.begin(writes)
            except (Timeout, NotHere):
                pass  # the thread waits for another process that writes, or does what takes longer
            except Exception as error:  # noqa: BLE001 - it belongs to the callers that wait
                self._deliver(lead, group, [error] * len(group))
                return
        self._thread.submit(lead.queue.no_reentry, self._commit, lead, group, begun, outcomes)

    def _commit(self, lead: _Lead, group: Sequence[Any], begun: Connection | None, outcomes: list[Any]) -> None:
        """On the thread: commit what was applied, or do all of it."""
        try:
            if begun is not None:
                self._store.commit(begun)
            elif group:
                outcomes = lead.queue.outcomes(group)
        except Exception as error:  # noqa: BLE001 - it belongs to the callers that wait
            outcomes = [error] * len(group)
        lead.loop.call_soon_threadsafe(lead.queue.no_reentry, self._deliver, lead, group, outcomes)

    def _deliver(self, lead: _Lead, group: Sequence[Any], outcomes: list[Any]) -> None:
        committed = sum(isinstance(outcome, list) for outcome in outcomes)
        if committed:
            self._on_commit(committed)
        lead.queue.deliver(group, outcomes, here=lead.loop)
        if self._store.behind:
            with contextlib.suppress(RuntimeError):  # the loop is ending
                lead.loop.run_in_executor(None, self._store.catch_up)
        task = lead.queue.hand_on(lead.token)
        lead.queue.led_by = None if task is None else task.loop
        if task is not None:
            self._commit_next(lead._replace(loop=task.loop))
