"""How records, operations and errors look as JSON and as paths. Pure, and shared by the client and the server.

A stored JSON value travels as it is: its text is spliced into the body and cut out of it again, not decoded and encoded
anew. Bytes travel as ``value_base64``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Raw, UnsetType

from .. import records
from ..errors import StoreError
from ..operations import Result
from ..records import Change, Entry, Hit, Message, Sample, Session, Usage
from ..timestamps import moment, now
from .requests import _Valued
from .values import B, _given, _json, _value

# Paths


# Values


# Operations


# Search


# Answers


_Time = Annotated[datetime, Meta(tz=True)]


class _WireEntry(_Valued, forbid_unknown_fields=False, kw_only=True):
    key: str
    version: int
    created_at: _Time
    updated_at: _Time
    expires_at: _Time | None = None

    def record(self) -> Entry:
        stored = self.value_base64 if isinstance(self.value_base64, bytes) else _text(self.value)
        expires = None if self.expires_at is None else _microseconds(self.expires_at)
        return Entry(
            self.key, stored, self.version, _microseconds(self.created_at), _microseconds(self.updated_at), expires
        )


class _WireMessage(msgspec.Struct):
    seq: int
    id: str
    data: Raw
    created_at: _Time

    def record(self) -> Message:
        return Message(self.seq, self.id, _text(self.data), _microseconds(self.created_at))


class _WireChange(msgspec.Struct, kw_only=True):
    version: int
    kind: Literal["set", "delete", "expire", "clear", "append", "pop"]
    key: str | None = None
    entry: _WireEntry | None = None
    prefix: str | None = None
    session: str | None = None
    message: _WireMessage | None = None
    left: int | None = None

    def record(self) -> Change:
        entry = None if self.entry is None else self.entry.record()
        message = None if self.message is None else self.message.record()
        given = {name: getattr(self, name) for name in ("version", "kind", "key", "prefix", "session", "left")}
        return Change(**given, entry=entry, message=message)


class _WireSession(msgspec.Struct):
    session: str
    place: int
    messages: int
    created_at: _Time
    updated_at: _Time

    def record(self) -> Session:
        times = _microseconds(self.created_at), _microseconds(self.updated_at)
        return Session(self.session, self.place, self.messages, *times)


class _WireHit(msgspec.Struct):
    score: float
    snippet: str
    entry: _WireEntry | None = None
    message: _WireMessage | None = None
    session: str | None = None

    def record(self) -> Hit:
        entry = None if self.entry is None else self.entry.record()
        message = None if self.message is None else self.message.record()
        return Hit(self.score, self.snippet, entry, message, self.session)


class _WireUsage(msgspec.Struct):
    plan: str
    writes_today: int
    writes_per_day: int | None
    bytes: int
    max_bytes: int | None
    resets_at: _Time


class Answer(msgspec.Struct):
    """Any answer: what a request asked for is set, the rest is not."""

    results: list[bool | int | float | list[int | _WireMessage]] = msgspec.field(default_factory=list)
    keys: list[str] = msgspec.field(default_factory=list)
    namespaces: list[str] = msgspec.field(default_factory=list)
    entries: list[_WireEntry] = msgspec.field(default_factory=list)
    messages: list[_WireMessage] = msgspec.field(default_factory=list)
    sessions: list[_WireSession] = msgspec.field(default_factory=list)
    hits: list[_WireHit] = msgspec.field(default_factory=list)
    texts: list[records.Text] = msgspec.field(default_factory=list)
    count: int = 0
    next: str | int | None = None


_ANSWER = msgspec.json.Decoder(Answer)
_CHANGE = msgspec.json.Decoder(_WireChange)
_ENTRY = msgspec.json.Decoder(_WireEntry)
_USAGE = msgspec.json.Decoder(_WireUsage)


def encode_entry(namespace: str, entry: Entry) -> bytes:
    """Return an entry as ``GET /memory/{namespace}/{key}`` answers it."""
    return _json({"namespace": namespace} | _entry(entry))


def encode_entries(entries: Sequence[Entry], *, full: bool) -> bytes:
    """Return a page of entries; ``full``: it has as many as were asked for, so that there may be more."""
    return _json(
        {"entries": [_entry(entry) for entry in entries], "next": entries[-1].key if full and entries else None}
    )


def encode_keys(namespace: str, keys: Sequence[str], *, full: bool) -> bytes:
    """Return a page of keys."""
    return _json({"namespace": namespace, "keys": keys, "next": keys[-1] if full and keys else None})


def encode_namespaces(namespaces: Sequence[str], *, full: bool) -> bytes:
    """Return a page of namespaces."""
    return _json({"namespaces": namespaces, "next": namespaces[-1] if full and namespaces else None})


def encode_messages(messages: Sequence[Message], *, full: bool) -> bytes:
    """Return a page of messages."""
    page = [_message(item) for item in messages]
    return _json({"messages": page, "next": messages[-1].seq if full and messages else None})


def encode_message(message: Message) -> bytes:
    """Return a message alone."""
    return _json(_message(message))


def encode_change(change: Change) -> bytes:
    """Return a change alone."""
    return _json(change_document(change))


def encode_sessions(sessions: Sequence[Session], *, full: bool) -> bytes:
    """Return a page of sessions."""
    page = [
        {
            "session": item.name,
            "place": item.place,
            "messages": item.messages,
            "created_at": item.created_at,
            "updated_at": item.updated_at,
        }
        for item in sessions
    ]
    return _json({"sessions": page, "next": sessions[-1].place if full and sessions else None})


def encode_hits(hits: list[Hit]) -> bytes:
    """Return what a search found, the best first."""
    return _json({"hits": [_hit(hit) for hit in hits]})


def encode_texts(texts: list[records.Text], *, full: bool) -> bytes:
    """Return a page of texts without vectors."""
    return _json({"texts": [_given(text) for text in texts], "next": texts[-1].place if full and texts else None})


def encode_hit(hit: Hit) -> bytes:
    """Return a hit alone."""
    return _json(_hit(hit))


def encode_usage(namespace: str, usage: Usage) -> bytes:
    """Return what ``GET /usage/{namespace}`` answers."""
    fields = msgspec.structs.asdict(usage)
    del fields["resets"]
    return _json({"namespace": namespace, **fields, "resets_at": usage.resets_at})


def encode_history(namespace: str, samples: Sequence[Sample], usage: Usage) -> bytes:
    """Return what ``GET /usage/{namespace}/history`` answers: samples, and how it is now."""
    latest = Sample(now(), usage.writes_today, usage.bytes)
    rows = [{"at": moment(item.at), "writes_today": item.writes, "bytes": item.bytes} for item in (*samples, latest)]
    return _json({"namespace": namespace, "history": rows})


def encode_results(results: Sequence[Result]) -> bytes:
    """Return the results of a write."""
    return _json({"results": [_result(result) for result in results]})


def encode_written(namespace: str, key: str, version: Result) -> bytes:
    """Return what a PUT answers."""
    return _json({"namespace": namespace, "key": key, "version": version})


def encode_seqs(seqs: Result) -> bytes:
    """Return what a POST to a session answers."""
    return _json({"seqs": seqs})


def encode_count(count: int) -> bytes:
    """Return a number of rows."""
    return _json({"count": count})


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return a document of plain JSON values."""
    return _json(document)


def decode_answer(body: bytes) -> Answer:
    """Return an answer of any kind but an entry and usage, which stand alone."""
    return _read(_ANSWER, body)


def decode_results(body: bytes) -> list[Result]:
    """Return the results of a write."""
    return [_restored(result) for result in decode_answer(body).results]


def decode_entry(body: bytes) -> Entry:
    """Return the entry in a body."""
    return _read(_ENTRY, body).record()


def decode_usage(body: bytes) -> Usage:
    """Return the usage in a body."""
    wire = _read(_USAGE, body)
    fields = msgspec.structs.asdict(wire)
    del fields["resets_at"]
    return Usage(**fields, resets=_microseconds(wire.resets_at))


def _read(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"the answer is not one that botwire knows: {error}. Is it a botwire server?") from error


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        **_value(entry.stored),
        "version": entry.version,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "expires_at": entry.expires_at,
    }


def _message(message: Message) -> dict[str, Any]:
    data = Raw(message.stored.encode())
    return {"seq": message.seq, "id": message.id, "data": data, "created_at": message.created_at}


def _result(result: Result) -> Any:
    if isinstance(result, list):
        return [_message(item) if isinstance(item, Message) else item for item in result]
    return result


def _restored(result: Any) -> Result:
    if isinstance(result, list):
        return [item.record() if isinstance(item, _WireMessage) else item for item in result]
    return cast("Result", result)


def _text(raw: Raw | UnsetType) -> str:
    """Return the JSON text in an answer; msgspec does not look into it."""
    try:
        return bytes(raw).decode()  # type: ignore[arg-type]
    except (TypeError, UnicodeDecodeError) as error:
        raise StoreError(f"the answer is not one that botwire knows: {error}. Is it a botwire server?") from error


def _hit(hit: Hit) -> dict[str, Any]:
    found = {"score": hit.score, "snippet": hit.snippet}
    if hit.entry is not None:
        return {**found, "entry": _entry(hit.entry)}
    assert hit.message is not None
    return {**found, "session": hit.session, "message": _message(hit.message)}


def change_document(change: Change) -> dict[str, Any]:
    """Return a change as JSON values: what belongs to its kind."""
    document: dict[str, Any] = {"version": change.version, "kind": change.kind}
    for name in ("key", "prefix", "session", "left"):
        value = getattr(change, name)
        if value is not None:
            document[name] = value
    if change.entry is not None:
        document["entry"] = _entry(change.entry)
    if change.message is not None:
        document["message"] = _message(change.message)
    return document


def decode_change(data: bytes) -> Change:
    """Return the change in the data of an event."""
    return _read(_CHANGE, data).record()


_EPOCH = moment(0)
_MICROSECOND = moment(1) - moment(0)


def _microseconds(when: datetime) -> int:
    return (when - _EPOCH) // _MICROSECOND


# Errors
