"""Request bodies: operations and searches as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from .. import operations, queries, timestamps
from ..errors import InvalidArgument
from ..limits import MAX_OPERATIONS, check_count, check_name, check_pop, check_prefix, check_ttl
from ..operations import Operation
from ..search.arguments import KINDS, check_vector, search_query
from ..timestamps import moment
from ..values import Stored, check_json
from .values import _decoded, _given, _json, _stored, _value


class _Valued(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    value: Raw | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET

    def stored(self) -> Stored:
        return _stored(self.value, self.value_base64)


class PutBody(_Valued):
    """The body of ``PUT /memory/{namespace}/{key}``."""

    ttl: float | None = None
    if_version: int | None = None

    def operation(self, key: str) -> operations.Put:
        """Return the checked operation."""
        return operations.Put(
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
        return operations.Delete(check_name(self.key))


class _Increment(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="increment"):
    key: str
    by: int | float = 1

    def checked(self) -> Operation:
        return operations.Increment(check_name(self.key), self.by)


class _NewMessage(msgspec.Struct, forbid_unknown_fields=True):
    data: Raw
    id: str | UnsetType = UNSET

    def checked(self) -> operations.NewMessage:
        name = timestamps.new_id() if isinstance(self.id, UnsetType) else check_name(self.id, "message id")
        return operations.NewMessage(name, check_json(self.data))


class AppendBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /sessions/{namespace}/{session}``."""

    messages: list[_NewMessage]

    def operation(self, session: str) -> operations.Append:
        """Return the checked operation."""
        messages = tuple(message.checked() for message in self.messages)
        return operations.Append(check_name(session, "session name"), messages)


class _Append(AppendBody, tag_field="op", tag="append"):
    session: str = ""

    def checked(self) -> Operation:
        return self.operation(self.session)


class _Clear(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="clear"):
    prefix: str = ""

    def checked(self) -> Operation:
        return operations.Clear(check_prefix(self.prefix))


class _Forget(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="forget"):
    session: str

    def checked(self) -> Operation:
        return operations.Forget(check_name(self.session, "session name"))


class _Pop(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="pop"):
    session: str
    count: int = 1
    if_ids: tuple[str, ...] | None = None

    def checked(self) -> Operation:
        ids = None if self.if_ids is None else tuple(check_name(name, "message id") for name in self.if_ids)
        return operations.Pop(check_name(self.session, "session name"), check_pop(self.count), ids)


class _Vector(msgspec.Struct, forbid_unknown_fields=True):
    vector: bytes
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None

    def checked(self) -> operations.Vector:
        if self.key is None:
            names = {"session": check_name(self.session, "session name"), "id": check_name(self.id, "message id")}
        else:
            names = {"key": check_name(self.key)}
        return operations.Vector(check_vector(self.vector), version=self.version, **names)


class _SetVectors(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="set_vectors"):
    model: str
    vectors: list[_Vector]

    def checked(self) -> Operation:
        return operations.SetVectors(check_name(self.model, "model"), tuple(item.checked() for item in self.vectors))


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
        case operations.Append(messages=items) | operations.SetVectors(vectors=items):
            return len(items)
    return 1


_PUT_BODY = msgspec.json.Decoder(PutBody)
_APPEND_BODY = msgspec.json.Decoder(AppendBody)
_WRITE_BODY = msgspec.json.Decoder(WriteBody)


def decode_put(key: str, body: bytes) -> operations.Put:
    """Return the operation in the body of a PUT, checked."""
    return _decoded(_PUT_BODY, body).operation(key)


def decode_append(session: str, body: bytes) -> operations.Append:
    """Return the operation in the body of a POST to a session, checked."""
    return _decoded(_APPEND_BODY, body).operation(session)


def decode_write(body: bytes) -> tuple[Operation, ...]:
    """Return the operations in the body of a POST to a namespace, checked."""
    return _decoded(_WRITE_BODY, body).checked()


def encode_write(operations: Sequence[Operation]) -> bytes:
    """Return the body of a POST to a namespace."""
    return _json({"operations": [_OPERATION[type(operation)](operation) for operation in operations]})


def _put(op: operations.Put) -> dict[str, Any]:
    optional = {"ttl": op.ttl, "if_version": op.if_version, "keep_ttl": op.keep_ttl or None}
    return {"op": "put", "key": op.key, **_value(op.stored), **{k: v for k, v in optional.items() if v is not None}}


def _append(op: operations.Append) -> dict[str, Any]:
    messages = [{"id": message.id, "data": Raw(message.stored.encode())} for message in op.messages]
    return {"op": "append", "session": op.session, "messages": messages}


def _pop(op: operations.Pop) -> dict[str, Any]:
    condition = {} if op.if_ids is None else {"if_ids": op.if_ids}
    return {"op": "pop", "session": op.session, "count": op.count, **condition}


_OPERATION: Mapping[type, Any] = {
    operations.Put: _put,
    operations.Delete: lambda op: {"op": "delete", "key": op.key},
    operations.Increment: lambda op: {"op": "increment", "key": op.key, "by": op.by},
    operations.Append: _append,
    operations.Clear: lambda op: {"op": "clear", "prefix": op.prefix},
    operations.Forget: lambda op: {"op": "forget", "session": op.session},
    operations.Pop: _pop,
    operations.SetVectors: lambda op: {
        "op": "set_vectors",
        "model": op.model,
        "vectors": [_given(v) for v in op.vectors],
    },
}


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

    def query(self) -> queries.Search:
        """Return the checked query."""
        given = msgspec.structs.asdict(self)
        kinds, by = given.pop("kinds"), {name: given.pop(name) for name in ("words", "vector", "model")}
        asked = search_query(given.pop("q"), **given, kinds=KINDS if kinds is None else kinds)
        if by["vector"] is not None:
            check_vector(by["vector"]), check_name(by["model"], "model")
        return msgspec.structs.replace(asked, **by)


_SEARCH_BODY = msgspec.json.Decoder(SearchBody)


def decode_search(body: bytes) -> queries.Search:
    """Return the query in the body of a POST to a namespace's search, checked."""
    return _decoded(_SEARCH_BODY, body).query()


def decode_where(text: str) -> dict[str, Any]:
    """Return the filter in a parameter of a GET."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"where is a JSON object of paths and values: {error}") from error


def encode_search(query: queries.Search) -> bytes:
    """Return the body of a POST to a namespace's search."""
    given = msgspec.structs.asdict(query)
    kinds = [kind for kind in KINDS if given.pop(kind)]
    times = {name: None if given[name] is None else moment(given[name]) for name in ("since", "until")}
    return _json({"q": given.pop("text"), **given, **times, "kinds": kinds})
