"""BotWireConversationStore and BotWireMessageHistory: Pydantic AI's conversations and message histories, stored persistently.

Messages are written and read by pydantic with Pydantic AI's own types, and rebuilt as those and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Unpack

from ..aio import AsyncHistory, AsyncMemory
from ..errors import Conflict, InvalidValue
from ..limits import MAX_OPERATIONS, check_count, check_name
from ..memory import Memory, Options
from ..operations import Append, Delete, Forget, NewMessage, Operation, Put
from ..queries import GetEntries, GetEntry, ListEntries, ListMessages
from ..records import Entry, Message
from ..values import check_json, decode, encode_json

try:
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic_ai.messages import ModelMessage
    from pydantic_core import PydanticSerializationError
except ModuleNotFoundError as error:
    if error.name not in {"pydantic_ai", "pydantic", "pydantic_core"}:
        raise
    missing = "botwire.adapters.pydantic_ai needs pydantic-ai: pip install 'botwire[pydantic-ai]'"
    raise ImportError(missing, name=error.name) from None

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

# As `ModelMessagesTypeAdapter`, but that NaN is not written as null without a word.
_CONFIG = ConfigDict(defer_build=True, ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_MESSAGES: TypeAdapter[list[ModelMessage]] = TypeAdapter(list[ModelMessage], config=_CONFIG)
_ENTRIES: TypeAdapter[list[ConversationEntry]] = TypeAdapter(list[ConversationEntry], config=_CONFIG)
_RECORDS: TypeAdapter[list[ConversationRecord]] = TypeAdapter(list[ConversationRecord], config=_CONFIG)

_RECORD = "records/"
_FORKS = "forks"
"""A key that is set whenever a conversation begins or is deleted, so that a delete and what it must not delete see each other."""


class BotWireMessageHistory:
    """The messages of a session, for code that passes ``message_history`` to an agent itself.

    ::

        history = BotWireMessageHistory("user-42")
        result = agent.run_sync("My name is Ada.", message_history=history.load())
        history.append(result.new_messages())

    Messages are on disk when a call that appends them returns. Any number of threads, processes and event loops may append
    to a session at once: every message is kept, and what a call appends stays together.

    Args:
        session_id: whose messages: 1 to 512 bytes of UTF-8 without control characters.
        namespace: the namespace that the session is in.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `Memory`.

    Raises:
        InvalidName: the session or the namespace is not allowed.
        InvalidArgument: the address or an option is wrong.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `Memory` names.
    """

    def __init__(
        self,
        session_id: str,
        namespace: str = "pydantic-ai-messages",
        url: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._memory = Memory(namespace, url, **options)
        self._history = self._memory.history(session_id)

    @property
    def session_id(self) -> str:
        """The name of the session."""
        return self._history.session_id

    def load(self, last: int | None = None) -> list[ModelMessage]:
        """Return the messages in order, or only the `last` ones.

        Raises:
            InvalidValue: the session contains something that is not a message of Pydantic AI.
        """
        return _read(_MESSAGES, self._history.messages(last))

    def append(self, messages: Sequence[ModelMessage]) -> None:
        """Add messages at the end, such as ``result.new_messages()``, at most 10,000 at once, all or none.

        Raises:
            InvalidValue: a message holds something that JSON cannot; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        self._history.append(_written(_MESSAGES, messages))

    def clear(self) -> None:
        """Forget the messages of the session."""
        self._history.clear()

    async def aload(self, last: int | None = None) -> list[ModelMessage]:
        """As `load`."""
        return _read(_MESSAGES, await self._async_history.messages(last))

    async def aappend(self, messages: Sequence[ModelMessage]) -> None:
        """As `append`. A call that is cancelled adds all of them or none."""
        await self._async_history.append(_written(_MESSAGES, messages))

    async def aclear(self) -> None:
        """As `clear`."""
        await self._async_history.clear()

    @cached_property
    def _async_history(self) -> AsyncHistory:
        return AsyncMemory.of(self._memory).history(self.session_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r}, {self._memory.namespace!r}, {self._memory.address!r})"


class BotWireConversationStore(ConversationStore):
    """A `ConversationStore` of Pydantic AI that is persistent.

    ::

        store = BotWireConversationStore()
        conversation = await store.load("user-42") or Conversation(conversation_id="user-42")
        result = await agent.run("My name is Ada.", conversation=conversation)
        await store.save(result)

    A save is on disk when it returns, whole or not at all; of several that were loaded at the same revision one succeeds,
    also between processes and machines, and the others raise `ConversationConflict`.

    `delete` deletes the messages too, unless a fork that is still there begins with some of them; then they go with the last
    such fork.

    Args:
        namespace: the namespace that the conversations are in.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `Memory`.

    Raises:
        InvalidName: the namespace is not allowed; from the methods: a conversation's id is not 1 to 500 bytes of UTF-8
            without control characters.
        ImportError: this Pydantic AI is older than 2.66, and has no conversations.
        InvalidArgument: the address or an option is wrong.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `Memory` names.
    """

    # A record is an entry. The entries of Pydantic AI that were first saved with a conversation are the messages of a
    # session of its name, and an entry for the id of each says which session that is.

    def __init__(
        self, namespace: str = "pydantic-ai-conversations", url: str | None = None, **options: Unpack[Options]
    ) -> None:
        if ConversationStore is object:
            raise ImportError(
                "BotWireConversationStore needs pydantic-ai 2.66 or newer: pip install -U pydantic-ai-slim"
            )
        self._memory = AsyncMemory(namespace, url, **options)

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, or None."""
        entry = await self._memory.bridge.read(GetEntry(_record_key(conversation_id)))
        return None if entry is None else _record(entry)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> list[ConversationRecord]:
        """Return the records, or those of a scope, the last saved first."""
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
        """Store a record and its new entries, in one write, if the record is at the revision expected.

        Raises:
            ConversationConflict: it is not, or what it continues is deleted; nothing was written.
        """
        key, session = _record_key(record.conversation_id), record.conversation_id
        head = record.head_id
        heads = () if head is None or head in {entry.id for entry in new_entries} else (_place_key(head),)
        (data,) = _written(_RECORDS, [record])
        new = tuple(
            NewMessage(check_name(entry.id, "entry id"), encode_json(item))
            for entry, item in zip(new_entries, _written(_ENTRIES, new_entries), strict=True)
        )
        while True:
            found = {entry.key: entry for entry in await self._memory.bridge.read(GetEntries((key, _FORKS, *heads)))}
            _check(record.conversation_id, found.get(key), expected_revision)
            if any(place not in found for place in heads):
                raise ConversationConflict(record.conversation_id)
            operations: list[Operation] = [Put(key, encode_json(data), if_version=_version(found, key))]
            operations += [Put(_place_key(message.id), encode_json(session)) for message in new]
            operations += [Append(session, new)] if new else []
            if any(found[place].value != session for place in heads):
                operations.append(Put(_FORKS, "1", if_version=_version(found, _FORKS)))
            elif key not in found:
                operations.append(Put(_FORKS, "1"))
            if await self._written(operations, key, record.conversation_id):
                return

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a record, and the entries that no record needs any more.

        Raises:
            ConversationConflict: the record is not there at the revision expected; nothing was deleted.
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
            places: list[Operation] = [Delete(_place_key(entry)) for ids in unused.values() for entry in ids]
            room = MAX_OPERATIONS - len(operations)
            if await self._written([*operations, *places[:room]], key, conversation_id):
                for start in range(room, len(places), MAX_OPERATIONS):
                    await self._memory.bridge.write(*places[start : start + MAX_OPERATIONS])
                return

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry.

        Raises:
            KeyError: there is none.
        """
        (entry,) = await self.read_history(entry_id, limit=1)
        return entry

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """Return the entries up to one, in order, or only the `window` last ones; a session is read as a whole.

        Raises:
            KeyError: one of them is not there.
        """
        most = check_count(limit, "limit")
        lines = [line async for line in self._lines(head_id, most)] if most != 0 else []
        return _read(_ENTRIES, [message for _, line in lines for message in line][:most][::-1])

    async def _lines(self, head_id: str | None, most: int | None) -> Any:
        """Yield sessions, and the messages of each that lead to an entry, the last first, until there are enough."""
        count, entry_id = 0, head_id
        while entry_id is not None and (most is None or count < most):
            place = await self._memory.bridge.read(GetEntry(_place_key(entry_id)))
            if place is None:
                raise KeyError(entry_id)
            window = None if most is None else most - count
            messages = await self._memory.bridge.read(ListMessages(place.value, last=window))
            line = _line(messages, entry_id)
            if window is not None and (not line or (len(line) < window and _parent(line[-1]) is not None)):
                messages = await self._memory.bridge.read(ListMessages(place.value))
                line = _line(messages, entry_id)
            if not line:
                raise KeyError(entry_id)
            yield place.value, line
            count, entry_id = count + len(line), _parent(line[-1])

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
        """Return which sessions a fork needs. A conversation that is no fork needs only its own."""
        if record.forked_from is None:
            return set()
        return {session for head in (record.head_id, *record.branches) async for session, _ in self._lines(head, None)}

    async def _all_records(self) -> list[ConversationRecord]:
        return [_record(entry) for entry in await self._memory.bridge.read(ListEntries(_RECORD))]

    async def _written(self, operations: Sequence[Operation], key: str, conversation_id: str) -> bool:
        """Write; False when a fork or a delete came first, so that the caller has to decide again."""
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


def _place_key(entry_id: str) -> str:
    return check_name(f"entries/{entry_id}")


def _check(conversation_id: str, entry: Entry | None, expected_revision: str | None) -> None:
    if (None if entry is None else _record(entry).revision) != expected_revision:
        raise ConversationConflict(conversation_id)


def _version(found: dict[str, Entry], key: str) -> int:
    return found[key].version if key in found else 0


def _line(messages: Sequence[Message], entry_id: str) -> list[Message]:
    """Return the messages that lead to an entry, the last first, as far as they are here."""
    here = {message.id: message for message in messages}
    line: list[Message] = []
    wanted: str | None = entry_id
    while wanted in here:
        line.append(here[wanted])
        wanted = _parent(line[-1])
    return line


def _parent(message: Message) -> str | None:
    parent: str | None = message.data["parent_id"]
    return parent


def _record(entry: Entry) -> ConversationRecord:
    try:
        (record,) = _RECORDS.validate_json(f"[{entry.stored!s}]")
    except ValidationError as error:
        raise InvalidValue(f"key {entry.key!r} is not a record of Pydantic AI: {_shown(error)}") from error
    return record


def _read(adapter: TypeAdapter[list[Any]], messages: Sequence[Message]) -> list[Any]:
    try:
        return adapter.validate_json(f"[{','.join(message.stored for message in messages)}]")
    except ValidationError as error:
        raise InvalidValue(f"the session holds something that is not of Pydantic AI: {_shown(error)}") from error


def _written(adapter: TypeAdapter[list[Any]], items: Sequence[Any]) -> list[Any]:
    try:
        text = adapter.dump_json(list(items), warnings="error")
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise InvalidValue(f"it cannot be written as JSON: {error}") from error
    written: list[Any] = decode(check_json(text))
    return written


def _shown(error: ValidationError) -> str:
    """Return what is wrong and where, without the data."""
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
