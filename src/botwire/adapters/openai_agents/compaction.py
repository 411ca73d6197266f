"""What the SDK's `OpenAIResponsesCompactionSession` needs to replace items without losing those that others append.

The SDK reads items, waits for the API to compact them, and then replaces them. Without these hooks it clears the session and adds
the result, so what others have appended in the meantime would be lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from ...aio import AsyncHistory
from ...bridge import Bridge, repeated
from ...errors import Conflict
from ...limits import MAX_COPIED, MAX_COPIED_BYTES, MAX_OPERATIONS
from ...records import Message, Session
from ...timestamps import new_id
from .._base import BATCH_BYTES
from .items import plain_item

IsExpired: TypeAlias = Callable[[Any], bool]

_PAGE = 1_000
"""Messages that are read at once to find the expired ones."""


class Snapshot(NamedTuple):
    """The last items of a session, and how to replace them. The SDK reads these three names.

    ``complete``: whether the session has no other items. ``replace_suffix``: takes the index of an item and new items, which replace
    this item and all after it. It returns False, and writes nothing, if the session has changed since the snapshot.
    """

    items: list[Any]
    complete: bool
    replace_suffix: Callable[[int, list[Any]], Awaitable[bool]]


class _Seen(NamedTuple):
    """What a compaction has read: the session, by its memory and name, its version, and the seq of the last message."""

    history: str
    version: int
    last: int


_SEEN: ContextVar[_Seen | None] = ContextVar("botwire_compaction_seen", default=None)
"""The SDK does not hand on what it has read, but it replaces the items in the same task, or in a child of it."""


def remember(history: AsyncHistory, version: int, last: int) -> None:
    """Note what a compaction has read of a session: its version, which was read first, and the seq of the last item."""
    _SEEN.set(_Seen(repr(history), version, last))


async def take_snapshot(history: AsyncHistory, limit: int, is_expired: IsExpired | None) -> Snapshot | None:
    """Return the last items of a session; None if one of them is not an item of the SDK.

    Args:
        history: the session.
        limit: how many items.
        is_expired: items at the start of the session for which it returns True are deleted when the snapshot is replaced.
    """
    session = await history.info()  # first: what others change after this makes the replacement fail
    messages = await history.messages(limit)
    items = [message.data for message in messages]
    if not all(isinstance(item, dict) for item in items):
        return None

    async def replace_suffix(start: int, output: list[Any]) -> bool:
        if session is None or start >= len(messages):
            return False
        try:
            await _replace_suffix(history, session, messages[start:], output, is_expired)
        except Conflict:
            return False
        return True

    return Snapshot(items, not messages or messages[0].seq == 1, replace_suffix)


async def _replace_suffix(
    history: AsyncHistory, session: Session, replaced: list[Message], output: list[Any], is_expired: IsExpired | None
) -> None:
    first, last = replaced[0].seq, replaced[-1].seq
    kept = None
    if is_expired is not None and last <= MAX_COPIED and session.bytes <= MAX_COPIED_BYTES:
        kept = await _kept(history, first, MAX_OPERATIONS - len(output), is_expired)
    if kept is None:
        await history.replace(
            [plain_item(item) for item in output], after=first - 1, if_last=last, if_version=session.version
        )
    else:
        await _rewrite(history, [*_rows(kept), *_new(output)], last, session.version)


async def _kept(history: AsyncHistory, before: int, most: int, is_expired: IsExpired) -> list[Message] | None:
    """Return the messages before a seq, without the expired ones at the start; None: none has expired, or too many stay."""
    kept: list[Message] = []
    seq, size = 0, 0
    while seq < before - 1:
        page = await history.messages(after=seq, limit=min(before - 1 - seq, _PAGE))
        if not page:
            return None  # others have deleted messages: the replacement fails
        seq = page[-1].seq
        for message in page:
            if kept or not is_expired(message.data):
                kept.append(message)
                size += len(message.stored)
        if len(kept) == seq or len(kept) > most or size > BATCH_BYTES:
            return None
    return kept if len(kept) < before - 1 else None


async def replace_seen(history: AsyncHistory, bridge: Bridge, output: list[Any]) -> None:
    """Replace the items that the compaction has read, in one step. What others have appended since stays after the new items.

    Without a note of what it has read, all items are replaced.

    Raises:
        Conflict: others have deleted or edited items since; nothing was written.
    """
    seen = _SEEN.get()
    if seen is None or seen.history != repr(history):
        await history.replace([plain_item(item) for item in output])
    else:
        await repeated(bridge, partial(_replace_seen, history, seen, output), f"session {history.session_id!r}")


async def _replace_seen(history: AsyncHistory, seen: _Seen, output: list[Any]) -> None:
    newer = await history.messages(after=seen.last)
    last = newer[-1].seq if newer else seen.last
    await _rewrite(history, [*_new(output), *_rows(newer)], last, seen.version)


async def _rewrite(history: AsyncHistory, rows: list[tuple[str, Any]], last: int, version: int) -> None:
    """Replace all messages of a session, which may be among the new ones: they keep their ids and times."""
    await history.replace([data for _, data in rows], ids=[id_ for id_, _ in rows], if_last=last, if_version=version)


def _rows(messages: list[Message]) -> list[tuple[str, Any]]:
    return [(message.id, message.data) for message in messages]


def _new(items: list[Any]) -> list[tuple[str, Any]]:
    return [(new_id(), plain_item(item)) for item in items]
