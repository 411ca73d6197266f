"""The place of an open file: locks that hold it there, and whether its path still names it.

SQLite locks files with POSIX locks. The system drops all POSIX locks that a process has on a file as soon as the process closes
any descriptor of it (https://www.sqlite.org/howtocorrupt.html, section 2.2). So ``shutil.copy`` or Python's own ``sqlite3`` in
the same process takes them away. Another program that opens or closes the file then acts as if no one else had it open: it
removes the log in which this process continues to write, or truncates memory that this process has mapped.

A lock of an open file description is kept (https://man7.org/linux/man-pages/man2/fcntl_locking.2.html, "Open file description
locks"). So a process holds two more locks of that kind on each file, in the bytes that SQLite uses. They cost nothing until the
file is closed.
"""

# ruff: noqa: PTH116 - a `Path` costs as much again as the system call

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

from ...errors import StoreError
from ...forks import ForkAware, register
from .wal import names_of

T = TypeVar("T")

_SHARED_LOCK = 0x4000_0002, 510
"""The bytes of the database that SQLite locks for reading while a connection is open, by its os_unix.c. To remove the log, it
locks them for writing."""
_INDEX_LOCK = 128, 1
"""The byte of the log's index (``-shm``) that SQLite locks while a connection is open. To truncate it, it locks that for writing."""
_RECOVERY_LOCK = 122, 1
"""The byte of the index that SQLite locks for writing while it builds the index again."""
_WRITE_LOCK = 120, 1
"""The byte of the index that SQLite locks for writing in a transaction that writes."""
OTHER_SQLITE = "_sqlite3"
"""Python's module with another copy of SQLite. In one process, the locks of two copies do not exclude each other."""
UNLOCKED = struct.pack("h", fcntl.F_UNLCK)
"""What `Place.find_writer` returns begins with this if no one writes."""
_SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)
"""None where the system has no such locks. There, only the checks of `Place` are left."""
_GET_LOCK = getattr(fcntl, "F_OFD_GETLK", None)
_FLOCK = "hhqqi4x"
"""``struct flock`` of Linux on 64 bits: the kind, from where, the start, the length, the process."""

LEFT = (
    "{0}, or {0}-wal or {0}-shm beside it, was removed or replaced while it was open. Nothing was read or written. Create the "
    "memory again (restart the server) to use the file that is there now"
)
LOST = (
    "{0}, or {0}-wal or {0}-shm beside it, was removed or replaced during the write, so the write may be lost. Create the "
    "memory again (restart the server) to use the file that is there now"
)
"""Errors of a store whose path stopped naming its files: before a call, and during a write."""

_OPENINGS = 5
"""How often a file is opened whose name changes each time."""

_Identity: TypeAlias = tuple[int, int]


class Moved(Exception):
    """The files changed their names while they were being opened: open them again."""


class Place:
    """The files that a connection uses. Create it before the connection, and call `hold` after its first read.

    Args:
        path: the database, which is created if it does not exist, readable by its owner only.

    Raises:
        StoreError: writes to this file would be lost, because it has several names or another log.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.names: tuple[int, ...] = ()
        """What `paths` name, while they are held."""
        self.lock_recovery: Callable[[], object] = int
        """Keeps others from building the log's index again, as they would if they found it while a commit changes it. Another copy
        of SQLite in this process would do so during a transaction. Raises `BlockingIOError` if it does at this moment."""
        self.unlock_recovery: Callable[[], object] = int
        self.find_writer: Callable[[], bytes] = lambda: UNLOCKED
        """Finds out whether anyone is in a transaction that writes, also another copy of SQLite in this process."""
        self._anchor: _Anchor | None = None
        real = os.path.realpath(path)  # where SQLite puts the log
        self.paths = self._path, self._log, self._index = path, f"{real}-wal", f"{real}-shm"
        self.database = _create(real)
        if not os.access(path, os.R_OK | os.W_OK):  # `enter` opens it for the first connection only
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self._anchor = _anchors.enter(path, self.database)
        _refuse_second_name(path, real)
        if self._anchor.is_log_of_another(self._index):
            # SQLite would add the log to this file.
            raise StoreError(
                f"{path} was replaced while a program has it open, and {self._log} is the log of the former file; or an older version of "
                "botwire has it open. Stop that program, or close its memory, and try again"
            )

    def hold(self) -> None:
        """Keep other programs from removing the log, until `release`. The connection must have read something.

        Raises:
            Moved: the path names another file, or the log was removed: open the file again.
        """
        anchor = self._anchor
        assert anchor is not None
        try:
            anchor.hold(self._index)
        except (FileNotFoundError, BlockingIOError) as error:
            raise Moved from error
        names = names_of(self.paths)
        if names[:2] != self.database or (names[0], names[3]) != anchor.index_identity:
            anchor.release()
            raise Moved
        self.names = names
        index_file = anchor.index
        if _SET_LOCK is not None and _GET_LOCK is not None and index_file is not None:
            self.lock_recovery = partial(fcntl.fcntl, index_file, _SET_LOCK, _flock(fcntl.F_RDLCK, _RECOVERY_LOCK))
            self.unlock_recovery = partial(fcntl.fcntl, index_file, _SET_LOCK, _flock(fcntl.F_UNLCK, _RECOVERY_LOCK))
            find = partial(fcntl.fcntl, index_file, _GET_LOCK, _flock(fcntl.F_WRLCK, _WRITE_LOCK))
            self.find_writer = cast("Callable[[], bytes]", find)

    def is_kept(self) -> bool:
        """Whether the path still names the database, and the names beside it its log. Some 3 µs."""
        return names_of(self.paths) == self.names

    def has_database(self) -> bool:
        """Whether the path still names the database."""
        return _identity_of(self._path) == self.database

    def has_another_log(self) -> bool:
        """Whether another program may write to the database with another log."""
        if not self.names:
            return self.has_database()
        device, _, log, index = self.names
        return self.has_database() and (
            _identity_of(self._log) not in {None, (device, log)}
            or _identity_of(self._index) not in {None, (device, index)}
        )

    def release(self) -> None:
        """Give the locks back, so that the last connection can remove the log. Close the connection next."""
        if self.names and self._anchor is not None:
            self.names = ()
            self._anchor.release()

    def close(self) -> None:
        """Close the descriptors, when the connection is closed."""
        self.release()
        anchor, self._anchor = self._anchor, None
        if anchor is not None:
            _anchors.leave(anchor)

    __del__ = close


def place_of(path: str) -> Place:
    """Return the place of a file, or raise `StoreError` if it cannot be opened."""
    try:
        return Place(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}") from error


def steadily(path: str, open_: Callable[[], T]) -> T:
    """Open a file, again if its name changes at that moment. Raises `StoreError` if it does so each time."""
    for _ in range(_OPENINGS):
        with contextlib.suppress(Moved):
            return open_()
    raise StoreError(f"{path} is being replaced by another program: try again")


class _Anchor:
    """The descriptors and locks of this process on one file. One for all connections: closing a descriptor drops SQLite's locks."""

    def __init__(self, database: int) -> None:
        self.users = 0
        self._holders = 0
        self._database: int | None = database
        self.index: int | None = None
        self.index_identity: _Identity | None = None

    def hold(self, index: str) -> None:
        with _anchors.mutex:
            if self.index_identity != _identity(os.stat(index)):
                if self._holders:
                    raise Moved
                self._open_index(index)
            if not self._holders:
                _lock(self._database, fcntl.F_RDLCK, _SHARED_LOCK)
                _lock(self.index, fcntl.F_RDLCK, _INDEX_LOCK)
            self._holders += 1

    def release(self) -> None:
        with _anchors.mutex:
            self._holders -= 1
            if not self._holders:  # in this order, because a log that is held without its database is another's
                _lock(self.index, fcntl.F_UNLCK, _INDEX_LOCK)
                _lock(self._database, fcntl.F_UNLCK, _SHARED_LOCK)

    def is_log_of_another(self, index: str) -> bool:
        with _anchors.mutex:
            if _GET_LOCK is None or self._holders or _identity_of(index) is None:
                return False
            if any(other is not self and other.has_index(index) for other in _anchors.all()):
                return True
            self._open_index(index)
            return _is_locked(self.index, _INDEX_LOCK) and not _is_locked(self._database, _SHARED_LOCK)

    def has_index(self, index: str) -> bool:
        return bool(self._holders) and self.index_identity == _identity_of(index)

    def close(self) -> None:
        for file in self._database, self.index:
            if file is not None:
                os.close(file)
        self._database = self.index = self.index_identity = None

    def _open_index(self, index: str) -> None:
        if _SET_LOCK is None:
            self.index_identity = _identity(os.stat(index))
            return
        if self.index is not None:
            os.close(self.index)
            self.index = None
        self.index = os.open(index, os.O_RDONLY | os.O_CLOEXEC)
        self.index_identity = _identity(os.fstat(self.index))


class _Anchors(ForkAware):
    """The anchors of this process. A finalizer may interrupt it, so its mutex is reentrant, and held for single steps only."""

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        self._anchors: dict[_Identity, _Anchor] = {}
        register(self)

    def enter(self, path: str, identity: _Identity) -> _Anchor:
        with self.mutex:
            anchor = self._anchors.get(identity)
            if anchor is None:
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                if _identity(os.fstat(file)) != identity:
                    os.close(file)
                    raise Moved
                anchor = self._anchors[identity] = _Anchor(file)
            anchor.users += 1
            return anchor

    def leave(self, anchor: _Anchor) -> None:
        with self.mutex:
            anchor.users -= 1
            if not anchor.users:
                self._anchors = {identity: other for identity, other in self._anchors.items() if other is not anchor}
                anchor.close()

    def all(self) -> list[_Anchor]:
        return list(self._anchors.values())

    def after_fork_in_child(self) -> None:
        """Close the copies of the descriptors. The locks stay with the parent."""
        self.mutex = threading.RLock()
        anchors, self._anchors = self._anchors, {}
        for anchor in anchors.values():
            anchor.close()


_anchors = _Anchors()


def _lock(file: int | None, kind: int, where: tuple[int, int]) -> None:
    if _SET_LOCK is not None and file is not None:
        fcntl.fcntl(file, _SET_LOCK, _flock(kind, where))


def _flock(kind: int, where: tuple[int, int]) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, *where, 0)


def _is_locked(file: int | None, where: tuple[int, int]) -> bool:
    if _GET_LOCK is None or file is None:
        return False
    found = fcntl.fcntl(file, _GET_LOCK, _flock(fcntl.F_WRLCK, where))
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _identity(facts: os.stat_result) -> _Identity:
    return facts.st_dev, facts.st_ino


def _identity_of(path: str) -> _Identity | None:
    try:
        return _identity(os.stat(path))
    except OSError:
        return None


def _create(path: str) -> _Identity:
    """Create the file if there is none. SQLite would make it readable for every user; the names beside it take its mode.

    An existing file is not opened: closing it again would drop the locks of every connection of this process.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return _identity(os.stat(path))


def _refuse_second_name(path: str, real: str) -> None:
    """Raise `StoreError` if the file is a hard link, or mounted alone: each name would have a log of its own.

    Writes through two names would replace each other (https://www.sqlite.org/howtocorrupt.html, section 2.5).
    """
    names = os.stat(path).st_nlink
    if names > 1:
        raise StoreError(
            f"{path} has {names} names (hard links), and each name would have its own log, so writes would be lost: remove the "
            "other names, or use a copy"
        )
    if real in _mount_points():
        raise StoreError(
            f"{path} is mounted as a single file, apart from its log, so writes would be lost: mount its folder instead"
        )


def _mount_points() -> set[str]:
    """Return the mount points (https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html); none where they are unknown."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return set()
    return {os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4])) for line in lines}


_ESCAPED = re.compile(rb"\\(\d{3})")
"""Spaces and line breaks in a mount point."""
