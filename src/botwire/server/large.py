"""Large bodies and answers: how they are decoded, encoded and sent while others are served."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.types import Message, Scope, Send

from ..stores.engine.turns import LARGE_WORK
from .budget import LARGE, Hold

T = TypeVar("T")

ABORT = "botwire.abort"
"""The key in an ASGI scope of a function that closes the connection at once, from `protocol.Protocol`."""
_THREAD = ThreadPoolExecutor(1, "botwire-large")
"""One thread: several would not be faster, as they share Python's lock, but hold the memory of several."""


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Decode or encode something large, one after another in one thread, while the event loop serves others.

    The thread rests after work for as long as it has worked. The event loop needs Python's lock many times for one request,
    and each time it may wait until a list of a million numbers is decoded. The garbage collector waits: it would search
    that list repeatedly while it grows, which takes three times as long as to decode it.
    """
    return await asyncio.get_running_loop().run_in_executor(_THREAD, _worked, work, *arguments)


def _worked(work: Callable[..., T], *arguments: Any) -> T:
    with LARGE_WORK:
        begun, collects = time.monotonic(), gc.isenabled()
        gc.disable()
        try:
            return work(*arguments)
        finally:
            if collects:
                gc.enable()
            _THREAD.submit(time.sleep, time.monotonic() - begun)


async def send_in_parts(scope: Scope, send: Send, message: Message, hold: Hold) -> None:
    """Send a part of a response as fast as its client reads. Only the next `LARGE` bytes are copied and buffered.

    If another request needs the bytes of this one, the connection is closed.
    """
    body, more = memoryview(message["body"]), message.get("more_body", False)
    try:
        async with hold.waiting():
            for start in range(0, len(body), LARGE):
                is_last = start + LARGE >= len(body)
                part = {**message, "body": body[start : start + LARGE], "more_body": more or not is_last}
                await send(part)
                await asyncio.sleep(0)  # what was written is sent at the end of this turn of the event loop
    except TimeoutError:
        scope[ABORT]()
        await asyncio.sleep(0)  # until it is closed
