"""One connection to PostgreSQL: its statements by name, its deadline, its health."""

from __future__ import annotations

import contextlib
import math
import select
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeAlias

from ..errors import StoreError
from .sql import load_queries
from .transaction import Row

try:
    import psycopg
    from psycopg.pq import TransactionStatus
    from psycopg.types.numeric import Int8BinaryDumper
except ImportError as error:
    if error.name is not None and not error.name.startswith("psycopg"):
        raise
    missing = "postgresql:// needs the psycopg package: pip install 'botwire[postgres]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["Connection", "Late", "ServerClock", "Statement", "connect", "psycopg", "run_on"]

Statement: TypeAlias = tuple[str, Sequence[Any]]

OLDEST_POSTGRES = 140_000
_TIME = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_SQL = load_queries("postgres") | {
    "begin": "BEGIN",
    "limit_times": "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true),"
    " set_config('idle_in_transaction_session_timeout', $1, true), " + _TIME,
    "time": "SELECT " + _TIME,
    # A COMMIT that is cancelled while it waits for its replica says that it has succeeded.
    "wait_for_replicas": "SET LOCAL statement_timeout = 0",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
}
_WITH_VALUES = frozenset({"get_entry", "get_entries", "list_entries"})
"""Statements whose second and third column are a value as text or as bytes."""
_BY_ID = frozenset({"messages_between", "delete_messages", "delete_session", "purge_answers"})
"""Statements that name no namespace, since a session's id alone tells it in SQLite; here it goes first."""


class ServerClock:
    """The server's time in microseconds since 1970: one clock for all who use the database, whatever their own ones say.

    It goes on by the monotonic clock of this machine from when the server was last asked, and never back.
    """

    def __init__(self) -> None:
        self._latest = 0
        self._heard = 0
        self._then = 0.0

    def hear(self, time_there: int) -> int:
        """Go on from what the server says, and return the time."""
        self._heard, self._then = time_there, time.monotonic()
        return self.now()

    def now(self) -> int:
        """Return the time."""
        self._latest = max(self._latest, self._heard + int((time.monotonic() - self._then) * 1_000_000))
        return self._latest


_LATE = "no answer in time"


class Late(psycopg.OperationalError):
    """The deadline has passed while the server was at work."""


class Connection(psycopg.Connection[Row]):
    """A connection with which nobody waits for longer than until its deadline (on `time.monotonic`)."""

    deadline = math.inf
    committing = False
    unreplicated = False
    """Whether a commit was told to be on the primary alone, although a replica should have it too."""

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """As psycopg has it, until the deadline."""
        return super().wait(self._until_deadline(gen), *args, **options)

    def is_alive(self) -> bool:
        """Whether the server has not hung up since it was last heard of; it says nothing else to an idle client."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return not poll.poll(0)

    def run(self, namespace: str, name: str, values: Sequence[Any]) -> list[Row]:
        """Run a statement to its end and return its rows."""
        (rows,) = self._rows([self._start(namespace, (name, values))])
        return rows

    def run_all(self, namespace: str, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements in one round trip and return the rows of each."""
        try:
            with self.pipeline():
                cursors = [self._start(namespace, statement) for statement in statements]
        except psycopg.InterfaceError as error:
            # A pipeline that was left before its answers came complains of that instead.
            if time.monotonic() > self.deadline:
                raise Late(_LATE) from error
            raise
        return list(self._rows(cursors))

    def settle(self) -> bool:
        """Roll back what is open, end what is running; whether the connection is good for more."""
        if self.info.transaction_status is TransactionStatus.ACTIVE and not self.committing:
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=1)
        if self.info.transaction_status is TransactionStatus.INERROR or (
            self.info.transaction_status is TransactionStatus.INTRANS
        ):
            self.deadline = time.monotonic() + 1
            with contextlib.suppress(psycopg.Error):
                self.execute("ROLLBACK")
        return not self.closed and self.info.transaction_status is TransactionStatus.IDLE

    def _start(self, namespace: str, statement: Statement) -> psycopg.RawCursor[Row]:
        name, values = statement
        cursor = psycopg.RawCursor(self)
        cursor.format = psycopg.pq.Format.BINARY
        return cursor.execute(_SQL[name].encode(), (namespace, *values) if name in _BY_ID else values)

    @staticmethod
    def _rows(cursors: Sequence[psycopg.RawCursor[Row]]) -> Iterator[list[Row]]:
        for cursor in cursors:
            yield cursor.fetchall() if cursor.description else []

    def _until_deadline(self, gen: Any) -> Generator[Any, Any, Any]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > self.deadline:
                    raise Late(_LATE)
                wanted = gen.send(ready)
        except StopIteration as stop:
            return stop.value


def connect(address: str, timeout: float) -> Connection:
    """Open a connection; what the address does not say is set so that a dead server is noticed within the timeout."""
    given = psycopg.conninfo.conninfo_to_dict(address)
    defaults: dict[str, Any] = {
        "application_name": "botwire",
        "connect_timeout": max(2, math.ceil(timeout)),
        "tcp_user_timeout": int(timeout * 1000),
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    options = {name: value for name, value in defaults.items() if name not in given}
    connection = Connection.connect(address, autocommit=True, client_encoding="utf8", **options)
    unfit = _unfit(connection)
    if unfit is not None:
        connection.close()
        raise StoreError(unfit)
    # All numbers are of one type, or else a statement would be prepared anew for each size of number.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.add_notice_handler(lambda notice: _noticed(connection, notice))
    return connection


def _unfit(connection: Connection) -> str | None:
    if connection.info.server_version < OLDEST_POSTGRES:
        return f"PostgreSQL {connection.info.server_version // 10_000} is too old: 14 or newer is needed"
    if connection.info.parameter_status("server_encoding") != "UTF8":
        return "the database is not in UTF-8: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    return None


def run_on(connection: Connection, namespace: str) -> Any:
    """Return what runs a statement of queries.sql for a namespace and returns rows as those of SQLite are."""

    def run(name: str, values: Sequence[Any]) -> list[Row]:
        rows = connection.run(namespace, name, values)
        if name in _WITH_VALUES:
            return [(key, text if data is None else data, *rest) for key, text, data, *rest in rows]
        return rows

    return run


def _noticed(connection: Connection, notice: psycopg.errors.Diagnostic) -> None:
    # Its wording is translated, its place in PostgreSQL's source is not.
    if notice.source_function == "SyncRepWaitForLSN":
        connection.unreplicated = True
