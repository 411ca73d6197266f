"""How many bytes the requests and answers of a process may hold at once.

It counts what is large: bodies that are being received, values that were read or are to be written, and answers that their
clients have not read. Small ones are not counted, so that they are served however many large ones there are.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..connections.peers import is_loopback
from ..errors import Unavailable

LARGE = 64 * 1024
"""Bytes of a body or answer beyond which it is counted, and decoded or encoded in a thread."""
MAX_HELD = 256 * 1024 * 1024
"""The default of `Budget`."""
SHARE = 0.5
"""The share of the budget that one client on another machine may take, so that the rest is for others."""
PATIENCE = 5.0
"""Seconds after which a request that waits for its client gives way, if another one needs its bytes."""
HOLD = "botwire.hold"
"""The key in an ASGI scope of the bytes that a request holds; absent while it holds none."""


class Budget:
    """The bytes of all requests together.

    Args:
        limit: how many bytes they may hold. A request that is alone may hold more.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._holds: dict[Hold, None] = {}
        """The oldest first."""
        self._clients: Counter[str] = Counter()

    def of(self, scope: Any) -> Hold:
        """Return what the request with this ASGI scope holds."""
        hold: Hold | None = scope.get(HOLD)
        if hold is None:
            client = scope.get("client")
            hold = scope[HOLD] = Hold(self, "" if client is None or is_loopback(client[0]) else client[0])
        return hold

    def make_room(self, asking: Hold, more: int) -> None:
        """Raise `Unavailable` unless another `more` bytes fit, which those that wait for slow clients may have to give up."""
        taken = self._clients[asking.client]
        if asking.client and taken > asking.bytes and taken + more > self.limit * SHARE:
            raise Unavailable("your large requests and answers in progress take your share of the server; try again")
        for hold in list(self._holds):
            if self.held + more <= self.limit:
                return
            if hold is not asking:
                hold.give_way()
        if self.held + more > self.limit and self.held > asking.bytes:
            raise Unavailable("large requests and answers take all the memory that the server has for them; try again")

    def count(self, hold: Hold, more: int) -> None:
        """Count bytes, or less than before if `more` is negative."""
        self.held += more
        self._clients[hold.client] += more
        if not self._clients[hold.client]:
            del self._clients[hold.client]
        if hold.bytes + more:
            self._holds[hold] = None
        else:
            self._holds.pop(hold, None)


class Hold:
    """The bytes that one request holds. ``client`` is its address, empty for one on this machine: a proxy has many clients."""

    def __init__(self, budget: Budget, client: str) -> None:
        self.client = client
        self.bytes = 0
        self._budget = budget
        self._begun = time.monotonic()
        self._waiting: set[asyncio.Timeout] = set()

    def set(self, size: int, *, may_refuse: bool = True) -> None:
        """Hold this many bytes from now on, if they are many, or raise `Unavailable` if that is allowed."""
        size = size if size > LARGE else 0
        if size > self.bytes and may_refuse:
            self._budget.make_room(self, size - self.bytes)
        self._count(size)

    def release(self) -> None:
        """Hold nothing."""
        self._count(0)

    def _count(self, size: int) -> None:
        if size != self.bytes:
            self._budget.count(self, size - self.bytes)
            self.bytes = size

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait for a client in this context. It raises `TimeoutError` when another request needs the bytes."""
        async with asyncio.timeout(None) as timeout:
            self._waiting.add(timeout)
            try:
                yield
            finally:
                self._waiting.discard(timeout)

    def give_way(self) -> None:
        """Release the bytes of a request that has waited long for its client, and end the wait."""
        if self._waiting and time.monotonic() - self._begun > PATIENCE:
            for timeout in self._waiting:
                timeout.reschedule(0)
            self._waiting.clear()
            self.release()
