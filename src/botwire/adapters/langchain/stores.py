"""BotWireByteStore and BotWireCache: keys and bytes, and answers of models, for LangChain."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Unpack

from langchain_core.caches import BaseCache
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk
from langchain_core.stores import BaseStore, InvalidKeyException

from ...errors import BotWireError, InvalidName, InvalidValue
from ...limits import check_name, check_prefix, check_ttl
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Delete, Put
from ...queries import GetEntries, GetEntry
from ...records import Entry
from ...values import Stored, decode, encode, size
from .._base import BATCH_BYTES, UNREADABLE, OverMemory, async_form, batches, blocking_method, reason
from .history import to_item, to_messages, to_plain

_log = logging.getLogger("botwire")

_PAGE = 1000
_PREFIX = "cache/"
_TEXTS = {cls.__name__: cls for cls in (Generation, GenerationChunk)}
_CHATS = {cls.__name__: cls for cls in (ChatGeneration, ChatGenerationChunk)}


class InvalidKey(InvalidName, InvalidKeyException):
    """A key that is not allowed, as LangChain's own stores report it."""


class BotWireByteStore(OverMemory, BaseStore[str, bytes]):
    """A persistent `ByteStore` for LangChain.

    What a call sets or deletes is on disk when it returns, all or none, for up to 10,000 keys and 16 MiB. More take several
    writes. Threads, processes and event loops may share a store.

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
        names = [_checked(check_name, key) for key in keys]
        found = {
            entry.key: entry for part in batches(names) for entry in await memory.bridge.read(GetEntries(tuple(part)))
        }
        return [_bytes(found.get(name)) for name in names]

    @blocking_method
    async def mset(self, memory: Namespace, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        puts = [self._put(key, value) for key, value in key_value_pairs]
        for part in batches(puts, size=lambda put: size(put.stored), room=BATCH_BYTES):
            await memory.bridge.write(*part)

    @blocking_method
    async def mdelete(self, memory: Namespace, keys: Sequence[str]) -> None:
        for part in batches([_checked(check_name, key) for key in keys]):
            await memory.bridge.write(*[Delete(name) for name in part])

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the keys with a prefix, in the order of their UTF-8 bytes, read in pages as they are needed."""
        start, after = _checked(check_prefix, prefix or ""), None
        while page := self._memory.list_keys(start, limit=_PAGE, after=after):
            yield from page
            after = page[-1]

    amget = async_form(mget)
    amset = async_form(mset)
    amdelete = async_form(mdelete)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        start, after = _checked(check_prefix, prefix or ""), None
        while page := await self._async_memory.list_keys(start, limit=_PAGE, after=after):
            for key in page:
                yield key
            after = page[-1]

    def _put(self, key: str, value: bytes) -> Put:
        if type(value) is not bytes:
            raise InvalidValue(f"a byte store holds bytes, not {type(value).__name__}")
        return Put(_checked(check_name, key), encode(value), self._ttl)


def _checked(check: Callable[[str], str], name: str) -> str:
    try:
        return check(name)
    except InvalidName as error:
        raise InvalidKey(str(error)) from None


def _bytes(entry: Entry | None) -> bytes | None:
    if entry is None:
        return None
    if not isinstance(entry.stored, bytes):
        raise InvalidValue(f"key {entry.key!r} holds no bytes: it was not set by a byte store")
    return entry.stored


class BotWireCache(OverMemory, BaseCache):
    """A persistent cache for LangChain that processes can share. An answer is on disk when `update` returns.

    Generations are stored as data and rebuilt as generations and messages. Stored data never names a class to create.

    A cache never costs an answer: whatever fails in `lookup` is a miss, and what `update` cannot store is not cached. The logger
    ``botwire`` warns each time. A lookup may take as long as the memory's timeout.

    Args:
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        ttl: time to live of an answer in seconds; None: no limit.
    """

    def __init__(
        self,
        namespace: str = "langchain-cache",
        url: str | None = None,
        *,
        ttl: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._memory = Memory(namespace, url, **options)
        self._ttl = check_ttl(ttl)

    @blocking_method
    async def lookup(self, memory: Namespace, prompt: str, llm_string: str) -> Sequence[Generation] | None:
        try:
            entry = await memory.bridge.read(GetEntry(_key(prompt, llm_string)))
            return None if entry is None else _generations(entry.value) or None  # an answer has one generation or more
        except Exception as error:  # noqa: BLE001 - the model can still answer
            _warn("no answer is taken from the cache", error)
            return None

    @blocking_method
    async def update(self, memory: Namespace, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        try:
            stored = _stored(return_val)
            await memory.bridge.write(Put(_key(prompt, llm_string), stored, self._ttl))
        except Exception as error:  # noqa: BLE001 - the model has answered
            _warn("an answer is not cached", error)

    def clear(self, **_: Any) -> None:
        self._memory.clear(_PREFIX)

    alookup = async_form(lookup)
    aupdate = async_form(update)

    async def aclear(self, **_: Any) -> None:
        await self._async_memory.clear(_PREFIX)


def _key(prompt: str, llm_string: str) -> str:
    digest = hashlib.sha256(f"{len(prompt)}:{prompt}{llm_string}".encode("utf-8", "surrogatepass"))
    return _PREFIX + digest.hexdigest()


def _warn(what: str, error: Exception) -> None:
    # What another error says may contain the answer.
    _log.warning(
        "%s: %s", what, reason(error) if isinstance(error, ValueError | BotWireError) else type(error).__name__
    )


def _stored(generations: Sequence[Generation]) -> Stored:
    stored = encode([_item(generation) for generation in generations])
    if _generations(decode(stored)) != list(generations):
        raise InvalidValue("it would not come back unchanged")
    return stored


def _item(generation: Generation) -> dict[str, Any]:
    kind = type(generation).__name__
    if type(generation) not in {*_TEXTS.values(), *_CHATS.values()}:
        raise InvalidValue(f"LangChain has no generation {kind}")
    item: dict[str, Any] = {"type": kind, "info": to_plain(generation.generation_info)}
    if isinstance(generation, ChatGeneration):
        return {**item, "message": to_item(generation.message)}
    return {**item, "text": generation.text}


def _generations(items: Any) -> list[Generation]:
    try:
        return [_generation(item) for item in items]
    except UNREADABLE as error:
        raise InvalidValue(f"the stored answer is not one of LangChain: {reason(error)}") from None


def _generation(item: Any) -> Generation:
    kind, info = item["type"], item["info"]
    if kind in _CHATS:
        (message,) = to_messages([item["message"]])
        return _CHATS[kind](message=message, generation_info=info)  # type: ignore[arg-type]
    return _TEXTS[kind](text=item["text"], generation_info=info)
