"""How the values of channels are stored: each value once, and of a list that grows only the new items.

A channel of messages has a longer value at every step. If each step stored the whole list, the space would grow with the
square of the length. So a list is stored as a piece that continues an earlier version of the channel. If the items of that
version are the first items of the new list, the piece contains only the others. A digest of the earlier items decides
this, so nothing has to be read. A list that was changed in the middle continues the last version before the change. When
reading the pieces costs more than the list itself, the list is stored whole again. This is rare, so the total stays linear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ...errors import StoreError
from .keys import part
from .serial import Typed, array, inner, items_of, loaded, opened, packed, prints_of, sealed, unpacked

SMALL = 64
"""Bytes of a value that is stored within the checkpoint, because an entry of its own would take more."""
OVERHEAD = 200
"""Bytes that an entry takes beside its value, roughly: its key, its row, its times."""
DIGEST = 16
"""Bytes of the digest of a list's items."""
POINTS = 32
"""How many of the last versions of a list a new one can continue."""

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
    """A version of a list that another can continue: the number of its items, their digest, and their bytes."""

    version: str
    length: int
    digest: bytes
    size: int


_NOTHING = Point("", 0, b"", 0)


class Tip(NamedTuple):
    """The cached state of a channel: its version, the value if it is small, and the items and points of a list."""

    version: str
    small: Typed | None = None
    points: tuple[Point, ...] = ()
    start: str = ""
    span: int = 0
    items: bytes = b""


def version_part(version: Any) -> str:
    """Return a channel's version as a part of a key; versions of one kind sort as they are compared."""
    if type(version) is int and version >= 0:
        return f"{version:016x}"
    return f"{type(version).__name__}:{part(str(version))}"


def is_unique(version: str) -> bool:
    """Whether a version has a random part, as those of `BotWireSaver` do: then it has one value for ever."""
    return len(version) == 16 and version[:6] != "000000"


def written(serde: SerializerProtocol, value: Any, version: str, before: Tip | None) -> tuple[Tip, bytes | None]:
    """Return what is then known of the channel, and the stored form of its value, or None when it is small.

    Args:
        serde: makes bytes of it.
        value: the channel's value.
        version: its version, as a part of a key.
        before: what is known of an earlier version.
    """
    own = inner(serde)
    if type(value) is list and value and own is not None:
        common = _common(own, value, _usable(version, before))
        if common is not None:
            return _list_written(serde, own, value, version, before, *common)
    form, data = serde.dumps_typed(value)
    if len(data) <= SMALL:
        return Tip(version, (form, bytes(data))), None
    return Tip(version), _encode((form, bytes(data)))


def _list_written(
    serde: SerializerProtocol,
    own: JsonPlusSerializer,
    value: list[Any],
    version: str,
    before: Tip | None,
    points: tuple[Point, ...],
    digest: bytes,
) -> tuple[Tip, bytes | None]:
    kept = points[-1] if points else _NOTHING
    new = b"".join([packed(own, item) or b"" for item in value[kept.length :]])
    items = before.items[: kept.size] + new if before is not None else new
    if len(items) <= SMALL:
        return Tip(version, sealed(serde, array(len(value), items))), None
    start, span = version, len(items) + OVERHEAD
    if before is not None and points:
        longer = before.span + len(new) + OVERHEAD
        if longer <= 2 * (len(items) + OVERHEAD * (len(value) + 1)):
            start, span = before.start, longer
        else:
            points, kept, new = (), _NOTHING, items
    form, data = sealed(serde, array(len(value) - kept.length, new))
    piece = Piece(form, data, kept.version or None, start, len(value), sealed(serde, digest)[1], span)
    last = Point(version, len(value), digest, len(items))
    return Tip(version, None, (*points[1 - POINTS :], last), start, span, items), _encode(piece)


def _usable(version: str, before: Tip | None) -> tuple[Point, ...]:
    return before.points if before is not None and before.points and before.points[-1].version < version else ()


def _common(
    own: JsonPlusSerializer, items: list[Any], points: tuple[Point, ...]
) -> tuple[tuple[Point, ...], bytes] | None:
    """Return the points up to the last whose items are the first of these, and the digest of these.

    Each point has at least the items of the one before it. The digest is the first half of a SHA-256, which processors have
    instructions for. None: nothing but the form of the whole says what the items are.
    """
    hash_ = hashlib.sha256()
    done = common = 0
    ends = [point.length for point in points if point.length <= len(items)]
    for number, end in enumerate([*ends, len(items)]):
        prints = prints_of(own, items[done:end])
        if prints is None:
            return None
        hash_.update(prints)
        done = end
        if number == common < len(ends) and hash_.digest()[:DIGEST] == points[number].digest:
            common += 1
    return points[:common], hash_.digest()[:DIGEST]


def decoded(stored: Any) -> Piece:
    """Return the stored value of a channel, or raise `StoreError` when it is none."""
    try:
        return _decoder.decode(stored)
    except (msgspec.MsgspecError, TypeError) as error:
        raise StoreError(f"the stored value of a channel is damaged: {error}. Restore a backup") from error


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
    parts = [items_of(opened(serde, (link.form, link.data))) for _, link in chain]
    ends = list(accumulate(map(len, parts)))
    points = tuple(
        Point(name, link.count, opened(serde, (link.form, link.digest)), end)
        for (name, link), end in zip(chain[-POINTS:], ends[-POINTS:], strict=True)
    )
    tip = Tip(version, None, points, piece.start, piece.span, b"".join(parts))
    return items_at(serde, tip), tip


def items_at(serde: SerializerProtocol, tip: Tip) -> Any:
    """Return the list of a tip that has its items."""
    data = array(tip.points[-1].length, tip.items)
    own = inner(serde)
    return serde.loads_typed(("msgpack", data)) if own is None else unpacked(own, data)
