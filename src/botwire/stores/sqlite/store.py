"""The store in one SQLite file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import apsw

from ...errors import BotWireError, StoreError
from ...limits import check_timeout
from ...operations import Operation, Permit, Result, Write
from ...plans import Plans
from ...queries import ListChanges, Query, Search
from ...records import Progress
from ...store import STALE, Stale
from ...timestamps import now
from ..engine.answer import answer
from ..engine.changes import progress
from ..engine.clock import KEEP, Clock
from ..engine.feeds import Feed
from ..engine.group_commit import CommitQueue, Outcome
from ..engine.index_builder import Indexed, state
from ..engine.pool import Connections
from ..engine.rows import Run
from ..engine.transaction import Transaction
from .connection import _MIGRATIONS, _PRAGMAS, APPLICATION_ID, OLDEST_SQLITE, Connection, mapped, schema_version
from .lock import NoLock, lock_for

T = TypeVar("T")


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


def _clock_of(run: Run) -> tuple[int, int]:
    """Return the latest time on disk and how often the file has gone back; a damaged file may have none."""
    for seen, turns in run("get_clock", ()):
        return seen, turns
    return 0, 0
