"""Feeds of a namespace's changes over HTTP. They reconnect and resume when a connection is cut."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import msgspec

from ... import wire
from ...backoff import Backoff
from ...bridge import blocking
from ...deadline import Deadline
from ...errors import BotWireError, StoreError, Unavailable
from ...queries import ListChanges
from ...records import Change, Changes
from ...wire import events
from .errors import error_of
from .messages import ConnectionFailed, Request
from .origin import Origin
from .stream import AsyncStream, Stream, open_stream

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
SILENCE = 45.0
"""Seconds after which a silent connection counts as broken. The server sends something every 15."""


class _FeedLogic(ABC):
    """The logic of both feeds: events → changes, and where to resume after a connection was cut."""

    def __init__(self, origin: Origin, namespace: str, query: ListChanges, timeout: float) -> None:
        self._origin = origin
        self._namespace = namespace
        self._query = query
        self._timeout = timeout
        self._stream: Any = None
        self._parser = events.Parser()
        self._events: deque[events.Event] = deque()
        self._is_current = False
        """Whether the server has reported that there is nothing more at the moment."""
        self._ahead: Changes | None = None
        self._closed = False

    @abstractmethod
    async def _open(self, request: Request, deadline: Deadline) -> Any: ...

    @abstractmethod
    async def _receive(self, deadline: Deadline) -> bytes: ...

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

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
        while True:
            found = await self._persist(end)
            if found is not None:
                return found

    async def _persist(self, end: Deadline) -> Changes | None:
        """Do one step, again and again while the server cannot be reached, at most as long as the timeout."""
        patience = Deadline.after(self._timeout)
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, patience)
        while not self._closed:
            try:
                return await self._step(end, patience)
            except (ConnectionFailed, TimeoutError, Unavailable) as error:
                if self._is_current:  # it was reached until now, so the time to reach it again begins here
                    backoff.deadline = patience = Deadline.after(self._timeout)
                self._hang_up()
                if self._closed:
                    break
                is_final = isinstance(error, ConnectionFailed) and error.is_final
                pause = None if is_final else backoff.next()
                if pause is None:
                    raise _unavailable(error) from error
                await self._sleep(pause)
            except asyncio.CancelledError:  # the stream is still in order, and the next call reads on
                raise
            except BaseException:
                self._hang_up()
                raise
        return Changes([], self._query.after or 0)

    async def _step(self, end: Deadline, patience: Deadline) -> Changes | None:
        """Return changes, or none at the end of the wait; None when something else has come."""
        if self._stream is None or not self._stream.is_own:
            await self._connect(patience)
        if not self._events:
            if self._is_current and end.is_over:
                return self._answer([])
            try:
                data = await self._receive(self._silence(end) if self._is_current else patience)
            except TimeoutError:
                if self._is_current and end.is_over:
                    return self._answer([])
                raise
            if not data:
                raise ConnectionFailed("the server ended the stream")
            self._events.extend(self._parser.feed(data))
        changes = self._take()
        return self._answer(changes) if changes else None

    @staticmethod
    def _silence(end: Deadline) -> Deadline:
        return Deadline(min(end.at, time.monotonic() + SILENCE))

    async def _connect(self, deadline: Deadline) -> None:
        self._hang_up()
        stream = await self._open(self._request(), deadline)
        if stream.response is not None:
            stream.close()
            raise error_of(stream.response)
        self._stream = stream

    def _request(self) -> Request:
        query = self._query
        path = wire.namespace_path(
            "watch", self._namespace, after=query.after, prefix=query.prefix or None, session=query.session
        )
        return Request("GET", path)

    def _take(self) -> list[Change]:
        """Return the changes in the events that have come."""
        changes = []
        while self._events:
            event = self._events.popleft()
            if event.name == events.PROBLEM:
                raise wire.decode_problem(0, event.data) or StoreError("the server ended the stream without a reason")
            if event.data:
                changes.append(events.change_of(event))
            self._is_current = not event.data
            self._query = msgspec.structs.replace(self._query, after=events.version_of(event))
        return changes

    def _answer(self, changes: list[Change]) -> Changes:
        assert self._query.after is not None
        return Changes(changes, self._query.after)

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._parser = events.Parser()
        self._events.clear()
        self._is_current = False


class HttpFeed(_FeedLogic):
    """A `store.Feed` of a server."""

    async def _open(self, request: Request, deadline: Deadline) -> Stream:
        return Stream(self._origin, request, deadline)

    async def _receive(self, deadline: Deadline) -> bytes:
        data: bytes = self._stream.read(deadline)
        return data

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    begin = blocking(_FeedLogic._begin)
    next = blocking(_FeedLogic._next)

    def close(self) -> None:
        self._closed = True
        if self._stream is not None:
            self._stream.close()


class AsyncHttpFeed(_FeedLogic):
    """A `store.AsyncFeed` of a server."""

    async def _open(self, request: Request, deadline: Deadline) -> AsyncStream:
        return await open_stream(self._origin, request, deadline)

    async def _receive(self, deadline: Deadline) -> bytes:
        data: bytes = await self._stream.read(deadline)
        return data

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    begin = _FeedLogic._begin
    next = _FeedLogic._next

    async def close(self) -> None:
        self._closed = True
        self._hang_up()


def _unavailable(error: Exception) -> BotWireError:
    if isinstance(error, BotWireError):
        return error
    return Unavailable(f"{error}. Is the server running, and is the address right? Iterate again to resume")
