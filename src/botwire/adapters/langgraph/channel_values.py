"""How the values of channels are stored: each value once, and of a list that grows only the new items.

A channel of messages has a longer value at every step, so storing whole lists would take space in proportion to the square
of the length. A list is therefore stored as a segment that continues an earlier version of the channel, its anchor: the last
whose items are the first items of the new list. A digest of the items decides that, so nothing has to be read. If reading all
segments costs more than reading the list, the list is stored whole again. This is rare, so the space stays linear.
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
from .serial import Typed, array, decrypted, encrypted, fingerprint, inner, items_of, loaded, packed, unpacked

SMALL = 64
"""Bytes of a value that is stored within the checkpoint, because an entry of its own would take more."""
OVERHEAD = 200
"""Bytes that an entry takes beside its value, roughly: its key, its row, its times."""
DIGEST = 16
"""Bytes of the digest of a list's items."""
ANCHORS = 32
"""How many of the last versions of a list a new one can continue."""


class MissingValue(StoreError):
    """The value of a channel is missing. Perhaps its checkpoint was deleted while it was read."""

    def __init__(self, version: str) -> None:
        super().__init__(
            f"the value of a channel is missing (version {version}). Restore a backup, or delete the thread"
        )


_encode = msgspec.msgpack.Encoder().encode


class Segment(msgspec.Struct, array_like=True, frozen=True):
    """The stored value of a channel at a version. Only a list has more than the first two fields.

    ``base`` is the version whose items come before these, and ``start`` the first version to read for all items. ``count``
    is the number of all items, ``digest`` their digest, and ``replay_cost`` the bytes to read from ``start`` to here.
    """

    form: str
    data: bytes
    base: str | None = None
    start: str = ""
    count: int = 0
    digest: bytes = b""
    replay_cost: int = 0


class Anchor(NamedTuple):
    """A version of a list that another can continue: the number of its items, their digest, and the length of their bytes."""

    version: str
    length: int
    digest: bytes
    size: int


_EMPTY = Anchor("", 0, b"", 0)


class ChannelHead(NamedTuple):
    """The cached state of a channel: its version, the value if it is small, and the items and anchors of a list."""

    version: str
    small: Typed | None = None
    anchors: tuple[Anchor, ...] = ()
    start: str = ""
    replay_cost: int = 0
    items: bytes = b""


def version_part(version: Any) -> str:
    """Return a channel's version as a part of a key; versions of one kind sort as they are compared."""
    if type(version) is int and version >= 0:
        return f"{version:016x}"
    return f"{type(version).__name__}:{part(str(version))}"


def is_unique(version: str) -> bool:
    """Whether a version has a random part, as those of `BotWireSaver` do. Then it always has the same value."""
    return len(version) == 16 and version[:6] != "000000"


def stored_value(
    serde: SerializerProtocol, value: Any, version: str, before: ChannelHead | None
) -> tuple[ChannelHead, bytes | None]:
    """Return the new state of a channel, and the stored form of its value, or None if it is small.

    `before` is the cached state of the channel at an earlier version.
    """
    own = inner(serde)
    if type(value) is list and value and own is not None:
        anchors = before.anchors if before and before.anchors and before.anchors[-1].version < version else ()
        common = _common(own, value, anchors)
        if common is not None:
            return _stored_list(serde, own, value, version, before, *common)
    form, data = serde.dumps_typed(value)
    if len(data) <= SMALL:
        return ChannelHead(version, (form, bytes(data))), None
    return ChannelHead(version), _encode((form, bytes(data)))


def _stored_list(
    serde: SerializerProtocol,
    own: JsonPlusSerializer,
    value: list[Any],
    version: str,
    before: ChannelHead | None,
    anchors: tuple[Anchor, ...],
    digest: bytes,
) -> tuple[ChannelHead, bytes | None]:
    anchor = anchors[-1] if anchors else _EMPTY
    new = b"".join([packed(own, item) or b"" for item in value[anchor.length :]])
    items = before.items[: anchor.size] + new if before is not None else new
    if len(items) <= SMALL:
        return ChannelHead(version, encrypted(serde, array(len(value), items))), None
    start, replay_cost = version, len(items) + OVERHEAD
    if before is not None and anchors:
        continued = before.replay_cost + len(new) + OVERHEAD
        if continued <= 2 * (len(items) + OVERHEAD * (len(value) + 1)):
            start, replay_cost = before.start, continued
        else:
            anchors, anchor, new = (), _EMPTY, items
    form, data = encrypted(serde, array(len(value) - anchor.length, new))
    sealed_digest = encrypted(serde, digest)[1]
    segment = Segment(form, data, anchor.version or None, start, len(value), sealed_digest, replay_cost)
    last = Anchor(version, len(value), digest, len(items))
    return ChannelHead(version, None, (*anchors[1 - ANCHORS :], last), start, replay_cost, items), _encode(segment)


def _common(
    own: JsonPlusSerializer, items: list[Any], anchors: tuple[Anchor, ...]
) -> tuple[tuple[Anchor, ...], bytes] | None:
    """Return the anchors up to the last whose items are the first of these, and the digest of these.

    Each anchor has at least the items of the one before it. The digest is the first half of a SHA-256, for which processors
    have instructions. None: an item has no fingerprint.
    """
    hash_ = hashlib.sha256()
    done = common = 0
    ends = [anchor.length for anchor in anchors if anchor.length <= len(items)]
    for number, end in enumerate([*ends, len(items)]):
        prints = fingerprint(own, items[done:end])
        if prints is None:
            return None
        hash_.update(prints)
        done = end
        if number == common < len(ends) and hash_.digest()[:DIGEST] == anchors[number].digest:
            common += 1
    return anchors[:common], hash_.digest()[:DIGEST]


def read_value(serde: SerializerProtocol, version: str, segments: Mapping[str, Segment]) -> tuple[Any, ChannelHead]:
    """Return the value of a channel at a version, and the state of the channel to cache.

    `segments` are those of the channel, from the segment's start to the version.
    """
    if version not in segments:
        raise MissingValue(version)
    segment = segments[version]
    if not segment.count:
        return loaded(serde, (segment.form, segment.data)), ChannelHead(version)
    chain = [(version, segment)]
    while (base := chain[-1][1].base) is not None:
        if base not in segments:
            raise MissingValue(base)
        chain.append((base, segments[base]))
    chain.reverse()
    parts = [items_of(decrypted(serde, (link.form, link.data))) for _, link in chain]
    ends = list(accumulate(map(len, parts)))
    anchors = tuple(
        Anchor(name, link.count, decrypted(serde, (link.form, link.digest)), end)
        for (name, link), end in zip(chain[-ANCHORS:], ends[-ANCHORS:], strict=True)
    )
    head = ChannelHead(version, None, anchors, segment.start, segment.replay_cost, b"".join(parts))
    return cached_list(serde, head), head


def cached_list(serde: SerializerProtocol, head: ChannelHead) -> Any:
    """Return the list whose items are cached."""
    data = array(head.anchors[-1].length, head.items)
    own = inner(serde)
    return serde.loads_typed(("msgpack", data)) if own is None else unpacked(own, data)
