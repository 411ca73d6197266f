"""The connections of a store to PostgreSQL: lent until a deadline, with retries after a failure. And the server's time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg

from ...backoff import Backoff
from ...deadline import Deadline
from ...errors import StoreError, Timeout, Unavailable
from ...store import CLOSED
from ..engine.group_commit import TOO_LATE
from ..engine.pool import Connections
from .connection import Connection, connect_by, is_passing, mapped
from .statements import migrate

T = TypeVar("T")

CONNECTIONS = 8
"""Connections of one store at once. PostgreSQL allows 100 in all by default, and is not faster with many more than cores."""
_GRACE = 0.25
"""Seconds after the deadline in which the server can report itself that a statement took too long."""
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
_FRESH_FOR = 10.0
"""Seconds for which a quick report is preferred to a later, slow one."""
_DRIFT = 0.01
"""Seconds by which two correct clocks may differ after that time."""


class ServerClock:
    """The server's time in microseconds since 1970: one clock for all clients of the database.

    Between two reports it advances with the monotonic clock of this machine, from the moment in which the server was asked. So
    it may be ahead of the server by the duration of the request, but is never late.
    """

    def __init__(self) -> None:
        self._reported = 0
        self._asked = -_FRESH_FOR
        self._took = math.inf

    def __call__(self) -> int:
        return self._reported + int((time.monotonic() - self._asked) * 1_000_000)

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self._asked > _FRESH_FOR

    def update(self, reported: int, asked: float) -> None:
        """Use a report if it is more exact than the last one, or contradicts it. `asked`: when, on `time.monotonic`."""
        took = time.monotonic() - asked
        off = (self() - reported) / 1_000_000
        # A report is as inexact as its request was slow: one that waited for a lock is worth less than an earlier, quick one.
        if took <= self._took or self.is_old or not -_DRIFT <= off <= took + self._took + _DRIFT:
            self._reported, self._asked, self._took = reported, asked, took


class ConnectionPool:
    """At most `CONNECTIONS` connections to a database. The first one migrates its schema.

    ``address`` is the URL without its password, for errors. ``timeout`` is for the first connection; after it a dead server is noticed.
    """

    def __init__(self, url: str, address: str, timeout: float, *, on_fork: Callable[[], None]) -> None:
        self.address = address
        self.clock = ServerClock()
        self.prepares = True
        """Whether prepared statements work. Some poolers lend each transaction another connection, which lacks them."""
        self._url = url
        self._timeout = timeout
        self._migrated = False
        self._closed = False
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._on_fork = on_fork
        self.connections: Connections[Connection] = Connections(
            lambda: self._open(time.monotonic() + timeout), on_fork=self._restart
        )
        self.connections.start()

    @contextmanager
    def lend(self, deadline: float) -> Iterator[Connection]:
        """Lend a connection until a deadline on `time.monotonic`; raises `Timeout` if all are in use until then."""
        if self._closed:
            raise StoreError(CLOSED)
        if not self._slots.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise Timeout(TOO_LATE)
        try:
            connection = self._take(deadline)
            connection.deadline = deadline + _GRACE
            connection.prepares = self.prepares
            try:
                yield connection
            finally:
                if connection.settle():
                    self.connections.give(connection)
                else:
                    self.connections.drop(connection)
        finally:
            self._slots.release()

    def run(self, attempt: Callable[[Connection], T], deadline: float) -> T:
        """Run a call that can be repeated, until it succeeds or the deadline passes."""
        backoff = self.backoff(deadline)
        while True:
            try:
                with self.lend(deadline) as connection:
                    return attempt(connection)
            except (psycopg.Error, Unavailable) as error:
                if not self.may_retry(error, backoff):
                    raise mapped(self.address, error) from error

    def backoff(self, deadline: float) -> Backoff:
        """Return the pauses between attempts."""
        return Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, Deadline(deadline))

    def may_retry(self, error: Exception, backoff: Backoff) -> bool:
        """Return whether to try again, after the pause that this needs."""
        pause = backoff.next() if is_passing(error) else None
        if pause is None:
            return False
        if isinstance(error, psycopg.errors.InvalidSqlStatementName | psycopg.errors.DuplicatePreparedStatement):
            self.prepares = False
        time.sleep(pause)
        return True

    def ask_time(self, connection: Connection) -> None:
        """Set the clock by the server's."""
        ((there,),) = connection.run("time")
        self.clock.update(there, connection.asked)

    def close(self) -> None:
        """Close the idle connections now, and the others when they are returned."""
        self._closed = True
        self.connections.close()

    def _restart(self) -> None:
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._on_fork()

    def _take(self, deadline: float) -> Connection:
        """Return an idle connection that the server has not closed, or a new one."""
        while True:
            try:
                connection = self.connections.idle.pop()
            except IndexError:
                # Not with `Connections.take`, where each thread would wait for other threads to connect.
                return self.connections.adopt(self._open(deadline))
            if connection.is_alive():
                return connection
            self.connections.drop(connection)

    def _open(self, deadline: float) -> Connection:
        try:
            connection = connect_by(deadline, self._url, self._timeout)
            try:
                connection.deadline = deadline + _GRACE
                connection.prepares = False  # an error here would not show whether a pooler is in between
                self.ask_time(connection)
                if not self._migrated:
                    # Without a deadline: a migration that stops halfway would have to start again.
                    with connection.transaction() as raw:
                        migrate(raw, self.address)
                    self._migrated = True
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            raise mapped(self.address, error) from error
        return connection
