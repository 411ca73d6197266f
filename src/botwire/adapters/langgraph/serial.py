"""LangGraph's serializer, but faster for messages.

Most of a state is messages. The serializer runs all validators of each one, which makes reading a thread take two to three
times as long. This module restores four LangChain classes without them, if exactly the fields of the class are stored.
Everything else goes through the serializer. Stored data never chooses which class is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ...errors import StoreError

T = TypeVar("T")

Typed: TypeAlias = tuple[str, bytes]
"""A value as LangGraph's serializers return it: the name of the format, and the bytes."""

_FORMATS = frozenset({"null", "bytes", "bytearray", "msgpack"})
"""What LangGraph's serializer writes. It would also read its old JSON, in which ``lc`` keys name classes, and pickles."""

_MODEL = getattr(jsonplus, "EXT_PYDANTIC_V2", None)
"""The msgpack extension in which the serializer writes a pydantic model: its module, its class, its fields."""

_MESSAGES: dict[tuple[Any, Any], tuple[Any, frozenset[str]]] = {
    (cls.__module__, cls.__name__): (cls, frozenset(cls.model_fields))
    for cls in (AIMessage, HumanMessage, SystemMessage, ToolMessage)
}
_NAMES = {cls: f"{module}.{name}" for (module, name), (cls, _) in _MESSAGES.items()}

_STRICT = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_NO_ITEM = b"\xc1"
"""The one byte that msgpack never uses (https://github.com/msgpack/msgpack/blob/master/spec.md)."""


def inner(serde: SerializerProtocol) -> JsonPlusSerializer | None:
    """Return LangGraph's own serializer, also out of its `EncryptedSerializer`, or None if it is another one."""
    found = serde.serde if type(serde) is EncryptedSerializer else serde
    return found if type(found) is JsonPlusSerializer else None


def loaded(serde: SerializerProtocol, typed: Typed) -> Any:
    """Return a stored value, or raise `StoreError` if botwire does not write its format."""
    own = inner(serde)
    if own is None:
        return serde.loads_typed(typed)
    form = typed[0].partition("+")[0]
    if form not in _FORMATS:
        raise StoreError(f"a stored value has the format {typed[0][:40]!r}, which botwire neither writes nor reads")
    data = decrypted(serde, typed)
    return unpacked(own, data) if form == "msgpack" else own.loads_typed((form, data))


def loaded_dict(serde: SerializerProtocol, typed: Typed) -> dict[str, Any]:
    """Return a stored dict, such as a checkpoint's metadata, or raise `StoreError` if it is something else."""
    value = loaded(serde, typed)
    if not isinstance(value, dict):
        raise StoreError(
            f"a stored checkpoint is damaged: it has a {type(value).__name__} in place of a dict. Restore a backup"
        )
    return value


def decoded(type_: type[T], stored: Any) -> T:
    """Return a stored struct, or raise `StoreError` if it is something else."""
    try:
        return msgspec.msgpack.decode(stored, type=type_)
    except (msgspec.MsgspecError, TypeError) as error:
        raise StoreError(f"a stored checkpoint is damaged: {error}. Restore a backup") from error


def unpacked(serde: JsonPlusSerializer, data: bytes) -> Any:
    """Return the value of msgpack bytes, as the serializer would, but faster for messages."""
    hook = getattr(serde, "_unpack_ext_hook", None)
    if hook is None or _MODEL is None:
        return serde.loads_typed(("msgpack", data))
    try:
        return ormsgpack.unpackb(data, ext_hook=_fast_hook(hook), option=ormsgpack.OPT_NON_STR_KEYS)
    except ormsgpack.MsgpackDecodeError as error:
        raise StoreError(f"a stored value is damaged: {error}. Restore a backup") from error


def _fast_hook(hook: Callable[[int, bytes], Any]) -> Callable[[int, bytes], Any]:
    def fast(code: int, data: bytes) -> Any:
        if code == _MODEL:
            try:
                module, name, fields, _ = ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
                cls, known = _MESSAGES[module, name]
                if fields.keys() == known:
                    return _message(cls, fields)
            except (AttributeError, LookupError, TypeError, ValueError):
                pass
        return hook(code, data)

    return fast


_set = object.__setattr__


def _message(cls: Any, fields: dict[str, Any]) -> Any:
    """Return a message as it was, in the way in which pydantic restores a pickled model, but faster."""
    message = cls.__new__(cls)
    _set(message, "__dict__", fields)
    _set(message, "__pydantic_fields_set__", set(fields))
    _set(message, "__pydantic_extra__", {})
    _set(message, "__pydantic_private__", None)
    return message


def fingerprint(serde: JsonPlusSerializer, items: Sequence[Any]) -> bytes | None:
    """Return bytes that differ for different items, or None if msgpack does not have an item.

    For messages these are their fields, which takes a tenth of the time of their stored form. The fingerprint of a list is
    the joined fingerprints of its parts.
    """
    try:
        rows = [[_NAMES[type(item)], item.__dict__, item.__pydantic_extra__] for item in items]
        return items_of(ormsgpack.packb(rows, option=_STRICT))
    except (KeyError, TypeError, ValueError):  # not a message, or a message with something that msgpack does not have
        if len(items) == 1:
            stored = packed(serde, items[0])
            return None if stored is None else _NO_ITEM + stored
    parts = [fingerprint(serde, [item]) for item in items]
    return None if None in parts else b"".join(parts)  # type: ignore[arg-type]


def packed(serde: JsonPlusSerializer, item: Any) -> bytes | None:
    """Return the msgpack of an item; None for None and bytes, which the serializer does not store as msgpack."""
    form, data = serde.dumps_typed(item)
    return data if form == "msgpack" else None


def encrypted(serde: SerializerProtocol, data: bytes) -> Typed:
    """Return msgpack bytes as the serializer would store them: encrypted, if it encrypts."""
    if type(serde) is EncryptedSerializer:
        name, data = serde.cipher.encrypt(data)
        return f"msgpack+{name}", data
    return "msgpack", data


def decrypted(serde: SerializerProtocol, typed: Typed) -> bytes:
    """Return the bytes as they were before `encrypted`."""
    name = typed[0].partition("+")[2]
    return serde.cipher.decrypt(name, typed[1]) if name and type(serde) is EncryptedSerializer else typed[1]


def array(count: int, items: bytes) -> bytes:
    """Return the msgpack of a list of `count` items (https://github.com/msgpack/msgpack/blob/master/spec.md, array)."""
    if count < 1 << 4:
        return bytes((0x90 | count,)) + items
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2) + items
    return b"\xdd" + count.to_bytes(4) + items


def items_of(data: bytes) -> bytes:
    """Return the items of a list's msgpack, without its head, or raise `StoreError` if it is not a list."""
    head = {0xDC: 3, 0xDD: 5}.get(data[0], 1 if data[0] & 0xF0 == 0x90 else 0) if data else 0
    if not head:
        raise StoreError("a stored part of a list is damaged. Restore a backup")
    return data[head:]
