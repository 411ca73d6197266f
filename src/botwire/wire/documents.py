"""Records as JSON. Encoders, decoders and the OpenAPI document use the same types.

The attributes of a record and of its JSON form have the same names, except that times are microseconds in a record's ``created``
and a datetime in ``created_at``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .. import records
from ..errors import StoreError
from ..timestamps import moment

R = TypeVar("R")
Time = Annotated[datetime, Meta(tz=True)]
_EPOCH = moment(0)
_MICROSECOND = moment(1) - moment(0)


class Document(msgspec.Struct, Generic[R]):
    """The JSON form of a record. Entries and messages, the most frequent ones, have faster methods of their own."""

    RECORD: ClassVar[type[msgspec.Struct]]

    @classmethod
    def of(cls, record: R, **more: Any) -> Self:
        """Return the JSON form of a record."""
        names = [name for name in cls.__struct_fields__ if name not in more]
        return cls(**more, **{name: to_json(getattr(record, name)) for name in names})

    def record(self) -> R:
        given = {name: from_json(getattr(self, _TIMES.get(name, name))) for name in self.RECORD.__struct_fields__}
        return cast("R", self.RECORD(**given))


class Entry(Document[records.Entry], kw_only=True):
    """An entry. A JSON value is in value; bytes are in value_base64."""

    RECORD = records.Entry

    key: str
    value: Raw | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET
    version: int
    created_at: Time
    updated_at: Time
    expires_at: Time | None = None

    @classmethod
    def of(cls, record: records.Entry, **more: Any) -> Self:
        stored = record.stored
        return cls(
            key=record.key,
            value=UNSET if isinstance(stored, bytes) else Raw(stored.encode()),
            value_base64=stored if isinstance(stored, bytes) else UNSET,
            version=record.version,
            created_at=moment(record.created),
            updated_at=moment(record.updated),
            expires_at=record.expires_at,
            **more,
        )

    def record(self) -> records.Entry:
        stored = self.value_base64 if isinstance(self.value_base64, bytes) else _text(self.value)
        times = map(from_json, (self.created_at, self.updated_at, self.expires_at))
        return records.Entry(self.key, stored, self.version, *times)


class NamedEntry(Entry, kw_only=True):
    """An entry and its namespace."""

    namespace: str


class Message(Document[records.Message], omit_defaults=True):
    """A message of a session. Its version, for if_version, is the time of its last edit, or else of its creation, in microseconds.

    If it is redacted, its text was removed for this reason, which may be empty.
    """

    RECORD = records.Message

    seq: int
    id: str
    data: Raw
    created_at: Time
    edited_at: Time | None = None
    redacted: str | None = None

    @classmethod
    def of(cls, record: records.Message, **_: Any) -> Self:
        edited_at = None if record.edited is None else moment(record.edited)
        return cls(record.seq, record.id, Raw(record.stored.encode()), record.created_at, edited_at, record.redacted)

    def record(self) -> records.Message:
        times = from_json(self.created_at), from_json(self.edited_at)
        return records.Message(self.seq, self.id, _text(self.data), *times, self.redacted)


class About(Document[records.About], kw_only=True):
    """What is known about a session. Version 0: nothing was set. An encrypted title and data are together in encrypted."""

    RECORD = records.About

    version: int = 0
    owner: str | None = None
    tags: tuple[str, ...] = ()
    title: Annotated[Raw, Meta(extra_json_schema={"type": ["string", "null"]})] | UnsetType = UNSET
    data: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})] | UnsetType = UNSET
    encrypted: str | UnsetType = UNSET

    @classmethod
    def of(cls, record: records.About, **_: Any) -> Self:
        found = cls(version=record.version, owner=record.owner, tags=record.tags)
        if record.stored.startswith('"'):
            found.encrypted = msgspec.json.decode(record.stored, type=str)
        elif record.stored:
            parts = msgspec.json.decode(record.stored, type=_TitleAndData)
            found.title, found.data = parts.title, parts.data
        return found

    def record(self) -> records.About:
        return records.About(self.version, self.owner, self.tags, self._stored())

    def _stored(self) -> str:
        if isinstance(self.encrypted, str):
            return msgspec.json.encode(self.encrypted).decode()
        given = (("title", self.title, '"n'), ("data", self.data, "{n"))
        parts = [f'"{name}":{_text(value, first)}' for name, value, first in given if value is not UNSET]
        return f"{{{','.join(parts)}}}" if parts else ""


class _TitleAndData(msgspec.Struct):
    title: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class Origin(msgspec.Struct):
    """The session that a session was forked from, and the last seq that was copied."""

    session: str
    seq: int


class Session(Document[records.Session], kw_only=True):
    """A session. Its version changes with every change but an append. The preview is its last message, if it was asked for."""

    RECORD = records.Session

    name: str = msgspec.field(name="session")
    place: int
    messages: int
    created_at: Time
    updated_at: Time
    version: int = 0
    bytes: int = 0
    expires_at: Time | None = None
    about: About = msgspec.field(default_factory=About)
    origin: Origin | None = None
    summarized: int = 0
    preview: Message | None = None

    @classmethod
    def of(cls, record: records.Session, **_: Any) -> Self:
        return super().of(record, origin=None if record.origin is None else Origin(*record.origin))

    def record(self) -> records.Session:
        origin = None if self.origin is None else (self.origin.session, self.origin.seq)
        return msgspec.structs.replace(super().record(), origin=origin)


class Context(Document[records.Context], kw_only=True):
    """The newest messages of a session, its first ones and its summary, for the context of a model.

    Version and last are those of the session. Pass next as before for older messages; null: there are no more.
    """

    RECORD = records.Context

    version: int
    last: int
    summarized: int
    summary: Annotated[Raw, Meta(extra_json_schema={"type": ["array", "string", "null"]})]
    head: list[Message]
    messages: list[Message]
    next: int | None = None

    @classmethod
    def of(cls, record: records.Context, older: int | None = None, **_: Any) -> Self:
        """Return the JSON form of a context. ``older``: where the next page ends."""
        summary = Raw(b"null" if record.summary is None else record.summary.encode())
        head, messages = (list(map(Message.of, found)) for found in (record.head, record.messages))
        return super().of(record, summary=summary, head=head, messages=messages, next=older)

    def record(self) -> records.Context:
        head, messages = ([item.record() for item in found] for found in (self.head, self.messages))
        summary = None if bytes(self.summary) == b"null" else _text(self.summary, '["')
        return records.Context(self.version, self.last, self.summarized, summary, head, messages)


class Rule(Document[records.Rule]):
    """How long sessions are kept whose name begins with a prefix: seconds since the last activity and since the first message."""

    RECORD = records.Rule

    prefix: str
    idle: float | None
    age: float | None


class Hit(Document[records.Hit], omit_defaults=True):
    """A search result: an entry, or a message and its session."""

    RECORD = records.Hit

    score: float
    snippet: str
    entry: Entry | None = None
    message: Message | None = None
    session: str | None = None


class Change(Document[records.Change], kw_only=True, omit_defaults=True):
    """A change of a namespace: the data of a server-sent event. The kind decides which other fields are present."""

    RECORD = records.Change

    version: int
    kind: Literal["set", "delete", "expire", "clear", "append", "edit", "pop", "about", "summary"]
    key: str | None = None
    entry: Entry | None = None
    prefix: str | None = None
    session: str | None = None
    message: Message | None = None
    left: int | None = None


class Text(Document[records.Text], omit_defaults=True):
    """A text that has no vector yet. Pass place as after for the texts after it."""

    RECORD = records.Text

    text: str
    place: str
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None


class Usage(Document[records.Usage]):
    """What a namespace holds and what its plan allows. A limit of null is no limit."""

    RECORD = records.Usage

    namespace: str
    plan: str
    writes_today: int
    writes_per_day: int | None
    bytes: int
    max_bytes: int | None
    resets_at: Time


_DOCUMENTS: Mapping[type, type[Document[Any]]] = {
    kind.RECORD: kind for kind in (Entry, Message, About, Session, Context, Rule, Hit, Change, Text, Usage)
}
_TIMES = {name: f"{name}_at" for name in ("created", "updated", "edited", "expires", "resets")}


def document_of(record: Any) -> type[Document[Any]] | None:
    """Return the type of the JSON form of a record; None: it is no record."""
    return _DOCUMENTS.get(type(record))


def to_json(value: Any) -> Any:
    """Return the JSON form of a record, or a value of JSON."""
    kind = document_of(value)
    return value if kind is None else kind.of(value)


def from_json(value: Any) -> Any:
    """Return the record of a JSON form, or a time in microseconds, or any other value as it is."""
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    return value.record() if isinstance(value, Document) else value


def _text(raw: Raw | UnsetType, first: str = "") -> str:
    """Return JSON text that msgspec has not parsed. ``first``: the characters that it may begin with, if not any."""
    try:
        text = bytes(raw).decode()  # type: ignore[arg-type]
    except (TypeError, UnicodeDecodeError) as error:
        raise unknown_answer(error) from error
    if first and text[:1] not in first:
        raise unknown_answer(ValueError(f"{text:.40} is a value of another type"))
    return text


def unknown_answer(error: Exception) -> StoreError:
    """Return the error for an answer that no botwire server sends."""
    return StoreError(f"the answer is not one of a botwire server: {error}. Check the URL")
