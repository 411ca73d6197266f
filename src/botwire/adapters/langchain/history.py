"""BotWireChatHistory: the messages of a session as a LangChain chat history.

A message is stored as LangChain's own `message_to_dict` writes it. Only `messages_from_dict` rebuilds it, which creates
nothing but messages. LangChain's `load` and `loads` are never used: they create any class that an ``lc`` key in the data
names (CVE-2025-68664).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from langchain_core import messages as classes
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, messages_from_dict
from pydantic import SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from ...errors import InvalidValue
from ...memory import Memory, Options
from ...records import Message
from ...values import decode, encode_json
from .._base import UNREADABLE, OverSession, SessionId, reason, session_name, unreadable

__all__ = ["BotWireChatHistory"]


class BotWireChatHistory(OverSession, BaseChatMessageHistory):
    """A persistent chat history for LangChain.

    ::

        history = BotWireChatHistory("user-42")
        history.add_user_message("My name is Ada.")
        history.messages                              # also in another process, or after a crash

    Messages are on disk when a call that adds them returns. Threads, processes and event loops may add to a session at once.
    Every message is kept once for each time it was added, whatever its ``id``, in one order for all readers. The messages of
    one call stay together: all are stored, or none.

    Every message comes back equal to what was added, chunks as chunks. Types that JSON lacks are stored as pydantic writes them:
    tuples and sets as lists, enums as their values, dates, UUIDs and bytes as text, nested models as dicts, and dict keys as
    text. A message of a class that LangChain cannot read back comes back as the LangChain class that it derives from. Its
    own fields become extra fields, and its ``type``, if different, becomes ``original_type``. A message that cannot come
    back at all is refused before anything is written.

    Args:
        session_id: the name of the session: 1 to 512 bytes of UTF-8 without control characters. Of an int or a UUID, the text.
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
    """

    def __init__(
        self,
        session_id: SessionId,
        namespace: str = "langchain-sessions",
        url: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._memory = Memory(namespace, url, **options)
        self._history = self._memory.history(session_name(session_id))

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The messages of the session in order, read again each time.

        Raises:
            InvalidValue: the session contains something that is not a LangChain message.
        """
        return _restored(self.session_id, self._history.messages())

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, at most 10,000 at once, all or none. They are on disk when this returns.

        Raises:
            InvalidValue: a message contains something that would not come back; nothing was written.
        """
        self._history.append([to_item(message) for message in messages])

    async def aget_messages(self) -> list[BaseMessage]:
        """As `messages`."""
        return _restored(self.session_id, await self._async_history.messages())

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """As `add_messages`. A call that is cancelled adds all of them or none."""
        await self._async_history.append([to_item(message) for message in messages])


_KINDS = ("AI", "Chat", "Function", "Human", "System", "Tool")
_TYPES: dict[type, str] = {
    cls: cls.model_fields["type"].default
    for cls in (
        *(getattr(classes, f"{kind}Message{suffix}") for kind in _KINDS for suffix in ("", "Chunk")),
        classes.RemoveMessage,
    )
}
"""The classes that `messages_from_dict` can create, with the ``type`` of each."""

_JSON_LEAVES = frozenset({str, int, float, bool, type(None)})
_NOTHING: tuple[Any, ...] = (None, {}, [])
_OMITTED = frozenset(
    {
        *("additional_kwargs", "response_metadata", "name", "id"),
        *("tool_calls", "invalid_tool_calls", "usage_metadata", "artifact"),
    }
)
"""Fields that every class sets to None or an empty value if they are missing."""
_TOOL_FIELDS = ("tool_calls", "invalid_tool_calls", "tool_call_chunks")


def to_item(message: BaseMessage) -> dict[str, Any]:
    """Return the stored form of a message, after rebuilding it once: a message that cannot be read would break the session.

    Rebuilding takes a tenth of the time of the commit that follows.
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
        raise InvalidValue(f"the {type(message).__name__} is nested too deeply, or contains itself") from error
    if data.get("type") != type_:
        data.setdefault("original_type", data.get("type"))
        data["type"] = type_
    item = {"type": type_, "data": _shortened(data)}
    (back,) = to_messages([decode(encode_json(item))])
    fields = {**back.__dict__, **(back.model_extra or {})}
    changed = [name for name in data if name not in fields or fields[name] != data[name]]
    if changed:
        raise InvalidValue(f"LangChain would read the {type(message).__name__} back with another {', '.join(changed)}")
    return item


def _shortened(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out fields without content: LangChain takes twice as long to create a message that has all of them.

    A message with raw tool calls is stored whole, because LangChain parses those if it gets no others.
    """
    if data.get("additional_kwargs") or data.get("tool_call_chunks") or not isinstance(data["content"], str):
        return data
    return {
        name: value
        for name, value in data.items()
        if name not in _OMITTED or value not in _NOTHING or (name == "artifact" and value is not None)
    }


def to_plain(value: Any) -> Any:
    """Return a message's dump as JSON values; types that JSON lacks are written as pydantic does."""
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


def _restored(session: str, records: list[Message]) -> list[BaseMessage]:
    try:
        return to_messages([record.data for record in records])
    except InvalidValue:
        for record in records:
            try:
                to_messages([record.data])
            except InvalidValue as error:
                raise unreadable(record.seq, session, "LangChain", error) from None
        raise


def to_messages(items: list[Any]) -> list[BaseMessage]:
    """Rebuild messages from their stored form."""
    try:
        messages = messages_from_dict(items)
    except UNREADABLE as error:
        raise InvalidValue(f"LangChain cannot read it as a message: {reason(error)}") from None
    for message, item in zip(messages, items, strict=True):
        if isinstance(message, AIMessage):
            # LangChain parses tool calls again from their raw form, so set them to what they were.
            for name in _TOOL_FIELDS:
                if name in item["data"] and item["data"][name] != getattr(message, name):
                    setattr(message, name, item["data"][name])
    return messages
