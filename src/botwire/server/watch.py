"""Changes as server-sent events: one request that is answered for as long as the client stays."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .. import wire
from ..errors import BotWireError, Unavailable
from ..limits import check_namespace
from ..store import AsyncFeed
from ..watch import watch_query
from ..wire import events
from .access.gate import Gate
from .routes import failure, header, number
from .telemetry.metrics import Metrics

log = logging.getLogger("botwire.server")

HEARTBEAT = 15.0
"""Seconds after which a client is told that nothing has changed, for it to know that the connection is good, and for us to see
whether he may still read."""
ENDING = "botwire.ending"
"""Where a stream puts into its scope the event that asks it to end, for `protocol.Protocol`."""
_HEADERS = [
    (b"content-type", events.MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep them until there are many
]


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "changes, for as long as the client stays",
        "content": {events.MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


def add_watch(app: FastAPI, most: int) -> None:
    """Add the route.

    Args:
        app: the app.
        most: how many watchers it has at once, at the most.
    """
    watchers: set[EventStream] = set()

    @app.get("/watch/{namespace}", tags=["watch"], response_class=Response, responses=_RESPONSES)
    async def watch(
        request: Request,
        namespace: Annotated[str, "the namespace"],
        after: Annotated[
            int | None, Query(ge=0, lt=2**63, description="go on behind this version; not given: from now on")
        ] = None,
        prefix: Annotated[str, Query(description="only changes of keys that begin with it")] = "",
        session: Annotated[str | None, Query(description="only changes of this session")] = None,
    ) -> Response:
        """Tell of changes as server-sent events, each with a version for its id; `Last-Event-ID` goes on behind one."""
        last = number(header(request, b"last-event-id") or None, "Last-Event-ID")
        query = watch_query(prefix, session=session, after=after if last is None else last)
        if len(watchers) >= most:
            raise Unavailable(f"the server has as many watchers as it takes ({most}); try again later")
        gate: Gate = app.state.gate
        feed = gate.store.changes_for(request.scope["store"], check_namespace(namespace), query)
        await feed.begin()
        return EventStream(watchers, feed, await feed.next(0))


class EventStream(Response):
    """An answer that goes on until the client goes, an error ends it, or the server stops."""

    def __init__(self, watchers: set[EventStream], feed: AsyncFeed, first: Any) -> None:
        super().__init__()
        self._watchers = watchers
        self._feed = feed
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        self._watchers.add(self)
        metrics: Metrics = scope["app"].state.metrics
        metrics.watched(len(self._watchers))
        ending = scope[ENDING] = asyncio.Event()
        tasks = [asyncio.ensure_future(work) for work in (self._tell(send), _gone(receive), ending.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watchers.discard(self)
            metrics.watched(len(self._watchers))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._feed.close()
        await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        found = self._first
        while True:
            await send({"type": "http.response.body", "body": events.encode_changes(found), "more_body": True})
            try:
                # After changes at once whether there are more: the client is told when there are none.
                found = await self._feed.next(0 if found.changes else HEARTBEAT)
            except BotWireError as error:
                end = error
                break
            except Exception:
                log.exception("watching failed")
                end = failure()
                break
        body = events.encode_end(wire.encode_problem(end))
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
