"""BotWireByteStore: keys and bytes, for LangChain's stores of documents and its cache of embeddings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar, Unpack

from langchain_core.stores import BaseStore, InvalidKeyException

from ...aio import AsyncMemory
from ...errors import InvalidName, InvalidValue
from ...limits import MAX_OPERATIONS, check_name, check_prefix, check_ttl
from ...memory import Memory, Options
from ...operations import Delete, Put
from ...queries import GetEntries
from ...records import Entry
from ...values import encode

T = TypeVar("T")

_PAGE = 1000


class InvalidKey(InvalidName, InvalidKeyException):
    """A key that cannot be one, as LangChain's own stores say it."""


class BotWireByteStore(BaseStore[str, bytes]):
    """A persistent `ByteStore` for LangChain.

    ::

        store = BotWireByteStore()
        embedder = CacheBackedEmbeddings.from_bytes_store(model, store, namespace="model-1")

    What a call sets or deletes is on disk when it returns, all or none, for up to 10,000 keys; more are written in parts of
    as many. Safe for any number of threads, processes and event loops.

    Args:
        namespace: the namespace that the keys are in, and nothing else.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        ttl: time to live of what is set in seconds; None: no limit.
        options: as for `Memory`.

    Raises:
        InvalidName: the namespace is not allowed.
        InvalidArgument: the address or an option is wrong.
        StoreError: the file cannot be opened.

    Keys have 1 to 512 bytes of UTF-8 without control characters; another raises `InvalidKey`, which is LangChain's
    `InvalidKeyException` too. Every method may also raise the errors that `Memory` names.
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

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes under each key, or None."""
        names = _names(keys)
        entries = {entry.key: entry for part in _parts(names) for entry in self._memory.read(GetEntries(tuple(part)))}
        return [_bytes(entries.get(name)) for name in names]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set keys.

        Raises:
            InvalidValue: a value is not bytes, or larger than 16 MiB; nothing was written.
        """
        for part in _parts(self._puts(key_value_pairs)):
            self._memory.write(*part)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Remove keys; those that are not there are left out."""
        for part in _parts(_names(keys)):
            self._memory.write(*[Delete(name) for name in part])

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the keys that begin with a prefix, in the order of their UTF-8 bytes, read in pages as they are needed."""
        start, after = _prefix(prefix), None
        while page := self._memory.list_keys(start, limit=_PAGE, after=after):
            yield from page
            after = page[-1]

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """As `mget`."""
        names = _names(keys)
        entries: dict[str, Entry] = {}
        for part in _parts(names):
            entries.update(
                (entry.key, entry) for entry in await self._async_memory.bridge.read(GetEntries(tuple(part)))
            )
        return [_bytes(entries.get(name)) for name in names]

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """As `mset`."""
        for part in _parts(self._puts(key_value_pairs)):
            await self._async_memory.bridge.write(*part)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """As `mdelete`."""
        for part in _parts(_names(keys)):
            await self._async_memory.bridge.write(*[Delete(name) for name in part])

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """As `yield_keys`."""
        start, after = _prefix(prefix), None
        while page := await self._async_memory.list_keys(start, limit=_PAGE, after=after):
            for key in page:
                yield key
            after = page[-1]

    @cached_property
    def _async_memory(self) -> AsyncMemory:
        return AsyncMemory.of(self._memory)

    def _puts(self, pairs: Iterable[tuple[str, bytes]]) -> list[Put]:
        puts = []
        for key, value in pairs:
            if type(value) is not bytes:
                raise InvalidValue(f"a byte store holds bytes, not {type(value).__name__}")
            puts.append(Put(_name(key), encode(value), self._ttl))
        return puts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"


def _name(key: object) -> str:
    try:
        return check_name(key)
    except InvalidName as error:
        raise InvalidKey(str(error)) from None


def _names(keys: Iterable[str]) -> list[str]:
    return [_name(key) for key in keys]


def _prefix(prefix: str | None) -> str:
    try:
        return check_prefix(prefix or "")
    except InvalidName as error:
        raise InvalidKey(str(error)) from None


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), MAX_OPERATIONS):
        yield items[start : start + MAX_OPERATIONS]


def _bytes(entry: Entry | None) -> bytes | None:
    if entry is None:
        return None
    if not isinstance(entry.stored, bytes):
        raise InvalidValue(f"key {entry.key!r} holds no bytes: something else than a byte store set it")
    return entry.stored
