"""Turns between processes: a lock file beside the database.

SQLite's own way to wait for a writer is to sleep and try again, and a process that sleeps is overtaken: with two writing
processes the slower one waited up to 4 s for a commit of 0.2 ms (measured). The kernel's queue for `flock` is fair.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from ...errors import StoreError, Timeout

_PAUSE = 0.005
"""Seconds between two attempts where no thread can wait in the kernel."""


class FileLock:
    """An exclusive `flock` on an empty file.

    One object serves one thread at a time: a store uses it inside its queue of transactions only. What needs the lock beside
    that queue takes a `FileLock` of its own; `flock` excludes open files, not processes.

    Args:
        path: the file, created when it is first needed. None: there is nothing to lock, as no other process sees the store.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._file: int | None = None
        self.take: Callable[[], object] = _nothing if path is None else self._open_and_take
        """Takes the lock, or raises `BlockingIOError` if another process has it. A call of C once the file is open."""
        self.give: Callable[[], object] = _nothing
        """Gives the lock back; without effect if it is not held."""

    @classmethod
    def beside(cls, database: str | None) -> FileLock:
        """Return the lock of a database. A symbolic link to it has the same lock."""
        return cls(None if database is None else f"{os.path.realpath(database)}-lock")

    def wait(self, deadline: float) -> None:
        """Take the lock, or raise `Timeout` at a deadline."""
        with contextlib.suppress(BlockingIOError):
            self.take()
            return
        file, left = self._file, deadline - time.monotonic()
        assert file is not None
        if left > 0 and _threads_are_greenlets():
            if self._poll(deadline):
                return
        elif left > 0:
            # flock has no timeout, so a thread waits in the kernel's queue. From here on the file belongs to that thread,
            # which closes it if the lock comes too late.
            self._forget()
            if _Wait(file).join(left):
                self._use(file)
                return
        raise Timeout(f"another process held {self._path} until the timeout; nothing was written. Try again")

    def _poll(self, deadline: float) -> bool:
        """Try until the deadline. Returns whether the lock is held."""
        while time.monotonic() < deadline:
            time.sleep(_PAUSE)
            with contextlib.suppress(BlockingIOError):
                self.take()
                return True
        return False

    def close(self) -> None:
        """Close the file; the next `take` opens it again. Releases a lock that is held, unless a forked child has a copy."""
        file = self._file
        if file is not None:
            self._forget()
            os.close(file)

    __del__ = close

    def __reduce__(self) -> NoReturn:
        # A copy would have the same descriptor, and close it while this object still uses it.
        raise TypeError("a lock of a file cannot be copied")

    def _open_and_take(self) -> None:
        assert self._path is not None
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"the lock file {self._path} cannot be opened: {error.strerror}. Writing needs it"
            ) from error
        self._use(file)
        self.take()

    def _use(self, file: int) -> None:
        self._file = file
        self.take = partial(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.give = partial(fcntl.flock, file, fcntl.LOCK_UN)

    def _forget(self) -> None:
        self._file, self.take, self.give = None, self._open_and_take, _nothing


def _threads_are_greenlets() -> bool:
    """Whether gevent has replaced threads, so that one that waits in the kernel stops all of them."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _nothing() -> None:
    pass


class _Wait:
    """A thread that waits for a lock, and closes the file if it is not wanted any more."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._mutex = threading.Lock()
        self._locked = threading.Event()
        self._abandoned = False
        threading.Thread(target=self._run, name="botwire-lock", daemon=True).start()

    def join(self, seconds: float) -> bool:
        """Return whether the lock is held now."""
        try:
            self._locked.wait(seconds)
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
