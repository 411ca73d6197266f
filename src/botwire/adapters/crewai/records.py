"""Records of CrewAI's memory as entries: reading, searching and changing them."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote

import numpy as np
from crewai.memory.storage.backend import EmbeddingDimensionMismatchError
from crewai.memory.types import MemoryRecord, ScopeInfo
from pydantic_core import to_jsonable_python

from ...backoff import MAX_ATTEMPTS, pause_after
from ...errors import Conflict, InvalidValue
from ...limits import check_name
from ...namespace import Namespace
from ...operations import Clear, Delete, Operation, Put
from ...queries import CountEntries, GetEntries, GetEntry, ListEntries, ListKeys
from ...records import Entry
from ...values import encode, size

Match: TypeAlias = "tuple[MemoryRecord, float]"
T = TypeVar("T")
_RECORD, _VECTOR, _PLACE = "crewai:record:", "crewai:vector:", "crewai:place:"
"""What the keys begin with. A place is scope and id, so that the records of a scope lie together; ids lead to places."""
_DIMENSIONS = "crewai:dimensions"
_BATCH = 2000
_BATCH_BYTES = 16 * 1024 * 1024
_PAGE = 1000
_FLOAT = "<f4"


class _OpenRecord(MemoryRecord, extra="allow"):  # type: ignore[call-arg]
    """A record with the fields of a subclass."""


class Records:
    """The logic of `BotWireStorage`, for a memory and for its event loop's side."""

    def __init__(self, memory: Namespace) -> None:
        self._memory = memory

    async def save(self, records: Sequence[MemoryRecord]) -> None:
        """Store records with their embeddings, all or none."""
        new = {stored.place_key: stored for stored in map(_Stored, records)}
        for batch in _batches(list(new.values())):
            for attempt in range(MAX_ATTEMPTS):
                try:
                    await self._memory.bridge.write(*await self._puts(batch))
                except Conflict:
                    if attempt == MAX_ATTEMPTS - 1:
                        raise
                    await self._memory.bridge.sleep(pause_after(attempt))
                else:
                    break

    async def _puts(self, batch: Sequence[_Stored]) -> list[Operation]:
        """Return what stores the records, unless another client moves one of them or sets the dimensions in the meantime."""
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
        """Return the records nearest to an embedding, the best first."""
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
        """Delete the records that match; returns how many there were."""
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
        return sum(map(bool, (await self._memory.bridge.write(*deletes))[: len(places)]))

    async def get(self, record_id: str) -> MemoryRecord | None:
        """Return a record, or None."""
        entry = await self._memory.bridge.read(GetEntry(_place_key(record_id)))
        return None if entry is None else (await self._with_embeddings([entry.value])).get(entry.value)

    async def newest(self, scope: str | None, limit: int, offset: int) -> list[MemoryRecord]:
        """Return the newest records of a scope."""
        if limit <= 0 or offset < 0:
            return []
        records = [pair async for page in self._pages(_RECORD, scope) for pair in _restored(page).items()]
        records.sort(key=lambda pair: _utc(pair[1].created_at), reverse=True)
        chosen = [place for place, _ in records[offset : offset + limit]]
        found = await self._with_embeddings(chosen)
        return [found[place] for place in chosen if place in found]

    async def scope_info(self, scope: str) -> ScopeInfo:
        """Return what a scope contains."""
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
        """Return the scopes directly below a scope."""
        inside = f"{_path(parent)}/"
        keys = await self._memory.bridge.read(ListKeys(check_name(_RECORD + inside)))
        names = {key.removeprefix(_RECORD + inside).split("/")[0].split("#")[0] for key in keys}
        return sorted(unquote(inside + name) for name in names if name)

    async def categories(self, scope: str | None) -> dict[str, int]:
        """Return how many records of a scope each category has."""
        counts: dict[str, int] = {}
        async for page in self._pages(_RECORD, scope):
            for record in _restored(page).values():
                for category in record.categories:
                    counts[category] = counts.get(category, 0) + 1
        return counts

    async def count(self, scope: str | None) -> int:
        """Return how many records a scope has."""
        return sum([await self._memory.bridge.read(CountEntries(prefix)) for prefix in _prefixes(_RECORD, scope)])

    async def reset(self, scope: str | None) -> None:
        """Delete the records of a scope; None: of all scopes."""
        if _path(scope):
            await self.delete(scope, None, None, None, None)
        else:
            await self._memory.bridge.write(Clear(_RECORD), Clear(_VECTOR), Clear(_PLACE), Delete(_DIMENSIONS))

    async def touch(self, record_ids: Iterable[str]) -> None:
        """Set the time of last access of records to now."""
        now = datetime.now(UTC).replace(tzinfo=None)  # as CrewAI has its times
        places = [entry.value for entry in (await self._entries(map(_place_key, record_ids))).values()]
        for key, entry in (await self._entries([_RECORD + place for place in places])).items():
            data = encode(entry.value | {"last_accessed": now.isoformat()})
            try:
                await self._memory.bridge.write(Put(key, data, if_version=entry.version))
            except Conflict:  # another client has used or changed it just now
                continue

    async def _with_embeddings(self, places: Sequence[str]) -> dict[str, MemoryRecord]:
        entries = await self._entries([kind + place for place in places for kind in (_RECORD, _VECTOR)])
        records = _restored(entry for key, entry in entries.items() if key.startswith(_RECORD))
        for place, record in records.items():
            if _VECTOR + place in entries:
                record.embedding = np.frombuffer(entries[_VECTOR + place].value, _FLOAT).tolist()
        return records

    async def _all_places(self, scope: str | None) -> list[str]:
        lists = [await self._memory.bridge.read(ListKeys(prefix)) for prefix in _prefixes(_RECORD, scope)]
        return [key.removeprefix(_RECORD) for keys in lists for key in keys]

    async def _entries(self, keys: Iterable[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for some in _slices(list(keys), _PAGE):
            found |= {entry.key: entry for entry in await self._memory.bridge.read(GetEntries(tuple(some)))}
        return found

    async def _pages(self, kind: str, scope: str | None) -> AsyncIterator[list[Entry]]:
        for prefix in _prefixes(kind, scope):
            after = ""
            while page := await self._memory.bridge.read(ListEntries(prefix, after, _PAGE)):
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
