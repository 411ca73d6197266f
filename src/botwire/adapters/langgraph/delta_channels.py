"""The history of delta channels.

At most checkpoints such a channel has no value, only what tasks wrote to it. LangGraph makes the value of the writes at the ancestors
of a checkpoint, since the last that has a value: the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from ...namespace import Namespace
from .channel_values import MissingValue, read_value
from .checkpoints import Found, ThreadPath, versions_of
from .serial import loaded, loaded_dict
from .threads import Segments, is_stored, pending_writes, read_page, read_segments

_FIRST, _PAGE = 128, 992
"""Checkpoints to read at once, first and then. Most seeds are near."""
_ROOM = 8 * 1024 * 1024
"""About how many bytes a page may have, judged by the page before it."""


class Walk:
    """A walk from a checkpoint to its ancestors, until every channel has its seed or an ancestor is missing."""

    def __init__(self, serde: SerializerProtocol, id_: str | None, channels: Sequence[str]) -> None:
        self._serde = serde
        self._visited: set[str] = set()
        self.next = id_
        """The id of the next checkpoint on the way; None at first: the newest."""
        self.remaining = set(channels)
        self.is_over = not channels
        self.writes: dict[str, list[Any]] = {channel: [] for channel in channels}
        """What was written to each channel, the last first."""
        self.seeds: dict[str, Found] = {}
        """For each channel the checkpoint that has its seed."""

    def visit(self, found: Found) -> bool:
        """Take what a checkpoint has, if it is the next. Returns whether the one after it has a greater id, so is listed before it.

        Ids have the time, so this happens only where the clocks of two computers differ.
        """
        record = found.record
        if self.next is not None and record.id != self.next:
            self.is_over = record.id < self.next  # they are listed by their ids, the greatest first
            return False
        if self._visited:
            self._take(found)
        self._visited.add(record.id)
        self.next = record.parent
        self.is_over = not self.remaining or record.parent is None or record.parent in self._visited
        return not self.is_over and record.parent is not None and record.parent > record.id

    def _take(self, found: Found) -> None:
        for write in reversed(list(pending_writes(self._serde, found, self.remaining))):
            self.writes[write[1]].append(write)
        for channel in self.remaining & {*found.record.small, *found.record.held}:
            self.seeds[channel] = found
            self.remaining.discard(channel)


async def delta_history(
    memory: Namespace, serde: SerializerProtocol, path: ThreadPath, id_: str | None, channels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return for each channel what was written to it, in order, and its seed if there is one.

    It begins at the checkpoint with this id; None: at the newest.
    """
    while True:
        walk = await _walked(memory, path, Walk(serde, id_, channels))
        try:
            seeds = await _seeds(memory, serde, path, walk)
        except MissingValue:
            if all([await is_stored(memory, found) for found in walk.seeds.values()]):
                raise
            continue  # deleted in the meantime
        return {
            channel: {"writes": writes[::-1], **({"seed": seeds[channel]} if channel in seeds else {})}
            for channel, writes in walk.writes.items()
        }


async def _walked(memory: Namespace, path: ThreadPath, walk: Walk) -> Walk:
    after: str | None = _before(path, walk)
    most = _FIRST
    while after is not None and not walk.is_over:
        page, after = await read_page(memory, path.checkpoints, after, most)
        most = max(1, min(_PAGE, _ROOM * len(page) // (sum(map(_bytes, page)) or 1)))
        for found in page:
            if walk.visit(found):
                after = _before(path, walk)
                break
            if walk.is_over:
                break
    return walk


def _before(path: ThreadPath, walk: Walk) -> str:
    """Return what sorts right before the key of the next checkpoint: the key without its last character."""
    return "" if walk.next is None else path.checkpoint(walk.next)[:-1]


def _bytes(found: Found) -> int:
    writes = sum(len(data) for wrote in found.wrote for *_, data in wrote.writes)
    return writes + len(found.record.checkpoint[1]) + len(found.record.metadata[1])


async def _seeds(memory: Namespace, serde: SerializerProtocol, path: ThreadPath, walk: Walk) -> dict[str, Any]:
    """Return the seed of each channel that has one, or raise `MissingValue`."""
    seeds: dict[str, Any] = {}
    wanted: dict[str, tuple[str, str]] = {}
    for channel, found in walk.seeds.items():
        record = found.record
        if channel in record.small:
            seeds[channel] = loaded(serde, record.small[channel])
        else:
            version = versions_of(loaded_dict(serde, record.checkpoint), [channel])[channel]
            wanted[channel] = version, record.held[channel]
    segments: Segments = {}
    await read_segments(memory, path, wanted, segments)
    for channel, (version, _) in wanted.items():
        seeds[channel], _ = read_value(serde, version, segments[path, channel])
    return seeds
