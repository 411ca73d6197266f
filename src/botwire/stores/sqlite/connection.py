"""A connection to one SQLite file, its settings and its errors."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import apsw

from ...errors import BotWireError, InvalidArgument, StoreError, Timeout, Unavailable
from ...operations import Permit
from ..engine.permits import access_version, entries_hold
from ..engine.rows import Row
from ..engine.statements import load_migrations, load_queries

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
