"""BotWireCache: answers of models, so that the same prompt is sent once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Unpack

from langchain_core.caches import BaseCache
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from ...errors import InvalidValue
from ...limits import check_ttl
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Put
from ...queries import GetEntry
from ...values import encode
from .._base import OverMemory, async_form, blocking_method
from .history import to_item, to_messages, to_plain

_log = logging.getLogger("botwire")

_PREFIX = "cache/"
_TEXTS = {cls.__name__: cls for cls in (Generation, GenerationChunk)}
_CHATS = {cls.__name__: cls for cls in (ChatGeneration, ChatGenerationChunk)}


class BotWireCache(OverMemory, BaseCache):
    """A persistent cache for LangChain that processes can share. An answer is on disk when `update` returns.

    ::

        set_llm_cache(BotWireCache(ttl=86_400))

    Generations are stored as data and rebuilt as generations and messages. Stored data never names a class to create. A
    generation that would not come back unchanged is not stored, and the logger ``botwire`` warns.

    Args:
        namespace: the namespace of the answers.
        url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
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
        entry = await memory.bridge.read(GetEntry(_key(prompt, llm_string)))
        return None if entry is None else _generations(entry.value)

    @blocking_method
    async def update(self, memory: Namespace, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        items = _items(return_val)
        if items is not None:
            await memory.bridge.write(Put(_key(prompt, llm_string), encode(items), self._ttl))

    def clear(self, **_: Any) -> None:
        self._memory.clear(_PREFIX)

    alookup = async_form(lookup)
    aupdate = async_form(update)

    async def aclear(self, **_: Any) -> None:
        await self._async_memory.clear(_PREFIX)


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
        _log.warning("an answer is not cached: it would not come back unchanged")
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
    """Return stored generations, or None if something else is stored."""
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
