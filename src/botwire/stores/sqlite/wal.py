"""How the write-ahead log grows: ahead of the commits, so that most of them do not wait for the file system's own journal.

A commit that makes its file longer has to wait until the file system has stored the new length too, which takes a third of its
time. SQLite lengthens the log with every commit until its first checkpoint, and it deletes the log when the last connection is
closed. So nearly all commits of a short-lived process would be of that kind.
"""

from __future__ import annotations

import contextlib
import os

import apsw

CHECKPOINT = 1000
"""Frames after which the log is copied into the database: SQLite's own default (https://www.sqlite.org/wal.html, section 2.1)."""
CHUNK = 65_536
"""Bytes by which the log grows at a time: some ten commits. The longest wait grows with it."""
_HEADER, _FRAME = 32, 24 + 4096
"""Bytes of the log's header and of a frame, one page (https://www.sqlite.org/fileformat.html#the_write_ahead_log)."""
_ROOM = 8
"""Frames for which there must be room: more than most commits have."""


class Log:
    """The hook that SQLite calls after each commit with the number of frames in the log.

    It takes the place of SQLite's own hook, which begins the checkpoints (https://www.sqlite.org/c3ref/wal_hook.html).

    Args:
        path: the database.
        checkpoint: frames after which the log is copied into the database; 0: never.
    """

    def __init__(self, path: str, checkpoint: int) -> None:
        self.path = f"{path}-wal"
        self._checkpoint = checkpoint
        self._size = 0

    def __call__(self, connection: apsw.Connection, _: str, frames: int) -> int:
        end = _HEADER + (frames + _ROOM) * _FRAME
        if 0 < self._checkpoint <= frames:
            with contextlib.suppress(apsw.Error):  # as SQLite's own hook: the next commit tries again
                connection.wal_checkpoint()
        elif end > self._size:
            with contextlib.suppress(OSError):  # SQLite lengthens it then, or reports that the disk is full
                self._size = self.grow(end)
        return apsw.SQLITE_OK

    def grow(self, end: int) -> int:
        """Add a chunk unless the log is that long already; returns its length.

        Zeros are no frame: a recovery ends at them, and the next frames replace them.
        """
        # Appended, so that they can't replace a frame that another program writes at this moment.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            return size if size >= end else size + os.write(file, bytes(CHUNK))
        finally:
            os.close(file)
