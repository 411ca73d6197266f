"""Response bodies: records, results and errors as JSON. Encoders, decoders and the OpenAPI document use the same types.

The attributes of a record and of its JSON form have the same names, except that times are microseconds in a record's ``created``
and a datetime in ``created_at``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .. import records
from ..errors import BY_CODE, BotWireError, StoreError
from ..operations import Result
from ..timestamps import moment, now

R = TypeVar("R")
D = TypeVar("D")
PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE = "urn:botwire:error:"
"""The ``type`` of a problem document begins with this, and the error's code follows (RFC 9457, section 3.1.1)."""
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
        return cls(**more, **{name: _to_json(getattr(record, name)) for name in names})

    def record(self) -> R:
        given = {name: _from_json(getattr(self, _TIMES.get(name, name))) for name in self.RECORD.__struct_fields__}
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
        times = map(_from_json, (self.created_at, self.updated_at, self.expires_at))
        return records.Entry(self.key, stored, self.version, *times)


class NamedEntry(Entry, kw_only=True):
    """An entry and its namespace."""

    namespace: str


class Message(Document[records.Message]):
    """A message of a session."""

    RECORD = records.Message

    seq: int
    id: str
    data: Raw
    created_at: Time

    @classmethod
    def of(cls, record: records.Message, **_: Any) -> Self:
        return cls(record.seq, record.id, Raw(record.stored.encode()), record.created_at)

    def record(self) -> records.Message:
        return records.Message(self.seq, self.id, _text(self.data), _from_json(self.created_at))


class Session(Document[records.Session]):
    """A session. Pass place as before for the sessions after it."""

    RECORD = records.Session

    name: str = msgspec.field(name="session")
    place: int
    messages: int
    created_at: Time
    updated_at: Time


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
    kind: Literal["set", "delete", "expire", "clear", "append", "pop"]
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
    kind.RECORD: kind for kind in (Entry, Message, Session, Hit, Change, Text, Usage)
}
_TIMES = {name: f"{name}_at" for name in ("created", "updated", "expires", "resets")}


def _to_json(value: Any) -> Any:
    kind = _DOCUMENTS.get(type(value))
    return value if kind is None else kind.of(value)


def _from_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    return value.record() if isinstance(value, Document) else value


def _text(raw: Raw | UnsetType) -> str:
    """Return JSON text that msgspec has not parsed."""
    try:
        return bytes(raw).decode()  # type: ignore[arg-type]
    except (TypeError, UnicodeDecodeError) as error:
        raise _unknown_answer(error) from error


class Page(msgspec.Struct):
    """Rows, and the cursor for the next page: the last two fields."""

    CURSOR: ClassVar[str]
    """The attribute of a row that is its cursor; empty: the row itself."""

    @classmethod
    def of(cls, rows: Sequence[Any], *more: str, full: bool) -> Self:
        """Return a page. ``full``: it has as many rows or bytes as a page may have, so that another page may follow."""
        last = rows[-1] if full and rows else None
        kind = _DOCUMENTS.get(type(rows[0])) if rows else None
        page = list(rows) if kind is None else [kind.of(row) for row in rows]
        return cls(*more, page, getattr(last, cls.CURSOR) if cls.CURSOR and last is not None else last)


def _page(fields: Mapping[str, Any], what: str = "", *, cursor: str = "", parameter: str = "after") -> type[Page]:
    """Return the type of a page. Its ``next`` is the ``parameter`` of the request for the next page."""
    *_, rows, _next = fields
    doc = f"A page of {what or rows}. Pass next as {parameter} for the next page; null: this is the last page."
    namespace = {"__doc__": doc, "CURSOR": cursor}
    return cast("type[Page]", msgspec.defstruct(rows.title(), fields.items(), bases=(Page,), namespace=namespace))


Keys = _page({"namespace": str, "keys": list[str], "next": str | None})
Entries = _page({"entries": list[Entry], "next": str | None}, cursor="key")
Namespaces = _page({"namespaces": list[str], "next": str | None})
Messages = _page({"messages": list[Message], "next": int | None}, cursor="seq")
Sessions = _page({"sessions": list[Session], "next": int | None}, cursor="place", parameter="before")
Texts = _page({"texts": list[Text], "next": str | None}, "texts without vectors", cursor="place")


class Hits(msgspec.Struct):
    """Search results, the best first."""

    hits: list[Hit]

    @classmethod
    def of(cls, hits: Sequence[records.Hit]) -> Self:
        return cls([Hit.of(hit) for hit in hits])


class Count(msgspec.Struct):
    """A number of rows."""

    count: int


class Sample(msgspec.Struct):
    """The usage of a namespace at a time."""

    at: Time
    writes_today: int
    bytes: int


class UsageHistory(msgspec.Struct):
    """Samples of a namespace's usage, the oldest first, and its usage now."""

    namespace: str
    history: list[Sample]

    @classmethod
    def of(cls, namespace: str, samples: Sequence[records.Sample], usage: records.Usage) -> Self:
        history = [Sample(moment(item.at), item.writes, item.bytes) for item in samples]
        return cls(namespace, [*history, Sample(moment(now()), usage.writes_today, usage.bytes)])


class Results(msgspec.Struct):
    """The result of each operation, in order. A put returns a version, an append seqs and a pop messages."""

    results: list[bool | int | float | list[int | Message]]

    @classmethod
    def of(cls, results: Sequence[Result]) -> Self:
        return cls([list(map(_to_json, item)) if isinstance(item, list) else item for item in results])

    def as_records(self) -> list[Result]:
        found = [list(map(_from_json, item)) if isinstance(item, list) else item for item in self.results]
        return cast("list[Result]", found)


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


encode = msgspec.json.encode


def encode_record(record: records.Message | records.Hit | records.Change) -> bytes:
    """Return a record as JSON."""
    return encode(_to_json(record))


def encode_entry(namespace: str, entry: records.Entry) -> bytes:
    """Return the response to ``GET /memory/{namespace}/{key}``."""
    return encode(NamedEntry.of(entry, namespace=namespace))


def encode_usage(namespace: str, usage: records.Usage) -> bytes:
    """Return the response to ``GET /usage/{namespace}``."""
    return encode(Usage.of(usage, namespace=namespace))


class Answer(msgspec.Struct):
    """Any page, hits or count, as a client reads it. Only the fields that a request asked for are set."""

    keys: list[str] = []
    namespaces: list[str] = []
    entries: list[Entry] = []
    messages: list[Message] = []
    sessions: list[Session] = []
    hits: list[Hit] = []
    texts: list[records.Text] = []
    count: int = 0
    next: str | int | None = None

    def rows(self, field: str) -> list[Any]:
        """Return the rows in one of the fields, as records if they are documents."""
        return list(map(_from_json, getattr(self, field)))


def _decoder(kind: type[D], convert: Callable[[D], R]) -> Callable[[bytes], R]:
    """Return a function that decodes a body, or raises `StoreError` for one that no botwire server sends."""
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> R:
        try:
            document = decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _unknown_answer(error) from error
        return convert(document)

    return read


def _unknown_answer(error: Exception) -> StoreError:
    return StoreError(f"the answer is not one of a botwire server: {error}. Check the URL")


decode_answer = _decoder(Answer, lambda answer: answer)
decode_results = _decoder(Results, Results.as_records)
decode_entry = _decoder(Entry, Entry.record)
decode_usage = _decoder(Usage, Usage.record)
decode_change = _decoder(Change, Change.record)


def encode_problem(error: BotWireError) -> bytes:
    """Return an error as a problem document (RFC 9457)."""
    title = (type(error).__doc__ or "").partition("\n")[0]
    document = {"type": PROBLEM_TYPE + error.code, "title": title, "status": error.status, "detail": error.message}
    return encode({**error.details, **document})


def decode_problem(status: int, body: bytes) -> BotWireError | None:
    """Return the error in a problem document, in the class in which the server raised it. None: it is not a problem document of botwire."""
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
