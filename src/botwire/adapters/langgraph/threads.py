"""Reading, deleting and copying the checkpoints of threads, for blocking and for awaiting callers (see `botwire.bridge`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from ...backoff import MAX_ATTEMPTS, pause_after
from ...errors import Conflict
from ...limits import MAX_OPERATIONS, MAX_WRITE_BYTES
from ...namespace import Namespace
from ...operations import Delete, Operation, Put, Require, Result
from ...queries import GetEntries, GetEntry, ListEntries, ListKeys
from ...records import Entry
from ...values import size
from .._base import batches
from .channel_values import ChannelHead, MissingValue, Segment, cached_list, is_unique, read_value
from .checkpoints import Found, ThreadPath, checkpoint_key, grouped, moved, versions_of
from .expiry import Renewal
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
) -> tuple[CheckpointTuple, Heads] | None:
    """Return a checkpoint as LangGraph expects it, and the state of its channels to cache. Adds what it reads to `segments`.

    None: the checkpoint was deleted in the meantime.
    """
    record, path = found.record, found.path
    checkpoint = loaded_dict(serde, record.checkpoint)
    versions = versions_of(checkpoint, [*record.small, *record.held])
    try:
        values, heads = await _read_values(memory, serde, found, versions, cached, segments)
    except MissingValue:
        if await is_stored(memory, found):
            raise
        return None
    result = CheckpointTuple(
        config=path.config(record.id),
        checkpoint={**checkpoint, "channel_values": values},
        metadata=loaded_dict(serde, record.metadata),
        parent_config=path.config(record.parent) if record.parent else None,
        pending_writes=list(pending_writes(serde, found)),
    )
    return result, heads


async def is_stored(memory: Namespace, found: Found) -> bool:
    """Whether a checkpoint that was read is still there."""
    entry = await memory.bridge.read(GetEntry(found.keys[0]))
    return entry is not None and entry.version == found.version


def pending_writes(
    serde: SerializerProtocol, found: Found, channels: Container[str] | None = None
) -> Iterator[tuple[str, str, Any]]:
    """Yield what tasks wrote at a checkpoint, in LangGraph's order; `channels`: only to these."""
    rows = ((wrote.path, wrote.task, *write) for wrote in found.wrote for write in wrote.writes)
    for _, task, _, channel, form, data in sorted(rows, key=lambda row: row[:3]):
        if channels is None or channel in channels:
            yield task, channel, loaded(serde, (form, data))


async def _read_values(
    memory: Namespace,
    serde: SerializerProtocol,
    found: Found,
    versions: Mapping[str, str],
    cached: Mapping[str, ChannelHead],
    segments: Segments,
) -> tuple[dict[str, Any], Heads]:
    """Return the values of the channels at a checkpoint, or raise `MissingValue`, and the state of the channels."""
    record, path = found.record, found.path
    values = {channel: loaded(serde, typed) for channel, typed in record.small.items()}
    heads = {channel: ChannelHead(versions[channel], typed) for channel, typed in record.small.items()}
    missing: dict[str, tuple[str, str]] = {}
    for channel, start in record.held.items():
        version, head = versions[channel], cached.get(channel)
        if head is not None and head.items and head.version == version and is_unique(version):
            values[channel], heads[channel] = cached_list(serde, head), head
        else:
            missing[channel] = version, start
    await read_segments(memory, path, missing, segments)
    for channel, (version, _) in missing.items():
        values[channel], heads[channel] = read_value(serde, version, segments[path, channel])
    return values, heads


async def read_segments(
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
    memory: Namespace, serde: SerializerProtocol, prefix: str, choose: Callable[[list[Found]], list[Found]]
) -> None:
    """Delete the checkpoints with a prefix that are not chosen, and the values that no other checkpoint needs.

    `choose` gets all checkpoints of a thread and checkpoint namespace, the newest first, and returns those to keep.
    """
    deleted: list[Operation] = []
    changed: list[ThreadPath] = []
    for path, found in (await _checkpoints(memory, prefix)).items():
        kept = {item.record.id for item in choose(found)}
        keys = [key for item in found if item.record.id not in kept for key in item.keys]
        if keys:
            changed.append(path)
            deleted += map(Delete, keys)
    # First the checkpoints: from then on no running graph can continue their values.
    await _write_all(memory, deleted)
    for path in changed:
        await _delete_unused(memory, serde, path)


async def _delete_unused(memory: Namespace, serde: SerializerProtocol, path: ThreadPath) -> None:
    """Delete the values that no checkpoint needs, unless a running graph stores them again at this moment."""
    for attempt in range(MAX_ATTEMPTS):
        unused = await _unused(memory, serde, path)
        try:
            for some in batches(unused.items(), most=MAX_OPERATIONS // 2):
                await memory.bridge.write(*itertools.starmap(Require, some), *(Delete(key) for key, _ in some))
        except Conflict:
            await memory.bridge.sleep(pause_after(attempt))
        else:
            return


async def _checkpoints(memory: Namespace, prefix: str) -> dict[ThreadPath, list[Found]]:
    """Return the checkpoints with a prefix, by their threads and checkpoint namespaces, the newest first."""
    threads: dict[ThreadPath, list[Found]] = {}
    for item in grouped(await _all(memory, prefix)):
        threads.setdefault(item.path, []).append(item)
    return threads


async def _unused(memory: Namespace, serde: SerializerProtocol, path: ThreadPath) -> dict[str, int]:
    """Return the keys and versions of the values that no checkpoint needs, not even as an earlier segment of a list."""
    # In this order: a value that was read here was stored with its checkpoint, which is read then.
    values = await _all(memory, path.values)
    segments = _segments(values)
    found = (await _checkpoints(memory, path.checkpoints)).get(path, [])
    used = {key for item in found for key in _needed(serde, item, segments)}
    return {entry.key: entry.version for entry in values if entry.key not in used}


def _segments(entries: Iterable[Entry]) -> dict[str, Segment]:
    return {entry.key: decoded(Segment, entry.stored) for entry in entries}


def _needed(serde: SerializerProtocol, found: Found, segments: Mapping[str, Segment]) -> Iterator[str]:
    """Yield the keys of the values that a checkpoint needs, also of one that is missing."""
    versions = versions_of(loaded_dict(serde, found.record.checkpoint), found.record.held)
    for channel, version in versions.items():
        prefix = found.path.channel(channel)
        name: str | None = version
        while name is not None:
            yield prefix + name
            name = segments[prefix + name].base if prefix + name in segments else None


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


async def copy_entries(
    memory: Namespace, serde: SerializerProtocol, source: str, target: str, renewal: Renewal
) -> list[Result]:
    """Copy the checkpoints of a thread to another, after its renewal. One that is deleted in the meantime is left out.

    Returns the results of the renewal, if there is anything to copy.

    Raises:
        Conflict: the target was deleted in the meantime, while a copy took several writes.
    """
    # In this order: the values that a checkpoint needs were stored before it.
    checkpoints = await _all(memory, f"checkpoint/{part(source)}/")
    values = await _all(memory, f"value/{part(source)}/")
    segments = _segments(values)
    keys: set[str] = set()
    for item in grouped(checkpoints):
        needed = set(_needed(serde, item, segments))
        if needed <= segments.keys():
            keys |= {*item.keys, *needed}
    if not keys:
        return []
    operations = [*renewal.operations]
    for entry in (*values, *checkpoints):  # if it takes several writes, no checkpoint lacks any value
        if entry.key in keys:
            kind, _, rest = entry.key.split("/", 2)
            is_checkpoint = kind == "checkpoint" and checkpoint_key(entry.key) == entry.key
            stored = moved(entry.stored, target, expires=renewal.ttl is not None) if is_checkpoint else entry.stored
            operations.append(Put(f"{kind}/{part(target)}/{rest}", stored))
    return await _write_all(memory, operations)


async def _all(memory: Namespace, prefix: str) -> list[Entry]:
    entries: list[Entry] = []
    while page := await memory.bridge.read(ListEntries(prefix, entries[-1].key if entries else "", _PAGE)):
        entries += page
    return entries


async def _write_all(memory: Namespace, operations: Iterable[Operation]) -> list[Result]:
    """Write operations, in one write if they fit, otherwise in as few as possible. Each requires that the last put is still there."""
    required: list[Require] = []
    results: list[Result] = []
    for batch in batches(
        operations,
        most=MAX_OPERATIONS - 1,
        size=lambda item: size(item.stored) if isinstance(item, Put) else 0,
        room=MAX_WRITE_BYTES // 2,
    ):
        written = await memory.bridge.write(*required, *batch)
        results += written[len(required) :]
        required = [Require(batch[-1].key, int(written[-1]))] if isinstance(batch[-1], Put) else []  # type: ignore[arg-type]
    return results
