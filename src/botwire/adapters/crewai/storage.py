"""BotWireStorage: the records of CrewAI's memory."""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Self, TypeAlias, Unpack
from urllib.parse import unquote

import numpy as np
from crewai.memory.storage.backend import EmbeddingDimensionMismatchError
from crewai.memory.types import MemoryRecord, ScopeInfo
from pydantic_core import to_jsonable_python

from ...backoff import MAX_ATTEMPTS, pause_after
from ...bridge import awaiting
from ...errors import Conflict, InvalidValue
from ...limits import check_name
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Clear, Delete, Operation, Put
from ...queries import CountEntries, GetEntries, GetEntry, ListEntries, ListKeys
from ...records import Entry
from ...values import decode, encode, size
from .._base import BATCH_BYTES, UNREADABLE, OverMemory, async_form, batches, blocking_method, quoted, reason

Match: TypeAlias = "tuple[MemoryRecord, float]"
_RECORD, _VECTOR, _PATH = "crewai:record:", "crewai:vector:", "crewai:place:"
"""Prefixes of keys. A record and its vector are stored under the record's path: its scope and id, so that the records of a scope
are next to each other. The path is stored under the id."""
_DIMENSIONS = "crewai:dimensions"
_BATCH = 2000
_PAGE = 1000
_FLOAT = "<f4"


class _OpenRecord(MemoryRecord, extra="allow"):  # type: ignore[call-arg]
    """A record with the fields of a subclass."""


class BotWireStorage(OverMemory):
    """A persistent storage backend for CrewAI's memory. Threads, processes and crews can share it.

    It implements CrewAI's `StorageBackend`, and scores as its default, `LanceDBStorage`, does: 1 / (1 + squared distance). Records are
    on disk when a call that saves them returns. A call that is cancelled saves a whole batch or nothing of it.

    A scope is a path: ``/user/1`` contains ``/user/1/notes``, but not ``/user/10``. A search reads all embeddings in its scope. Records
    are stored as JSON, embeddings as 32-bit floats. Fields of a subclass of `MemoryRecord` come back as extra fields.

    Args:
        namespace: the namespace of the records. Keys that do not begin with ``crewai:`` are free for other use.
        url, options: as for `botwire.Memory`, whose errors the constructor and every method may raise too.
    """

    def __init__(self, namespace: str = "crewai-memory", url: str | None = None, **options: Unpack[Options]) -> None:
        self._memory = Memory(namespace, url, **options)

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a crew shares its storage."""
        return self

    @blocking_method
    async def save(self, memory: Namespace, records: list[MemoryRecord]) -> None:
        """Save records, replacing those with the same ids. Up to 2,000 records or 16 MiB are saved all or none.

        Raises:
            EmbeddingDimensionMismatchError: an embedding has another length than the stored ones.
            InvalidValue: a record contains data that would not come back unchanged, or its embedding NaN or infinity.
            InvalidName: scope and id together are too long for a key: about 500 bytes.
        """
        new = {stored.id_key: stored for stored in map(_Stored, records)}
        for batch in batches(new.values(), _BATCH, lambda stored: stored.bytes, BATCH_BYTES):
            for attempt in range(MAX_ATTEMPTS):
                try:
                    await memory.bridge.write(*await _puts(memory, batch))
                except Conflict:
                    if attempt == MAX_ATTEMPTS - 1:
                        raise
                    await memory.bridge.sleep(pause_after(attempt))
                else:
                    break

    @blocking_method
    async def search(
        self,
        memory: Namespace,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[Match]:
        """Return the records that are nearest to an embedding, with their scores, the best first.

        They are in the scope or below, and have one of the categories and all of the metadata. The filters apply before the limit.

        Raises:
            EmbeddingDimensionMismatchError: the embedding has another length than the stored ones.
            InvalidValue: the embedding contains NaN or infinity.
        """
        if limit <= 0:
            return []
        query = _vector(query_embedding)
        best: list[tuple[float, str]] = []
        async for vectors in _vectors(memory, scope_prefix, categories, metadata_filter):
            paths = [entry.key.removeprefix(_VECTOR) for entry in vectors]
            found = [pair for pair in zip(_scores(query, vectors), paths, strict=True) if pair[0] >= min_score]
            best = heapq.nlargest(limit, [*best, *found], key=itemgetter(0))
        records = await _with_embeddings(memory, [path for _, path in best])
        return [(records[path], score) for score, path in best if path in records]

    @blocking_method
    async def delete(
        self,
        memory: Namespace,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """Delete the records that match all criteria, or all records without criteria; returns their number.

        An empty list of ids deletes nothing. A time without a zone is in UTC.
        """
        if record_ids is not None:
            found = (await _entries(memory, map(_id_key, record_ids))).values()
            within = tuple(_prefixes("", scope_prefix))
            paths = [entry.value for entry in found if entry.value.startswith(within)]
        else:
            lists = [await memory.bridge.read(ListKeys(prefix)) for prefix in _prefixes(_RECORD, scope_prefix)]
            paths = [key.removeprefix(_RECORD) for keys in lists for key in keys]
        if categories or metadata_filter or older_than is not None:
            entries = await _entries(memory, (_RECORD + path for path in paths))
            paths = [
                path
                for path, record in _restored(entries.values()).items()
                if _fits(record, categories, metadata_filter)
                and (older_than is None or _utc(record.created_at) < _utc(older_than))
            ]
        return sum([await _remove(memory, some) for some in batches(paths, _BATCH)])

    @blocking_method
    async def update(self, memory: Namespace, record: MemoryRecord) -> None:
        """Replace the record with the same id, in any scope; raises as `save`."""
        await self._save(memory, [record])

    @blocking_method
    async def get_record(self, memory: Namespace, record_id: str) -> MemoryRecord | None:
        entry = await memory.bridge.read(GetEntry(_id_key(record_id)))
        return None if entry is None else (await _with_embeddings(memory, [entry.value])).get(entry.value)

    @blocking_method
    async def list_records(
        self, memory: Namespace, scope_prefix: str | None = None, limit: int = 200, offset: int = 0
    ) -> list[MemoryRecord]:
        if limit <= 0 or offset < 0:
            return []
        records = [pair async for page in _pages(memory, _RECORD, scope_prefix) for pair in _restored(page).items()]
        records.sort(key=lambda pair: _utc(pair[1].created_at), reverse=True)
        chosen = [path for path, _ in records[offset : offset + limit]]
        found = await _with_embeddings(memory, chosen)
        return [found[path] for path in chosen if path in found]

    @blocking_method
    async def get_scope_info(self, memory: Namespace, scope: str) -> ScopeInfo:
        path = scope.rstrip("/") or "/"
        found = [record async for page in _pages(memory, _RECORD, path) for record in _restored(page).values()]
        if not found:
            return ScopeInfo(path=path)
        times = sorted((record.created_at for record in found), key=_utc)
        return ScopeInfo(
            path=path,
            record_count=len(found),
            categories=sorted({category for record in found for category in record.categories}),
            oldest_record=times[0],
            newest_record=times[-1],
            child_scopes=await self._list_scopes(memory, path),
        )

    @blocking_method
    async def list_scopes(self, memory: Namespace, parent: str = "/") -> list[str]:
        inside = f"{_quoted(parent)}/"
        keys = await memory.bridge.read(ListKeys(check_name(_RECORD + inside)))
        names = {key.removeprefix(_RECORD + inside).split("/")[0].split("#")[0] for key in keys}
        return sorted(unquote(inside + name) for name in names if name)

    @blocking_method
    async def list_categories(self, memory: Namespace, scope_prefix: str | None = None) -> dict[str, int]:
        counts: Counter[str] = Counter()
        async for page in _pages(memory, _RECORD, scope_prefix):
            counts.update(category for record in _restored(page).values() for category in record.categories)
        return dict(counts)

    @blocking_method
    async def count(self, memory: Namespace, scope_prefix: str | None = None) -> int:
        return sum([await memory.bridge.read(CountEntries(prefix)) for prefix in _prefixes(_RECORD, scope_prefix)])

    @blocking_method
    async def reset(self, memory: Namespace, scope_prefix: str | None = None) -> None:
        """Delete all records in a scope and below. Without a scope, new embeddings may have another length."""
        if _quoted(scope_prefix):
            await self._delete(memory, scope_prefix)
        else:
            await memory.bridge.write(Clear(_RECORD), Clear(_VECTOR), Clear(_PATH), Delete(_DIMENSIONS))

    @blocking_method
    async def touch_records(self, memory: Namespace, record_ids: list[str]) -> None:
        """Set the time of last access of records to now, as `Memory.recall` does for its results."""
        now = datetime.now(UTC).replace(tzinfo=None)  # CrewAI's times have no zone
        paths = [entry.value for entry in (await _entries(memory, map(_id_key, record_ids))).values()]
        found = await _entries(memory, (_RECORD + path for path in paths))
        puts = [
            Put(key, encode(entry.value | {"last_accessed": now.isoformat()}), if_version=entry.version)
            for key, entry in found.items()
        ]
        for batch in batches(puts, _BATCH, lambda put: size(put.stored), BATCH_BYTES):
            try:
                await memory.bridge.write(*batch)
            except Conflict:
                await _put_unchanged(memory, batch)

    asave = async_form(save)
    asearch = async_form(search)
    adelete = async_form(delete)
    # The same as coroutines, for the methods above.
    _save: Any = awaiting(save)
    _delete: Any = awaiting(delete)
    _list_scopes: Any = awaiting(list_scopes)


async def _put_unchanged(memory: Namespace, puts: Sequence[Put]) -> None:
    """Write each on its own, except for those that another client has used or changed just now."""
    for put in puts:
        with contextlib.suppress(Conflict):
            await memory.bridge.write(put)


async def _puts(memory: Namespace, batch: Sequence[_Stored]) -> list[Operation]:
    """Return operations that conflict if another client moves one of the records or sets the dimensions first."""
    known = await _entries(memory, [_DIMENSIONS, *(stored.id_key for stored in batch)])
    operations: list[Operation] = []
    dimensions = known[_DIMENSIONS].value if _DIMENSIONS in known else None
    for stored in batch:
        if stored.dimensions and dimensions is None:
            dimensions = stored.dimensions
            operations.append(Put(_DIMENSIONS, encode(dimensions), if_version=0))
        if stored.dimensions and stored.dimensions != dimensions:
            raise EmbeddingDimensionMismatchError(dimensions, stored.dimensions)
        entry = known.get(stored.id_key)
        if entry is not None and entry.value != stored.path:
            operations += [Delete(_RECORD + entry.value), Delete(_VECTOR + entry.value)]
        version = 0 if entry is None else entry.version
        operations += [Put(stored.id_key, encode(stored.path), if_version=version), *stored.puts]
    return operations


async def _vectors(
    memory: Namespace, scope: str | None, categories: Sequence[str] | None, metadata: dict[str, Any] | None
) -> AsyncIterator[list[Entry]]:
    if not categories and not metadata:
        async for page in _pages(memory, _VECTOR, scope):
            yield page
        return
    async for page in _pages(memory, _RECORD, scope):
        fit = [path for path, record in _restored(page).items() if _fits(record, categories, metadata)]
        yield list((await _entries(memory, (_VECTOR + path for path in fit))).values())


async def _remove(memory: Namespace, paths: Sequence[str]) -> int:
    deletes = [Delete(_RECORD + path) for path in paths]
    deletes += [Delete(_VECTOR + path) for path in paths]
    deletes += [Delete(_PATH + path.rpartition("#")[2]) for path in paths]
    return sum(map(bool, (await memory.bridge.write(*deletes))[: len(paths)]))


async def _with_embeddings(memory: Namespace, paths: Sequence[str]) -> dict[str, MemoryRecord]:
    entries = await _entries(memory, (kind + path for path in paths for kind in (_RECORD, _VECTOR)))
    records = _restored(entry for key, entry in entries.items() if key.startswith(_RECORD))
    for path, record in records.items():
        if _VECTOR + path in entries:
            record.embedding = np.frombuffer(entries[_VECTOR + path].value, _FLOAT).tolist()
    return records


async def _entries(memory: Namespace, keys: Iterable[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for some in batches(keys, _PAGE):
        found |= {entry.key: entry for entry in await memory.bridge.read(GetEntries(tuple(some)))}
    return found


async def _pages(memory: Namespace, kind: str, scope: str | None) -> AsyncIterator[list[Entry]]:
    for prefix in _prefixes(kind, scope):
        after = ""
        while page := await memory.bridge.read(ListEntries(prefix, after, _PAGE)):
            yield page
            after = page[-1].key


class _Stored:
    """A record to save: its path, and the operations that store it."""

    def __init__(self, record: MemoryRecord) -> None:
        if not isinstance(record, MemoryRecord):
            raise InvalidValue(f"a storage of CrewAI holds memory records, not {type(record).__name__}")
        self.id_key = _id_key(record.id)
        self.path = f"{_quoted(record.scope)}#{quoted(record.id, 'record id')}"
        vector = _vector(record.embedding or ())
        self.dimensions = vector.size
        try:
            data = record.model_dump(exclude={"embedding"}, warnings=False)
            stored = encode(to_jsonable_python(data, inf_nan_mode="constants"))
            _to_record(decode(stored))
        except UNREADABLE as error:
            raise InvalidValue(f"the memory record would not come back: {reason(error)}") from None
        vector_key = _VECTOR + self.path
        self.puts: tuple[Operation, ...] = (
            Put(check_name(_RECORD + self.path), stored),
            Put(vector_key, vector.tobytes()) if vector.size else Delete(vector_key),
        )
        self.bytes = size(stored) + vector.nbytes


def _vector(embedding: Sequence[float]) -> Any:
    """Return an embedding as an array, or raise `InvalidValue`: with NaN or infinity it is near to nothing, or to everything."""
    try:
        with np.errstate(over="ignore"):  # such a number becomes infinity
            vector = np.asarray(embedding, _FLOAT)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"an embedding is a list of numbers: {error}") from None
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise InvalidValue("an embedding is a list of finite numbers of 32 bits")
    return vector


def _quoted(scope: str | None) -> str:
    """Return a scope as it is in keys: ``/a/b``, or nothing for the root."""
    names = (scope or "").strip("/")
    return f"/{quoted(names, 'scope', safe='/')}" if names else ""


def _id_key(record_id: str) -> str:
    return check_name(_PATH + quoted(record_id, "record id"))


def _prefixes(kind: str, scope: str | None) -> list[str]:
    """Return the prefixes of the keys of records in a scope, and of those below."""
    path = _quoted(scope)
    return [check_name(f"{kind}{path}#"), check_name(f"{kind}{path}/")] if path else [kind]


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
    """Return the records of entries, by their paths."""
    records = {}
    for entry in entries:
        try:
            records[entry.key.removeprefix(_RECORD)] = _to_record(entry.value)
        except UNREADABLE as error:
            raise InvalidValue(
                f"the value of key {entry.key!r} is not a memory record of CrewAI: {reason(error)}. "
                "delete(record_ids=[…]) with its id, after the '#', removes it"
            ) from None
    return records


def _to_record(data: Any) -> MemoryRecord:
    closed = data.keys() <= MemoryRecord.model_fields.keys()
    return (MemoryRecord if closed else _OpenRecord).model_validate(data)


def _fits(record: MemoryRecord, categories: Sequence[str] | None, metadata: dict[str, Any] | None) -> bool:
    if categories and not set(categories) & set(record.categories):
        return False
    return all(record.metadata.get(name) == value for name, value in (metadata or {}).items())


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
