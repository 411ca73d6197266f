"""The logic of a saver, written once for blocking and for awaiting callers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeAlias

from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from ...aio import AsyncMemory
from ...bridge import awaiting, blocking
from ...errors import Conflict, InvalidArgument, InvalidValue, QuotaExceeded, StorageExceeded
from ...limits import MAX_OPERATIONS, MAX_WRITE_BYTES
from ...memory import Memory
from ...namespace import Namespace
from ...operations import Clear, Delete, Operation, Put
from ...queries import GetEntries, GetEntry, ListEntries, ListKeys
from ...records import Entry
from ...values import size
from . import channel_values, serial
from .channel_values import Piece, Tip, is_unique, version_part
from .checkpoints import (
    Found,
    Known,
    Place,
    checkpoint_key,
    grouped,
    merged,
    to_puts,
    to_record,
    to_stored,
    to_tuple,
    to_wrote,
    to_wrote_of,
    versions_of,
)
from .joint import LONGEST, MOMENT, Guest, Joint
from .keys import mirrored, part

Pieces: TypeAlias = dict[tuple[Place, str], dict[str, Piece]]

_FEW = 8
"""Entries in the first page: a checkpoint, and what a few tasks wrote at it."""
_PAGE = 1000
_REFUSED = (Conflict, InvalidArgument, InvalidValue, QuotaExceeded, StorageExceeded)
"""Errors that depend on what a write contains, and after which nothing is written."""


class Threads:
    """The checkpoints of a namespace, for blocking callers.

    Args:
        memory: the namespace.
        known: the cache of this process, shared with the async side.
        joint: where small writes wait for a checkpoint, shared too.
    """

    def __init__(self, memory: Memory | AsyncMemory, known: Known, joint: Joint) -> None:
        self._memory: Namespace = memory
        self._known = known
        self._joint = joint

    # Writing

    @blocking
    async def put(
        self,
        serde: SerializerProtocol,
        config: Mapping[str, Any],
        checkpoint: Checkpoint,
        metadata: Mapping[str, Any],
        new: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Store a checkpoint and its values in one write, together with the small writes that wait for it."""
        place = Place.of(config)
        parent = config["configurable"].get("checkpoint_id")
        puts, tips = to_puts(serde, place, parent, checkpoint, metadata, new, self._known.of(place))
        guests = self._joint.take()
        stored = False
        try:
            await self._memory.bridge.write(*puts, *[guest.operation for guest in guests])
            stored = True
        except _REFUSED:
            if not guests:
                raise
        finally:
            self._joint.bring(guests, arrived=stored)
        if not stored:  # perhaps because of a guest: a checkpoint must not fail for what it takes along
            await self._memory.bridge.write(*puts)
        self._known.learn(place, tips)
        return place.config(checkpoint["id"])

    @blocking
    async def put_writes(
        self,
        serde: SerializerProtocol,
        config: Mapping[str, Any],
        writes: Sequence[tuple[str, Any]],
        task: str,
        path: str,
    ) -> None:
        """Store what a task wrote, in one write with the next checkpoint if that comes at once (see `joint`)."""
        if not writes:
            return
        key, wrote = to_wrote_of(serde, Place.of(config), config["configurable"]["checkpoint_id"], writes, task, path)
        put = Put(key, to_stored(wrote), if_version=0)
        guest = self._joint.wait(put, size(put.stored))
        if guest is not None and await self._taken(guest):
            return
        while True:
            try:
                await self._memory.bridge.write(put)
            except Conflict:
                entry = await self._memory.bridge.read(GetEntry(key))
                both = merged(to_wrote(entry.stored), wrote) if entry else wrote
                put = Put(key, to_stored(both), if_version=entry.version if entry else 0)
            else:
                return

    async def _taken(self, guest: Guest) -> bool:
        """Wait for a host; returns whether one has stored the guest."""
        try:
            while (stored := await self._stored(guest, MOMENT)) is None and self._joint.is_worth_waiting:
                pass
            if stored is None and not self._joint.leave(guest):
                stored = await self._stored(guest, LONGEST)  # a host is writing it right now
        except BaseException:  # cancelled, or Ctrl-C: no host should take along what no caller waits for
            self._joint.leave(guest)
            raise
        return bool(stored)

    async def _stored(self, guest: Guest, seconds: float) -> bool | None:
        """Wait for what a host reports; None when it reports nothing in that time."""
        try:
            return guest.taken.result(seconds)
        except NotYet:
            return None

    # Reading

    @blocking
    async def get(self, serde: SerializerProtocol, config: Mapping[str, Any]) -> CheckpointTuple | None:
        """Return the checkpoint that a config names, or the newest of its place."""
        place = Place.of(config)
        id_ = config["configurable"].get("checkpoint_id")
        prefix = place.checkpoint(id_) if id_ else place.checkpoints
        found, _ = await self._page(prefix, "", _FEW, most=1)
        if not found:
            if not id_:
                self._known.forget(place.__eq__)
            return None
        result, tips = await self._tuple(serde, found[0], config if id_ else None, {})
        self._known.learn(place, tips)
        return result

    @blocking
    async def page(
        self,
        serde: SerializerProtocol,
        prefix: str,
        after: str,
        wanted: int,
        pieces: Pieces,
        filter_: Mapping[str, Any],
    ) -> tuple[list[CheckpointTuple], str | None]:
        """Return the next checkpoints with a prefix whose metadata matches the filter, and the key to continue after, or None."""
        found, after_ = await self._page(prefix, after, wanted + _FEW, most=wanted)
        fitting = [item for item in found if _fits(serial.loaded_dict(serde, item.record.metadata), filter_)]
        return [(await self._tuple(serde, item, None, pieces))[0] for item in fitting], after_

    @blocking
    async def keys(self, prefix: str) -> list[str]:
        """Return the keys of all checkpoints with a prefix, in whatever places they are, the newest first."""
        keys: set[str] = set()
        after = ""
        while page := await self._memory.bridge.read(ListKeys(prefix, after, _PAGE)):
            keys.update(key for key in page if checkpoint_key(key) == key)
            after = page[-1]
        return sorted(keys, key=lambda key: key.split("/", 3)[3])

    async def _page(self, prefix: str, after: str, count: int, *, most: int) -> tuple[list[Found], str | None]:
        """Return the next checkpoints, whole, at most `most` but at least one, and the key to continue after, or None."""
        entries: list[Entry] = []
        while True:
            page = await self._memory.bridge.read(ListEntries(prefix, entries[-1].key if entries else after, count))
            entries += page
            found = list(grouped(entries))
            if len(page) < count:
                return found[:most], found[most - 1].keys[-1] if len(found) > most else None
            if len(found) > 1:
                found = found[:-1][:most]
                return found, found[-1].keys[-1]
            count = _PAGE

    async def _tuple(
        self, serde: SerializerProtocol, found: Found, config: Any, pieces: Pieces
    ) -> tuple[CheckpointTuple, dict[str, Tip]]:
        place = found.place
        before = self._known.of(place)
        known: dict[str, Tip] = {}
        stored: dict[str, dict[str, Piece]] = {}
        if found.record.held:
            versions = versions_of(serial.loaded_dict(serde, found.record.checkpoint))
            wanted: dict[str, tuple[str, str]] = {}
            for channel, start in found.record.held.items():
                version = version_part(versions.get(channel))
                tip = before.get(channel)
                if tip is not None and tip.items and tip.version == version and is_unique(version):
                    known[channel] = tip
                else:
                    wanted[channel] = version, start
            stored = await self._load(place, wanted, pieces)
        return to_tuple(serde, found, config, stored, known)

    async def _load(
        self, place: Place, wanted: Mapping[str, tuple[str, str]], pieces: Pieces
    ) -> dict[str, dict[str, Piece]]:
        """Return the stored values of channels, each at a version, with the pieces that it continues; reads what is missing."""
        lacking = {
            channel: (version, start)
            for channel, (version, start) in wanted.items()
            if not _is_whole(version, pieces.setdefault((place, channel), {}))
        }
        found = {channel: pieces[place, channel] for channel in wanted}
        if not lacking:
            return found
        keys = {place.channel(channel) + (start or version): channel for channel, (version, start) in lacking.items()}
        for entry in await self._memory.bridge.read(GetEntries(tuple(keys))):
            _keep(pieces[place, keys[entry.key]], entry)
        for channel, (version, start) in lacking.items():
            if start:
                await self._load_chain(place.channel(channel), version, start, pieces[place, channel])
        return found

    async def _load_chain(self, prefix: str, version: str, start: str, pieces: dict[str, Piece]) -> None:
        after, count = prefix + start, 50
        while after < prefix + version:
            page = await self._memory.bridge.read(ListEntries(prefix, after, count))
            for entry in page:
                _keep(pieces, entry)
            if len(page) < count:
                return
            after, count = page[-1].key, _PAGE

    # Removing and copying

    @blocking
    async def delete(self, threads: Iterable[str]) -> None:
        """Remove all that threads have."""
        operations = [Clear(f"{kind}/{part(str(thread))}/") for thread in threads for kind in ("checkpoint", "value")]
        names = {str(thread) for thread in threads}
        self._known.forget(lambda place: place.thread in names)
        if operations:
            await self._memory.bridge.write(*operations)

    @blocking
    async def delete_runs(self, serde: SerializerProtocol, runs: Iterable[str]) -> None:
        """Remove the checkpoints of runs, and the values that no other checkpoint has."""
        names = set(runs)
        if names:
            await self._keep_only(serde, "checkpoint/", lambda found: [f for f in found if f.record.run not in names])

    @blocking
    async def prune(self, serde: SerializerProtocol, threads: Iterable[str]) -> None:
        """Keep of each namespace of threads only the newest checkpoint, and what that cannot do without."""
        for thread in threads:
            await self._keep_only(serde, f"checkpoint/{part(str(thread))}/", lambda found: _latest(serde, found))

    async def _keep_only(self, serde: SerializerProtocol, prefix: str, choose: Any) -> None:
        places: dict[Place, list[Found]] = {}
        after: str | None = ""
        while after is not None:
            found, after = await self._page(prefix, after, _PAGE, most=_PAGE)
            for item in found:
                places.setdefault(item.place, []).append(item)
        operations: list[Operation] = []
        for place, found in places.items():
            kept = choose(found)
            if len(kept) < len(found):
                ids = {item.record.id for item in kept}
                gone = [key for item in found if item.record.id not in ids for key in item.keys]
                gone += await self._unused(serde, place, kept)
                operations += map(Delete, gone)
                self._known.forget(place.__eq__)
        await self._write_all(operations)

    async def _unused(self, serde: SerializerProtocol, place: Place, kept: Sequence[Found]) -> list[str]:
        """Return the keys of the values that none of these checkpoints needs, not even as an earlier piece of a list."""
        pieces = {entry.key: channel_values.decoded(entry.stored) for entry in await self._all(place.values)}
        used: set[str] = set()
        for item in kept:
            versions = versions_of(serial.loaded_dict(serde, item.record.checkpoint))
            for channel in item.record.held:
                prefix = place.channel(channel)
                key: str | None = prefix + version_part(versions.get(channel))
                while key in pieces and key not in used:
                    used.add(key)
                    base = pieces[key].base
                    key = None if base is None else prefix + base
        return [key for key in pieces if key not in used]

    @blocking
    async def copy(self, source: str, target: str) -> None:
        """Copy all that a thread has to another."""
        if source == target:
            return
        operations: list[Operation] = []
        for kind in ("value", "checkpoint"):  # values first: if it takes several writes, no checkpoint lacks any
            prefix = f"{kind}/{part(source)}/"
            for entry in await self._all(prefix):
                stored = entry.stored
                if kind == "checkpoint" and checkpoint_key(entry.key) == entry.key:
                    stored = _moved(stored, target)
                operations.append(Put(f"{kind}/{part(target)}/{entry.key[len(prefix) :]}", stored))
        self._known.forget(lambda place: place.thread == target)
        await self._write_all(operations)

    async def _all(self, prefix: str) -> list[Entry]:
        entries: list[Entry] = []
        while True:
            page = await self._memory.bridge.read(ListEntries(prefix, entries[-1].key if entries else "", _PAGE))
            entries += page
            if len(page) < _PAGE:
                return entries

    async def _write_all(self, operations: Sequence[Operation]) -> None:
        """Write operations, in one write if they fit, else in as few as they take."""
        batch: list[Operation] = []
        room = MAX_WRITE_BYTES // 2
        for operation in operations:
            length = size(operation.stored) if isinstance(operation, Put) else 0
            if batch and (len(batch) == MAX_OPERATIONS or room < length):
                await self._memory.bridge.write(*batch)
                batch, room = [], MAX_WRITE_BYTES // 2
            batch.append(operation)
            room -= length
        if batch:
            await self._memory.bridge.write(*batch)


class AsyncThreads(Threads):
    """`Threads` for an event loop."""

    async def _stored(self, guest: Guest, seconds: float) -> bool | None:
        waiting = asyncio.wrap_future(guest.taken)
        try:
            await asyncio.wait([waiting], timeout=seconds)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()  # so that a report that comes later does not meet a closed loop

    put = awaiting(Threads.put)  # type: ignore[assignment]
    put_writes = awaiting(Threads.put_writes)  # type: ignore[assignment]
    get = awaiting(Threads.get)
    page = awaiting(Threads.page)  # type: ignore[assignment]
    keys = awaiting(Threads.keys)  # type: ignore[assignment]
    delete = awaiting(Threads.delete)  # type: ignore[assignment]
    delete_runs = awaiting(Threads.delete_runs)  # type: ignore[assignment]
    prune = awaiting(Threads.prune)  # type: ignore[assignment]
    copy = awaiting(Threads.copy)  # type: ignore[assignment]


def _fits(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(metadata.get(name) == value for name, value in wanted.items())


def _keep(pieces: dict[str, Piece], entry: Entry) -> None:
    pieces[entry.key.rsplit("/", 1)[1]] = channel_values.decoded(entry.stored)


def _is_whole(version: str, pieces: Mapping[str, Piece]) -> bool:
    name: str | None = version
    while name is not None:
        if name not in pieces:
            return False
        name = pieces[name].base
    return True


def _latest(serde: SerializerProtocol, found: Sequence[Found]) -> list[Found]:
    """Return the newest checkpoint, and those before it that its delta channels are rebuilt from.

    Such a channel has no value at most steps, only what was written at the checkpoints since the last that has one
    (`BaseCheckpointSaver.prune` in langgraph-checkpoint 4.3).
    """
    kept = [found[0]]
    by_id = {item.record.id: item for item in found}
    lacking = set(serial.loaded_dict(serde, found[0].record.metadata).get("counters_since_delta_snapshot") or ())
    while lacking and (parent := by_id.get(kept[-1].record.parent or "")) is not None and parent not in kept:
        kept.append(parent)
        lacking -= {*parent.record.small, *parent.record.held}
    return kept


def _moved(stored: Any, thread: str) -> Any:
    from msgspec.msgpack import encode
    from msgspec.structs import replace

    return encode(replace(to_record(stored), thread=thread))


def after_checkpoint(place: Place, id_: str) -> str:
    """Return a key after a checkpoint and all its writes, and before the next older checkpoint."""
    return f"{place.checkpoints}{mirrored(id_)}0"  # "0" follows "/"


def check_strategy(strategy: str) -> bool:
    """Whether pruning removes everything, or raise `InvalidArgument`."""
    if strategy not in {"keep_latest", "delete"}:
        raise InvalidArgument(f"strategy is 'keep_latest' or 'delete', not {strategy!r}")
    return strategy == "delete"
