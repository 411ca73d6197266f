"""Reads and writes of a session, for blocking and for awaiting callers (see `botwire.bridge`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llama_index.core.base.llms.types import ChatMessage

from ...backoff import MAX_ATTEMPTS, pause_after
from ...errors import Conflict, InvalidArgument
from ...limits import MAX_OPERATIONS, check_name
from ...namespace import Namespace
from ...operations import Append, Forget, NewMessage, Operation, Pop, Replace
from ...queries import ListMessages, ListSessions
from ...records import Message
from .._base import batches
from .items import again, deleted_messages, new_messages, to_message

Change: TypeAlias = Callable[[list[Message]], tuple[int, Sequence[NewMessage], list[Operation]] | None]
"""From the messages of a session to the index of the first that is replaced, the replacement, and other operations; None: no change."""


async def read_all(memory: Namespace, session: str, after: int = 0, limit: int | None = None) -> list[ChatMessage]:
    """Return the messages of a session, in order."""
    messages = await memory.bridge.read(ListMessages(check_name(session), after, limit))
    return [to_message(session, message) for message in messages]


async def replace_all(
    memory: Namespace, old: Sequence[str], session: str, messages: Sequence[ChatMessage], ttl: float | None
) -> None:
    """Replace the messages of a session, and delete the other old sessions, in one write."""
    others: list[Operation] = [Forget(check_name(name)) for name in old if name != session]
    await memory.bridge.write(*_limited([*others, Replace(check_name(session), new_messages(messages), ttl=ttl)]))


async def add(
    memory: Namespace, session: str, messages: Sequence[ChatMessage], ttl: float | None, idx: int | None = None
) -> None:
    """Append messages, or insert them at an index."""
    new = new_messages(messages)
    if idx is None:
        if new:
            await memory.bridge.write(*_limited([Append(check_name(session), new, ttl=ttl)]))
        return
    index = _index(idx)

    def insert(stored: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]]:
        start = len(stored[:index])
        return start, (*new, *again(stored[start:])), []

    await change_end(memory, session, insert)


async def delete_at(memory: Namespace, session: str, idx: int) -> ChatMessage | None:
    """Delete the message at an index and return it; None if there is none."""
    index = _index(idx)

    def delete(stored: list[Message]) -> tuple[int, Sequence[NewMessage], list[Operation]] | None:
        start = index if index >= 0 else len(stored) + index
        return (start, again(stored[start + 1 :]), []) if 0 <= start < len(stored) else None

    replaced = await change_end(memory, session, delete)
    deleted = deleted_messages(session, replaced[:1])
    return deleted[0] if deleted else None


async def keys_of(memory: Namespace) -> list[str]:
    """Return the names of all sessions, in the order of their creation."""
    sessions = await memory.bridge.read(ListSessions(order="created"))
    return [session.name for session in reversed(sessions)]


async def change_end(memory: Namespace, session: str, change: Change) -> list[Message]:
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
