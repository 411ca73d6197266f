"""Namespace: what `Memory` and `AsyncMemory` share."""

from __future__ import annotations

import sys
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Self, TypeVar

import msgspec

from .bridge import Bridge
from .errors import AuthError, InvalidArgument, StorageExceeded
from .limits import check_count, check_namespace
from .operations import SetVectors, Vector
from .queries import ListTexts, Search
from .records import Hit
from .search.arguments import check_by
from .search.embedding import Embedder, Embedding
from .store import Store
from .stores import Authorities, EncryptionKey, Lease

T = TypeVar("T")

MAX_BATCH = 500
"""The most texts in one call of an embedder. Their vectors are one write."""
CATCH_UP = 32
"""The most texts that a search by meaning embeds first: more than a conversation adds between two searches."""
REFUSED_SECONDS = 60.0
"""How long searches do not try to store vectors after the store refused them."""


class Namespace(ABC):
    """A namespace of a store: what `Memory` and `AsyncMemory` share."""

    bridge: Bridge
    """For logic that is written once for `Memory` and `AsyncMemory`; see `botwire.bridge`."""
    _opens_at_once: bool = True
    embeds_on_search: bool = True
    """Whether a search by meaning first embeds up to 32 texts that have no vector yet. False: a search never writes."""
    _namespace: str
    _embedding: Embedding | None
    _lease: Lease
    _catch_up_from: float = 0.0

    def __init__(
        self,
        namespace: str,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        ca: Authorities = None,
        encryption_key: EncryptionKey | None = None,
        embedder: Embedder | None = None,
        embedding_model: str | None = None,
        store: Store | None = None,
    ) -> None:
        if embedder is not None and encryption_key is not None:
            raise InvalidArgument(
                "a memory with an encryption_key cannot have an embedder: vectors are unencrypted and reveal what a text says"
            )
        self._embedding = None if embedder is None else Embedding(embedder, embedding_model)
        self._namespace = check_namespace(namespace)
        self._lease = Lease(url, token=token, timeout=timeout, ca=ca, encryption_key=encryption_key, store=store)
        self._release: weakref.finalize[..., Any] | None = weakref.finalize(self, self._lease.drop)
        self._begin()

    def __copy__(self) -> Self:
        """Return this memory: a copy of an object that contains one shares it."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return this memory, as `__copy__`."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the place of this memory, without secrets. The other process opens it when it first uses it."""
        if self._embedding is not None:
            raise TypeError(f"a {type(self).__name__} with an embedder= is not pickled: create it in the other process")
        return {"namespace": self._namespace, **self._lease.place()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._opens_at_once = False
        Namespace.__init__(self, **state)

    @abstractmethod
    def _begin(self) -> None:
        """Make the bridge, and raise `InvalidArgument` if the address is not valid."""

    @property
    def namespace(self) -> str:
        """The name of the namespace."""
        return self._namespace

    @property
    def embedding_model(self) -> str | None:
        """The name of the model that makes this memory's vectors; None when it has no `embedder`."""
        return None if self._embedding is None else self._embedding.model

    @property
    def address(self) -> str:
        """Where the memory is, without secrets."""
        return self._lease.address

    @abstractmethod
    def watch(
        self, prefix: str = "", *, after: int | None = None, session: str | None = None, wait: float | None = None
    ) -> Any: ...

    async def _search(self, query: Search, by: Iterable[str] | None) -> list[Hit]:
        chosen = check_by(by, embedded=self._embedding is not None)
        if "meaning" in chosen and query.text.strip():
            assert self._embedding is not None
            await self._catch_up()
            vector = await self.bridge.compute(self._embedding.query, query.text)
            query = msgspec.structs.replace(query, vector=vector, model=self._embedding.model, words="words" in chosen)
        return await self.bridge.read(query)

    async def _catch_up(self) -> None:
        """Embed a few texts that have no vector. A caller that may not write, or has no room, still searches."""
        if self.embeds_on_search and time.monotonic() >= self._catch_up_from:
            try:
                await self._embed(CATCH_UP, CATCH_UP)
            except (AuthError, StorageExceeded):
                # An operator may raise the plan or grant the permission later. Until then, each attempt would embed in vain.
                self._catch_up_from = time.monotonic() + REFUSED_SECONDS

    async def _embed(self, limit: int | None, batch: int) -> int:
        if self._embedding is None:
            raise InvalidArgument("this memory has no embedder: Memory(…, embedder=…)")
        left = check_count(limit, "limit")
        left = sys.maxsize if left is None else left
        size = min(check_count(batch, "batch", least=1) or MAX_BATCH, MAX_BATCH)
        kept, after = 0, ""
        while left and (texts := await self.bridge.read(ListTexts(self._embedding.model, after, min(size, left)))):
            made = await self.bridge.compute(self._embedding.documents, [text.text for text in texts])
            vectors = tuple(
                Vector(vector, text.key, text.version, text.session, text.id)
                for vector, text in zip(made, texts, strict=True)
            )
            (count,) = await self.bridge.write(SetVectors(self._embedding.model, vectors))
            kept += int(count)  # type: ignore[arg-type]
            after, left = texts[-1].place, left - len(texts)
        return kept

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._namespace!r}, {self.address!r})"
