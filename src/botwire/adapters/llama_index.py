"""BotWireChatStore and BotWireMemoryStore: persistent chat stores for LlamaIndex.

A message is stored as its `model_dump` in JSON, and only ever rebuilt as a `ChatMessage`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, Unpack, cast

from ..aio import AsyncMemory
from ..backoff import MAX_ATTEMPTS, pause_after
from ..bridge import awaiting
from ..errors import Conflict, InvalidArgument, InvalidValue
from ..history import History
from ..limits import MAX_OPERATIONS, check_count, check_name, check_ttl
from ..memory import Memory, Options
from ..namespace import Namespace
from ..operations import Append, Forget, NewMessage, Operation, Pop, Replace
from ..queries import CountMessages, ListMessages, ListSessions
from ..records import Message
from ..timestamps import new_id
from ..values import decode, encode_json
from ._base import UNREADABLE, async_form, batches, blocking_method, needs, reason, unreadable

with needs("llama_index", "botwire.adapters.llama_index needs llama-index-core: pip install 'botwire[llama-index]'"):
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
    from llama_index.core.storage.chat_store.base import BaseChatStore
    from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
    from llama_index.core.storage.chat_store.loading import RECOGNIZED_CHAT_STORES

__all__ = ["BotWireChatStore", "BotWireMemoryStore"]

if TYPE_CHECKING:
    from ..conversations.health import Problem

_log = logging.getLogger("botwire")
_mend = awaiting(History.mend)

Change: TypeAlias = Callable[[list[Message]], tuple[int, Sequence[NewMessage], list[Operation]] | None]
"""From the messages of a session to the index of the first that is replaced, the replacement, and other operations; None: no change."""


class _Reopened(BaseModel):
    """The fields of a store, from which a copy or a workflow opens it again."""

    namespace: str = Field(description="The namespace of the messages")
    url: str | None = Field(
        default=None, repr=False, description="The address, without secrets; None: the default address"
    )
    encrypted: bool = Field(
        default=False, repr=False, description="Whether it needs its encryption key to be opened again"
    )

    ttl: float | None = Field(
        default=None, repr=False, description="Seconds after which a key expires if no message is added; None: never"
    )

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a memory has the same messages."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # LlamaIndex leaves out of a stored workflow what it cannot pickle, and would continue without the store.
        return _reopen, (type(self), self.model_dump())


class BotWireChatStore(_Reopened, BaseChatStore):
    """A persistent chat store for LlamaIndex.

    Messages are on disk when a call that stores them returns. Threads, processes and event loops may use a key at once: every
    message is kept, and deleted once. The messages of one call stay together: all are stored, or none.

    A message of a subclass of `ChatMessage` comes back as a `ChatMessage`, with its own fields in ``additional_kwargs``. Keys
    are 1 to 512 bytes of UTF-8 without control characters. A key without messages does not exist. Methods that delete do not return
    a message that LlamaIndex cannot read; they delete it and log a warning.

    Args:
        namespace: the namespace of the messages. A key is a session of it.
        ttl: seconds, or a timedelta, after which a key expires if no message is added. None: adding messages changes nothing.
        url, options: as for `botwire.Memory`. It also lists the errors of the constructor and of every method.
    """

    _memory: Memory = PrivateAttr()
    _async_memory: AsyncMemory = PrivateAttr()

    def __init__(
        self,
        namespace: str = "llama-index-chats",
        url: str | None = None,
        *,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        encrypted = _encrypted(options)
        memory = Memory(namespace, url, **options)
        super().__init__(namespace=namespace, url=url and memory.address, encrypted=encrypted, ttl=check_ttl(ttl))
        self._memory, self._async_memory = memory, AsyncMemory.of(memory)

    @classmethod
    def class_name(cls) -> str:
        return "BotWireChatStore"

    @blocking_method
    async def set_messages(self, memory: Namespace, key: str, messages: list[ChatMessage]) -> None:
        """Replace the messages of a key, at most 10,000, in one step."""
        await _set(memory, (), key, messages, self.ttl)

    @blocking_method
    async def get_messages(self, memory: Namespace, key: str) -> list[ChatMessage]:
        return await _get(memory, key)

    @blocking_method
    async def add_message(self, memory: Namespace, key: str, message: ChatMessage, idx: int | None = None) -> None:
        """Add a message at the end, or insert it at an index, as ``list.insert`` does."""
        await _add(memory, key, [message], self.ttl, idx)

    @blocking_method
    async def delete_messages(self, memory: Namespace, key: str) -> list[ChatMessage] | None:
        count = await memory.bridge.read(CountMessages(check_name(key)))
        pops = await memory.bridge.write(*[Pop(key, MAX_OPERATIONS)] * (count // MAX_OPERATIONS + 2))
        return _deleted(key, [message for pop in reversed(pops) for message in cast("list[Message]", pop)]) or None

    @blocking_method
    async def delete_message(self, memory: Namespace, key: str, idx: int) -> ChatMessage | None:
        """Delete the message at an index, also a negative one, and return it. Those after it are written again and count as writes."""
        return await _delete(memory, key, idx)

    @blocking_method
    async def delete_last_message(self, memory: Namespace, key: str) -> ChatMessage | None:
        """Delete the last message and return it; None if there is none. No other caller gets the same one."""
        (popped,) = await memory.bridge.write(Pop(check_name(key)))
        deleted = _deleted(key, cast("list[Message]", popped))
        return deleted[0] if deleted else None

    @blocking_method
    async def get_keys(self, memory: Namespace) -> list[str]:
        return await _keys(memory)

    @blocking_method
    async def mend(self, memory: Namespace, key: str, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair what a crash in the middle of a turn leaves, and what providers refuse, in one step. Returns what was done.

        Args:
            key: the key of the messages.
            policy: what happens to a tool call without a result. "cancel": it gets one that says so. "drop": it is deleted.
        """
        return await _mend(History(memory, key), policy)

    amend = async_form(mend)
    aset_messages = async_form(set_messages)
    aget_messages = async_form(get_messages)
    async_add_message = async_form(add_message)
    adelete_messages = async_form(delete_messages)
    adelete_message = async_form(delete_message)
    adelete_last_message = async_form(delete_last_message)
    aget_keys = async_form(get_keys)


class BotWireMemoryStore(_Reopened, AsyncDBChatStore):
    """The persistent store of a LlamaIndex `Memory`, for its active and its archived messages.

    As `BotWireChatStore`, but only for event loops, as in LlamaIndex, and with keys of at most 500 bytes. A status is active
    or archived. Where it may be None, that means both, the archived messages first.
    """

    _memory: AsyncMemory = PrivateAttr()

    def __init__(
        self,
        namespace: str = "llama-index-memories",
        url: str | None = None,
        *,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        encrypted = _encrypted(options)
        memory = AsyncMemory(namespace, url, **options)
        super().__init__(namespace=namespace, url=url and memory.address, encrypted=encrypted, ttl=check_ttl(ttl))
        self._memory = memory

    @classmethod
    def class_name(cls) -> str:
        return "BotWireMemoryStore"

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        skip, most = check_count(offset, "offset") or 0, check_count(limit, "limit")
        if status is not None:
            return await _get(self._memory, _session(key, status), skip, most)
        archived, active = [await _get(self._memory, session) for session in _sessions(key)]
        return (archived + active)[skip:][:most]

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        return sum([await self._memory.bridge.read(CountMessages(session)) for session in _sessions(key, status)])

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        await _add(self._memory, _session(key, status), [message], self.ttl)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Add messages at the end, at most 10,000, all or none."""
        await _add(self._memory, _session(key, status), messages, self.ttl)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Replace all messages of a key, of both statuses, by at most 9,999."""
        await _set(self._memory, _sessions(key), _session(key, status), messages, self.ttl)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        return await _delete(self._memory, _session(key, MessageStatus.ACTIVE), idx)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        await self._memory.bridge.write(*[Forget(session) for session in _sessions(key, status)])

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        return await self._cut(key, n, archive=False)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive the oldest active messages of a key, at most n, and return them: all in one write."""
        return await self._cut(key, n, archive=True)

    async def _cut(self, key: str, n: int, *, archive: bool) -> list[ChatMessage]:
        archived, active = _sessions(key)
        number = check_count(n, "n") or 0

        def cut(stored: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]] | None:
            oldest = stored[:number]
            moved: list[Operation] = [Append(archived, _again(oldest))] if archive else []
            return (0, _again(stored[number:]), moved) if oldest else None

        return _deleted(active, (await _change(self._memory, active, cut))[:number])

    async def mend(self, key: str, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair the active messages of a key, as `BotWireChatStore.mend` does."""
        return await self._memory.history(_session(key, MessageStatus.ACTIVE)).mend(policy)

    async def get_keys(self) -> list[str]:
        sessions = await _keys(self._memory)
        return list(dict.fromkeys(session.partition("/")[2] for session in sessions))


RECOGNIZED_CHAT_STORES[BotWireChatStore.class_name()] = BotWireChatStore
"""Where ``ChatMemoryBuffer.from_dict`` finds the class that a dict names."""


def _encrypted(options: Options) -> bool:
    """Return whether there is an encryption key, or raise if there was one. Removes the options that `to_dict` added."""
    given = cast("dict[str, Any]", options)
    given.pop("class_name", None)
    if given.pop("encrypted", False) and not given.get("encryption_key"):
        raise InvalidArgument("these messages are encrypted: create the store with its encryption_key=")
    return bool(given.get("encryption_key"))


def _reopen(cls: type[Any], fields: dict[str, Any]) -> Any:
    return cls(**fields)


def _session(key: str, status: MessageStatus) -> str:
    """Return the session with the messages of a status."""
    return check_name(f"{status.value}/{check_name(key)}")


def _sessions(key: str, status: MessageStatus | None = None) -> list[str]:
    """Return the sessions with the messages of a status, or with the archived and then the active ones."""
    return [_session(key, each) for each in (MessageStatus.ARCHIVED, MessageStatus.ACTIVE) if status in {None, each}]


# Logic for blocking and for awaiting callers (see `botwire.bridge`)


async def _get(memory: Namespace, session: str, after: int = 0, limit: int | None = None) -> list[ChatMessage]:
    messages = await memory.bridge.read(ListMessages(check_name(session), after, limit))
    return [_to_message(session, message) for message in messages]


async def _set(
    memory: Namespace, old: Sequence[str], session: str, messages: Sequence[ChatMessage], ttl: float | None
) -> None:
    others: list[Operation] = [Forget(check_name(name)) for name in old if name != session]
    await memory.bridge.write(*_limited([*others, Replace(check_name(session), _stored(messages), ttl=ttl)]))


async def _add(
    memory: Namespace, session: str, messages: Sequence[ChatMessage], ttl: float | None, idx: int | None = None
) -> None:
    new = _stored(messages)
    if idx is None:
        if new:
            await memory.bridge.write(*_limited([Append(check_name(session), new, ttl=ttl)]))
        return
    index = _index(idx)

    def insert(stored: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]]:
        start = len(stored[:index])
        return start, (*new, *_again(stored[start:])), []

    await _change(memory, session, insert)


async def _delete(memory: Namespace, session: str, idx: int) -> ChatMessage | None:
    index = _index(idx)

    def delete(stored: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]] | None:
        start = index if index >= 0 else len(stored) + index
        return (start, _again(stored[start + 1 :]), []) if 0 <= start < len(stored) else None

    replaced = await _change(memory, session, delete)
    deleted = _deleted(session, replaced[:1])
    return deleted[0] if deleted else None


async def _keys(memory: Namespace) -> list[str]:
    sessions = await memory.bridge.read(ListSessions(order="created"))
    return [session.name for session in reversed(sessions)]


async def _change(memory: Namespace, session: str, change: Change) -> list[Message]:
    """Replace the end of a session, unless another client has changed it since it was read: then try again.

    Returns the messages that were replaced, or raises `Conflict` if other clients were faster every time.
    """
    check_name(session)
    for attempt in range(MAX_ATTEMPTS):
        stored = await memory.bridge.read(ListMessages(session))
        decided = change(stored)
        if decided is None:
            return []
        start, end, more = decided
        replaced = stored[start:]
        pops = [Pop(session, len(part), tuple(one.id for one in part)) for part in batches(replaced)][::-1]
        try:
            await memory.bridge.write(*_limited([*pops, *more, *([Append(session, tuple(end))] if end else [])]))
        except Conflict:
            await memory.bridge.sleep(pause_after(attempt))
        else:
            return replaced
    raise Conflict(f"other clients changed the messages {MAX_ATTEMPTS} times in a row; nothing was written")


def _limited(operations: list[Operation]) -> list[Operation]:
    count = sum(len(item.messages) if isinstance(item, Append | Replace) else 1 for item in operations)
    if count > MAX_OPERATIONS:
        raise InvalidArgument(
            f"at most {MAX_OPERATIONS:,} messages can be written at once, not {count:,}: a change before the end of a session writes "
            "all messages after it again"
        )
    return operations


def _index(idx: object) -> int:
    if isinstance(idx, bool) or not isinstance(idx, int):
        raise InvalidArgument(f"idx is an int, not {idx!r}")
    return idx


# Messages


def _again(messages: Sequence[Message]) -> tuple[NewMessage, ...]:
    return tuple(NewMessage(message.id, message.stored) for message in messages)


def _stored(messages: Sequence[ChatMessage]) -> tuple[NewMessage, ...]:
    return tuple(NewMessage(new_id(), _to_text(message)) for message in messages)


def _to_text(message: ChatMessage) -> str:
    """Return the stored form of a message, after rebuilding it once: a message that cannot be read would break the session."""
    if not isinstance(message, ChatMessage):
        raise InvalidValue(f"a chat store holds ChatMessages, not {type(message).__name__}")
    try:
        _check_numbers(message.model_dump())
        dumped: dict[str, Any] = message.model_dump(mode="json")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValue(f"the {type(message).__name__} cannot be stored: {reason(error)}") from error
    data = {name: value for name, value in dumped.items() if name in ChatMessage.model_fields}
    own = {name: value for name, value in dumped.items() if name not in data}
    data["additional_kwargs"] = own | data["additional_kwargs"]
    text = encode_json(data)
    try:
        back = ChatMessage.model_validate(decode(text)).model_dump(mode="json")
    except UNREADABLE as error:
        raise InvalidValue(f"LlamaIndex would not read the {type(message).__name__} back: {reason(error)}") from None
    if back != data:
        raise InvalidValue(f"LlamaIndex would read the {type(message).__name__} back differently")
    return text


def _check_numbers(value: Any) -> None:
    """Refuse numbers that pydantic would silently write as null."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)


def _deleted(session: str, messages: Sequence[Message]) -> list[ChatMessage]:
    """Return messages that are deleted already. One that cannot be read is left out, so that it can be deleted too."""
    found = []
    for message in messages:
        try:
            found.append(_to_message(session, message))
        except InvalidValue as error:
            _log.warning("a message was deleted and is not returned: %s", error)
    return found


def _to_message(session: str, message: Message) -> ChatMessage:
    try:
        return ChatMessage.model_validate(message.data)
    except UNREADABLE as error:
        raise unreadable(message.seq, session, "LlamaIndex", error) from None
