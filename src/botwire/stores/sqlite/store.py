"""The store in one SQLite file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from ...errors import BotWireError, InvalidArgument, StoreError, Timeout, Unavailable
from ...limits import check_timeout
from ...plans import Plans
from ...records import ListChanges, Operation, Permit, Progress, Query, Result, Search, Write, now
from ...store import STALE, Stale
from ..engine.answer import answer
from ..engine.clock import KEEP, Clock
from ..engine.feeds import Feed
from ..engine.group_commit import CommitQueue, Outcome
from ..engine.index_builder import Indexed, state
from ..engine.journal import progress
from ..engine.permits import Row, Run, access_version, entries_hold
from ..engine.pool import Connections
from ..engine.statements import load_migrations, load_queries
from ..engine.transaction import Transaction
from .lock import NoLock, lock_for

T = TypeVar("T")

OLDEST_SQLITE = (3, 51, 3)
"""The first version without the WAL-reset bug, which can corrupt a database that several connections write
(https://www.sqlite.org/releaselog/3_51_3.html)."""
APPLICATION_ID = 0x424F5457
"""Marks a file as ours (``BOTW``): https://www.sqlite.org/pragma.html#pragma_application_id."""

SQL_FOLDER = Path(__file__).parent / "sql"
_MIGRATIONS = load_migrations(SQL_FOLDER / "migrations")
_SQL = load_queries(SQL_FOLDER / "queries.sql") | {
    "savepoint": "SAVEPOINT write",
    "release": "RELEASE write",
    "undo": "ROLLBACK TO write; RELEASE write",
    "changes": "SELECT changes()",
    "begin": "BEGIN",
    "commit": "COMMIT",
}
_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -16384;
PRAGMA trusted_schema = OFF;
PRAGMA secure_delete = FAST;
"""


class SqliteStore(Indexed):
    """A `Store` in one SQLite file, which any number of threads and processes may use at once.

    Durable: WAL with ``synchronous=FULL``, so that a write that has returned survives a crash and a power cut
    (https://www.sqlite.org/pragma.html#pragma_synchronous).

    Args:
        path: the file, made when it is not there (readable by its owner only); ``:memory:`` for a store of this object's
            own that is gone when it is closed.
        plans: limits for the namespaces; none by default.
        timeout: seconds that a write waits for its turn.

    Raises:
        StoreError: the file cannot be opened, is not a botwire file, or is from a newer botwire.
    """

    _vfs: str | None = None
    """SQLite's layer over the operating system, by name; tests put failing disks here (https://www.sqlite.org/vfs.html)."""
    _wall: Callable[[], int] = staticmethod(now)
    """The wall clock in microseconds; tests put one here that jumps."""

    def __init__(self, path: str | os.PathLike[str], *, plans: Plans | None = None, timeout: float = 10.0) -> None:
        if tuple(map(int, apsw.sqlite_lib_version().split("."))) < OLDEST_SQLITE:
            raise StoreError(f"SQLite {apsw.sqlite_lib_version()} can damage the file: upgrade apsw to 3.51.3 or newer")
        memory = os.fspath(path) == ":memory:"
        self._path = ":memory:" if memory else str(Path(path).absolute())
        self._plans = plans or Plans()
        self.timeout = check_timeout(timeout)
        self._lock = NoLock() if memory else lock_for(self._path)
        self._connections = Connections(self._connect, private=memory, on_fork=self._on_fork)
        self.commits = CommitQueue(self._commit)
        self._clock = Clock(self._wall)
        self._start_clock()

    @property
    def address(self) -> str:
        """``sqlite:///`` and the path."""
        return f"sqlite:///{self._path}"

    def read(self, namespace: str, query: Query[T], *, permit: Permit | None = None) -> T:
        """As `GuardedStore.read`."""
        if isinstance(query, Search):
            self._bring_up_to_date(namespace)
        moment = self._now()
        connection = self._connections.take()
        try:
            result = self._answer(connection, namespace, query, moment)
            if permit is not None and not connection.holds(permit, moment):
                raise Stale(STALE)
        except (apsw.Error, TypeError) as error:
            raise self._mapped(error) from error
        else:
            return result
        finally:
            connection.roll_back()
            self._connections.give(connection)

    def _answer(self, connection: Connection, namespace: str, query: Query[T], moment: int) -> T:
        if not isinstance(query, Search):
            return cast("T", answer(connection.run, self._plans, namespace, query, moment))
        if query.vector is not None:
            connection.know_vectors()
        connection.run("begin", ())  # so that all of its statements see the same
        found = answer(connection.run, self._plans, namespace, query, moment)
        connection.run("commit", ())
        return cast("T", found)

    def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        permit: Permit | None = None,
    ) -> list[Result]:
        """As `GuardedStore.write`."""
        return self.commits.write(Write(namespace, tuple(operations), idempotency_key, permit), self.timeout)

    @property
    def plans(self) -> Plans:
        """As `OperatedStore.plans`."""
        return self._plans

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        """As `Store.changes`."""
        return Feed(self, namespace, query)

    def glance(self, namespace: str) -> tuple[Progress, object]:
        """Return how far a namespace is, and a mark that is another one when anything was committed since.

        ``data_version`` is as of the last read of its connection; see `Connection.holds`.
        """
        moment = self._now()
        connection = self._connections.take()
        try:
            return progress(connection.run, namespace, moment), (id(connection), connection.data_version())
        except (apsw.Error, TypeError) as error:
            raise self._mapped(error) from error
        finally:
            self._connections.give(connection)

    def set_plan(self, namespace: str, plan: str | None) -> None:
        """Put a namespace on a plan from now on (None: on the default of whoever writes). For operators.

        Raises:
            InvalidArgument: there is no such plan.
        """
        if plan is not None:
            self._plans.check(plan)

        def change(run: Run) -> None:
            transaction = Transaction(run, self._plans, self._clock.now())
            _, place = transaction.open_account(namespace)
            run("set_plan", (place, plan))

        self._transact(change)

    def _index_state(self, namespace: str) -> str | None:
        connection = self._connections.take()
        try:
            return state(connection.run, namespace)
        except (apsw.Error, TypeError) as error:
            raise self._mapped(error) from error
        finally:
            self._connections.give(connection)

    def _change(self, _: str, change: Callable[[Transaction, Run], T]) -> T:
        def run_change(run: Run) -> T:
            transaction = Transaction(run, self._plans, self._clock.now())
            result = change(transaction, run)
            transaction.finish()
            return result

        return self._transact(run_change)

    def close(self) -> None:
        """As `Store.close`."""
        self.commits.close()
        self._connections.close()
        self._lock.close()

    # Connections

    def _connect(self) -> Connection:
        try:
            if self._path != ":memory:":
                # SQLite would make it readable for everybody; its -wal and -shm take after it.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = Connection(self._path, vfs=self._vfs, statementcachesize=100)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened: {error.strerror}") from error
        except apsw.Error as error:
            raise self._mapped(error) from error
        try:
            connection.set_busy_timeout(int(self.timeout * 1000))
            # Else every range with a bound parameter is planned anew for each value: 30 µs instead of 4.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            if schema_version(connection, self._path) < len(_MIGRATIONS):
                self._migrate(connection)
            connection.execute(_PRAGMAS).fetchall()  # apsw stops at the first row that nobody fetches
        except apsw.Error as error:
            connection.close()
            raise self._mapped(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: Connection) -> None:
        """Bring the file to the newest schema; of several processes one does it and the others find it done."""
        self._lock.acquire(self.timeout)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for number, script in enumerate(_MIGRATIONS, 1):
                if number > schema_version(connection, self._path):
                    connection.execute(script).fetchall()
                    connection.execute(f"PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        finally:
            self._lock.release()

    def _on_fork(self) -> None:
        self._lock.close()
        self.commits = CommitQueue(self._commit)

    # The clock

    def _start_clock(self) -> None:
        connection = self._connections.take()
        try:
            self._clock.start(*_clock_of(connection.run))
        except apsw.CorruptError:
            pass  # what else there is can still be read
        except apsw.Error as error:
            self._connections.close()
            raise self._mapped(error) from error
        finally:
            self._connections.give(connection)

    def _now(self) -> int:
        """Return the time, outside of any transaction."""
        moment = self._clock.now()
        if not self._clock.back:
            return moment
        with contextlib.suppress(BotWireError):  # a disk that fails: until it is mended, time stands still
            self._clock.go_back(self._transact_now(self._go_back))
        return self._clock.now()

    def _go_back(self, run: Run) -> int:
        """Remove what has expired by the latest time there was, unless another process has; return the file's turns."""
        seen, turns = _clock_of(run)
        clock = self._clock
        if turns != clock.turns or not clock.back:
            return turns
        latest, wall = max(seen, clock.latest), clock.wall()
        for name in ("release_expired", "delete_expired", "expect_expiries"):
            run(name, (latest,))
        run("redate_answers", (wall,))
        run("turn_clock", (wall, turns + 1))
        return turns + 1

    # Commits

    def _commit(self, writes: Sequence[Write]) -> list[Outcome]:
        return self._transact(lambda run: self.apply(run, writes))

    def apply(self, run: Run, writes: Sequence[Write]) -> list[Outcome]:
        """Apply the writes of a group inside a transaction, each whole or not at all."""
        clock = self._clock
        moment = clock.now()
        transaction = Transaction(run, self._plans, moment, keep_answers=clock.leaps())
        alone = len(writes) == 1
        outcomes: list[Outcome] = [transaction.apply(write, alone=alone) for write in writes]
        transaction.finish()
        if moment - clock.kept > KEEP:
            for (turns,) in run("keep_clock", (moment,)):
                clock.turns, clock.kept = turns, moment
        return outcomes

    def _transact(self, change: Callable[[Run], T]) -> T:
        """Run a change in a transaction of its own and return when it is on disk."""
        self._now()
        return self._transact_now(change)

    def _transact_now(self, change: Callable[[Run], T]) -> T:
        connection = self._connections.take()
        try:  # one block, so that Ctrl-C leaves nothing held wherever it strikes
            result = self._run(connection, change, self.timeout)
            connection.execute("COMMIT")
            self._lock.release()
        except BaseException as error:
            self._undo(connection, error)
            raise
        self._connections.give(connection)
        return result

    def begin(self, change: Callable[[Run], T], timeout: float) -> tuple[Connection, T]:
        """Run a change in a transaction, which is still open on the connection returned: `commit` it.

        Args:
            change: what to run.
            timeout: seconds to wait for other writers; 0: raise `Timeout` at once.
        """
        self._now()
        connection = self._connections.take()
        try:
            return connection, self._run(connection, change, timeout)
        except BaseException as error:
            self._undo(connection, error)
            raise

    def commit(self, connection: Connection) -> None:
        """Put down what `begin` began; it is on disk when this returns. Any thread may do it."""
        try:
            connection.execute("COMMIT")
            self._lock.release()
        except BaseException as error:
            self._undo(connection, error)
            raise
        self._connections.give(connection)

    def _run(self, connection: Connection, change: Callable[[Run], T], timeout: float) -> T:
        self._lock.acquire(timeout)
        if timeout == self.timeout:
            connection.execute("BEGIN IMMEDIATE")
        else:
            self._begin_within(connection, timeout)
        return change(connection.run)

    def _begin_within(self, connection: Connection, timeout: float) -> None:
        connection.set_busy_timeout(int(timeout * 1000))
        try:
            connection.execute("BEGIN IMMEDIATE")
        finally:
            connection.set_busy_timeout(int(self.timeout * 1000))

    def _undo(self, connection: Connection, error: BaseException) -> None:
        """Roll back, let go of everything, and raise an error of the database as one of ours."""
        connection.roll_back()
        self._lock.release()
        if isinstance(error, apsw.ReadOnlyError):
            # SQLite opened it for reading when it might not write, and would never try again.
            self._connections.drop(connection)
        else:
            self._connections.give(connection)
        if isinstance(error, apsw.Error | TypeError):
            raise self._mapped(error) from error

    def _mapped(self, error: Exception) -> BotWireError:
        return mapped(self._path, error)


class Connection(apsw.Connection):
    """A connection that knows the statements of queries.sql by name."""

    _seen = _access = -1
    _knows_vectors = False

    def run(self, name: str, values: tuple[Any, ...]) -> list[Row]:
        """Run a statement to its end and return its rows."""
        try:
            return self.execute(_SQL[name], values).fetchall()
        except UnicodeDecodeError as error:
            raise apsw.CorruptError(f"text that is not UTF-8: {error.reason}") from error

    def holds(self, permit: Permit, now: int) -> bool:
        """Whether a permit still held when this connection last read.

        ``data_version`` moves with whatever anybody commits and is looked up in 0.1 µs; it is as of the last read
        (https://www.sqlite.org/c3ref/c_fcntl_begin_atomic_write.html#sqlitefcntldataversion).
        """
        if self.data_version() != self._seen:
            self._access = access_version(self.run)
            self._seen = self.data_version()
        version = self._access
        if permit.version != version:
            if not entries_hold(self.run, permit, now):
                return False
            permit.version = version
        return True

    def know_vectors(self) -> None:
        """Know how far vectors are apart, by sqlite-vec."""
        if self._knows_vectors:
            return
        try:
            import sqlite_vec
        except ModuleNotFoundError:
            raise InvalidArgument(
                "to search by meaning, the store needs sqlite-vec: pip install 'botwire[vectors]' where its file is"
            ) from None
        self.enable_load_extension(enable=True)
        try:
            self.load_extension(sqlite_vec.loadable_path())
        finally:
            self.enable_load_extension(enable=False)
        self._knows_vectors = True

    def roll_back(self) -> None:
        """Undo the transaction if there is one. That the disk fails here too would hide why it is undone."""
        if self.in_transaction:
            with contextlib.suppress(apsw.Error):
                self.execute("ROLLBACK")

    def close(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - as in apsw
        """Close it. A disk that fails now fails only the checkpoint, which whoever opens the file next makes up for."""
        with contextlib.suppress(apsw.Error):
            super().close(force)


def _clock_of(run: Run) -> tuple[int, int]:
    """Return the latest time on disk and how often the file has gone back; a damaged file may have none."""
    for seen, turns in run("get_clock", ()):
        return seen, turns
    return 0, 0


def schema_version(connection: Connection, path: object) -> int:
    """Return the schema version of a file, 0 for an empty one, or raise `StoreError` when it is none of ours, or newer."""
    version, application = connection.pragma("user_version"), connection.pragma("application_id")
    if application != APPLICATION_ID and (
        version or application or connection.execute("SELECT 1 FROM sqlite_schema").get
    ):
        raise StoreError(f"{path} is a SQLite database, but not one of botwire: name another file")
    if version > len(_MIGRATIONS):
        raise StoreError(
            f"{path} is of schema version {version}, from a newer botwire; this one knows version "
            f"{len(_MIGRATIONS)}. Upgrade botwire to use it"
        )
    return int(version)


def mapped(path: object, error: Exception) -> BotWireError:
    """Return an error of the database at a path as one of ours."""
    for kind, cls, text in _MAPPED:
        if isinstance(error, kind):
            return cls(f"{path}: {text} ({error})")
    return StoreError(f"{path}: SQLite failed: {error}")


_MAPPED: tuple[tuple[type[Exception], type[BotWireError], str], ...] = (
    (apsw.BusyError, Timeout, "another program keeps the database locked; nothing was written, try again"),
    (apsw.LockedError, Timeout, "the database is locked; nothing was written, try again"),
    (apsw.FullError, StoreError, "the disk is full; nothing was written. Make room, then go on"),
    (apsw.ReadOnlyError, StoreError, "the file or its folder is read-only; nothing was written. Give write permission"),
    (apsw.PermissionsError, StoreError, "permission denied; nothing was written"),
    (apsw.CantOpenError, StoreError, "the file cannot be opened: does its folder exist, and may it be written?"),
    (apsw.NotADBError, StoreError, "the file is not a SQLite database: name another file"),
    (apsw.CorruptError, StoreError, "the file is damaged: restore a backup, or salvage it with SQLite's .recover"),
    (TypeError, StoreError, "the file is damaged, a row holds what no row can: restore a backup"),
    (apsw.IOError, StoreError, "the disk failed; nothing was written"),
    (apsw.NoMemError, Unavailable, "out of memory"),
    (apsw.InterruptError, Unavailable, "interrupted; nothing was written"),
)
