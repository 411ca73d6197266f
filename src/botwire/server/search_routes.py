"""Routes that search a namespace, and list the texts that have no vector yet."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from .. import wire
from ..limits import MAX_HITS, MAX_NEIGHBOURS, MAX_PAGE, check_name, check_namespace
from ..queries import ListTexts
from ..search.arguments import KINDS, search_query
from .question_embedder import By
from .routes import CallersStore, JsonResponse, Namespace, read_body

Question = Annotated[str, Query(description="a question or some words")]
Kinds = Annotated[list[Literal["messages", "entries"]] | None, Query(description="both by default")]
Where = Annotated[
    str | None, Query(description='a JSON object of paths into the data and values, such as {"data.type":"ai"}')
]
HalfLife = Annotated[float | None, Query(gt=0, description="seconds after which a hit counts half")]
Neighbours = Annotated[int, Query(ge=0, le=MAX_NEIGHBOURS, description="how many messages away a score reaches")]
Session = Annotated[str | None, Query(description="only messages of this session")]
Prefix = Annotated[str, Query(description="only entries whose key has this prefix")]
Ranking = Annotated[By, Query(description="meaning and both need a server with an embedder")]
Cursor = Annotated[str, Query(description="the cursor of the previous page", pattern=r"^(e.*|m\d{1,18})?$")]


async def search(
    request: Request,
    store: CallersStore,
    namespace: Namespace,
    q: Question,
    limit: Annotated[int, Query(ge=0, le=MAX_HITS)] = 10,
    kind: Kinds = None,
    session: Session = None,
    prefix: Prefix = "",
    where: Where = None,
    since: datetime | None = None,
    until: datetime | None = None,
    neighbours: Neighbours = 2,
    half_life: HalfLife = None,
    by: Ranking = "words",
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
    query = await request.app.state.embedder.with_vector(query, by)
    return JsonResponse(wire.encode_hits(await store.read(namespace, query)))


async def search_long(request: Request, store: CallersStore, namespace: Namespace) -> Response:
    """Find the entries and messages that answer a question best. It changes nothing."""
    query = wire.decode_search(await read_body(request))
    return JsonResponse(wire.encode_hits(await store.read(check_namespace(namespace), query)))


async def texts_without_vectors(
    store: CallersStore,
    namespace: Namespace,
    model: Annotated[str, Query(description="the name of the embedding model")],
    after: Cursor = "",
    limit: Annotated[int, Query(ge=0, le=MAX_PAGE)] = 500,
) -> Response:
    """List texts that have no vector of a model yet; `set_vectors` of `POST /memory/{namespace}` stores vectors."""
    query = ListTexts(check_name(model, "model"), after, limit)
    texts = await store.read(check_namespace(namespace), query)
    return JsonResponse(wire.encode_texts(texts, full=len(texts) == limit))


def add_search_routes(app: FastAPI) -> None:
    """Add these routes to the app."""
    path = "/search/{namespace}"
    app.add_api_route(path, search, methods=["GET"], tags=["search"])
    app.add_api_route(path, search_long, methods=["POST"], tags=["search"])
    app.add_api_route("/texts/{namespace}", texts_without_vectors, methods=["GET"], tags=["search"])
