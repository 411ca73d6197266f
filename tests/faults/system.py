"""System calls that fail below SQLite's own file code, with the errors that the kernel returns.

SQLite calls them through a table that can be changed (https://www.sqlite.org/c3ref/vfs.html, xSetSystemCall). The table is
shared by the process, so a changed call affects every connection until it is reset.
"""

from __future__ import annotations

import ctypes
import errno
from collections import Counter
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p

import apsw

_CALLS = {
    "open": (c_int, c_char_p, c_int, c_int),
    "openDirectory": (c_int, c_char_p, c_void_p),
    "access": (c_int, c_char_p, c_int),
    "stat": (c_int, c_char_p, c_void_p),
    "fstat": (c_int, c_int, c_void_p),
    "ftruncate": (c_int, c_int, c_int64),
    "fcntl": (c_int, c_int, c_int, c_void_p),
    "pread64": (c_int64, c_int, c_void_p, c_size_t, c_int64),
    "pwrite64": (c_int64, c_int, c_void_p, c_size_t, c_int64),
    "mmap": (c_int64, c_void_p, c_size_t, c_int, c_int, c_int, c_int64),
    "unlink": (c_int, c_char_p),
}
_F_UNLCK = 2

BROKEN = dict.fromkeys(_CALLS, errno.EIO)
FULL = {"pwrite64": errno.ENOSPC, "ftruncate": errno.ENOSPC}
READ_ONLY = {"open": errno.EACCES, "pwrite64": errno.EROFS, "ftruncate": errno.EROFS, "unlink": errno.EROFS}


class SystemCalls:
    """Counts SQLite's system calls, and fails `many` of them, beginning with call number `first`.

    Args:
        errors: the calls that can fail, each with its errno.
    """

    def __init__(self, errors: dict[str, int]) -> None:
        self.errors, self.first, self.many = errors, 0, 0
        self.calls = 0
        self.failed: Counter[str] = Counter()
        self._vfs = apsw.VFS("system calls", "unix")
        self._kept = []

    def __enter__(self) -> SystemCalls:
        for name, types in _CALLS.items():
            kind = ctypes.CFUNCTYPE(*types, use_errno=True)
            real = kind(self._vfs.xGetSystemCall(name))
            ours = kind(lambda *arguments, name=name, real=real: self._call(name, real, arguments))
            self._kept += [real, ours]
            assert self._vfs.xSetSystemCall(name, ctypes.cast(ours, c_void_p).value)
        return self

    def __exit__(self, *_: object) -> None:
        for name in _CALLS:
            self._vfs.xSetSystemCall(name, 0)
        self._vfs.unregister()

    def fail(self, many: int = 1_000_000_000) -> None:
        """Make the next `many` calls fail; 0: no more calls fail."""
        self.first, self.many = self.calls + 1, many

    def _call(self, name: str, real, arguments: tuple) -> int:
        if name in self.errors and not (name == "fcntl" and _unlocks(arguments)):
            self.calls += 1
            if self.first <= self.calls < self.first + self.many:
                self.failed[name] += 1
                ctypes.set_errno(self.errors[name])
                return -1
        return real(*arguments)


def _unlocks(arguments: tuple) -> bool:
    """Whether the call releases a lock, which no kernel refuses."""
    return bool(arguments[2]) and ctypes.cast(arguments[2], ctypes.POINTER(ctypes.c_short))[0] == _F_UNLCK
