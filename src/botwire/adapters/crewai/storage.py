"""BotWireStorage, BotWireFlowPersistence and memory_tools for CrewAI.

Records and states are stored as JSON, embeddings as 32-bit floats in bytes; they are rebuilt as `MemoryRecord`, as dicts and as
`PendingFeedbackContext`, and as nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeAlias, TypeVar, Unpack
from urllib.parse import quote, unquote

from ...aio import AsyncMemory
from ...backoff import MAX_ATTEMPTS, pause_after
from ...bridge import awaiting, blocking
from ...errors import Conflict, InvalidArgument, InvalidValue, Unavailable
from ...limits import check_name
from ...memory import Memory, Options
from ...namespace import Namespace
from ...records import Clear, CountEntries, Delete, Entry, GetEntries, GetEntry, ListEntries, ListKeys, Operation, Put
from ...values import encode, size

try:
    import numpy as np
    from crewai.flow.async_feedback.types import PendingFeedbackContext
    from crewai.flow.persistence.base import FlowPersistence
    from crewai.memory.storage.backend import EmbeddingDimensionMismatchError
    from crewai.memory.types import MemoryRecord, ScopeInfo
    from crewai.tools import BaseTool
    from pydantic import BaseModel, Field, PrivateAttr
    from pydantic_core import to_jsonable_python
except ModuleNotFoundError as error:
    if error.name not in {"crewai", "numpy"}:
        raise
    missing = "botwire.adapters.crewai needs crewai: pip install 'botwire[crewai]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["BotWireFlowPersistence", "BotWireStorage", "memory_tools"]

Match: TypeAlias = "tuple[MemoryRecord, float]"
T = TypeVar("T")


class BotWireStorage:
    """A storage backend for CrewAI's memory that outlives the process and can be shared.

    ::

        crew = Crew(agents=…, tasks=…, memory=Memory(storage=BotWireStorage()))

    It is CrewAI's `StorageBackend`, whole, and scores as its default, `LanceDBStorage`, does: 1 / (1 + squared distance).
    What is saved is on disk when a call returns. Any number of crews, threads and processes may use it at once.

    A scope is a path: ``/user/1`` holds ``/user/1/notes``, and not ``/user/10``. Where several criteria are given, records that
    meet all of them are meant. Only what is needed is read: a search without filters reads the embeddings in the
    scope and the records that it returns, a search with filters the records in the scope and the embeddings of those
    that pass.

    Fields of a subclass of `MemoryRecord` come back as extra fields. Embeddings are stored as 32-bit floats, as LanceDB does.

    Args:
        namespace: the namespace to keep the records in; it may hold other keys too, which do not begin with ``crewai:``.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `botwire.Memory`.

    Raises:
        InvalidName, InvalidArgument: the namespace, the address or an option is not allowed.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `botwire.Memory` names.
    """

    def __init__(self, namespace: str = "crewai-memory", url: str | None = None, **options: Unpack[Options]) -> None:
        self._memory = Memory(namespace, url, **options)
        self._records = _Records(self._memory)
        self._async_records = _Records(AsyncMemory.of(self._memory))

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a crew shares its storage."""
        return self

    @blocking
    async def save(self, records: list[MemoryRecord]) -> None:
        """Save records, replacing those with the same ids. Up to 2,000 records or 16 MiB are saved all or none.

        Raises:
            EmbeddingDimensionMismatchError: an embedding has another length than those before.
            InvalidValue: a record holds something that would not come back.
            InvalidName: scope and id together are too long for a key: some 500 bytes.
            QuotaExceeded, StorageExceeded: the plan does not allow it.
        """
        await self._records.save(records)

    @blocking
    async def search(
        self,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[Match]:
        """Return the records that are nearest to an embedding, with their scores, the best first.

        Args:
            query_embedding: what to be near to.
            scope_prefix: only records in this scope and below.
            categories: only records with one of these categories.
            metadata_filter: only records with all of this metadata.
            limit: how many at the most. The filters come first, so that as many are found as there are.
            min_score: only those with such a score or a better one.

        Raises:
            EmbeddingDimensionMismatchError: the embedding has another length than those that are stored.
        """
        return await self._records.search(query_embedding, scope_prefix, categories, metadata_filter, limit, min_score)

    @blocking
    async def delete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """Remove the records that meet all the criteria given, all records when there are none; returns how many.

        An empty list of ids removes nothing. A time without a zone is in UTC.
        """
        return await self._records.delete(scope_prefix, categories, record_ids, older_than, metadata_filter)

    @blocking
    async def update(self, record: MemoryRecord) -> None:
        """Replace the record with the same id, wherever it was; raises as `save`."""
        await self._records.save([record])

    @blocking
    async def get_record(self, record_id: str) -> MemoryRecord | None:
        """Return a record with its embedding, or None."""
        return await self._records.get(record_id)

    @blocking
    async def list_records(
        self, scope_prefix: str | None = None, limit: int = 200, offset: int = 0
    ) -> list[MemoryRecord]:
        """Return records in a scope and below, the newest first."""
        return await self._records.newest(scope_prefix, limit, offset)

    @blocking
    async def get_scope_info(self, scope: str) -> ScopeInfo:
        """Return how many records there are in a scope and below, their categories, the oldest and newest, and the scopes in it."""
        return await self._records.scope_info(scope)

    @blocking
    async def list_scopes(self, parent: str = "/") -> list[str]:
        """Return the scopes that lie directly in a scope."""
        return await self._records.scopes(parent)

    @blocking
    async def list_categories(self, scope_prefix: str | None = None) -> dict[str, int]:
        """Return the categories in a scope and below, and how many records have each."""
        return await self._records.categories(scope_prefix)

    @blocking
    async def count(self, scope_prefix: str | None = None) -> int:
        """Return how many records there are in a scope and below."""
        return await self._records.count(scope_prefix)

    @blocking
    async def reset(self, scope_prefix: str | None = None) -> None:
        """Remove all records in a scope and below. Without a scope, embeddings may have another length from then on."""
        await self._records.reset(scope_prefix)

    @blocking
    async def touch_records(self, record_ids: list[str]) -> None:
        """Say that records have been used just now, which `Memory.recall` does with what it returns."""
        await self._records.touch(record_ids)

    async def asave(self, records: list[MemoryRecord]) -> None:
        """As `save`. A call that is cancelled saves a whole batch or nothing of it."""
        await self._async_records.save(records)

    async def asearch(
        self,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[Match]:
        """As `search`."""
        return await self._async_records.search(
            query_embedding, scope_prefix, categories, metadata_filter, limit, min_score
        )

    async def adelete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """As `delete`."""
        return await self._async_records.delete(scope_prefix, categories, record_ids, older_than, metadata_filter)

    def close(self) -> None:
        """Let go of the store, as `Memory.close` does. Nothing is pending."""
        self._memory.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"


_RECORD, _VECTOR, _PLACE = "crewai:record:", "crewai:vector:", "crewai:place:"
"""What the keys begin with. A place is scope and id, so that the records of a scope lie together; ids lead to places."""
_DIMENSIONS = "crewai:dimensions"
_BATCH = 2000
_BATCH_BYTES = 16 * 1024 * 1024
_PAGE = 1000
_FLOAT = "<f4"


class _OpenRecord(MemoryRecord, extra="allow"):  # type: ignore[call-arg]
    """A record with the fields of somebody's subclass."""


class _Records:
    """The logic of `BotWireStorage`, for a memory and for its event loop's side."""

    def __init__(self, memory: Namespace) -> None:
        self._memory = memory

    async def save(self, records: Sequence[MemoryRecord]) -> None:
        new = {stored.place_key: stored for stored in map(_Stored, records)}
        for batch in _batches(list(new.values())):
            for attempt in range(MAX_ATTEMPTS):
                try:
                    await self._memory._write(*await self._puts(batch))
                except Conflict:
                    if attempt == MAX_ATTEMPTS - 1:
                        raise
                    await self._memory._sleep(pause_after(attempt))
                else:
                    break

    async def _puts(self, batch: Sequence[_Stored]) -> list[Operation]:
        """Return what stores the records, provided that nobody moves one of them or sets the dimensions meanwhile."""
        known = await self._entries([_DIMENSIONS, *(stored.place_key for stored in batch)])
        operations: list[Operation] = []
        dimensions = known[_DIMENSIONS].value if _DIMENSIONS in known else None
        for stored in batch:
            if stored.dimensions and dimensions is None:
                dimensions = stored.dimensions
                operations.append(Put(_DIMENSIONS, encode(dimensions), if_version=0))
            if stored.dimensions and stored.dimensions != dimensions:
                raise EmbeddingDimensionMismatchError(dimensions, stored.dimensions)
        for stored in batch:
            entry = known.get(stored.place_key)
            if entry is not None and entry.value != stored.place:
                operations += [Delete(_RECORD + entry.value), Delete(_VECTOR + entry.value)]
            version = 0 if entry is None else entry.version
            operations += [Put(stored.place_key, encode(stored.place), if_version=version), *stored.puts]
        return operations

    async def search(
        self,
        query_embedding: Sequence[float],
        scope_prefix: str | None,
        categories: Sequence[str] | None,
        metadata_filter: dict[str, Any] | None,
        limit: int,
        min_score: float,
    ) -> list[Match]:
        if limit <= 0:
            return []
        query = np.asarray(query_embedding, _FLOAT)
        scores: list[tuple[float, str]] = []
        async for vectors in self._vectors(scope_prefix, categories, metadata_filter):
            best = [
                pair for pair in zip(_scores(query, vectors), _places(vectors), strict=True) if pair[0] >= min_score
            ]
            scores = heapq.nlargest(limit, [*scores, *best], key=lambda pair: pair[0])
        records = await self._with_embeddings([place for _, place in scores])
        return [(records[place], score) for score, place in scores if place in records]

    async def _vectors(
        self, scope: str | None, categories: Sequence[str] | None, metadata: dict[str, Any] | None
    ) -> AsyncIterator[list[Entry]]:
        if not categories and not metadata:
            async for page in self._pages(_VECTOR, scope):
                yield page
            return
        async for page in self._pages(_RECORD, scope):
            fit = [place for place, record in _restored(page).items() if _fits(record, categories, metadata)]
            yield list((await self._entries([_VECTOR + place for place in fit])).values())

    async def delete(
        self,
        scope_prefix: str | None,
        categories: Sequence[str] | None,
        record_ids: Iterable[str] | None,
        older_than: datetime | None,
        metadata_filter: dict[str, Any] | None,
    ) -> int:
        if record_ids is not None:
            found = await self._entries([_place_key(record_id) for record_id in record_ids])
            places = [entry.value for entry in found.values() if _in_scope(entry.value, scope_prefix)]
        else:
            places = await self._all_places(scope_prefix)
        if categories or metadata_filter or older_than is not None:
            entries = await self._entries([_RECORD + place for place in places])
            places = [
                place
                for place, record in _restored(entries.values()).items()
                if _fits(record, categories, metadata_filter)
                and (older_than is None or _utc(record.created_at) < _utc(older_than))
            ]
        return sum([await self._remove(some) for some in _slices(places, _BATCH)])

    async def _remove(self, places: Sequence[str]) -> int:
        ids = [place.rpartition("#")[2] for place in places]
        deletes: list[Operation] = [Delete(_RECORD + place) for place in places]
        deletes += [Delete(_VECTOR + place) for place in places]
        deletes += [Delete(_PLACE + name) for name in ids]
        return sum(map(bool, (await self._memory._write(*deletes))[: len(places)]))

    async def get(self, record_id: str) -> MemoryRecord | None:
        entry = await self._memory._read(GetEntry(_place_key(record_id)))
        return None if entry is None else (await self._with_embeddings([entry.value])).get(entry.value)

    async def newest(self, scope: str | None, limit: int, offset: int) -> list[MemoryRecord]:
        if limit <= 0 or offset < 0:
            return []
        records = [pair async for page in self._pages(_RECORD, scope) for pair in _restored(page).items()]
        records.sort(key=lambda pair: _utc(pair[1].created_at), reverse=True)
        chosen = [place for place, _ in records[offset : offset + limit]]
        found = await self._with_embeddings(chosen)
        return [found[place] for place in chosen if place in found]

    async def scope_info(self, scope: str) -> ScopeInfo:
        path = scope.rstrip("/") or "/"
        found = [record async for page in self._pages(_RECORD, path) for record in _restored(page).values()]
        if not found:
            return ScopeInfo(path=path)
        times = sorted((record.created_at for record in found), key=_utc)
        return ScopeInfo(
            path=path,
            record_count=len(found),
            categories=sorted({category for record in found for category in record.categories}),
            oldest_record=times[0],
            newest_record=times[-1],
            child_scopes=await self.scopes(path),
        )

    async def scopes(self, parent: str) -> list[str]:
        inside = f"{_path(parent)}/"
        keys = await self._memory._read(ListKeys(check_name(_RECORD + inside)))
        names = {key.removeprefix(_RECORD + inside).split("/")[0].split("#")[0] for key in keys}
        return sorted(unquote(inside + name) for name in names if name)

    async def categories(self, scope: str | None) -> dict[str, int]:
        counts: dict[str, int] = {}
        async for page in self._pages(_RECORD, scope):
            for record in _restored(page).values():
                for category in record.categories:
                    counts[category] = counts.get(category, 0) + 1
        return counts

    async def count(self, scope: str | None) -> int:
        return sum([await self._memory._read(CountEntries(prefix)) for prefix in _prefixes(_RECORD, scope)])

    async def reset(self, scope: str | None) -> None:
        if _path(scope):
            await self.delete(scope, None, None, None, None)
        else:
            await self._memory._write(Clear(_RECORD), Clear(_VECTOR), Clear(_PLACE), Delete(_DIMENSIONS))

    async def touch(self, record_ids: Iterable[str]) -> None:
        now = datetime.now(UTC).replace(tzinfo=None)  # as CrewAI has its times
        places = [entry.value for entry in (await self._entries(map(_place_key, record_ids))).values()]
        for key, entry in (await self._entries([_RECORD + place for place in places])).items():
            data = encode(entry.value | {"last_accessed": now.isoformat()})
            try:
                await self._memory._write(Put(key, data, if_version=entry.version))
            except Conflict:  # somebody else has used or changed it just now
                continue

    async def _with_embeddings(self, places: Sequence[str]) -> dict[str, MemoryRecord]:
        entries = await self._entries([kind + place for place in places for kind in (_RECORD, _VECTOR)])
        records = _restored(entry for key, entry in entries.items() if key.startswith(_RECORD))
        for place, record in records.items():
            if _VECTOR + place in entries:
                record.embedding = np.frombuffer(entries[_VECTOR + place].value, _FLOAT).tolist()
        return records

    async def _all_places(self, scope: str | None) -> list[str]:
        lists = [await self._memory._read(ListKeys(prefix)) for prefix in _prefixes(_RECORD, scope)]
        return [key.removeprefix(_RECORD) for keys in lists for key in keys]

    async def _entries(self, keys: Iterable[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for some in _slices(list(keys), _PAGE):
            found |= {entry.key: entry for entry in await self._memory._read(GetEntries(tuple(some)))}
        return found

    async def _pages(self, kind: str, scope: str | None) -> AsyncIterator[list[Entry]]:
        for prefix in _prefixes(kind, scope):
            after = ""
            while page := await self._memory._read(ListEntries(prefix, after, _PAGE)):
                yield page
                after = page[-1].key


class _Stored:
    """A record on its way in: where it goes, and what is put there."""

    def __init__(self, record: MemoryRecord) -> None:
        if not isinstance(record, MemoryRecord):
            raise InvalidValue(f"a storage of CrewAI holds memory records, not {type(record).__name__}")
        self.place_key = _place_key(record.id)
        self.place = f"{_path(record.scope)}#{quote(record.id, safe='')}"
        check_name(_RECORD + self.place)
        self.dimensions = len(record.embedding or ())
        try:
            data = to_jsonable_python(record.model_dump(exclude={"embedding"}), inf_nan_mode="constants")
        except ValueError as error:
            raise InvalidValue(f"the memory record cannot be stored: {error}") from error
        vector = _VECTOR + self.place
        self.puts: tuple[Operation, ...] = (Put(_RECORD + self.place, encode(data)), Delete(vector))
        if record.embedding:
            self.puts = self.puts[0], Put(vector, np.asarray(record.embedding, _FLOAT).tobytes())
        self.bytes = sum(size(put.stored) for put in self.puts if isinstance(put, Put))


def _batches(records: Sequence[_Stored]) -> Iterator[list[_Stored]]:
    batch: list[_Stored] = []
    room = _BATCH_BYTES
    for stored in records:
        if batch and (stored.bytes > room or len(batch) == _BATCH):
            yield batch
            batch, room = [], _BATCH_BYTES
        batch.append(stored)
        room -= stored.bytes
    if batch:
        yield batch


def _slices(items: Sequence[T], length: int) -> Iterator[Sequence[T]]:
    return (items[start : start + length] for start in range(0, len(items), length))


def _path(scope: str | None) -> str:
    """Return a scope as the keys have it: ``/a/b``, or nothing for the root."""
    names = (scope or "").strip("/")
    return f"/{quote(names, safe='/')}" if names else ""


def _place_key(record_id: str) -> str:
    return check_name(_PLACE + quote(record_id, safe=""))


def _prefixes(kind: str, scope: str | None) -> list[str]:
    """Return what the keys of the records in a scope begin with, and of those below."""
    path = _path(scope)
    return [check_name(f"{kind}{path}#"), check_name(f"{kind}{path}/")] if path else [kind]


def _in_scope(place: str, scope: str | None) -> bool:
    return any(place.startswith(prefix) for prefix in _prefixes("", scope)) if _path(scope) else True


def _places(vectors: Iterable[Entry]) -> list[str]:
    return [entry.key.removeprefix(_VECTOR) for entry in vectors]


def _scores(query: Any, vectors: Sequence[Entry]) -> list[float]:
    if not vectors:
        return []
    stored = [entry.value for entry in vectors]
    for vector in stored:
        if len(vector) != query.nbytes:
            raise EmbeddingDimensionMismatchError(len(vector) // query.itemsize, len(query))
    matrix = np.frombuffer(b"".join(stored), _FLOAT).reshape(len(stored), -1)
    distances = ((matrix - query) ** 2).sum(axis=1)
    scores: list[float] = (1.0 / (1.0 + distances.astype(float))).tolist()
    return scores


def _restored(entries: Iterable[Entry]) -> dict[str, MemoryRecord]:
    records = {}
    for entry in entries:
        try:
            closed = entry.value.keys() <= MemoryRecord.model_fields.keys()
            record = (MemoryRecord if closed else _OpenRecord).model_validate(entry.value)
        except (AttributeError, ValueError) as error:
            raise InvalidValue(f"what is under {entry.key!r} is not a memory record of CrewAI: {error}") from error
        records[entry.key.removeprefix(_RECORD)] = record
    return records


def _fits(record: MemoryRecord, categories: Sequence[str] | None, metadata: dict[str, Any] | None) -> bool:
    if categories and not set(categories) & set(record.categories):
        return False
    return all(record.metadata.get(name) == value for name, value in (metadata or {}).items())


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


class BotWireFlowPersistence(FlowPersistence):
    """Where flows of CrewAI keep their state, and what they wait for, beyond the process.

    ::

        @persist(BotWireFlowPersistence())
        class ReviewFlow(Flow[ReviewState]): …

    A state is on disk when the method that made it is done; the last one of each flow is kept. As in CrewAI's
    `SQLiteFlowPersistence`, what JSON does not know is stored as text.

    Args:
        namespace: the namespace to keep the states in.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `botwire.Memory`. They are not among the fields of this model, which CrewAI writes into checkpoints; nor is a
            password in the address.

    Raises:
        InvalidName, InvalidArgument: the namespace, the address or an option is not allowed.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `botwire.Memory` names.
    """

    persistence_type: str = Field(default="BotWireFlowPersistence")
    namespace: str = "crewai-flows"
    url: str | None = None
    encrypted: bool = False
    _memory: Memory = PrivateAttr()

    def __init__(
        self,
        namespace: str = "crewai-flows",
        url: str | None = None,
        *,
        persistence_type: str = "BotWireFlowPersistence",
        encrypted: bool = False,
        **options: Unpack[Options],
    ) -> None:
        if encrypted and not options.get("encryption_key"):
            raise InvalidArgument("these states are encrypted: make the BotWireFlowPersistence with its encryption_key")
        encrypted = bool(options.get("encryption_key"))
        memory = Memory(namespace, url, **options)
        place = {"namespace": namespace, "url": url and memory.address, "encrypted": encrypted}
        super().__init__(persistence_type=persistence_type, **place)
        self._memory = memory

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a flow keeps its states in the same place."""
        return self

    def init_db(self) -> None:
        """Do nothing: there are no tables to make."""

    def save_state(self, flow_uuid: str, method_name: str, state_data: dict[str, Any] | BaseModel) -> None:
        """Store the state of a flow; it is on disk when this returns.

        Raises:
            InvalidValue: the state is neither a dict nor a model, or has more than 16 MiB; nothing was written.
        """
        self._memory.set(_state_key(flow_uuid), {"method_name": method_name, "state": _state(state_data)})

    def load_state(self, flow_uuid: str) -> dict[str, Any] | None:
        """Return the last state of a flow, or None."""
        stored = self._memory.get(_state_key(flow_uuid))
        return None if stored is None else dict(stored["state"])

    def save_pending_feedback(
        self, flow_uuid: str, context: PendingFeedbackContext, state_data: dict[str, Any] | BaseModel
    ) -> None:
        """Store the state of a flow and what it waits for, both or neither; raises as `save_state`."""
        state = _state(state_data)
        waits = {"context": to_jsonable_python(context.to_dict(), fallback=str), "state": state}
        stored = {"method_name": context.method_name, "state": state}
        self._memory.set_many({_state_key(flow_uuid): stored, _pending_key(flow_uuid): waits})

    def load_pending_feedback(self, flow_uuid: str) -> tuple[dict[str, Any], PendingFeedbackContext] | None:
        """Return the state of a flow and what it waits for, or None when it waits for nothing."""
        stored = self._memory.get(_pending_key(flow_uuid))
        if stored is None:
            return None
        return dict(stored["state"]), PendingFeedbackContext.from_dict(stored["context"])

    def clear_pending_feedback(self, flow_uuid: str) -> None:
        """Forget what a flow waits for. Its state stays."""
        self._memory.delete(_pending_key(flow_uuid))


def _state(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict | BaseModel):
        raise InvalidValue(f"the state of a flow is a dict or a pydantic model, not {type(data).__name__}")
    state: dict[str, Any] = to_jsonable_python(data, fallback=str)
    return state


def _state_key(flow_uuid: str) -> str:
    return check_name(f"state:{flow_uuid}")


def _pending_key(flow_uuid: str) -> str:
    return check_name(f"pending:{flow_uuid}")


def memory_tools(namespace: str, url: str | None = None, **options: Unpack[Options]) -> list[BaseTool]:
    """Return tools with which an agent of CrewAI remembers facts by name: remember, recall, list and forget.

    ::

        agent = Agent(role=…, goal=…, backstory=…, tools=memory_tools("research-crew"))

    They need no embedder and no model. Whatever they remember is there under its key for `botwire.Memory` too.

    Args:
        namespace: the namespace that the agent may read and write.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `botwire.Memory`.

    Raises:
        InvalidName, InvalidArgument: the namespace, the address or an option is not allowed.
        StoreError: the file cannot be opened.
    """
    memory = Memory(namespace, url, **options)
    return [tool.over(memory) for tool in (_Remember, _Recall, _List, _Forget)]


_Call: TypeAlias = Callable[..., Awaitable[Any]]
_set: _Call = awaiting(Memory.set)
_entry: _Call = awaiting(Memory.entry)
_keys: _Call = awaiting(Memory.list_keys)
_delete: _Call = awaiting(Memory.delete)
_search: _Call = awaiting(Memory.search)
_MAX_KEYS = 200
_MAX_FOUND = 5


def _text(entry: Entry) -> str:
    return entry.value if isinstance(entry.value, str) else str(entry.stored)


def _never(_arguments: Any = None, _result: Any = None) -> bool:
    return False


class _MemoryTool(BaseTool):
    """A tool over a memory. CrewAI must not cache what it answers: the same question has another answer after a write."""

    cache_function: Any = _never
    _memory: Memory = PrivateAttr()
    _twin: AsyncMemory = PrivateAttr()

    @classmethod
    def over(cls, memory: Memory) -> Self:
        tool = cls()
        tool._memory, tool._twin = memory, AsyncMemory.of(memory)
        return tool

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a crew has the same memory."""
        return self

    def _run(self, **arguments: Any) -> str:
        return self._answer_now(arguments)

    @blocking
    async def _answer_now(self, arguments: dict[str, Any]) -> str:
        return await self._answer(self._memory, **arguments)

    async def _arun(self, **arguments: Any) -> str:
        return await self._answer(self._twin, **arguments)

    async def _answer(self, memory: Namespace, **arguments: Any) -> str:
        raise NotImplementedError


class Key(BaseModel):
    key: str = Field(description="The name of the fact, such as user/42/colour, at most 512 bytes.")


class Fact(Key):
    value: str = Field(description="What to remember under this name. It replaces what was there.")


class Prefix(BaseModel):
    prefix: str = Field(default="", description="What the names begin with, such as user/42/. Empty: all names.")


class _Remember(_MemoryTool):
    name: str = "remember"
    description: str = "Remember a fact under a name, for later runs and for other agents."
    args_schema: type[BaseModel] = Fact

    async def _answer(self, memory: Namespace, *, key: str, value: str) -> str:  # type: ignore[override]
        await _set(memory, key, value)
        return f"Remembered {key}."


class _Recall(_MemoryTool):
    name: str = "recall"
    description: str = "Recall the fact that was remembered under a name, or facts that have to do with some words."
    args_schema: type[BaseModel] = Key

    async def _answer(self, memory: Namespace, *, key: str) -> str:  # type: ignore[override]
        entry = await _entry(memory, key)
        if entry is not None:
            return _text(entry)
        try:
            found = [hit.entry for hit in await _search(memory, key, limit=_MAX_FOUND, kinds="entries")]
        except (InvalidArgument, Unavailable):  # the values are encrypted, or the index is off or not there yet
            found = []
        lines = [f"{entry.key}: {_text(entry)}" for entry in found]
        return "\n".join([f"Nothing is remembered under {key}.", *(["But there is:"] if lines else []), *lines])


class _List(_MemoryTool):
    name: str = "list"
    description: str = "List the names under which facts are remembered."
    args_schema: type[BaseModel] = Prefix

    async def _answer(self, memory: Namespace, *, prefix: str = "") -> str:  # type: ignore[override]
        keys = await _keys(memory, prefix, limit=_MAX_KEYS + 1)
        more = ["… and more: ask for a longer prefix."] if len(keys) > _MAX_KEYS else []
        return "\n".join([*keys[:_MAX_KEYS], *more]) or "Nothing is remembered."


class _Forget(_MemoryTool):
    name: str = "forget"
    description: str = "Forget the fact that was remembered under a name."
    args_schema: type[BaseModel] = Key

    async def _answer(self, memory: Namespace, *, key: str) -> str:  # type: ignore[override]
        return f"Forgot {key}." if await _delete(memory, key) else f"Nothing was remembered under {key}."
