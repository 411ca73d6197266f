"""Export a namespace to JSON Lines, and import it. `lines.py` describes the lines.

Export and import use the memory of one page, for any number of lines, and resume after they were interrupted.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from ..errors import InvalidArgument
from ..limits import check_namespace
from ..operations import Put, Retain, Summarize
from ..queries import GetRetention, GetUsage, ListMessages, ListSessions
from ..records import Session
from ..store import Store
from ..values import size
from .lines import (
    FORMAT,
    MAX_LINE_BYTES,
    VERSIONS,
    Line,
    Summary,
    entry_line,
    first_line,
    message_line,
    operations_of,
    parsed,
    rule_line,
    session_line,
)
from .sessions import session_of
from .walk import Batch, Progress, last_activity, list_entries, list_messages, session_names, summary_of


class Report(msgspec.Struct):
    """The result of an export or import."""

    namespace: str
    entries: int = 0
    messages: int = 0


_encode = msgspec.json.Encoder().encode


def export(store: Store, namespace: str, out: BinaryIO, *, progress: Progress, after: Line | None = None) -> Report:
    """Write a namespace as JSON Lines, while it is in use. Data that exists during the whole export is included.

    `after` is the last line of an unfinished export, to resume after it.
    """
    total, done = store.read(namespace, GetUsage()).bytes, 0
    report = Report(namespace)
    for line, length in _lines(store, namespace, after):
        out.write(_encode(line) + b"\n")
        report.entries += line.key is not None
        report.messages += line.id is not None
        done += length
        progress(min(done, total), total)
    progress(total, total)
    return report


def _lines(store: Store, namespace: str, after: Line | None) -> Iterator[tuple[Line, int]]:
    """Return the lines after one, and how many bytes of the namespace each has."""
    last = after or Line()
    if after is None:
        yield first_line(namespace), 0
    if last.session is None:
        if last.key is None:
            for rule in store.read(namespace, GetRetention()):
                if last.retain is None or rule.prefix > last.retain:
                    yield rule_line(rule), 0
        for entry in list_entries(store, namespace, last.key or ""):
            yield entry_line(entry), size(entry.key) + size(entry.stored)
    names = session_names(store, namespace)
    begin = names.index(last.session) if last.session in names else 0
    for name in names[begin:]:
        if name != last.session:
            yield from _session_lines(store, namespace, name, 0)
        elif last.id is not None:
            yield from _session_lines(store, namespace, name, last.seq)
    yield Line(end=True), 0


def _session_lines(store: Store, namespace: str, name: str, after: int) -> Iterator[tuple[Line, int]]:
    """Return the lines of a session after a seq."""
    session = session_of(store, namespace, name)
    if session is None:  # it has expired since
        return
    active = 0
    for page in list_messages(store, namespace, name):
        active = max(active, last_activity(page))
        for message in page:
            if message.seq > after:
                yield message_line(session, message), size(message.id) + size(message.stored)
    session = session_of(store, namespace, name)
    line = None if session is None else session_line(session, _summary_of(store, namespace, session), active)
    if line is not None:
        yield line, 0


def _summary_of(store: Store, namespace: str, session: Session) -> Summary | None:
    found = summary_of(store, namespace, session)
    if found is None:
        return None
    upto, stored = found
    last = store.read(namespace, ListMessages(session.name, upto - 1, 1))
    return Summary(upto, last[0].id, stored) if last else None


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


def _last_line(out: BinaryIO, namespace: str, path: Path) -> Line | None:
    """Cut the file after its last complete line, and return that line."""
    start = end = 0
    if os.fstat(out.fileno()).st_size:
        with mmap.mmap(out.fileno(), 0, access=mmap.ACCESS_READ) as text:
            end = text.rfind(b"\n") + 1
            start = text.rfind(b"\n", 0, max(end - 1, 0)) + 1
    out.truncate(end)
    if not end:
        return None
    first = parsed(out.readline(MAX_LINE_BYTES), 1)
    if first.format != FORMAT or first.namespace != namespace:
        raise InvalidArgument(
            f"{path} is not an export of namespace {namespace!r}: use another file, or add --force to replace it"
        )
    out.seek(start)
    last = parsed(out.readline(MAX_LINE_BYTES), 0)
    if last.end:
        raise InvalidArgument(f"{path} is a finished export already: use another file, or add --force to replace it")
    return last


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
    # A rule could delete sessions that the namespace has already.
    takes_rules = not store.read(position.namespace, ListSessions(limit=1))
    while (line := lines.readline(MAX_LINE_BYTES)) and not (read := parsed(line, position.lines + 1)).end:
        for operation in operations_of(read, position.lines + 1, batch):
            if isinstance(operation, Retain) and not takes_rules:
                continue
            if isinstance(operation, Summarize) and not _fits(batch, operation, read.summarized_id):
                continue
            if batch.add(operation):
                keep(position)
            report.entries += isinstance(operation, Put)
            report.messages += read.id is not None
        position.offset += len(line)
        position.lines += 1
    batch.flush()
    if not line:
        unfinished = f"the export is unfinished: it ends after {position.lines:,} lines, which are imported"
        raise InvalidArgument(f"{unfinished}. Resume the export, and import it again")
    return report


def _fits(batch: Batch, operation: Summarize, last: str | None) -> bool:
    """Whether a summary covers the same messages in the target, and the target has none that ends later."""
    batch.flush()
    session = session_of(batch.store, batch.namespace, operation.session)
    messages = batch.store.read(batch.namespace, ListMessages(operation.session, operation.upto - 1, 1))
    return (
        session is not None
        and session.summarized <= operation.upto
        and [(item.seq, item.id) for item in messages] == [(operation.upto, last)]
    )


def _start(store: Store, lines: BinaryIO, namespace: str | None) -> Position:
    """Read the first line, and return the position after it."""
    line = lines.readline(MAX_LINE_BYTES)
    first = parsed(line, 1)
    if first.format != FORMAT or first.version not in VERSIONS or first.namespace is None:
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
