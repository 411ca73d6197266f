"""The app: routes, errors as problem documents, and the store's life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from .. import wire
from ..errors import BotWireError, InvalidArgument, NotFound, QuotaExceeded, Unavailable
from ..limits import MAX_HITS, MAX_NEIGHBOURS, MAX_OPERATIONS, MAX_PAGE, check_name, check_namespace, check_prefix
from ..operations import Forget, Pop
from ..queries import CountEntries, GetEntries, GetUsage, ListEntries, ListKeys, ListSessions, ListTexts
from ..records import Message
from ..search.arguments import KINDS, search_query
from ..search.embedding import Embedding
from ..store import AsyncStore, GuardedStore
from ..version import __version__
from .access.gate import Gate
from .access.rules import Forbidden, Mode, Unauthorized
from .admin import add_administration
from .console import add_console
from .docs_page import add_page
from .openapi import describe
from .question_embedder import By, Meaning
from .routes import ROUTES, Guard, JsonResponse, Shortcut, failure, messages_of, page_size, read_body, write
from .telemetry.metrics import MEDIA_TYPE, Metrics
from .telemetry.usage_history import KEPT_DAYS
from .watch import add_watch

log = logging.getLogger("botwire.server")

Namespace = Annotated[str, "the namespace"]


async def _store(request: Request) -> Any:
    return request.scope["store"]


Let = Annotated[AsyncStore, Depends(_store)]
"""The store, as it is for a caller who was let in."""
Count = Annotated[int | None, Query(ge=0, lt=2**63)]


def create_app(
    store: GuardedStore,
    *,
    mode: Mode = "open",
    local_only: bool = True,
    max_watchers: int = 500,
    metrics: Metrics | None = None,
    embedding: Embedding | None = None,
) -> FastAPI:
    """Return the service over a store, which it closes when it shuts down.

    Args:
        store: where the namespaces are.
        mode: open, or required: whether every request needs a token.
        local_only: refuse requests that name a host other than this machine, see `gate.Gate`.
        max_watchers: how many may watch at once; the next are told to try again later.
        metrics: where is counted what it does.
        embedding: with what it answers questions by meaning that come without a vector.
    """
    meaning = Meaning(embedding)
    gate = Gate(store, mode=mode, local_only=local_only)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.info("serving", extra={"store": store.address, "version": __version__, "auth": mode})
        recording = asyncio.create_task(gate.recorder.run())
        yield
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
        meaning.close()
        await store.close()
        log.info("stopped")

    app = FastAPI(
        title="botwire",
        version=__version__,
        summary="Persistent memory for AI agents.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # these pages load their scripts from other hosts
        redoc_url=None,
        # Its own telemetry has whole URLs in it, and with them keys: `traces.py` makes spans without.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.gate = gate
    app.state.meaning = meaning
    app.router.routes.extend(ROUTES)
    _add_operations(app)
    add_administration(app)
    app.state.metrics = metrics or Metrics()
    add_watch(app, max_watchers)
    app.add_middleware(Guard, gate=gate, router=app.router, on_error=refusal)
    _add_error_handlers(app)
    describe(app)
    add_page(app)
    add_console(app)
    return app


def shortcut(app: FastAPI, kind: Callable[..., Shortcut] = Shortcut) -> Shortcut:
    """Return the app for a server to run: as it is, counted, and faster."""
    return kind(app, app.state.gate, refusal, app.state.metrics)


def _add_operations(app: FastAPI) -> None:
    @app.get("/memory/{namespace}", tags=["memory"])
    async def list_entries(
        store: Let,
        namespace: Namespace,
        key: Annotated[
            list[str], Query(default_factory=list, description="answer with these entries instead of a list")
        ],
        prefix: str = "",
        after: Annotated[str, Query(description="go on behind this key")] = "",
        limit: Count = None,
        values: Annotated[bool, Query(description="whole entries instead of keys")] = False,  # noqa: FBT002
        count: Annotated[bool, Query(description="only how many")] = False,  # noqa: FBT002
    ) -> Response:
        """List keys in the order of their bytes: all of them, or `limit`; or entries, by key or by page."""
        check_namespace(namespace)
        if key:
            names = tuple(check_name(name) for name in key)
            found = await store.read(namespace, GetEntries(names))
            return JsonResponse(wire.encode_entries(found, full=False))
        check_prefix(prefix), check_prefix(after)
        if count:
            return JsonResponse(wire.encode_count(await store.read(namespace, CountEntries(prefix))))
        if values:
            size = page_size(limit)
            entries = await store.read(namespace, ListEntries(prefix, after, size))
            return JsonResponse(wire.encode_entries(entries, full=len(entries) == size))
        keys = await store.read(namespace, ListKeys(prefix, after, limit))
        return JsonResponse(wire.encode_keys(namespace, keys, full=len(keys) == limit))

    @app.get("/sessions/{namespace}", tags=["sessions"])
    async def list_sessions(
        request: Request,
        store: Let,
        namespace: Namespace,
        session: Annotated[
            str | None, Query(description="answer with this session's messages instead of a list")
        ] = None,
        before: Annotated[int | None, Query(ge=0, lt=2**63, description="go on behind this place")] = None,
        limit: Annotated[int | None, Query(ge=0, le=MAX_PAGE)] = None,
    ) -> Response:
        """List the sessions, the newest first."""
        check_namespace(namespace)
        if session is not None:
            return await messages_of(request, namespace, check_name(session, "session name"))
        size = page_size(limit)
        sessions = await store.read(namespace, ListSessions(before, size))
        return JsonResponse(wire.encode_sessions(sessions, full=len(sessions) == size))

    @app.delete("/sessions/{namespace}/{session:path}", tags=["sessions"])
    async def forget_session(
        request: Request,
        namespace: Namespace,
        session: str,
        last: Annotated[
            int | None,
            Query(ge=1, le=MAX_OPERATIONS, description="only the last so many messages, answering with them"),
        ] = None,
    ) -> Response:
        """Forget a session and its messages, or only the last ones."""
        check_namespace(namespace), check_name(session, "session name")
        (gone,) = await write(request, namespace, Forget(session) if last is None else Pop(session, last))
        if not gone:
            raise NotFound(f"there is no session {session!r} in namespace {namespace!r}")
        if isinstance(gone, list):
            return JsonResponse(wire.encode_messages(cast("list[Message]", gone), full=False))
        return JsonResponse(wire.encode_count(int(gone)))

    @app.get("/search/{namespace}", tags=["search"])
    async def search(
        store: Let,
        namespace: Namespace,
        q: Annotated[str, Query(description="a question or some words")],
        limit: Annotated[int, Query(ge=0, le=MAX_HITS)] = 10,
        kind: Annotated[list[Literal["messages", "entries"]] | None, Query(description="both, if not given")] = None,
        session: Annotated[str | None, Query(description="only messages of this session")] = None,
        prefix: Annotated[str, Query(description="only entries whose key begins with it")] = "",
        where: Annotated[
            str | None, Query(description='a JSON object of paths into the data and values, such as {"data.type":"ai"}')
        ] = None,
        since: datetime | None = None,
        until: datetime | None = None,
        neighbours: Annotated[int, Query(ge=0, le=MAX_NEIGHBOURS, description="how far a score reaches")] = 2,
        half_life: Annotated[float | None, Query(gt=0, description="seconds after which a hit counts half")] = None,
        by: Annotated[By, Query(description="by meaning: where the server has an embedder")] = "words",
    ) -> Response:
        """Find the entries and messages that answer a question best. A POST takes longer questions."""
        asked = search_query(
            q,
            limit=limit,
            kinds=kind or KINDS,
            session=session,
            prefix=prefix,
            where=None if where is None else wire.decode_where(where),
            since=since,
            until=until,
            neighbours=neighbours,
            half_life=half_life,
        )
        check_namespace(namespace)
        return JsonResponse(wire.encode_hits(await store.read(namespace, await app.state.meaning.given(asked, by))))

    @app.post("/search/{namespace}", tags=["search"])
    async def search_long(request: Request, store: Let, namespace: Namespace) -> Response:
        """Find the entries and messages that answer a question best. It changes nothing."""
        asked = wire.decode_search(await read_body(request))
        return JsonResponse(wire.encode_hits(await store.read(check_namespace(namespace), asked)))

    @app.get("/texts/{namespace}", tags=["search"])
    async def texts_without_vectors(
        store: Let,
        namespace: Namespace,
        model: Annotated[str, Query(description="what the vectors are known by")],
        after: Annotated[str, Query(description="go on behind this place", pattern=r"^(e.*|m\d{1,18})?$")] = "",
        limit: Annotated[int, Query(ge=0, le=MAX_PAGE)] = 500,
    ) -> Response:
        """List texts that have no vector of a model yet; `set_vectors` of `POST /memory/{namespace}` keeps them."""
        asked = ListTexts(check_name(model, "model"), after, limit)
        texts = await store.read(check_namespace(namespace), asked)
        return JsonResponse(wire.encode_texts(texts, full=len(texts) == limit))

    @app.get("/usage/{namespace}", tags=["usage"])
    async def usage(store: Let, namespace: Namespace) -> Response:
        """Say what a namespace holds, what it wrote today, and what its plan allows."""
        return JsonResponse(wire.encode_usage(namespace, await store.read(check_namespace(namespace), GetUsage())))

    @app.get("/usage/{namespace}/history", tags=["usage"])
    async def usage_history(
        request: Request,
        store: Let,
        namespace: Namespace,
        days: Annotated[int, Query(ge=1, le=KEPT_DAYS, description="how far back")] = 7,
    ) -> Response:
        """Say what a namespace held and had written in its day, hour by hour, the oldest first, and now."""
        samples = await request.app.state.gate.recorder.history(check_namespace(namespace), days)
        return JsonResponse(wire.encode_history(namespace, samples, await store.read(namespace, GetUsage())))

    @app.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Count what the server does, for Prometheus."""
        return Response(app.state.metrics.text(), media_type=MEDIA_TYPE)

    @app.get("/health", tags=["operations"])
    async def health(store: Let) -> dict[str, str]:
        """Say whether the store can be read."""
        await store.read("health", GetUsage())
        return {"status": "ok", "version": __version__}


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(BotWireError)
    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, BotWireError)
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        where = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
        return problem(InvalidArgument(where))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
        headers = dict(error.headers or {})
        if "Allow" in headers:  # of the first route with this path, and there may be others
            headers["Allow"] = ", ".join(methods_of(app, request.scope))
        return _problem(wire.encode_document(document), error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # which nobody is there to read

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return problem(failure())  # Starlette logs the traceback


def methods_of(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods that a path knows."""
    found = [route for route in app.routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE]
    return sorted({method for route in found for method in route.methods or ()})


def refusal(error: BotWireError) -> Response:
    """Return an error as a problem document, and log it if the operator should know of it."""
    if error.status >= 500 and not isinstance(error, Unavailable):
        log.error("request failed", extra={"code": error.code, "reason": error.message})
    return problem(error)


def problem(error: BotWireError) -> Response:
    """Return an error as a problem document with the header fields that belong to it."""
    headers: dict[str, str] = {}
    if isinstance(error, QuotaExceeded):
        wait = str(error.details.get("retry_after", 60))
        # https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
        headers["RateLimit-Policy"] = f'"writes";q={error.details.get("limit", 0)};w=86400'
        headers["RateLimit"] = f'"writes";r=0;t={wait}'
        headers["Retry-After"] = wait
    elif isinstance(error, Unauthorized | Forbidden):
        headers["WWW-Authenticate"] = error.challenge
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = "1"
    return _problem(wire.encode_problem(error), error.status, headers)


def _problem(body: bytes, status: int, headers: dict[str, Any]) -> Response:
    return Response(body, status, headers=headers, media_type=wire.PROBLEM_MEDIA_TYPE)
