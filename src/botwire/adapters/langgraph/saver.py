"""BotWireSaver: the checkpoints of a graph's threads."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
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
from langgraph.store.base import TTLConfig

from ...backoff import MAX_ATTEMPTS, pause_after
from ...errors import Conflict, InvalidArgument
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Put
from ...queries import GetEntry
from .._base import async_form, blocking_method
from .checkpoints import NOTHING, Found, HeadCache, Remembered, TaskWrites, ThreadPath, task_writes, to_puts
from .configs import thread_ttl
from .delta_channels import delta_history
from .drop_in import DropIn
from .expiry import Expiry, deletion, is_about_expiry
from .filters import check_field, field
from .keys import mirrored, part, thread_name
from .serial import decoded, loaded_dict
from .threads import Segments, checkpoint_keys, copy_entries, keep_only, newest, read_checkpoint, read_page
from .write_batching import WriteBatcher

_PAGE = 64
_FORK_BITS = 40


class BotWireSaver(DropIn, BaseCheckpointSaver[Any]):
    """A persistent checkpointer for LangGraph.

    When `put` returns, the checkpoint and its values are on disk, stored in one write. When `put_writes` returns, the
    writes of the task are on disk. Threads, processes and event loops may share a saver or a file. Of a list that grows, such as
    messages, each step stores only the new items.

    Args:
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        serde: the serializer. None: LangGraph's own msgpack serializer with its strict list of types. Other types
            come back as plain data. ``JsonPlusSerializer(allowed_msgpack_modules=[MyState])`` allows more.
            Lists share their common items with it and with LangGraph's `EncryptedSerializer` around it.
        ttl: seconds, or a timedelta, after the last checkpoint of a thread until the thread expires, with all its checkpoints and
            writes. Or LangGraph's `TTLConfig`: ``default_ttl`` in minutes, and ``refresh_on_read``: `get_tuple` delays it too.
            None: a thread keeps the time to live that it has, or has none.

    Raises:
        InvalidArgument: the serializer would read pickles, or create any class. Or the ttl is not valid.
    """

    def __init__(
        self,
        namespace: str = "langgraph-checkpoints",
        url: str | None = None,
        *,
        serde: SerializerProtocol | None = None,
        ttl: float | timedelta | TTLConfig | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(serde=_checked(serde or JsonPlusSerializer(allowed_msgpack_modules=None)))
        self._memory = Memory(namespace, url, **options)
        seconds, renews_on_read = thread_ttl(ttl)
        self._expiry = Expiry(seconds, renews_on_read=renews_on_read)
        self._cache = HeadCache()
        self._batcher = WriteBatcher()

    @blocking_method
    async def put(
        self,
        memory: Namespace,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint. It is on disk when this returns. `InvalidValue`: the value of a channel is larger than 16 MiB."""
        path, parent = ThreadPath.of(config), config["configurable"].get("checkpoint_id")
        thread, metadata = part(path.thread), get_checkpoint_metadata(config, metadata)
        before = self._cache.get(path)
        for attempt in itertools.count():
            renewal = await self._expiry.renewal(memory, thread)
            if renewal.begins:
                before = NOTHING
            expires = renewal.ttl is not None
            puts, heads = to_puts(
                self.serde, path, parent, checkpoint, metadata, new_versions, before.heads, expires=expires
            )
            try:
                results = await self._batcher.write(memory, [*renewal.operations, *before.requirements, *puts])
            except Conflict as conflict:
                if is_about_expiry(conflict) and attempt < MAX_ATTEMPTS:
                    await self._expiry.read(memory, thread)
                    await memory.bridge.sleep(pause_after(attempt))
                elif before is NOTHING:
                    raise
                else:
                    before = NOTHING  # deleted in the meantime, perhaps by another process: store all values again
            else:
                break
        self._expiry.renewed(thread, renewal, results)
        self._cache.set(path, Remembered(puts[-1].key, int(results[-1]), heads))  # type: ignore[arg-type]
        await self._expiry.sweep(memory)
        return path.config(checkpoint["id"])

    @blocking_method
    async def put_writes(
        self,
        memory: Namespace,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote at a checkpoint. It is on disk when this returns.

        It may wait 3 ms, or until the checkpoint before it is stored, to share a sync to disk with the next checkpoint.
        """
        if not writes:
            return
        key = f"{ThreadPath.of(config).checkpoint(config['configurable']['checkpoint_id'])}/{part(task_id)}"
        new = task_writes(self.serde, writes, task_id, task_path)
        put = Put(key, new.stored(), if_version=0)
        if await self._batcher.join(memory, put):
            return
        while True:
            try:
                await memory.bridge.write(put)
            except Conflict:
                entry = await memory.bridge.read(GetEntry(key))
                both = decoded(TaskWrites, entry.stored).merged(new) if entry else new
                put = Put(key, both.stored(), if_version=entry.version if entry else 0)
            else:
                return

    @blocking_method
    async def get_tuple(self, memory: Namespace, config: RunnableConfig) -> CheckpointTuple | None:
        path, id_ = ThreadPath.of(config), config["configurable"].get("checkpoint_id")
        while True:
            found, _ = await self._read_page(memory, path.checkpoint(id_) if id_ else path.checkpoints, "", 1)
            if not found:
                self._cache.forget(path.__eq__)
                return None
            read = await read_checkpoint(memory, self.serde, found[0], self._cache.get(path).heads, {})
            if read is not None:
                result, heads = read
                self._cache.set(path, Remembered(found[0].keys[0], found[0].version, heads))
                await self._expiry.renew_on_read(memory, part(path.thread))
                return result._replace(config=config) if id_ else result

    async def _read_page(
        self, memory: Namespace, prefix: str, after: str, most: int
    ) -> tuple[Sequence[Found], str | None]:
        """As `read_page`. A thread that has expired has no checkpoints."""
        thread = prefix.split("/")[1]
        while True:
            # First, so that nothing of an expired thread is returned if the thread begins again in between.
            if await self._expiry.has_expired(memory, thread):
                return [], None
            found, next_ = await read_page(memory, prefix, after, most)
            if self._expiry.is_watched(thread) or not any(item.record.expires for item in found):
                return found, next_
            await self._expiry.read(memory, thread)
            if not self._expiry.is_watched(thread):  # deleted in the meantime
                return [], None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, the newest first, read in pages as they are needed."""
        cursor = ListCursor(config, filter, before, limit)
        while cursor.has_more:
            yield from self._next_page(cursor)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        cursor = ListCursor(config, filter, before, limit)
        while cursor.has_more:
            for item in await self._anext_page(cursor):
                yield item

    @blocking_method
    async def _next_page(self, memory: Namespace, cursor: ListCursor) -> Sequence[CheckpointTuple]:
        if cursor.prefixes is None:
            cursor.prefixes = deque(await checkpoint_keys(memory, cursor.root))
            return []
        found, after = await self._read_page(memory, cursor.prefixes[0], cursor.after, cursor.page_size)
        wanted = [item for item in found if cursor.is_wanted(item.record.id)]
        if cursor.filter:
            wanted = [item for item in wanted if cursor.matches(loaded_dict(self.serde, item.record.metadata))]
        read = [
            await read_checkpoint(memory, self.serde, item, self._cache.get(item.path).heads, cursor.segments)
            for item in cursor.advanced(wanted, after)
        ]
        whole = [one[0] for one in read if one is not None]
        cursor.count(len(whole))
        return whole

    @blocking_method
    async def get_delta_channel_history(
        self, memory: Namespace, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """Return for each channel what was written to it since it last had a value, and that value as ``seed``.

        It is read in pages from the ancestors of the checkpoint, of which each fork has its own.
        """
        path, id_ = ThreadPath.of(config), config["configurable"].get("checkpoint_id") or None
        if not channels or await self._expiry.has_expired(memory, part(path.thread)):
            return {channel: {"writes": []} for channel in channels}
        return await delta_history(memory, self.serde, path, id_, channels)

    @blocking_method
    async def delete_thread(self, memory: Namespace, thread_id: str) -> None:
        await self._delete(memory, [thread_id])

    @blocking_method
    async def delete_for_runs(self, memory: Namespace, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs (``run_id`` in their metadata), and the values that no other checkpoint has.

        It reads all checkpoints of the namespace. See LangGraph's warning about what delta channels need.
        """
        if runs := set(run_ids):
            await keep_only(
                memory,
                self.serde,
                "checkpoint/",
                lambda found: [item for item in found if item.record.run not in runs],
            )

    @blocking_method
    async def copy_thread(self, memory: Namespace, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, in one write if it has at most 10,000 entries and 16 MiB. Of a longer one the values are copied first."""
        source, target = thread_name(source_thread_id), thread_name(target_thread_id)
        if source == target:
            return
        life = await self._expiry.read(memory, part(source))
        if life.has_expired:
            return
        self._expiry.forget(part(target))
        await self._expiry.read(memory, part(target))
        renewal = await self._expiry.renewal(memory, part(target), life.ttl)
        results = await copy_entries(memory, self.serde, source, target, renewal)
        self._expiry.renewed(part(target), renewal, results)

    @blocking_method
    async def prune(self, memory: Namespace, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the old checkpoints of threads, or with the strategy ``delete`` all checkpoints.

        ``keep_latest`` keeps the newest of each checkpoint namespace, and those before it that its delta channels are rebuilt from.
        """
        if strategy not in {"keep_latest", "delete"}:
            raise InvalidArgument(f"strategy is 'keep_latest' or 'delete', not {strategy!r}")
        if strategy == "delete":
            await self._delete(memory, thread_ids)
            return
        for prefix in [f"checkpoint/{part(thread_name(thread))}/" for thread in thread_ids]:
            await keep_only(memory, self.serde, prefix, lambda found: newest(self.serde, found))

    async def _delete(self, memory: Namespace, threads: Iterable[str]) -> None:
        names = [thread_name(thread) for thread in threads]
        self._cache.forget(lambda path: path.thread in names)
        if names:
            await memory.bridge.write(*[operation for name in names for operation in deletion(part(name))])
            for name in names:
                self._expiry.forget(part(name))

    aput = async_form(put)
    aput_writes = async_form(put_writes)
    aget_tuple = async_form(get_tuple)
    aget_delta_channel_history = async_form(get_delta_channel_history)
    _anext_page = async_form(_next_page)
    adelete_thread = async_form(delete_thread)
    adelete_for_runs = async_form(delete_for_runs)
    acopy_thread = async_form(copy_thread)
    aprune = async_form(prune)

    def get_next_version(self, current: Any, channel: None = None) -> Any:  # noqa: ARG002 - LangGraph passes it
        """Return the version after one: a greater number, which no other branch of the thread will have."""
        if isinstance(current, str):  # of a checkpoint that another saver made
            return f"{int(current.partition('.')[0]) + 1:032}.{random.random():016}"  # noqa: S311 - not a secret
        step = (int(current or 0) >> _FORK_BITS) + 1
        return step << _FORK_BITS | random.getrandbits(_FORK_BITS)


class ListCursor:
    """The state of a listing: its arguments, where to continue, and how many checkpoints are still to return."""

    def __init__(
        self,
        config: Mapping[str, Any] | None,
        filter_: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None,
        limit: int | None,
    ) -> None:
        configurable = config["configurable"] if config else {}
        self.filter = {check_field(name): value for name, value in (filter_ or {}).items()}
        self.segments: Segments = {}
        self.after = ""
        self._left = None if limit is None else max(limit, 0)
        self._before = before["configurable"].get("checkpoint_id") if before else None
        self._id = configurable.get("checkpoint_id")
        self.root = f"checkpoint/{part(thread_name(configurable['thread_id']))}/" if config else "checkpoint/"
        self.prefixes: deque[str] | None = None
        """Prefixes of keys to list, one after the other. None: the keys of all checkpoints with the root, still to be read."""
        if config and configurable.get("checkpoint_ns") is not None:
            path = ThreadPath.of(config)
            self.prefixes = deque([path.checkpoint(self._id) if self._id else path.checkpoints])
            if self._before and not self._id:  # continue after that checkpoint and all its writes: "0" follows "/"
                self.after = f"{path.checkpoints}{mirrored(self._before)}0"

    @property
    def has_more(self) -> bool:
        return self._left != 0 and (self.prefixes is None or bool(self.prefixes))

    @property
    def page_size(self) -> int:
        return _PAGE if self._left is None or self.filter else min(self._left, _PAGE)

    def is_wanted(self, id_: str) -> bool:
        return (not self._id or id_ == self._id) and (not self._before or id_ < self._before)

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return all(field(metadata, name) == value for name, value in self.filter.items())

    def advanced(self, wanted: Sequence[Any], after: str | None) -> Sequence[Any]:
        """Continue after a page: return as many of its checkpoints as are still to return. Those that are returned are to be counted."""
        assert self.prefixes is not None
        if after is None:
            self.prefixes.popleft()
        self.after = after or ""
        return wanted[: self._left]

    def count(self, returned: int) -> None:
        if self._left is not None:
            self._left -= returned


def _checked(serde: SerializerProtocol) -> SerializerProtocol:
    inner = serde.serde if isinstance(serde, EncryptedSerializer) else serde
    if getattr(inner, "pickle_fallback", False):
        raise InvalidArgument(
            "this serializer falls back to pickle, which runs any code that the stored bytes name: create it without "
            "pickle_fallback, and pass your own types as allowed_msgpack_modules"
        )
    if getattr(inner, "_allowed_msgpack_modules", None) is True:
        raise InvalidArgument(
            "this serializer creates any class that the stored bytes name: create it with allowed_msgpack_modules=None, or "
            "with a list of the types that it may create, such as JsonPlusSerializer(allowed_msgpack_modules=[MyState])"
        )
    return serde
