"""Routes that list entries and sessions, and delete sessions. The hot routes are in `routes`."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from .. import wire
from ..errors import NotFound
from ..limits import MAX_OPERATIONS, MAX_PAGE, check_name, check_namespace, check_prefix
from ..operations import Forget, Pop
from ..queries import CountEntries, GetEntries, ListEntries, ListKeys, ListSessions
from ..records import Message
from .routes import CallersStore, JsonResponse, Namespace, messages_of, page_size, write

Count = Annotated[int | None, Query(ge=0, lt=2**63)]
Keys = Annotated[list[str], Query(default_factory=list, description="return these entries instead of a list")]
Session = Annotated[str | None, Query(description="return this session's messages instead of a list")]
Last = Annotated[
    int | None, Query(ge=1, le=MAX_OPERATIONS, description="only this many of the last messages, and return them")
]


async def list_entries(
    store: CallersStore,
    namespace: Namespace,
    key: Keys,
    prefix: str = "",
    after: Annotated[str, Query(description="only keys after this one")] = "",
    limit: Count = None,
    values: Annotated[bool, Query(description="whole entries instead of keys")] = False,  # noqa: FBT002
    count: Annotated[bool, Query(description="only their number")] = False,  # noqa: FBT002
) -> Response:
    """List keys in the order of their bytes, or whole entries, by key or by page."""
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


async def list_sessions(
    request: Request,
    store: CallersStore,
    namespace: Namespace,
    session: Session = None,
    before: Annotated[int | None, Query(ge=0, lt=2**63, description="the cursor of the previous page")] = None,
    limit: Annotated[int | None, Query(ge=0, le=MAX_PAGE)] = None,
) -> Response:
    """List the sessions, newest first."""
    check_namespace(namespace)
    if session is not None:
        return await messages_of(request, namespace, check_name(session, "session name"))
    size = page_size(limit)
    sessions = await store.read(namespace, ListSessions(before, size))
    return JsonResponse(wire.encode_sessions(sessions, full=len(sessions) == size))


async def forget_session(request: Request, namespace: Namespace, session: str, last: Last = None) -> Response:
    """Delete a session and its messages, or only the last messages."""
    check_namespace(namespace), check_name(session, "session name")
    (gone,) = await write(request, namespace, Forget(session) if last is None else Pop(session, last))
    if not gone:
        raise NotFound(f"there is no session {session!r} in namespace {namespace!r}")
    if isinstance(gone, list):
        return JsonResponse(wire.encode_messages(cast("list[Message]", gone), full=False))
    return JsonResponse(wire.encode_count(int(gone)))


def add_memory_routes(app: FastAPI) -> None:
    """Add these routes to the app."""
    app.add_api_route("/memory/{namespace}", list_entries, methods=["GET"], tags=["memory"])
    app.add_api_route("/sessions/{namespace}", list_sessions, methods=["GET"], tags=["sessions"])
    path = "/sessions/{namespace}/{session:path}"
    app.add_api_route(path, forget_session, methods=["DELETE"], tags=["sessions"])
