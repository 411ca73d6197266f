"""The routes for the problems of a session that make providers refuse it, and for their repair."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import Query as Parameter
from starlette.requests import Request
from starlette.responses import Response

from .. import wire
from ..bridge import Bridge
from ..conversations.shapes import shape_of
from ..errors import InvalidArgument, NotFound
from ..limits import check_name, check_namespace
from ..operations import Operation, Result
from ..queries import GetSession, Query
from ..records import Message, Session
from ..revising import mend_session, problems_of
from ..wire.responses import SessionProblems
from .connected import while_connected
from .large import in_thread
from .routes import JsonResponse, Namespace, apply, decoded, hold_of

T = TypeVar("T")
MAX_MESSAGES, MAX_BYTES = 10_000, 8 * 1024 * 1024
"""What a session may have, so that a check does not keep others waiting for long. It runs in a thread."""

_Session: TypeAlias = Annotated[str, Parameter(description="the session")]


async def problems(request: Request, namespace: Namespace, session: _Session) -> Response:
    """List what makes providers refuse a session: calls without results, results without calls, repeated ids and empty turns."""
    bridge = _Bounded(request, namespace, session)
    found = await while_connected(request, problems_of(bridge, session))
    return JsonResponse(SessionProblems.of(found, bridge.unrecognized))


async def mend(request: Request, namespace: Namespace, session: _Session) -> Response:
    """Repair a session in one write, and return what was done. A repeated request finds nothing left to do."""
    bridge = _Bounded(request, namespace, session)
    policy = await decoded(request, wire.decode_mend)
    done = await while_connected(request, mend_session(bridge, session, policy))
    return JsonResponse(SessionProblems.of(done, bridge.unrecognized))


class _Bounded(Bridge):
    """The store as this caller may use it, for one session that is not too large to check."""

    def __init__(self, request: Request, namespace: str, session: str) -> None:
        self._request = request
        self._namespace = check_namespace(namespace)
        check_name(session, "session name")
        self.unrecognized = 0

    async def read(self, query: Query[T]) -> T:
        found = await self._request.scope["store"].read(self._namespace, query)
        if isinstance(query, GetSession):
            self._check(query.session, found)
        return found  # type: ignore[no-any-return]

    def _check(self, name: str, session: Session | None) -> None:
        if session is None:
            raise NotFound(f"there is no session {name!r} in namespace {self._namespace!r}")
        if session.messages > MAX_MESSAGES or session.bytes > MAX_BYTES:
            raise InvalidArgument(
                f"a server checks sessions of at most {MAX_MESSAGES:,} messages and {MAX_BYTES:,} bytes, and this one has "
                f"{session.messages:,} and {session.bytes:,}: run botwire history {self._namespace} {name} --check, or --mend"
            )
        hold_of(self._request).set(2 * session.bytes)  # stored and decoded

    async def write(self, *operations: Operation, idempotency_key: str | None = None) -> list[Result]:
        assert idempotency_key is None
        return await apply(self._request, self._namespace, *operations)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, fn: Callable[[Any], Any], value: Any) -> Any:
        return await self.compute(fn, value)

    async def compute(self, fn: Callable[[Any], T], value: Any) -> T:
        found, self.unrecognized = await in_thread(lambda: (fn(value), sum(map(_is_unrecognized, value))))
        return found


def _is_unrecognized(message: Message) -> bool:
    """Whether a message has none of the known formats, as one that a client has encrypted."""
    shape = shape_of(message.data)
    return shape.role is None and not shape.calls and not shape.results
