"""BotWireSaver: the checkpoints of a graph's threads."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Unpack

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ...aio import AsyncMemory
from ...errors import InvalidArgument
from ...memory import Memory, Options
from .._base import OverMemory
from .checkpoints import Known, Place
from .joint import Joint
from .keys import part
from .threads import AsyncThreads, Pieces, Threads, after_checkpoint, check_strategy

_PAGE = 64
_FORK_BITS = 40


class BotWireSaver(OverMemory, BaseCheckpointSaver[Any]):
    """A persistent checkpointer for LangGraph.

    ::

        graph = builder.compile(checkpointer=BotWireSaver())
        graph.invoke({"messages": [("user", "I am Ada.")]}, {"configurable": {"thread_id": "user-42"}})

    When `put` returns, the checkpoint and its values are on disk, stored in one write. When `put_writes` returns, the
    writes of the task are on disk. Threads, processes and event loops may share a saver or a file.

    The value of a channel is stored once, even if many checkpoints have it. Of a list that grows, such as messages, each
    step stores only the new items. So the space for a conversation is proportional to its length.

    Args:
        namespace: the namespace that the threads are in.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        serde: the serializer. None: LangGraph's own msgpack serializer with its strict list of types. Other types
            come back as plain data. ``JsonPlusSerializer(allowed_msgpack_modules=[MyState])`` allows more.
            Lists share what they have in common with it and with LangGraph's `EncryptedSerializer` around it.
        options: as for `Memory`.

    Raises:
        InvalidName: the namespace is not allowed.
        InvalidArgument: the address or an option is wrong, or the serializer would read pickles, or make any class.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `Memory` names.
    """

    def __init__(
        self,
        namespace: str = "langgraph-checkpoints",
        url: str | None = None,
        *,
        serde: SerializerProtocol | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(serde=_checked(serde or JsonPlusSerializer(allowed_msgpack_modules=None)))
        self._memory = Memory(namespace, url, **options)
        known, joint = Known(), Joint()
        self._threads = Threads(self._memory, known, joint)
        self._async_threads = AsyncThreads(AsyncMemory.of(self._memory), known, joint)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; it is on disk when this returns.

        Args:
            config: names the thread, the checkpoint namespace, and as its ``checkpoint_id`` the parent.
            checkpoint: the checkpoint with the values of its channels.
            metadata: what `list` can filter by.
            new_versions: the channels that changed, with their versions.

        Returns:
            The config that names the checkpoint.

        Raises:
            InvalidValue: a channel's value is larger than 16 MiB; nothing was written.
        """
        known = get_checkpoint_metadata(config, metadata)
        return self._threads.put(self.serde, config, checkpoint, known, new_versions)  # type: ignore[return-value]

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote at a checkpoint; it is on disk when this returns.

        It may wait 3 ms, or until the checkpoint before it is stored, to share a sync to disk with the next checkpoint.
        """
        self._threads.put_writes(self.serde, config, writes, task_id, task_path)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a config names, or the newest of its thread and checkpoint namespace, or None."""
        return self._threads.get(self.serde, config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, the newest first, read in pages as they are needed.

        Args:
            config: names the thread and, if they are given, the checkpoint namespace and the checkpoint; None: all threads.
            filter: only those whose metadata has these values.
            before: only those older than the checkpoint that this config names.
            limit: the maximum number.
        """
        course = _Course(config, filter, before, limit)
        keys = None if course.prefix else self._threads.keys(course.root)
        while (step := course.step(keys)) is not None:
            found, course.after = self._threads.page(self.serde, *step, course.pieces, course.filter)
            yield from course.counted(found)

    def delete_thread(self, thread_id: str) -> None:
        """Remove all checkpoints of a thread, with all that was written at them, in one write."""
        self._threads.delete([thread_id])

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of runs (``run_id`` in their metadata), and the values that no other checkpoint has.

        It reads all checkpoints of the namespace. See LangGraph's warning about what delta channels need.
        """
        self._threads.delete_runs(self.serde, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of a thread, with all that was written at them, to another thread.

        This is one write if the thread has at most 10,000 entries and 16 MiB. Of a longer thread the values go first.
        """
        self._threads.copy(str(source_thread_id), str(target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove the old checkpoints of threads.

        Args:
            thread_ids: the threads.
            strategy: ``keep_latest``: of each checkpoint namespace the newest stays, with those before it that its delta
                channels are rebuilt from; ``delete``: nothing stays.
        """
        if check_strategy(strategy):
            self._threads.delete(thread_ids)
        else:
            self._threads.prune(self.serde, thread_ids)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        known = get_checkpoint_metadata(config, metadata)
        return await self._async_threads.put(self.serde, config, checkpoint, known, new_versions)  # type: ignore[return-value]

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        await self._async_threads.put_writes(self.serde, config, writes, task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await self._async_threads.get(self.serde, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        course = _Course(config, filter, before, limit)
        keys = None if course.prefix else await self._async_threads.keys(course.root)
        while (step := course.step(keys)) is not None:
            found, course.after = await self._async_threads.page(self.serde, *step, course.pieces, course.filter)
            for item in course.counted(found):
                yield item

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await self._async_threads.delete([thread_id])

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await self._async_threads.delete_runs(self.serde, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await self._async_threads.copy(str(source_thread_id), str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        if check_strategy(strategy):
            await self._async_threads.delete(thread_ids)
        else:
            await self._async_threads.prune(self.serde, thread_ids)

    def get_next_version(self, current: Any, channel: None = None) -> Any:  # noqa: ARG002 - LangGraph passes it
        """Return the version after one: a number that grows, and that no other branch of the thread will have."""
        if isinstance(current, str):  # of a checkpoint that another saver made
            return f"{int(current.partition('.')[0]) + 1:032}.{random.random():016}"  # noqa: S311 - not a secret
        step = (int(current or 0) >> _FORK_BITS) + 1
        return step << _FORK_BITS | random.getrandbits(_FORK_BITS)


class _Course:
    """The state of a listing: its arguments, the key to continue after, and how many checkpoints are still wanted."""

    def __init__(
        self,
        config: Mapping[str, Any] | None,
        filter_: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None,
        limit: int | None,
    ) -> None:
        configurable = config["configurable"] if config else {}
        self.filter = filter_ or {}
        self.pieces: Pieces = {}
        self.after: str | None = ""
        self._left = limit
        self._before = before["configurable"].get("checkpoint_id") if before else None
        self._id = configurable.get("checkpoint_id")
        self.root = f"checkpoint/{part(str(configurable['thread_id']))}/" if config else "checkpoint/"
        self.prefix = ""
        """The prefix of the keys, if the listing is of one place. Otherwise the keys of all places have to be merged."""
        if config and configurable.get("checkpoint_ns") is not None:
            place = Place.of(config)
            self.prefix = place.checkpoint(self._id) if self._id else place.checkpoints
            if self._before and not self._id:
                self.after = after_checkpoint(place, self._before)

    def step(self, keys: list[str] | None) -> tuple[str, str, int] | None:
        """Return what to read next: a prefix, the key to continue after, and how many; None: nothing."""
        if self._left is not None and self._left <= 0:
            return None
        if keys is None:
            count = _PAGE if self._left is None or self.filter else min(self._left, _PAGE)
            return None if self.after is None else (self.prefix, self.after, count)
        return (keys.pop(0), "", 1) if keys else None

    def counted(self, found: list[CheckpointTuple]) -> list[CheckpointTuple]:
        """Return those that were asked for."""
        ids = [(item, item.checkpoint["id"]) for item in found]
        wanted = [
            item for item, id_ in ids if (not self._id or id_ == self._id) and (not self._before or id_ < self._before)
        ]
        if self._left is not None:
            wanted = wanted[: self._left]
            self._left -= len(wanted)
        return wanted


def _checked(serde: SerializerProtocol) -> SerializerProtocol:
    inner = serde.serde if isinstance(serde, EncryptedSerializer) else serde
    if getattr(inner, "pickle_fallback", False):
        raise InvalidArgument(
            "this serializer falls back to pickle, which runs whatever code the stored bytes name: make it without "
            "pickle_fallback, and give types of your own to allowed_msgpack_modules"
        )
    if getattr(inner, "_allowed_msgpack_modules", None) is True:
        raise InvalidArgument(
            "this serializer makes whatever class the stored bytes name: make it with allowed_msgpack_modules=None, or "
            "with a list of the types that are to come back as they were, JsonPlusSerializer(allowed_msgpack_modules=[MyState])"
        )
    return serde
