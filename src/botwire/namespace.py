"""What a memory is to the logic above it: a namespace that can be read and written, in place or awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from .errors import AuthError, InvalidArgument, StorageExceeded
from .limits import check_count
from .operations import Operation, Result, SetVectors, Vector
from .queries import ListChanges, ListTexts, Query, Search
from .records import Hit
from .search.arguments import check_by
from .search.embedding import Embedding

T = TypeVar("T")

MAX_BATCH = 500
"""Texts that an embedder gets at once, at the most; their vectors are one write."""
CATCH_UP = 32
"""Texts that a search by meaning embeds first, at the most: what a conversation says between two searches, and more."""


class Namespace(ABC):
    """What `Memory` and `AsyncMemory` are: a namespace of a store."""

    _namespace: str
    _embedding: Embedding | None = None
    _catches_up: bool = True

    @property
    def namespace(self) -> str:
        """The name of the namespace."""
        return self._namespace

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the memory is, without secrets."""

    @abstractmethod
    async def _read(self, query: Query[T]) -> T: ...

    @abstractmethod
    async def _write(self, *operations: Operation) -> list[Result]: ...

    @abstractmethod
    def _changes(self, query: ListChanges) -> Any: ...

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    @abstractmethod
    async def _compute(self, fn: Callable[[Any], T], value: Any) -> T: ...

    async def _search(self, query: Search, by: Iterable[str] | None) -> list[Hit]:
        """Answer a question by words, by meaning, or by both."""
        chosen = check_by(by, embedded=self._embedding is not None)
        if "meaning" in chosen and query.text.strip():
            assert self._embedding is not None
            await self._catch_up()
            vector = await self._compute(self._embedding.query, query.text)
            query = msgspec.structs.replace(query, vector=vector, model=self._embedding.model, words="words" in chosen)
        return await self._read(query)

    async def _catch_up(self) -> None:
        """Embed a little of what has no vector yet, unless this memory may not: who can only read searches all the same."""
        if self._catches_up:
            try:
                await self._embed(CATCH_UP, CATCH_UP)
            except (AuthError, StorageExceeded):
                self._catches_up = False

    async def _embed(self, limit: int | None, batch: int) -> int:
        """Give vectors to texts that have none."""
        if self._embedding is None:
            raise InvalidArgument("this memory has no embedder: Memory(…, embedder=…)")
        left, size = check_count(limit, "limit"), check_count(batch, "batch", least=1)
        assert size is not None
        kept, after = 0, ""
        while left is None or left > 0:
            size = min(size, MAX_BATCH) if left is None else min(size, left, MAX_BATCH)
            texts = await self._read(ListTexts(self._embedding.model, after, size))
            if not texts:
                break
            made = await self._compute(self._embedding.documents, [text.text for text in texts])
            vectors = tuple(
                Vector(vector, text.key, text.version, text.session, text.id)
                for vector, text in zip(made, texts, strict=True)
            )
            (count,) = await self._write(SetVectors(self._embedding.model, vectors))
            kept += int(count)  # type: ignore[arg-type]
            after = texts[-1].place
            left = None if left is None else left - len(texts)
        return kept

    @abstractmethod
    async def _call(self, fn: Callable[[Any], Any], value: Any) -> Any: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._namespace!r}, {self.address!r})"
