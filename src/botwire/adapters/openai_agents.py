"""BotWireSession: a persistent session for the OpenAI Agents SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Unpack, cast

from ..backoff import MAX_ATTEMPTS, pause_after
from ..errors import Conflict, InvalidArgument, InvalidValue
from ..memory import Memory, Options
from ..operations import Pop
from ..records import Message
from ._base import OverSession, SessionId, needs, session_name

with needs("agents", "BotWireSession needs openai-agents: pip install 'botwire[openai-agents]'"):
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings

__all__ = ["BotWireSession"]


class BotWireSession(OverSession):
    """A persistent `Session` for the OpenAI Agents SDK.

    Items are on disk when a call that adds them returns. Threads, processes and event loops may use a session at once: every
    item is kept, and popped by one caller only. The items of one call stay together: all are stored, or none, also when the
    call is cancelled. Items come back as JSON, with all their fields, as in the SDK's own sessions.

    Args:
        session_id: the name of the session: 1 to 512 bytes of UTF-8 without control characters. Of an int or a UUID, the text.
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        session_settings: the SDK's `SessionSettings`, or a dict of them; its ``limit`` is the default of
            `get_items`. Wrong settings raise `InvalidArgument`.
    """

    def __init__(
        self,
        session_id: SessionId,
        namespace: str = "openai-agents",
        url: str | None = None,
        *,
        session_settings: SessionSettings | Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._memory = Memory(namespace, url, **options)
        self._history = self._memory.history(session_name(session_id))
        self.session_settings: SessionSettings | None = _settings(session_settings)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the items in order.

        Args:
            limit: only this many, from the end. None: ``session_settings.limit``, or all. Less than 0: all.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        last = None if limit is None or limit < 0 else limit
        return [message.data for message in await self._async_history.messages(last)]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, at most 10,000 at once, all or none. They are on disk when this returns.

        Raises:
            InvalidValue: an item is not JSON; nothing was written.
        """
        await self._async_history.append([_plain(item) for item in items])

    async def pop_item(self) -> TResponseInputItem | None:
        """Delete the last item and return it; None if there is none. No other caller gets the same one.

        Raises:
            InvalidValue: the last message is not an item of the SDK, such as one of an encrypted session; nothing was deleted.
            DecryptionError: the last item cannot be decrypted; nothing was deleted.
            Conflict: other clients changed the session 100 times in a row; nothing was deleted.
        """
        bridge = self._async_memory.bridge
        for attempt in range(MAX_ATTEMPTS):
            last = await self._async_history.messages(1)
            if not last:
                return None
            item = _item(last[0])
            try:
                await bridge.write(Pop(self.session_id, 1, (last[0].id,)))
            except Conflict:
                await bridge.sleep(pause_after(attempt))
            else:
                return item
        raise Conflict(f"other clients changed the session {MAX_ATTEMPTS} times in a row; nothing was deleted")

    async def clear_session(self) -> None:
        await self._async_history.clear()


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


def _item(message: Message) -> TResponseInputItem:
    if not isinstance(message.data, dict):
        raise InvalidValue(
            f"message {message.seq} of the session is not an item of the OpenAI Agents SDK, and was not deleted. If the session is "
            "encrypted, pass its encryption_key"
        )
    return cast("TResponseInputItem", message.data)


def _plain(item: TResponseInputItem) -> Any:
    try:
        return json.loads(json.dumps(item, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(f"an item of a session must be JSON: {error}") from error
