"""Export a namespace to JSON Lines, and import it.

The first line names the format. Then follows one line for each entry and each message, in order. The last line marks the end.
Export and import use the memory of one page, for any number of lines, and resume after they were interrupted.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ..errors import InvalidArgument
from ..limits import MAX_WRITE_BYTES, check_name, check_namespace, check_time
from ..operations import Append, NewMessage, Put
from ..queries import GetUsage
from ..records import Entry, Message
from ..store import Store
from ..timestamps import now
from ..values import Stored, check_json, encode, size
from .walk import Batch, Progress, list_entries, list_messages, list_sessions

FORMAT = "botwire"
VERSION = 1
MAX_LINE_BYTES = 2 * MAX_WRITE_BYTES
"""Maximum length of a line; no value needs nearly as much."""


class Report(msgspec.Struct):
    """The result of an export or import."""

    namespace: str
    entries: int = 0
    messages: int = 0


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of any kind: the first, an entry, a message or the last."""

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


def export(store: Store, namespace: str, out: BinaryIO, *, progress: Progress, after: _Line | None = None) -> Report:
    """Write a namespace as JSON Lines, while it is in use. Data that exists during the whole export is included.

    `after` is the last line of an unfinished export, to resume after it.
    """
    total, done = store.read(namespace, GetUsage()).bytes, 0
    report, last = Report(namespace), after or _Line()
    if after is None:
        _write(out, _Line(format=FORMAT, version=VERSION, namespace=namespace))
    if last.session is None:
        for entry in list_entries(store, namespace, last.key or ""):
            _write(out, _entry(entry))
            report.entries += 1
            done += size(entry.key) + size(entry.stored)
            progress(min(done, total), total)
    names = list_sessions(store, namespace)
    for name in names[names.index(last.session) if last.session in names else 0 :]:
        for page in list_messages(store, namespace, name, after=last.seq if name == last.session else 0):
            for message in page:
                _write(out, _message(name, message))
                done += size(message.id) + size(message.stored)
            report.messages += len(page)
            progress(min(done, total), total)
    _write(out, _Line(end=True))
    progress(total, total)
    return report


def export_file(store: Store, namespace: str, path: Path, *, force: bool, progress: Progress) -> Report:
    """Write a namespace to a file, which is on disk when this returns. Resumes an unfinished export.

    With `force`, a new export replaces an existing file, once it is complete. Without it, any file but an unfinished export is
    refused with `InvalidArgument`.
    """
    target = path.with_name(path.name + ".part") if force else path
    if force:
        target.unlink(missing_ok=True)
    with _opened(target, "r+b") as out:
        after = _last_line(out, namespace, target)
        report = export(store, namespace, out, progress=progress, after=after)
        out.flush()
        os.fsync(out.fileno())
    if force:
        target.replace(path)
        _sync_folder(path)
    return report


def _sync_folder(path: Path) -> None:
    """Wait until the name of a file is on disk."""
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _opened(path: Path, mode: Literal["rb", "r+b"]) -> BinaryIO:
    what, flags = ("read", os.O_RDONLY) if mode == "rb" else ("written", os.O_RDWR | os.O_CREAT)
    try:
        # A new file is readable by its owner only, like the memory.
        return os.fdopen(os.open(path, flags | os.O_CLOEXEC, 0o600), mode)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be {what}: {error.strerror}") from error


def _last_line(out: BinaryIO, namespace: str, path: Path) -> _Line | None:
    """Cut the file after its last complete line, and return that line."""
    start = end = 0
    if os.fstat(out.fileno()).st_size:
        with mmap.mmap(out.fileno(), 0, access=mmap.ACCESS_READ) as text:
            end = text.rfind(b"\n") + 1
            start = text.rfind(b"\n", 0, max(end - 1, 0)) + 1
    out.truncate(end)
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


def _write(out: BinaryIO, line: _Line) -> None:
    out.write(_encode(line) + b"\n")


def _entry(entry: Entry) -> _Line:
    line = _Line(key=entry.key, created_at=entry.created_at, updated_at=entry.updated_at, expires_at=entry.expires_at)
    if isinstance(entry.stored, bytes):
        line.value_base64 = entry.stored
    else:
        line.value = _on_one_line(entry.stored)
    return line


def _message(session: str, message: Message) -> _Line:
    data = _on_one_line(message.stored)
    return _Line(session=session, seq=message.seq, id=message.id, data=data, created_at=message.created_at)


def _on_one_line(stored: str) -> Raw:
    """Return JSON text without line breaks between its tokens."""
    if "\n" in stored or "\r" in stored:
        return Raw(msgspec.json.format(stored.encode(), indent=-1))
    return Raw(stored.encode())


class Position(msgspec.Struct):
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
    begun: Position | None = None,
    keep: Callable[[Position], None] = lambda _: None,
) -> Report:
    """Import the lines of an export into a namespace. Keys are replaced; messages are appended to their sessions.

    A message whose id the session already has is skipped. Times are kept, unless the store is a server. Without a `namespace`, the
    first line names it. `begun` is the progress of an interrupted import, and `keep` receives the progress after each write.

    Raises:
        InvalidArgument: a line is invalid; the lines before it are written.
    """
    position = _start(store, lines, namespace)
    if begun is not None and (begun.address, begun.namespace) == (position.address, position.namespace):
        position = begun
        lines.seek(position.offset)
    batch, report = Batch(store, position.namespace), Report(position.namespace)
    while (line := lines.readline(MAX_LINE_BYTES)) and not (parsed := _parsed(line, position.lines + 1)).end:
        operation = _operation(parsed, position.lines + 1, batch)
        if operation is not None and batch.add(operation):
            keep(position)
        report.entries += isinstance(operation, Put)
        report.messages += isinstance(operation, Append)
        position.offset += len(line)
        position.lines += 1
    batch.flush()
    if not line:
        unfinished = f"the export is unfinished: it ends after {position.lines:,} lines, which are imported"
        raise InvalidArgument(f"{unfinished}. Resume the export, and import it again")
    return report


def _start(store: Store, lines: BinaryIO, namespace: str | None) -> Position:
    """Read the first line, and return the position after it."""
    line = lines.readline(MAX_LINE_BYTES)
    first = _parsed(line, 1)
    if first.format != FORMAT or first.version != VERSION or first.namespace is None:
        raise InvalidArgument("this is not a botwire export: its first line names no supported format")
    return Position(store.address, check_namespace(first.namespace if namespace is None else namespace), len(line), 1)


def import_file(store: Store, path: Path, namespace: str | None, *, progress: Progress) -> Report:
    """Import a file. The progress is stored next to it, so an interrupted import resumes."""
    kept_file = path.with_name(path.name + ".imported")
    with _opened(path, "rb") as lines:
        total = os.fstat(lines.fileno()).st_size

        def keep(position: Position) -> None:
            new = kept_file.with_name(kept_file.name + ".new")
            new.write_bytes(_encode(position))
            new.replace(kept_file)
            progress(position.offset, total)

        report = import_lines(store, lines, namespace, begun=_kept(kept_file), keep=keep)
        progress(total, total)
    kept_file.unlink(missing_ok=True)
    return report


def _kept(kept_file: Path) -> Position | None:
    try:
        return msgspec.json.decode(kept_file.read_bytes(), type=Position)
    except (OSError, msgspec.MsgspecError):
        return None


def _operation(line: _Line, number: int, batch: Batch) -> Put | Append | None:
    """Return the operation that stores a line; None: an entry that has expired."""
    try:
        if line.key is not None:
            stored, expires = _stored(line), check_time(line.expires_at, "expires_at")
            updated = check_time(line.updated_at, "updated_at") or now()
            times = check_time(line.created_at, "created_at") or updated, updated, expires
            put = batch.put(check_name(line.key), stored, times)
            return None if expires is not None and expires <= now() else put
        if line.session is not None and line.id is not None and isinstance(line.data, Raw):
            created = check_time(line.created_at, "created_at") if batch.keeps_times else None
            message = NewMessage(check_name(line.id, "message id"), check_json(line.data), created)
            return Append(check_name(line.session, "session name"), (message,))
    except ValueError as error:
        raise InvalidArgument(f"line {number:,}: {error}") from error
    raise InvalidArgument(f"line {number:,} is neither an entry (key, value) nor a message (session, id, data)")


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
