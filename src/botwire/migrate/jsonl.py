"""Export a namespace to JSON Lines, and import it.

The first line names the format. Then follows one line for each entry and each message, in order. The last line marks the end.
Export and import use the memory of one page, for any number of lines, and resume after they were interrupted.
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
"""Maximum length of a line; no value needs nearly as much."""
_BLOCK = 64 * 1024

Progress = Callable[[int, int], None]


class Report(msgspec.Struct):
    """The result of an export or import."""

    namespace: str
    entries: int = 0
    messages: int = 0


class _Line(msgspec.Struct, kw_only=True):
    """A line of any kind."""

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


# Export


def export(store: Store, namespace: str, out: BinaryIO, *, progress: Progress, after: _Line | None = None) -> Report:
    """Write a namespace as JSON Lines, while it is in use. Data that exists during the whole export is included.

    Args:
        store: the store of the namespace.
        namespace: its name.
        out: the stream to write to.
        progress: called with the bytes done and the total.
        after: the last line of an unfinished export, to resume after it.
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
    """Write a namespace to a file, which is on disk when this returns. Resumes an unfinished export.

    Raises:
        InvalidArgument: the file is something else or a finished export, without `force`.
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
        # Readable by its owner only, like the memory.
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror}") from error


def _last_line(out: BinaryIO, namespace: str, path: Path) -> _Line | None:
    """Cut the file after its last complete line, and return that line."""
    start, end = _ends_of_last_line(out)
    out.truncate(end)
    out.seek(0)
    if not end:
        return None
    first = _parsed(out.readline(MAX_LINE_BYTES), 1)
    if first.format != FORMAT or first.namespace != namespace:
        raise InvalidArgument(
            f"{path} is not an export of namespace {namespace!r}: use another file, or add --force to replace it"
        )
    out.seek(start)
    last = _parsed(out.readline(MAX_LINE_BYTES), 0)
    if last.end:
        raise InvalidArgument(f"{path} is a finished export already: use another file, or add --force to replace it")
    return last


def _ends_of_last_line(out: BinaryIO) -> tuple[int, int]:
    """Return the start and end of the last complete line."""
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
    """Return the sessions, oldest first, each with the seq to resume after."""
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
    """Return JSON text without line breaks between its tokens."""
    if "\n" in stored or "\r" in stored:
        return Raw(msgspec.json.format(stored.encode(), indent=-1))
    return Raw(stored.encode())


# Import


class Kept(msgspec.Struct):
    """The progress of an import: all lines before this position are on disk."""

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
    """Import the lines of an export into a namespace. Keys are replaced; messages are appended to their sessions.

    A message whose id the session already has is skipped. Times are kept, unless the store is a server.

    Args:
        store: the store of the namespace.
        lines: the lines, from the first.
        namespace: its name; None: the name in the first line.
        begun: the progress of an interrupted import.
        keep: called with the progress after each write.

    Raises:
        InvalidArgument: a line is invalid; the lines before it are written.
    """
    line = lines.readline(MAX_LINE_BYTES)
    first = _parsed(line, 1)
    if first.format != FORMAT or first.version != VERSION or first.namespace is None:
        raise InvalidArgument("this is not a botwire export: its first line names no supported format")
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
        f"the export is unfinished: it ends after {place.lines:,} lines, which are imported. Resume the export, and import "
        "it again"
    )


def import_file(store: Store, path: Path, namespace: str | None, *, progress: Progress) -> Report:
    """Import a file. The progress is stored next to it, so an interrupted import resumes."""
    kept_file = path.with_name(path.name + ".imported")
    with _readable(path) as lines:
        total = os.fstat(lines.fileno()).st_size

        def keep(place: Kept) -> None:
            new = kept_file.with_name(kept_file.name + ".new")
            new.write_bytes(_encode(place))
            new.replace(kept_file)
            progress(place.offset, total)

        report = import_lines(store, lines, namespace, begun=_kept(kept_file), keep=keep)
        progress(total, total)
    kept_file.unlink(missing_ok=True)
    return report


def _readable(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from error


def _kept(kept_file: Path) -> Kept | None:
    try:
        return msgspec.json.decode(kept_file.read_bytes(), type=Kept)
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
        """Add a line; returns whether all lines before it are written."""
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
        """Write the collected operations."""
        self._end_session()
        if self._operations:
            self._store.write(self._namespace, self._operations)
        self._operations, self._count, self._room = [], 0, BYTES

    def _end_session(self) -> None:
        if self._messages:
            self._operations.append(Append(self._session, tuple(self._messages)))
        self._messages, self._session = [], ""

    def _operation(self, line: _Line, number: int) -> tuple[Put | NewMessage | None, int]:
        """Return the operation of a line (None: an expired entry), and its length."""
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
        raise InvalidArgument(f"line {number or 'last'} is not from a botwire export: {error}") from error
