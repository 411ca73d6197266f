"""The store in a PostgreSQL database."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import psycopg

from ...backoff import Backoff
from ...deadline import Deadline
from ...errors import BotWireError, InvalidArgument, StoreError, Timeout, Unavailable
from ...limits import check_timeout
from ...operations import Guard, Operation, Result, Write
from ...plans import Plans
from ...queries import ListChanges, Query, Search
from ...records import Hit
from ...store import GUARD_FAILED, GuardFailed
from ...timestamps import new_id
from ..engine.answer import answer
from ..engine.clock import Clock
from ..engine.feeds import Feed
from ..engine.group_commit import TOO_LATE, CommitQueue, Outcome, ThreadExecutor
from ..engine.index_builder import Indexed
from ..engine.pool import Connections
from ..engine.tables import Tables
from ..engine.transaction import PURGE, Transaction
from ..engine.vectors import needs_vectors
from .connection import Connection, connect
from .errors import is_lost, is_passing, mapped
from .notify import Listener, Teller
from .prefetch import is_known_beforehand
from .schema import begin_vectors, migrate
from .server_clock import ServerClock
from .tables import GuardedRun, PostgresReads, run_on
from .unit_of_work import NotAlone, Unit

if TYPE_CHECKING:
    from .async_store import AsyncPostgresStore

T = TypeVar("T")

CONNECTIONS = 8
"""Connections of one store at once. PostgreSQL allows 100 in all by default, and gains nothing from many more than cores."""
_GRACE = 0.25
"""Seconds that the server has to say itself that it took too long."""
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


class PostgresStore(Indexed):
    """A `Store` in a PostgreSQL database (14 or newer), which any number of threads, processes and machines may use at once.

    Durable as the server is: with its defaults a write that has returned survives a crash and a power cut, with a
    synchronous replica also the loss of the machine. A lost connection, a failover, a deadlock are tried again until the
    timeout; no write happens twice.

    Args:
        url: ``postgresql://…``, as libpq takes it
            (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
        plans: limits for the namespaces; none by default.
        timeout: seconds that a call may take in all, retries included.

    Raises:
        InvalidArgument: not such an address.
        Unavailable: the server cannot be reached, or does not let us in.
        StoreError: the database cannot be used, or is from a newer botwire.
    """

    def __init__(self, url: str, *, plans: Plans | None = None, timeout: float = 10.0) -> None:
        self.address = without_password(url)
        self._url = url
        self._plans = plans or Plans()
        self.timeout = check_timeout(timeout)
        self._closed = False
        self._migrated = False
        self._keeps_vectors = False
        self._prepares = True
        self._server_clock = ServerClock()
        self.listener = Listener(lambda: connect(self._url, self.timeout))
        self._teller = Teller(self._notify)
        self._begin_anew()
        self._connections: Connections[Connection] = Connections(self._connect, private=False, on_fork=self._begin_anew)
        self._clock = Clock(lambda: self._server_clock() * 1000)

    def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        """As `GuardedStore.read`."""
        deadline = time.monotonic() + self.timeout
        if needs_vectors(query):
            self.begin_vectors(deadline)
        if isinstance(query, Search):
            self._bring_up_to_date(namespace, deadline)
        moment = self._now()

        def attempt(connection: Connection) -> T:
            if self._server_clock.is_old:
                self._hear(connection)
            guarded = None if guard is None else GuardedRun(connection, guard)
            if isinstance(query, Search):
                result = cast("T", self._search(connection, namespace, query, moment))
                if guarded is not None:
                    guarded.read_version()  # as it is now, not as it was in the snapshot
            else:
                reads = PostgresReads(namespace, guarded or run_on(connection))
                result = cast("T", answer(reads, self._plans, namespace, query, moment))
            if guarded is not None and not guarded.holds(moment):
                raise GuardFailed(GUARD_FAILED)
            return result

        return self._persist(attempt, deadline)

    def _search(self, connection: Connection, namespace: str, query: Search, moment: int) -> list[Hit]:
        """Answer from one snapshot, so that all statements see the same."""
        connection.run_all([("begin_snapshot", ()), ("plan_anew", ())])
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
        """As `GuardedStore.write`."""
        deadline = time.monotonic() + self.timeout
        if needs_vectors(operations):
            self.begin_vectors(deadline)
        write = Write(namespace, tuple(operations), idempotency_key, guard)
        return self.queue(namespace).write(write, deadline)

    @property
    def plans(self) -> Plans:
        """As `OperatedStore.plans`."""
        return self._plans

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        """As `Store.changes`."""
        return Feed(self, namespace, query, self.listener)

    def to_async(self) -> AsyncPostgresStore:
        """As `OperatedStore.to_async`."""
        from .async_store import AsyncPostgresStore

        return AsyncPostgresStore(self)

    def set_plan(self, namespace: str, plan: str | None) -> None:
        """As `OperatedStore.set_plan`."""
        if plan is not None:
            self._plans.check(plan)
        self._change_now(namespace, lambda transaction, _: transaction.set_plan(namespace, plan))

    def _index_cursor(self, namespace: str) -> str | None:
        def attempt(connection: Connection) -> str | None:
            account = PostgresReads(namespace, run_on(connection)).get_account(namespace)
            return None if account is None else account.index_cursor

        return self._persist(attempt, time.monotonic() + self.timeout)

    def _change(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        return self.queue(namespace).run(lambda until: self._change_here(namespace, change, until), deadline)

    def _change_here(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        """Run a change that is in its turn, or must not wait for one. The database locks the namespace."""

        def attempt(connection: Connection) -> T:
            unit = Unit(connection, namespace)
            unit.begin(deadline - time.monotonic())
            transaction = Transaction(unit, self._plans, self._clock.now())
            result = change(transaction, unit)
            transaction.finish()
            if unit.commit():
                self.tell(namespace)
            return result

        return self._persist(attempt, deadline)

    def begin_vectors(self, deadline: float | None = None) -> None:
        """Ensure that the tables for vectors exist, or raise `InvalidArgument`: they need the extension pgvector."""
        if not self._keeps_vectors:
            until = time.monotonic() + self.timeout if deadline is None else deadline
            self._persist(lambda connection: begin_vectors(connection.raw, self.address, self.timeout), until)
            self._keeps_vectors = True

    def close(self) -> None:
        """As `Store.close`."""
        self._closed = True
        self.threads.shutdown()
        self._teller.close()
        self.listener.close()
        self._connections.close()

    def check_open(self) -> None:
        """Raise `StoreError` when the store is closed."""
        if self._closed:
            raise StoreError("the store is closed; open a new one")

    def queue(self, namespace: str) -> CommitQueue:
        """Return where the writes of a namespace gather; namespaces are committed side by side."""
        queue = self._queues.get(namespace)
        if queue is None:
            with self._mutex:
                queue = self._queues.setdefault(
                    namespace, CommitQueue(self._commit, executor=ThreadExecutor(self.threads))
                )
        return queue

    # Those who watch

    def tell(self, namespace: str) -> None:
        """Have those who watch a namespace told soon, in whatever process."""
        self._teller.tell(namespace)

    def _notify(self, text: str) -> None:
        with self._connection(time.monotonic() + 1) as connection:
            connection.run("notify", text)

    # The clock

    def _now(self) -> int:
        """Return the time, outside of any transaction."""
        moment = self._clock.now()
        if not self._clock.is_behind or not self._turning.acquire(blocking=False):
            return moment
        try:
            self._go_back()
        except BotWireError:
            return moment  # until that works, time stands still
        finally:
            self._turning.release()
        return self._clock.now()

    def transaction(self, unit: Unit, *, may_turn: bool) -> Transaction:
        """Return a transaction at the time that the server has told."""
        self._server_clock.hear(unit.time, unit.asked)
        moment = self._clock.now()
        if self._clock.is_behind and may_turn:
            raise _Turned
        return Transaction(unit, self._plans, moment, ages_are_known=self._clock.ages_are_known)

    def _go_back(self) -> None:
        """Remove what has expired by the latest time there was, before time goes on from an earlier one."""
        deadline = time.monotonic() + self.timeout
        latest, after = self._clock.latest, ""
        while True:
            values = latest, after, PURGE
            page = self._persist(lambda connection, values=values: connection.run("expiring", *values), deadline)  # type: ignore[misc]
            for (after,) in page:
                self._change_here(after, partial(_purge, after), deadline)
            if len(page) < PURGE:
                break
        wall = self._server_clock()
        self._persist(lambda connection: connection.run("redate_responses", wall), deadline)
        self._clock.go_back(0)

    # Connections

    def _begin_anew(self) -> None:
        """At the beginning, and in a forked child."""
        self.listener.begin_anew()
        self._teller.begin_anew()
        self._mutex = threading.Lock()
        self._turning = threading.Lock()
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._queues: weakref.WeakValueDictionary[str, CommitQueue] = weakref.WeakValueDictionary()
        self.threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="botwire-postgres")

    def _connect(self) -> Connection:
        try:
            connection = connect(self._url, self.timeout)
        except psycopg.Error as error:
            raise mapped(self.address, error) from error
        try:
            if not self._migrated:
                migrate(connection.raw, self.address)
                self._migrated = True
            connection.prepares = False  # for once, it says nothing about a pooler
            self._hear(connection)
        except psycopg.Error as error:
            connection.close()
            raise mapped(self.address, error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _hear(self, connection: Connection) -> None:
        ((there,),) = connection.run("time")
        self._server_clock.hear(there, connection.asked)

    @contextmanager
    def _connection(self, deadline: float) -> Iterator[Connection]:
        """Lend a connection until a deadline."""
        if not self._slots.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise Timeout(TOO_LATE)
        try:
            connection = self._connections.take()
            while not connection.is_alive():
                self._connections.drop(connection)
                connection = self._connections.take()
            connection.deadline = deadline + _GRACE
            connection.prepares = self._prepares
            try:
                yield connection
            finally:
                if connection.settle():
                    self._connections.give(connection)
                else:
                    self._connections.drop(connection)
        finally:
            self._slots.release()

    def _persist(self, attempt: Callable[[Connection], T], deadline: float) -> T:
        """Repeat what may be repeated until it succeeds, or until a deadline."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, Deadline(deadline))
        while True:
            try:
                with self._connection(deadline) as connection:
                    return attempt(connection)
            except (psycopg.Error, Unavailable) as error:
                if not self._may_retry(error, backoff):
                    raise mapped(self.address, error) from error

    def _may_retry(self, error: Exception, backoff: Backoff) -> bool:
        """Return whether to try again. If so, the pause before it is over."""
        pause = backoff.next() if is_passing(error) else None
        if pause is None:
            return False
        if isinstance(error, psycopg.errors.InvalidSqlStatementName | psycopg.errors.DuplicatePreparedStatement):
            self._prepares = False  # a pooler that lends another connection to each transaction is between
        time.sleep(pause)
        return True

    # Commits

    def _commit(self, writes: Sequence[Write], deadline: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for together, some in groupby(writes, is_known_beforehand):
            for group in [list(some)] if together else [[write] for write in some]:
                outcomes += self._commit_group(group, deadline)
        return outcomes

    def _commit_group(self, writes: Sequence[Write], deadline: float) -> list[Outcome]:
        """Commit writes in one transaction, and if its answer is lost find out whether it happened."""
        mark = None if all(write.idempotency_key for write in writes) else "\x01" + new_id()
        told: list[Outcome] | None = None
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, Deadline(deadline))
        new_ids = may_turn = True
        self._now()
        while True:
            attempt = _Attempt(self, writes, mark, new_ids=new_ids, may_turn=may_turn)
            try:
                with self._connection(deadline) as connection:
                    return attempt.run(connection, told, deadline)
            except _Turned:
                self._now()
                may_turn = False
                continue
            except NotAlone:
                return [outcome for write in writes for outcome in self._commit_group([write], deadline)]
            except BotWireError as error:
                if not isinstance(error, Unavailable):
                    return [error] * len(writes)
                failure: Exception = error
            except psycopg.Error as error:
                failure = error
            told = attempt.outcomes or told
            new_ids = False
            if not self._may_retry(failure, backoff):
                return [self._failure(failure, uncertain=told is not None)] * len(writes)

    def _failure(self, error: Exception, *, uncertain: bool) -> BotWireError:
        if uncertain:
            return Timeout(f"{self.address}: the connection was lost during a commit; the write may have happened")
        return mapped(self.address, error)


def _purge(namespace: str, transaction: Transaction, _: Tables) -> None:
    transaction.purge(namespace)


class _Turned(Exception):
    """The server's clock was set back since it was last heard of: see to that before anything is written."""


class _Attempt:
    """One try to commit some writes. ``outcomes`` is set from when they may have been committed."""

    def __init__(
        self, store: PostgresStore, writes: Sequence[Write], mark: str | None, *, new_ids: bool, may_turn: bool
    ) -> None:
        self._store = store
        self._writes = writes
        self._mark = mark
        self._new_ids = new_ids
        self._may_turn = may_turn
        self.outcomes: list[Outcome] | None = None

    def run(self, connection: Connection, told: list[Outcome] | None, deadline: float) -> list[Outcome]:
        """Commit and return the outcomes, or those told if it had happened when they were told."""
        unit = Unit(connection, self._writes[0].namespace, self._writes, new_ids=self._new_ids)
        has_happened = unit.begin(deadline - time.monotonic(), self._mark if told is not None else None)
        outcomes = told if told is not None and has_happened else self._apply(unit)
        connection.unreplicated = False
        try:
            # Also what has happened, whose lock is committed: nobody may have waited for its replica.
            is_listened_to = unit.commit()
        except psycopg.Error as error:
            if is_lost(error):
                self.outcomes = outcomes
            raise
        if is_listened_to:
            self._store.tell(self._writes[0].namespace)
        if connection.unreplicated:
            raise StoreError("the commit was cancelled while it waited for its replica: it is on the primary alone")
        return outcomes

    def _apply(self, unit: Unit) -> list[Outcome]:
        transaction = self._store.transaction(unit, may_turn=self._may_turn)
        alone = len(self._writes) == 1
        outcomes: list[Outcome] = [transaction.apply(write, alone=alone) for write in self._writes]
        transaction.finish()
        if self._mark is not None:
            transaction.save_response(self._writes[0].namespace, self._mark, "")
        return outcomes


def without_password(url: str) -> str:
    """Return an address as it may be shown, or raise `InvalidArgument` when it is none."""
    try:
        psycopg.conninfo.conninfo_to_dict(url)
        parts = urlsplit(url)
    except (psycopg.Error, ValueError):
        # Not "from": that message could hold the password.
        raise InvalidArgument("not an address: write postgresql://user:password@host:5432/database") from None
    user, at, hosts = parts.netloc.rpartition("@")
    query = "&".join(item for item in parts.query.split("&") if not item.startswith(("password=", "sslpassword=")))
    shown = f"postgresql://{user.partition(':')[0]}{at}{hosts}{parts.path}"
    return f"{shown}?{query}" if query else shown
