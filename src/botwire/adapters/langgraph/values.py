"""The values of channels as they are stored: each once, and of a list that grows only what it grew by.

A channel of messages has a longer value at every step. Stored whole each time, a conversation would take the square of
its length. So the value of a list is a piece that goes on from an earlier version of the same channel: if the items of
that version are the first items of the new list, byte for byte, only the others are stored. The digest of the items
before says whether they are, so that nothing has to be read for it. A list that was changed in the middle goes on from the
last version before the change. When following pieces has come to cost more than the list is worth, it is stored whole again,
which happens so seldom that the sum stays linear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ...errors import StoreError
from .names import part

Typed: TypeAlias = tuple[str, bytes]
"""What a serializer of LangGraph makes of a value: a word for the form, and the bytes."""

SMALL = 64
"""Bytes of a value that is stored within the checkpoint, because an entry of its own would take more."""
OVERHEAD = 200
"""Bytes that an entry takes beside its value, roughly: its key, its row, its times."""
POINTS = 32
"""How many of the last versions of a list a new one can go on from."""

_encode = msgspec.msgpack.Encoder().encode


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """The stored value of a channel at a version. Only a list has more than the first two fields.

    ``base`` is the version whose items come before these, and ``start`` the first version that has to be read for all of
    them; ``count`` says how many items there are in all, and ``digest`` what they are; ``span`` is the cost of
    reading everything from ``start`` to here.
    """

    form: str
    data: bytes
    base: str | None = None
    start: str = ""
    count: int = 0
    digest: bytes = b""
    span: int = 0


_decoder = msgspec.msgpack.Decoder(Piece)


class Point(NamedTuple):
    """A version of a list that another can go on from."""

    version: str
    length: int
    digest: bytes


class Tip(NamedTuple):
    """What is known of a channel: its version, the value if it is small, and if it is a list, where to go on."""

    version: str
    small: Typed | None = None
    points: tuple[Point, ...] = ()
    start: str = ""
    span: int = 0


def version_part(version: Any) -> str:
    """Return a channel's version as a part of a key; versions of one kind sort as they are compared."""
    if type(version) is int and version >= 0:
        return f"{version:016x}"
    return f"{type(version).__name__}:{part(str(version))}"


def written(serde: SerializerProtocol, value: Any, version: str, before: Tip | None) -> tuple[Tip, bytes | None]:
    """Return what is then known of the channel, and the stored form of its value, or None when it is small.

    Args:
        serde: makes bytes of it.
        value: the channel's value.
        version: its version, as a part of a key.
        before: what is known of an earlier version.
    """
    if type(value) is list and value and (items := _items(serde, value)) is not None:
        return _list_written(serde, items, version, before)
    form, data = serde.dumps_typed(value)
    if len(data) <= SMALL:
        return Tip(version, (form, bytes(data))), None
    return Tip(version), _encode((form, bytes(data)))


def _list_written(
    serde: SerializerProtocol, items: list[bytes], version: str, before: Tip | None
) -> tuple[Tip, bytes | None]:
    size = sum(map(len, items))
    if size <= SMALL:
        return Tip(version, _sealed(serde, _array(items))), None
    points: tuple[Point, ...] = ()
    start, span = version, size + OVERHEAD
    if before is not None and before.points and before.points[-1].version < version:
        points = _common(items, before.points)
    kept = points[-1] if points else None
    if kept is not None and before is not None:
        added = sum(map(len, items[kept.length :])) + OVERHEAD
        if before.span + added <= 2 * (size + OVERHEAD * (len(items) + 1)):
            start, span = before.start, before.span + added
        else:
            kept = None
    digest = _digest(items)
    own = Point(version, len(items), digest)
    form, data = _sealed(serde, _array(items[kept.length :] if kept else items))
    piece = Piece(form, data, kept.version if kept else None, start, len(items), _sealed(serde, digest)[1], span)
    earlier = points[1 - POINTS :] if kept else ()
    return Tip(version, None, (*earlier, own), start, span), _encode(piece)


def _common(items: list[bytes], points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points up to the last whose items are the first of these."""
    last = points[-1]
    if last.length <= len(items) and _digest(items[: last.length]) == last.digest:
        return tuple(points)
    for index in range(len(points) - 2, -1, -1):
        point = points[index]
        if point.length <= len(items) and _digest(items[: point.length]) == point.digest:
            return tuple(points[: index + 1])
    return ()


def _digest(items: list[bytes]) -> bytes:
    # msgpack says by itself where an item ends, so that no two lists of as many items have the same bytes.
    return hashlib.blake2b(b"".join(items), digest_size=16).digest()


def _items(serde: SerializerProtocol, value: list[Any]) -> list[bytes] | None:
    """Return the bytes of each item, or None when the serializer is not one whose bytes can be put together to a list."""
    inner = serde.serde if type(serde) is EncryptedSerializer else serde
    if type(inner) is not JsonPlusSerializer:
        return None
    dumps = inner.dumps_typed
    items = []
    for item in value:
        form, data = dumps(item)
        if form != "msgpack":  # None and bytes have forms of their own, outside of msgpack
            return None
        items.append(data)
    return items


def _sealed(serde: SerializerProtocol, data: bytes) -> Typed:
    if type(serde) is EncryptedSerializer:
        name, data = serde.cipher.encrypt(data)
        return f"msgpack+{name}", data
    return "msgpack", data


def _opened(serde: SerializerProtocol, form: str, data: bytes) -> bytes:
    name = form.partition("+")[2]
    return serde.cipher.decrypt(name, data) if name and type(serde) is EncryptedSerializer else data


def _array(items: Sequence[bytes]) -> bytes:
    """Return the msgpack of a list of these items (https://github.com/msgpack/msgpack/blob/master/spec.md, array)."""
    count = len(items)
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2)
    else:
        head = b"\xdd" + count.to_bytes(4)
    return head + b"".join(items)


def decoded(stored: Any) -> Piece:
    """Return the stored value of a channel, or raise `StoreError` when it is none."""
    try:
        return _decoder.decode(stored)
    except (msgspec.MsgspecError, TypeError) as error:
        raise StoreError(f"the stored value of a channel is damaged: {error}. Restore a backup") from error


_FORMS = frozenset({"null", "bytes", "bytearray", "msgpack"})
"""What LangGraph's serializer writes. It would also read its old JSON, in which ``lc`` keys name classes, and pickles."""


def loaded(serde: SerializerProtocol, typed: Typed) -> Any:
    """Return the value of stored bytes, or raise `StoreError` when they are in a form that nothing here writes."""
    inner = serde.serde if type(serde) is EncryptedSerializer else serde
    if type(inner) is JsonPlusSerializer and typed[0].partition("+")[0] not in _FORMS:
        raise StoreError(f"a stored value is in the form {typed[0][:40]!r}, which is not read; nothing here writes it")
    return serde.loads_typed(typed)


def read(serde: SerializerProtocol, version: str, pieces: Mapping[str, Piece]) -> tuple[Any, Tip]:
    """Return the value of a channel at a version, and what is then known of it.

    Args:
        serde: makes values of bytes.
        version: which.
        pieces: the stored values of the channel from the piece's start up to it.

    Raises:
        StoreError: one of them is missing.
    """
    piece = pieces[version]
    if not piece.count:
        return loaded(serde, (piece.form, piece.data)), Tip(version)
    chain = [(version, piece)]
    while (base := chain[-1][1].base) is not None:
        if base not in pieces:
            raise StoreError(
                "a part of the thread is missing: it was deleted or pruned while a graph ran in it. Delete the thread"
            )
        chain.append((base, pieces[base]))
    chain.reverse()
    value: list[Any] = []
    for _, link in chain:
        value += loaded(serde, (link.form, link.data))
    points = tuple(
        Point(name, link.count, _opened(serde, link.form, link.digest)) for name, link in chain[-POINTS:] if link.count
    )
    return value, Tip(version, None, points, piece.start, piece.span)
