"""One connection to PostgreSQL: its statements by name, its deadline, its health, and its errors as botwire errors."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format, TransactionStatus

from ...errors import BotWireError, InvalidArgument, StoreError, Timeout, Unavailable
from .statements import SQL, Row, Statement

_OLDEST_POSTGRES = 140_000
_LONGEST_WAIT = 3_600.0
"""Seconds in one wait, because operating systems limit it."""
_SETTLE = 0.25
"""Seconds to cancel a statement, or to roll back, after the deadline of a call. A slower connection is closed instead."""

_BEGINNINGS = frozenset({"begin", "begin_snapshot"})
"""The statements that begin a transaction. PostgreSQL takes an isolation level only before any other statement."""


class Late(psycopg.OperationalError):
    """The deadline passed before the server answered."""


class Connection:
    """A connection on which no call waits longer than until its deadline (on `time.monotonic`).

    It uses libpq directly. psycopg's own pipeline sends each statement by itself, and polls for results each time. That took
    0.5 ms of processor time for the ten statements of a write. Sent together, they take a fifth of that.
    """

    deadline = math.inf
    prepares = True
    """Whether the server keeps prepared statements from one transaction to the next. Through some poolers it does not."""
    committing = False
    asked = 0.0
    """When the last statements were sent, on `time.monotonic`."""
    pins = True
    """Whether each transaction must be pinned, because the session is not: a pooler lends each transaction another one."""
    unreplicated = False
    """Whether the server reported that a commit is on the primary alone, although a replica should have it too."""

    def __init__(self, raw: psycopg.Connection[Row]) -> None:
        self.raw = raw
        self.pgconn = raw.pgconn
        self._prepared: set[str] = set()
        self._rows = Transformer(raw)
        raw.add_notice_handler(self._take_notice)

    def _take_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        # The wording of a notice is translated. The function in PostgreSQL's source is not.
        if notice.source_function == "SyncRepWaitForLSN":
            self.unreplicated = True

    def close(self) -> None:
        self.raw.close()

    def is_alive(self) -> bool:
        """Whether the server has not closed the connection. It sends nothing else to an idle client."""
        return not self.raw.closed and not _ready(self.pgconn.socket, 0)

    def run(self, name: str, *values: object) -> list[Row]:
        """Run a statement and return its rows."""
        (rows,) = self.run_all(((name, values),))
        return rows

    def run_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements in one round trip and return the rows of each. When one fails, the ones after it do not run."""
        if self.pins and self.pgconn.transaction_status == TransactionStatus.IDLE:
            at = int(statements[0][0] in _BEGINNINGS)
            answers = self._run_all((*statements[:at], ("pin", ()), *statements[at:]))
            return answers[:at] + answers[at + 1 :]
        return self._run_all(statements)

    def _run_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        self.asked = time.monotonic()
        self.pgconn.enter_pipeline_mode()
        new: set[str] = set()
        asked = [item for name, values in statements for item in self._ask(name, values, new)]
        self.pgconn.pipeline_sync()
        while self.pgconn.flush():
            self._await(writing=True)
        answers: list[list[Row]] = []
        failure: psycopg.Error | None = None
        for name, preparing in asked:
            result = self._result()
            self._result()  # the end of this statement's results
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

    def _ask(self, name: str, values: Sequence[object], new: set[str]) -> Iterator[tuple[str, bool]]:
        """Send a statement, after its preparation if needed. Yields the name for both, and whether it is the preparation.

        ``new`` has the statements that are being prepared.
        """
        data = [None if value is None else str(value).encode() for value in values]
        if not self.prepares:
            self.pgconn.send_query_params(SQL[name], data, result_format=Format.BINARY)
        else:
            prepared = b"botwire_" + name.encode()
            if name not in self._prepared and name not in new:
                new.add(name)
                self.pgconn.send_prepare(prepared, SQL[name])
                yield name, True
            self.pgconn.send_query_prepared(prepared, data, result_format=Format.BINARY)
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
        """Return the payloads of notifications as soon as there are any, or nothing after `seconds`."""
        while True:
            found = []
            while (notification := self.pgconn.notifies()) is not None:
                found.append(notification.extra.decode(errors="replace"))
            if found or not _ready(self.pgconn.socket, seconds):
                return found
            self.pgconn.consume_input()

    @contextlib.contextmanager
    def raw_until_deadline(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend psycopg's connection, which waits without a limit. A timer closes the socket at the deadline."""
        timer = threading.Timer(max(self.deadline - time.monotonic(), 0), self.hang_up)
        timer.daemon = True
        timer.name = "botwire-hang-up"
        timer.start()
        try:
            yield self.raw
        finally:
            timer.cancel()
            timer.join()  # so that it never closes another connection that gets the same file descriptor

    def hang_up(self) -> None:
        """End the connection while another thread waits for it. `close` would free memory that the other thread uses."""
        with contextlib.suppress(OSError, psycopg.Error):  # it is lost already
            file = self.pgconn.socket
            with socket.fromfd(file, socket.AF_INET, socket.SOCK_STREAM) as copy:
                copy.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend psycopg's connection in a transaction, which is committed in the end."""
        with self.raw.transaction():
            if self.pins:
                self.raw.execute(SQL["pin"])
            yield self.raw

    def pin(self, timeout: float) -> None:
        """Pin the session, for as long as it lasts, unless a pooler is in between: then other clients would get it too.

        A name without a schema means PostgreSQL's own object. Otherwise, a function or an operator that another user created
        in a schema of the search path could be chosen, and would run with the rights of this role (CVE-2018-1058).
        And a commit waits for the disk, even if the database or the role has ``synchronous_commit = off``.
        """
        self.deadline, self.prepares = time.monotonic() + timeout, False
        ((process,),) = self._run_all([("server_process", ())])[0]
        if process == self.pgconn.backend_pid:
            self._run_all([("pin_session", ())])
            self.pins = False
        del self.deadline, self.prepares

    def settle(self) -> bool:
        """Roll back an open transaction and cancel a running statement. Returns whether the connection can be used again."""
        if self.raw.closed:
            return False
        status = self.pgconn.transaction_status
        if status == TransactionStatus.ACTIVE and not self.committing:
            with contextlib.suppress(psycopg.Error):
                self.raw.cancel_safe(timeout=_SETTLE)
        if status in {TransactionStatus.INERROR, TransactionStatus.INTRANS}:
            self.deadline = time.monotonic() + _SETTLE
            with contextlib.suppress(psycopg.Error):
                self.run_all([("rollback", ())])
        return not self.raw.closed and self.pgconn.transaction_status == TransactionStatus.IDLE


def connect(address: str, timeout: float) -> Connection:
    """Open a connection. Options that are not in the address are set so that a dead server is noticed within the timeout."""
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
    version = raw.info.server_version
    if version < _OLDEST_POSTGRES:
        unfit = f"PostgreSQL {version // 10_000} is too old; botwire needs 14 or newer"
    elif raw.info.parameter_status("server_encoding") != "UTF8":
        unfit = "the database is not in UTF-8; create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    else:
        connection = Connection(raw)
        try:
            connection.pin(timeout)
        except BaseException:
            raw.close()
            raise
        return connection
    raw.close()
    raise StoreError(unfit)


def connect_by(deadline: float, address: str, timeout: float) -> Connection:
    """As `connect`, but raises `psycopg.errors.ConnectionTimeout` at a deadline on `time.monotonic`.

    libpq waits for at least two seconds for each address of a host, and without a limit for the lookup of its name. So a thread
    connects. At the deadline it is abandoned, and closes the connection if that is established later.
    """
    opening: Future[Connection] = Future()
    threading.Thread(target=_open, args=(opening, address, timeout), name="botwire-connect", daemon=True).start()
    try:
        wait([opening], max(deadline - time.monotonic(), 0))
    finally:
        is_abandoned = opening.cancel()  # also after Ctrl-C
    if is_abandoned:
        raise psycopg.errors.ConnectionTimeout("the server did not answer in time")
    return opening.result()


def _open(opening: Future[Connection], address: str, timeout: float) -> None:
    try:
        connection = connect(address, timeout)
    except BaseException as error:  # noqa: BLE001 - for the thread that waits
        if opening.set_running_or_notify_cancel():
            opening.set_exception(error)
        return
    if opening.set_running_or_notify_cancel():
        opening.set_result(connection)
    else:
        connection.close()


def without_password(url: str) -> str:
    """Return an address without its password, or raise `InvalidArgument` if it is not an address."""
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


def _ready(file: int, seconds: float, *, writing: bool = False) -> bool:
    """Whether there is something to read, or room to write, within `seconds`."""
    poll = select.poll()
    poll.register(file, select.POLLIN | (select.POLLOUT if writing else 0))
    return bool(poll.poll(max(seconds, 0) * 1000))


# Errors of psycopg as errors of botwire, and which of them are worth a retry


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection was lost, so that a commit may have happened."""
    return error.sqlstate is None or error.sqlstate[:2] == "08" or error.sqlstate[:3] == "57P"


_PASSING = frozenset({"25006", "25P03", "25P04", "26000", "42P05", "53300", "55P03", "23505"})
"""A standby, an idle transaction that was ended, a pooler, too many connections, a lock. And a unique violation: two clients
created the same namespace, or a message is stored already."""


def is_passing(error: Exception) -> bool:
    """Whether an error may go away, so that a retry makes sense."""
    if isinstance(error, BotWireError):
        return isinstance(error, Unavailable)
    assert isinstance(error, psycopg.Error)
    return is_lost(error) or error.sqlstate in _PASSING or (error.sqlstate or "")[:2] == "40"


def mapped(address: str, error: Exception) -> BotWireError:
    """Return the botwire error for an error of PostgreSQL."""
    if isinstance(error, BotWireError):
        return error
    assert isinstance(error, psycopg.Error)
    # The details of an error can contain values; its first line does not.
    said = error.diag.message_primary or str(error).strip().partition("\n")[0]
    if isinstance(error, Late):  # not from the server, so it has no state
        return Timeout(f"{address}: {_LATE} ({said})")
    state = error.sqlstate or ""
    for states, cls, text in _MAPPED:
        if state.startswith(states):
            return cls(f"{address}: {text} ({said})")
    if not state or is_passing(error):
        return Unavailable(f"{address} cannot be reached: {said}. Is the server running, and is the address right?")
    return StoreError(f"{address}: PostgreSQL failed: {said}")


_LATE = "no answer in time; nothing was written, try again"
_MAPPED: tuple[tuple[tuple[str, ...], type[BotWireError], str], ...] = (
    (("55P03", "57014", "25P03", "25P04"), Timeout, _LATE),
    (("53100",), StoreError, "the server's disk is full; nothing was written. Free some space, then try again"),
    (("53",), Unavailable, "the server has no memory or connections left; nothing was written"),
    (("22003",), InvalidArgument, "a number has more than 64 bits; nothing was written"),
    (("25006",), Unavailable, "the server takes no writes: it is a standby, or default_transaction_read_only is on"),
    (("42501",), StoreError, "permission denied: the role must own the schema botwire, or be allowed to create it"),
    (("XX001", "XX002"), StoreError, "the database is damaged: restore a backup"),
)
