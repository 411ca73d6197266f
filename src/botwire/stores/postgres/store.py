"""The store in a PostgreSQL database."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from ...errors import BotWireError, StoreError
from ...limits import check_timeout
from ...operations import Guard, Operation, Result, Write
from ...plans import Plans
from ...queries import ListChanges, Query, Search
from ...records import Hit
from ...store import GUARD_FAILED, GuardFailed
from ..engine.answer import answer
from ..engine.clock import Clock
from ..engine.feeds import Feed
from ..engine.group_commit import CommitQueue, Outcome, ThreadExecutor
from ..engine.index_builder import Indexed
from ..engine.tables import Tables
from ..engine.transaction import PURGE, Transaction
from ..engine.vectors import needs_vectors
from .commit import Committer
from .connection import Connection, connect_by, without_password
from .notify import Listener, Notifier
from .pool import CLOSED, CONNECTIONS, ConnectionPool
from .schema import create_vectors
from .tables import GuardedRun, PostgresReads, run_on
from .unit_of_work import Unit

if TYPE_CHECKING:
    from .async_store import AsyncPostgresStore

T = TypeVar("T")


class PostgresStore(Indexed):
    """A `Store` in a PostgreSQL database (14 or newer). Any number of threads, processes and machines may use it at once.

    It is as durable as the server. With the server's defaults, a write that has returned survives a crash and a power cut.
    With a synchronous replica it also survives the loss of the machine. After a lost connection, a failover or a deadlock, a
    call is retried until its timeout. No write happens twice.

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
        self.address = without_password(url)
        self._url = url
        self._plans = plans or Plans()
        self.timeout = check_timeout(timeout)
        self._closed = False
        self._has_vectors = False
        self.listener = Listener(self._connect_listener, self.address)
        self._notifier = Notifier(self._send)
        self._restart()
        self._pool = ConnectionPool(url, self.address, self.timeout, on_fork=self._restart)
        self._clock = Clock(lambda: self._pool.clock() * 1000)
        self._committer = Committer(self._pool, self._clock, self._plans, now=self._now, notify=self._notifier.notify)

    def _restart(self) -> None:
        """Start, also in a forked child, where none of the threads exists."""
        self.listener.restart()
        self._notifier.restart()
        self._mutex = threading.Lock()
        self._turning = threading.Lock()
        self._queues: weakref.WeakValueDictionary[str, CommitQueue] = weakref.WeakValueDictionary()
        self.threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="botwire-postgres")

    def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        deadline = time.monotonic() + self.timeout
        if needs_vectors(query):
            self.create_vectors(deadline)
        if isinstance(query, Search):
            self._bring_up_to_date(namespace, deadline)
        moment = self._now(deadline)

        def attempt(connection: Connection) -> T:
            if self._pool.clock.is_old:
                self._pool.ask_time(connection)
            guarded = None if guard is None else GuardedRun(connection, guard)
            if isinstance(query, Search):
                result = cast("T", self._search(connection, namespace, query, moment))
                if guarded is not None:
                    guarded.read_version()  # the current one, not that of the snapshot
            else:
                reads = PostgresReads(namespace, guarded or run_on(connection))
                result = cast("T", answer(reads, self._plans, namespace, query, moment))
            if guarded is not None and not guarded.holds(moment):
                raise GuardFailed(GUARD_FAILED)
            return result

        return self._pool.run(attempt, deadline)

    def _search(self, connection: Connection, namespace: str, query: Search, moment: int) -> list[Hit]:
        """Answer from one snapshot, so that all statements see the same data."""
        connection.run_all([("begin_snapshot", ()), ("plan_custom", ())])
        reads = PostgresReads(namespace, run_on(connection, in_transaction=True))
        found: list[Hit] = answer(reads, self._plans, namespace, query, moment)
        connection.run("commit")
        return found

    def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
    ) -> list[Result]:
        deadline = time.monotonic() + self.timeout
        if needs_vectors(operations):
            self.create_vectors(deadline)
        write = Write(namespace, tuple(operations), idempotency_key, guard)
        return self.queue(namespace).write(write, deadline)

    @property
    def plans(self) -> Plans:
        return self._plans

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        return Feed(self, namespace, query, self.listener)

    def to_async(self) -> AsyncPostgresStore:
        from .async_store import AsyncPostgresStore

        return AsyncPostgresStore(self)

    def set_plan(self, namespace: str, plan: str | None) -> None:
        if plan is not None:
            self._plans.check(plan)
        self._change_now(namespace, lambda transaction, _: transaction.set_plan(namespace, plan))

    def _index_cursor(self, namespace: str) -> str | None:
        def attempt(connection: Connection) -> str | None:
            account = PostgresReads(namespace, run_on(connection)).get_account(namespace)
            return None if account is None else account.index_cursor

        return self._pool.run(attempt, time.monotonic() + self.timeout)

    def _change(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        return self.queue(namespace).run(lambda until: self._change_here(namespace, change, until), deadline)

    def _change_here(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        """Run a change without queueing: it has its turn, or must not wait for one. The database locks the namespace."""

        def attempt(connection: Connection) -> T:
            unit = Unit(connection, namespace)
            unit.begin(deadline - time.monotonic())
            transaction = Transaction(unit, self._plans, self._clock.now())
            result = change(transaction, unit)
            transaction.finish()
            if unit.commit():
                self._notifier.notify(namespace)
            return result

        return self._pool.run(attempt, deadline)

    def create_vectors(self, deadline: float | None = None) -> None:
        """Create the tables for vectors if they are missing, or raise `InvalidArgument`: they need the extension pgvector."""
        if self._has_vectors:
            return
        until = time.monotonic() + self.timeout if deadline is None else deadline

        def attempt(connection: Connection) -> None:
            with connection.raw_until_deadline() as raw:
                create_vectors(raw, self.address, until - time.monotonic())

        self._pool.run(attempt, until)
        self._has_vectors = True

    def close(self) -> None:
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
            with self._mutex:
                queue = self._queues.setdefault(
                    namespace, CommitQueue(self._commit, executor=ThreadExecutor(self.threads))
                )
        return queue

    # The clock

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
        latest, after = self._clock.latest, ""
        while True:
            values = latest, after, PURGE
            page = self._pool.run(lambda connection, values=values: connection.run("expiring", *values), deadline)  # type: ignore[misc]
            for (after,) in page:
                self._change_here(after, partial(_purge, after), deadline)
            if len(page) < PURGE:
                break
        wall = self._pool.clock()
        self._pool.run(lambda connection: connection.run("redate_responses", wall), deadline)
        self._clock.go_back(0)

    # Notifications

    def _send(self, payload: str) -> None:
        with self._pool.lend(time.monotonic() + 1) as connection:
            connection.run("notify", payload)

    def _connect_listener(self) -> Connection:
        return connect_by(time.monotonic() + self.timeout, self._url, self.timeout)

    # Commits

    def _commit(self, writes: Sequence[Write], deadline: float) -> list[Outcome]:
        return self._committer.commit(writes, deadline)


def _purge(namespace: str, transaction: Transaction, _: Tables) -> None:
    transaction.purge(namespace)
