"""The keys and stored forms of checkpoints.

    checkpoint/{thread}/{ns}/{id, mirrored}            a checkpoint, its metadata and its small values
    checkpoint/{thread}/{ns}/{id, mirrored}/{task}     what a task wrote at it
    value/{thread}/{ns}/{channel}/{version}            the value of a channel, see `channel_values`

So the newest checkpoint of a thread and what was written at it are the first entries with a prefix: one read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, Checkpoint
from langgraph.checkpoint.serde.base import SerializerProtocol

from ...errors import InvalidValue, StoreError
from ...operations import Put, Require
from ...records import Entry
from ...values import encode
from .channel_values import ChannelHead, stored_value, version_part
from .keys import check_text, mirrored, part, thread_name
from .serial import Typed, decoded

_pack = msgspec.msgpack.Encoder().encode


class Record(msgspec.Struct, array_like=True, frozen=True):
    """A stored checkpoint. ``held`` has the channels whose values have entries of their own.

    For the channel of a list ``held`` says at which version reading has to start, see `Segment`; for others it is empty.
    ``expires``: the thread may have expired, see `expiry`.
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
    expires: bool = False


class TaskWrites(msgspec.Struct, array_like=True, frozen=True):
    """What a task wrote at a checkpoint: for each write its index, its channel and its value."""

    task: str
    path: str
    writes: list[tuple[int, str, str, bytes]]

    def stored(self) -> Any:
        return encode(_pack(self))

    def merged(self, new: TaskWrites) -> TaskWrites:
        """Return both: of regular writes the first counts, of special ones, such as an error or an interrupt, the last."""
        items = {item[0]: item for item in self.writes}
        for item in new.writes:
            if item[0] < 0 or item[0] not in items:
                items[item[0]] = item
        return TaskWrites(self.task, new.path or self.path, list(items.values()))


class ThreadPath(NamedTuple):
    """A thread and a checkpoint namespace within it."""

    thread: str
    ns: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ThreadPath:
        configurable = config["configurable"]
        return cls(thread_name(configurable["thread_id"]), configurable.get("checkpoint_ns") or "")

    @property
    def checkpoints(self) -> str:
        return f"checkpoint/{part(self.thread)}/{part(self.ns)}/"

    @property
    def values(self) -> str:
        return f"value/{part(self.thread)}/{part(self.ns)}/"

    def checkpoint(self, id_: str) -> str:
        return self.checkpoints + mirrored(id_)

    def channel(self, name: str) -> str:
        """Return the prefix of the keys of a channel's values."""
        return f"{self.values}{part(name)}/"

    def config(self, id_: str) -> RunnableConfig:
        return {"configurable": {"thread_id": self.thread, "checkpoint_ns": self.ns, "checkpoint_id": id_}}


class Found(NamedTuple):
    """A checkpoint as it was read, the version of its entry, what tasks wrote at it, in no order, and all keys, its own first."""

    record: Record
    version: int
    wrote: list[TaskWrites]
    keys: list[str]

    @property
    def path(self) -> ThreadPath:
        return ThreadPath(self.record.thread, self.record.ns)


def moved(stored: Any, thread: str, *, expires: bool) -> Any:
    """Return the stored form of a checkpoint for another thread."""
    return encode(_pack(msgspec.structs.replace(decoded(Record, stored), thread=thread, expires=expires)))


def checkpoint_key(key: str) -> str:
    """Return the key of the checkpoint that an entry is, or was written at. The mirrored id ends in the first ``~``."""
    start = len(key) - len(key.split("/", 3)[3])
    return key[: key.index("~", start) + 1]


def grouped(entries: Iterable[Entry]) -> Iterator[Found]:
    """Yield checkpoints, each with what was written at it, from sorted entries.

    Writes without their checkpoint are left out: it may not be stored yet.
    """
    found: Found | None = None
    for entry in entries:
        key = checkpoint_key(entry.key)
        if key == entry.key:
            if found is not None:
                yield found
            found = Found(decoded(Record, entry.stored), entry.version, [], [key])
        elif found is not None and found.keys[0] == key:
            found.wrote.append(decoded(TaskWrites, entry.stored))
            found.keys.append(entry.key)
    if found is not None:
        yield found


class Remembered(NamedTuple):
    """A checkpoint that this process stored or read last in a thread: its key, its version, and the state of its channels.

    While the checkpoint is stored, so are all values that it has. So a write that relies on them requires the checkpoint.
    """

    key: str
    version: int
    heads: Mapping[str, ChannelHead]

    @property
    def requirements(self) -> list[Require]:
        return [Require(self.key, self.version)] if self.heads else []


NOTHING = Remembered("", 0, {})


class HeadCache:
    """The last checkpoints of the threads that this process used last.

    It only saves reads and space: a value that is missing here is read, or stored whole, or stored once more. Others may delete what
    is here at any time.
    """

    _MOST = 256
    _MOST_BYTES = 32 * 1024 * 1024

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._heads: OrderedDict[ThreadPath, Remembered] = OrderedDict()
        self._bytes = 0

    def get(self, path: ThreadPath) -> Remembered:
        return self._heads.get(path, NOTHING)

    def set(self, path: ThreadPath, remembered: Remembered) -> None:
        with self._mutex:
            self._drop(path)
            self._heads[path] = remembered
            self._bytes += _size(remembered)
            while len(self._heads) > self._MOST or (self._bytes > self._MOST_BYTES and len(self._heads) > 1):
                self._drop(next(iter(self._heads)))

    def forget(self, is_wanted: Callable[[ThreadPath], bool]) -> None:
        """Remove threads, because something was deleted there."""
        with self._mutex:
            for path in [path for path in self._heads if is_wanted(path)]:
                self._drop(path)

    def _drop(self, path: ThreadPath) -> None:
        self._bytes -= _size(self._heads.pop(path, NOTHING))


def _size(remembered: Remembered) -> int:
    return sum(len(head.items) for head in remembered.heads.values())


@contextmanager
def refusing_surrogates() -> Iterator[None]:
    """Raise `InvalidValue` if a text that is to be stored has a lone surrogate."""
    try:
        yield
    except (TypeError, UnicodeEncodeError) as error:
        if "surrogates" not in str(error):
            raise
        raise InvalidValue(
            "a name or a value has a lone surrogate, so it is not Unicode text. Nothing was written. Remove it, for example with "
            "text.encode(errors='replace').decode()"
        ) from error


@refusing_surrogates()
def to_puts(
    serde: SerializerProtocol,
    path: ThreadPath,
    parent: str | None,
    checkpoint: Checkpoint,
    metadata: Mapping[str, Any],
    new: Container[str],
    cached: Mapping[str, ChannelHead],
    *,
    expires: bool,
) -> tuple[list[Put], dict[str, ChannelHead]]:
    """Return the operations that store a checkpoint, its own the last, and the state of its channels to cache."""
    puts: list[Put] = []
    heads: dict[str, ChannelHead] = {}
    for channel, value in checkpoint["channel_values"].items():
        version = version_part(checkpoint["channel_versions"].get(channel))
        head = cached.get(channel)
        if head is None or head.version != version or channel in new:
            head, stored = stored_value(serde, value, version, head)
            if stored is not None:
                puts.append(Put(path.channel(channel) + version, encode(stored)))
        heads[channel] = head
    run = metadata.get("run_id")
    rest = {name: value for name, value in checkpoint.items() if name != "channel_values"}
    record = Record(
        path.thread,
        path.ns,
        checkpoint["id"],
        parent,
        run if isinstance(run, str) else None,
        serde.dumps_typed(rest),
        serde.dumps_typed(metadata),
        small={channel: head.small for channel, head in heads.items() if head.small is not None},
        held={
            channel: "" if head.start == head.version else head.start
            for channel, head in heads.items()
            if head.small is None
        },
        expires=expires,
    )
    puts.append(Put(path.checkpoint(record.id), encode(_pack(record))))
    return puts, heads


@refusing_surrogates()
def task_writes(serde: SerializerProtocol, writes: Iterable[tuple[str, Any]], task: str, path: str) -> TaskWrites:
    """Return the stored form of what a task wrote."""
    items: dict[int, tuple[int, str, str, bytes]] = {}
    for number, (channel, value) in enumerate(writes):
        index = WRITES_IDX_MAP.get(channel, number)
        items[index] = (index, check_text(channel), *serde.dumps_typed(value))
    return TaskWrites(check_text(task), check_text(path), list(items.values()))


def versions_of(checkpoint: Mapping[str, Any], channels: Iterable[str]) -> dict[str, str]:
    """Return the versions of channels as parts of keys, or raise `StoreError` if the checkpoint has none."""
    versions = checkpoint.get("channel_versions")
    if not isinstance(versions, dict):
        raise StoreError("a stored checkpoint is damaged: it has no versions of channels. Restore a backup")
    return {channel: version_part(versions.get(channel)) for channel in channels}
