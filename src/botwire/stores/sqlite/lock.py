"""Turns between processes: a lock file beside the database.

SQLite's own way of waiting for a writer is to sleep and try again, and whoever sleeps is overtaken: with two writing
processes the slower one waited up to 4 s for a commit of 0.2 ms (measured). The kernel's queue for `flock` is fair.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

from ...errors import StoreError, Timeout

try:
    import fcntl
except ImportError:  # Windows has no flock: there the processes fall back on SQLite's own waiting.
    fcntl = None  # type: ignore[assignment]


class Lock(Protocol):
    """What a writer holds while it commits."""

    def acquire(self, timeout: float) -> None:
        """Take the lock, or raise `Timeout` after that many seconds."""
        ...

    def release(self) -> None:
        """Give the lock back."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class NoLock:
    """For a store that no other process can see."""

    def acquire(self, timeout: float) -> None:
        """Take nothing."""

    def release(self) -> None:
        """Give nothing back."""

    def close(self) -> None:
        """Nothing to close."""


class FileLock:
    """An exclusive `flock` on a file that holds nothing. One holder a process at a time; the caller sees to that."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, timeout: float) -> None:
        """Take the lock, or raise `Timeout` after that many seconds (0: at once)."""
        if self._file is None:
            self._file = self._open()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not timeout:
                raise Timeout(f"another process holds {self._path}; nothing was written") from None
            self._wait(self._file, timeout)

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; the next `acquire` opens it again. A lock held goes with it, but not with a forked child's copy."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"the lock file {self._path} cannot be opened: {error.strerror}. Writing needs it"
            ) from error

    def _wait(self, file: int, timeout: float) -> None:
        # flock knows no timeout, so a thread waits in its queue. If we give up first, the thread keeps the file
        # and gives the lock back when its turn comes at last.
        self._file = None
        if not _Wait(file).join(timeout):
            raise Timeout(f"another process held {self._path} for {timeout:g} s; nothing was written. Try again")
        self._file = file


class _Wait:
    def __init__(self, file: int) -> None:
        self._file = file
        self._mutex = threading.Lock()
        self._locked = threading.Event()
        self._abandoned = False
        threading.Thread(target=self._run, name="botwire-lock", daemon=True).start()

    def join(self, timeout: float) -> bool:
        try:
            self._locked.wait(timeout)
        finally:
            with self._mutex:
                self._abandoned = not self._locked.is_set()
        return not self._abandoned

    def _run(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with self._mutex:
            if self._abandoned:
                fcntl.flock(self._file, fcntl.LOCK_UN)  # closing is not enough: a forked child may have it open too
                os.close(self._file)
            else:
                self._locked.set()


def lock_for(path: str) -> Lock:
    """Return the lock of the database at a path."""
    return NoLock() if fcntl is None else FileLock(f"{path}-lock")
