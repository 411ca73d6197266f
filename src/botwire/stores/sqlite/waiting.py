"""Waiting to begin a transaction, for programs that do not know the lock file."""

from __future__ import annotations

import contextlib
import time

from ...errors import Timeout
from .connection import Connection
from .place import UNLOCKED, Place

_PAUSE = 0.001
"""Seconds between two attempts at a lock for which no one can wait."""


def begin_within(connection: Connection, deadline: float, timeout: float) -> None:
    """Begin a transaction that writes. SQLite waits for other programs until the deadline, and later for `timeout` again."""
    connection.set_busy_timeout(max(int((deadline - time.monotonic()) * 1000), 0))
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.set_busy_timeout(int(timeout * 1000))


def wait_for_writer(path: str, place: Place, deadline: float) -> None:
    """Wait for another copy of SQLite in this process. `BEGIN` would not, and the writes of one of the two would be lost."""
    while place.find_writer()[:2] != UNLOCKED:
        if time.monotonic() >= deadline:
            raise Timeout(f"{path}: another program keeps the database locked; nothing was written. Try again")
        time.sleep(_PAUSE)


def begin_again(path: str, connection: Connection, place: Place, deadline: float, timeout: float) -> None:
    """Begin a transaction again when another copy of SQLite in this process has built the log's index again."""
    while True:
        connection.execute("ROLLBACK")
        time.sleep(_PAUSE)
        wait_for_writer(path, place, deadline)
        begin_within(connection, deadline, timeout)
        with contextlib.suppress(BlockingIOError):
            place.lock_recovery()
            return
