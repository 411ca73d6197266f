"""BotWireByteStore: keys and bytes, for LangChain's stores of documents and its cache of embeddings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Unpack

from langchain_core.stores import BaseStore, InvalidKeyException

from ...errors import InvalidName, InvalidValue
from ...limits import check_name, check_prefix, check_ttl
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Delete, Put
from ...queries import GetEntries
from ...records import Entry
from ...values import encode
from .._base import OverMemory, async_form, batches, blocking_method

_PAGE = 1000


class InvalidKey(InvalidName, InvalidKeyException):
    """A key that is not allowed, as LangChain's own stores report it."""


class BotWireByteStore(OverMemory, BaseStore[str, bytes]):
    """A persistent `ByteStore` for LangChain.

    ::

        store = BotWireByteStore()
        embedder = CacheBackedEmbeddings.from_bytes_store(model, store, namespace="model-1")

    What a call sets or deletes is on disk when it returns, all or none, for up to 10,000 keys. More keys take several writes.
    Threads, processes and event loops may share a store.

    Args:
        namespace: the namespace of the keys. It contains nothing else.
        url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        ttl: time to live of what is set in seconds; None: no limit.

    Keys have 1 to 512 bytes of UTF-8 without control characters. Others raise `InvalidKey`, which is also LangChain's
    `InvalidKeyException`. A value that is not bytes, or larger than 16 MiB, raises `InvalidValue`; then nothing is written.
    """

    def __init__(
        self,
        namespace: str = "langchain-bytes",
        url: str | None = None,
        *,
        ttl: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._memory = Memory(namespace, url, **options)
        self._ttl = check_ttl(ttl)

    @blocking_method
    async def mget(self, memory: Namespace, keys: Sequence[str]) -> list[bytes | None]:
        names = _names(keys)
        found = {
            entry.key: entry for part in batches(names) for entry in await memory.bridge.read(GetEntries(tuple(part)))
        }
        return [_bytes(found.get(name)) for name in names]

    @blocking_method
    async def mset(self, memory: Namespace, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        for part in batches([self._put(key, value) for key, value in key_value_pairs]):
            await memory.bridge.write(*part)

    @blocking_method
    async def mdelete(self, memory: Namespace, keys: Sequence[str]) -> None:
        for part in batches(_names(keys)):
            await memory.bridge.write(*[Delete(name) for name in part])

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the keys with a prefix, in the order of their UTF-8 bytes, read in pages as they are needed."""
        start, after = _prefix(prefix), None
        while page := self._memory.list_keys(start, limit=_PAGE, after=after):
            yield from page
            after = page[-1]

    amget = async_form(mget)
    amset = async_form(mset)
    amdelete = async_form(mdelete)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        start, after = _prefix(prefix), None
        while page := await self._async_memory.list_keys(start, limit=_PAGE, after=after):
            for key in page:
                yield key
            after = page[-1]

    def _put(self, key: str, value: bytes) -> Put:
        if type(value) is not bytes:
            raise InvalidValue(f"a byte store holds bytes, not {type(value).__name__}")
        return Put(_names([key])[0], encode(value), self._ttl)


def _names(keys: Iterable[str]) -> list[str]:
    try:
        return [check_name(key) for key in keys]
    except InvalidName as error:
        raise InvalidKey(str(error)) from None


def _prefix(prefix: str | None) -> str:
    try:
        return check_prefix(prefix or "")
    except InvalidName as error:
        raise InvalidKey(str(error)) from None


def _bytes(entry: Entry | None) -> bytes | None:
    if entry is None:
        return None
    if not isinstance(entry.stored, bytes):
        raise InvalidValue(f"key {entry.key!r} holds no bytes: it was not set by a byte store")
    return entry.stored
