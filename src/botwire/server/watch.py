"""Changes as server-sent events: one request, answered for as long as the client stays connected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.datastructures import State
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .. import wire
from ..connections.protocol import ENDING
from ..errors import BotWireError, Unavailable
from ..limits import check_namespace
from ..store import AsyncFeed, GuardedStore
from ..watch import watch_query
from ..wire import events
from .access.authorizer import AuthorizedStore
from .budget import LARGE
from .encoded import Encoded
from .large import send_in_parts
from .routes import failure, header, number

log = logging.getLogger("botwire.server")

HEARTBEAT = 15.0
"""Seconds without a change after which the server sends an empty event. It shows the client that the connection works, and
the server checks whether the client may still read."""
_AFTER = 0.01
"""Seconds after the expiry of a token at which its streams end: a timer may be early by the clock."""
_HEADERS = [
    (b"content-type", events.MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # or nginx collects events before it passes them on
]


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "changes, for as long as the client stays connected",
        "content": {
            events.MEDIA_TYPE: {}
        },  # OpenAPI 3.1 cannot describe an event; a schema would be for the whole stream
    }
}


async def watch(
    request: Request,
    namespace: Annotated[str, "the namespace"],
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="only changes after this version; by default, from now on")
    ] = None,
    prefix: Annotated[str, Query(description="only changes of keys with this prefix")] = "",
    session: Annotated[str | None, Query(description="only changes of this session")] = None,
) -> Response:
    """Stream changes as server-sent events, each with its version as id; `Last-Event-ID` resumes after one."""
    last = number(header(request, b"last-event-id") or None, "Last-Event-ID")
    query = watch_query(prefix, session=session, after=after if last is None else last)
    store: GuardedStore = request.app.state.authorizer.store
    reader: AuthorizedStore = request.scope["store"]
    feed = store.changes_for(reader, check_namespace(namespace), query)
    return EventStream(feed, namespace, request.app.state, reader.expires_in)


class EventStream(Response):
    """An answer that lasts until the client disconnects, an error ends it, or the server stops.

    An error before its first event is answered as for any other request. The state of the app limits and counts the streams.
    ``expires_in`` returns the seconds until the feed may not be read any more. It is read then, and so the stream ends.
    """

    def __init__(self, feed: AsyncFeed, namespace: str, app: State, expires_in: Callable[[], float]) -> None:
        super().__init__()
        self._feed = feed
        self._namespace = namespace
        self._app = app
        self._expires_in = expires_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._app.watchers.locked():
                raise Unavailable(f"the server has its maximum of {self._app.max_watchers} watchers; try again later")
            async with self._app.watchers:  # it is free, so this does not wait
                with self._app.metrics.watchers.track_inprogress():
                    await self._feed.begin()
                    await self._stream(await self._next(0), scope, receive, send)
        finally:
            await self._feed.close()
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, first: Encoded, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until one of three ends the stream: an error, the client, or the server."""
        ending = scope[ENDING] = asyncio.Event()
        works = self._send(first, scope, send), _gone(receive), ending.wait()
        del first  # or it would be held as long as the stream
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self, seconds: float) -> Encoded:
        encoded: Encoded = await self._app.encoder.encode(self._namespace, await self._feed.next(seconds))
        return encoded

    async def _send(self, encoded: Encoded | None, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while encoded is not None:
            await _send_events(encoded, scope, send)
            # After changes, ask at once for more: the client learns when it has received all of them.
            seconds = 0 if encoded.has_changes else min(HEARTBEAT, self._expires_in() + _AFTER)
            encoded = None  # large events are not held while the feed waits
            try:
                encoded = await self._next(seconds)
            except BotWireError as error:
                end = error
                break
            except Exception:
                log.exception("watching failed")
                end = failure()
                break
        body = events.encode_end(wire.encode_problem(end))
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _send_events(encoded: Encoded, scope: Scope, send: Send) -> None:
    message = {"type": "http.response.body", "body": encoded.body, "more_body": True}
    if len(encoded.body) <= LARGE:
        await send(message)
    else:
        await send_in_parts(scope, send, message, encoded.hold)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
