"""Keeps some space free on the disk of a SQLite file, for deletes, for backups and for other programs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import Unavailable
from ..operations import Append, Edit, Fork, Increment, Operation, Put, Replace, SetAbout, SetVectors, Summarize
from ..stores.address import sqlite_path

MOST_KEPT = 256 * 1024 * 1024
SHARE_KEPT = 0.05
"""By default, 5 % of the disk stay free, but at most 256 MiB."""
_LOOK_EVERY = 1.0
"""Seconds for which a measurement is used. In this time a server can write some 100 MB."""
_WAIT = 30
"""Seconds after which a client may try again."""
MEMORY = ":memory:"
_STORING = frozenset({Put, Increment, Append, Replace, Fork, Edit, Summarize, SetAbout, SetVectors})


class Disk:
    """The disk of a store. Without a file, as for PostgreSQL, it cannot be measured, and nothing is refused.

    Args:
        address: of the store.
        keep: bytes to keep free; None: the default, see `reserve_of`; 0: none.
    """

    def __init__(self, address: str, keep: int | None = None) -> None:
        path = sqlite_path(address) if address.startswith("sqlite:///") else MEMORY
        self._file = None if path == MEMORY else Path(path)
        self._keep = keep
        self._measured = -_LOOK_EVERY
        self.free = self.reserve = 0
        """Bytes that are free, and that are kept free, as of the last `measure`."""
        self.on_refusal: Callable[[], object] = lambda: None

    def check(self, operations: Sequence[Operation]) -> None:
        """Raise `Unavailable` if a write stores something and the disk is nearly full. Deletes always pass."""
        if self._file is None:
            return
        if time.monotonic() - self._measured >= _LOOK_EVERY:
            self.measure()
        if self.free < self.reserve and any(map(_stores, operations)):
            self.on_refusal()
            raise Unavailable(
                f"the server's disk has {self.free:,} bytes left, and it keeps {self.reserve:,} free; nothing was written. Reads "
                "and deletes still work. Ask the operator to free some space, or to lower --keep-free",
                retry_after=_WAIT,
            )

    def measure(self) -> None:
        """Measure the free space now. A disk that cannot be measured counts as free."""
        self._measured = time.monotonic()
        self.free, self.reserve = (0, 0) if self._file is None else space_of(self._file, self._keep)


def _stores(operation: Operation) -> bool:
    match operation:
        case Replace(messages=()) | Summarize(upto=0):
            return False
    return type(operation) in _STORING


def space_of(file: Path, keep: int | None = None) -> tuple[int, int]:
    """Return the free bytes of the disk of a file, and how many of them a server keeps free."""
    try:
        found = os.statvfs(file)
    except OSError:
        return 0, 0
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return free, min(MOST_KEPT, int(size * SHARE_KEPT)) if keep is None else keep
