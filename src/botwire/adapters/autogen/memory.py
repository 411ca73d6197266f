"""BotWireMemory and BotWireChatCompletionContext for AutoGen, and the state of its agents and teams.

Messages and memories are stored as JSON and rebuilt only as AutoGen's own message classes, `MemoryContent` and `Image`. No
class is looked up by a name in the data.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any, Self, TypeVar, Unpack

from autogen_core import CancellationToken, Component, Image
from autogen_core.memory import Memory as AutoGenMemory
from autogen_core.memory import MemoryContent, MemoryMimeType, MemoryQueryResult, UpdateContextResult
from autogen_core.model_context import (
    ChatCompletionContext,
)
from autogen_core.models import (
    SystemMessage,
)
from pydantic_core import to_jsonable_python

from ...aio import AsyncMemory
from ...errors import InvalidArgument, InvalidValue
from ...limits import check_count
from ...memory import Memory, Options
from .config import PlaceConfig, arguments_of, place_of

T = TypeVar("T")


class BotWireMemoryConfig(PlaceConfig):
    """What `BotWireMemory` can be made from again."""

    name: str
    limit: int | None = None
    k: int | None = None


class BotWireMemory(AutoGenMemory, Component[BotWireMemoryConfig]):
    """A persistent memory for AutoGen's agents.

    ::

        memory = BotWireMemory("user-42")
        await memory.add(MemoryContent(content="Likes teal.", mime_type=MemoryMimeType.TEXT))
        agent = AssistantAgent("assistant", model_client, memory=[memory])

    What is added is on disk when `add` returns, and stays in the order in which it was added, by however many agents, threads
    and processes. As `ListMemory` does, `query` returns all of it and `update_context` adds all of it to the model's context; with
    `k`, only what has to do with the query, or with the last message of the context: it is found as by `botwire.Memory.search`. Text, JSON, bytes and images come back as they went in, with their MIME type and metadata.

    Args:
        name: which memory: 1 to 512 bytes of UTF-8 without control characters.
        namespace: the namespace that it is in.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        limit: use only the last `limit` contents, for the model and for a query. None: all.
        k: use only the `k` best matches of a query, up to 1,000. Not together with `limit`, nor with an encryption key.
        options: as for `botwire.Memory`. Token and key are hidden in the component's config as soon as it is text, and an
            embedder is not in it.

    Raises:
        InvalidName, InvalidArgument: a name, the address or an option is not allowed.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `botwire.Memory` names.
    """

    component_type = "memory"
    component_config_schema = BotWireMemoryConfig

    def __init__(
        self,
        name: str = "default",
        namespace: str = "autogen-memory",
        url: str | None = None,
        *,
        limit: int | None = None,
        k: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        if k is not None and (limit is not None or options.get("encryption_key")):
            raise InvalidArgument("k cannot be had together with limit, nor with an encryption key")
        self._memory = Memory(namespace, url, **options)
        self._history = AsyncMemory.of(self._memory).history(name)
        self._limit, self._k = check_count(limit, "limit", least=1), check_count(k, "k", least=1)
        self._place = place_of(self._memory, url, options)

    @property
    def name(self) -> str:
        """Which memory it is."""
        return self._history.session_id

    async def add(self, content: MemoryContent, cancellation_token: CancellationToken | None = None) -> None:
        """Add something at the end; it is on disk when this returns.

        Raises:
            InvalidValue: JSON content or metadata holds something that JSON does not know; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        await _cancellable(self._history.append([_content_to_item(content)]), cancellation_token)

    async def query(
        self, query: str | MemoryContent = "", cancellation_token: CancellationToken | None = None, **kwargs: Any
    ) -> MemoryQueryResult:
        """Return everything, or the last `limit`, or the `k` that answer the query best; in the order it was added.

        As in `ListMemory`, the query chooses nothing, unless there is a `k`; an empty one never does.

        Raises:
            InvalidValue: the session of the namespace contains something else.
        """
        del kwargs
        asked = query if isinstance(query, str) else _told(query)
        return MemoryQueryResult(results=await _cancellable(self._contents(asked), cancellation_token))

    async def update_context(self, model_context: ChatCompletionContext) -> UpdateContextResult:
        """Add one system message to the context, in the words of `ListMemory`, with what `query` returns.

        The query is what the last message of the context says. Of bytes and images, which text cannot hold, it says what they are.
        """
        contents = await self._contents(await _asked(model_context) if self._k else "")
        if contents:
            lines = [f"{number}. {_told(content)}" for number, content in enumerate(contents, 1)]
            text = "\nRelevant memory content (in chronological order):\n" + "\n".join(lines) + "\n"
            await model_context.add_message(SystemMessage(content=text))
        return UpdateContextResult(memories=MemoryQueryResult(results=contents))

    async def clear(self) -> None:
        """Forget everything in this memory."""
        await self._history.clear()

    async def close(self) -> None:
        """Close the memory. Nothing is pending; what was added stays."""
        self._memory.close()

    async def _contents(self, query: str) -> list[MemoryContent]:
        if self._k and query:
            hits = await self._history.search(query, limit=self._k, neighbours=0)
            records = sorted((hit.message for hit in hits if hit.message), key=lambda record: record.seq)
        else:
            records = await self._history.messages(self._limit)
        return [_item_to_content(record.data, record.seq) for record in records]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self._memory.namespace!r}, {self._memory.address!r})"

    def _to_config(self) -> BotWireMemoryConfig:
        return BotWireMemoryConfig(name=self.name, limit=self._limit, k=self._k, **self._place)

    @classmethod
    def _from_config(cls, config: BotWireMemoryConfig) -> Self:
        return cls(name=config.name, limit=config.limit, k=config.k, **arguments_of(config))


async def _cancellable(work: Coroutine[Any, Any, T], token: CancellationToken | None) -> T:
    task = asyncio.ensure_future(work)
    if token is not None:
        token.link_future(task)
    return await task


# Component configs


# Messages


# Memories


class _OpenContent(MemoryContent, extra="allow"):  # type: ignore[call-arg]
    """A content with the fields of a subclass."""


_KINDS: dict[type, str] = {str: "text", dict: "json", bytes: "bytes", Image: "image"}


def _content_to_item(content: MemoryContent) -> dict[str, Any]:
    data: Any = content.content
    kind = next((kind for cls, kind in _KINDS.items() if isinstance(data, cls)), None)
    if kind is None:
        raise InvalidValue(f"a memory's content is text, a dict, bytes or an Image, not {type(data).__name__}")
    if kind == "bytes":
        data = base64.b64encode(data).decode()
    elif kind == "image":
        data = data.to_base64()
    named = isinstance(content.mime_type, MemoryMimeType)
    mime_type = content.mime_type.value if isinstance(content.mime_type, MemoryMimeType) else content.mime_type
    try:
        more = to_jsonable_python(content.model_dump(exclude=set(MemoryContent.model_fields)))
    except ValueError as error:
        raise InvalidValue(f"the {type(content).__name__} cannot be stored: {error}") from error
    item = {"kind": kind, "content": data, "mime_type": mime_type, "named": named, "metadata": content.metadata}
    return item | ({"more": more} if more else {})


def _item_to_content(item: Any, seq: int) -> MemoryContent:
    try:
        data, kind = item["content"], item["kind"]
        if kind == "bytes":
            data = base64.b64decode(data, validate=True)
        elif kind == "image":
            data = Image.from_base64(data)
        mime_type = MemoryMimeType(item["mime_type"]) if item["named"] else item["mime_type"]
        more = item.get("more", {})
        return (_OpenContent if more else MemoryContent)(
            content=data, mime_type=mime_type, metadata=item["metadata"], **more
        )
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise InvalidValue(f"message {seq} of the session is not a memory of AutoGen: {error}") from error


async def _asked(context: ChatCompletionContext) -> str:
    messages = await context.get_messages()
    said = messages[-1].content if messages else ""
    return " ".join(part for part in ([said] if isinstance(said, str) else said) if isinstance(part, str))


def _told(content: MemoryContent) -> str:
    data = content.content
    if isinstance(data, bytes):
        return f"({len(data)} bytes)"
    if isinstance(data, Image):
        return f"(an image of {data.image.width} x {data.image.height})"
    return str(data)
