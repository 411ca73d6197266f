"""The JSON documents that a server answers with. Encoders, decoders and the OpenAPI document all use these types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .. import records
from ..errors import StoreError
from ..timestamps import moment
from .values import _value

Time = Annotated[datetime, Meta(tz=True)]
_EPOCH = moment(0)
_MICROSECOND = moment(1) - moment(0)


class Entry(msgspec.Struct, kw_only=True):
    """An entry. A JSON value is in value; bytes are in value_base64."""

    key: str
    value: Raw | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET
    version: int
    created_at: Time
    updated_at: Time
    expires_at: Time | None = None

    @classmethod
    def of(cls, entry: records.Entry, **more: Any) -> Self:
        """Return the document of an entry."""
        return cls(
            **more,
            **_value(entry.stored),
            key=entry.key,
            version=entry.version,
            created_at=entry.created_at,
            updated_at=entry.updated_at,
            expires_at=entry.expires_at,
        )

    def record(self) -> records.Entry:
        """Return the entry."""
        stored = self.value_base64 if isinstance(self.value_base64, bytes) else json_text(self.value)
        expires = None if self.expires_at is None else microseconds(self.expires_at)
        return records.Entry(
            self.key, stored, self.version, microseconds(self.created_at), microseconds(self.updated_at), expires
        )


class NamedEntry(Entry, kw_only=True):
    """An entry and its namespace."""

    namespace: str


class Message(msgspec.Struct):
    """A message of a session."""

    seq: int
    id: str
    data: Raw
    created_at: Time

    @classmethod
    def of(cls, message: records.Message) -> Message:
        """Return the document of a message."""
        return cls(message.seq, message.id, Raw(message.stored.encode()), message.created_at)

    def record(self) -> records.Message:
        """Return the message."""
        return records.Message(self.seq, self.id, json_text(self.data), microseconds(self.created_at))


class Session(msgspec.Struct):
    """A session. Pass place as before for the sessions after it."""

    session: str
    place: int
    messages: int
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, session: records.Session) -> Session:
        """Return the document of a session."""
        return cls(session.name, session.place, session.messages, session.created_at, session.updated_at)

    def record(self) -> records.Session:
        """Return the session."""
        times = microseconds(self.created_at), microseconds(self.updated_at)
        return records.Session(self.session, self.place, self.messages, *times)


class Hit(msgspec.Struct, omit_defaults=True):
    """A search result: an entry, or a message and its session."""

    score: float
    snippet: str
    entry: Entry | None = None
    message: Message | None = None
    session: str | None = None

    @classmethod
    def of(cls, hit: records.Hit) -> Hit:
        """Return the document of a search result."""
        entry = None if hit.entry is None else Entry.of(hit.entry)
        message = None if hit.message is None else Message.of(hit.message)
        return cls(hit.score, hit.snippet, entry, message, hit.session)

    def record(self) -> records.Hit:
        """Return the search result."""
        entry = None if self.entry is None else self.entry.record()
        message = None if self.message is None else self.message.record()
        return records.Hit(self.score, self.snippet, entry, message, self.session)


class Change(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A change of a namespace: the data of a server-sent event. The kind decides which other fields are present."""

    version: int
    kind: Literal["set", "delete", "expire", "clear", "append", "pop"]
    key: str | None = None
    entry: Entry | None = None
    prefix: str | None = None
    session: str | None = None
    message: Message | None = None
    left: int | None = None

    @classmethod
    def of(cls, change: records.Change) -> Change:
        """Return the document of a change."""
        given: dict[str, Any] = {name: getattr(change, name) for name in change.__struct_fields__}
        given["entry"] = None if change.entry is None else Entry.of(change.entry)
        given["message"] = None if change.message is None else Message.of(change.message)
        return cls(**given)

    def record(self) -> records.Change:
        """Return the change."""
        entry = None if self.entry is None else self.entry.record()
        message = None if self.message is None else self.message.record()
        given = {name: getattr(self, name) for name in ("version", "kind", "key", "prefix", "session", "left")}
        return records.Change(**given, entry=entry, message=message)


class Text(msgspec.Struct, omit_defaults=True):
    """A text that has no vector yet. Pass place as after for the texts after it."""

    text: str
    place: str
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None


class Usage(msgspec.Struct):
    """What a namespace holds and what its plan allows. A limit of null is no limit."""

    namespace: str
    plan: str
    writes_today: int
    writes_per_day: int | None
    bytes: int
    max_bytes: int | None
    resets_at: Time

    @classmethod
    def of(cls, namespace: str, usage: records.Usage) -> Usage:
        """Return the document of a namespace's usage."""
        limits = usage.writes_per_day, usage.bytes, usage.max_bytes
        return cls(namespace, usage.plan, usage.writes_today, *limits, usage.resets_at)

    def record(self) -> records.Usage:
        """Return the usage."""
        fields = msgspec.structs.asdict(self)
        del fields["resets_at"], fields["namespace"]
        return records.Usage(**fields, resets=microseconds(self.resets_at))


class Sample(msgspec.Struct):
    """The usage of a namespace at a time."""

    at: Time
    writes_today: int
    bytes: int


class UsageHistory(msgspec.Struct):
    """Samples of a namespace's usage, the oldest first, and its usage now."""

    namespace: str
    history: list[Sample]


class Keys(msgspec.Struct):
    """A page of keys. Pass next as after for the next page; null: this is the last page."""

    namespace: str
    keys: list[str]
    next: str | None


class Entries(msgspec.Struct):
    """A page of entries. Pass next as after for the next page; null: this is the last page."""

    entries: list[Entry]
    next: str | None


class Count(msgspec.Struct):
    """A number of rows."""

    count: int


class Namespaces(msgspec.Struct):
    """A page of namespaces. Pass next as after for the next page; null: this is the last page."""

    namespaces: list[str]
    next: str | None


class Messages(msgspec.Struct):
    """A page of messages. Pass next as after for the next page; null: this is the last page."""

    messages: list[Message]
    next: int | None


class Sessions(msgspec.Struct):
    """A page of sessions. Pass next as before for the next page; null: this is the last page."""

    sessions: list[Session]
    next: int | None


class Hits(msgspec.Struct):
    """Search results, the best first."""

    hits: list[Hit]


class Texts(msgspec.Struct):
    """A page of texts without vectors. Pass next as after for the next page; null: this is the last page."""

    texts: list[Text]
    next: str | None


class Results(msgspec.Struct):
    """The result of each operation, in order. A put returns a version, an append seqs and a pop messages."""

    results: list[bool | int | float | list[int | Message]]


class Written(msgspec.Struct):
    """The version of the entry that a request wrote."""

    namespace: str
    key: str
    version: int


class Seqs(msgspec.Struct):
    """The seq of each appended message."""

    seqs: list[int]


class Problem(msgspec.Struct):
    """An error (RFC 9457). The type is urn:botwire:error: followed by a stable code. Some errors have more fields."""

    type: str
    title: str
    status: int
    detail: str = ""


def microseconds(when: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (when - _EPOCH) // _MICROSECOND


def json_text(raw: Raw | UnsetType) -> str:
    """Return the JSON text in a document; msgspec does not parse it."""
    try:
        return bytes(raw).decode()  # type: ignore[arg-type]
    except (TypeError, UnicodeDecodeError) as error:
        raise unknown_answer(error) from error


def unknown_answer(error: Exception) -> StoreError:
    """Return the error for an answer that no botwire server sends."""
    return StoreError(f"the answer is not one of a botwire server: {error}. Check the URL")
