"""One connection to PostgreSQL: its statements by name, its deadline, its health."""

from __future__ import annotations

import contextlib
import math
import select
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ...errors import StoreError
from ...limits import ACCESS
from ...records import Permit
from ...search.embedding import numbers_of
from ..engine.permits import Row, entries_hold
from ..engine.statements import load_queries

try:
    import psycopg
    from psycopg.adapt import Transformer
    from psycopg.pq import ExecStatus, Format, TransactionStatus
except ImportError as error:
    if error.name is not None and not error.name.startswith("psycopg"):
        raise
    missing = "postgresql:// needs the psycopg package: pip install 'botwire[postgres]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["LOCK", "Connection", "GuardedRun", "Late", "ServerClock", "Statement", "connect", "psycopg", "run_on"]

Statement: TypeAlias = tuple[str, Sequence[Any]]

OLDEST_POSTGRES = 140_000
_TIME = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
LOCK = 0x424F5457
"""The first number of our advisory locks (``BOTW``), as it is in queries.sql."""
_LISTENERS = f"{LOCK}, 2"
"""The lock that everybody who listens holds."""


def _set(**options: str) -> str:
    """Return what sets options for the rest of a transaction."""
    return ", ".join(f"set_config('{name}', '{value}', true)" for name, value in options.items())


_GENERIC = _set(plan_cache_mode="force_generic_plan", enable_seqscan="off")


_REMOVALS = (
    "drop_vectors",
    "drop_vectors_of_entries",
    "drop_vectors_of_messages",
    "delete_some_entry_vectors",
    "delete_some_message_vectors",
)
"""Statements that are within removing_vectors.sql."""


SQL_FOLDER = Path(__file__).parent / "sql"


def _queries() -> dict[str, str]:
    queries, around = load_queries(SQL_FOLDER / "queries.sql"), (SQL_FOLDER / "removing_vectors.sql").read_text("utf-8")
    return queries | {name: around.replace("{removal}", queries[name].removesuffix(";")) for name in _REMOVALS}


_TEXTS = _queries() | {
    "begin": "BEGIN",
    "begin_snapshot": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # How a word is best followed depends on how many texts its namespace has.
    # And many vectors are compared faster at once than workers and a compiler of plans take to begin.
    "plan_anew": "SELECT "
    + _set(plan_cache_mode="force_custom_plan", enable_seqscan="off", max_parallel_workers_per_gather="0", jit="off"),
    # And no planning anew for each value: there is one good plan for each of our statements. It never reads a whole table, which
    # looks cheap while the table is small, and is done again and again by a plan that is kept while it grows.
    "limit_times": "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true),"
    f" set_config('idle_in_transaction_session_timeout', $1, true), {_GENERIC}, {_TIME}",
    # For a read, in whose round trip it goes: else each would be planned anew, for all partitions.
    "plan_once": f"SELECT {_GENERIC}",
    # For what walks two tables in the same order: one pass over both, whatever they were when somebody last counted them.
    "plan_merge": "SELECT "
    + _set(plan_cache_mode="force_custom_plan", enable_seqscan="off", enable_nestloop="off", enable_hashjoin="off"),
    "time": "SELECT " + _TIME,
    # A COMMIT that is cancelled while it waits for its replica says that it has succeeded. And whether anybody listens: then the
    # lock cannot be had alone. It is given back at once, or those who write at the same time would be taken for listeners.
    "get_ready_to_commit": f"SELECT {_set(statement_timeout='0')},"
    f" CASE WHEN pg_try_advisory_lock({_LISTENERS}) THEN NOT pg_advisory_unlock({_LISTENERS}) ELSE true END",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "server_process": "SELECT pg_backend_pid()",
    "listen": "LISTEN botwire",
    "be_noticed": f"SELECT pg_advisory_lock_shared({_LISTENERS})",
    "notify": "SELECT pg_notify('botwire', $1)",
}
_SQL = {name: text.encode() for name, text in _TEXTS.items()}
_PLAN_ONCE: Statement = ("plan_once", ())
_PLANNED: dict[str, Statement] = dict.fromkeys(
    ("entries_without_vector", "messages_without_vector"), ("plan_merge", ())
)
"""How reads are planned, if not once."""
_WITH_VALUES = frozenset({"get_entry", "get_entries", "list_entries", "entries_named"})
"""Statements whose second and third column are a value as text or as bytes."""
_BY_ID = frozenset({"messages_between", "delete_messages", "delete_session", "purge_answers"}) | {
    "messages_to_index", "delete_texts", "delete_some_texts", "session_name", "drop_vectors_of_messages",
    "delete_some_message_vectors",
}  # fmt: skip
"""Statements that name no namespace, since a session's id alone tells it in SQLite; here it goes first."""


class ServerClock:
    """The server's time in microseconds since 1970: one clock for all who use the database, whatever their own ones say.

    It goes on by the monotonic clock of this machine from when the server was asked. So it may be ahead of the server's by what the
    question took to arrive, but never behind. That the server's clock has jumped is known when it is heard of next.
    """

    def __init__(self) -> None:
        self._heard = 0
        self._asked = -_HEARD_FOR
        self._took = math.inf

    def __call__(self) -> int:
        """Return the time."""
        return self._heard + int((time.monotonic() - self._asked) * 1_000_000)

    @property
    def is_old(self) -> bool:
        """Whether the server was not heard of for long."""
        return time.monotonic() - self._asked > _HEARD_FOR

    def hear(self, time_there: int, asked: float) -> None:
        """Go on from what the server said, if that tells more than what it said before, or something else.

        Args:
            time_there: what it said.
            asked: when it was asked, by `time.monotonic`.
        """
        took = time.monotonic() - asked
        off = (self() - time_there) / 1_000_000
        if took <= self._took or self.is_old or not -_DRIFT <= off <= took + self._took + _DRIFT:
            self._heard, self._asked, self._took = time_there, asked, took


_HEARD_FOR = 10.0
"""Seconds for which what the server said in a moment is worth more than what it says after a wait."""
_DRIFT = 0.01
"""Seconds by which clocks that go right may differ after that time."""
_LONGEST_WAIT = 3_600.0
"""Seconds in one wait, since an operating system's may be limited."""


class Late(psycopg.OperationalError):
    """The deadline has passed while the server was at work."""


class Connection:
    """A connection with which nobody waits for longer than until its deadline (on `time.monotonic`).

    It speaks to libpq itself: psycopg's own pipeline sends each statement when it is given, and looks for answers each time,
    which took 0.5 ms of processor time for the ten statements of a write; sent together they take a fifth of that.
    """

    deadline = math.inf
    prepares = True
    """Whether the server keeps prepared statements from one transaction to the next: not so behind some poolers."""
    committing = False
    asked = 0.0
    """When the last statements were sent, on `time.monotonic`."""
    unreplicated = False
    """Whether a commit was told to be on the primary alone, although a replica should have it too."""

    def __init__(self, raw: psycopg.Connection[Row]) -> None:
        self.raw = raw
        self.pgconn = raw.pgconn
        self._prepared: set[str] = set()
        self._rows = Transformer(raw)

    def close(self) -> None:
        """Close it."""
        self.raw.close()

    def is_alive(self) -> bool:
        """Whether the server has not hung up since it was last heard of; it says nothing else to an idle client."""
        return not self.raw.closed and not _ready(self.pgconn.socket, 0)

    def run(self, namespace: str, name: str, values: Sequence[Any]) -> list[Row]:
        """Run a statement to its end and return its rows."""
        (rows,) = self.run_all(namespace, ((name, values),))
        return rows

    def run_all(self, namespace: str, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements in one round trip and return the rows of each; all after one that fails are left out."""
        self.asked = time.monotonic()
        self.pgconn.enter_pipeline_mode()
        asked = [item for name, values in statements for item in self._ask(namespace, name, values)]
        self.pgconn.pipeline_sync()
        while self.pgconn.flush():
            self._await(writing=True)
        answers: list[list[Row]] = []
        failure: psycopg.Error | None = None
        for name, preparing in asked:
            result = self._result()
            self._result()  # the end of what there is of this one
            if result.status == ExecStatus.FATAL_ERROR:
                failure = psycopg.errors.error_from_result(result)
            elif preparing and result.status == ExecStatus.COMMAND_OK:
                self._prepared.add(name)
            elif not preparing:
                answers.append(self._read(result))
        self._result()  # the answer to the sync
        self.pgconn.exit_pipeline_mode()
        if failure is not None:
            raise failure
        return answers

    def _ask(self, namespace: str, name: str, values: Sequence[Any]) -> Iterator[tuple[str, bool]]:
        """Send a statement, and what it takes to prepare it; yields what will be answered."""
        given = (namespace, *values) if name in _BY_ID else values
        data = [None if value is None else _text_of(value).encode() for value in given]
        if not self.prepares:
            self.pgconn.send_query_params(_SQL[name], data, result_format=Format.BINARY)
        else:
            known = b"botwire_" + name.encode()
            if name not in self._prepared:
                self.pgconn.send_prepare(known, _SQL[name])
                yield name, True
            self.pgconn.send_query_prepared(known, data, result_format=Format.BINARY)
        yield name, False

    def _result(self) -> Any:
        while self.pgconn.is_busy():
            self._await()
        return self.pgconn.get_result()

    def _read(self, result: Any) -> list[Row]:
        if result.status != ExecStatus.TUPLES_OK:
            return []
        self._rows.set_pgresult(result, format=Format.BINARY)
        return self._rows.load_rows(0, result.ntuples, tuple)

    def _await(self, *, writing: bool = False) -> None:
        left = self.deadline - time.monotonic()
        if not _ready(self.pgconn.socket, min(left, _LONGEST_WAIT), writing=writing) and left <= _LONGEST_WAIT:
            raise Late("no answer in time")
        self.pgconn.consume_input()

    def notifications(self, seconds: float) -> list[str]:
        """Return what notifications say, as soon as there are any, or nothing after so many seconds."""
        while True:
            found = []
            while (notification := self.pgconn.notifies()) is not None:
                found.append(notification.extra.decode(errors="replace"))
            if found or not _ready(self.pgconn.socket, seconds):
                return found
            self.pgconn.consume_input()

    def settle(self) -> bool:
        """Roll back what is open, end what is running; whether the connection is good for more."""
        if self.raw.closed:
            return False
        status = self.pgconn.transaction_status
        if status == TransactionStatus.ACTIVE and not self.committing:
            with contextlib.suppress(psycopg.Error):
                self.raw.cancel_safe(timeout=1)
        if status in {TransactionStatus.INERROR, TransactionStatus.INTRANS}:
            self.deadline = time.monotonic() + 1
            with contextlib.suppress(psycopg.Error):
                self.run_all("", [("rollback", ())])
        return not self.raw.closed and self.pgconn.transaction_status == TransactionStatus.IDLE


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
    raw = psycopg.Connection.connect(address, autocommit=True, client_encoding="utf8", **options)
    unfit = _unfit(raw)
    if unfit is not None:
        raw.close()
        raise StoreError(unfit)
    connection = Connection(raw)
    raw.add_notice_handler(lambda notice: _noticed(connection, notice))
    return connection


def _unfit(connection: psycopg.Connection[Row]) -> str | None:
    if connection.info.server_version < OLDEST_POSTGRES:
        return f"PostgreSQL {connection.info.server_version // 10_000} is too old: 14 or newer is needed"
    if connection.info.parameter_status("server_encoding") != "UTF8":
        return "the database is not in UTF-8: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    return None


def run_on(connection: Connection, namespace: str, *, in_transaction: bool = False) -> Any:
    """Return what runs a statement of queries.sql for a namespace and returns rows as those of SQLite are."""

    def run(name: str, values: Sequence[Any]) -> list[Row]:
        planned = () if in_transaction else (_PLANNED.get(name, _PLAN_ONCE),)
        *_, rows = connection.run_all(namespace, [*planned, (name, values)])
        return _as_in_sqlite(name, rows)

    return run


class GuardedRun:
    """What `run_on` returns, for a read that rests on a permit: each statement brings along the version of the rules."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._version: list[Row] = []

    def __call__(self, name: str, values: Sequence[Any]) -> list[Row]:
        """Run a statement; the version is from after it."""
        statements = [_PLANNED.get(name, _PLAN_ONCE), (name, values), ("get_version", (ACCESS,))]
        _, rows, self._version = self._connection.run_all(self._namespace, statements)
        return _as_in_sqlite(name, rows)

    def holds(self, permit: Permit, now: int) -> bool:
        """Whether a permit still held when the last statement had run."""
        version = self._version[0][0] if self._version else 0
        if permit.version != version:
            if not entries_hold(run_on(self._connection, ACCESS), permit, now):
                return False
            permit.version = version
        return True


def _text_of(value: Any) -> str:
    """Return a value as a statement takes it; bytes are a vector."""
    return f"[{numbers_of(value)}]" if isinstance(value, bytes) else str(value)


def _as_in_sqlite(name: str, rows: list[Row]) -> list[Row]:
    if name in _WITH_VALUES:
        return [(key, text if data is None else data, *rest) for key, text, data, *rest in rows]
    return rows


def _ready(file: int, seconds: float, *, writing: bool = False) -> bool:
    """Whether there is something to read, or to be written, within so many seconds."""
    if not hasattr(select, "poll"):  # Windows
        readable, writable, _ = select.select([file], [file] if writing else [], [], max(seconds, 0))
        return bool(readable or writable)
    poll = select.poll()
    poll.register(file, select.POLLIN | (select.POLLOUT if writing else 0))
    return bool(poll.poll(max(seconds, 0) * 1000))


def _noticed(connection: Connection, notice: psycopg.errors.Diagnostic) -> None:
    # Its wording is translated, its place in PostgreSQL's source is not.
    if notice.source_function == "SyncRepWaitForLSN":
        connection.unreplicated = True
