"""The keys and stored forms of checkpoints, for blocking and for awaiting callers.

    checkpoint/{thread}/{ns}/{id, mirrored}            a checkpoint, its metadata and its small values
    checkpoint/{thread}/{ns}/{id, mirrored}/{task}     what a task wrote at it
    value/{thread}/{ns}/{channel}/{version}            the value of a channel, see `values`

So the newest checkpoint of a thread and what was written at it are the first entries with a prefix: one read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from langgraph.checkpoint.base import WRITES_IDX_MAP, Checkpoint, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from ...errors import StoreError
from ...operations import Put
from ...records import Entry
from ...values import encode
from . import channel_values as channels
from . import serial
from .channel_values import Piece, Tip, version_part
from .keys import mirrored, part
from .serial import Typed

_pack = msgspec.msgpack.Encoder().encode


class Record(msgspec.Struct, array_like=True, frozen=True):
    """A stored checkpoint, without the values that have entries of their own: ``held`` has their channels.

    For the channel of a list it says at which version reading has to start, see `Piece`; for others it has an empty text.
    """

    thread: str
    ns: str
    id: str
    parent: str | None
    run: str | None
    checkpoint: Typed
    metadata: Typed
    small: dict[str, Typed]
    held: dict[str, str]


class Wrote(msgspec.Struct, array_like=True, frozen=True):
    """What a task wrote at a checkpoint: for each write its index, its channel and its value."""

    task: str
    path: str
    writes: list[tuple[int, str, str, bytes]]


class Place(NamedTuple):
    """A thread and a checkpoint namespace within it."""

    thread: str
    ns: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Place:
        """Return the place that a config names."""
        configurable = config["configurable"]
        return cls(str(configurable["thread_id"]), configurable.get("checkpoint_ns") or "")

    @property
    def checkpoints(self) -> str:
        """What the keys of its checkpoints begin with."""
        return f"checkpoint/{part(self.thread)}/{part(self.ns)}/"

    @property
    def values(self) -> str:
        """What the keys of its values begin with."""
        return f"value/{part(self.thread)}/{part(self.ns)}/"

    def checkpoint(self, id_: str) -> str:
        """Return the key of a checkpoint."""
        return self.checkpoints + mirrored(id_)

    def channel(self, name: str) -> str:
        """Return what the keys of a channel's values begin with."""
        return f"{self.values}{part(name)}/"

    def config(self, id_: str) -> dict[str, Any]:
        """Return the config that names a checkpoint here."""
        return {"configurable": {"thread_id": self.thread, "checkpoint_ns": self.ns, "checkpoint_id": id_}}


class Found(NamedTuple):
    """A checkpoint as it was read, what tasks wrote at it, in no order, and the keys of all that, its own first."""

    record: Record
    wrote: list[Wrote]
    keys: list[str]

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.record.thread, self.record.ns)


_record = msgspec.msgpack.Decoder(Record)
_wrote = msgspec.msgpack.Decoder(Wrote)


def to_record(stored: Any) -> Record:
    """Return a stored checkpoint, or raise `StoreError` when it is none."""
    record: Record = _decoded(_record, stored)
    return record


def to_wrote(stored: Any) -> Wrote:
    """Return what a task wrote, or raise `StoreError` when it is not that."""
    wrote: Wrote = _decoded(_wrote, stored)
    return wrote


def _decoded(decoder: msgspec.msgpack.Decoder[Any], stored: Any) -> Any:
    try:
        return decoder.decode(stored)
    except (msgspec.MsgspecError, TypeError) as error:
        raise StoreError(f"a stored checkpoint is damaged: {error}. Restore a backup") from error


def checkpoint_key(key: str) -> str:
    """Return the key of the checkpoint that an entry is, or was written at. The mirrored id ends in the first ``~``."""
    start = len(key) - len(key.split("/", 3)[3])
    return key[: key.index("~", start) + 1]


def grouped(entries: Iterable[Entry]) -> Iterator[Found]:
    """Yield checkpoints, each with what was written at it, from entries in order.

    Writes whose checkpoint is not there (yet) are left out.
    """
    found: Found | None = None
    for entry in entries:
        key = checkpoint_key(entry.key)
        if key == entry.key:
            if found is not None:
                yield found
            found = Found(to_record(entry.stored), [], [key])
        elif found is not None and found.keys[0] == key:
            found.wrote.append(to_wrote(entry.stored))
            found.keys.append(entry.key)
    if found is not None:
        yield found


class Known:
    """What this process knows of the channels of the places that it used last, so that it need not read it again.

    Nothing is wrong when something is missing here: then a value is stored whole, or once more.
    """

    _MOST = 256
    _MOST_BYTES = 32 * 1024 * 1024

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._tips: OrderedDict[Place, dict[str, Tip]] = OrderedDict()
        self._bytes = 0

    def of(self, place: Place) -> Mapping[str, Tip]:
        """Return what is known of the channels of a place."""
        return self._tips.get(place, {})

    def learn(self, place: Place, tips: dict[str, Tip]) -> None:
        """Replace what is known of a place."""
        with self._mutex:
            self._drop(place)
            self._tips[place] = tips
            self._bytes += _size(tips)
            while len(self._tips) > self._MOST or (self._bytes > self._MOST_BYTES and len(self._tips) > 1):
                self._drop(next(iter(self._tips)))

    def forget(self, wanted: Callable[[Place], bool] = lambda _: True) -> None:
        """Forget places, because something was deleted there."""
        with self._mutex:
            for place in [place for place in self._tips if wanted(place)]:
                self._drop(place)

    def _drop(self, place: Place) -> None:
        self._bytes -= _size(self._tips.pop(place, {}))


def _size(tips: Mapping[str, Tip]) -> int:
    return sum(len(tip.items) for tip in tips.values())


def to_puts(
    serde: SerializerProtocol,
    place: Place,
    parent: str | None,
    checkpoint: Checkpoint,
    metadata: Mapping[str, Any],
    new: Container[str],
    known: Mapping[str, Tip],
) -> tuple[list[Put], dict[str, Tip]]:
    """Return what stores a checkpoint, and what is then known of its channels."""
    puts: list[Put] = []
    tips: dict[str, Tip] = {}
    small: dict[str, Typed] = {}
    held: dict[str, str] = {}
    for channel, value in checkpoint["channel_values"].items():
        version = version_part(checkpoint["channel_versions"].get(channel))
        tip = known.get(channel)
        if tip is None or tip.version != version or channel in new:
            tip, stored = channels.written(serde, value, version, tip)
            if stored is not None:
                puts.append(Put(place.channel(channel) + version, encode(stored)))
        tips[channel] = tip
        if tip.small is None:
            held[channel] = tip.start if tip.start != version else ""
        else:
            small[channel] = tip.small
    record = _to_record(serde, place, parent, checkpoint, metadata, small, held)
    puts.append(Put(place.checkpoint(record.id), encode(_pack(record))))
    # A channel without a value now may be a list again later, and then continue its old items.
    return puts, {**known, **tips}


def _to_record(
    serde: SerializerProtocol,
    place: Place,
    parent: str | None,
    checkpoint: Checkpoint,
    metadata: Mapping[str, Any],
    small: dict[str, Typed],
    held: dict[str, str],
) -> Record:
    run = metadata.get("run_id")
    return Record(
        place.thread,
        place.ns,
        checkpoint["id"],
        parent,
        run if isinstance(run, str) else None,
        serde.dumps_typed({name: value for name, value in checkpoint.items() if name != "channel_values"}),
        serde.dumps_typed(metadata),
        small,
        held,
    )


def to_wrote_of(
    serde: SerializerProtocol, place: Place, id_: str, writes: Iterable[tuple[str, Any]], task: str, path: str
) -> tuple[str, Wrote]:
    """Return the key for what a task wrote at a checkpoint, and what is stored under it when nothing is yet."""
    items: dict[int, tuple[int, str, str, bytes]] = {}
    for number, (channel, value) in enumerate(writes):
        index = WRITES_IDX_MAP.get(channel, number)
        items[index] = (index, channel, *serde.dumps_typed(value))
    return f"{place.checkpoint(id_)}/{part(task)}", Wrote(task, path, list(items.values()))


def to_stored(wrote: Wrote) -> Any:
    """Return the stored form of what a task wrote."""
    return encode(_pack(wrote))


def merged(before: Wrote, new: Wrote) -> Wrote:
    """Return both: of regular writes the first counts, of special ones, such as an error or an interrupt, the last."""
    items = {item[0]: item for item in before.writes}
    for item in new.writes:
        if item[0] < 0 or item[0] not in items:
            items[item[0]] = item
    return Wrote(before.task, new.path or before.path, list(items.values()))


def versions_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of a checkpoint's channels, or raise `StoreError` when it has none."""
    versions = checkpoint.get("channel_versions")
    if not isinstance(versions, dict):
        raise StoreError("a stored checkpoint is damaged: it has no versions of channels. Restore a backup")
    return versions


def to_tuple(
    serde: SerializerProtocol,
    found: Found,
    config: Any,
    pieces: Mapping[str, Mapping[str, Piece]],
    known: Mapping[str, Tip],
) -> tuple[CheckpointTuple, dict[str, Tip]]:
    """Return a checkpoint as LangGraph takes it, and what is known of its channels.

    Args:
        serde: makes values of bytes.
        found: the checkpoint.
        config: what named it; None: make one.
        pieces: the stored values of each channel by their versions.
        known: the channels whose items need not be read.
    """
    record, place = found.record, found.place
    rest = serial.loaded_dict(serde, record.checkpoint)
    versions = versions_of(rest)
    channel_values = {}
    tips = {}
    for channel, typed in record.small.items():
        channel_values[channel] = serial.loaded(serde, typed)
        tips[channel] = Tip(version_part(versions.get(channel)), typed)
    for channel in record.held:
        version = version_part(versions.get(channel))
        stored = pieces.get(channel, {})
        if channel in known:
            channel_values[channel], tips[channel] = channels.items_at(serde, known[channel]), known[channel]
        elif version in stored:
            channel_values[channel], tips[channel] = channels.read(serde, version, stored)
    writes = sorted(
        ((wrote.path, wrote.task, *write) for wrote in found.wrote for write in wrote.writes), key=lambda row: row[:3]
    )
    result = CheckpointTuple(
        config=config or place.config(record.id),
        checkpoint={**rest, "channel_values": channel_values},
        metadata=serial.loaded_dict(serde, record.metadata),
        parent_config=place.config(record.parent) if record.parent else None,
        pending_writes=[
            (task, channel, serial.loaded(serde, (form, data))) for _, task, _, channel, form, data in writes
        ],
    )
    return result, tips
