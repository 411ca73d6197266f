"""A connection to one SQLite file, its settings and its errors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from ...errors import BotWireError, InvalidArgument, StoreError, Timeout, Unavailable
from ...operations import Guard
from ..engine.statements import load_migrations
from ..engine.stop import Stop
from .lock import FileLock
from .place import Moved, Place
from .tables import SqliteTables
from .wal import Log

OLDEST_SQLITE = (3, 51, 3)
"""The first version without the WAL-reset bug, which can corrupt a database that several connections write
(https://www.sqlite.org/releaselog/3_51_3.html)."""
APPLICATION_ID = 0x424F5457
"""Marks a file as one of botwire (``BOTW``): https://www.sqlite.org/pragma.html#pragma_application_id."""
MEMORY = ":memory:"
SQL_FOLDER = Path(__file__).parent / "sql"
MIGRATIONS = load_migrations(SQL_FOLDER / "migrations")
PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -16384;
PRAGMA trusted_schema = OFF;
PRAGMA secure_delete = FAST;
"""
_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
_STEPS = 10_000
"""Instructions of SQLite's virtual machine, less than a millisecond, after which a long statement may be stopped."""
_DAMAGE_CHECK = 2.0
"""Seconds that SQLite may search for damage after an unexpected error."""


class Connection(apsw.Connection):
    """A connection with typed access to the tables."""

    _knows_vectors = False

    def __init__(self, path: str, *, vfs: str | None = None, flags: int = _FLAGS, place: Place | None = None) -> None:
        self.place = place
        """Its files, of a store that writes. The connection closes it."""
        super().__init__(path, flags=flags, vfs=vfs, statementcachesize=100)
        self.run = self.cursor().execute
        """As `execute`, in a third of the time: it makes no new cursor. Fetch all rows before it runs the next statement."""
        self.tables = SqliteTables(self.run, self.execute, self.changes)
        self.log: Log | None = None
        """Its log, once it holds its place."""
        self.committed = -1
        """SQLite's ``data_version`` when this connection last committed, see `holds`."""
        self._seen = -1
        self._versions: dict[str, int] = {}

    def holds(self, guard: Guard, now: int) -> bool:
        """Whether a guard held when this connection last read.

        ``data_version`` changes with each commit of any connection, and reading it takes 0.1 µs; it is as of the last read
        (https://www.sqlite.org/c3ref/c_fcntl_begin_atomic_write.html#sqlitefcntldataversion).
        """
        version = self._versions.get(guard.namespace)
        if version is None or self.data_version() != self._seen:
            version = self.tables.get_version(guard.namespace)
            self._seen, self._versions = self.data_version(), {guard.namespace: version}
        return self.tables.holds(guard, version, now)

    def load_vectors(self) -> None:
        """Load sqlite-vec, which computes distances of vectors."""
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

    @contextlib.contextmanager
    def stopping(self, stop: Stop) -> Iterator[None]:
        """Raise `Timeout` when it is time to stop, also within a statement."""
        self.set_progress_handler(lambda: stop.is_over, _STEPS)
        try:
            yield
        except apsw.InterruptError:
            stop.check()
            raise
        finally:
            self.set_progress_handler(None)

    def roll_back(self) -> None:
        """Undo the transaction if there is one. An error here would hide the reason for the rollback."""
        if self.in_transaction:
            with contextlib.suppress(apsw.Error):
                self.execute("ROLLBACK")

    def close(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - as in apsw
        """Close it. If the disk fails now, only the checkpoint fails, and the next process that opens the file repeats it."""
        place, self.place = self.place, None
        if place is not None:
            if place.names and not place.is_kept():
                self._leave(place)
            place.release()
        with contextlib.suppress(apsw.Error):
            super().close(force)
        if place is not None:
            place.close()

    def abandon(self) -> None:
        """Close it, and leave the log alone: it may be the log of another file."""
        self.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.close()

    def leave(self) -> bool:
        """Stop using files that the path does not name any more. Returns whether the path names a database with all commits."""
        return self.place is not None and self._leave(self.place)

    def _leave(self, place: Place) -> bool:
        """Move what is in the log into the database. The log must be empty: SQLite would add it to a database of the same name.

        When it closes the last connection, SQLite would remove the log by its name, which may be another's now.
        """
        self.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        if not place.has_another_log():
            with contextlib.suppress(apsw.Error):
                self.set_busy_timeout(0)
                self.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                return place.has_database()
        return False

    def damage(self) -> str | None:
        """Return what SQLite says of damage in the file; None: it found none in the time that it may take.

        Columns have strict types (https://www.sqlite.org/stricttables.html), so a value of another type is damage too.
        """
        end = time.monotonic() + _DAMAGE_CHECK
        self.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        try:
            found = self.pragma("quick_check", 1)
        except apsw.InterruptError:
            return None
        except apsw.Error as error:
            return str(error)
        finally:
            self.set_progress_handler(None)
        return None if found == "ok" else str(found)


def connect(path: str, place: Place | None, vfs: str | None) -> Connection:
    """Open a file, or raise `Moved` if its path names another one, or none, by now. None as the place: in memory."""
    if place is None:
        return Connection(path)
    try:
        connection = Connection(path, vfs=vfs, flags=apsw.SQLITE_OPEN_READWRITE, place=place)
    except apsw.CantOpenError as error:
        if place.has_database():
            raise
        raise Moved from error
    if not place.has_database():  # nothing may be written: the log beside it belongs to the other one
        connection.abandon()
        raise Moved
    return connection


def schema_version(connection: Connection, path: object) -> int:
    """Return the schema version of a file, 0 for an empty one.

    Raises:
        StoreError: it is not a botwire file, or is from a newer botwire.
    """
    version, application = connection.pragma("user_version"), connection.pragma("application_id")
    # Another process may have created the tables since these were read. If it has, the file is one of botwire by now.
    if (
        application != APPLICATION_ID
        and (version or application or connection.execute("SELECT 1 FROM sqlite_schema").get)
        and connection.pragma("application_id") != APPLICATION_ID
    ):
        raise StoreError(f"{path} is a SQLite database, but not a botwire file: use another file")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} has schema version {version}, from a newer botwire; this one supports version "
            f"{len(MIGRATIONS)}. Upgrade botwire to use it"
        )
    return int(version)


def migrate(connection: Connection, path: str, timeout: float) -> None:
    """Bring a file to the newest schema. One of several processes does it, and the others find it done."""
    if schema_version(connection, path) == len(MIGRATIONS):
        return
    lock = FileLock.beside(None if path == MEMORY else path)  # not the queue's
    try:
        lock.wait(time.monotonic() + timeout)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for number, script in enumerate(MIGRATIONS, 1):
            if number > schema_version(connection, path):
                connection.execute(script).fetchall()
                connection.execute(f"PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    finally:
        lock.give()
        lock.close()


def mapped(path: object, error: Exception) -> BotWireError:
    """Return the botwire error for an error of SQLite."""
    if isinstance(error, UnicodeDecodeError):  # apsw reads text that is not UTF-8
        error = apsw.CorruptError(f"text that is not UTF-8: {error.reason}")
    for kind, cls, text in _MAPPED:
        if isinstance(error, kind):
            return cls(f"{path}: {text} ({error})")
    return StoreError(f"{path}: SQLite failed: {error}")


@contextlib.contextmanager
def mapped_errors(path: object) -> Iterator[None]:
    """Raise errors of SQLite as those of botwire."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        raise mapped(path, error) from error


_MAPPED: tuple[tuple[type[Exception], type[BotWireError], str], ...] = (
    (apsw.BusyError, Timeout, "another program keeps the database locked; nothing was written. Try again"),
    (apsw.LockedError, Timeout, "the database is locked; nothing was written. Try again"),
    (apsw.FullError, StoreError, "the disk is full; nothing was written. Free some space and try again"),
    (apsw.ReadOnlyError, StoreError, "the file or its folder is read-only; nothing was written. Give write permission"),
    (apsw.PermissionsError, StoreError, "permission denied; nothing was written"),
    (apsw.CantOpenError, StoreError, "the file cannot be opened: does its folder exist, and may it be written?"),
    (apsw.NotADBError, StoreError, "the file is not a SQLite database: use another file"),
    (apsw.CorruptError, StoreError, "the file is damaged: restore a backup, or salvage it with SQLite's .recover"),
    (apsw.IOError, StoreError, "the disk failed; nothing was written"),
    (apsw.NoMemError, Unavailable, "out of memory"),
    (apsw.InterruptError, Unavailable, "interrupted; nothing was written"),
)
