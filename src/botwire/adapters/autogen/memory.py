"""BotWireMemory: a memory for AutoGen's agents. Also the configuration that all components share."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any, Self, TypeVar, Unpack

from autogen_core import CancellationToken, Component, Image
from autogen_core.memory import Memory as AutoGenMemory
from autogen_core.memory import MemoryContent, MemoryMimeType, MemoryQueryResult, UpdateContextResult
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import SystemMessage
from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from ...aio import AsyncMemory
from ...errors import InvalidArgument, InvalidValue
from ...limits import MAX_QUESTION_CHARS, check_count
from ...memory import Memory, Options
from ...records import Message
from ...values import decode, encode_json
from .._base import UNREADABLE, reason, unreadable

T = TypeVar("T")


class PlaceConfig(BaseModel):
    """The namespace and address of a component. Its secrets are asterisks when it is printed or written as text."""

    namespace: str
    url: str | None = None
    timeout: float | None = None
    token: SecretStr | None = None
    encryption_key: list[SecretStr | SecretBytes] | None = None


def place_of(memory: Memory, url: str | None, options: Options) -> dict[str, Any]:
    """Return the fields of a `PlaceConfig`. The address is without its password."""
    keys = options.get("encryption_key")
    return {
        "namespace": memory.namespace,
        "url": None if url is None else memory.address,
        "timeout": options.get("timeout"),
        "token": options.get("token"),
        "encryption_key": [keys] if isinstance(keys, str | bytes) else keys,
    }


def arguments_of(config: PlaceConfig) -> dict[str, Any]:
    """Return the arguments that reopen the memory of a config."""
    place = {name: getattr(config, name) for name in PlaceConfig.model_fields}
    if config.token is not None:
        place["token"] = _revealed(config.token)
    if config.encryption_key is not None:
        place["encryption_key"] = [_revealed(key) for key in config.encryption_key]
    return {name: value for name, value in place.items() if value is not None}


def _revealed(secret: Any) -> Any:
    value = secret.get_secret_value()
    if value in {"*" * 10, b"*" * 10}:
        raise InvalidArgument(
            "this config was written as text, which hides tokens and encryption keys: set them again before you load it"
        )
    return value


class BotWireMemoryConfig(PlaceConfig):
    """The configuration of a `BotWireMemory`."""

    name: str
    limit: int | None = None
    k: int | None = None


class BotWireMemory(AutoGenMemory, Component[BotWireMemoryConfig]):
    """A persistent memory for AutoGen's agents: a `ListMemory` that any number of agents, threads and processes can share.

    A content is on disk when `add` returns. Contents keep the order in which they were added. With `k`, `query` and `update_context`
    use only those that match the query, or the last message of the context, as found by `botwire.Memory.search`.

    Text, JSON, bytes and images come back unchanged, with MIME type and metadata. They are stored as JSON, and come back as
    `MemoryContent` and `Image` only: no class is looked up by a name in the data.

    Args:
        name: the name of the memory: 1 to 512 bytes of UTF-8 without control characters.
        limit: use only the last `limit` contents. None: all.
        k: use only the `k` best matches of a query, up to 1,000. Not together with `limit`, nor with an encryption key.
        namespace, url, options: as for `botwire.Memory`, whose errors the constructor and every method may raise too. Token and key
            are hidden in the component's config when it is text. An embedder is not part of it.
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
            raise InvalidArgument("k cannot be used together with limit, nor with an encryption key")
        self._memory = Memory(namespace, url, **options)
        self._history = AsyncMemory.of(self._memory).history(name)
        self._limit, self._k = check_count(limit, "limit", least=1), check_count(k, "k", least=1)
        self._place = place_of(self._memory, url, options)

    @property
    def name(self) -> str:
        """The name of the memory."""
        return self._history.session_id

    async def add(self, content: MemoryContent, cancellation_token: CancellationToken | None = None) -> None:
        """Add a content at the end; it is on disk when this returns.

        Raises:
            InvalidValue: content or metadata contains objects that are not JSON, or AutoGen would not read it back; nothing was
                written.
        """
        await _cancellable(self._history.append([_content_to_item(content)]), cancellation_token)

    async def query(
        self, query: str | MemoryContent = "", cancellation_token: CancellationToken | None = None, **kwargs: Any
    ) -> MemoryQueryResult:
        """Return all contents, or the last `limit`, or the `k` that match the query best; in the order they were added.

        Without a `k`, or with an empty query, the query has no effect, as in `ListMemory`. `InvalidValue` is raised if the session
        contains anything else.
        """
        del kwargs
        text = query if isinstance(query, str) else _as_text(query)
        return MemoryQueryResult(results=await _cancellable(self._contents(text), cancellation_token))

    async def update_context(self, model_context: ChatCompletionContext) -> UpdateContextResult:
        """Query with the text of the last message, and add the result as one system message, worded as in `ListMemory`."""
        contents = await self._contents(await _last_text(model_context) if self._k else "")
        if contents:
            lines = [f"{number}. {_as_text(content)}" for number, content in enumerate(contents, 1)]
            text = "\nRelevant memory content (in chronological order):\n" + "\n".join(lines) + "\n"
            await model_context.add_message(SystemMessage(content=text))
        return UpdateContextResult(memories=MemoryQueryResult(results=contents))

    async def clear(self) -> None:
        await self._history.clear()

    async def close(self) -> None:
        """Close the memory. Nothing is pending, and the contents stay."""
        self._memory.close()

    async def _contents(self, query: str) -> list[MemoryContent]:
        if self._k and query:
            hits = await self._history.search(query[:MAX_QUESTION_CHARS], limit=self._k, neighbours=0)
            records = sorted((hit.message for hit in hits if hit.message), key=lambda record: record.seq)
        else:
            records = await self._history.messages(self._limit)
        return [_read(self.name, record) for record in records]

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
    mime_type: Any = content.mime_type
    named = isinstance(mime_type, MemoryMimeType)
    item = {"kind": kind, "content": data, "mime_type": mime_type.value if named else mime_type, "named": named}
    try:
        more = to_jsonable_python(content.model_dump(exclude=set(MemoryContent.model_fields)))
        item |= {"metadata": content.metadata} | ({"more": more} if more else {})
        _item_to_content(decode(encode_json(item)))
    except UNREADABLE as error:
        raise InvalidValue(f"the {type(content).__name__} would not come back: {reason(error)}") from None
    return item


def _item_to_content(item: Any) -> MemoryContent:
    data, kind = item["content"], item["kind"]
    if kind == "bytes":
        data = base64.b64decode(data, validate=True)
    elif kind == "image":
        data = Image.from_base64(data)
    mime_type = MemoryMimeType(item["mime_type"]) if item["named"] else item["mime_type"]
    more = item.get("more", {})
    cls = _OpenContent if more else MemoryContent
    return cls(content=data, mime_type=mime_type, metadata=item["metadata"], **more)


def _read(session: str, record: Message) -> MemoryContent:
    try:
        return _item_to_content(record.data)
    except UNREADABLE as error:
        raise unreadable(record.seq, session, "AutoGen", error) from None


async def _last_text(context: ChatCompletionContext) -> str:
    messages = await context.get_messages()
    said = messages[-1].content if messages else ""
    return " ".join(part for part in ([said] if isinstance(said, str) else said) if isinstance(part, str))


def _as_text(content: MemoryContent) -> str:
    data = content.content
    if isinstance(data, bytes):
        return f"({len(data)} bytes)"
    if isinstance(data, Image):
        return f"(an image of {data.image.width} x {data.image.height})"
    return str(data)
