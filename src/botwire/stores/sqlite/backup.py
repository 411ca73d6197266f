"""Back up a SQLite file while it is in use, and restore it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import apsw

from ...errors import InvalidArgument, StoreError
from ...timestamps import now
from .connection import APPLICATION_ID, Connection, mapped_errors, schema_version
from .lock import FileLock

Progress: TypeAlias = Callable[[int, int], None]
"""Called after each step with the bytes copied so far, and the bytes in total."""

STEP = 256
"""Pages copied at once: a megabyte, some milliseconds."""
_BESIDE = ("-wal", "-journal", "-shm")


def backup(path: str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Progress | None = None) -> int:
    """Copy the file of a store, as it is at one moment, while other programs read and write it.

    The copy holds every write that had returned when this was called. Writers do not wait for it. Later writes are not in
    the copy and stay in ``-wal`` until it is complete. The copy is checked and synced to disk before it replaces an older
    backup in one step. So `target` is always a complete backup, the old one or the new one.

    Args:
        path: the file to copy.
        target: the file of the backup. An existing backup is replaced, any other file is refused.
        progress: called with the progress.

    Returns:
        The bytes of the copy.

    Raises:
        StoreError: the file does not exist, is damaged, or is not a botwire file; or the disk is full. An older backup is kept.
        InvalidArgument: the target exists and is not a backup.
    """
    path, target = _absolute(path), _absolute(target)
    _check_target(target)
    with opened(path) as source, _part_of(target) as part:
        _copy_into(part, source, progress)
        size = part.stat().st_size
        part.replace(target)
        _sync(target.parent)
    return size


def restore(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> int:
    """Restore a backup as the file of a store: completely, or not at all.

    Versions continue from numbers that were never used. So an earlier watcher gets `ChangesLost` instead of missing new
    changes, and a compare-and-set with an earlier version fails.

    Args:
        backup: the backup, which is checked first.
        path: the file, which no program may have open.
        force: replace the content of an existing file.
        progress: called with the progress.

    Returns:
        The bytes of the file.

    Raises:
        StoreError: the backup does not exist, is damaged, or is from a newer botwire; or the file is in use, or is damaged.
        InvalidArgument: the file has content, and `force` is not set.
    """
    backup, path = _absolute(backup), _absolute(path)
    if backup == path:
        raise InvalidArgument("a file cannot be restored from itself")
    with opened(backup) as source:
        _check_whole(source, backup)
        if path.exists() and path.stat().st_size:
            _replace(path, source, force=force, progress=progress)
        else:
            _create(path, source, progress)
    return path.stat().st_size


@contextlib.contextmanager
def opened(path: Path, *, timeout: float = 10.0) -> Iterator[Connection]:
    """Open an existing botwire file, and read it as it is at this moment for as long as it is open."""
    if not path.is_file():
        raise StoreError(f"there is no file {path}")
    flags = apsw.SQLITE_OPEN_READWRITE
    with mapped_errors(path), contextlib.closing(Connection(str(path), flags=flags)) as connection:
        connection.set_busy_timeout(int(timeout * 1000))
        connection.execute("BEGIN")
        if not schema_version(connection, path):
            raise StoreError(f"{path} is empty, and not a file of botwire")
        yield connection


# A new file


def _create(path: Path, source: Connection, progress: Progress | None) -> None:
    for suffix in _BESIDE:
        if Path(f"{path}{suffix}").exists():
            raise StoreError(f"{path}{suffix} belongs to an earlier file and would damage this one: move it away first")
    with _part_of(path) as part:
        _copy_into(part, source, progress, restoring=True)
        if path.exists():  # and is empty
            part.replace(path)
        else:
            os.link(part, path)  # which fails if another program has created it since
        _sync(path.parent)


@contextlib.contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """Create a temporary file beside a target, readable by its owner only. It is removed if it has not become the target."""
    try:
        file, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise StoreError(f"nothing can be written to {target.parent}: {error.strerror}") from error
    os.close(file)
    part = Path(name)
    try:
        yield part
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _copy_into(part: Path, source: Connection, progress: Progress | None, *, restoring: bool = False) -> None:
    with mapped_errors(part), contextlib.closing(Connection(str(part))) as copy:
        copy.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").fetchall()
        _copy(source, copy, progress)
        if restoring:
            _begin_new_versions(copy)
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, without -wal
        _check_whole(copy, Path(source.filename))
    _sync(part)


# An existing file


def _replace(path: Path, source: Connection, *, force: bool, progress: Progress | None) -> None:
    """Replace the content of a file in one transaction."""
    lock = FileLock.beside(str(path))
    try:
        lock.wait(0)
        flags = apsw.SQLITE_OPEN_READWRITE
        with mapped_errors(path), contextlib.closing(Connection(str(path), flags=flags)) as target:
            _seize(target, path)
            if not force and (count := target.execute("SELECT count(*) FROM namespaces").get):
                raise InvalidArgument(
                    f"{path} holds {count} namespace{'s'[: count > 1]}: add --force to replace all of it"
                )
            _copy(source, target, progress)
            _begin_new_versions(target)
    finally:
        lock.give()
        lock.close()


def _seize(target: Connection, path: Path) -> None:
    """Lock the file until the connection is closed."""
    try:
        schema_version(target, path)
        # Neither is possible while another connection is open: https://www.sqlite.org/wal.html, section 2.2.
        target.execute("PRAGMA journal_mode = DELETE; PRAGMA locking_mode = EXCLUSIVE").fetchall()
        target.execute("BEGIN EXCLUSIVE; COMMIT")
    except apsw.BusyError as error:
        raise StoreError(f"{path} is in use: stop the server and every program that has it open first") from error
    except (apsw.NotADBError, apsw.CorruptError) as error:
        beside = ", ".join(f"{path.name}{suffix}" for suffix in _BESIDE)
        raise StoreError(
            f"{path} is damaged or no database, and is left alone: move it and what is beside it ({beside}) away, then "
            "restore again"
        ) from error


# Used by both


def _copy(source: Connection, target: Connection, progress: Progress | None) -> None:
    """Copy page by page. The source has an open transaction, so all pages are of one moment."""
    size = source.pragma("page_size")
    with target.backup("main", source, "main") as copying:
        while not copying.done:
            copying.step(STEP)
            if progress is not None:
                progress((copying.page_count - copying.remaining) * size, copying.page_count * size)


def _begin_new_versions(connection: Connection) -> None:
    """Continue from the time in microseconds. No write since the backup has reached that version, nor has an earlier restore."""
    connection.execute("UPDATE namespaces SET version = max(version + 1, ?)", (now(),))


def _check_whole(connection: Connection, path: Path) -> None:
    found = [text for (text,) in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise StoreError(f"{path} is damaged ({found[0]}): restore a backup, or salvage it with SQLite's .recover")


def _check_target(target: Path) -> None:
    """Raise `InvalidArgument` unless the target does not exist, is empty, or is a backup (which is not in WAL mode)."""
    if not target.exists():
        return
    head = b""
    if target.is_file():
        with target.open("rb") as file:
            head = file.read(100)
    # https://www.sqlite.org/fileformat2.html#the_database_header
    ours = head[:15] == b"SQLite format 3" and head[18] == 1 and head[68:72] == APPLICATION_ID.to_bytes(4)
    if not target.is_file() or (head and not ours):
        raise InvalidArgument(f"{target} is there, and is not a backup: name another file")


def _absolute(path: str | os.PathLike[str]) -> Path:
    if os.fspath(path) == ":memory:":
        raise InvalidArgument("a store in memory has no file")
    return Path(path).absolute()


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
