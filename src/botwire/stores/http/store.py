"""The store of a server, over HTTP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from ... import wire
from ...answers import mismatch_of_results
from ...bridge import blocking
from ...limits import check_timeout
from ...operations import Operation, Result
from ...queries import ListChanges, Query
from ...timestamps import new_id
from .connection import Kind, LoopConnection, ThreadConnection
from .feed import AsyncHttpFeed, HttpFeed
from .messages import Request
from .origin import Origin
from .queries import answer, unfit
from .transport import Call, Context, Transport

T = TypeVar("T")


class _HttpLogic:
    """The logic of both HTTP stores."""

    address: str
    timeout: float
    context: Context | None = None
    transport: Transport
    kind: Kind

    def _call(self) -> Call:
        return Call(self.transport, self.kind, self.timeout, self.context)

    async def _read(self, namespace: str, query: Query[T]) -> T:
        return await answer(self._call(), namespace, query)

    async def _write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        # Every write that may be sent twice needs a key: a repeated set could undo what another client wrote in between, and
        # a repeated append could restore a message that was deleted.
        headers = (("Idempotency-Key", idempotency_key or new_id()),)
        path = wire.namespace_path("memory", namespace)
        body = await self._ask(Request("POST", path, wire.encode_write(operations), headers))
        results = wire.decode_results(body)
        if (wrong := mismatch_of_results(operations, results, is_new=idempotency_key is None)) is not None:
            raise unfit(wrong)
        return results

    async def _ask(self, request: Request) -> bytes:
        """Return the body of the answer to a request, or raise the error in it."""
        return await self._call().ask(request)


class HttpStore(_HttpLogic):
    """The `Store` of a server (``botwire serve``). Threads share its connections: at most 64 at once, others wait.

    If the server refuses connections for lack of room, the store uses as many as it accepts, and tries more from time to time.

    A lost connection and a 503 are tried again, with growing pauses, until the timeout, but no longer than five minutes. No
    write is carried out twice, because each carries an idempotency key.

    The environment is read when the store is opened: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` as curl
    and requests do, so that local addresses are reached directly only if ``NO_PROXY`` lists them. Proxies are HTTP proxies;
    for ``https`` they carry a tunnel (CONNECT), and see neither the token nor the data.

    Args:
        url: ``http://host[:port][/path]`` or ``https://…``.
        token: sent as ``Authorization: Bearer`` (RFC 6750).
        timeout: seconds that a call may take in all: waiting for a connection, connecting, TLS, and retries included.
        ca: a file (PEM) or folder of certificate authorities to trust for ``https``; None: ``SSL_CERT_FILE``, or else the
            system's.

    Raises:
        InvalidArgument: the address, the timeout, `ca` or a proxy in the environment is wrong.
    """

    kind = ThreadConnection

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        ca: str | os.PathLike[str] | None = None,
    ) -> None:
        self.timeout = check_timeout(timeout)
        self.address = url
        headers = {"User-Agent": "botwire", "Accept": wire.MEDIA_TYPE}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self.transport = Transport(Origin(url, headers, ca))

    def changes(self, namespace: str, query: ListChanges) -> HttpFeed:
        """As `Store.changes`. A feed has a connection of its own."""
        return HttpFeed(self.transport, namespace, query, self.timeout)

    def to_async(self) -> AsyncHttpStore:
        return AsyncHttpStore(self)

    def propagate(self, fields: Context) -> None:
        self.context = fields

    read = blocking(_HttpLogic._read)
    write = blocking(_HttpLogic._write)
    ask = blocking(_HttpLogic._ask)

    def close(self) -> None:
        self.transport.close()


class AsyncHttpStore(_HttpLogic):
    """`HttpStore` for event loops. All that are made from one store share its connections, at most 64 for each loop."""

    kind = LoopConnection

    def __init__(self, store: HttpStore) -> None:
        self.timeout = store.timeout
        self.address = store.address
        self.context = store.context
        self.transport = store.transport

    def changes(self, namespace: str, query: ListChanges) -> AsyncHttpFeed:
        """As `AsyncStore.changes`. A feed has a connection of its own."""
        return AsyncHttpFeed(self.transport, namespace, query, self.timeout)

    read = _HttpLogic._read
    write = _HttpLogic._write

    async def close(self) -> None:
        self.transport.close()
