"""The context of a model: the newest messages of a session that fit into a budget, read in pages."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec

from .bridge import Bridge, repeated
from .conversations.context import Picker
from .conversations.shapes import shape_of
from .errors import Conflict, InvalidArgument
from .queries import GetContext, GetSession, ListMessages
from .records import Context, Message, Session
from .values import decode

Count: TypeAlias = Callable[[Any], float]
System: TypeAlias = Literal["keep", "drop"]
Start: TypeAlias = Literal["user", "any"]

_FIRST = 64
"""The most messages of the first page: most contexts need no other."""
_SHORT = 40
"""Most messages have more tokens, so a small budget has room for few messages."""
_HEAD = 2
"""Messages that are read from the start of the session: few sessions begin with more than one system message."""
_LEAST, _MOST = 8, 2_048
"""Messages of a later page."""
_MORE = 4
"""Messages that a page has beside those that probably fit: one that does not fit ends the context."""
_MOST_AT_FIRST = 256
"""The most messages of the first page. More are not read faster at once, and messages may have become longer."""
_SPARE = 1.05
"""A page that is read for n messages has this many times n, because messages differ in length."""


class PickedContext(msgspec.Struct, frozen=True):
    """The context of a model, from `History.context_messages`.

    ``system`` has the system messages at the start of the session, ``summary`` the data of the summary's messages, and ``messages`` the
    newest messages. ``data`` is the data of all three in this order, and ``tokens`` are theirs. ``summarized`` is the last seq that the
    summary covers, 0 without one. ``version`` and ``last`` are the session's, to pass as ``if_version`` and ``if_last``.
    """

    system: list[Message]
    summary: list[Any]
    messages: list[Message]
    data: list[Any]
    tokens: float
    summarized: int
    version: int
    last: int

    def __repr__(self) -> str:
        counts = f"system={len(self.system)}, summary={len(self.summary)}, messages={len(self.messages)}"
        return f"PickedContext({counts}, tokens={self.tokens})"


async def read_context(
    bridge: Bridge,
    session: str,
    max_tokens: int | None,
    count: Count | None,
    system: System,
    start: Start,
    *,
    probable: int | None = None,
) -> PickedContext:
    """Return the newest messages of a session that fit. The arguments are those of `History.context`.

    ``probable``: how many fit, as an earlier context had them.
    """
    if system not in {"keep", "drop"}:
        raise InvalidArgument(f'system is "keep" or "drop", not {system!r:.60}')
    if count is not None and not callable(count):
        raise InvalidArgument(f"count is a function of a message's data, not {type(count).__name__}")
    reader = _Reader(bridge, session, partial(Picker, max_tokens, count, start=start), max_tokens, system)
    reader.probable = probable
    if count is None:
        return await repeated(bridge, reader.read, f"session {session!r}")
    return await repeated(bridge, partial(reader.read, bridge.compute), f"session {session!r}")


async def _at_once(fn: Callable[[Any], Any], value: Any) -> Any:
    return fn(value)


class _Reader:
    """Reads one session for one context."""

    def __init__(
        self, bridge: Bridge, session: str, picker: Callable[..., Picker], max_tokens: int | None, system: System
    ) -> None:
        self._bridge = bridge
        self._session = session
        self._picker = picker
        self._max_tokens = max_tokens
        self._system = system
        self.probable: int | None = None

    async def read(self, compute: Callable[..., Any] = _at_once) -> PickedContext:
        """Read pages, the newest first, until the picker needs no more. Raises `Conflict` if others edit the session."""
        head = _HEAD if self._system == "keep" else 0
        first = await self._bridge.read(GetContext(self._session, self._first_size(), head=head))
        system = await self._leading(first) if self._system == "keep" else []
        summary = decode(first.summary) if first.summary else []
        if isinstance(
            summary, str
        ):  # it is encrypted, and this memory has no key: one text, as an encrypted message is
            summary = [summary]
        picker = await compute(lambda given: self._picker(system=given, summary=summary, upto=first.summarized), system)
        base, seen, page = picker.tokens, 0, first
        while page.messages:
            seen += len(page.messages)
            await compute(picker.add, self._wanted(page.messages))
            before = page.messages[0].seq
            if picker.is_full or before == 1:
                break
            size = self._size(seen, picker.tokens - base, picker.tokens)
            page = await self._bridge.read(GetContext(self._session, size, before))
            self._check_version(first, page)
        picked = picker.finish()
        data = [*(message.data for message in system), *summary, *picked.data]
        return PickedContext(
            system, summary, picked.messages, data, picked.tokens, first.summarized, first.version, first.last
        )

    def _check_version(self, first: Context, later: Context | Session | None) -> None:
        if later is None or later.version != first.version:
            raise Conflict(f"session {self._session!r} was changed while it was read")

    async def _leading(self, first: Context) -> list[Message]:
        """Return the system messages at the start of the session."""
        found: list[Message] = []
        head = first.head
        while head:
            for message in head:
                if not _is_system(message):
                    return found
                found.append(message)
            if len(found) >= first.last:
                break
            head = await self._bridge.read(ListMessages(self._session, after=found[-1].seq, limit=_FIRST))
            known = await self._bridge.read(GetSession(self._session))
            self._check_version(first, known)
        return found

    def _wanted(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if not _is_system(message)] if self._system == "drop" else messages

    def _first_size(self) -> int:
        if self.probable is not None:
            return min(max(self.probable, _LEAST) + _MORE, _MOST_AT_FIRST)
        if type(self._max_tokens) is not int:
            return _FIRST
        return max(_LEAST, min(_FIRST, self._max_tokens // _SHORT))

    def _size(self, seen: int, tokens: float, total: float) -> int:
        """Return how many messages to read next: those that fit by the average so far, and some to spare."""
        if self._max_tokens is None:
            return min(4 * max(seen, _LEAST), _MOST)
        room = self._max_tokens - total
        if room <= 0:  # the start of a turn, or the call of a result, is missing
            return _FIRST
        if not tokens:
            return _MOST
        if self.probable is not None and seen < self.probable:
            return min(self.probable - seen + _MORE, _MOST)
        return min(_MORE + math.ceil(_SPARE * seen * room / tokens), _MOST)


def _is_system(message: Message) -> bool:
    # Decoding takes much longer than finding one of these words, which are in each system message of any format.
    text = message.stored
    return ("ystem" in text or "developer" in text) and shape_of(message.data).role == "system"
