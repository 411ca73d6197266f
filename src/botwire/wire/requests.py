"""Requests: paths, and operations and searches as JSON. The OpenAPI document is generated from the types of the bodies.

The stored JSON text of a value becomes part of a body, bytes are base64. A server checks each JSON value that it receives: it decodes
the value and stores its compact form. What it sends, and what the client receives, is the stored text; neither decodes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET, Raw, UnsetType

from .. import operations, queries
from ..errors import InvalidArgument, InvalidValue
from ..limits import MAX_DEPTH, MAX_SEARCH_BYTES, check_count, check_name, check_nodes, check_time, check_ttl
from ..operations import Operation
from ..search.arguments import KINDS, check_vector, search_query
from ..timestamps import moment
from ..values import Stored, check_json, encode
from .bodies import BodyOperation, check_operations, check_session, described
from .sessions import (
    AppendBody,
    AppendOperation,
    EditOperation,
    ForgetOperation,
    ForkOperation,
    PopOperation,
    ReplaceOperation,
    RetainOperation,
    SetAboutOperation,
    SetExpiryOperation,
    SummarizeOperation,
)

B = TypeVar("B")
MEDIA_TYPE = "application/json"


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


def _value(stored: Stored) -> dict[str, Any]:
    return {"value_base64": stored} if isinstance(stored, bytes) else {"value": Raw(stored.encode())}


def _stored(value: Raw | UnsetType, value_base64: bytes | UnsetType) -> Stored:
    if isinstance(value, UnsetType) == isinstance(value_base64, UnsetType):
        raise InvalidValue('give either "value" (JSON) or "value_base64" (bytes)')
    if isinstance(value_base64, bytes):
        return encode(value_base64)
    return check_json(value)  # type: ignore[arg-type]


class PutBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The body of PUT /memory/{namespace}/{key}: JSON in value, or bytes in value_base64."""

    value: Raw | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET
    ttl: Annotated[float | None, described("Seconds until the entry expires; null: never.")] = None
    if_version: Annotated[
        int | None, described("Write only if the entry has this version; 0: only if there is none.")
    ] = None

    def operation(self, key: str, *, keep_ttl: bool = False) -> operations.Put:
        stored = _stored(self.value, self.value_base64)
        return operations.Put(
            check_name(key), stored, check_ttl(self.ttl), check_count(self.if_version, "if_version"), keep_ttl
        )


class PutOperation(PutBody, tag_field="op", tag="put", kw_only=True):
    """Set a key. The result is the new version."""

    OPERATION = operations.Put

    key: str
    keep_ttl: Annotated[bool, described("Keep the time at which the stored entry expires, and ignore ttl.")] = False

    @classmethod
    def of(cls, op: operations.Put) -> PutOperation:
        return cls(key=op.key, **_value(op.stored), ttl=op.ttl, if_version=op.if_version, keep_ttl=op.keep_ttl)

    def checked(self) -> Operation:
        return self.operation(self.key, keep_ttl=self.keep_ttl)


class DeleteOperation(BodyOperation, tag="delete"):
    """Delete a key. The result says whether it existed."""

    OPERATION = operations.Delete

    key: str


class RequireOperation(BodyOperation, tag="require"):
    """Change nothing, but refuse the write unless an entry has this version; 0: there is none. The result is the version."""

    OPERATION = operations.Require

    key: str
    version: int


class IncrementOperation(BodyOperation, tag="increment"):
    """Add to a number. The result is the new number."""

    OPERATION = operations.Increment

    key: str
    by: int | float = 1


class ClearOperation(BodyOperation, tag="clear"):
    """Delete every key with a prefix. The result is their number."""

    OPERATION = operations.Clear

    prefix: str = ""


class TextVector(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The vector of a text: float32 numbers, little-endian. The other fields are those of the text."""

    vector: bytes
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None

    def checked(self) -> operations.Vector:
        if self.key is None:
            names = {"session": check_session(self.session), "id": check_name(self.id, "message id")}
        else:
            names = {"key": check_name(self.key)}
        return operations.Vector(check_vector(self.vector), version=self.version, **names)


class DestroyOperation(BodyOperation, tag="destroy"):
    """Delete the namespace. The result is the number of its entries and messages. It must be alone in its write."""

    OPERATION = operations.Destroy


class SetVectorsOperation(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="set_vectors"):
    """Store vectors of a model for texts that have not changed. The result is the number of stored vectors."""

    OPERATION = operations.SetVectors

    model: str
    vectors: list[TextVector]

    @classmethod
    def of(cls, op: operations.SetVectors) -> SetVectorsOperation:
        return cls(op.model, [TextVector(**msgspec.structs.asdict(vector)) for vector in op.vectors])

    def checked(self) -> Operation:
        return operations.SetVectors(check_name(self.model, "model"), tuple(item.checked() for item in self.vectors))


WireOperation: TypeAlias = (
    PutOperation
    | DeleteOperation
    | RequireOperation
    | IncrementOperation
    | AppendOperation
    | ReplaceOperation
    | ForkOperation
    | EditOperation
    | SummarizeOperation
    | SetAboutOperation
    | SetExpiryOperation
    | RetainOperation
    | ClearOperation
    | ForgetOperation
    | PopOperation
    | SetVectorsOperation
    | DestroyOperation
)


class WriteBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /memory/{namespace}: operations that are all applied or none."""

    operations: list[WireOperation]

    def checked(self) -> tuple[Operation, ...]:
        operations = tuple(operation.checked() for operation in self.operations)
        check_operations(sum(map(_count, operations)))
        return operations


def _count(op: Operation) -> int:
    match op:
        case (
            operations.Append(messages=items)
            | operations.Replace(messages=items)
            | operations.SetVectors(vectors=items)
        ):
            return max(1, len(items))
    return 1


_WIRE: Mapping[type, Any] = {kind.OPERATION: kind.of for kind in get_args(WireOperation)}
"""The JSON form of each operation. `Expire` has none: a server removes expired entries itself."""


def encode_write(operations: Sequence[Operation]) -> bytes:
    """Return the body of a POST to a namespace. Our client sends every write so, also a single put."""
    return msgspec.json.encode(WriteBody([_WIRE[type(operation)](operation) for operation in operations]))


class MendBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /problems/{namespace}."""

    policy: Annotated[
        Literal["cancel", "drop"],
        described(
            "What to do with a call that has no result: insert one that says that it was cancelled, or remove the call."
        ),
    ]


class SearchBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /search/{namespace}."""

    q: Annotated[str, described("A question, or words.")]
    limit: int = 10
    kinds: Annotated[list[str] | None, described("What to search: messages, entries or both; null: both.")] = None
    session: str | None = None
    prefix: str = ""
    where: Annotated[dict[str, Any] | None, described("Paths into the values, and what they must equal.")] = None
    since: datetime | None = None
    until: datetime | None = None
    neighbours: int = 2
    half_life: Annotated[float | None, described("Seconds after which a hit counts half.")] = None
    words: Annotated[bool, described("Search by words too; false: only by the vector.")] = True
    vector: Annotated[bytes | None, described("The question as a vector: float32 numbers, little-endian.")] = None
    model: str = ""

    def query(self) -> queries.Search:
        given = msgspec.structs.asdict(self)
        kinds, by = given.pop("kinds"), {name: given.pop(name) for name in ("words", "vector", "model")}
        asked = search_query(given.pop("q"), **given, kinds=KINDS if kinds is None else kinds)
        if by["vector"] is not None:
            check_vector(by["vector"]), check_name(by["model"], "model")
        return msgspec.structs.replace(asked, **by)


def _decoder(kind: type[B]) -> Callable[[bytes], B]:
    """Return a function that decodes a body, or raises `InvalidArgument` if it is not the JSON of this request."""
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> B:
        check_nodes(body)
        try:
            return decode(body)
        except RecursionError as error:
            # How deep the parser goes depends on the version of Python; the limit for a value does not.
            raise InvalidValue(f"a value may be nested {MAX_DEPTH} deep, this one is nested deeper") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"invalid request body: {error}") from error

    return read


_put_body, _append_body = _decoder(PutBody), _decoder(AppendBody)
_write_body, _search_body = _decoder(WriteBody), _decoder(SearchBody)
_mend_body = _decoder(MendBody)


def decode_put(key: str, body: bytes) -> operations.Put:
    """Return the operation in the body of a PUT, checked."""
    return _put_body(body).operation(key)


def decode_append(session: str, body: bytes) -> operations.Append:
    """Return the operation in the body of a POST to a session, checked."""
    return _append_body(body).operation(session)


def decode_write(body: bytes) -> tuple[Operation, ...]:
    """Return the operations in the body of a POST to a namespace, checked."""
    return _write_body(body).checked()


def decode_search(body: bytes) -> queries.Search:
    """Return the query in the body of a POST to a namespace's search, checked."""
    if len(body) > MAX_SEARCH_BYTES:
        raise InvalidArgument(
            f"a search has at most {MAX_SEARCH_BYTES:,} bytes, this one has {len(body):,}: shorten it"
        )
    return _search_body(body).query()


def decode_mend(body: bytes) -> str:
    """Return the policy in the body of a POST to the problems of a session."""
    return _mend_body(body).policy


def decode_where(text: str) -> dict[str, Any]:
    """Return the filter in the query parameter of a GET. `check_where` checks it."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"where must be a JSON object of paths and values: {error}") from error


def decode_time(text: str, what: str) -> int:
    """Return the time in a query parameter of a GET in microseconds, or raise `InvalidArgument` if it is none of RFC 3339."""
    try:
        time = check_time(msgspec.convert(text, datetime), what)
    except msgspec.ValidationError as error:
        raise InvalidArgument(
            f"{what} is a time with its zone, such as 2026-01-31T08:00:00Z, not {text!r:.60}"
        ) from error
    assert time is not None
    return time


def encode_search(query: queries.Search) -> bytes:
    """Return the body of a POST to a namespace's search."""
    given = msgspec.structs.asdict(query)
    kinds = [kind for kind in KINDS if given.pop(kind)]
    times = {name: None if given[name] is None else moment(given[name]) for name in ("since", "until")}
    return msgspec.json.encode({"q": given.pop("text"), **given, **times, "kinds": kinds})
