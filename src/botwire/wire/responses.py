"""How records, operations and errors look as JSON and as paths. Pure, and shared by the client and the server.

A stored JSON value travels as it is: its text is spliced into the body and cut out of it again, not decoded and encoded
anew. Bytes travel as ``value_base64``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .. import records
from ..errors import BY_CODE, BotWireError, InvalidArgument, InvalidValue, StoreError
from ..limits import MAX_OPERATIONS, check_count, check_name, check_pop, check_prefix, check_ttl
from ..records import Change, Entry, Hit, Message, Operation, Result, Sample, Session, Usage, moment, now
from ..search.arguments import KINDS, check_vector, search_query
from ..values import Stored, check_json, encode

MEDIA_TYPE = "application/json"
PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE = "urn:botwire:error:"
"""With an error's code behind it, the ``type`` of its problem document (RFC 9457, section 3.1.1)."""

_json = msgspec.json.encode


# Paths


def query(**parameters: Any) -> str:
    """Return ``?name=value&…`` of those parameters that are not None; nothing when there are none."""
    given = [(name, value) for name, value in parameters.items() if value is not None]
    return "?" + urlencode(given, doseq=True, quote_via=quote) if given else ""


def namespace_path(root: str, namespace: str, **parameters: Any) -> str:
    """Return ``/{root}/{namespace}`` and a query."""
    return f"/{root}/{quote(namespace, safe='')}{query(**parameters)}"


def name_path(root: str, namespace: str, name: str) -> str | None:
    """Return ``/{root}/{namespace}/{name}``, or None for a name that a path cannot carry.

    On their way, clients and proxies remove segments of dots, merge slashes and decode ``%2F`` (RFC 3986, sections
    5.2.4 and 6.2.2); such a name goes into the query instead.
    """
    if name.startswith(".") or "/" in name or "\\" in name or "%" in name:
        return None
    return f"/{root}/{quote(namespace, safe='')}/{quote(name, safe='')}"


# Values


def _value(stored: Stored) -> dict[str, Any]:
    return {"value_base64": stored} if isinstance(stored, bytes) else {"value": Raw(stored.encode())}


def _stored(value: Raw | UnsetType, value_base64: bytes | UnsetType) -> Stored:
    if isinstance(value, UnsetType) == isinstance(value_base64, UnsetType):
        raise InvalidValue('give either "value" (JSON) or "value_base64" (bytes)')
    if isinstance(value_base64, bytes):
        return encode(value_base64)
    return check_json(value)  # type: ignore[arg-type]


class _Valued(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    value: Raw | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET

    def stored(self) -> Stored:
        return _stored(self.value, self.value_base64)


# Operations


class PutBody(_Valued):
    """The body of ``PUT /memory/{namespace}/{key}``."""

    ttl: float | None = None
    if_version: int | None = None

    def operation(self, key: str) -> records.Put:
        """Return the checked operation."""
        return records.Put(
            check_name(key), self.stored(), check_ttl(self.ttl), check_count(self.if_version, "if_version")
        )


class _Put(PutBody, tag_field="op", tag="put", kw_only=True):
    key: str
    keep_ttl: bool = False

    def checked(self) -> Operation:
        return msgspec.structs.replace(self.operation(self.key), keep_ttl=self.keep_ttl)


class _Delete(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="delete"):
    key: str

    def checked(self) -> Operation:
        return records.Delete(check_name(self.key))


class _Increment(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="increment"):
    key: str
    by: int | float = 1

    def checked(self) -> Operation:
        return records.Increment(check_name(self.key), self.by)


class _NewMessage(msgspec.Struct, forbid_unknown_fields=True):
    data: Raw
    id: str | UnsetType = UNSET

    def checked(self) -> records.NewMessage:
        name = records.new_id() if isinstance(self.id, UnsetType) else check_name(self.id, "message id")
        return records.NewMessage(name, check_json(self.data))


class AppendBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /sessions/{namespace}/{session}``."""

    messages: list[_NewMessage]

    def operation(self, session: str) -> records.Append:
        """Return the checked operation."""
        messages = tuple(message.checked() for message in self.messages)
        return records.Append(check_name(session, "session name"), messages)


class _Append(AppendBody, tag_field="op", tag="append"):
    session: str = ""

    def checked(self) -> Operation:
        return self.operation(self.session)


class _Clear(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="clear"):
    prefix: str = ""

    def checked(self) -> Operation:
        return records.Clear(check_prefix(self.prefix))


class _Forget(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="forget"):
    session: str

    def checked(self) -> Operation:
        return records.Forget(check_name(self.session, "session name"))


class _Pop(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="pop"):
    session: str
    count: int = 1
    if_ids: tuple[str, ...] | None = None

    def checked(self) -> Operation:
        ids = None if self.if_ids is None else tuple(check_name(name, "message id") for name in self.if_ids)
        return records.Pop(check_name(self.session, "session name"), check_pop(self.count), ids)


class _Vector(msgspec.Struct, forbid_unknown_fields=True):
    vector: bytes
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None

    def checked(self) -> records.Vector:
        if self.key is None:
            names = {"session": check_name(self.session, "session name"), "id": check_name(self.id, "message id")}
        else:
            names = {"key": check_name(self.key)}
        return records.Vector(check_vector(self.vector), version=self.version, **names)


class _SetVectors(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="set_vectors"):
    model: str
    vectors: list[_Vector]

    def checked(self) -> Operation:
        return records.SetVectors(check_name(self.model, "model"), tuple(item.checked() for item in self.vectors))


class WriteBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /memory/{namespace}``."""

    operations: list[_Put | _Delete | _Increment | _Append | _Clear | _Forget | _Pop | _SetVectors]

    def checked(self) -> tuple[Operation, ...]:
        """Return the checked operations."""
        operations = tuple(operation.checked() for operation in self.operations)
        count = sum(map(_count, operations))
        if count > MAX_OPERATIONS:
            raise InvalidArgument(f"at most {MAX_OPERATIONS:,} operations and messages in a write, not {count:,}")
        return operations


def _count(op: Operation) -> int:
    match op:
        case records.Append(messages=items) | records.SetVectors(vectors=items):
            return len(items)
    return 1


B = TypeVar("B")

_PUT_BODY = msgspec.json.Decoder(PutBody)
_APPEND_BODY = msgspec.json.Decoder(AppendBody)
_WRITE_BODY = msgspec.json.Decoder(WriteBody)


def decode_put(key: str, body: bytes) -> records.Put:
    """Return the operation in the body of a PUT, checked."""
    return _decoded(_PUT_BODY, body).operation(key)


def decode_append(session: str, body: bytes) -> records.Append:
    """Return the operation in the body of a POST to a session, checked."""
    return _decoded(_APPEND_BODY, body).operation(session)


def decode_write(body: bytes) -> tuple[Operation, ...]:
    """Return the operations in the body of a POST to a namespace, checked."""
    return _decoded(_WRITE_BODY, body).checked()


def _decoded(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"the body is not what this request takes: {error}") from error


def encode_write(operations: Sequence[Operation]) -> bytes:
    """Return the body of a POST to a namespace."""
    return _json({"operations": [_OPERATION[type(operation)](operation) for operation in operations]})


def _put(op: records.Put) -> dict[str, Any]:
    optional = {"ttl": op.ttl, "if_version": op.if_version, "keep_ttl": op.keep_ttl or None}
    return {"op": "put", "key": op.key, **_value(op.stored), **{k: v for k, v in optional.items() if v is not None}}


def _append(op: records.Append) -> dict[str, Any]:
    messages = [{"id": message.id, "data": Raw(message.stored.encode())} for message in op.messages]
    return {"op": "append", "session": op.session, "messages": messages}


def _pop(op: records.Pop) -> dict[str, Any]:
    condition = {} if op.if_ids is None else {"if_ids": op.if_ids}
    return {"op": "pop", "session": op.session, "count": op.count, **condition}


def _given(record: Any) -> dict[str, Any]:
    """Return the fields of a record that are not None."""
    return {name: value for name, value in msgspec.structs.asdict(record).items() if value is not None}


_OPERATION: Mapping[type, Any] = {
    records.Put: _put,
    records.Delete: lambda op: {"op": "delete", "key": op.key},
    records.Increment: lambda op: {"op": "increment", "key": op.key, "by": op.by},
    records.Append: _append,
    records.Clear: lambda op: {"op": "clear", "prefix": op.prefix},
    records.Forget: lambda op: {"op": "forget", "session": op.session},
    records.Pop: _pop,
    records.SetVectors: lambda op: {"op": "set_vectors", "model": op.model, "vectors": [_given(v) for v in op.vectors]},
}


# Search


class SearchBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /search/{namespace}``, and the parameters of a GET."""

    q: str
    limit: int = 10
    kinds: list[str] | None = None
    session: str | None = None
    prefix: str = ""
    where: dict[str, Any] | None = None
    since: datetime | None = None
    until: datetime | None = None
    neighbours: int = 2
    half_life: float | None = None
    words: bool = True
    vector: bytes | None = None
    model: str = ""

    def query(self) -> records.Search:
        """Return the checked query."""
        given = msgspec.structs.asdict(self)
        kinds, by = given.pop("kinds"), {name: given.pop(name) for name in ("words", "vector", "model")}
        asked = search_query(given.pop("q"), **given, kinds=KINDS if kinds is None else kinds)
        if by["vector"] is not None:
            check_vector(by["vector"]), check_name(by["model"], "model")
        return msgspec.structs.replace(asked, **by)


_SEARCH_BODY = msgspec.json.Decoder(SearchBody)


def decode_search(body: bytes) -> records.Search:
    """Return the query in the body of a POST to a namespace's search, checked."""
    return _decoded(_SEARCH_BODY, body).query()


def decode_where(text: str) -> dict[str, Any]:
    """Return the filter in a parameter of a GET."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"where is a JSON object of paths and values: {error}") from error


def encode_search(query: records.Search) -> bytes:
    """Return the body of a POST to a namespace's search."""
    given = msgspec.structs.asdict(query)
    kinds = [kind for kind in KINDS if given.pop(kind)]
    times = {name: None if given[name] is None else moment(given[name]) for name in ("since", "until")}
    return _json({"q": given.pop("text"), **given, **times, "kinds": kinds})


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


def encode_problem(error: BotWireError) -> bytes:
    """Return an error as a problem document (RFC 9457)."""
    title = (type(error).__doc__ or "").partition("\n")[0]
    document = {"type": PROBLEM_TYPE + error.code, "title": title, "status": error.status, "detail": error.message}
    return _json({**error.details, **document})


def decode_problem(status: int, body: bytes) -> BotWireError | None:
    """Return the error in a problem document as the class it was raised as; None when the body is not one of ours."""
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    kind = str(document.pop("type", ""))
    cls = BY_CODE.get(kind.removeprefix(PROBLEM_TYPE)) if kind.startswith(PROBLEM_TYPE) else None
    if cls is None:
        return None
    detail = str(document.pop("detail", f"HTTP {status}"))
    return cls(detail, **{k: v for k, v in document.items() if k not in {"title", "status", "message"}})
