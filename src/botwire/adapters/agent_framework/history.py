"""BotWireHistoryProvider: the chat history of Microsoft's Agent Framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, Unpack

import agent_framework._sessions as sessions
from agent_framework import HistoryProvider, Message

from ... import records
from ...errors import InvalidValue
from ...memory import Memory, Options
from ...values import decode, encode_json
from .._base import UNREADABLE, OverMemory, SessionId, session_name, unreadable
from .._contexts import limits_of, reduced

if TYPE_CHECKING:
    from ...conversations.health import Problem


class BotWireHistoryProvider(OverMemory, HistoryProvider):
    """Persistent chat history of agents.

    Messages are on disk when a run has ended. Any number of agents, threads, processes and event loops may add to a session
    at once. Messages that an agent passes again are stored once, by the rule of the framework's own providers. Messages are stored as
    JSON, by their `to_dict`. A message of a subclass comes back as a `Message`, with the subclass's own fields as attributes.

    Args:
        skip_excluded: leave out messages that a compaction has marked as ``_excluded``.
        max_tokens: an agent gets at most this many tokens of the session, by `count`: its summary, and the newest messages that
            fit. A function call is never separated from its result. None: no limit.
        count: takes a message and returns its tokens. None: 4 tokens a message, and one for each 4 bytes of UTF-8 of its texts.
        ttl: seconds, or a timedelta, after which a session expires if no message is added. None: adding messages changes nothing.
        source_id, load_messages, store_inputs, store_context_messages, store_context_from, store_outputs: as for the framework's
            `HistoryProvider`.
        namespace, url, options: as for `botwire.Memory`. It also lists the errors of the constructor and of every method.
    """

    DEFAULT_SOURCE_ID = "botwire_history"
    DEFAULT_SESSION = "default"

    def __init__(
        self,
        namespace: str = "agent-framework-sessions",
        url: str | None = None,
        *,
        source_id: str = DEFAULT_SOURCE_ID,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
        skip_excluded: bool = False,
        max_tokens: int | None = None,
        count: Callable[[Message], float] | None = None,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self.skip_excluded = skip_excluded
        self._limits = limits_of(max_tokens, count, ttl, _restored)
        self._memory = Memory(namespace, url, **options)

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """Return the messages of a session in order; None is the session ``default``. `InvalidValue`: it contains anything else.

        An int or a UUID as the session is its text, also in `save_messages`.
        """
        del state, kwargs
        session = self._name(session_id)
        picked = await reduced(self._async_memory, session, self._limits)
        if picked is None:
            messages = await self._stored(session_id)
        else:
            messages = [_restored(data) for data in picked.data]
        if self.skip_excluded:
            return [message for message in messages if not message.additional_properties.get("_excluded", False)]
        return messages

    async def save_messages(
        self, session_id: str | None, messages: Sequence[Message], *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Append messages to a session, at most 10,000, all or none; they are on disk when this returns.

        Raises:
            InvalidValue: a message is not JSON, or the framework would not read it back; nothing was written.
        """
        del state, kwargs
        new = list(messages)
        if new and hasattr(sessions, "filter_new_messages"):
            # The framework compares for an overlap, which is no longer than the new messages or the session.
            new = sessions.filter_new_messages(await self._stored(session_id, len(new) + 1), new)
        if new:
            history = self._async_memory.history(self._name(session_id))
            await history.append([_message_to_item(one) for one in new], ttl=self._limits.ttl)

    async def summarize(self, session_id: str | None, summary: Sequence[Message], *, upto: int) -> None:
        """Store messages that agents get instead of the first `upto` ones of a session, which stay. Others may add some at any time.

        Raises:
            InvalidArgument: the session has fewer messages; nothing was written.
            Conflict: it has a summary of more messages; nothing was written.
        """
        items = [_message_to_item(message) for message in summary]
        await self._async_memory.history(self._name(session_id)).summarize(upto=upto, summary=items)

    async def mend(self, session_id: str | None, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair what a crash in the middle of a turn leaves, and what providers refuse, in one step. Returns what was done.

        Args:
            session_id: the session.
            policy: what happens to a call without a result. "cancel": it gets one that says so. "drop": it is deleted.
        """
        return await self._async_memory.history(self._name(session_id)).mend(policy)

    def _name(self, session_id: SessionId | None) -> str:
        return session_name(self.DEFAULT_SESSION if session_id is None or session_id == "" else session_id)

    async def _stored(self, session_id: str | None, last: int | None = None) -> list[Message]:
        session = self._name(session_id)
        return [_read(session, record) for record in await self._async_memory.history(session).messages(last)]


_FIELDS = frozenset(signature(Message).parameters) | {"type"}
_TYPE: str = Message("user").to_dict()["type"]


def _message_to_item(message: Message) -> dict[str, Any]:
    if not isinstance(message, Message):
        raise InvalidValue(f"a history of Agent Framework holds messages, not {type(message).__name__}")
    item: dict[str, Any] = message.to_dict()
    if item["type"] != _TYPE:
        item = item | {"type": _TYPE, "original_type": item["type"]}
    try:
        _restored(decode(encode_json(item)))
    except UNREADABLE as error:
        raise InvalidValue(f"the {type(message).__name__} would not come back: {error}") from error
    return item


def _read(session: str, record: records.Message) -> Message:
    try:
        return _restored(record.data)
    except UNREADABLE as error:
        raise unreadable(record.seq, session, "Agent Framework", error) from None


def _restored(item: Any) -> Message:
    """Return a message, with the fields of a subclass, or of a newer release, as attributes."""
    message = Message.from_dict({name: value for name, value in item.items() if name in _FIELDS})
    for name in item.keys() - _FIELDS:
        if name.startswith("_") or hasattr(message, name):
            raise ValueError(f"a message has no field {name!r}")
        setattr(message, name, item[name])
    return message
