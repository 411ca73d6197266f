"""Response bodies: pages, results and errors as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, cast

import msgspec

from .. import records
from ..conversations import findings, health
from ..errors import BY_CODE, BotWireError
from ..operations import Result
from ..timestamps import moment, now
from .documents import (
    Change,
    Context,
    Entry,
    Hit,
    Message,
    NamedEntry,
    Rule,
    Session,
    Text,
    Time,
    Usage,
    document_of,
    from_json,
    to_json,
    unknown_answer,
)

R = TypeVar("R")
D = TypeVar("D")
PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE = "urn:botwire:error:"
"""The ``type`` of a problem document begins with this, and the error's code follows (RFC 9457, section 3.1.1)."""


class Page(msgspec.Struct):
    """Rows, and the cursor for the next page: the last two fields."""

    CURSOR: ClassVar[str]
    """The attribute of a row that is its cursor; empty: the row itself."""

    @classmethod
    def of(cls, rows: Sequence[Any], *more: str, full: bool) -> Self:
        """Return a page. ``full``: it has as many rows or bytes as a page may have, so that another page may follow."""
        last = rows[-1] if full and rows else None
        kind = document_of(rows[0]) if rows else None
        page = list(rows) if kind is None else [kind.of(row) for row in rows]
        return cls(*more, page, getattr(last, cls.CURSOR) if cls.CURSOR and last is not None else last)


def _page(fields: Mapping[str, Any], what: str = "", *, cursor: str = "") -> type[Page]:
    """Return the type of a page. Its ``next`` is the parameter ``after`` of the request for the next page."""
    *_, rows, _next = fields
    doc = f"A page of {what or rows}. Pass next as after for the next page; null: this is the last page."
    namespace = {"__doc__": doc, "CURSOR": cursor}
    return cast("type[Page]", msgspec.defstruct(rows.title(), fields.items(), bases=(Page,), namespace=namespace))


Keys = _page({"namespace": str, "keys": list[str], "next": str | None})
Entries = _page({"entries": list[Entry], "next": str | None}, cursor="key")
Namespaces = _page({"namespaces": list[str], "next": str | None})
Messages = _page({"messages": list[Message], "next": int | None}, cursor="seq")
Sessions = _page({"sessions": list[Session], "next": str | None}, cursor="cursor")
Texts = _page({"texts": list[Text], "next": str | None}, "texts without vectors", cursor="place")


class Hits(msgspec.Struct):
    """Search results, the best first."""

    hits: list[Hit]

    @classmethod
    def of(cls, hits: Sequence[records.Hit]) -> Self:
        return cls([Hit.of(hit) for hit in hits])


class Rules(msgspec.Struct):
    """The rules of a namespace that say how long sessions are kept, in the order of their prefixes."""

    rules: list[Rule]

    @classmethod
    def of(cls, rules: Sequence[records.Rule]) -> Self:
        return cls([Rule.of(rule) for rule in rules])


class SessionProblem(msgspec.Struct):
    """A message that makes providers refuse its session, and what a repair did about it; null: nothing."""

    kind: findings.Kind
    seq: int
    id: str | None
    detail: str
    action: health.Action | None


class SessionProblems(msgspec.Struct):
    """Problems of a session, or what its repair did.

    ``unrecognized`` is the number of messages in none of the known formats, such as those that a client has encrypted. They are not
    checked.
    """

    problems: list[SessionProblem]
    unrecognized: int

    @classmethod
    def of(cls, problems: Sequence[health.Problem], unrecognized: int) -> Self:
        return cls(
            [msgspec.convert(problem, SessionProblem, from_attributes=True) for problem in problems], unrecognized
        )


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
        return cls([list(map(to_json, item)) if isinstance(item, list) else item for item in results])

    def as_records(self) -> list[Result]:
        found = [list(map(from_json, item)) if isinstance(item, list) else item for item in self.results]
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
    return encode(to_json(record))


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
    rules: list[Rule] = []
    count: int = 0
    next: str | int | None = None

    def rows(self, field: str) -> list[Any]:
        """Return the rows in one of the fields, as records if they are documents."""
        return list(map(from_json, getattr(self, field)))


def _decoder(kind: type[D], convert: Callable[[D], R]) -> Callable[[bytes], R]:
    """Return a function that decodes a body, or raises `StoreError` for one that no botwire server sends."""
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> R:
        try:
            document = decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise unknown_answer(error) from error
        return convert(document)

    return read


decode_answer = _decoder(Answer, lambda answer: answer)
decode_results = _decoder(Results, Results.as_records)
decode_entry = _decoder(Entry, Entry.record)
decode_session = _decoder(Session, Session.record)
decode_context = _decoder(Context, lambda context: (context.record(), context.next))
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
