"""Response bodies: records and results as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from .. import records
from ..operations import Result
from ..records import Change, Entry, Hit, Message, Sample, Session, Usage
from ..timestamps import moment, now
from . import documents
from .documents import unknown_answer
from .values import B, _json


class Answer(msgspec.Struct):
    """Any response but an entry and a usage. Only the fields that a request asked for are set."""

    results: list[bool | int | float | list[int | documents.Message]] = msgspec.field(default_factory=list)
    keys: list[str] = msgspec.field(default_factory=list)
    namespaces: list[str] = msgspec.field(default_factory=list)
    entries: list[documents.Entry] = msgspec.field(default_factory=list)
    messages: list[documents.Message] = msgspec.field(default_factory=list)
    sessions: list[documents.Session] = msgspec.field(default_factory=list)
    hits: list[documents.Hit] = msgspec.field(default_factory=list)
    texts: list[records.Text] = msgspec.field(default_factory=list)
    count: int = 0
    next: str | int | None = None


_ANSWER = msgspec.json.Decoder(Answer)
_CHANGE = msgspec.json.Decoder(documents.Change)
_ENTRY = msgspec.json.Decoder(documents.Entry)
_USAGE = msgspec.json.Decoder(documents.Usage)


# Encoders. ``full`` says that a page has as many rows as the request asked for, so that another page may follow.


def encode_entry(namespace: str, entry: Entry) -> bytes:
    """Return the response to ``GET /memory/{namespace}/{key}``."""
    return _json(documents.NamedEntry.of(entry, namespace=namespace))


def encode_entries(entries: Sequence[Entry], *, full: bool) -> bytes:
    """Return a page of entries."""
    page = [documents.Entry.of(entry) for entry in entries]
    return _json(documents.Entries(page, entries[-1].key if full and entries else None))


def encode_keys(namespace: str, keys: Sequence[str], *, full: bool) -> bytes:
    """Return a page of keys."""
    return _json(documents.Keys(namespace, list(keys), keys[-1] if full and keys else None))


def encode_namespaces(namespaces: Sequence[str], *, full: bool) -> bytes:
    """Return a page of namespaces."""
    return _json(documents.Namespaces(list(namespaces), namespaces[-1] if full and namespaces else None))


def encode_messages(messages: Sequence[Message], *, full: bool) -> bytes:
    """Return a page of messages."""
    page = [documents.Message.of(message) for message in messages]
    return _json(documents.Messages(page, messages[-1].seq if full and messages else None))


def encode_message(message: Message) -> bytes:
    """Return one message."""
    return _json(documents.Message.of(message))


def encode_change(change: Change) -> bytes:
    """Return one change."""
    return _json(documents.Change.of(change))


def encode_sessions(sessions: Sequence[Session], *, full: bool) -> bytes:
    """Return a page of sessions."""
    page = [documents.Session.of(session) for session in sessions]
    return _json(documents.Sessions(page, sessions[-1].place if full and sessions else None))


def encode_hits(hits: list[Hit]) -> bytes:
    """Return search results, the best first."""
    return _json(documents.Hits([documents.Hit.of(hit) for hit in hits]))


def encode_hit(hit: Hit) -> bytes:
    """Return one search result."""
    return _json(documents.Hit.of(hit))


def encode_texts(texts: list[records.Text], *, full: bool) -> bytes:
    """Return a page of texts without vectors."""
    page = [documents.Text(**msgspec.structs.asdict(text)) for text in texts]
    return _json(documents.Texts(page, texts[-1].place if full and texts else None))


def encode_usage(namespace: str, usage: Usage) -> bytes:
    """Return the response to ``GET /usage/{namespace}``."""
    return _json(documents.Usage.of(namespace, usage))


def encode_history(namespace: str, samples: Sequence[Sample], usage: Usage) -> bytes:
    """Return the response to ``GET /usage/{namespace}/history``: the samples and the usage now."""
    latest = Sample(now(), usage.writes_today, usage.bytes)
    rows = [documents.Sample(moment(item.at), item.writes, item.bytes) for item in (*samples, latest)]
    return _json(documents.UsageHistory(namespace, rows))


def encode_results(results: Sequence[Result]) -> bytes:
    """Return the results of a write."""
    return _json(documents.Results([_result(result) for result in results]))


def encode_written(namespace: str, key: str, version: Result) -> bytes:
    """Return the response to a PUT of an entry."""
    return _json(documents.Written(namespace, key, cast("int", version)))


def encode_seqs(seqs: Result) -> bytes:
    """Return the response to a POST to a session."""
    return _json(documents.Seqs(cast("list[int]", seqs)))


def encode_count(count: int) -> bytes:
    """Return a number of rows."""
    return _json(documents.Count(count))


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return a document of plain JSON values."""
    return _json(document)


# Decoders


def decode_answer(body: bytes) -> Answer:
    """Return any response but an entry and a usage.

    Raises:
        StoreError: no botwire server sends this body; so do the other decoders.
    """
    return _read(_ANSWER, body)


def decode_results(body: bytes) -> list[Result]:
    """Return the results of a write."""
    return [_to_result(result) for result in decode_answer(body).results]


def decode_entry(body: bytes) -> Entry:
    """Return the entry in a body."""
    return _read(_ENTRY, body).record()


def decode_usage(body: bytes) -> Usage:
    """Return the usage in a body."""
    return _read(_USAGE, body).record()


def decode_change(data: bytes) -> Change:
    """Return the change in the data of an event."""
    return _read(_CHANGE, data).record()


def _read(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise unknown_answer(error) from error


def _result(result: Result) -> Any:
    if isinstance(result, list):
        return [documents.Message.of(item) if isinstance(item, Message) else item for item in result]
    return result


def _to_result(result: Any) -> Result:
    if isinstance(result, list):
        return [item.record() if isinstance(item, documents.Message) else item for item in result]
    return cast("Result", result)
