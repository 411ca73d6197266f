"""BotWireConversationStore and BotWireMessageHistory: conversations and message histories for Pydantic AI.

Pydantic AI's own types write and read the messages. Nothing else is ever rebuilt from stored data.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Unpack

from ..aio import AsyncMemory
from ..bridge import awaiting
from ..errors import Conflict, InvalidValue
from ..history import History
from ..limits import MAX_OPERATIONS, check_count, check_name
from ..memory import Memory, Options
from ..namespace import Namespace
from ..operations import Append, Delete, Forget, NewMessage, Operation, Put
from ..queries import GetEntries, GetEntry, ListEntries, ListMessages
from ..records import Entry, Message
from ..values import check_json, decode, encode_json, size
from ._base import (
    BATCH_BYTES,
    OverSession,
    SessionId,
    async_form,
    batches,
    blocking_method,
    needs,
    reason,
    session_name,
    unreadable,
)
from ._contexts import limits_of, reduced

if TYPE_CHECKING:
    from ..conversations.health import Problem

with needs(
    "pydantic_ai pydantic pydantic_core",
    "botwire.adapters.pydantic_ai needs pydantic-ai: pip install 'botwire[pydantic-ai]'",
):
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic_ai.messages import ModelMessage
    from pydantic_core import PydanticSerializationError

try:
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
except ModuleNotFoundError as error:
    if error.name != "pydantic_ai.conversation_store":
        raise
    ConversationStore, ConversationConflict, ConversationEntry, ConversationRecord = object, Exception, Any, Any

__all__ = ["BotWireConversationStore", "BotWireMessageHistory"]

# As `ModelMessagesTypeAdapter`, which silently writes NaN as null.
_CONFIG = ConfigDict(defer_build=True, ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_MESSAGES: TypeAdapter[list[ModelMessage]] = TypeAdapter(list[ModelMessage], config=_CONFIG)
_ENTRIES: TypeAdapter[list[ConversationEntry]] = TypeAdapter(list[ConversationEntry], config=_CONFIG)
_RECORDS: TypeAdapter[list[ConversationRecord]] = TypeAdapter(list[ConversationRecord], config=_CONFIG)

_messages, _summarize, _mend = awaiting(History.messages), awaiting(History.summarize), awaiting(History.mend)

_RECORD = "records/"
_MOST_ENTRIES = MAX_OPERATIONS // 2 - 1
"""The most entries of one write: each is a message and a key, and the record and the forks have a key each."""
_FORKS = "forks"
"""A key that every new conversation, fork and delete sets, so that a delete conflicts with a fork of what it deletes."""


class BotWireMessageHistory(OverSession):
    """The messages of a session, for code that passes ``message_history`` to an agent itself.

    Messages are on disk when a call that appends them returns. Threads, processes and event loops may append to a session at
    once: every message is kept, and the messages of one call stay together.

    Args:
        session_id: the name of the session: 1 to 512 bytes of UTF-8 without control characters. Of an int or a UUID, the text.
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        max_tokens: `load` returns at most this many tokens, by `count`. A tool call is never separated from its result. None: no limit.
        count: takes a message and returns its tokens. None: 4 tokens a message, and one for each 4 bytes of UTF-8 of its texts.
        ttl: seconds, or a timedelta, after which the session expires if no message is appended. None: appending changes nothing.
    """

    def __init__(
        self,
        session_id: SessionId,
        namespace: str = "pydantic-ai-messages",
        url: str | None = None,
        *,
        max_tokens: int | None = None,
        count: Callable[[ModelMessage], float] | None = None,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._limits = limits_of(max_tokens, count, ttl, _message_of)
        self._memory = Memory(namespace, url, **options)
        self._history = self._memory.history(session_name(session_id))

    @blocking_method
    async def load(self, memory: Namespace, last: int | None = None) -> list[ModelMessage]:
        """Return the messages in order: with `max_tokens` or after `summarize`, the summary and the newest messages that fit.

        Args:
            last: only the last n messages, as they are stored.

        Raises:
            InvalidValue: the session contains something that is not a message of Pydantic AI.
            InvalidArgument: not even the newest messages fit into `max_tokens`, or `count` failed.
        """
        if last is None and (picked := await reduced(memory, self.session_id, self._limits)) is not None:
            summary = [_message_of(data) for data in picked.summary]
            system, newest = (_read(_MESSAGES, self.session_id, found) for found in (picked.system, picked.messages))
            return [*system, *summary, *newest]
        return _read(_MESSAGES, self.session_id, await _messages(History(memory, self.session_id), last))

    def append(self, messages: Sequence[ModelMessage]) -> None:
        """Append messages, such as ``result.new_messages()``, at most 10,000 at once, all or none.

        Raises:
            InvalidValue: Pydantic AI would lose something or not read a message back; nothing was written.
        """
        self._history.append(_dumped(_MESSAGES, messages), ttl=self._limits.ttl)

    async def aappend(self, messages: Sequence[ModelMessage]) -> None:
        """As `append`. A call that is cancelled adds all of them or none."""
        await self._async_history.append(_dumped(_MESSAGES, messages), ttl=self._limits.ttl)

    @blocking_method
    async def summarize(self, memory: Namespace, summary: Sequence[ModelMessage], *, upto: int) -> None:
        """Store messages that `load` returns instead of the first `upto` ones, which stay. Others may append at any time.

        Raises:
            InvalidArgument: the session has fewer messages; nothing was written.
            Conflict: it has a summary of more messages; nothing was written.
        """
        await _summarize(History(memory, self.session_id), upto=upto, summary=_dumped(_MESSAGES, summary))

    @blocking_method
    async def mend(self, memory: Namespace, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair what a crash in the middle of a turn leaves, and what providers refuse, in one step. Returns what was done.

        Args:
            policy: what happens to a tool call without a result. "cancel": it gets one that says so. "drop": it is deleted.
        """
        return await _mend(History(memory, self.session_id), policy)

    aload = async_form(load)
    asummarize = async_form(summarize)
    amend = async_form(mend)


class BotWireConversationStore(ConversationStore):
    """A persistent `ConversationStore` for Pydantic AI.

    A save is on disk when it returns, completely or not at all. If several saves start from the same revision, one succeeds
    and the others raise `ConversationConflict`, also between processes and machines.

    `delete` deletes the messages too; messages that a fork starts with are deleted with the last such fork.

    Args:
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.

    Raises:
        InvalidName: from the methods: the id of a conversation is not 1 to 500 bytes of UTF-8 without control characters.
        ImportError: this Pydantic AI is older than 2.66, and has no conversations.
    """

    # A record is the value of a key. The first conversation that was saved with an entry of Pydantic AI has it as a message
    # of the session with its name, and a key for the id of the entry has the name of the session.

    def __init__(
        self, namespace: str = "pydantic-ai-conversations", url: str | None = None, **options: Unpack[Options]
    ) -> None:
        if ConversationStore is object:
            raise ImportError(
                "BotWireConversationStore needs pydantic-ai 2.66 or newer: pip install -U pydantic-ai-slim"
            )
        self._memory = AsyncMemory(namespace, url, **options)

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        entry = await self._memory.bridge.read(GetEntry(_record_key(conversation_id)))
        return None if entry is None else _record(entry)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> list[ConversationRecord]:
        records = [record for record in await self._all_records() if scope is None or record.scope == scope]
        records.sort(key=lambda record: record.updated_at, reverse=True)
        return records[: check_count(limit, "limit")]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and its new entries in one write, if the record has the expected revision.

        Raises:
            ConversationConflict: it has another, or the entry that it continues was deleted; nothing was written.
            InvalidValue: as `BotWireMessageHistory.append`.
        """
        key, session = _record_key(record.conversation_id), record.conversation_id
        head = record.head_id
        heads = () if head is None or head in {entry.id for entry in new_entries} else (_entry_key(head),)
        (data,) = _dumped(_RECORDS, [record])
        new = [
            NewMessage(check_name(entry.id, "entry id"), encode_json(item))
            for entry, item in zip(new_entries, _dumped(_ENTRIES, new_entries), strict=True)
        ]
        # What does not fit into one write is stored before the record, without which nothing leads to it.
        *early, last = list(batches(new, _MOST_ENTRIES, lambda entry: size(entry.stored), BATCH_BYTES)) or [[]]
        while True:
            found = {entry.key: entry for entry in await self._memory.bridge.read(GetEntries((key, _FORKS, *heads)))}
            _check(record.conversation_id, found.get(key), expected_revision)
            if any(head_key not in found for head_key in heads):
                raise ConversationConflict(record.conversation_id)
            for part in early:
                await self._memory.bridge.write(*_entries(session, part))
            operations: list[Operation] = [Put(key, encode_json(data), if_version=_version(found, key))]
            operations += _entries(session, last)
            if any(found[head_key].value != session for head_key in heads):
                operations.append(Put(_FORKS, "1", if_version=_version(found, _FORKS)))
            elif key not in found:
                operations.append(Put(_FORKS, "1"))
            if await self._written(operations, key, record.conversation_id):
                return

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a record, and the entries that no other record needs.

        Raises:
            ConversationConflict: the record does not have the expected revision; nothing was deleted.
        """
        key = _record_key(conversation_id)
        while True:
            found = {entry.key: entry for entry in await self._memory.bridge.read(GetEntries((key, _FORKS)))}
            _check(conversation_id, found.get(key), expected_revision)
            unused = await self._unused_without(_record(found[key]))
            operations: list[Operation] = [
                Put(key, "null", if_version=found[key].version),
                Delete(key),
                Put(_FORKS, "1", if_version=_version(found, _FORKS)),
                *(Forget(session) for session in unused),
            ]
            deletes = [Delete(_entry_key(entry)) for ids in unused.values() for entry in ids]
            room = MAX_OPERATIONS - len(operations)
            if await self._written([*operations, *deletes[:room]], key, conversation_id):
                for part in batches(deletes[room:]):
                    await self._memory.bridge.write(*part)
                return

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        (entry,) = await self.read_history(entry_id, limit=1)
        return entry

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        most = check_count(limit, "limit")
        entries: list[ConversationEntry] = []
        async for session, messages in self._branches(head_id, most):
            entries += _read(_ENTRIES, session, messages)
        return entries[:most][::-1]

    async def _branches(self, head_id: str | None, most: int | None) -> AsyncIterator[tuple[str, list[Message]]]:
        """Yield sessions, and the messages of each that lead to an entry, the last first, until there are enough."""
        count, entry_id = 0, head_id
        while entry_id is not None and (most is None or count < most):
            found = await self._memory.bridge.read(GetEntry(_entry_key(entry_id)))
            if found is None:
                raise KeyError(entry_id)
            session, left = found.value, None if most is None else most - count
            messages = await self._memory.bridge.read(ListMessages(session, last=left))
            branch = _branch(messages, entry_id)
            if left is not None and (not branch or (len(branch) < left and _parent(branch[-1]) is not None)):
                # The last messages belong to other branches: read the whole session.
                messages = await self._memory.bridge.read(ListMessages(session))
                branch = _branch(messages, entry_id)
            if not branch:
                raise KeyError(entry_id)
            yield session, branch
            count, entry_id = count + len(branch), _parent(branch[-1])

    async def _unused_without(self, record: ConversationRecord) -> dict[str, list[str]]:
        """Return the sessions that only this record needs, with the ids of their messages."""
        others = [other for other in await self._all_records() if other.conversation_id != record.conversation_id]
        unused = {record.conversation_id, *await self._sessions_of(record)}
        for other in others:
            unused -= {other.conversation_id, *await self._sessions_of(other)}
        return {
            session: [message.id for message in await self._memory.bridge.read(ListMessages(session))]
            for session in unused
        }

    async def _sessions_of(self, record: ConversationRecord) -> set[str]:
        """Return the sessions that a fork needs. Other conversations need only their own."""
        if record.forked_from is None:
            return set()
        heads = (record.head_id, *record.branches)
        return {session for head in heads async for session, _ in self._branches(head, None)}

    async def _all_records(self) -> list[ConversationRecord]:
        return [_record(entry) for entry in await self._memory.bridge.read(ListEntries(_RECORD))]

    async def _written(self, operations: Sequence[Operation], key: str, conversation_id: str) -> bool:
        """Write; returns False if a fork or a delete was faster, so that the caller reads again."""
        try:
            await self._memory.bridge.write(*operations)
        except Conflict as conflict:
            if conflict.details.get("key") == key:
                raise ConversationConflict(conversation_id) from conflict
            return False
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"


def _record_key(conversation_id: str) -> str:
    return check_name(_RECORD + check_name(conversation_id, "conversation_id"))


def _entries(session: str, new: Sequence[NewMessage]) -> list[Operation]:
    puts = [Put(_entry_key(message.id), encode_json(session)) for message in new]
    return [*puts, *([Append(session, tuple(new))] if new else [])]


def _entry_key(entry_id: str) -> str:
    return check_name(f"entries/{entry_id}")


def _check(conversation_id: str, entry: Entry | None, expected_revision: str | None) -> None:
    if (None if entry is None else _record(entry).revision) != expected_revision:
        raise ConversationConflict(conversation_id)


def _version(found: dict[str, Entry], key: str) -> int:
    return found[key].version if key in found else 0


def _branch(messages: Sequence[Message], entry_id: str) -> list[Message]:
    """Return those of the messages that lead to an entry, the last first."""
    by_id = {message.id: message for message in messages}
    branch: list[Message] = []
    wanted: str | None = entry_id
    while wanted in by_id:
        branch.append(by_id[wanted])
        wanted = _parent(branch[-1])
    return branch


def _parent(message: Message) -> str | None:
    parent: str | None = message.data["parent_id"]
    return parent


def _record(entry: Entry) -> ConversationRecord:
    try:
        (record,) = _RECORDS.validate_json(f"[{entry.stored!s}]")
    except ValidationError as error:
        raise InvalidValue(f"key {entry.key!r} is not a record of Pydantic AI: {reason(error)}") from None
    return record


def _read(adapter: TypeAdapter[list[Any]], session: str, messages: Sequence[Message]) -> list[Any]:
    try:
        return adapter.validate_json(f"[{','.join(message.stored for message in messages)}]")
    except ValidationError:
        for message in messages:
            try:
                adapter.validate_json(f"[{message.stored}]")
            except ValidationError as error:
                raise unreadable(message.seq, session, "Pydantic AI", error) from None
        raise


def _message_of(data: Any) -> ModelMessage:
    (message,) = _MESSAGES.validate_json(f"[{encode_json(data)}]")
    return message


def _dumped(adapter: TypeAdapter[list[Any]], items: Sequence[Any]) -> list[Any]:
    try:
        text = adapter.dump_json(list(items), warnings="error")
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise InvalidValue(f"it cannot be written as JSON: {error}") from error
    stored = check_json(text)
    try:
        adapter.validate_json(stored)
    except ValidationError as error:
        raise InvalidValue(f"Pydantic AI would not read it back: {reason(error)}") from None
    items_as_json: list[Any] = decode(stored)
    return items_as_json
