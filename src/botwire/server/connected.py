"""A request whose client goes away before its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def while_connected(request: Request, call: Coroutine[Any, Any, T]) -> T:
    """Return the result of a call. If the client goes away first, cancel the call and raise `ClientDisconnect`.

    The body of the request must have been read, or be empty.
    """
    work = asyncio.ensure_future(call)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()
        del work, gone  # an error would refer to itself through them, and keep all that a refused body was decoded to


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
