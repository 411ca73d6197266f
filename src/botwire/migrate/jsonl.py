"""A namespace ⇄ JSON Lines: to look at, to keep, to bring to another program or another place.

The first line says what it is, then there is a line for each entry and each message, in order, and the last one says that it is
whole. Both ways take the memory of a page, however many lines there are, and go on where they were when they were killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ..errors import InvalidArgument
from ..limits import MAX_WRITE_BYTES, check_name, check_namespace, check_time
from ..operations import Append, NewMessage, Operation, Put
from ..queries import GetUsage, ListEntries
from ..records import Entry, Message
from ..store import Store
from ..timestamps import moment, now
from ..values import Stored, check_json, encode, size
from .walk import BYTES, OPERATIONS, _entries, _is_server, _pages_of_messages, _sessions

FORMAT = "botwire"
VERSION = 1
MAX_LINE_BYTES = 2 * MAX_WRITE_BYTES
"""The longest line that is read, far more than any value needs."""
_BLOCK = 64 * 1024

Progress = Callable[[int, int], None]


class Report(msgspec.Struct):
    """What has gone over."""

    namespace: str
    entries: int = 0
    messages: int = 0


class _Line(msgspec.Struct, kw_only=True):
    """A line of a file, whichever it is."""

    format: str | None = None
    version: int | None = None
    namespace: str | None = None
    key: str | None = None
    value: Raw | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET
    session: str | None = None
    seq: int = 0
    id: str | None = None
    data: Raw | UnsetType = UNSET
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    end: bool = False


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


# Out


def export(store: Store, namespace: str, out: BinaryIO, *, progress: Progress, after: _Line | None = None) -> Report:
    """Write a namespace as JSON Lines, while it is in use: whatever is there all the time is in it.

    Args:
        store: where it is.
        namespace: which.
        out: where the lines go.
        progress: is told how many bytes of how many are done.
        after: the last line of what was written before, to go on behind it.
    """
    total, done = store.read(namespace, GetUsage()).bytes, 0
    report = Report(namespace)
    if after is None:
        _put(out, {"format": FORMAT, "version": VERSION, "namespace": namespace})
    if after is None or after.session is None:
        for entry in _entries_after(store, namespace, "" if after is None else after.key or ""):
            _put(out, _entry(entry))
            report.entries += 1
            done += size(entry.key) + size(entry.stored)
            progress(min(done, total), total)
    for name, seq in _sessions_after(store, namespace, after):
        for page in _pages_of_messages(store, namespace, name, after=seq):
            for message in page:
                _put(out, {"session": name, **_message(message)})
                done += size(message.id) + size(message.stored)
            report.messages += len(page)
            progress(min(done, total), total)
    _put(out, {"end": True})
    progress(total, total)
    return report


def export_file(store: Store, namespace: str, path: Path, *, force: bool, progress: Progress) -> Report:
    """Write a namespace to a file, which is on disk when this returns. Half a file of an earlier try is gone on with.

    Raises:
        InvalidArgument: there is another file, or a whole one, and `force` was not said.
    """
    if force:
        path.unlink(missing_ok=True)
    with _opened(path) as out:
        after = _last_line(out, namespace, path)
        report = export(store, namespace, out, progress=progress, after=after)
        out.flush()
        os.fsync(out.fileno())
    return report


def _opened(path: Path) -> BinaryIO:
    try:
        # For its owner only, as the memory is.
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror}") from error


def _last_line(out: BinaryIO, namespace: str, path: Path) -> _Line | None:
    """Go to the end of the last whole line, cut off what is behind it, and return it."""
    start, end = _ends_of_last_line(out)
    out.truncate(end)
    out.seek(0)
    if not end:
        return None
    first = _parsed(out.readline(MAX_LINE_BYTES), 1)
    if first.format != FORMAT or first.namespace != namespace:
        raise InvalidArgument(f"{path} is not an export of namespace {namespace!r}: name another file, or add --force")
    out.seek(start)
    last = _parsed(out.readline(MAX_LINE_BYTES), 0)
    if last.end:
        raise InvalidArgument(f"{path} is a whole export already: name another file, or add --force to replace it")
    return last


def _ends_of_last_line(out: BinaryIO) -> tuple[int, int]:
    """Return where the last line that has an end begins and ends."""
    found: list[int] = []
    place = out.seek(0, os.SEEK_END)
    while place and len(found) < 2:
        start = max(place - _BLOCK, 0)
        out.seek(start)
        block = out.read(place - start)
        at = len(block)
        while len(found) < 2 and (at := block.rfind(b"\n", 0, at)) >= 0:
            found.append(start + at + 1)
        place = start
    end, before, *_ = [*found, 0, 0]
    return before, end


def _entries_after(store: Store, namespace: str, after: str) -> Iterator[Entry]:
    if not after:
        yield from _entries(store, namespace)
        return
    while page := store.read(namespace, ListEntries("", after, 1)):
        yield from page
        after = page[-1].key


def _sessions_after(store: Store, namespace: str, after: _Line | None) -> Iterator[tuple[str, int]]:
    """Return sessions, the oldest first, each with the seq to go on behind."""
    names = _sessions(store, namespace)
    start = 0
    if after is not None and after.session in names:
        start = names.index(after.session)
    for index, name in enumerate(names[start:]):
        yield name, after.seq if after is not None and after.session is not None and not index else 0


def _put(out: BinaryIO, document: dict[str, Any]) -> None:
    out.write(_encode(document) + b"\n")


def _entry(entry: Entry) -> dict[str, Any]:
    stored = entry.stored
    value = {"value_base64": stored} if isinstance(stored, bytes) else {"value": _on_one_line(stored)}
    expires = {} if entry.expires is None else {"expires_at": moment(entry.expires)}
    return {"key": entry.key, **value, "created_at": entry.created_at, "updated_at": entry.updated_at, **expires}


def _message(message: Message) -> dict[str, Any]:
    data = _on_one_line(message.stored)
    return {"seq": message.seq, "id": message.id, "data": data, "created_at": message.created_at}


def _on_one_line(stored: str) -> Raw:
    """Return JSON text without the line breaks that may stand between its tokens."""
    if "\n" in stored or "\r" in stored:
        return Raw(msgspec.json.format(stored.encode(), indent=-1))
    return Raw(stored.encode())


# In


class Kept(msgspec.Struct):
    """How far an import has come: what is before this place in the lines is on disk."""

    address: str
    namespace: str
    offset: int = 0
    lines: int = 0


def import_lines(
    store: Store,
    lines: BinaryIO,
    namespace: str | None = None,
    *,
    begun: Kept | None = None,
    keep: Callable[[Kept], None] = lambda _: None,
) -> Report:
    """Write the lines of an export into a namespace: keys are replaced, messages go behind what a session has.

    A message whose id the session holds is there already. Times are kept, unless there is a server on the way.

    Args:
        store: where the namespace is.
        lines: the lines, at their beginning.
        namespace: which; None: the one that the first line names.
        begun: how far it has come before.
        keep: is told so after each write.

    Raises:
        InvalidArgument: a line is wrong; what was before it is written.
    """
    line = lines.readline(MAX_LINE_BYTES)
    first = _parsed(line, 1)
    if first.format != FORMAT or first.version != VERSION or first.namespace is None:
        raise InvalidArgument("this is not an export of botwire: its first line does not name a format that is known")
    name = check_namespace(first.namespace if namespace is None else namespace)
    place = Kept(store.address, name, len(line), 1)
    if begun is not None and (begun.address, begun.namespace) == (place.address, name):
        place = begun
        lines.seek(place.offset)
    writer = _Writer(store, name)
    while line := lines.readline(MAX_LINE_BYTES):
        parsed = _parsed(line, place.lines + 1)
        if parsed.end:
            writer.flush()
            return writer.report
        if writer.add(parsed, place.lines + 1):
            keep(place)
        place.offset += len(line)
        place.lines += 1
    writer.flush()
    raise InvalidArgument(
        f"the export is not whole: it ends after {place.lines:,} lines, which are written. Go on with the export, and import "
        "it again"
    )


def import_file(store: Store, path: Path, namespace: str | None, *, progress: Progress) -> Report:
    """Write the lines of a file. How far it has come is kept beside it, for the next try if this one is killed."""
    beside = path.with_name(path.name + ".imported")
    with _readable(path) as lines:
        total = os.fstat(lines.fileno()).st_size

        def keep(place: Kept) -> None:
            new = beside.with_name(beside.name + ".new")
            new.write_bytes(_encode(place))
            new.replace(beside)
            progress(place.offset, total)

        report = import_lines(store, lines, namespace, begun=_kept(beside), keep=keep)
        progress(total, total)
    beside.unlink(missing_ok=True)
    return report


def _readable(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from error


def _kept(beside: Path) -> Kept | None:
    try:
        return msgspec.json.decode(beside.read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return None


class _Writer:
    """Gathers lines into writes."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._with_times = not _is_server(store)
        self._operations: list[Operation] = []
        self._session = ""
        self._messages: list[NewMessage] = []
        self._count, self._room = 0, BYTES
        self.report = Report(namespace)

    def add(self, line: _Line, number: int) -> bool:
        """Take a line; whether all those before it are written now."""
        operation, length = self._operation(line, number)
        flushed = self._count > 0 and (length > self._room or self._count == OPERATIONS)
        if flushed:
            self.flush()
        self._count += 1
        self._room -= length
        if isinstance(operation, Put):
            self._end_session()
            self._operations.append(operation)
            self.report.entries += 1
        elif isinstance(operation, NewMessage):
            if line.session != self._session:
                self._end_session()
                self._session = str(line.session)
            self._messages.append(operation)
            self.report.messages += 1
        return flushed

    def flush(self) -> None:
        """Write what was gathered."""
        self._end_session()
        if self._operations:
            self._store.write(self._namespace, self._operations)
        self._operations, self._count, self._room = [], 0, BYTES

    def _end_session(self) -> None:
        if self._messages:
            self._operations.append(Append(self._session, tuple(self._messages)))
        self._messages, self._session = [], ""

    def _operation(self, line: _Line, number: int) -> tuple[Put | NewMessage | None, int]:
        """Return what a line is about (None: an entry that has expired), and its length."""
        try:
            if line.key is not None:
                stored = _stored(line)
                return self._entry(check_name(line.key), stored, line), size(line.key) + size(stored)
            if line.session is not None and line.id is not None and isinstance(line.data, Raw):
                check_name(line.session, "session name")
                created = check_time(line.created_at, "created_at") if self._with_times else None
                message = NewMessage(check_name(line.id, "message id"), check_json(line.data), created)
                return message, size(message.id) + size(message.stored)
        except ValueError as error:
            raise InvalidArgument(f"line {number:,}: {error}") from error
        raise InvalidArgument(f"line {number:,} is neither an entry (key, value) nor a message (session, id, data)")

    def _entry(self, key: str, stored: Stored, line: _Line) -> Put | None:
        expires = check_time(line.expires_at, "expires_at")
        left = None if expires is None else (expires - now()) / 1_000_000
        if left is not None and left <= 0:
            return None
        if not self._with_times:
            return Put(key, stored, left)
        updated = check_time(line.updated_at, "updated_at") or now()
        return Put(key, stored, times=(check_time(line.created_at, "created_at") or updated, updated, expires))


def _stored(line: _Line) -> Stored:
    if isinstance(line.value_base64, bytes):
        return encode(line.value_base64)
    if isinstance(line.value, Raw):
        return check_json(line.value)
    raise InvalidArgument("the entry has neither value nor value_base64")


def _parsed(line: bytes, number: int) -> _Line:
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"line {number or 'last'} is not what botwire export writes: {error}") from error
