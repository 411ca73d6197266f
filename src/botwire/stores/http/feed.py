"""Following the changes of a namespace over HTTP, through connections that are cut."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import msgspec

from ... import wire
from ...bridge import blocking
from ...errors import BotWireError, StoreError, Unavailable
from ...queries import ListChanges
from ...records import Change, Changes
from ...wire import events
from .async_transport import AsyncTransport
from .errors import refusal
from .exchange import ConnectionFailed, Request
from .stream import AsyncStream, Stream, open_stream
from .transport import Transport

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
SILENCE = 45.0
"""Seconds without a sign of life, of which the server gives one every 15, after which a connection is taken for dead."""


class _Following(ABC):
    """The logic of both feeds: events → changes, and where to go on when the connection is cut."""

    def __init__(self, namespace: str, query: ListChanges, timeout: float) -> None:
        self._namespace = namespace
        self._query = query
        self._timeout = timeout
        self._stream: Any = None
        self._parser = events.Parser()
        self._events: deque[events.Event] = deque()
        self._is_current = False
        """Whether the server has said that there is nothing more for the moment."""
        self._ahead: Changes | None = None
        self._closed = False

    @abstractmethod
    async def _open(self, request: Request) -> Any: ...

    @abstractmethod
    async def _receive(self, timeout: float) -> bytes: ...

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
        end = math.inf if seconds is None else time.monotonic() + seconds
        if seconds == 0 and self._is_current:
            self._hang_up()  # what is there now is told to who asks anew
        patience = time.monotonic() + self._timeout
        pause = FIRST_PAUSE
        while True:
            try:
                found = await self._await_changes(end)
            except (ConnectionFailed, TimeoutError, Unavailable) as error:
                self._hang_up()
                now = time.monotonic()
                if self._closed:
                    return Changes([], self._query.after or 0)
                if now + pause >= patience:
                    raise _unavailable(error) from error
                # Drawn at random, so that watchers that were cut off together do not come back together.
                await self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, LONGEST_PAUSE)
            except asyncio.CancelledError:
                raise
            except BaseException:
                self._hang_up()
                raise
            else:
                if found is not None:
                    return found
                patience, pause = time.monotonic() + self._timeout, FIRST_PAUSE

    async def _await_changes(self, end: float) -> Changes | None:
        """Return changes, or none when it is time; None when something else has come."""
        if self._stream is None or not self._stream.is_own:
            await self._connect()
        if not self._events:
            limit = self._timeout
            if self._is_current:
                limit = min(SILENCE, end - time.monotonic())
                if limit <= 0:
                    return self._answer([])
            try:
                data = await self._receive(limit)
            except TimeoutError:
                if self._is_current and time.monotonic() >= end:
                    return self._answer([])
                raise
            if not data:
                raise ConnectionFailed("the server ended the stream")
            self._events.extend(self._parser.feed(data))
        changes = self._take()
        return self._answer(changes) if changes else None

    async def _connect(self) -> None:
        self._hang_up()
        stream = await self._open(self._request())
        if stream.response is not None:
            stream.close()
            raise refusal(stream.response)
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


class HttpFeed(_Following):
    """A `store.Feed` behind a server."""

    def __init__(self, transport: Transport, namespace: str, query: ListChanges, timeout: float) -> None:
        super().__init__(namespace, query, timeout)
        self._transport = transport

    async def _open(self, request: Request) -> Stream:
        return Stream(self._transport, request, self._timeout)

    async def _receive(self, timeout: float) -> bytes:
        data: bytes = self._stream.read(timeout)
        return data

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    begin = blocking(_Following._begin)
    next = blocking(_Following._next)

    def close(self) -> None:
        """As `Feed.close`."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()


class AsyncHttpFeed(_Following):
    """A `store.AsyncFeed` behind a server."""

    def __init__(self, transport: AsyncTransport, namespace: str, query: ListChanges, timeout: float) -> None:
        super().__init__(namespace, query, timeout)
        self._transport = transport

    async def _open(self, request: Request) -> AsyncStream:
        return await open_stream(self._transport, request, self._timeout)

    async def _receive(self, timeout: float) -> bytes:
        data: bytes = await self._stream.read(timeout)
        return data

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    begin = _Following._begin
    next = _Following._next

    async def close(self) -> None:
        """As `AsyncFeed.close`."""
        self._closed = True
        self._hang_up()


def _unavailable(error: Exception) -> BotWireError:
    if isinstance(error, BotWireError):
        return error
    return Unavailable(f"{error}. Is the server running, and is the address right? Iterate again to go on")
