"""BotWireChatHistory: the messages of a session as a LangChain chat history.

A message is stored as LangChain's own `message_to_dict` has it, and rebuilt only by `messages_from_dict`, which makes
messages and nothing else. LangChain's `load` and `loads` are never used: they build whatever class an ``lc`` key in
the data names (CVE-2025-68664).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Unpack

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
    messages_from_dict,
)
from pydantic import SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from ...aio import AsyncHistory, AsyncMemory
from ...errors import InvalidValue
from ...memory import Memory, Options
from ...records import Message
from ...values import decode, encode_json

__all__ = ["BotWireChatHistory"]


class BotWireChatHistory(BaseChatMessageHistory):
    """A persistent chat history for LangChain.

    ::

        history = BotWireChatHistory("user-42")
        history.add_user_message("My name is Ada.")
        history.messages                              # also in another process, or after a crash

    Messages are on disk when a call that adds them returns. Any number of threads, processes and event loops may add to
    a session at once: every message is kept once for each time it was added, whatever its ``id``, and in one order that
    all see. What a call adds stays together: all of it is stored, or none.

    Every message comes back equal to what was added, chunks as chunks. What JSON does not know is stored as pydantic
    writes it in JSON: tuples and sets as lists, enums as their values, dates, UUIDs and bytes as text, nested models as
    dicts, and dict keys as text. A message of a class that LangChain cannot read back comes back as the class of
    LangChain that it derives from, with its own fields as extra fields, and its ``type``, if that is another, as
    ``original_type``. What cannot come back at all is refused, before anything is written.

    Args:
        session_id: whose messages: 1 to 512 bytes of UTF-8 without control characters.
        namespace: the namespace that the session is in.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: ``token``, ``timeout`` and ``encryption_key``, as for `Memory`.

    Raises:
        InvalidName: the session or the namespace is not allowed.
        InvalidArgument: the address or the timeout is not one.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `Memory` names.
    """

    def __init__(
        self,
        session_id: str,
        namespace: str = "langchain-sessions",
        url: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        self._memory = Memory(namespace, url, **options)
        self._history = self._memory.history(session_id)

    @property
    def session_id(self) -> str:
        """The name of the session."""
        return self._history.session_id

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The messages of the session in order, read again each time.

        Raises:
            InvalidValue: the session contains something that is not a LangChain message.
        """
        return _restored(self._history.messages())

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages at the end, at most 10,000 at once, all or none; they are on disk when this returns.

        Raises:
            InvalidValue: a message holds something that would not come back; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        self._history.append(_stored(messages))

    def clear(self) -> None:
        """Forget the messages of the session."""
        self._history.clear()

    async def aget_messages(self) -> list[BaseMessage]:
        """Return what `messages` is."""
        return _restored(await self._async_history.messages())

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """As `add_messages`. A call that is cancelled adds all of them or none."""
        await self._async_history.append(_stored(messages))

    async def aclear(self) -> None:
        """As `clear`."""
        await self._async_history.clear()

    @cached_property
    def _async_history(self) -> AsyncHistory:
        return AsyncMemory.of(self._memory).history(self.session_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r}, {self._memory.namespace!r}, {self._memory.address!r})"


_TYPES: dict[type, str] = {
    cls: cls.model_fields["type"].default
    for cls in (
        AIMessage,
        AIMessageChunk,
        ChatMessage,
        ChatMessageChunk,
        FunctionMessage,
        FunctionMessageChunk,
        HumanMessage,
        HumanMessageChunk,
        RemoveMessage,
        SystemMessage,
        SystemMessageChunk,
        ToolMessage,
        ToolMessageChunk,
    )
}
"""What `messages_from_dict` can make, and the word for each."""

_JSON_LEAVES = frozenset({str, int, float, bool, type(None)})
_NOTHING: tuple[Any, ...] = (None, {}, [])
_SILENT = frozenset(
    {
        "additional_kwargs",
        "response_metadata",
        "name",
        "id",
        "tool_calls",
        "invalid_tool_calls",
        "usage_metadata",
        "artifact",
    }
)
"""Fields that are None or empty in every class where nothing is said of them."""
_TOOL_FIELDS = ("tool_calls", "invalid_tool_calls", "tool_call_chunks")


def _stored(messages: Iterable[BaseMessage]) -> list[dict[str, Any]]:
    return [to_item(message) for message in messages]


def to_item(message: BaseMessage) -> dict[str, Any]:
    """Return what is stored of a message, after seeing that it comes back: one that does not would spoil the session.

    So every message is built once more on its way in, which takes a tenth of the time of the commit that follows.
    """
    if not isinstance(message, BaseMessage):
        raise InvalidValue(f"a chat history holds LangChain messages, not {type(message).__name__}")
    type_ = next((_TYPES[cls] for cls in type(message).__mro__ if cls in _TYPES), None)
    if type_ is None:
        raise InvalidValue(
            f"LangChain cannot read back a {type(message).__name__}: derive the class from HumanMessage, AIMessage or "
            "another of its message classes, or use ChatMessage(role=…)"
        )
    try:
        data = to_plain(message.model_dump(warnings=False))
    except ValueError as error:
        raise InvalidValue(f"the {type(message).__name__} cannot be stored: {error}") from error
    except RecursionError as error:
        raise InvalidValue(f"the {type(message).__name__} is nested too deep, or contains itself") from error
    if data.get("type") != type_:
        data.setdefault("original_type", data.get("type"))
        data["type"] = type_
    full = data
    item = {"type": type_, "data": _told(data)}
    (back,) = to_messages([decode(encode_json(item))])
    fields = {**back.__dict__, **(back.model_extra or {})}
    changed = [name for name in full if name not in fields or fields[name] != full[name]]
    if changed:
        raise InvalidValue(f"LangChain would read the {type(message).__name__} back with another {', '.join(changed)}")
    return item


def _told(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out the fields that say nothing: LangChain takes twice as long to build a message that has all of them.

    A message with raw tool calls is stored whole: LangChain parses those when it is given no others.
    """
    if data.get("additional_kwargs") or data.get("tool_call_chunks") or not isinstance(data["content"], str):
        return data
    return {
        name: value
        for name, value in data.items()
        if name not in _SILENT or value not in _NOTHING or (name == "artifact" and value is not None)
    }


def to_plain(value: Any) -> Any:
    """Return what a message's dump holds as JSON values, for what JSON does not know the way pydantic writes it."""
    kind = type(value)
    if kind in _JSON_LEAVES:
        return value
    if isinstance(value, dict):
        plain = {key if type(key) is str else _key(key): to_plain(item) for key, item in value.items()}
        if len(plain) != len(value):
            raise InvalidValue("a dict in the message has two keys that are one as text, such as 1 and '1'")
        return plain
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, SecretStr | SecretBytes):
        raise InvalidValue(f"a {kind.__name__} would be stored as asterisks: leave it out of the message")
    return to_jsonable_python(value)


def _key(key: Any) -> str:
    (text,) = to_jsonable_python({key: None})
    return str(text)


def _restored(records: list[Message]) -> list[BaseMessage]:
    try:
        return to_messages([record.data for record in records])
    except InvalidValue:
        for record in records:
            try:
                to_messages([record.data])
            except InvalidValue as error:
                raise InvalidValue(f"message {record.seq} of the session is not one of LangChain: {error}") from error
        raise


def to_messages(items: list[Any]) -> list[BaseMessage]:
    try:
        messages = messages_from_dict(items)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidValue(f"LangChain does not take it for a message: {error}") from error
    for message, item in zip(messages, items, strict=True):
        if isinstance(message, AIMessage):
            _put_back(message, item["data"])
    return messages


def _put_back(message: AIMessage, data: dict[str, Any]) -> None:
    """Set the tool calls to what they were: LangChain parses them again from their raw form, wherever it finds one."""
    for name in _TOOL_FIELDS:
        if name in data and data[name] != getattr(message, name):
            setattr(message, name, data[name])
