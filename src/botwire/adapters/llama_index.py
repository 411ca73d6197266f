"""BotWireChatStore and BotWireMemoryStore: persistent chat stores for LlamaIndex.

A message is stored as its own `model_dump` writes it in JSON, and rebuilt as a `ChatMessage` and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias, Unpack, cast

from ..aio import AsyncMemory
from ..backoff import MAX_ATTEMPTS, pause_after
from ..bridge import blocking
from ..errors import Conflict, InvalidArgument, InvalidValue
from ..limits import MAX_OPERATIONS, check_count, check_name
from ..memory import Memory, Options
from ..namespace import Namespace
from ..operations import Append, Forget, NewMessage, Operation, Pop
from ..queries import CountMessages, ListMessages, ListSessions
from ..records import Message
from ..timestamps import new_id
from ..values import encode_json

try:
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
    from llama_index.core.storage.chat_store.base import BaseChatStore
    from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
    from llama_index.core.storage.chat_store.loading import RECOGNIZED_CHAT_STORES
except ModuleNotFoundError as error:
    if error.name not in {"llama_index", "llama_index.core"}:
        raise
    missing = "botwire.adapters.llama_index needs llama-index-core: pip install 'botwire[llama-index]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["BotWireChatStore", "BotWireMemoryStore"]

Change: TypeAlias = Callable[[list[Message]], tuple[int, Sequence[NewMessage], list[Operation]] | None]
"""From the messages of a session to where its new end begins, the new end, and what else is to be written; None: nothing."""


class _Reopened(BaseModel):
    """The fields of a store, from which a copy or a workflow opens it again."""

    namespace: str = Field(description="The namespace that the messages are in")
    url: str | None = Field(
        default=None, repr=False, description="The address, without secrets; None: the default address"
    )
    encrypted: bool = Field(
        default=False, repr=False, description="Whether it needs its encryption key to be opened again"
    )

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a memory has the same messages."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # LlamaIndex drops what it cannot pickle from a stored workflow, and would continue in memory.
        return _reopen, (type(self), self.model_dump())


class BotWireChatStore(_Reopened, BaseChatStore):
    """A persistent chat store for LlamaIndex.

    ::

        memory = ChatMemoryBuffer.from_defaults(chat_store=BotWireChatStore(), chat_store_key="user-42")

    Messages are on disk when a call that stores them returns. Any number of threads, processes and event loops may use a key
    at once: every message is kept, and deleted once. What a call stores stays together: all of it, or none.

    A message of a subclass of `ChatMessage` comes back as a `ChatMessage`, with its own fields in ``additional_kwargs``. Keys
    are 1 to 512 bytes of UTF-8 without control characters; a key without messages is none.

    Args:
        namespace: the namespace that the messages are in. A key is a session of it.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `Memory`.

    Raises:
        InvalidName: the namespace is not allowed.
        InvalidArgument: the address or an option is wrong.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `Memory` names.
    """

    _memory: Memory = PrivateAttr()
    _async_memory: AsyncMemory = PrivateAttr()

    def __init__(
        self, namespace: str = "llama-index-chats", url: str | None = None, **options: Unpack[Options]
    ) -> None:
        encrypted = _encrypted(options)
        memory = Memory(namespace, url, **options)
        super().__init__(namespace=namespace, url=url and memory.address, encrypted=encrypted)
        self._memory, self._async_memory = memory, AsyncMemory.of(memory)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex stores the class."""
        return "BotWireChatStore"

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Replace the messages under a key by these, at most 9,999."""
        blocking(_set)(self._memory, (key,), key, messages)

    def get_messages(self, key: str) -> list[ChatMessage]:
        """Return the messages under a key, in order."""
        return blocking(_get)(self._memory, key)

    def add_message(self, key: str, message: ChatMessage, idx: int | None = None) -> None:
        """Add a message at the end, or before the one at a place, as ``list.insert`` counts."""
        blocking(_add)(self._memory, key, [message], idx)

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Delete the messages under a key and return them; None when there are none."""
        return blocking(_delete_all)(self._memory, key)

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the message at a place, as a list counts, and return it; None when there is none.

        The messages after it are written again and count as writes of the plan.
        """
        return blocking(_delete)(self._memory, key, idx)

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Delete the last message and return it; None when there is none. No other caller gets the same one."""
        return blocking(_delete_last)(self._memory, key)

    def get_keys(self) -> list[str]:
        """Return the keys, the oldest first."""
        return blocking(_keys)(self._memory)

    async def aset_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """As `set_messages`."""
        await _set(self._async_memory, (key,), key, messages)

    async def aget_messages(self, key: str) -> list[ChatMessage]:
        """As `get_messages`."""
        return await _get(self._async_memory, key)

    async def async_add_message(self, key: str, message: ChatMessage, idx: int | None = None) -> None:
        """As `add_message`."""
        await _add(self._async_memory, key, [message], idx)

    async def adelete_messages(self, key: str) -> list[ChatMessage] | None:
        """As `delete_messages`."""
        return await _delete_all(self._async_memory, key)

    async def adelete_message(self, key: str, idx: int) -> ChatMessage | None:
        """As `delete_message`."""
        return await _delete(self._async_memory, key, idx)

    async def adelete_last_message(self, key: str) -> ChatMessage | None:
        """As `delete_last_message`."""
        return await _delete_last(self._async_memory, key)

    async def aget_keys(self) -> list[str]:
        """As `get_keys`."""
        return await _keys(self._async_memory)


class BotWireMemoryStore(_Reopened, AsyncDBChatStore):
    """The store of a LlamaIndex `Memory`, with its active and its archived messages, stored persistently.

    ::

        memory = Memory.from_defaults(session_id="user-42", chat_store=BotWireMemoryStore())

    As `BotWireChatStore`, but only for event loops, as in LlamaIndex, and with keys of at most 500 bytes.
    """

    _memory: AsyncMemory = PrivateAttr()

    def __init__(
        self, namespace: str = "llama-index-memories", url: str | None = None, **options: Unpack[Options]
    ) -> None:
        encrypted = _encrypted(options)
        memory = AsyncMemory(namespace, url, **options)
        super().__init__(namespace=namespace, url=url and memory.address, encrypted=encrypted)
        self._memory = memory

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex stores the class."""
        return "BotWireMemoryStore"

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Return the messages under a key that have a status (None: any), in order.

        Args:
            key: the key.
            status: active or archived; None: the archived ones, and after them the active ones.
            limit: the maximum number; None: all.
            offset: how many to leave out at the beginning.
        """
        skip, most = check_count(offset, "offset") or 0, check_count(limit, "limit")
        if status is not None:
            return await _get(self._memory, _log(key, status), skip, most)
        archived, active = [await _get(self._memory, _log(key, each)) for each in _STATUSES]
        return (archived + active)[skip:][:most]

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return how many messages under a key have a status (None: any)."""
        statuses = _STATUSES if status is None else (status,)
        return sum([await self._memory.bridge.read(CountMessages(_log(key, each))) for each in statuses])

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Add a message at the end; it is on disk when this returns."""
        await _add(self._memory, _log(key, status), [message], None)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Add messages at the end, at most 10,000, all or none."""
        await _add(self._memory, _log(key, status), messages, None)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Replace all messages under a key by these, whatever their status, at most 9,998."""
        await _set(self._memory, [_log(key, each) for each in _STATUSES], _log(key, status), messages)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the active message at a place, as a list counts, and return it; None when there is none."""
        return await _delete(self._memory, _log(key, MessageStatus.ACTIVE), idx)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Delete the messages under a key that have a status (None: any)."""
        statuses = _STATUSES if status is None else (status,)
        await self._memory.bridge.write(*[Forget(_log(key, each)) for each in statuses])

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Delete the oldest active messages under a key, at most n, and return them."""
        return await _cut(self._memory, _log(key, MessageStatus.ACTIVE), n, None)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive the oldest active messages under a key, at most n, and return them: all in one write."""
        return await _cut(self._memory, _log(key, MessageStatus.ACTIVE), n, _log(key, MessageStatus.ARCHIVED))

    async def get_keys(self) -> list[str]:
        """Return the keys, the oldest first."""
        logs = await _keys(self._memory)
        return list(dict.fromkeys(log.partition("/")[2] for log in logs))


RECOGNIZED_CHAT_STORES[BotWireChatStore.class_name()] = BotWireChatStore
"""Where ``ChatMemoryBuffer.from_dict`` finds the class that a dict names."""

_STATUSES = (MessageStatus.ARCHIVED, MessageStatus.ACTIVE)


def _encrypted(options: Options) -> bool:
    """Whether there is an encryption key, and take out of the options what `to_dict` put among them.

    Raises:
        InvalidArgument: there was a key when the dict was made, and there is none now.
    """
    given = cast("dict[str, Any]", options)
    given.pop("class_name", None)
    if given.pop("encrypted", False) and not given.get("encryption_key"):
        raise InvalidArgument("these messages are encrypted: create the store with its encryption_key=")
    return bool(given.get("encryption_key"))


def _reopen(cls: type[Any], fields: dict[str, Any]) -> Any:
    return cls(**fields)


def _log(key: str, status: MessageStatus) -> str:
    """Return the session of the messages that have a status."""
    return check_name(f"{status.value}/{check_name(key)}")


# What both do, in place or awaited


async def _get(memory: Namespace, session: str, after: int = 0, limit: int | None = None) -> list[ChatMessage]:
    messages = await memory.bridge.read(ListMessages(check_name(session), after, limit))
    return _restored(messages)


async def _set(memory: Namespace, old: Sequence[str], session: str, messages: Sequence[ChatMessage]) -> None:
    append = Append(check_name(session), _stored(messages))
    await memory.bridge.write(*_limited([*(Forget(check_name(name)) for name in old), append]))


async def _add(memory: Namespace, session: str, messages: Sequence[ChatMessage], idx: int | None) -> None:
    new = _stored(messages)
    if idx is None:
        if new:
            await memory.bridge.write(*_limited([Append(check_name(session), new)]))
        return
    place = _index(idx)

    def insert(there: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]]:
        start = len(there[:place])
        return start, (*new, *_again(there[start:])), []

    await _change(memory, session, insert)


async def _delete_all(memory: Namespace, session: str) -> list[ChatMessage] | None:
    count = await memory.bridge.read(CountMessages(check_name(session)))
    pops = await memory.bridge.write(*[Pop(session, MAX_OPERATIONS)] * (count // MAX_OPERATIONS + 2))
    return _restored([message for pop in reversed(pops) for message in cast("list[Message]", pop)]) or None


async def _delete(memory: Namespace, session: str, idx: int) -> ChatMessage | None:
    place = _index(idx)

    def delete(there: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]] | None:
        start = place if place >= 0 else len(there) + place
        return (start, _again(there[start + 1 :]), []) if 0 <= start < len(there) else None

    gone = await _change(memory, session, delete)
    return _restored(gone[:1])[0] if gone else None


async def _delete_last(memory: Namespace, session: str) -> ChatMessage | None:
    (popped,) = await memory.bridge.write(Pop(check_name(session)))
    gone = _restored(cast("list[Message]", popped))
    return gone[0] if gone else None


async def _cut(memory: Namespace, session: str, count: int, to: str | None) -> list[ChatMessage]:
    number = check_count(count, "n") or 0

    def cut(there: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]] | None:
        oldest = there[:number]
        moved: list[Operation] = [] if to is None else [Append(to, _again(oldest))]
        return (0, _again(there[number:]), moved) if oldest else None

    return _restored((await _change(memory, session, cut))[:number])


async def _keys(memory: Namespace) -> list[str]:
    sessions = await memory.bridge.read(ListSessions())
    return [session.name for session in reversed(sessions)]


async def _change(memory: Namespace, session: str, change: Change) -> list[Message]:
    """Replace the end of a session, if it is still what it was when it was read; if not, all over again.

    Returns:
        What was there in place of the new end.

    Raises:
        Conflict: others were faster every time.
    """
    check_name(session)
    for attempt in range(MAX_ATTEMPTS):
        there = await memory.bridge.read(ListMessages(session))
        decided = change(there)
        if decided is None:
            return []
        start, end, more = decided
        gone = there[start:]
        pop = Pop(session, len(gone), tuple(message.id for message in gone))
        try:
            await memory.bridge.write(*_limited([pop, *more, *([Append(session, tuple(end))] if end else [])]))
        except Conflict:
            await memory.bridge.sleep(pause_after(attempt))
        else:
            return gone
    raise Conflict(f"the messages were changed by others {MAX_ATTEMPTS} times in a row; nothing was written")


def _limited(operations: list[Operation]) -> list[Operation]:
    count = sum(len(item.messages) if isinstance(item, Append) else 1 for item in operations)
    pops = [item.count for item in operations if isinstance(item, Pop)]
    if max([count, *pops]) > MAX_OPERATIONS:
        raise InvalidArgument(f"at most {MAX_OPERATIONS:,} messages can be written at once, not {count:,}")
    return operations


def _index(idx: object) -> int:
    if isinstance(idx, bool) or not isinstance(idx, int):
        raise InvalidArgument(f"idx is an int, not {idx!r}")
    return idx


# Messages


def _again(messages: Sequence[Message]) -> tuple[NewMessage, ...]:
    return tuple(NewMessage(message.id, message.stored) for message in messages)


def _stored(messages: Sequence[ChatMessage]) -> tuple[NewMessage, ...]:
    return tuple(NewMessage(new_id(), encode_json(_to_data(message))) for message in messages)


def _to_data(message: ChatMessage) -> dict[str, Any]:
    """Return what is stored of a message, after seeing that it comes back: one that does not would spoil the others."""
    if not isinstance(message, ChatMessage):
        raise InvalidValue(f"a chat store holds ChatMessages, not {type(message).__name__}")
    try:
        _check_numbers(message.model_dump())
        dumped: dict[str, Any] = message.model_dump(mode="json")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValue(f"the {type(message).__name__} cannot be stored: {error}") from error
    data = {name: value for name, value in dumped.items() if name in ChatMessage.model_fields}
    own = {name: value for name, value in dumped.items() if name not in data}
    data["additional_kwargs"] = own | data["additional_kwargs"]
    try:
        back = ChatMessage.model_validate(data).model_dump(mode="json")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidValue(f"LlamaIndex would not read the {type(message).__name__} back: {error}") from error
    if back != data:
        raise InvalidValue(f"LlamaIndex would read the {type(message).__name__} back as another")
    return data


def _check_numbers(value: Any) -> None:
    """Refuse what pydantic would write as null without a word."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)


def _restored(messages: Sequence[Message]) -> list[ChatMessage]:
    return [_to_message(message) for message in messages]


def _to_message(message: Message) -> ChatMessage:
    try:
        return ChatMessage.model_validate(message.data)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidValue(f"message {message.seq} of the session is not one of LlamaIndex: {error}") from error
