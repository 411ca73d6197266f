"""Values: what may be stored, and its stored form.

The stored form of a JSON value is its JSON text (a ``str``); the stored form of ``bytes`` is those bytes. Stores and servers handle
stored forms only. A value is encoded once, before it is sent, and decoded once, after it is read.
"""

from __future__ import annotations

import math
import time
from typing import Any, TypeAlias

import msgspec

from .errors import InvalidValue, StoreError
from .limits import MAX_DEPTH, MAX_VALUE_BYTES

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
Stored: TypeAlias = str | bytes

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
MAX_NUMBER_BYTES = 4_400
"""A stored number is shorter: an int has up to 4,300 digits."""
_LONG = 1 << 20
"""Bytes of a long text. A server checks it in a thread."""


def encode(value: Any) -> Stored:
    """Return the stored form of a value.

    Args:
        value: None, bool, int (up to 4,300 digits, the limit of Python), finite float, str, list and dict of these (str keys,
            nested up to 100 deep), or bytes; up to 16 MiB.

    Raises:
        InvalidValue: anything that would not come back exactly as it was: other types (also tuples and subclasses, which JSON
            would convert), NaN, infinity, lone surrogates, other dict keys.
    """
    if type(value) is bytes:
        _check_size(len(value))
        return value
    return encode_json(value)


def encode_json(value: Any) -> str:
    """Return the JSON text of a value, as `encode` does, but refuse bytes: messages are JSON."""
    _check(value)
    try:
        text = _encode(value)
    except UnicodeEncodeError as error:
        raise InvalidValue(f"a str with a lone surrogate ({error.object[error.start]!a}) is not Unicode") from error
    except ValueError as error:
        raise InvalidValue(f"the value cannot be written as JSON: {error}") from error
    _check_size(len(text))
    return text.decode()


def decode(stored: Stored) -> Any:
    """Return the value of a stored form, or raise `StoreError` if it is damaged."""
    try:
        return stored if type(stored) is bytes else _decode(stored)
    except (msgspec.DecodeError, RecursionError, TypeError) as error:
        raise StoreError(f"the stored value is damaged: {error}. Restore a backup, or set the value again") from error


def decode_all(stored: list[str]) -> list[Any]:
    """Return the values of several JSON texts, in half of the time of `decode` for each."""
    try:
        values: list[Any] = _decode(f"[{','.join(stored)}]")
    except (msgspec.DecodeError, RecursionError):
        values = []
    return values if len(values) == len(stored) else [decode(text) for text in stored]


def check_json(text: bytes | msgspec.Raw) -> str:
    """Return JSON text of a client in its stored form, or raise `InvalidValue` if it cannot be stored.

    After a long text is decoded, which holds Python's lock, it rests for as long, so that other threads can work.
    """
    begun = time.monotonic()
    try:
        value = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue(f"not a JSON value that can be stored: {error}") from error
    if len(text) > _LONG:
        time.sleep(time.monotonic() - begun)
    return encode_json(value)


def add(key: str, stored: Stored | None, by: float) -> int | float:
    """Return the sum of a stored number (None: 0) and another, or raise `InvalidValue` if there is none."""
    number = 0 if stored is None else decode(stored)
    if type(number) is not int and type(number) is not float:
        raise InvalidValue(f"key {key!r} holds {type(number).__name__}, not a number: it cannot be incremented")
    try:
        total = number + by
    except OverflowError:
        total = math.inf
    if isinstance(total, float) and not math.isfinite(total):
        raise InvalidValue(f"the sum of {number!r:.40} and {by!r:.40} is too large for a float")
    return total


def size(stored: Stored) -> int:
    """Return the bytes that a stored form counts as."""
    return len(stored) if type(stored) is bytes or stored.isascii() else len(stored.encode())  # type: ignore[union-attr]


def _check_size(length: int) -> None:
    if length > MAX_VALUE_BYTES:
        raise InvalidValue(f"a value may have {MAX_VALUE_BYTES:,} bytes when stored, this one has {length:,}")


_PLAIN = frozenset({str, int, bool, type(None)})


def _check(value: Any) -> None:
    # Level by level, without recursion: deep nesting must not exhaust the stack before it is refused. Each item takes at least two
    # bytes of JSON, so `room` also ends the walk through a list that contains itself several times.
    level, room = [value], MAX_VALUE_BYTES // 2
    for _ in range(MAX_DEPTH + 1):
        deeper: list[Any] = []
        if (room := room - len(level)) < 0:
            raise InvalidValue(f"a value may have {MAX_VALUE_BYTES:,} bytes when stored, this one has more")
        for item in level:
            kind = type(item)
            if kind in _PLAIN:
                continue
            if kind is dict:
                _check_keys(item)
                deeper.extend(item.values())
            elif kind is list:
                deeper.extend(item)
            elif kind is not float:
                raise InvalidValue(_refusal(item))
            elif not math.isfinite(item):
                raise InvalidValue(f"{item} is not a JSON number; store None or a str instead")
        if not deeper:
            return
        level = deeper
    raise InvalidValue(f"the value is nested more than {MAX_DEPTH} deep, or contains itself")


def _check_keys(item: dict[Any, Any]) -> None:
    for key in item:
        if type(key) is not str:
            shown = repr(key) if len(repr(key)) <= 60 else repr(key)[:60] + "…"
            raise InvalidValue(f"a dict key in JSON is a str, not {type(key).__name__} ({shown}): convert it first")


def _refusal(item: Any) -> str:
    kind = type(item)
    for base in (tuple, dict, list, str, int, float):
        if issubclass(kind, base):
            cure = "list" if base is tuple else base.__name__
            return f"a {kind.__name__} would come back as another type: convert it with {cure}(…) first"
    if issubclass(kind, bytes | bytearray | memoryview):
        return f"{kind.__name__} can be stored only as a whole value of type bytes, not as another type or inside JSON"
    return (
        f"a {kind.__name__} is not a JSON value; use None, bool, int, float, str, list, dict, or bytes as a whole value"
    )
