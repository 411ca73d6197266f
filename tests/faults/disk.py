"""Disks that fail, implemented as a SQLite VFS over the real one (https://www.sqlite.org/vfs.html).

``PowerCut`` records what was synced and what was only written, and returns what a disk may contain after a power cut.
``FailingSync`` makes syncs fail, because SQLite's system calls for syncing cannot be replaced (see ``system.py``).
"""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path

import apsw

_NUMBERS = itertools.count()
SECTOR = 512


class Disk(apsw.VFS):
    """Passes every call to the real disk, after calling `touch`."""

    def __init__(self) -> None:
        self.name = f"{type(self).__name__}-{next(_NUMBERS)}"
        self.mutex = threading.RLock()
        self.calls = 0
        super().__init__(self.name, "")

    def touch(self, call: str, path: str) -> None:
        """Count a call. A subclass may raise an error here."""
        with self.mutex:
            self.calls += 1

    def file(self, name, flags):
        return File(self, name, flags)

    def xOpen(self, name, flags):
        self.touch("open", _path(name))
        return self.file(name, flags)

    def xDelete(self, path, sync):
        self.touch("delete", path)
        super().xDelete(path, False)

    def xAccess(self, path, flags):
        self.touch("access", path)
        return super().xAccess(path, flags)

    def excepthook(self, *_):
        """Ignore the error, because SQLite has received it already."""
        return True


class File(apsw.VFSFile):
    """A file of a `Disk`. It does not sync the real disk, because the power cuts are simulated."""

    def __init__(self, disk: Disk, name, flags) -> None:
        self.disk, self.path = disk, _path(name)
        super().__init__("", name, flags)

    def xRead(self, amount, offset):
        self.disk.touch("read", self.path)
        return super().xRead(amount, offset)

    def xWrite(self, data, offset):
        self.disk.touch("write", self.path)
        super().xWrite(data, offset)

    def xTruncate(self, size):
        self.disk.touch("truncate", self.path)
        super().xTruncate(size)

    def xSync(self, flags):
        self.disk.touch("sync", self.path)

    def xFileSize(self):
        self.disk.touch("size", self.path)
        return super().xFileSize()

    def xLock(self, level):
        self.disk.touch("lock", self.path)
        super().xLock(level)

    def excepthook(self, *_):
        return True


def _path(name) -> str:
    return name.filename() if isinstance(name, apsw.URIFilename) else name or ""


class FailingSync(Disk):
    """Fails `many` syncs, beginning with sync number `first`."""

    first, many, syncs = 0, 0, 0

    def touch(self, call: str, path: str) -> None:
        super().touch(call, path)
        if call == "sync":
            self.syncs += 1
            if self.first <= self.syncs < self.first + self.many:
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)


# Power cuts


_KIND = {".db-wal": "WAL", ".db-journal": "journal"}


class PowerOff(apsw.IOError):
    """Every call after a power cut raises this."""


class _Inode:
    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes] | int] = []
        """The changes since the last sync: writes (offset, bytes), and truncations (size)."""

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending = []

    def survivor(self, rng: random.Random, kept: float) -> bytes:
        """Return possible content after a power cut. Any of the unsynced sectors may be missing, and some are torn."""
        content = bytearray(self.durable)
        for change in self.pending:
            if isinstance(change, int):
                if rng.random() < kept:
                    _apply(content, change)
                continue
            place, data = change
            for begin in range(0, len(data), SECTOR):
                if rng.random() < kept:
                    piece = data[begin : begin + SECTOR]
                    _apply(content, (place + begin, _torn(rng, piece) if rng.random() < 0.1 else piece))
        return bytes(content)


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
        return
    place, data = change
    if len(content) < place:
        content.extend(bytes(place - len(content)))
    content[place : place + len(data)] = data


def _torn(rng: random.Random, data: bytes) -> bytes:
    """Return a partly written sector: its beginning, followed by nothing or by random bytes."""
    whole = rng.randrange(len(data))
    return data[:whole] + (rng.randbytes(len(data) - whole) if rng.random() < 0.5 else b"")


class PowerCut(Disk):
    """Cuts the power at call number `moment`. From then on every call fails.

    A file's content is durable after a sync of the file, and its name after a sync of its folder. SQLite syncs the folder with
    the first sync of a new journal or WAL, and with a durable deletion (os_unix.c, UNIXFILE_DIRSYNC).

    Args:
        folder: the folder of the files.
        rng: selects what survives.
        kept: the probability that an unsynced sector survives.
        moment: the number of the call.
    """

    def __init__(self, folder: Path, rng: random.Random, *, kept: float, moment: int = 0) -> None:
        self.folder, self.rng, self.kept, self.moment = folder, rng, kept, moment
        self.names: dict[str, _Inode] = {}
        self.durable_names: dict[str, _Inode] = {}
        self.image: dict[str, bytes] | None = None
        self.cut_at = "the end"
        super().__init__()

    def touch(self, call: str, path: str) -> None:
        with self.mutex:
            super().touch(call, path)
            if self.calls == self.moment:
                self.cut_at = f"{call} of the {_KIND.get(Path(path).suffix, 'database')}"
                self.cut()
            if self.image is not None:
                raise PowerOff("the power is off")

    def cut(self) -> None:
        """Save the content of the disk as `image`."""
        with self.mutex:
            if self.image is not None:
                return
            self.image = {}
            for path in self.names | self.durable_names:
                now, safe = self.names.get(path), self.durable_names.get(path)
                inode = now if self.rng.random() < self.kept else safe
                if inode is not None:
                    self.image[Path(path).name] = inode.survivor(self.rng, self.kept)

    def restore(self, folder: Path) -> None:
        """Write the surviving files into a folder."""
        folder.mkdir()
        for name, content in self.image.items():
            (folder / name).write_bytes(content)

    def file(self, name, flags):
        return _RememberedFile(self, name, flags)

    def xDelete(self, path, sync):
        with self.mutex:
            super().xDelete(path, sync)
            self.names.pop(path, None)
            if sync:
                self.sync_folder(path)

    def sync_folder(self, path: str) -> None:
        self.touch("sync folder", path)
        self.durable_names = dict(self.names)


_JOURNAL = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL


class _RememberedFile(File):
    def __init__(self, disk: PowerCut, name, flags) -> None:
        super().__init__(disk, name, flags)
        self.new = bool(flags[0] & _JOURNAL)
        with disk.mutex:
            self.inode = disk.names.setdefault(self.path, _Inode())

    def xWrite(self, data, offset):
        with self.disk.mutex:
            self.inode.pending.append((offset, bytes(data)))
            super().xWrite(data, offset)

    def xTruncate(self, size):
        with self.disk.mutex:
            self.inode.pending.append(size)
            super().xTruncate(size)

    def xSync(self, flags):
        with self.disk.mutex:
            super().xSync(flags)
            self.inode.sync()
            if self.new:
                self.disk.sync_folder(self.path)
                self.new = False
