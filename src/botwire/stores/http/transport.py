"""HTTP/1.1 over kept connections.

The parser is httptools'. General clients cost more than the server that they call: on the machine where this was decided, a
round trip took 190 µs with a bare socket, 200 with this, 290 with pyreqwest and libcurl, 510 with urllib3 and 770 with httpx.

Redirects are not followed: a request, and the token in it, reaches no host that the user did not name.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary, ref

from ...deadline import Deadline
from ...errors import StoreError
from ...forks import ForkAware, register
from .connection import Kind, ThreadConnection
from .dial import connect
from .exchange import Exchange
from .messages import Request, Response
from .origin import Origin
from .pool import LoopPool, Pool, ThreadPool


class Transport(ForkAware):
    """Connections to one origin, shared by all threads and event loops. A forked child makes its own."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._closed = False
        self._reset()
        register(self)

    def _reset(self) -> None:
        self._threads = ThreadPool()
        # A pool refers to its loop. If this referred to the pool, no loop would ever be freed, not even a closed one. So a
        # pool is held by the calls that use it, and by its loop while it has idle connections.
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[LoopPool]] = WeakKeyDictionary()

    async def send(self, request: Request, kind: Kind, deadline: Deadline) -> Response:
        """Return the response. A call that is interrupted or cancelled closes its connection.

        Raises:
            ConnectionFailed: there was none.
            TimeoutError: the response was not complete at the deadline.
            StoreError: the transport is closed.
        """
        data = self.origin.encode(request)
        pool: Pool = self._threads if kind is ThreadConnection else self._pool_of_loop()
        release = await pool.acquire(deadline)
        try:
            if self._closed:
                raise StoreError("the store is closed; open a new one")
            # A kept connection may just be closed by the server. Then it is unknown whether the request arrived.
            connection = pool.take() if request.may_repeat else None
            if connection is None:
                connection = await connect(self.origin, kind, deadline)
            try:
                exchange = Exchange(self.origin)
                await connection.send(data, deadline)
                while (response := exchange.feed(await connection.receive(deadline))) is None:
                    pass
            except BaseException as error:
                connection.close()
                if (broken := self.origin.broken(error)) is not None:
                    raise broken from error
                raise
            if exchange.is_reusable:
                pool.give(connection)
            else:
                connection.close()
        finally:
            release()
        if self._closed:
            pool.close_idle()
        return response

    def _pool_of_loop(self) -> LoopPool:
        loop = asyncio.get_running_loop()
        reference = self._loops.get(loop)
        pool = reference() if reference is not None else None
        if pool is None:
            pool = LoopPool()
            self._loops[loop] = ref(pool)
        return pool

    def close(self) -> None:
        """Close the idle connections now, and the others when their exchange has ended."""
        self._closed = True
        self._threads.close_idle()
        for reference in list(self._loops.values()):
            if (pool := reference()) is not None:
                pool.close_idle()

    def after_fork_in_child(self) -> None:
        self._threads.close_idle()  # the parent's remain open
        self._reset()
