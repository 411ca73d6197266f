"""The lines of an export: what a store holds → lines, and lines → operations.

The first line names the format. Then follow the rules of retention, the entries, and the sessions. Of a session, each message has a
line, in order. After them comes a line with all else, if there is anything. The last line marks the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ..errors import InvalidArgument
from ..limits import (
    MAX_WRITE_BYTES,
    check_about,
    check_count,
    check_name,
    check_prefix,
    check_reason,
    check_time,
    check_title_and_data,
    check_ttl,
)
from ..operations import Append, Operation, Put, Retain, SetExpiry, Summarize
from ..records import About, Entry, Message, Rule, Session
from ..timestamps import moment, now
from ..values import Stored, check_json, encode
from .walk import Batch, seconds_until

FORMAT = "botwire"
VERSION = 2
VERSIONS = frozenset({1, VERSION})
"""The versions that can be imported. Exports of version 1 have no lines of rules and of sessions."""
MAX_LINE_BYTES = 2 * MAX_WRITE_BYTES
"""Maximum length of a line; no value needs nearly as much."""


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of any kind: the first, a rule, an entry, a message, a session or the last."""

    format: str | None = None
    version: int | None = None
    namespace: str | None = None
    retain: str | None = None
    idle: float | None = None
    age: float | None = None
    key: str | None = None
    value: Raw | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET
    session: str | None = None
    seq: int = 0
    id: str | None = None
    data: Raw | UnsetType = UNSET
    about: Raw | UnsetType = UNSET
    owner: str | None = None
    tags: list[str] = []
    origin: tuple[str, int] | None = None
    summarized: int = 0
    summarized_id: str | None = None
    summary: Raw | UnsetType = UNSET
    created_at: datetime | None = None
    updated_at: datetime | None = None
    edited_at: datetime | None = None
    redacted: str | None = None
    expires_at: datetime | None = None
    end: bool = False


class Summary(NamedTuple):
    """The summary of a session, with the last message that it covers. In another session that seq may be another message."""

    upto: int
    id: str
    stored: str


_decode = msgspec.json.Decoder(Line).decode


def parsed(line: bytes, number: int) -> Line:
    """Return a line of an export, or raise `InvalidArgument`."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"line {number or 'last'} is not from a botwire export: {error}") from error


def first_line(namespace: str) -> Line:
    """Return the first line of an export."""
    return Line(format=FORMAT, version=VERSION, namespace=namespace)


def rule_line(rule: Rule) -> Line:
    """Return the line of a rule of retention."""
    return Line(retain=rule.prefix, idle=rule.idle, age=rule.age)


def entry_line(entry: Entry) -> Line:
    """Return the line of an entry."""
    line = Line(key=entry.key, created_at=entry.created_at, updated_at=entry.updated_at, expires_at=entry.expires_at)
    if isinstance(entry.stored, bytes):
        line.value_base64 = entry.stored
    else:
        line.value = _on_one_line(entry.stored)
    return line


def message_line(session: Session, message: Message) -> Line:
    """Return the line of a message. It also says when its session expires, so that an import can leave it out."""
    return Line(
        session=session.name,
        seq=message.seq,
        id=message.id,
        data=_on_one_line(message.stored),
        created_at=message.created_at,
        edited_at=None if message.edited is None else moment(message.edited),
        redacted=message.redacted,
        expires_at=session.expires_at,
    )


def session_line(session: Session, summary: Summary | None, active: int) -> Line | None:
    """Return the line of a session, or None if its messages say it all. ``active``: when they were last stored or edited."""
    about = session.about
    line = Line(
        session=session.name,
        owner=about.owner,
        tags=list(about.tags),
        origin=session.origin,
        expires_at=session.expires_at,
    )
    if session.messages and session.updated > active:
        line.updated_at = session.updated_at
    if about.stored:
        line.about = _on_one_line(about.stored)
    if summary is not None:
        line.summarized, line.summarized_id, line.summary = summary.upto, summary.id, _on_one_line(summary.stored)
    return None if session.messages and line == Line(session=session.name) else line


def _on_one_line(stored: str) -> Raw:
    """Return JSON text without line breaks between its tokens."""
    if "\n" in stored or "\r" in stored:
        return Raw(msgspec.json.format(stored.encode(), indent=-1))
    return Raw(stored.encode())


def operations_of(line: Line, number: int, batch: Batch) -> Iterator[Operation]:
    """Return the operations that store a line: none for what has expired. Raises `InvalidArgument` for a wrong line."""
    try:
        expires = check_time(line.expires_at, "expires_at")
        found = _operations(line, expires, batch)
    except ValueError as error:
        raise InvalidArgument(f"line {number:,}: {error}") from error
    if found is None:
        raise InvalidArgument(
            f"line {number:,} is neither an entry (key, value), a message (session, id, data), a session nor a rule (retain)"
        )
    if expires is None or expires > now():
        yield from found


def _operations(line: Line, expires: int | None, batch: Batch) -> list[Operation] | None:
    if line.key is not None:
        return [_put(line, expires, batch)]
    if line.retain is not None:
        return [Retain(check_prefix(line.retain), check_ttl(line.idle, "idle"), check_ttl(line.age, "age"))]
    if line.session is not None and line.id is not None and isinstance(line.data, Raw):
        return [_append(line.session, line.id, line.data, line, batch)]
    if line.session is not None and line.id is None and not isinstance(line.data, Raw):
        return list(_session(check_name(line.session, "session name"), line, expires, batch))
    return None


def _put(line: Line, expires: int | None, batch: Batch) -> Put:
    updated = check_time(line.updated_at, "updated_at") or now()
    times = check_time(line.created_at, "created_at") or updated, updated, expires
    return batch.put(check_name(line.key), _stored(line), times)


def _append(session: str, id_: str, data: Raw, line: Line, batch: Batch) -> Append:
    message = Message(
        0,
        check_name(id_, "message id"),
        check_json(data),
        check_time(line.created_at, "created_at") or now(),
        check_time(line.edited_at, "edited_at"),
        check_reason(line.redacted),
    )
    return batch.append(check_name(session, "session name"), message)


def _session(name: str, line: Line, expires: int | None, batch: Batch) -> Iterator[Operation]:
    stored = check_title_and_data(check_json(line.about)) if isinstance(line.about, Raw) else ""
    about = About(0, *check_about(stored, line.owner, line.tags), stored)
    origin = line.origin
    if origin is not None:
        origin = check_name(origin[0], "session name"), check_count(origin[1], "seq") or 0
    updated = check_time(line.updated_at, "updated_at")
    has_more = isinstance(line.summary, Raw) or expires is not None or updated is not None
    if about != About() or origin is not None or not has_more:
        yield batch.set_about(name, about, origin)
    if isinstance(line.summary, Raw):
        yield Summarize(name, check_count(line.summarized, "summarized", least=1) or 0, check_json(line.summary))
    if updated is not None:
        yield from batch.set_activity(name, updated)
    if expires is not None:
        yield SetExpiry(name, seconds_until(expires))


def _stored(line: Line) -> Stored:
    if isinstance(line.value_base64, bytes):
        return encode(line.value_base64)
    if isinstance(line.value, Raw):
        return check_json(line.value)
    raise InvalidArgument("the entry has neither value nor value_base64")
