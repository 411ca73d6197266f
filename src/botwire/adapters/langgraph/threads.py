"""Reading, deleting and copying the checkpoints of threads, for blocking and for awaiting callers (see `botwire.bridge`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from ...limits import MAX_WRITE_BYTES
from ...namespace import Namespace
from ...operations import Delete, Operation, Put
from ...queries import GetEntries, ListEntries, ListKeys
from ...records import Entry
from ...values import size
from .._base import batches
from .channel_values import ChannelHead, Segment, cached_list, is_unique, read_value
from .checkpoints import Found, HeadCache, ThreadPath, checkpoint_key, grouped, moved, versions_of
from .keys import part
from .serial import decoded, loaded, loaded_dict

Heads: TypeAlias = dict[str, ChannelHead]
Segments: TypeAlias = dict[tuple[ThreadPath, str], dict[str, Segment]]
"""The segments of channels that were read, by their versions."""

_FEW = 8
"""Entries to read beside checkpoints: what a few tasks wrote at them."""
_PAGE = 1000


async def read_page(memory: Namespace, prefix: str, after: str, most: int) -> tuple[list[Found], str | None]:
    """Return the next checkpoints, whole, at most `most` but at least one, and the key to continue after, or None."""
    entries: list[Entry] = []
    count = min(most + _FEW, _PAGE)
    while True:
        page = await memory.bridge.read(ListEntries(prefix, entries[-1].key if entries else after, count))
        entries += page
        found = list(grouped(entries))
        if len(page) < count:
            return found[:most], found[most - 1].keys[-1] if len(found) > most else None
        if len(found) > 1:
            found = found[:-1][:most]
            return found, found[-1].keys[-1]
        count = _PAGE


async def checkpoint_keys(memory: Namespace, prefix: str) -> list[str]:
    """Return the keys of the checkpoints of all threads with a prefix, the newest first."""
    keys: set[str] = set()
    after = ""
    while page := await memory.bridge.read(ListKeys(prefix, after, _PAGE)):
        keys.update(key for key in page if checkpoint_key(key) == key)
        after = page[-1]
    return sorted(keys, key=lambda key: key.split("/", 3)[3])


async def read_checkpoint(
    memory: Namespace, serde: SerializerProtocol, found: Found, cached: Mapping[str, ChannelHead], segments: Segments
) -> tuple[CheckpointTuple, Heads]:
    """Return a checkpoint as LangGraph expects it, and the state of its channels to cache. Adds what it reads to `segments`."""
    record, path = found.record, found.path
    checkpoint = loaded_dict(serde, record.checkpoint)
    versions = versions_of(checkpoint, [*record.small, *record.held])
    values = {channel: loaded(serde, typed) for channel, typed in record.small.items()}
    heads = {channel: ChannelHead(versions[channel], typed) for channel, typed in record.small.items()}
    missing: dict[str, tuple[str, str]] = {}
    for channel, start in record.held.items():
        version, head = versions[channel], cached.get(channel)
        if head is not None and head.items and head.version == version and is_unique(version):
            values[channel], heads[channel] = cached_list(serde, head), head
        else:
            missing[channel] = version, start
    await _read_segments(memory, path, missing, segments)
    for channel, (version, _) in missing.items():
        stored = segments[path, channel]
        if version in stored:
            values[channel], heads[channel] = read_value(serde, version, stored)
    writes = sorted(
        ((wrote.path, wrote.task, *write) for wrote in found.wrote for write in wrote.writes), key=lambda row: row[:3]
    )
    result = CheckpointTuple(
        config=path.config(record.id),
        checkpoint={**checkpoint, "channel_values": values},
        metadata=loaded_dict(serde, record.metadata),
        parent_config=path.config(record.parent) if record.parent else None,
        pending_writes=[(task, channel, loaded(serde, (form, data))) for _, task, _, channel, form, data in writes],
    )
    return result, heads


async def _read_segments(
    memory: Namespace, path: ThreadPath, wanted: Mapping[str, tuple[str, str]], segments: Segments
) -> None:
    """Read the stored values of channels, each at a version, with the segments that it continues, unless they are there."""
    missing = {
        channel: (version, start)
        for channel, (version, start) in wanted.items()
        if not _is_whole(version, segments.setdefault((path, channel), {}))
    }
    if not missing:
        return
    keys = {path.channel(channel) + (start or version): channel for channel, (version, start) in missing.items()}
    for entry in await memory.bridge.read(GetEntries(tuple(keys))):
        _keep(segments[path, keys[entry.key]], entry)
    for channel, (version, start) in missing.items():
        prefix, after, count = path.channel(channel), path.channel(channel) + start, 50
        while start and after < prefix + version:
            page = await memory.bridge.read(ListEntries(prefix, after, count))
            for entry in page:
                _keep(segments[path, channel], entry)
            if len(page) < count:
                break
            after, count = page[-1].key, _PAGE


def _keep(segments: dict[str, Segment], entry: Entry) -> None:
    segments[entry.key.rsplit("/", 1)[1]] = decoded(Segment, entry.stored)


def _is_whole(version: str, segments: Mapping[str, Segment]) -> bool:
    name: str | None = version
    while name is not None:
        if name not in segments:
            return False
        name = segments[name].base
    return True


# Deleting and copying


async def keep_only(
    memory: Namespace,
    serde: SerializerProtocol,
    prefix: str,
    cache: HeadCache,
    choose: Callable[[list[Found]], list[Found]],
) -> None:
    """Delete the checkpoints with a prefix that are not chosen, and the values that no other checkpoint needs.

    `choose` gets all checkpoints of a thread and checkpoint namespace, the newest first, and returns those to keep.
    """
    threads: dict[ThreadPath, list[Found]] = {}
    after: str | None = ""
    while after is not None:
        page, after = await read_page(memory, prefix, after, _PAGE)
        for item in page:
            threads.setdefault(item.path, []).append(item)
    operations: list[Operation] = []
    for path, found in threads.items():
        kept = choose(found)
        if len(kept) < len(found):
            ids = {item.record.id for item in kept}
            operations += [Delete(key) for item in found if item.record.id not in ids for key in item.keys]
            operations += [Delete(key) for key in await _unused(memory, serde, path, kept)]
            cache.forget(path.__eq__)
    await _write_all(memory, operations)


async def _unused(memory: Namespace, serde: SerializerProtocol, path: ThreadPath, kept: Sequence[Found]) -> list[str]:
    """Return the keys of the values that none of these checkpoints needs, not even as an earlier segment of a list."""
    segments = {entry.key: decoded(Segment, entry.stored) for entry in await _all(memory, path.values)}
    used: set[str] = set()
    for item in kept:
        versions = versions_of(loaded_dict(serde, item.record.checkpoint), item.record.held)
        for channel in item.record.held:
            prefix = path.channel(channel)
            key: str | None = prefix + versions[channel]
            while key in segments and key not in used:
                used.add(key)
                base = segments[key].base
                key = None if base is None else prefix + base
    return [key for key in segments if key not in used]


def newest(serde: SerializerProtocol, found: Sequence[Found]) -> list[Found]:
    """Return the newest checkpoint, and those before it that its delta channels are rebuilt from.

    Such a channel has no value at most steps, only what was written at the checkpoints since the last that has one
    (`BaseCheckpointSaver.prune` in langgraph-checkpoint 4.3).
    """
    kept = [found[0]]
    by_id = {item.record.id: item for item in found}
    missing = set(loaded_dict(serde, found[0].record.metadata).get("counters_since_delta_snapshot") or ())
    while missing and (parent := by_id.get(kept[-1].record.parent or "")) is not None and parent not in kept:
        kept.append(parent)
        missing -= {*parent.record.small, *parent.record.held}
    return kept


async def copy_entries(memory: Namespace, source: str, target: str) -> None:
    """Copy all entries of a thread to another."""
    operations: list[Operation] = []
    for kind in ("value", "checkpoint"):  # values first: if it takes several writes, no checkpoint lacks any
        prefix = f"{kind}/{part(source)}/"
        for entry in await _all(memory, prefix):
            stored = entry.stored
            if kind == "checkpoint" and checkpoint_key(entry.key) == entry.key:
                stored = moved(stored, target)
            operations.append(Put(f"{kind}/{part(target)}/{entry.key[len(prefix) :]}", stored))
    await _write_all(memory, operations)


async def _all(memory: Namespace, prefix: str) -> list[Entry]:
    entries: list[Entry] = []
    while page := await memory.bridge.read(ListEntries(prefix, entries[-1].key if entries else "", _PAGE)):
        entries += page
    return entries


async def _write_all(memory: Namespace, operations: Iterable[Operation]) -> None:
    """Write operations, in one write if they fit, otherwise in as few as possible."""
    for batch in batches(
        operations, size=lambda item: size(item.stored) if isinstance(item, Put) else 0, room=MAX_WRITE_BYTES // 2
    ):
        await memory.bridge.write(*batch)
