"""The store in a PostgreSQL database, for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

from ...errors import BotWireError, StoreError, Unavailable
from ...limits import check_timeout
from ...operations import Guard, Operation, Result, SetVectors, Write
from ...plans import Plans
from ...queries import ListChanges, ListTexts, Query, Search
from ...store import CLOSED, GUARD_FAILED, GuardFailed
from ..engine.answer import answer, is_heavy, reads_several
from ..engine.clock import Clock
from ..engine.feeds import Feed, Poller
from ..engine.group_commit import CommitQueue, ThreadExecutor, no_reentry
from ..engine.pool import REENTERED
from ..engine.removal import REMOVALS
from ..engine.retention import idle_of_plans
from ..engine.search import search
from ..engine.stop import Stop
from ..engine.store import AwaitedStore, DatabaseStore
from ..engine.tables import NamespaceState, Tables
from ..engine.transaction import PURGE, Transaction
from ..engine.turns import ReadingTurns
from .commit import Committer
from .connection import Connection, connect_by, without_password
from .notify import Listener, Notifier
from .pool import CONNECTIONS, ConnectionPool
from .statements import Row, Statement, create_vectors
from .tables import GuardedReads, PostgresReads
from .unit_of_work import Unit

T = TypeVar("T")

_THREADS = ("botwire-postgres", "botwire-notify", "botwire-listen", "botwire-connect", "botwire-hang-up")
"""The names of the threads of stores. Calls of a store wait for them."""


class PostgresStore(DatabaseStore):
    """A `Store` in a PostgreSQL database (14 or newer). Any number of threads, processes and machines may use it at once.

    It is as durable as the server. With the server's defaults, a write that has returned survives a crash and a power cut.
    With a synchronous replica it also survives the loss of the machine. A call is retried until its timeout after a lost
    connection, a failover or a deadlock. No write happens twice.

    Args:
        url: ``postgresql://…``, as libpq accepts it
            (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
        plans: limits for the namespaces; none by default.
        timeout: seconds that a call may take in all, including retries and the time to connect.

    Raises:
        InvalidArgument: the URL is not such an address.
        Unavailable: the server cannot be reached, or refuses the connection.
        StoreError: the database cannot be used, or a newer version of botwire has migrated it.
    """

    def __init__(self, url: str, *, plans: Plans | None = None, timeout: float = 10.0) -> None:
        super().__init__()
        self.address = without_password(url)
        self._url = url
        self.plans = plans or Plans()
        self.timeout = check_timeout(timeout)
        self._closed = False
        self._has_vectors = False
        self._inside: set[int] = set()
        self.listener = Listener(self._connect_listener, self.address, self._inside)
        self._restart()
        self._pool = ConnectionPool(url, self.address, self.timeout, on_fork=self._restart)
        self._clock = Clock(lambda: self._pool.clock() * 1000)
        self._commit = Committer(
            self._pool, self._clock, self.plans, now=self._now, notify=self._notify, behind=self.behind
        ).commit

    def _restart(self) -> None:
        """Start, also in a forked child, where none of the threads exists."""
        self.listener.restart()
        self._notifier = Notifier(self._send)
        self._mutex = threading.RLock()  # reentrant: a finalizer or a signal handler of the program may write too
        self._inside.clear()
        self._serving: set[int] = set()
        self._turning = threading.Lock()
        self._queues: weakref.WeakValueDictionary[str, CommitQueue] = weakref.WeakValueDictionary()
        self.threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="botwire-postgres")

    def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None, stop: Stop | None = None) -> T:
        stop = stop or Stop.after(self.timeout)
        deadline = stop.at
        if isinstance(query, ListTexts) or (isinstance(query, Search) and query.vector is not None):
            self.create_vectors(deadline)
        if isinstance(query, Search):
            self._bring_up_to_date(namespace, deadline)
        return cast("T", self._no_reentry(self._read, namespace, query, guard, stop))

    def _read(self, namespace: str, query: Query[T], guard: Guard | None, stop: Stop) -> T:
        moment = self._now(stop.at)

        def attempt(connection: Connection) -> T:
            if self._pool.clock.is_old:
                self._pool.ask_time(connection)
            reads, guarded = _reads_for(connection, namespace, query, guard)
            if isinstance(query, Search):
                result = cast("T", search(reads, self.plans, namespace, query, moment, stop))
            else:
                result = answer(reads, self.plans, namespace, query, moment)
            if reads_several(query):
                connection.run("commit")
            if guarded is not None and not guarded.guard_holds(moment):
                raise GuardFailed(GUARD_FAILED)
            return result

        return self._pool.run(attempt, stop.at)

    def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
    ) -> list[Result]:
        write = Write(namespace, tuple(operations), idempotency_key, guard)
        deadline = time.monotonic() + self.timeout
        if _stores_vectors(write):
            self.create_vectors(deadline)
        self._refuse_finalizer()
        if len(operations) == 1 and type(operations[0]) in REMOVALS:
            return self._in_steps(write, self.queue(namespace).write)
        results = self.queue(write.namespace).write(write, deadline)
        if self.behind:
            self._catch_up_after(write)
        return results

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        return Feed(self, namespace, query, self.listener)

    def to_async(self) -> AsyncPostgresStore:
        return AsyncPostgresStore(self)

    def _state(self, namespace: str) -> NamespaceState | None:
        def attempt(connection: Connection) -> NamespaceState | None:
            return PostgresReads(connection, namespace).get_state(namespace)

        state: NamespaceState | None = self._no_reentry(self._pool.run, attempt, time.monotonic() + self.timeout)
        return state

    def _change(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        self._refuse_finalizer()
        return self.queue(namespace).run(lambda until: self._change_here(namespace, change, until), deadline)

    def _change_here(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        """Run a change outside the queue. The database locks the namespace."""

        def attempt(connection: Connection) -> T:
            unit = Unit(connection, namespace)
            unit.begin(deadline - time.monotonic())
            transaction = Transaction(unit, self.plans, self._clock.now(), behind=self.behind)
            result = change(transaction, unit)
            transaction.finish()
            if unit.commit():
                self._notify(namespace)
            return result

        return self._pool.run(attempt, deadline)

    def create_vectors(self, deadline: float | None = None) -> None:
        """Create the tables for vectors if they are missing; raises `InvalidArgument` without the extension pgvector."""
        if self._has_vectors:
            return
        until = time.monotonic() + self.timeout if deadline is None else deadline

        def attempt(connection: Connection) -> None:
            with connection.raw_until_deadline(), connection.transaction() as raw:
                create_vectors(raw, self.address, until - time.monotonic())

        self._no_reentry(self._pool.run, attempt, until)
        self._has_vectors = True

    def close(self) -> None:
        if _is_own_thread():
            raise Unavailable(REENTERED)
        no_reentry(self._inside, self._close)

    def _close(self) -> None:
        self._closed = True
        self.threads.shutdown()
        self._notifier.close()
        self.listener.close()
        self._pool.close()

    def check_open(self) -> None:
        """Raise `StoreError` if the store is closed."""
        if self._closed:
            raise StoreError(CLOSED)

    def queue(self, namespace: str) -> CommitQueue:
        """Return the queue of a namespace. Namespaces are committed concurrently."""
        queue = self._queues.get(namespace)
        if queue is None:
            # A finalizer in here must not close the store: `close` waits for `threads`, which may wait for the lock.
            queue = no_reentry(self._inside, self._new_queue, namespace)
        return queue

    def _new_queue(self, namespace: str) -> CommitQueue:
        with self._mutex:
            queue = CommitQueue(self._commit, executor=ThreadExecutor(self.threads), inside=self._inside)
            return self._queues.setdefault(namespace, queue)

    def serve(self, call: Callable[[], T]) -> T:
        """Run a call of an event loop, in one of `threads`."""
        thread = threading.get_ident()
        try:
            self._serving.add(thread)
            return call()
        finally:
            self._serving.discard(thread)

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Have a call of the running event loop run in one of `threads`."""
        loop = asyncio.get_running_loop()
        try:
            return no_reentry(self._inside, loop.run_in_executor, self.threads, self.serve, call)
        except RuntimeError as error:  # they were shut down
            raise StoreError(CLOSED) from error

    def _no_reentry(self, act: Callable[..., T], *args: Any) -> T:
        """Do something with a connection. A call that interrupts it on the same thread is refused.

        The interrupted call may hold a connection, a transaction or a lock of the pool. A second one could wait for these, or
        for another thread that waits for them.
        """
        self._refuse_finalizer()
        return no_reentry(self._inside, act, *args)

    def _refuse_finalizer(self) -> None:
        """Raise `Unavailable` in a thread of a store: calls wait for that thread, and a call in it would wait for them."""
        if _is_own_thread() and threading.get_ident() not in self._serving:
            raise Unavailable(REENTERED)

    def _now(self, deadline: float) -> int:
        """Return the time. Not within a transaction: if the clock was set back, this removes what had expired."""
        moment = self._clock.now()
        if not self._clock.is_behind or not self._turning.acquire(blocking=False):
            return moment
        try:
            self._go_back(deadline)
        except BotWireError:
            return moment  # the time stops until a later call succeeds
        finally:
            self._turning.release()
        return self._clock.now()

    def _go_back(self, deadline: float) -> None:
        """Remove what has expired by the latest time, before the store continues from an earlier one."""

        def run(name: str, *values: object) -> list[Row]:
            return self._pool.run(lambda connection: connection.run(name, *values), deadline)

        latest, last = self._clock.latest, ""
        while names := [name for (name,) in run("expiring", latest, last, PURGE)]:
            for last in names:
                self._change_here(last, lambda transaction, _, name=last: transaction.purge(name), deadline)  # type: ignore[misc]
        run("end_sessions", latest)
        run("end_ruled_sessions", latest, idle_of_plans(self.plans))
        run("expect_ended_sessions")
        for name in ("redate_responses", "redate_popped"):
            run(name, self._pool.clock())
        self._clock.go_back(0)

    def _notify(self, namespace: str) -> None:
        self._notifier.notify(namespace)

    def _send(self, payload: str) -> None:
        with self._pool.lend(time.monotonic() + 1) as connection:
            connection.run("notify", payload)

    def _connect_listener(self) -> Connection:
        return connect_by(time.monotonic() + self.timeout, self._url, self.timeout)


class AsyncPostgresStore(AwaitedStore[PostgresStore]):
    """`PostgresStore` for event loops. Its threads wait for the server."""

    def __init__(self, store: PostgresStore) -> None:
        super().__init__(store)
        self._poller = Poller(self, signal=store.listener)
        self._turns = ReadingTurns()

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        if not is_heavy(query):
            return await self._in_thread(partial(self.store.read, namespace, query, guard=guard))
        stop = Stop.after(self.store.timeout)
        read = partial(self.store.read, namespace, query, guard=guard, stop=stop)
        self.store.check_open()
        return await self._turns.run(namespace, stop, lambda: self.store.submit(read))

    async def _write(self, write: Write) -> list[Result]:
        deadline = time.monotonic() + self.store.timeout
        self.store.check_open()
        if _stores_vectors(write):
            await self._in_thread(partial(self.store.create_vectors, deadline))
        results = await self.store.queue(write.namespace).write_async(write, deadline)
        if self.store.behind:
            await self._in_thread(partial(self.store._catch_up_after, write))
        return results

    async def _in_thread(self, call: Callable[[], T]) -> T:
        self.store.check_open()
        return await self.store.submit(call)


def _is_own_thread() -> bool:
    return threading.current_thread().name.startswith(_THREADS)


def _reads_for(
    connection: Connection, namespace: str, query: Query[Any], guard: Guard | None
) -> tuple[PostgresReads, GuardedReads | None]:
    """Return the reads of a query, and what checks its guard. Several statements see one snapshot, and a commit ends it.

    A query that takes long relies on the version of the guard after it. Any other one relies on that of its snapshot.
    """
    begin: tuple[Statement, ...] = ()
    if reads_several(query):
        begin = ("begin_snapshot", ()), ("plan_custom" if isinstance(query, Search) else "plan_once", ())
    if guard is not None and not is_heavy(query):
        guarded = GuardedReads(connection, namespace, guard, begin=begin)
        return guarded, guarded
    reads = PostgresReads(connection, namespace, begin=begin)
    return reads, None if guard is None else GuardedReads(connection, namespace, guard)


def _stores_vectors(write: Write) -> bool:
    return any(isinstance(op, SetVectors) for op in write.operations)
