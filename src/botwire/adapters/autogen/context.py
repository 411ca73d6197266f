"""BotWireChatCompletionContext: the messages that a model sees, kept in a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

from autogen_core import Component, ComponentModel
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
from pydantic_core import to_jsonable_python

from ...aio import AsyncHistory, AsyncMemory
from ...errors import InvalidArgument, InvalidValue
from ...limits import MAX_OPERATIONS
from ...memory import Memory, Options
from ...operations import Append, Forget, NewMessage
from ...timestamps import new_id
from ...values import encode_json
from .config import PlaceConfig, arguments_of, place_of


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
        buffer_size: show the model the last `buffer_size` messages. Not together with `model_client`.
        model_client: counts the tokens.
        token_limit: show the model at most this number of tokens. None: as many as `model_client` has room for.
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
        self._place = place_of(self._memory, url, options)

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
        # Another client that starts the session now uses the same ids, so each message is stored once.
        ids = [*(f"initial-{number}" for number in range(len(initial))), new_id()]
        await self._history.append([_message_to_item(item) for item in (*initial, message)], ids=ids)
        self._begun = True

    async def get_messages(self) -> list[LLMMessage]:
        """Return the messages that the model is to see, in order, read again each time.

        Raises:
            InvalidValue: the session contains something that is not a message of AutoGen.
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
        """Replace the messages of the session by those of a saved state, at most 10,000, in one write.

        Raises:
            InvalidValue: the state holds something that is not a message of AutoGen; nothing was written.
        """
        found = [_item_to_message(item) if isinstance(item, Mapping) else item for item in state.get("messages", [])]
        if len(found) > MAX_OPERATIONS:
            raise InvalidArgument(f"a state may have {MAX_OPERATIONS:,} messages, this one has {len(found):,}")
        new = tuple(NewMessage(new_id(), encode_json(_message_to_item(message))) for message in found)
        await self._twin.bridge.write(Forget(self.session_id), Append(self.session_id, new))
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
            **arguments_of(config),
        )


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
