"""BotWireChatHistory: the messages of a session as a LangChain chat history.

A message is stored as LangChain's own `message_to_dict` writes it. Only `messages_from_dict` rebuilds it, which creates
nothing but messages. LangChain's `load` and `loads` are never used: they create any class that an ``lc`` key in the data
names (CVE-2025-68664).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

from langchain_core import messages as classes
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, messages_from_dict
from pydantic import SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from ...bridge import awaiting, repeated
from ...errors import Conflict, InvalidArgument, InvalidValue
from ...history import History
from ...limits import check_count
from ...memory import Memory, Options
from ...namespace import Namespace
from ...records import Message
from ...values import decode, encode_json
from .._base import UNREADABLE, OverSession, SessionId, async_form, blocking_method, reason, session_name, unreadable
from .._contexts import is_reduced, limits_of

if TYPE_CHECKING:
    from ...conversations.health import Problem
    from ...reading import PickedContext

__all__ = ["BotWireChatHistory"]

_context = awaiting(History.context_messages)
_stored = awaiting(History.messages)


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

    With `last` or `max_tokens`, or after `summarize`, `messages` has only the context of a model: the system messages at the
    start of the session, the summary, and the newest messages that fit. A tool call is never separated from its results.
    `all_messages` has every message.

    Args:
        session_id: the name of the session: 1 to 512 bytes of UTF-8 without control characters. Of an int or a UUID, the text.
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        last: `messages` has at most this many messages. None: no limit.
        max_tokens: `messages` has at most this many tokens, by `count`. None: no limit.
        count: takes a message and returns its tokens, for example ``lambda message: count_tokens_approximately([message])``.
            None: 4 tokens a message, and one for each 4 bytes of UTF-8 of its texts.
        ttl: seconds, or a timedelta, after the last message until the session expires. None: adding a message changes nothing.
    """

    def __init__(
        self,
        session_id: SessionId,
        namespace: str = "langchain-sessions",
        url: str | None = None,
        *,
        last: int | None = None,
        max_tokens: int | None = None,
        count: Callable[[BaseMessage], float] | None = None,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._last = check_count(last, "last", least=1)
        self._limits = limits_of(max_tokens, count, ttl, lambda item: to_messages([item])[0])
        self._memory = Memory(namespace, url, **options)
        self._history = self._memory.history(session_name(session_id))

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The messages of the session in order, or the context of a model, read again each time.

        Raises:
            InvalidValue: the session contains something that is not a LangChain message.
            InvalidArgument: not even the newest turn fits into `max_tokens`; the error names the smallest number. Or `count`
                raised an error, or returned something else than a number.
        """
        return self._read()

    @blocking_method
    async def _read(self, memory: Namespace) -> list[BaseMessage]:
        """As `messages`."""
        history = History(memory, self.session_id)
        if self._last is None and not await is_reduced(memory, self.session_id, self._limits):
            return _restored(self.session_id, await _stored(history))
        picked = await repeated(memory.bridge, partial(self._picked, history), f"session {self.session_id!r}")
        return [
            *_restored(self.session_id, picked.system),
            *to_messages(picked.summary),
            *_restored(self.session_id, picked.messages),
        ]

    async def _picked(self, history: History) -> PickedContext:
        """Return the context that keeps both limits. Raises `Conflict` if the session changes while it is read."""
        if self._last is None:
            return await _context(history, self._limits.max_tokens, count=self._limits.counter)
        by_number = await _newest(history, self._last)
        if self._limits.max_tokens is None:
            return by_number
        by_tokens = await _context(history, self._limits.max_tokens, count=self._limits.counter)
        if (by_tokens.version, by_tokens.last) != (by_number.version, by_number.last):
            raise Conflict(f"session {self.session_id!r} was changed while it was read")
        # Both end with the newest message, so the shorter one keeps both limits.
        return min(by_tokens, by_number, key=lambda picked: len(picked.messages))

    def all_messages(self) -> list[BaseMessage]:
        """Return every message of the session, whatever the limits and the summary. The first one has the seq 1."""
        return _restored(self.session_id, self._history.messages())

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, at most 10,000 at once, all or none. They are on disk when this returns.

        Raises:
            InvalidValue: a message contains something that would not come back; nothing was written.
        """
        self._history.append([to_item(message) for message in messages], ttl=self._limits.ttl)

    def summarize(self, messages: Sequence[BaseMessage], *, upto: int, if_last: int | None = None) -> None:
        """Store a summary, which `messages` has from now on instead of the first messages. It is on disk when this returns.

        The first messages stay in the session, in `all_messages`. What others have added in the meantime is not covered, so nothing
        is lost. A later summary replaces this one.

        Args:
            messages: the summary. An empty list, with an `upto` of 0, deletes it.
            upto: how many messages it covers, from the start of the session.
            if_last: only if the session has this many messages.

        Raises:
            InvalidArgument: the session has fewer messages than `upto`; nothing was written.
            Conflict: the session changed, or has a summary that covers more messages; nothing was written.
        """
        self._history.summarize(upto=upto, summary=[to_item(message) for message in messages], if_last=if_last)

    def mend(self, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair what a crash in the middle of a turn leaves, and what providers refuse, in one step. Returns what was done.

        Args:
            policy: what happens to a tool call without a result. "cancel": it gets one with the status ``error``. "drop": it is deleted.
        """
        return self._history.mend(policy)

    async def aall_messages(self) -> list[BaseMessage]:
        """As `all_messages`."""
        return _restored(self.session_id, await self._async_history.messages())

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """As `add_messages`. A call that is cancelled adds all of them or none."""
        await self._async_history.append([to_item(message) for message in messages], ttl=self._limits.ttl)

    async def asummarize(self, messages: Sequence[BaseMessage], *, upto: int, if_last: int | None = None) -> None:
        """As `summarize`."""
        summary = [to_item(message) for message in messages]
        await self._async_history.summarize(upto=upto, summary=summary, if_last=if_last)

    async def amend(self, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """As `mend`."""
        return await self._async_history.mend(policy)

    aget_messages = async_form(_read)


async def _newest(history: History, last: int) -> PickedContext:
    try:
        return await _context(history, last, count=_one)
    except InvalidArgument:  # the newest turn has more messages: begin within it
        return await _context(history, last, count=_one, start="any")


def _one(_: Any) -> int:
    return 1


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
