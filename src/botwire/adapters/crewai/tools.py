"""memory_tools: facts by name, as tools for CrewAI's agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeAlias, Unpack

from crewai.tools import BaseTool
from pydantic import BaseModel, Field, PrivateAttr

from ...aio import AsyncMemory
from ...bridge import awaiting, blocking
from ...errors import InvalidArgument, Unavailable
from ...memory import Memory, Options
from ...namespace import Namespace
from ...records import Entry


def memory_tools(namespace: str, url: str | None = None, **options: Unpack[Options]) -> list[BaseTool]:
    """Return tools with which an agent of CrewAI remembers facts by name: remember, recall, list and forget.

    ::

        agent = Agent(role=…, goal=…, backstory=…, tools=memory_tools("research-crew"))

    They need no embedder and no model. Whatever they remember is there under its key for `botwire.Memory` too.

    Args:
        namespace: the namespace that the agent may read and write.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `botwire.Memory`.

    Raises:
        InvalidName, InvalidArgument: the namespace, the address or an option is not allowed.
        StoreError: the file cannot be opened.
    """
    memory = Memory(namespace, url, **options)
    return [tool.over(memory) for tool in (_Remember, _Recall, _List, _Forget)]


_Call: TypeAlias = Callable[..., Awaitable[Any]]
_set: _Call = awaiting(Memory.set)
_entry: _Call = awaiting(Memory.entry)
_keys: _Call = awaiting(Memory.list_keys)
_delete: _Call = awaiting(Memory.delete)
_search: _Call = awaiting(Memory.search)
_MAX_KEYS = 200
_MAX_FOUND = 5


def _text(entry: Entry) -> str:
    return entry.value if isinstance(entry.value, str) else str(entry.stored)


def _never(_arguments: Any = None, _result: Any = None) -> bool:
    return False


class _MemoryTool(BaseTool):
    """A tool over a memory. CrewAI must not cache what it answers: the same question has another answer after a write."""

    cache_function: Any = _never
    _memory: Memory = PrivateAttr()
    _twin: AsyncMemory = PrivateAttr()

    @classmethod
    def over(cls, memory: Memory) -> Self:
        tool = cls()
        tool._memory, tool._twin = memory, AsyncMemory.of(memory)
        return tool

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a crew has the same memory."""
        return self

    def _run(self, **arguments: Any) -> str:
        return self._answer_now(arguments)

    @blocking
    async def _answer_now(self, arguments: dict[str, Any]) -> str:
        return await self._answer(self._memory, **arguments)

    async def _arun(self, **arguments: Any) -> str:
        return await self._answer(self._twin, **arguments)

    async def _answer(self, memory: Namespace, **arguments: Any) -> str:
        raise NotImplementedError


class Key(BaseModel):
    """Arguments of a tool that takes a name."""

    key: str = Field(description="The name of the fact, such as user/42/colour, at most 512 bytes.")


class Fact(Key):
    """Arguments of a tool that takes a name and a value."""

    value: str = Field(description="What to remember under this name. It replaces what was there.")


class Prefix(BaseModel):
    """Arguments of a tool that takes a prefix."""

    prefix: str = Field(default="", description="What the names begin with, such as user/42/. Empty: all names.")


class _Remember(_MemoryTool):
    name: str = "remember"
    description: str = "Remember a fact under a name, for later runs and for other agents."
    args_schema: type[BaseModel] = Fact

    async def _answer(self, memory: Namespace, *, key: str, value: str) -> str:  # type: ignore[override]
        await _set(memory, key, value)
        return f"Remembered {key}."


class _Recall(_MemoryTool):
    name: str = "recall"
    description: str = "Recall the fact that was remembered under a name, or facts that have to do with some words."
    args_schema: type[BaseModel] = Key

    async def _answer(self, memory: Namespace, *, key: str) -> str:  # type: ignore[override]
        entry = await _entry(memory, key)
        if entry is not None:
            return _text(entry)
        try:
            found = [hit.entry for hit in await _search(memory, key, limit=_MAX_FOUND, kinds="entries")]
        except (InvalidArgument, Unavailable):  # the values are encrypted, or the index is off or not there yet
            found = []
        lines = [f"{entry.key}: {_text(entry)}" for entry in found]
        return "\n".join([f"Nothing is remembered under {key}.", *(["But there is:"] if lines else []), *lines])


class _List(_MemoryTool):
    name: str = "list"
    description: str = "List the names under which facts are remembered."
    args_schema: type[BaseModel] = Prefix

    async def _answer(self, memory: Namespace, *, prefix: str = "") -> str:  # type: ignore[override]
        keys = await _keys(memory, prefix, limit=_MAX_KEYS + 1)
        more = ["… and more: ask for a longer prefix."] if len(keys) > _MAX_KEYS else []
        return "\n".join([*keys[:_MAX_KEYS], *more]) or "Nothing is remembered."


class _Forget(_MemoryTool):
    name: str = "forget"
    description: str = "Forget the fact that was remembered under a name."
    args_schema: type[BaseModel] = Key

    async def _answer(self, memory: Namespace, *, key: str) -> str:  # type: ignore[override]
        return f"Forgot {key}." if await _delete(memory, key) else f"Nothing was remembered under {key}."
