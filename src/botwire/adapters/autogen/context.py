"""BotWireChatCompletionContext: the messages that a model receives. Also the state of agents and teams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, Unpack

from autogen_core import Component, ComponentModel, model_context, models
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import ChatCompletionClient, LLMMessage
from autogen_core.tools import ToolSchema
from pydantic_core import to_jsonable_python

from ...aio import AsyncMemory
from ...errors import InvalidArgument, InvalidValue
from ...limits import MAX_OPERATIONS
from ...memory import Memory, Options
from ...operations import Append, NewMessage, Replace
from ...records import Message
from ...timestamps import new_id
from ...values import decode, encode_json, size
from .._base import BATCH_BYTES, UNREADABLE, SessionId, batches, reason, session_name, unreadable
from .._contexts import limits_of, reduced
from .memory import PlaceConfig, arguments_of, place_of

if TYPE_CHECKING:
    from ...conversations.health import Problem


class BotWireChatCompletionContextConfig(PlaceConfig):
    """The configuration of a `BotWireChatCompletionContext`."""

    session_id: str
    buffer_size: int | None = None
    model_client: ComponentModel | None = None
    token_limit: int | None = None
    tool_schema: list[ToolSchema] | None = None
    initial_messages: list[LLMMessage] | None = None
    max_tokens: int | None = None
    ttl: float | None = None


class BotWireChatCompletionContext(ChatCompletionContext, Component[BotWireChatCompletionContextConfig]):
    """Persistent messages between an agent and its model.

    A message is on disk when it has been added, and all messages are kept. The arguments choose which of them the model receives, as
    AutoGen's own contexts do. Messages are stored as JSON, and come back as AutoGen's own message classes only: no class is looked up
    by a name in the data. The fields of a subclass come back as extra fields.

    Args:
        session_id: the session: 1 to 512 bytes of UTF-8 without control characters. Of an int or a UUID, the text.
        buffer_size: the model receives this many messages at most; no others are read. Not together with `model_client`.
        model_client: counts the tokens.
        token_limit: the model receives this many tokens at most. None: as many as `model_client` has room for.
        tool_schema: tools whose tokens count too.
        initial_messages: the first messages of a session without messages. They are stored with the next one.
        max_tokens: the model receives this many tokens at most, by `count`: the summary of `summarize`, and the newest messages
            that fit. A function call is never separated from its result. Not together with `buffer_size` or `model_client`.
        count: takes a message and returns its tokens. It is not part of the component's config. None: 4 tokens a message, and one
            for each 4 bytes of UTF-8 of its texts.
        ttl: seconds, or a timedelta, after which the session expires if no message is added. None: adding messages changes nothing.
        namespace, url, options: as for `botwire.Memory`, whose errors the constructor and every method may raise too. Token and key
            are hidden in the component's config when it is text.

    Raises:
        ValueError: `buffer_size` or `token_limit` is not more than 0, as in AutoGen.
    """

    component_config_schema = BotWireChatCompletionContextConfig

    def __init__(
        self,
        session_id: SessionId,
        namespace: str = "autogen-contexts",
        url: str | None = None,
        *,
        buffer_size: int | None = None,
        model_client: ChatCompletionClient | None = None,
        token_limit: int | None = None,
        tool_schema: Sequence[ToolSchema] | None = None,
        initial_messages: Sequence[LLMMessage] | None = None,
        max_tokens: int | None = None,
        count: Callable[[LLMMessage], float] | None = None,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(None if initial_messages is None else list(initial_messages))
        if buffer_size is not None and model_client is not None:
            raise InvalidArgument("pass buffer_size (messages) or model_client (tokens), not both")
        if token_limit is not None and model_client is None:
            raise InvalidArgument("token_limit needs the model_client that counts the tokens")
        if max_tokens is not None and (buffer_size is not None or model_client is not None):
            raise InvalidArgument("pass max_tokens, or buffer_size (messages), or model_client (tokens): one of them")
        self._limits = limits_of(max_tokens, count, ttl, _item_to_message)
        self._buffer_size, self._model_client, self._token_limit = buffer_size, model_client, token_limit
        self._tool_schema = None if tool_schema is None else list(tool_schema)
        self._view([])
        self._memory = Memory(namespace, url, **options)
        self._async_memory = AsyncMemory.of(self._memory)
        self._history = self._async_memory.history(session_name(session_id))
        self._started = False
        self._place = place_of(self._memory, url, options)

    @property
    def session_id(self) -> str:
        """The name of the session."""
        return self._history.session_id

    async def add_message(self, message: LLMMessage) -> None:
        """Add a message at the end; it is on disk when this returns.

        Raises:
            InvalidValue: AutoGen would not read the message back, or not as it was; nothing was written.
        """
        initial: list[LLMMessage] = []
        if self._initial_messages and not self._started and not await self._history.length():
            initial = self._initial_messages
        # Another client that starts the session now uses the same ids, so each message is stored once.
        ids = [*(f"initial-{number}" for number in range(len(initial))), new_id()]
        await self._history.append(
            [_message_to_item(item) for item in (*initial, message)], ids=ids, ttl=self._limits.ttl
        )
        self._started = True

    async def get_messages(self) -> list[LLMMessage]:
        """Return the messages that the model receives, in order, or raise `InvalidValue` if the session contains anything else."""
        if self._buffer_size is None and self._model_client is None:
            picked = await reduced(self._async_memory, self.session_id, self._limits)
            if picked is not None and picked.last:
                summary = [_item_to_message(data) for data in picked.summary]
                system, newest = (
                    [_read(self.session_id, one) for one in found] for found in (picked.system, picked.messages)
                )
                return [*system, *summary, *newest]
        messages: list[LLMMessage] = await self._view(await self._stored(self._buffer_size)).get_messages()
        return messages

    async def summarize(self, summary: Sequence[LLMMessage], *, upto: int) -> None:
        """Store messages that the model receives instead of the first `upto` ones, which stay. Others may add some at any time.

        It has no effect on a context with `buffer_size` or `model_client`.

        Raises:
            InvalidArgument: the session has fewer messages; nothing was written.
            Conflict: it has a summary of more messages; nothing was written.
        """
        await self._history.summarize(upto=upto, summary=[_message_to_item(message) for message in summary])

    async def mend(self, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair what a crash in the middle of a turn leaves, and what providers refuse, in one step. Returns what was done.

        Args:
            policy: what happens to a function call without a result. "cancel": it gets one that says so. "drop": it is deleted.
        """
        return await self._history.mend(policy)

    async def clear(self) -> None:
        await self._history.clear()
        self._started = True

    async def save_state(self) -> Mapping[str, Any]:
        return {"messages": [_message_to_item(message) for message in await self._stored()]}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace all messages with those of a saved state. `InvalidValue`: they are not AutoGen's; nothing was written.

        A state of up to 10,000 messages and 16 MiB is loaded completely or not at all. More take several writes.
        """
        found = [_of_state(item) if isinstance(item, Mapping) else item for item in state.get("messages", [])]
        new = [NewMessage(new_id(), encode_json(_message_to_item(message))) for message in found]
        parts = list(batches(new, MAX_OPERATIONS, lambda message: size(message.stored), BATCH_BYTES)) or [[]]
        write = self._async_memory.bridge.write
        await write(Replace(self.session_id, tuple(parts[0]), ttl=self._limits.ttl))
        for part in parts[1:]:
            await write(Append(self.session_id, tuple(part), ttl=self._limits.ttl))
        self._started = True

    async def _stored(self, last: int | None = None) -> list[LLMMessage]:
        records = await self._history.messages(last)
        if not records and not self._started:
            return list(self._initial_messages or ())
        return [_read(self.session_id, record) for record in records]

    def _view(self, messages: list[LLMMessage]) -> ChatCompletionContext:
        if self._buffer_size is not None:
            return model_context.BufferedChatCompletionContext(self._buffer_size, messages)
        if self._model_client is None:
            return model_context.UnboundedChatCompletionContext(messages)
        limits = {"token_limit": self._token_limit, "tool_schema": self._tool_schema}
        return model_context.TokenLimitedChatCompletionContext(self._model_client, initial_messages=messages, **limits)

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
            max_tokens=self._limits.max_tokens,
            ttl=self._limits.ttl,
            **self._place,
        )

    @classmethod
    def _from_config(cls, config: BotWireChatCompletionContextConfig) -> Self:
        names = "session_id", "buffer_size", "token_limit", "tool_schema", "initial_messages", "max_tokens", "ttl"
        given: dict[str, Any] = {name: getattr(config, name) for name in names}
        client = config.model_client and ChatCompletionClient.load_component(config.model_client)
        return cls(model_client=client, **given, **arguments_of(config))


_NAMES = "SystemMessage", "UserMessage", "AssistantMessage", "FunctionExecutionResultMessage"
_MESSAGES: dict[str, Any] = {name: getattr(models, name) for name in _NAMES}
_OPEN: dict[str, Any] = {
    name: type(cls)(name, (cls,), {"__module__": cls.__module__}, extra="allow") for name, cls in _MESSAGES.items()
}
"""The same classes, for messages with the fields of a subclass."""


def _message_to_item(message: Any) -> dict[str, Any]:
    type_ = next((name for name, cls in _MESSAGES.items() if isinstance(message, cls)), None)
    if type_ is None:
        raise InvalidValue(f"a chat completion context holds messages of AutoGen, not {type(message).__name__}")
    try:
        item: dict[str, Any] = to_jsonable_python(message.model_dump(warnings=False))
        if item["type"] != type_:
            item.setdefault("original_type", item["type"])
        item["type"] = type_
        _item_to_message(decode(encode_json(item)))
    except UNREADABLE as error:
        raise InvalidValue(f"the {type(message).__name__} would not come back: {reason(error)}") from None
    return item


def _item_to_message(item: Any) -> LLMMessage:
    closed = _MESSAGES[item["type"]]
    known = item.keys() <= closed.model_fields.keys()
    return (closed if known else _OPEN[item["type"]]).model_validate(item)


def _of_state(item: Mapping[str, Any]) -> LLMMessage:
    try:
        return _item_to_message(item)
    except UNREADABLE as error:
        raise InvalidValue(f"the state is not a message of AutoGen: {reason(error)}") from None


def _read(session: str, record: Message) -> LLMMessage:
    try:
        return _item_to_message(record.data)
    except UNREADABLE as error:
        raise unreadable(record.seq, session, "AutoGen", error) from None


class Stateful(Protocol):
    """An agent or a team of AutoGen, or another object whose state, as JSON values, can be saved and loaded."""

    async def save_state(self) -> Mapping[str, Any]: ...

    async def load_state(self, state: Mapping[str, Any]) -> None: ...


async def save_state(
    target: Stateful, name: str, namespace: str = "autogen-states", url: str | None = None, **options: Unpack[Options]
) -> None:
    """Store the state of an agent or a team under a name; it is on disk when this returns.

    Args:
        target: the agent or the team.
        name: the name of the state: 1 to 512 bytes of UTF-8 without control characters.
        namespace, url, options: as for `botwire.Memory`, whose errors this may raise too.

    Raises:
        InvalidValue: the state contains objects that are not JSON, or has more than 16 MiB; nothing was written.
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
    """Load a state into an agent or a team. Returns whether there was one. Arguments as for `save_state`."""
    async with AsyncMemory(namespace, url, **options) as memory:
        entry = await memory.entry(name)
    if entry is not None:
        await target.load_state(entry.value)
    return entry is not None
