"""Disks that fail, as SQLite sees them: a VFS over the real one (https://www.sqlite.org/vfs.html).

``PowerCut`` remembers what was synced and what was only written, and can say what a disk holds after the power went;
``FailingSync`` makes syncs fail, which no system call of SQLite's can be made to do (see ``system.py``).
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
    """Passes every call on to the real disk, after asking `touch`."""

    def __init__(self) -> None:
        self.name = f"{type(self).__name__}-{next(_NUMBERS)}"
        self.mutex = threading.RLock()
        self.calls = 0
        super().__init__(self.name, "")

    def touch(self, call: str, path: str) -> None:
        """Count a call, or raise what it fails with."""
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
        """SQLite has been told already."""
        return True


class File(apsw.VFSFile):
    """A file of a `Disk`. Nothing is really synced: no power is really cut."""

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
    """Sync number `first` fails, and with it the next ones: `many` in all."""

    first, many, syncs = 0, 0, 0

    def touch(self, call: str, path: str) -> None:
        super().touch(call, path)
        if call == "sync":
            self.syncs += 1
            if self.first <= self.syncs < self.first + self.many:
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)


# The power goes


_KIND = {".db-wal": "WAL", ".db-journal": "journal"}


class PowerOff(apsw.IOError):
    """Nothing can be read or written any more."""


class _Inode:
    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes] | int] = []
        """What was done since the last sync: writes (place, bytes), and truncations (size)."""

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending = []

    def survivor(self, rng: random.Random, kept: float) -> bytes:
        """Return what the disk may hold now: of what was not synced any part, in any order, some sectors torn."""
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
    """Return a sector whose writing was interrupted: its beginning, and then nothing or noise."""
    whole = rng.randrange(len(data))
    return data[:whole] + (rng.randbytes(len(data) - whole) if rng.random() < 0.5 else b"")


class PowerCut(Disk):
    """The power goes at the call number `moment`; from then on every call fails.

    A file's content is safe once it was synced, its name once its folder was. SQLite syncs the folder with the first sync
    of a new journal or WAL, and with a deletion that has to last (os_unix.c, UNIXFILE_DIRSYNC).

    Args:
        folder: where the files are.
        rng: decides what survives.
        kept: how likely a sector that was not synced survives all the same; 0: nothing does.
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
        """Note what the disk holds."""
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
        """Put the files as they survived into a folder."""
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
