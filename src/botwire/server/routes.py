"""The hot routes as plain Starlette endpoints, the dispatcher that calls them, and what all routes share, such as errors.

A FastAPI path operation costs 55 µs more per request than such an endpoint (13,400 against 41,900 requests a second on one
core). The layers of a FastAPI app around an endpoint cost nearly as much again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Annotated, Any, TypeVar, cast

import msgspec
from fastapi import Depends, FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from .. import records, wire
from ..errors import BotWireError, InvalidArgument, NotFound, QuotaExceeded, Unavailable
from ..limits import MAX_PAGE, MAX_WRITE_BYTES, PAGE_BYTES, check_count, check_name, check_namespace
from ..operations import Delete, Operation, Result, memory_of
from ..queries import CountMessages, GetContext, GetEntry, GetSession, ListMessages, Query, weight
from ..store import AsyncStore
from ..wire.documents import Context, NamedEntry, Session
from ..wire.responses import Count, Messages, Page, Results, Seqs, Written
from .access.authorizer import AuthorizedStore, Authorizer
from .access.rules import TABLE, Forbidden, Rule, Unauthorized, rule_of
from .budget import HOLD, LARGE, Budget, Hold
from .connected import while_connected
from .large import in_thread, send_in_parts
from .telemetry.metrics import ROUTE, Metrics

T = TypeVar("T")
log = logging.getLogger("botwire.server")

_MEDIA_TYPE = wire.MEDIA_TYPE.encode()


async def get_entry(request: Request) -> Response:
    """Get an entry."""
    namespace, key = _namespace(request), check_name(request.path_params["name"])
    entry = await _store(request).read(namespace, GetEntry(key))
    if entry is None:
        raise NotFound(f"there is no key {key!r} in namespace {namespace!r}")
    return await respond(request, weight(entry), lambda: NamedEntry.of(entry, namespace=namespace))


async def put_entry(request: Request) -> Response:
    """Set a key."""
    namespace, key = _namespace(request), request.path_params["name"]
    (version,) = await apply(request, namespace, await decoded(request, wire.decode_put, key))
    return JsonResponse(Written(namespace, key, cast("int", version)))


async def delete_entry(request: Request) -> Response:
    """Delete a key."""
    namespace, key = _namespace(request), check_name(request.path_params["name"])
    (was_there,) = await apply(request, namespace, Delete(key))
    if not was_there:
        raise NotFound(f"there is no key {key!r} in namespace {namespace!r}")
    return JsonResponse(Results([True]))


async def write(request: Request) -> Response:
    """Apply operations, all or none."""
    namespace = _namespace(request)
    operations = await decoded(request, wire.decode_write)
    return await respond_results(request, await apply(request, namespace, *operations))


async def get_messages(request: Request) -> Response:
    """Get the messages of a session in order."""
    return await messages_of(request, _namespace(request), check_name(request.path_params["name"], "session name"))


async def append(request: Request) -> Response:
    """Append messages to a session."""
    namespace, session = _namespace(request), request.path_params["name"]
    (seqs,) = await apply(request, namespace, await decoded(request, wire.decode_append, session))
    return JsonResponse(Seqs(cast("list[int]", seqs)))


HOT_ROUTES = [
    Route("/memory/{namespace}/{name:path}", get_entry, methods=["GET"]),
    Route("/memory/{namespace}/{name:path}", put_entry, methods=["PUT"]),
    Route("/memory/{namespace}/{name:path}", delete_entry, methods=["DELETE"]),
    Route("/memory/{namespace}", write, methods=["POST"]),
    Route("/sessions/{namespace}/{name:path}", get_messages, methods=["GET"]),
    Route("/sessions/{namespace}/{name:path}", append, methods=["POST"]),
]


class Dispatcher:
    """The ASGI app: authorizes and counts each request, and passes it to its route.

    It calls the endpoints of the hot routes itself. The app inside has all routes, does not authorize requests, and gives the same
    answers in twice the time.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.metrics: Metrics = app.state.metrics
        self._budget: Budget = app.state.budget
        self._authorizer: Authorizer = app.state.authorizer
        self._hot: dict[tuple[int, str, str], tuple[Any, Rule, str]] = {
            (route.path.count("/"), route.path.split("/")[1], method): (
                route.endpoint,
                TABLE[method, route.path],
                route.path,
            )
            for route in HOT_ROUTES
            for method in (route.methods or set()) - {"HEAD"}
        }
        """By the number of slashes, the first segment and the method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        finally:
            if HOLD in scope:
                scope[HOLD].release()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, method = perf_counter(), scope["method"]
        parts: list[str] = scope["path"].split("/", 3)
        hot = self._hot.get((len(parts) - 1, parts[1], method)) if len(parts) > 1 else None
        response: Response | None = None
        try:
            if hot is None:
                await self._authorize(scope)
            else:
                endpoint, rule, scope[ROUTE] = hot
                scope["app"] = self.app
                scope["path_params"] = {"namespace": parts[2], "name": parts[-1]}
                scope["store"] = await self._authorizer.authorize_request(scope, rule, parts[2])
                response = await endpoint(Request(scope, receive))
        except BotWireError as error:
            response = refusal(error)
        except ClientDisconnect:  # there is no one to answer
            return
        except Exception:
            await refusal(failure())(scope, receive, self._counted(scope, send, begun))
            raise  # for uvicorn to log
        if response is None:
            await self.app(scope, receive, self._counted(scope, send, begun))
            return
        self.metrics.count(method, scope.get(ROUTE, ""), response.status_code, perf_counter() - begun)
        await response(scope, receive, send if len(response.body) <= LARGE else self._in_parts(scope, send))

    async def _authorize(self, scope: Scope) -> None:
        for route in self.app.router.routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                path = getattr(route, "path", "")
                rule = rule_of(scope["method"], path)
                scope[ROUTE] = path
                namespace = child.get("path_params", {}).get("namespace", "")
                scope["store"] = await self._authorizer.authorize_request(scope, rule, namespace)
                return

    def _counted(self, scope: Scope, send: Send, begun: float) -> Send:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = perf_counter() - begun
                self.metrics.count(scope["method"], scope.get(ROUTE, ""), message["status"], seconds)
            await send_any(message)

        send_any = self._in_parts(scope, send)
        return count

    def _in_parts(self, scope: Scope, send: Send) -> Send:
        async def send_any(message: Message) -> None:
            if len(message.get("body", b"")) <= LARGE:
                await send(message)
            else:
                await send_in_parts(scope, send, message, self._budget.of(scope))

        return send_any


# What the routes share


async def _authorized_store(request: Request) -> Any:
    return request.scope["store"]


Namespace = Annotated[str, "the namespace"]
CallersStore = Annotated[AsyncStore, Depends(_authorized_store)]
"""The store as this caller may use it."""


class JsonResponse(Response):
    """A document as JSON, which may be encoded already. It takes a tenth of the time of its parent to create."""

    def __init__(self, document: msgspec.Struct | Mapping[str, Any] | bytes) -> None:
        self.status_code = 200
        self.background = None
        self.body = document if isinstance(document, bytes) else wire.encode(document)
        self.raw_headers = [(b"content-type", _MEDIA_TYPE), (b"content-length", b"%d" % len(self.body))]


def header(request: Request, name: bytes) -> str:
    """Return a header field by its lower-case name, or an empty string."""
    for field, value in request.scope["headers"]:
        if field == name:
            return str(value, "latin-1")
    return ""


async def messages_of(request: Request, namespace: str, session: str) -> Response:
    """Return messages of a session or their number, or what is known about it, or its context."""
    asked = _AskedOfSession.of(request)
    store = _store(request)
    if asked.count:
        return JsonResponse(Count(await store.read(namespace, CountMessages(session))))
    if asked.about:
        found = await store.read(namespace, GetSession(session, asked.preview))
        if found is None:
            raise NotFound(f"there is no session {session!r} in namespace {namespace!r}")
        return await respond(request, weight(found), lambda: Session.of(found))
    if asked.context:
        query = GetContext(session, page_size(asked.last, asked.head), asked.before, asked.head or 0, PAGE_BYTES)
        context = await store.read(namespace, query)
        return await respond(request, weight(context), lambda: Context.of(context, _older(context, asked.before)))
    limit = page_size(asked.limit, asked.last)
    return await list_page(
        request, namespace, ListMessages(session, asked.after or 0, limit, asked.last, PAGE_BYTES), Messages
    )


class _AskedOfSession(msgspec.Struct, frozen=True):
    """The parameters of a request for one session, checked."""

    count: bool
    about: bool
    context: bool
    preview: bool
    after: int | None
    last: int | None
    limit: int | None
    before: int | None
    head: int | None

    @classmethod
    def of(cls, request: Request) -> _AskedOfSession:
        given = request.query_params
        if not given:
            return _NOTHING_ASKED
        flags = [flag(given.get(name), name) for name in _FLAGS]
        if sum(flags[:3]) > 1:
            raise InvalidArgument("ask for one of count, about and context, not for several")
        return cls(*flags, *(number(given.get(name), name) for name in _NUMBERS))


_FLAGS = ("count", "about", "context", "preview")
_NUMBERS = ("after", "last", "limit", "before", "head")
_NOTHING_ASKED = _AskedOfSession(*[False] * len(_FLAGS), *[None] * len(_NUMBERS))


def _older(context: records.Context, before: int | None) -> int | None:
    """Return the ``before`` of the next page of a context; None: it has the oldest message that belongs to it."""
    covered = context.summarized if before is None or before > context.summarized + 1 else 0
    oldest = context.messages[0].seq if context.messages else 0
    return oldest if oldest > covered + 1 else None


async def apply(request: Request, namespace: str, *operations: Operation) -> list[Result]:
    """Write, with the idempotency key of the request if it has one."""
    keys = [value for field, value in request.scope["headers"] if field == b"idempotency-key"]
    if len(keys) > 1:
        raise InvalidArgument(f"a request has one Idempotency-Key, not {len(keys)}; nothing was written")
    key = check_name(str(keys[0], "latin-1"), "idempotency key") if keys else None
    request.app.state.disk.check(operations)
    return await _store(request).write(namespace, operations, idempotency_key=key)


async def decoded(request: Request, decode: Callable[..., T], *names: str) -> T:
    """Return what `decode` makes of these names and of the body of a request. A large body is decoded in a thread.

    It is not decoded if its client goes away before its turn comes.
    """
    body = await read_body(request)
    if len(body) <= LARGE:
        return decode(*names, body)
    found = await while_connected(request, in_thread(decode, *names, body))
    hold_of(request).set(memory_of(found))
    return found


async def respond(
    request: Request, size: int, document: Callable[[], msgspec.Struct], *, may_refuse: bool = True
) -> Response:
    """Answer with a document that is made of `size` bytes. A large one is encoded in a thread, if its client still waits then.

    ``may_refuse``: raise `Unavailable` if the server has no room for it. The answer to a write must not be refused.
    """
    if size <= LARGE:
        return JsonResponse(document())
    hold = hold_of(request)
    hold.set(size, may_refuse=may_refuse)
    body = await while_connected(request, in_thread(lambda: wire.encode(document())))
    hold.set(len(body), may_refuse=may_refuse)
    return JsonResponse(body)


async def respond_results(request: Request, results: list[Result]) -> Response:
    """Answer with the results of operations: messages, and numbers, which may have thousands of digits."""
    size = sum(sum(map(weight, found)) if isinstance(found, list) else weight(found) for found in results)
    return await respond(request, size, lambda: Results.of(results), may_refuse=False)


def hold_of(request: Request) -> Hold:
    """Return what a request holds of the server's budget."""
    budget: Budget = request.app.state.budget
    return budget.of(request.scope)


async def read_body(request: Request) -> bytes | bytearray:
    """Return the body of a request, which must be declared as JSON and not be too large.

    The declaration keeps pages of other sites out of a server on loopback: a browser sends JSON to another host only if that
    host allows it (https://fetch.spec.whatwg.org/#cors-safelisted-request-header), and this one does not.
    """
    kind = header(request, b"content-type")
    if kind != wire.MEDIA_TYPE and kind.partition(";")[0].strip().lower() != wire.MEDIA_TYPE:
        raise UnsupportedMediaType("send the body with Content-Type: application/json")
    body, more = await _receive(request)
    return await _rest_of(request, body, more=more) if more or len(body) > LARGE else body


async def _receive(request: Request) -> tuple[bytes, bool]:
    """Return the next part of a body, and whether there is more."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _rest_of(request: Request, begun: bytes, *, more: bool) -> bytearray:
    """Return a body that comes in several parts, or is large. The bytes that have come are counted."""
    hold, body = hold_of(request), bytearray(begun)
    try:
        async with hold.waiting():
            while True:
                if len(body) > MAX_WRITE_BYTES:
                    raise TooLarge(f"a request may have {MAX_WRITE_BYTES:,} bytes: split it")
                hold.set(len(body))
                if not more:
                    return body
                part, more = await _receive(request)
                body += part
    except TimeoutError:
        raise Unavailable("the server needs the memory of this slow request for others; try again") from None


async def list_page(request: Request, namespace: str, query: Query[Any], kind: type[Page], *more: str) -> Response:
    """Return the rows that a query with a `room` finds, as a page."""
    rows = await request.scope["store"].read(namespace, query)
    return await respond(request, sum(map(weight, rows)), lambda: kind.of(rows, *more, full=is_full(rows, query)))


def is_full(rows: Sequence[Any], query: Query[Any]) -> bool:
    """Whether a page ended because of the limit or the room of its query, so that more rows may follow."""
    return len(rows) == getattr(query, "limit", None) or sum(map(weight, rows)) >= getattr(query, "room", math.inf)


def page_size(limit: int | None, last: int | None = None) -> int:
    """Return the maximum number of rows on a page."""
    for asked in (limit, last):
        if asked is not None and asked > MAX_PAGE:
            raise InvalidArgument(f"at most {MAX_PAGE:,} at once, not {asked:,}: ask for pages")
    return MAX_PAGE if limit is None else limit


def flag(text: str | None, what: str) -> bool:
    """Return a flag in a query, or raise `InvalidArgument`."""
    if text not in {None, "true", "false"}:
        raise InvalidArgument(f"{what} is true or false, not {text!r}")
    return text == "true"


def number(text: str | None, what: str) -> int | None:
    """Return a number in a query, or raise `InvalidArgument`."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidArgument(f"{what} is a whole number of at least 0")
    return check_count(int(text), what)


def _namespace(request: Request) -> str:
    return check_namespace(request.path_params["namespace"])


def _store(request: Request) -> AuthorizedStore:
    store: AuthorizedStore = request.scope["store"]
    return store


# Errors as problem documents (RFC 9457), and the errors that only HTTP has


class TooLarge(InvalidArgument):
    """The request is larger than any legal one; nothing was written."""

    code = "too_large"
    status = 413


class UnsupportedMediaType(InvalidArgument):
    """A body needs the media type of JSON; nothing was written."""

    code = "unsupported_media_type"
    status = 415


def failure() -> BotWireError:
    """Return the error for a bug in the server. The log has the details."""
    return BotWireError("the server failed to answer this request; its log says why")


def refusal(error: BotWireError) -> Response:
    """Return an error as a problem document, and log it if the operator should know about it."""
    if error.status >= 500 and not isinstance(error, Unavailable):
        log.error("request failed", extra={"code": error.code, "reason": error.message})
    return problem(error)


def problem(error: BotWireError) -> Response:
    """Return an error as a problem document with its header fields."""
    headers: dict[str, str] = {}
    if isinstance(error, QuotaExceeded):
        wait = str(error.details.get("retry_after", 60))
        # https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
        policy = error.details.get("policy", "writes")
        headers["RateLimit-Policy"] = f'"{policy}";q={error.details.get("limit", 0)};w=86400'
        headers["RateLimit"] = f'"{policy}";r=0;t={wait}'
        headers["Retry-After"] = wait
    elif isinstance(error, Unauthorized | Forbidden):
        headers["WWW-Authenticate"] = error.challenge
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.details.get("retry_after", 1))
    return problem_response(wire.encode_problem(error), error.status, headers)


def problem_response(body: bytes, status: int, headers: dict[str, str]) -> Response:
    """Return a problem document."""
    return Response(body, status, headers=headers, media_type=wire.PROBLEM_MEDIA_TYPE)
