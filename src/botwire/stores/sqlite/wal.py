"""The write-ahead log: which file it is, and how it grows.

It grows ahead of the commits, so that most of them do not wait for the file system's own journal.

A commit that makes its file longer has to wait until the file system has stored the new length too, which takes a third of its
time. SQLite lengthens the log with every commit until its first checkpoint, and it deletes the log when the last connection is
closed. So nearly all commits of a short-lived process would be of that kind.
"""

# ruff: noqa: PTH116, PTH120 - a `Path` costs as much again as the system call

from __future__ import annotations

import contextlib
import os
import time

import apsw

CHECKPOINT = 1000
"""Frames after which the log is copied into the database: SQLite's own default (https://www.sqlite.org/wal.html, section 2.1)."""
CHUNK = 65_536
"""Bytes by which the log grows at a time: some ten commits. The longest wait grows with it."""
_HEADER, _FRAME = 32, 24 + 4096
"""Bytes of the log's header and of a frame, one page (https://www.sqlite.org/fileformat.html#the_write_ahead_log)."""
_ROOM = 8
"""Frames for which there must be room: more than most commits have."""
_TICK = 50_000_000
"""Nanoseconds after which a second change of a folder gets another time: file systems use the time of the kernel's last tick."""
_SECOND = 1_000_000_000
_COARSE_TICK = 3 * _SECOND
"""The same for file systems that keep times in seconds."""


class Log:
    """The hook that SQLite calls after each commit with the number of frames in the log.

    It takes the place of SQLite's own hook, which begins the checkpoints (https://www.sqlite.org/c3ref/wal_hook.html).

    Args:
        paths: the database, its log and the log's index.
        checkpoint: frames after which the log is copied into the database; 0: never.
    """

    def __init__(self, paths: tuple[str, str, str], checkpoint: int) -> None:
        self.paths = paths
        path, log, _ = paths
        self._folder = os.path.dirname(path) if log == f"{path}-wal" else None
        """The folder of all three; None: the path is a symbolic link."""
        self._unchanged: tuple[int, int] | None = None
        self._names: tuple[int, ...] = ()
        self.names = self.look()
        """What `paths` named after the last commit."""
        self._checkpoint = checkpoint
        self._size = 0

    def __call__(self, connection: apsw.Connection, _: str, frames: int) -> int:
        names = self.look()
        if names != self.names:  # the log may be another's now
            self.names = names
            return apsw.SQLITE_OK
        end = _HEADER + (frames + _ROOM) * _FRAME
        if 0 < self._checkpoint <= frames:
            with contextlib.suppress(apsw.Error):  # as SQLite's own hook: the next commit tries again
                connection.wal_checkpoint()
        elif end > self._size:
            with contextlib.suppress(OSError):  # SQLite lengthens it then, or reports that the disk is full
                self._size = self.grow(end)
        return apsw.SQLITE_OK

    def look(self) -> tuple[int, ...]:
        """As `names_of`, and faster: while the folder has the same time of its last change, no name in it has changed."""
        if self._folder is None:
            return names_of(self.paths)
        try:
            facts = os.stat(self._folder)
        except OSError:
            return ()
        folder = facts.st_ino, facts.st_ctime_ns
        if folder != self._unchanged:
            self._names = names_of(self.paths)
            tick = _TICK if facts.st_ctime_ns % _SECOND else _COARSE_TICK
            self._unchanged = folder if time.time_ns() - facts.st_ctime_ns > tick else None
        return self._names

    def grow(self, end: int) -> int:
        """Add a chunk unless the log is that long already; returns its length.

        Zeros are no frame: a recovery ends at them, and the next frames replace them.
        """
        # Appended, so that they can't replace a frame that another program writes at this moment.
        file = os.open(self.paths[1], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            return size if size >= end else size + os.write(file, bytes(CHUNK))
        finally:
            os.close(file)


def names_of(paths: tuple[str, str, str]) -> tuple[int, ...]:
    """Return the device of a database, and the inodes of it, its log and the log's index; () if one does not exist. Some 3 µs."""
    database, log, index = paths
    try:
        facts = os.stat(database)
        return facts.st_dev, facts.st_ino, os.stat(log).st_ino, os.stat(index).st_ino
    except OSError:
        return ()
