"""LangGraph's serializer, but faster for messages.

Most of a state is messages. The serializer builds each one with all its validators, which takes five times as long as
setting its fields. This module sets the fields of four LangChain classes, if exactly the fields of the class are stored.
Everything else goes through the serializer. The stored data never chooses which class is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ...errors import StoreError

Typed: TypeAlias = tuple[str, bytes]
"""What a serializer of LangGraph makes of a value: a word for the form, and the bytes."""

_FORMS = frozenset({"null", "bytes", "bytearray", "msgpack"})
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
    """Return LangGraph's own serializer, also out of its `EncryptedSerializer`, or None when it is another."""
    found = serde.serde if type(serde) is EncryptedSerializer else serde
    return found if type(found) is JsonPlusSerializer else None


def loaded(serde: SerializerProtocol, typed: Typed) -> Any:
    """Return the value of stored bytes, or raise `StoreError` when they are in a form that nothing here writes."""
    own = inner(serde)
    if own is None:
        return serde.loads_typed(typed)
    form = typed[0].partition("+")[0]
    if form not in _FORMS:
        raise StoreError(f"a stored value is in the form {typed[0][:40]!r}, which is not read; nothing here writes it")
    data = opened(serde, typed)
    return unpacked(own, data) if form == "msgpack" else own.loads_typed((form, data))


def loaded_dict(serde: SerializerProtocol, typed: Typed) -> dict[str, Any]:
    """Return the dict of stored bytes, such as a checkpoint's metadata, or raise `StoreError` when they are of something else."""
    value = loaded(serde, typed)
    if not isinstance(value, dict):
        raise StoreError(
            f"a stored checkpoint is damaged: it has a {type(value).__name__} for a dict. Restore a backup"
        )
    return value


def unpacked(serde: JsonPlusSerializer, data: bytes) -> Any:
    """Return the value of msgpack bytes, as the serializer would, but for messages faster."""
    hook = getattr(serde, "_unpack_ext_hook", None)
    if hook is None or _MODEL is None:
        return serde.loads_typed(("msgpack", data))
    try:
        return ormsgpack.unpackb(data, ext_hook=_quick(hook), option=ormsgpack.OPT_NON_STR_KEYS)
    except ormsgpack.MsgpackDecodeError as error:
        raise StoreError(f"a stored value is damaged: {error}. Restore a backup") from error


def _quick(hook: Callable[[int, bytes], Any]) -> Callable[[int, bytes], Any]:
    def quick(code: int, data: bytes) -> Any:
        if code == _MODEL:
            try:
                module, name, fields, _ = ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
                cls, known = _MESSAGES[module, name]
                if fields.keys() == known:
                    return _message(cls, fields)
            except (AttributeError, LookupError, TypeError, ValueError):
                pass
        return hook(code, data)

    return quick


_set = object.__setattr__


def _message(cls: Any, fields: dict[str, Any]) -> Any:
    """Return a message as it was, in the way in which pydantic itself copies a model."""
    message = cls.__new__(cls)
    _set(message, "__dict__", fields)
    _set(message, "__pydantic_fields_set__", set(fields))
    _set(message, "__pydantic_extra__", {})
    _set(message, "__pydantic_private__", None)
    return message


def prints_of(serde: JsonPlusSerializer, items: Sequence[Any]) -> bytes | None:
    """Return bytes that are other ones for any other items, or None when only the form of the whole says what they are.

    For messages these are their fields, which take a tenth of the time that their stored form takes. The bytes of two runs
    of items, joined, are those of both together.
    """
    try:
        rows = [[_NAMES[type(item)], item.__dict__, item.__pydantic_extra__] for item in items]
        return items_of(ormsgpack.packb(rows, option=_STRICT))
    except (KeyError, TypeError, ValueError):
        prints = [_print_of(serde, item) for item in items]
        return None if None in prints else b"".join(prints)  # type: ignore[arg-type]


def _print_of(serde: JsonPlusSerializer, item: Any) -> bytes | None:
    name = _NAMES.get(type(item))
    if name is not None:
        try:
            fields: bytes = ormsgpack.packb([name, item.__dict__, item.__pydantic_extra__], option=_STRICT)
        except (TypeError, ValueError):
            pass  # something in it that msgpack does not have
        else:
            return fields
    own = packed(serde, item)
    return None if own is None else _NO_ITEM + own


def packed(serde: JsonPlusSerializer, item: Any) -> bytes | None:
    """Return the msgpack of an item; None for those that the serializer keeps outside of msgpack: None and bytes."""
    form, data = serde.dumps_typed(item)
    return data if form == "msgpack" else None


def sealed(serde: SerializerProtocol, data: bytes) -> Typed:
    """Return msgpack bytes as the serializer would store them: encrypted, if it does that."""
    if type(serde) is EncryptedSerializer:
        name, data = serde.cipher.encrypt(data)
        return f"msgpack+{name}", data
    return "msgpack", data


def opened(serde: SerializerProtocol, typed: Typed) -> bytes:
    """Return bytes before they were encrypted, if they were."""
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
    """Return the items of a list's msgpack, without its head, or raise `StoreError` when it is not one."""
    head = {0xDC: 3, 0xDD: 5}.get(data[0], 1 if data[0] & 0xF0 == 0x90 else 0) if data else 0
    if not head:
        raise StoreError("a stored part of a list is damaged. Restore a backup")
    return data[head:]
