"""Feeds of a namespace's changes over HTTP. They reconnect and resume when a connection is cut."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from ... import wire
from ...answers import mismatch
from ...backoff import Backoff
from ...bridge import blocking
from ...deadline import Deadline
from ...errors import BotWireError, StoreError, Unavailable
from ...queries import ListChanges
from ...records import Change, Changes
from ...store import CLOSED
from ...wire import events
from ...wire.responses import decode_change
from .connection import Connection, Kind, LoopConnection, ThreadConnection
from .dial import connect
from .messages import ConnectionFailed, Request, error_of
from .queries import unfit
from .transport import Exchange, Transport

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
SILENCE = 45.0
"""Seconds after which a silent connection counts as broken. The server sends something every 15."""
_ADVICE = "Is the server running, and is the address right? Iterate again to resume"


class _FeedLogic:
    """The logic of both feeds: events → changes, and where to resume after a connection was cut."""

    _kind: Kind
    _connection: Connection | None = None

    def __init__(self, transport: Transport, namespace: str, query: ListChanges, timeout: float) -> None:
        self._transport = transport
        self._origin = transport.origin
        self._namespace = namespace
        self._query = query
        self._timeout = timeout
        self._ahead: Changes | None = None
        self._closed = False
        self._hang_up()
        transport.feeds.add(self)

    async def _begin(self) -> int:
        if self._query.after is None:
            found = await self._next(0)
            self._ahead = found if found.changes else None
            return found.changes[0].version - 1 if found.changes else found.version
        return self._query.after

    async def _next(self, seconds: float | None) -> Changes:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        end = Deadline.after(seconds)
        if seconds == 0 and self._is_current:
            # The server sends what there is now to a new request. On the open stream it may come a moment later.
            self._hang_up()
        while (found := await self._persist(end)) is None:
            pass
        return found

    async def _persist(self, end: Deadline) -> Changes | None:
        """Do one step, again and again while the server cannot be reached, at most as long as the timeout."""
        patience = Deadline.after(self._timeout)
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, patience)
        while not self._closed:
            if self._transport.is_closed:
                raise StoreError(CLOSED)
            try:
                return await self._step(end, patience)
            except (OSError, Unavailable) as failure:
                error = self._origin.broken(failure) or failure
                if self._is_current:  # it was reached until now, so the time to reach it again begins here
                    backoff.deadline = patience = Deadline.after(self._timeout)
                self._hang_up()
                if self._closed or self._transport.is_closed:
                    continue
                is_final = isinstance(error, ConnectionFailed) and error.is_final
                pause = None if is_final else backoff.next()
                if pause is not None:
                    await self._kind.sleep(pause)
                elif isinstance(failure, Unavailable):
                    raise
                else:
                    raise Unavailable(f"{error}. {_ADVICE}") from failure
            except asyncio.CancelledError:  # the stream is still in order, and the next call reads on
                raise
            except BaseException:
                self._hang_up()
                raise
        return Changes([], self._query.after or 0)

    async def _step(self, end: Deadline, patience: Deadline) -> Changes | None:
        """Return changes, or none at the end of the wait; None when something else has come."""
        if self._connection is None or not self._connection.is_own:
            await self._connect(patience)
        if not self._events:
            silence = Deadline(min(end.at, Deadline.after(SILENCE).at))
            try:
                data = await self._receive(silence if self._is_current else patience)
            except TimeoutError:
                if self._is_current and end.is_over:
                    return self._answer([])
                raise
            if not data:
                raise ConnectionFailed("the server ended the stream")
            self._events.extend(self._parser.feed(data))
        changes = self._take()
        return self._answer(changes) if changes else None

    async def _connect(self, deadline: Deadline) -> None:
        self._hang_up()
        query = self._query
        path = wire.namespace_path(
            "watch", self._namespace, after=query.after, prefix=query.prefix or None, session=query.session
        )
        self._connection = connection = await connect(self._origin, self._kind, deadline)
        self._exchange = exchange = Exchange(self._origin)
        await connection.send(self._origin.encode(Request("GET", path)), deadline)
        while not exchange.status or (exchange.status != 200 and exchange.response is None):
            exchange.feed(await connection.receive(deadline))
        if exchange.response is not None and exchange.status != 200:
            raise error_of(exchange.response)

    async def _receive(self, deadline: Deadline) -> bytes:
        """Return the part of the body that has come, at least one byte; nothing at the end."""
        assert self._connection is not None
        while not (data := self._exchange.take()) and self._exchange.response is None:
            self._exchange.feed(await self._connection.receive(deadline))
        return data

    def _take(self) -> list[Change]:
        """Return the changes in the events that have come. What comes before an error is returned first."""
        changes: list[Change] = []
        while self._events:
            try:
                found = self._read(self._events[0])
            except BotWireError:
                if changes:
                    break  # the next call raises it
                raise
            self._events.popleft()
            changes += found.changes
            self._is_current = not found.changes
            self._query = msgspec.structs.replace(self._query, after=found.version)
        return changes

    def _read(self, event: events.Event) -> Changes:
        if event.name == events.PROBLEM:
            raise wire.decode_problem(0, event.data) or StoreError("the server ended the stream without a reason")
        found = Changes([decode_change(event.data)] if event.data else [], events.version_of(event))
        if (wrong := mismatch(self._query, found)) is not None:
            raise unfit(wrong)
        return found

    def _answer(self, changes: list[Change]) -> Changes:
        assert self._query.after is not None
        return Changes(changes, self._query.after)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._parser = events.Parser()
        self._events: deque[events.Event] = deque()
        self._is_current = False
        """Whether the server has reported that there is nothing more at the moment."""

    def _close(self) -> None:
        self._closed = True
        self.interrupt()

    def interrupt(self) -> None:
        """Make a call under way, of any thread, find out that the feed or its store is closed."""
        if self._connection is not None:
            self._connection.close()

    def __del__(self) -> None:
        self._close()


class HttpFeed(_FeedLogic):
    """A `store.Feed` of a server."""

    _kind = ThreadConnection
    begin = blocking(_FeedLogic._begin)
    next = blocking(_FeedLogic._next)
    close = _FeedLogic._close


class AsyncHttpFeed(_FeedLogic):
    """A `store.AsyncFeed` of a server."""

    _kind = LoopConnection
    begin = _FeedLogic._begin
    next = _FeedLogic._next

    async def close(self) -> None:
        self._close()
        self._connection = None
