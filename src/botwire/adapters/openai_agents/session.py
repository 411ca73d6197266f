"""BotWireSession: a persistent session for the OpenAI Agents SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Unpack

from agents.items import TResponseInputItem
from agents.memory import SessionSettings

from ...bridge import repeated
from ...errors import InvalidArgument
from ...memory import Memory, Options
from ...operations import Pop
from .._base import OverSession, SessionId, session_name
from .._contexts import is_reduced, limits_of
from .compaction import IsExpired, Snapshot, remember, replace_seen, take_snapshot
from .items import item_of, plain_item

if TYPE_CHECKING:
    from ...conversations.health import Problem

__all__ = ["BotWireSession"]


class BotWireSession(OverSession):
    """A persistent `Session` for the OpenAI Agents SDK.

    Items are on disk when a call that adds them returns. Threads, processes and event loops may use a session at once: every
    item is kept, and popped by one caller only. The items of one call stay together: all are stored, or none, also when the
    call is cancelled. Items come back as JSON, with all their fields, as in the SDK's own sessions.

    The SDK's `OpenAIResponsesCompactionSession` replaces items of this session in one step, and never those that others have
    added in the meantime.

    Args:
        session_id: the name of the session: 1 to 512 bytes of UTF-8 without control characters. Of an int or a UUID, the text.
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        session_settings: the SDK's `SessionSettings`, or a dict of them; its ``limit`` is the default of
            `get_items`. Wrong settings raise `InvalidArgument`.
        max_tokens: `get_items` without a limit returns at most this many tokens, by `count`: the newest items that fit. A tool
            call is never separated from its result. None: no limit.
        count: takes an item and returns its tokens. It is called in a thread. None: 4 tokens an item, and one for each 4 bytes of
            UTF-8 of its texts.
        ttl: seconds, or a timedelta, after which the session expires if no item is added. None: adding items changes nothing.
    """

    def __init__(
        self,
        session_id: SessionId,
        namespace: str = "openai-agents",
        url: str | None = None,
        *,
        session_settings: SessionSettings | Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        count: Callable[[Any], float] | None = None,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._limits = limits_of(max_tokens, count, ttl, lambda item: item, "an item")
        self.session_settings: SessionSettings | None = _settings(session_settings)
        self._memory = Memory(namespace, url, **options)
        self._history = self._memory.history(session_name(session_id))

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the items in order.

        Without a limit, these are the summary of `summarize`, if there is one, and the items after it. With `max_tokens`, they are
        the newest that fit, and begin with an item of the user if there is one.

        Args:
            limit: only this many, from the end, as they are stored. None: ``session_settings.limit``, or no limit. Less than 0: all
                items, as they are stored.

        Raises:
            InvalidArgument: not even the newest turn fits into `max_tokens` (the error names the smallest number), or `count` failed.
        """
        items, _ = await self._read(limit)
        return items

    async def _read(self, limit: int | None) -> tuple[list[TResponseInputItem], int]:
        """Return what `get_items` returns, and the seq of the last of all items."""
        history = self._async_history
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is not None or not await is_reduced(self._async_memory, self.session_id, self._limits):
            messages = await history.messages(None if limit is None or limit < 0 else limit)
            return [message.data for message in messages], messages[-1].seq if messages else 0
        picked = await history.context_messages(self._limits.max_tokens, count=self._limits.counter)
        return picked.data, picked.last

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, at most 10,000 at once, all or none. They are on disk when this returns.

        Raises:
            InvalidValue: an item is not JSON; nothing was written.
        """
        await self._async_history.append([plain_item(item) for item in items], ttl=self._limits.ttl)

    async def pop_item(self) -> TResponseInputItem | None:
        """Delete the last item and return it; None if there is none. No other caller gets the same one.

        Raises:
            InvalidValue: the last message is not an item of the SDK, such as one of an encrypted session; nothing was deleted.
            DecryptionError: the last item cannot be decrypted; nothing was deleted.
            Conflict: other clients changed the session 100 times in a row; nothing was deleted.
        """
        bridge = self._async_memory.bridge

        async def attempt() -> TResponseInputItem | None:
            last = await self._async_history.messages(1)
            if not last:
                return None
            item = item_of(last[0])
            await bridge.write(Pop(self.session_id, 1, (last[0].id,)))
            return item

        return await repeated(bridge, attempt, f"session {self.session_id!r}")

    async def clear_session(self) -> None:
        await self._async_history.clear()

    async def summarize(self, items: Sequence[TResponseInputItem], *, upto: int, if_last: int | None = None) -> None:
        """Store a summary, which `get_items` returns in place of the first items. It is on disk when this returns.

        The first items stay in the session: ``get_items(limit=-1)`` returns them. Items that others have added in the meantime are
        not covered, so nothing is lost. A later summary replaces this one.

        Args:
            items: the summary. An empty list, with an `upto` of 0, deletes it.
            upto: how many items it covers, from the start of the session.
            if_last: only if the session has this many items.

        Raises:
            InvalidValue: an item is not JSON; nothing was written.
            InvalidArgument: the session has fewer items than `upto`; nothing was written.
            Conflict: the session changed, or has a summary that covers more items; nothing was written.
        """
        await self._async_history.summarize(upto=upto, summary=[plain_item(item) for item in items], if_last=if_last)

    async def mend(self, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair what a crash in the middle of a turn leaves, and what providers refuse, in one step. Returns what was done.

        Args:
            policy: what happens to a tool call without a result. "cancel": it gets one that says so. "drop": it is deleted.

        Raises:
            Conflict: other clients changed the session 100 times in a row; nothing was written.
        """
        return await self._async_history.mend(policy)

    async def _get_compaction_snapshot(self, limit: int, *, prune_prefix: IsExpired | None = None) -> Snapshot | None:
        """Used by the SDK's `OpenAIResponsesCompactionSession` for automatic compaction, as its own sessions have it."""
        return None if self._is_transformed() else await take_snapshot(self._async_history, limit, prune_prefix)

    @property
    def _read_compaction_items(self) -> Callable[[int | None], Awaitable[tuple[list[TResponseInputItem], bool]]]:
        """Used by `OpenAIResponsesCompactionSession` to read items to compact: its own reading does not note what it reads."""
        if self._is_transformed():
            raise AttributeError("a subclass with methods of its own has no _read_compaction_items")
        return self._read_and_remember

    async def _read_and_remember(self, limit: int | None) -> tuple[list[TResponseInputItem], bool]:
        """Return items, and whether these are all."""
        session = await self._async_history.info()  # first: what others change after this makes the replacement fail
        items, last = await self._read(limit)
        remember(self._async_history, 0 if session is None else session.version, last)
        return items, limit is not None and len(items) < limit

    async def _atomic_replace_items(self, items: list[TResponseInputItem]) -> bool:
        """Used by `OpenAIResponsesCompactionSession` to replace all items; False: it must clear the session and add them."""
        if self._is_transformed():
            return False
        await replace_seen(self._async_history, self._async_memory.bridge, items)
        return True

    def _is_transformed(self) -> bool:
        """Whether a subclass may change items on the way in or out, which a replacement would bypass."""
        methods = ("get_items", "add_items", "pop_item", "clear_session")
        return any(getattr(type(self), name) is not getattr(BotWireSession, name) for name in methods)


def _settings(given: SessionSettings | Mapping[str, Any] | None) -> SessionSettings:
    if isinstance(given, SessionSettings):
        return given
    known = {field.name for field in fields(SessionSettings)}
    try:
        unknown = set(given or {}) - known
        settings = SessionSettings(**(given or {}))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"session_settings is a SessionSettings or a dict of its fields: {error}") from error
    if unknown:
        raise InvalidArgument(f"session_settings has {', '.join(sorted(known))}, and no {', '.join(map(str, unknown))}")
    return settings
