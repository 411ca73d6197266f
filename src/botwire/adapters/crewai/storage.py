"""BotWireStorage, BotWireFlowPersistence and memory_tools for CrewAI.

Records and states are stored as JSON, embeddings as 32-bit floats in bytes; they are rebuilt as `MemoryRecord`, as dicts and as
`PendingFeedbackContext`, and as nothing else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self, Unpack

from crewai.memory.types import MemoryRecord, ScopeInfo

from ...aio import AsyncMemory
from ...bridge import blocking
from ...memory import Memory, Options
from .records import Match, Records


class BotWireStorage:
    """A storage backend for CrewAI's memory that is persistent and can be shared.

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
        self._records = Records(self._memory)
        self._async_records = Records(AsyncMemory.of(self._memory))

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
            limit: the maximum number. The filters apply before the limit.
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
        """Close the memory, as `Memory.close` does. Nothing is pending."""
        self._memory.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"
