"""BotWireMemory and BotWireChatCompletionContext for AutoGen, and the state of its agents and teams.

Messages and memories are stored as JSON and rebuilt only as AutoGen's own message classes, `MemoryContent` and `Image`. No
class is looked up by a name in the data.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar, Unpack

from ...aio import AsyncHistory, AsyncMemory
from ...errors import InvalidArgument, InvalidValue
from ...limits import MAX_OPERATIONS, check_count
from ...memory import Memory, Options
from ...records import Append, Forget, NewMessage, new_id
from ...values import encode_json

try:
    from autogen_core import CancellationToken, Component, ComponentModel, Image
    from autogen_core.memory import Memory as AutoGenMemory
    from autogen_core.memory import MemoryContent, MemoryMimeType, MemoryQueryResult, UpdateContextResult
    from autogen_core.model_context import (
        BufferedChatCompletionContext,
        ChatCompletionContext,
        TokenLimitedChatCompletionContext,
        UnboundedChatCompletionContext,
    )
    from autogen_core.models import (
        AssistantMessage,
        ChatCompletionClient,
        FunctionExecutionResultMessage,
        LLMMessage,
        SystemMessage,
        UserMessage,
    )
    from autogen_core.tools import ToolSchema
    from pydantic import BaseModel, SecretBytes, SecretStr
    from pydantic_core import to_jsonable_python
except ModuleNotFoundError as error:
    if error.name != "autogen_core":
        raise
    missing = "botwire.adapters.autogen needs autogen-core: pip install 'botwire[autogen]'"
    raise ImportError(missing, name=error.name) from None

__all__ = [
    "BotWireChatCompletionContext",
    "BotWireChatCompletionContextConfig",
    "BotWireMemory",
    "BotWireMemoryConfig",
    "load_state",
    "save_state",
]

T = TypeVar("T")


class PlaceConfig(BaseModel):
    """Where a component keeps things.

    The secrets are there when a config is loaded in the process that dumped it; printed or written as text they are asterisks.
    """

    namespace: str
    url: str | None = None
    timeout: float | None = None
    token: SecretStr | None = None
    encryption_key: list[SecretStr | SecretBytes] | None = None


class BotWireMemoryConfig(PlaceConfig):
    """What `BotWireMemory` can be made from again."""

    name: str
    limit: int | None = None
    k: int | None = None


class BotWireMemory(AutoGenMemory, Component[BotWireMemoryConfig]):
    """A memory for AutoGen's agents that outlives the process.

    ::

        memory = BotWireMemory("user-42")
        await memory.add(MemoryContent(content="Likes teal.", mime_type=MemoryMimeType.TEXT))
        agent = AssistantAgent("assistant", model_client, memory=[memory])

    What is added is on disk when `add` returns, and stays in the order in which it was added, by however many agents, threads
    and processes. As `ListMemory` does, `query` answers with all of it and `update_context` tells the model all of it; with
    `k`, only what has to do with the query, or with the last message of the context: it is found as by `botwire.Memory.search`. Text, JSON, bytes and images come back as they went in, with their MIME type and metadata.

    Args:
        name: which memory: 1 to 512 bytes of UTF-8 without control characters.
        namespace: the namespace that it is in.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        limit: tell the model, and answer a query with, the last so many only. None: all.
        k: only the so many that answer a query best, up to 1,000. Not together with `limit`, nor with an encryption key.
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
        self._place = _place(self._memory, url, options)

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
            InvalidValue: somebody put something else into this session of the namespace.
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
        """Let go of the store. Nothing is pending; what was added stays."""
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
        return cls(name=config.name, limit=config.limit, k=config.k, **_arguments(config))


class BotWireChatCompletionContextConfig(PlaceConfig):
    """What `BotWireChatCompletionContext` can be made from again."""

    session_id: str
    buffer_size: int | None = None
    model_client: ComponentModel | None = None
    token_limit: int | None = None
    tool_schema: list[ToolSchema] | None = None
    initial_messages: list[LLMMessage] | None = None


class BotWireChatCompletionContext(ChatCompletionContext, Component[BotWireChatCompletionContextConfig]):
    """The messages between an agent and its model, kept beyond the process.

    ::

        context = BotWireChatCompletionContext("user-42", buffer_size=20)
        agent = AssistantAgent("assistant", model_client, model_context=context)

    Every message is on disk when it has been added, and all of them stay; what the model gets to see of them is chosen as
    AutoGen's own contexts do it: everything (`UnboundedChatCompletionContext`), the last `buffer_size`
    (`BufferedChatCompletionContext`, and no more is read), or as much as `token_limit` or the `model_client` has room for
    (`TokenLimitedChatCompletionContext`).

    A message comes back as the class of AutoGen that it derives from, with the fields of a subclass as extra fields.

    Args:
        session_id: whose messages: 1 to 512 bytes of UTF-8 without control characters.
        namespace: the namespace that the session is in.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        buffer_size: show the model the last so many. Not together with `model_client`.
        model_client: counts the tokens.
        token_limit: show the model so many tokens at the most. None: as many as `model_client` has room for.
        tool_schema: tools whose tokens count too.
        initial_messages: what a session begins with, as long as it has no messages. They are stored with the first one.
        options: as for `botwire.Memory`. Token and key are hidden in the component's config as soon as it is text.

    Raises:
        ValueError: `buffer_size` or `token_limit` is not more than 0, as in AutoGen.
        InvalidName, InvalidArgument: a name, the address or an option is not allowed.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `botwire.Memory` names.
    """

    component_config_schema = BotWireChatCompletionContextConfig

    def __init__(
        self,
        session_id: str,
        namespace: str = "autogen-contexts",
        url: str | None = None,
        *,
        buffer_size: int | None = None,
        model_client: ChatCompletionClient | None = None,
        token_limit: int | None = None,
        tool_schema: Sequence[ToolSchema] | None = None,
        initial_messages: Sequence[LLMMessage] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(None if initial_messages is None else list(initial_messages))
        if buffer_size is not None and model_client is not None:
            raise InvalidArgument("pass buffer_size (messages) or model_client (tokens), not both")
        if token_limit is not None and model_client is None:
            raise InvalidArgument("token_limit needs the model_client that counts the tokens")
        self._buffer_size, self._model_client, self._token_limit = buffer_size, model_client, token_limit
        self._tool_schema = None if tool_schema is None else list(tool_schema)
        self._view([])
        self._memory = Memory(namespace, url, **options)
        self._twin = AsyncMemory.of(self._memory)
        self._history: AsyncHistory = self._twin.history(session_id)
        self._begun = False
        self._place = _place(self._memory, url, options)

    @property
    def session_id(self) -> str:
        """The name of the session."""
        return self._history.session_id

    async def add_message(self, message: LLMMessage) -> None:
        """Add a message at the end; it is on disk when this returns.

        Raises:
            InvalidValue: the message holds something that would not come back; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        initial: list[LLMMessage] = []
        if self._initial_messages and not self._begun and not await self._history.length():
            initial = self._initial_messages
        # Whoever else begins the session now does it under the same ids, so that they are there once.
        ids = [*(f"initial-{number}" for number in range(len(initial))), new_id()]
        await self._history.append([_message_to_item(item) for item in (*initial, message)], ids=ids)
        self._begun = True

    async def get_messages(self) -> list[LLMMessage]:
        """Return the messages that the model is to see, in order, read anew each time.

        Raises:
            InvalidValue: somebody put something into the session that is not a message of AutoGen.
        """
        messages: list[LLMMessage] = await self._view(await self._stored(self._buffer_size)).get_messages()
        return messages

    async def clear(self) -> None:
        """Forget the messages of the session, those that it began with too."""
        await self._history.clear()
        self._begun = True

    async def save_state(self) -> Mapping[str, Any]:
        """Return all messages of the session as JSON values, as AutoGen's own contexts do."""
        return {"messages": [_message_to_item(message) for message in await self._stored()]}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace the messages of the session by those of a saved state, at the most 10,000, in one write.

        Raises:
            InvalidValue: the state holds something that is not a message of AutoGen; nothing was written.
        """
        found = [_item_to_message(item) if isinstance(item, Mapping) else item for item in state.get("messages", [])]
        if len(found) > MAX_OPERATIONS:
            raise InvalidArgument(f"a state may have {MAX_OPERATIONS:,} messages, this one has {len(found):,}")
        new = tuple(NewMessage(new_id(), encode_json(_message_to_item(message))) for message in found)
        await self._twin._write(Forget(self.session_id), Append(self.session_id, new))
        self._begun = True

    async def _stored(self, last: int | None = None) -> list[LLMMessage]:
        records = await self._history.messages(last)
        if not records and not self._begun:
            return list(self._initial_messages or ())
        return [_item_to_message(record.data, record.seq) for record in records]

    def _view(self, messages: list[LLMMessage]) -> ChatCompletionContext:
        if self._buffer_size is not None:
            return BufferedChatCompletionContext(self._buffer_size, messages)
        if self._model_client is None:
            return UnboundedChatCompletionContext(messages)
        return TokenLimitedChatCompletionContext(
            self._model_client,
            token_limit=self._token_limit,
            tool_schema=self._tool_schema,
            initial_messages=messages,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r}, {self._memory.namespace!r}, {self._memory.address!r})"

    def _to_config(self) -> BotWireChatCompletionContextConfig:
        return BotWireChatCompletionContextConfig(
            session_id=self.session_id,
            buffer_size=self._buffer_size,
            model_client=None if self._model_client is None else self._model_client.dump_component(),
            token_limit=self._token_limit,
            tool_schema=self._tool_schema,
            initial_messages=self._initial_messages,
            **self._place,
        )

    @classmethod
    def _from_config(cls, config: BotWireChatCompletionContextConfig) -> Self:
        return cls(
            session_id=config.session_id,
            buffer_size=config.buffer_size,
            model_client=None
            if config.model_client is None
            else ChatCompletionClient.load_component(config.model_client),
            token_limit=config.token_limit,
            tool_schema=config.tool_schema,
            initial_messages=config.initial_messages,
            **_arguments(config),
        )


class Stateful(Protocol):
    """An agent or a team of AutoGen, or anything else with a state that can be saved and loaded."""

    async def save_state(self) -> Mapping[str, Any]:
        """Return the state as JSON values."""
        ...

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        ...


async def save_state(
    target: Stateful, name: str, namespace: str = "autogen-states", url: str | None = None, **options: Unpack[Options]
) -> None:
    """Store the state of an agent or a team under a name; it is on disk when this returns.

    Args:
        target: the agent or the team.
        name: what to find it by: 1 to 512 bytes of UTF-8 without control characters.
        namespace: where.
        url: where the namespace is, as for `botwire.Memory`.
        options: as for `botwire.Memory`.

    Raises:
        InvalidValue: the state holds something that JSON does not know, or has more than 16 MiB; nothing was written.

    Raises also the errors that `botwire.Memory` names.
    """
    try:
        state = to_jsonable_python(dict(await target.save_state()))
    except ValueError as error:
        raise InvalidValue(f"the state of the {type(target).__name__} cannot be stored: {error}") from error
    async with AsyncMemory(namespace, url, **options) as memory:
        await memory.set(name, state)


async def load_state(
    target: Stateful, name: str, namespace: str = "autogen-states", url: str | None = None, **options: Unpack[Options]
) -> bool:
    """Let an agent or a team go on from the state under a name, and return whether there was one. Arguments as in `save_state`."""
    async with AsyncMemory(namespace, url, **options) as memory:
        entry = await memory.entry(name)
    if entry is not None:
        await target.load_state(entry.value)
    return entry is not None


async def _cancellable(work: Coroutine[Any, Any, T], token: CancellationToken | None) -> T:
    task = asyncio.ensure_future(work)
    if token is not None:
        token.link_future(task)
    return await task


# Component configs


def _place(memory: Memory, url: str | None, options: Options) -> dict[str, Any]:
    keys = options.get("encryption_key")
    return {
        "namespace": memory.namespace,
        "url": None if url is None else memory.address,
        "timeout": options.get("timeout"),
        "token": options.get("token"),
        "encryption_key": [keys] if isinstance(keys, str | bytes) else keys,
    }


def _arguments(config: PlaceConfig) -> dict[str, Any]:
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
            "this config was text, which hides tokens and encryption keys: put them in again before you load it"
        )
    return value


# Messages

_MESSAGES: dict[str, Any] = {
    cls.__name__: cls for cls in (SystemMessage, UserMessage, AssistantMessage, FunctionExecutionResultMessage)
}
_OPEN: dict[str, Any] = {
    name: type(cls)(name, (cls,), {"__module__": cls.__module__}, extra="allow") for name, cls in _MESSAGES.items()
}
"""The same classes for messages with fields that they do not know."""


def _message_to_item(message: Any) -> dict[str, Any]:
    type_ = next((name for name, cls in _MESSAGES.items() if isinstance(message, cls)), None)
    if type_ is None:
        raise InvalidValue(f"a chat completion context holds messages of AutoGen, not {type(message).__name__}")
    try:
        item: dict[str, Any] = to_jsonable_python(message.model_dump())
    except ValueError as error:
        raise InvalidValue(f"the {type(message).__name__} cannot be stored: {error}") from error
    if item["type"] != type_:
        item.setdefault("original_type", item["type"])
    return item | {"type": type_}


def _item_to_message(item: Any, seq: int | None = None) -> LLMMessage:
    where = "the state" if seq is None else f"message {seq} of the session"
    try:
        closed = _MESSAGES[item["type"]]
        known = item.keys() <= closed.model_fields.keys()
        return (closed if known else _OPEN[item["type"]]).model_validate(item)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidValue(f"{where} is not a message of AutoGen: {error}") from error


# Memories


class _OpenContent(MemoryContent, extra="allow"):  # type: ignore[call-arg]
    """A content with the fields of somebody's subclass."""


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
