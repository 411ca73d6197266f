"""BotWireCache: the answers of models, so that the same question is asked once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Unpack

from langchain_core.caches import BaseCache
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from ...aio import AsyncMemory
from ...errors import InvalidValue
from ...limits import check_ttl
from ...memory import Memory, Options
from .history import to_item, to_messages, to_plain

_log = logging.getLogger("botwire")

_PREFIX = "cache/"
_TEXTS = {cls.__name__: cls for cls in (Generation, GenerationChunk)}
_CHATS = {cls.__name__: cls for cls in (ChatGeneration, ChatGenerationChunk)}


class BotWireCache(BaseCache):
    """A persistent cache for LangChain that processes can share.

    ::

        set_llm_cache(BotWireCache(ttl=86_400))

    Generations are stored as data and rebuilt as generations and messages, and nothing else: whatever class their data
    names, none is revived. One that would not come back as it is, is not stored, and a line in the log of ``botwire``
    says so.

    Args:
        namespace: the namespace that the answers are in.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        ttl: time to live of an answer in seconds; None: no limit.
        options: as for `Memory`.

    Raises:
        InvalidName: the namespace is not allowed.
        InvalidArgument: the address or an option is wrong.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `Memory` names.
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

    def lookup(self, prompt: str, llm_string: str) -> Sequence[Generation] | None:
        """Return the answer to a prompt by a model of this configuration, or None."""
        return _generations(self._memory.get(_key(prompt, llm_string)))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep an answer; it is on disk when this returns."""
        items = _items(return_val)
        if items is not None:
            self._memory.set(_key(prompt, llm_string), items, ttl=self._ttl)

    def clear(self, **_: Any) -> None:
        """Forget all answers."""
        self._memory.clear(_PREFIX)

    async def alookup(self, prompt: str, llm_string: str) -> Sequence[Generation] | None:
        """As `lookup`."""
        return _generations(await self._async_memory.get(_key(prompt, llm_string)))

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """As `update`."""
        items = _items(return_val)
        if items is not None:
            await self._async_memory.set(_key(prompt, llm_string), items, ttl=self._ttl)

    async def aclear(self, **_: Any) -> None:
        """As `clear`."""
        await self._async_memory.clear(_PREFIX)

    @cached_property
    def _async_memory(self) -> AsyncMemory:
        return AsyncMemory.of(self._memory)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"


def _key(prompt: str, llm_string: str) -> str:
    digest = hashlib.sha256(f"{len(prompt)}:{prompt}{llm_string}".encode("utf-8", "surrogatepass"))
    return _PREFIX + digest.hexdigest()


def _items(generations: Sequence[Generation]) -> list[dict[str, Any]] | None:
    try:
        items = [_item(generation) for generation in generations]
    except ValueError as error:
        _log.warning("an answer is not cached: %s", error)
        return None
    if _generations(items) != list(generations):
        _log.warning("an answer is not cached: it would not come back as it is")
        return None
    return items


def _item(generation: Generation) -> dict[str, Any]:
    kind = type(generation).__name__
    if type(generation) not in {*_TEXTS.values(), *_CHATS.values()}:
        raise InvalidValue(f"LangChain has no generation {kind}")
    item: dict[str, Any] = {"type": kind, "info": to_plain(generation.generation_info)}
    if isinstance(generation, ChatGeneration):
        return {**item, "message": to_item(generation.message)}
    return {**item, "text": generation.text}


def _generations(items: Any) -> list[Generation] | None:
    """Return generations from what is stored; None, as for a missing answer, when something else is stored there."""
    if not isinstance(items, list):
        return None
    try:
        return [_generation(item) for item in items]
    except (InvalidValue, LookupError, TypeError, ValueError):
        return None


def _generation(item: Any) -> Generation:
    kind, info = item["type"], item["info"]
    if kind in _CHATS:
        (message,) = to_messages([item["message"]])
        return _CHATS[kind](message=message, generation_info=info)  # type: ignore[arg-type]
    return _TEXTS[kind](text=item["text"], generation_info=info)
