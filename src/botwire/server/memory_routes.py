"""The other routes of a namespace: lists, sessions, search, usage; and metrics and health. The hot routes are in `routes`."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Literal, TypeAlias, cast

import msgspec
from fastapi import Query, Request
from starlette.datastructures import State
from starlette.responses import Response

from .. import wire
from ..errors import InvalidArgument, NotFound
from ..limits import (
    MAX_HITS,
    MAX_NEIGHBOURS,
    MAX_OPERATIONS,
    MAX_PAGE,
    PAGE_BYTES,
    check_name,
    check_namespace,
    check_prefix,
)
from ..operations import Destroy, Forget, Pop
from ..queries import (
    CountEntries,
    GetEntries,
    GetRetention,
    GetUsage,
    ListEntries,
    ListKeys,
    ListTexts,
    Order,
    Search,
    weight,
)
from ..records import Message, Rule
from ..search.arguments import KINDS, search_query
from ..search.embedding import Embedding
from ..sessions import sessions_query
from ..version import __version__
from ..wire.documents import Usage
from ..wire.responses import Count, Entries, Hits, Keys, Messages, Rules, Sessions, Texts, UsageHistory
from .connected import while_connected
from .routes import CallersStore, JsonResponse, Namespace, apply, decoded, list_page, messages_of, page_size, respond
from .telemetry.metrics import MEDIA_TYPE
from .telemetry.usage_history import KEPT_DAYS

By: TypeAlias = Literal["words", "meaning", "both"]
_OF_ONE_SESSION = frozenset({"count", "about", "context", "last", "before", "head"})
"""Parameters of requests for one session. Ignoring them in a list would hide a mistake."""


async def list_entries(
    request: Request,
    store: CallersStore,
    namespace: Namespace,
    key: Annotated[list[str], Query(default_factory=list, description="return these entries instead of a list")],
    prefix: str = "",
    after: Annotated[str, Query(description="only keys after this one")] = "",
    limit: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    values: Annotated[bool, Query(description="whole entries instead of keys")] = False,  # noqa: FBT002
    count: Annotated[bool, Query(description="only their number")] = False,  # noqa: FBT002
) -> Response:
    """List keys in the order of their bytes, or whole entries, by key or by page."""
    check_namespace(namespace)
    if key:
        names = tuple(check_name(name) for name in key)
        return await list_page(request, namespace, GetEntries(names, PAGE_BYTES), Entries)
    check_prefix(prefix), check_prefix(after)
    if count:
        return JsonResponse(Count(await store.read(namespace, CountEntries(prefix))))
    if values:
        return await list_page(request, namespace, ListEntries(prefix, after, page_size(limit), PAGE_BYTES), Entries)
    return await list_page(request, namespace, ListKeys(prefix, after, limit, PAGE_BYTES), Keys, namespace)


async def list_sessions(
    request: Request,
    namespace: Namespace,
    session: Annotated[str | None, Query(description="answer for this session instead, as its own path does")] = None,
    order: Annotated[Order, Query(description="by the last activity or by the creation")] = "active",
    prefix: Annotated[str, Query(description="only sessions whose name has this prefix")] = "",
    where: Annotated[
        str | None,
        Query(description='a JSON object of paths into title, owner, tags and data, such as {"owner":"ada"}'),
    ] = None,
    tag: Annotated[str | None, Query(description="only sessions with this tag")] = None,
    since: Annotated[
        str | None,
        Query(
            description="only sessions with activity at this time or later", json_schema_extra={"format": "date-time"}
        ),
    ] = None,
    after: Annotated[str, Query(description="the cursor of the previous page")] = "",
    limit: Annotated[int | None, Query(ge=0, le=MAX_PAGE)] = None,
    preview: Annotated[bool, Query(description="each with its last message")] = False,  # noqa: FBT002
) -> Response:
    """List the sessions, the most recently active ones first."""
    check_namespace(namespace)
    if session is not None:
        return await messages_of(request, namespace, check_name(session, "session name"))
    if misplaced := sorted(_OF_ONE_SESSION & request.query_params.keys()):
        raise InvalidArgument(
            f"{' and '.join(misplaced)} cannot be used for a list of sessions: add session=, or pass the next of a page as after"
        )
    query = sessions_query(
        order=order,
        prefix=prefix,
        where=None if where is None else wire.decode_where(where),
        tag=tag,
        since=None if since is None else wire.decode_time(since, "since"),
        limit=page_size(limit),
        after=after or None,
        preview=preview,
    )
    query = msgspec.structs.replace(query, room=PAGE_BYTES)
    return await while_connected(request, list_page(request, namespace, query, Sessions))


async def retention(store: CallersStore, namespace: Namespace) -> Response:
    """Return the rules that say how long sessions are kept, in the order of their prefixes."""
    rules: list[Rule] = await store.read(check_namespace(namespace), GetRetention())
    return JsonResponse(Rules.of(rules))


async def destroy(request: Request, namespace: Namespace) -> Response:
    """Delete a namespace with all entries, sessions and rules. Its plan and the writes of the day stay."""
    (deleted,) = await apply(request, check_namespace(namespace), Destroy())
    return JsonResponse(Count(int(cast("int", deleted))))


async def forget_session(
    request: Request,
    namespace: Namespace,
    session: str,
    last: Annotated[
        int | None, Query(ge=1, le=MAX_OPERATIONS, description="only this many of the last messages, and return them")
    ] = None,
) -> Response:
    """Delete a session and its messages, or only the last messages."""
    check_namespace(namespace), check_name(session, "session name")
    (deleted,) = await apply(request, namespace, Forget(session) if last is None else Pop(session, last))
    if not deleted:
        raise NotFound(f"there is no session {session!r} in namespace {namespace!r}")
    if isinstance(deleted, list):
        popped = cast("list[Message]", deleted)
        size = sum(map(weight, popped))
        return await respond(request, size, lambda: Messages.of(popped, full=False), may_refuse=False)
    return JsonResponse(Count(int(deleted)))


async def search(
    request: Request,
    namespace: Namespace,
    q: Annotated[str, Query(description="a question or some words")],
    limit: Annotated[int, Query(ge=0, le=MAX_HITS)] = 10,
    kind: Annotated[list[Literal["messages", "entries"]] | None, Query(description="both by default")] = None,
    session: Annotated[str | None, Query(description="only messages of this session")] = None,
    prefix: Annotated[str, Query(description="only entries whose key has this prefix")] = "",
    where: Annotated[
        str | None, Query(description='a JSON object of paths into the data and values, such as {"data.type":"ai"}')
    ] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    neighbours: Annotated[
        int, Query(ge=0, le=MAX_NEIGHBOURS, description="how many messages away a score reaches")
    ] = 2,
    half_life: Annotated[float | None, Query(gt=0, description="seconds after which a hit counts half")] = None,
    by: Annotated[By, Query(description="meaning and both need a server with an embedder")] = "words",
) -> Response:
    """Find the entries and messages that answer a question best. A POST takes longer questions."""
    query = search_query(
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
    return await _hits(request, namespace, await _with_vector(request.app.state, query, by))


async def _with_vector(app: State, query: Search, by: By) -> Search:
    """Return a search with the vector of its question, for clients that have no embedder, such as the console."""
    embedding: Embedding | None = app.embedding
    if by == "words" or not query.text.strip():
        return query
    if embedding is None:
        raise InvalidArgument(
            "this server has no embedder: search by words, or POST the vector of the question; an operator starts "
            "one with botwire serve --embedder minilm"
        )
    async with app.embedding_lock:  # one question at a time, and not on the event loop
        vector = await asyncio.to_thread(embedding.query, query.text)
    return msgspec.structs.replace(query, vector=vector, model=embedding.model, words=by == "both")


async def search_long(request: Request, namespace: Namespace) -> Response:
    """Find the entries and messages that answer a question best. It changes nothing."""
    return await _hits(request, check_namespace(namespace), await decoded(request, wire.decode_search))


async def _hits(request: Request, namespace: str, query: Search) -> Response:
    hits = await while_connected(request, request.scope["store"].read(namespace, query))
    size = sum(weight(hit.entry or hit.message) for hit in hits)
    return await respond(request, size, lambda: Hits.of(hits))


async def texts_without_vectors(
    request: Request,
    namespace: Namespace,
    model: Annotated[str, Query(description="the name of the embedding model")],
    after: Annotated[str, Query(description="the cursor of the previous page", pattern=r"^(e.*|m\d{1,18})?$")] = "",
    limit: Annotated[int, Query(ge=0, le=MAX_PAGE)] = 500,
) -> Response:
    """List texts that have no vector of a model yet; `set_vectors` of `POST /memory/{namespace}` stores vectors."""
    query = ListTexts(check_name(model, "model"), after, limit, PAGE_BYTES)
    return await while_connected(request, list_page(request, check_namespace(namespace), query, Texts))


async def usage(store: CallersStore, namespace: Namespace) -> Response:
    """Return what a namespace holds, what it wrote today, and what its plan allows."""
    found = await store.read(check_namespace(namespace), GetUsage())
    return JsonResponse(Usage.of(found, namespace=namespace))


async def usage_history(
    request: Request,
    store: CallersStore,
    namespace: Namespace,
    days: Annotated[int, Query(ge=1, le=KEPT_DAYS, description="how far back")] = 7,
) -> Response:
    """Return the usage of a namespace hour by hour, the oldest first, and now."""
    samples = await request.app.state.authorizer.recorder.history(check_namespace(namespace), days)
    return JsonResponse(UsageHistory.of(namespace, samples, await store.read(namespace, GetUsage())))


async def metrics(request: Request) -> Response:
    """Return the metrics of the server, for Prometheus."""
    state = request.app.state
    state.disk.measure()
    state.metrics.show_disk(state.disk.free, state.disk.reserve)
    return Response(state.metrics.text(), media_type=MEDIA_TYPE)


async def health(store: CallersStore) -> dict[str, str]:
    """Check that the store can be read."""
    await store.read("health", GetUsage())
    return {"status": "ok", "version": __version__}
