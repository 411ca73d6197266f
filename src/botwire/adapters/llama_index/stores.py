"""BotWireChatStore and BotWireMemoryStore: persistent chat stores for LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Unpack, cast

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.storage.chat_store.base import BaseChatStore
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.core.storage.chat_store.loading import RECOGNIZED_CHAT_STORES

from ...aio import AsyncMemory
from ...bridge import awaiting
from ...history import History
from ...limits import MAX_OPERATIONS, check_count, check_name, check_ttl
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Append, Forget, NewMessage, Operation, Pop
from ...queries import CountMessages
from ...records import Message
from .._base import async_form, blocking_method
from .items import again, deleted_messages
from .logic import add, change_end, delete_at, keys_of, read_all, replace_all
from .reopened import Reopened, is_encrypted

if TYPE_CHECKING:
    from ...conversations.health import Problem

_mend = awaiting(History.mend)


class BotWireChatStore(Reopened, BaseChatStore):
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
        encrypted = is_encrypted(options)
        memory = Memory(namespace, url, **options)
        super().__init__(namespace=namespace, url=url and memory.address, encrypted=encrypted, ttl=check_ttl(ttl))
        self._memory, self._async_memory = memory, AsyncMemory.of(memory)

    @classmethod
    def class_name(cls) -> str:
        return "BotWireChatStore"

    @blocking_method
    async def set_messages(self, memory: Namespace, key: str, messages: list[ChatMessage]) -> None:
        """Replace the messages of a key, at most 10,000, in one step."""
        await replace_all(memory, (), key, messages, self.ttl)

    @blocking_method
    async def get_messages(self, memory: Namespace, key: str) -> list[ChatMessage]:
        return await read_all(memory, key)

    @blocking_method
    async def add_message(self, memory: Namespace, key: str, message: ChatMessage, idx: int | None = None) -> None:
        """Add a message at the end, or insert it at an index, as ``list.insert`` does."""
        await add(memory, key, [message], self.ttl, idx)

    @blocking_method
    async def delete_messages(self, memory: Namespace, key: str) -> list[ChatMessage] | None:
        count = await memory.bridge.read(CountMessages(check_name(key)))
        pops = await memory.bridge.write(*[Pop(key, MAX_OPERATIONS)] * (count // MAX_OPERATIONS + 2))
        return (
            deleted_messages(key, [message for pop in reversed(pops) for message in cast("list[Message]", pop)]) or None
        )

    @blocking_method
    async def delete_message(self, memory: Namespace, key: str, idx: int) -> ChatMessage | None:
        """Delete the message at an index, also a negative one, and return it. Those after it are written again and count as writes."""
        return await delete_at(memory, key, idx)

    @blocking_method
    async def delete_last_message(self, memory: Namespace, key: str) -> ChatMessage | None:
        """Delete the last message and return it; None if there is none. No other caller gets the same one."""
        (popped,) = await memory.bridge.write(Pop(check_name(key)))
        deleted = deleted_messages(key, cast("list[Message]", popped))
        return deleted[0] if deleted else None

    @blocking_method
    async def get_keys(self, memory: Namespace) -> list[str]:
        return await keys_of(memory)

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


class BotWireMemoryStore(Reopened, AsyncDBChatStore):
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
        encrypted = is_encrypted(options)
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
            return await read_all(self._memory, _session(key, status), skip, most)
        archived, active = [await read_all(self._memory, session) for session in _sessions(key)]
        return (archived + active)[skip:][:most]

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        return sum([await self._memory.bridge.read(CountMessages(session)) for session in _sessions(key, status)])

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        await add(self._memory, _session(key, status), [message], self.ttl)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Add messages at the end, at most 10,000, all or none."""
        await add(self._memory, _session(key, status), messages, self.ttl)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Replace all messages of a key, of both statuses, by at most 9,999."""
        await replace_all(self._memory, _sessions(key), _session(key, status), messages, self.ttl)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        return await delete_at(self._memory, _session(key, MessageStatus.ACTIVE), idx)

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
            moved: list[Operation] = [Append(archived, again(oldest))] if archive else []
            return (0, again(stored[number:]), moved) if oldest else None

        return deleted_messages(active, (await change_end(self._memory, active, cut))[:number])

    async def mend(self, key: str, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair the active messages of a key, as `BotWireChatStore.mend` does."""
        return await self._memory.history(_session(key, MessageStatus.ACTIVE)).mend(policy)

    async def get_keys(self) -> list[str]:
        sessions = await keys_of(self._memory)
        return list(dict.fromkeys(session.partition("/")[2] for session in sessions))


RECOGNIZED_CHAT_STORES[BotWireChatStore.class_name()] = BotWireChatStore
"""Where ``ChatMemoryBuffer.from_dict`` finds the class that a dict names."""


def _session(key: str, status: MessageStatus) -> str:
    """Return the session with the messages of a status."""
    return check_name(f"{status.value}/{check_name(key)}")


def _sessions(key: str, status: MessageStatus | None = None) -> list[str]:
    """Return the sessions with the messages of a status, or with the archived and then the active ones."""
    return [_session(key, each) for each in (MessageStatus.ARCHIVED, MessageStatus.ACTIVE) if status in {None, each}]
