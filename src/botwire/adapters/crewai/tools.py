"""memory_tools: facts by name, as tools for CrewAI's agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeAlias, Unpack

from crewai.tools import BaseTool
from pydantic import BaseModel, Field, PrivateAttr

from ...aio import AsyncMemory
from ...bridge import blocking, result_of
from ...errors import InvalidArgument, Unavailable
from ...memory import Memory, Options
from ...records import Entry


def memory_tools(namespace: str, url: str | None = None, **options: Unpack[Options]) -> list[BaseTool]:
    """Return tools with which an agent of CrewAI remembers facts by name: remember, recall, list and forget.

    They need no embedder and no model. `botwire.Memory` reads the facts under the same keys.

    Args:
        namespace: the namespace that the agent may read and write.
        url, options: as for `botwire.Memory`, whose errors this function and the tools may raise too.
    """
    memory = Memory(namespace, url, **options)
    return [
        _MemoryTool(name=name, description=description, args_schema=schema).over(memory, answer)
        for name, (description, schema, answer) in _TOOLS.items()
    ]


_Facts: TypeAlias = Memory | AsyncMemory
_Call: TypeAlias = Callable[..., Awaitable[str]]
_MAX_KEYS = 200
_MAX_FOUND = 5


class _MemoryTool(BaseTool):
    """A tool over a memory. CrewAI must not cache its answers, because a write changes them."""

    cache_function: Any = lambda _arguments=None, _result=None: False
    _memory: Memory = PrivateAttr()
    _async_memory: AsyncMemory = PrivateAttr()
    _answer: _Call = PrivateAttr()

    def over(self, memory: Memory, answer: _Call) -> Self:
        """Set the memory, and the function that answers from it."""
        self._memory, self._async_memory, self._answer = memory, AsyncMemory.of(memory), answer
        return self

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a crew has the same memory."""
        return self

    @blocking
    async def _run(self, /, **arguments: Any) -> Any:
        return await self._answer(self._memory, **arguments)

    async def _arun(self, **arguments: Any) -> Any:
        return await self._answer(self._async_memory, **arguments)


class Key(BaseModel):
    """Arguments of a tool that takes a name."""

    key: str = Field(description="The name of the fact, such as user/42/colour, at most 512 bytes.")


class Fact(Key):
    """Arguments of a tool that takes a name and a value."""

    value: str = Field(description="What to remember under this name. It replaces what was there.")


class Prefix(BaseModel):
    """Arguments of a tool that takes a prefix."""

    prefix: str = Field(default="", description="What the names begin with, such as user/42/. Empty: all names.")


async def _remember(memory: _Facts, *, key: str, value: str) -> str:
    await result_of(memory.set(key, value))
    return f"Remembered {key}."


async def _recall(memory: _Facts, *, key: str) -> str:
    entry = await result_of(memory.entry(key))
    if entry is not None:
        return _text(entry)
    try:
        found = [hit.entry for hit in await result_of(memory.search(key, limit=_MAX_FOUND, kinds="entries"))]
    except (InvalidArgument, Unavailable):  # the values are encrypted, or the index is off or not complete
        found = []
    lines = [f"{entry.key}: {_text(entry)}" for entry in found]
    return "\n".join([f"Nothing is remembered under {key}.", *(["But there is:"] if lines else []), *lines])


async def _list(memory: _Facts, *, prefix: str = "") -> str:
    keys = await result_of(memory.list_keys(prefix, limit=_MAX_KEYS + 1))
    more = ["… and more: ask for a longer prefix."] if len(keys) > _MAX_KEYS else []
    return "\n".join([*keys[:_MAX_KEYS], *more]) or "Nothing is remembered."


async def _forget(memory: _Facts, *, key: str) -> str:
    return f"Forgot {key}." if await result_of(memory.delete(key)) else f"Nothing was remembered under {key}."


def _text(entry: Entry) -> str:
    return entry.value if isinstance(entry.value, str) else str(entry.stored)


_TOOLS: dict[str, tuple[str, type[BaseModel], _Call]] = {
    "remember": ("Remember a fact under a name, for later runs and for other agents.", Fact, _remember),
    "recall": (
        "Recall the fact that was remembered under a name, or facts that have to do with some words.",
        Key,
        _recall,
    ),
    "list": ("List the names under which facts are remembered.", Prefix, _list),
    "forget": ("Forget the fact that was remembered under a name.", Key, _forget),
}
"""The description of each tool, its arguments, and the function that answers."""
