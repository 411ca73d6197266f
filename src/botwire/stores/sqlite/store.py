"""The store in one SQLite file, for callers that wait in place and for event loops."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import apsw

from ...errors import BotWireError, StoreError
from ...limits import check_timeout
from ...operations import Guard, Operation, Result, Write
from ...plans import Plans
from ...queries import ListChanges, Query, Search
from ...records import Progress
from ...store import GUARD_FAILED, GuardFailed
from ..engine.answer import answer, is_heavy, is_short, reads_several
from ..engine.clock import SAVE_INTERVAL, Clock
from ..engine.feeds import Feed, Poller
from ..engine.group_commit import COMMIT_THREAD, CommitQueue, Outcome
from ..engine.journal import progress
from ..engine.pool import Connections, SharedConnection
from ..engine.removal import REMOVALS
from ..engine.retention import idle_of_plans
from ..engine.search import search
from ..engine.stop import Stop
from ..engine.store import AwaitedStore, DatabaseStore
from ..engine.tables import NamespaceState, Tables
from ..engine.transaction import Transaction
from ..engine.turns import ReadingTurns, until_cancelled
from ..engine.word_index import SHORT_STEP_BYTES, STEP_BYTES
from . import waiting
from .connection import MEMORY, OLDEST_SQLITE, PRAGMAS, Connection, connect, mapped, mapped_errors, migrate
from .lock import FileLock
from .place import LEFT, LOST, OTHER_SQLITE, UNLOCKED, Moved, Place, place_of, steadily
from .tables import SqliteTables
from .wal import CHECKPOINT, Log

T = TypeVar("T")

_ROUNDING = 0.05
"""Seconds by which a call may take longer than its timeout, to save a system call in each."""
LOOK = 100_000
"""Microseconds after which a read checks that the path still names the file. A write always does."""
MOST_AT_ONCE = 1 << 20
"""Bytes of values that a group may replace, remove or pop on an event loop. SQLite takes 0.5 ms for them."""
_SINCE_COMMIT = 1_000
"""Microseconds after a commit for which its check is good for the next: no other program can open the file and write by then."""


class SqliteStore(DatabaseStore):
    """A `Store` in one SQLite file, which any number of threads and processes may use at once.

    Durable: WAL with ``synchronous=FULL``, so that a write that has returned survives a crash and a power cut
    (https://www.sqlite.org/pragma.html#pragma_synchronous).

    Args:
        path: the file, created if it does not exist (readable by its owner only). ``:memory:``: a store of this object's own
            that ends when it is closed.
        plans: limits for the namespaces; none by default.
        timeout: seconds that a call may take, waiting included.

    Raises:
        StoreError: the file cannot be opened, is not a botwire file, or is from a newer botwire.
    """

    _vfs: str | None = None
    """SQLite's layer over the operating system, by name. Tests put failing disks here (https://www.sqlite.org/vfs.html)."""
    _checkpoint = CHECKPOINT
    """Frames in the log after which it is copied into the database. Tests do it more often."""
    _log = Log
    _wall_ns: Callable[[], int] = staticmethod(time.time_ns)
    """The wall clock in nanoseconds. Tests put one here that jumps."""

    def __init__(self, path: str | os.PathLike[str], *, plans: Plans | None = None, timeout: float = 10.0) -> None:
        if tuple(map(int, apsw.sqlite_lib_version().split("."))) < OLDEST_SQLITE:
            raise StoreError(f"SQLite {apsw.sqlite_lib_version()} can damage the file: upgrade apsw to 3.51.3 or newer")
        super().__init__()
        in_memory = os.fspath(path) == MEMORY
        self._path = MEMORY if in_memory else str(Path(path).absolute())
        self.address = f"sqlite:///{self._path}"
        self.plans = plans or Plans()
        self.timeout = check_timeout(timeout)
        self.has_left = False
        """Whether the path stopped naming the file, so that this store refuses to use it."""
        self._database: tuple[int, int] | None = None
        """The device and inode of the file."""
        self._look_at = self._checked = 0
        """When the next read checks the names, and the time of the last commit, in microseconds."""
        self._lock = FileLock.beside(None if in_memory else self._path)
        pool = SharedConnection if in_memory else Connections
        self._connections: Connections[Connection] = pool(self._connect, on_fork=self._on_fork)
        self._idle = self._connections.idle
        self.commits = CommitQueue(self._commit)
        self._clock = Clock(self._wall_ns)
        self._connections.start()
        self._start_clock()
        self._moment = 0
        self._turns: int | None = None
        self._known: dict[str, NamespaceState] = {}
        self._beside: Place | None = None
        """Of the transaction that runs now: its time, how often the file's time was set back if it is now, the states of namespaces
        that it need not read, and its files if another copy of SQLite may use them too."""

    def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None, stop: Stop | None = None) -> T:
        if isinstance(query, Search):
            stop = stop or Stop.after(self.timeout)
            self._bring_up_to_date(namespace, stop.at)
        moment, clock = self._wall_ns() // 1000, self._clock
        if moment >= clock.latest:  # as nearly always; this runs with each read
            clock.latest = moment
        else:
            moment = self._follow_clock()
        connection = self._borrow()
        try:
            if not moment < self._look_at <= moment + LOOK:  # or the clock was set back
                self._check_names(connection, moment)
            if stop is None and not reads_several(query):  # as nearly always
                result = answer(connection.tables, self.plans, namespace, query, moment)
            else:
                result = self._answer(connection, namespace, query, moment, stop or Stop(math.inf))
            if guard is not None and not connection.holds(guard, moment):
                raise GuardFailed(GUARD_FAILED)
        except (apsw.Error, UnicodeDecodeError) as error:
            raise mapped(self._path, error) from error
        except TypeError as error:
            self._raise_if_damaged(connection, error)
            raise
        else:
            return cast("T", result)
        finally:
            if connection.in_transaction:
                connection.roll_back()
            self._return(connection)

    def _answer(self, connection: Connection, namespace: str, query: Query[T], moment: int, stop: Stop) -> T:
        """Answer a query from one snapshot, which all of its statements see."""
        if isinstance(query, Search) and query.vector is not None:
            connection.load_vectors()
        connection.execute("BEGIN")
        find = cast("Callable[..., T]", partial(search, stop=stop) if isinstance(query, Search) else answer)
        with connection.stopping(stop):
            found = find(connection.tables, self.plans, namespace, query, moment)
        connection.execute("COMMIT")
        return found

    def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
    ) -> list[Result]:
        write = Write(namespace, tuple(operations), idempotency_key, guard)
        if len(operations) == 1 and type(operations[0]) in REMOVALS:
            return self._in_steps(write, self.commits.write)
        results = self.commits.write(write, time.monotonic() + self.timeout)
        if self.behind:
            self._catch_up_after(write)
        return results

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        return Feed(self, namespace, query)

    def to_async(self) -> AsyncSqliteStore:
        return AsyncSqliteStore(self)

    def peek_version(self, namespace: str) -> tuple[Progress, object]:
        """Return the progress of a namespace, and a mark that changes with each commit, in whatever namespace.

        ``data_version`` is as of the last read of its connection; see `Connection.holds`.
        """
        moment = self._follow_clock()

        def peek(connection: Connection) -> tuple[Progress, object]:
            self._check_names(connection, moment)
            return progress(connection.tables, namespace, moment), (id(connection), connection.data_version())

        return self._look(peek)

    def close(self) -> None:
        self.commits.close()
        self._connections.close()
        # In its turn: a commit of another thread may be using the lock. If there is no turn, as in a finalizer that interrupted
        # a commit, the file is closed when the lock is collected.
        with contextlib.suppress(BotWireError):
            self.commits.run(lambda _: self._lock.close(), time.monotonic() + self.timeout)

    def _state(self, namespace: str) -> NamespaceState | None:
        return self._look(lambda connection: connection.tables.get_state(namespace))

    def _change(self, _: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        def in_transaction(tables: SqliteTables) -> T:
            transaction = Transaction(tables, self.plans, self._clock.now(), behind=self.behind)
            result = change(transaction, tables)
            transaction.finish()
            return result

        return self.commits.run(lambda deadline: self._transact(in_transaction, deadline), deadline)

    # Connections

    def _look(self, read: Callable[[Connection], T]) -> T:
        connection = self._connections.take()
        try:
            with mapped_errors(self._path):
                return read(connection)
        finally:
            self._connections.give(connection)

    def _borrow(self) -> Connection:
        try:  # a hot path: a call of the pool's costs as much as a read
            return self._idle.pop()
        except IndexError:
            return self._connections.take()

    def _return(self, connection: Connection) -> None:
        if self._connections.is_simple:
            self._idle.append(connection)
        else:
            self._connections.give(connection)

    def _connect(self) -> Connection:
        return steadily(self._path, self._open)

    def _open(self) -> Connection:
        with mapped_errors(self._path):
            place = None if self._path == MEMORY else place_of(self._path)
            if place is not None and self._database not in {None, place.database}:
                raise self._left(LEFT)
            connection = connect(self._path, place, self._vfs)
            try:
                connection.set_busy_timeout(int(self.timeout * 1000))
                # Without it, SQLite plans every range with a bound parameter again for each value: 30 µs instead of 4.
                connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
                migrate(connection, self._path, self.timeout)
                connection.execute(PRAGMAS).fetchall()  # apsw stops at the first row that is not fetched
                if place is not None:
                    place.hold()
                    self._database = place.database
                    connection.log = self._log(place.paths, self._checkpoint)
                    connection.set_wal_hook(connection.log)
            except BaseException as error:
                is_moved = place is not None and (isinstance(error, Moved) or not place.has_database())
                if is_moved:
                    connection.leave()
                connection.close()
                if is_moved and isinstance(error, apsw.Error):
                    raise Moved from error
                raise
            return connection

    def _on_fork(self) -> None:
        self._idle = self._connections.idle
        self._lock.close()
        self.commits = CommitQueue(self._commit)

    # The clock

    def _start_clock(self) -> None:
        try:
            self._look(self._read_clock)
        except BotWireError:
            self._connections.close()
            raise

    def _read_clock(self, connection: Connection) -> None:
        with contextlib.suppress(apsw.CorruptError):  # the rest can still be read
            self._clock.start(*connection.tables.get_clock())

    def _follow_clock(self) -> int:
        """Return the time for a read. If the wall clock was set back far, the store follows it first."""
        moment = self._clock.now()
        if not self._clock.is_behind:
            return moment
        with contextlib.suppress(BotWireError):  # if the disk fails, the store's time stops until it works again
            # Every transaction follows the wall clock, so an empty one is enough.
            self.commits.run(lambda until: self._transact(lambda _: None, until), time.monotonic() + self.timeout)
        return self._clock.now()

    def _follow_back(self, tables: SqliteTables) -> int:
        """Follow the wall clock back: remove what had expired by the latest time, unless another process has."""
        seen, self._turns = tables.get_clock()
        wall = self._clock.wall()
        if self._turns == self._clock.turns:
            self._turns += 1
            self._known = {}
            tables.set_back_clock(max(seen, self._clock.latest), wall, self._turns, idle_of_plans(self.plans))
        return wall

    # Transactions. Only the queue begins them, so there is one at a time, whose state is in attributes.

    def _commit(self, writes: Sequence[Write], deadline: float) -> list[Outcome]:
        return self._transact(lambda tables: self.apply(tables, writes), deadline)

    def apply(
        self,
        tables: SqliteTables,
        writes: Sequence[Write],
        index_bytes: int = STEP_BYTES,
        most_bytes: float = math.inf,
    ) -> list[Outcome]:
        """Apply the writes of a group inside a transaction, each whole or not at all."""
        clock, moment, known = self._clock, self._moment, self._known
        transaction = Transaction(
            tables,
            self.plans,
            moment,
            ages_are_known=clock.ages_are_known,
            known=known,
            index_bytes=index_bytes,
            behind=self.behind,
            most_bytes=most_bytes,
        )
        alone = len(writes) == 1
        outcomes: list[Outcome] = [transaction.apply(write, alone=alone) for write in writes]
        transaction.finish()
        if moment - clock.saved > SAVE_INTERVAL:
            turns = tables.save_clock(moment)
            if turns is not None:
                clock.turns, clock.saved = turns, moment
        tables.known = transaction.states
        return outcomes

    def _transact(self, change: Callable[[SqliteTables], T], deadline: float) -> T:
        """Run a change in a transaction, and return when it is on disk."""
        connection = self._borrow()
        try:  # one block, so that Ctrl-C leaves nothing held wherever it comes
            self._begin(connection, deadline)
            result = change(connection.tables)
            self._save(connection)
        except BaseException as error:
            self._undo(connection, error)
            raise
        self._end(connection)
        return result

    def begin(self, writes: Sequence[Write]) -> tuple[Connection, list[Outcome]]:
        """Apply writes in a transaction that is still open on the connection returned: `commit` it, in a `COMMIT_THREAD`.

        It indexes little for search, because it may run on an event loop. Raises `Timeout` at once if another process writes,
        and `NotHere` if the writes replace, remove or pop more than `MOST_AT_ONCE` bytes.
        """
        connection = self._connections.take()
        try:
            self._begin(connection, 0)
            self._connections.hand_over(COMMIT_THREAD)
            return connection, self.apply(connection.tables, writes, SHORT_STEP_BYTES, MOST_AT_ONCE)
        except BaseException as error:
            self._undo(connection, error)
            raise

    def commit(self, connection: Connection) -> None:
        """Commit what `begin` began. It is on disk when this returns."""
        try:
            self._save(connection)
        except BaseException as error:
            self._undo(connection, error)
            raise
        self._end(connection)

    def _save(self, connection: Connection) -> None:
        """Commit a transaction, and give the lock back. It is on disk when this returns."""
        connection.run("COMMIT")
        connection.committed = connection.data_version()
        place, log = connection.place, connection.log
        if self._beside is not None:
            self._beside.unlock_recovery()
        if place is not None and log is not None and log.names != place.names:
            reason = self._left(LOST)
            if not connection.leave():
                raise reason
        self._checked = self._moment
        self._lock.give()

    def _begin(self, connection: Connection, deadline: float) -> None:
        """Begin a transaction when no other process writes, and set its time."""
        try:
            self._lock.take()
        except BlockingIOError:
            self._lock.wait(deadline)
        place = self._beside = connection.place if OTHER_SQLITE in sys.modules else None
        if place is not None and place.find_writer()[:2] != UNLOCKED:
            waiting.wait_for_writer(self._path, place, deadline)
        # The connection itself waits for programs that do not know the lock, for as long as a whole call may take.
        if deadline - time.monotonic() > self.timeout - _ROUNDING:
            connection.run("BEGIN IMMEDIATE")
        else:
            waiting.begin_within(connection, deadline, self.timeout)
        if place is not None:
            try:
                place.lock_recovery()
            except BlockingIOError:
                waiting.begin_again(self._path, connection, place, deadline, self.timeout)
        self._turns = None
        # A lone writer need not read what it wrote itself: nothing has changed while `data_version` is that of its last commit.
        known, connection.tables.known = connection.tables.known, {}
        self._known = known if connection.data_version() == connection.committed else {}
        moment = self._moment = self._wall_ns() // 1000
        if not 0 <= moment - self._checked < _SINCE_COMMIT:
            self._check_names(connection, moment)
        clock = self._clock
        if moment >= clock.latest:  # as nearly always; this runs with each write
            clock.latest = moment
        else:
            self._moment = clock.now()
            if clock.is_behind:
                self._moment = self._follow_back(connection.tables)

    def _check_names(self, connection: Connection, moment: int) -> None:
        """Raise `StoreError`, now and from now on, if the path does not name the file that is open, or its log."""
        self._look_at = moment + LOOK
        place, log = connection.place, connection.log
        if place is not None and log is not None and log.look() != place.names:
            raise self._left(LEFT)

    def _left(self, reason: str) -> StoreError:
        """Stop using the files, and return the error."""
        self.has_left = True
        self._connections.close(LEFT.format(self._path))
        return StoreError(reason.format(self._path))

    def _end(self, connection: Connection) -> None:
        """After a commit: give the connection back, and let the clock follow if the file did."""
        if self._turns is not None:
            self._clock.go_back(self._turns)
        self._return(connection)

    def _undo(self, connection: Connection, error: BaseException) -> None:
        """Roll back, release everything, and raise an error of the database as one of botwire."""
        connection.roll_back()
        if self._beside is not None:
            self._beside.unlock_recovery()
        connection.tables.known = {}
        self._lock.give()
        try:
            if isinstance(error, TypeError):
                self._raise_if_damaged(connection, error)
        finally:
            if isinstance(error, apsw.ReadOnlyError):
                # SQLite opened the file for reading when it could not be written, and would never try again.
                self._connections.drop(connection)
            else:
                self._connections.give(connection)
        if isinstance(error, apsw.Error | UnicodeDecodeError):
            self._check_names(connection, self._moment)
            raise mapped(self._path, error) from error

    def _raise_if_damaged(self, connection: Connection, error: TypeError) -> None:
        """Raise `StoreError` if a row of another type than its columns have explains an error."""
        damage = connection.damage()
        if damage is not None:
            raise mapped(self._path, apsw.CorruptError(damage)) from error


class AsyncSqliteStore(AwaitedStore[SqliteStore]):
    """An `AsyncStore` over a `SqliteStore`.

    A short read runs at once on the event loop: by key it takes some microseconds, a hop to a thread and back takes ten
    times as long. Long reads and commits run on threads.
    """

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self._poller = Poller(self, peek_version=store.peek_version)
        self._turns = ReadingTurns()

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        if is_short(query):
            return self.store.read(namespace, query, guard=guard)
        return await self._read_long(namespace, query, guard)

    async def _read_long(self, namespace: str, query: Query[T], guard: Guard | None) -> T:
        heavy = is_heavy(query)
        stop = Stop.after(self.store.timeout if heavy else math.inf)
        read = partial(self.store.read, namespace, query, guard=guard, stop=stop)

        def start() -> asyncio.Future[T]:
            return asyncio.ensure_future(self._in_thread(query, read))

        return await (self._turns.run(namespace, stop, start) if heavy else until_cancelled(start(), stop))

    async def _in_thread(self, query: Query[T], read: Callable[[], T]) -> T:
        del query
        return await asyncio.to_thread(read)

    async def _write(self, write: Write) -> list[Result]:
        results = await self.store.commits.write_async(write, time.monotonic() + self.store.timeout)
        if self.store.behind:
            await asyncio.to_thread(self.store._catch_up_after, write)
        return results
