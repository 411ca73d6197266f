"""Queries → requests to a server, and its answers → records."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from ... import queries, wire
from ...answers import mismatch
from ...errors import BotWireError, StoreError
from ...limits import MAX_OPERATIONS, MAX_PAGE
from ...records import Context, Entry, Hit, Message, Rule, Session, Text, Usage
from ...timestamps import moment
from .messages import Request
from .transport import Call

T = TypeVar("T")

_READINGS = 3
"""How often an answer is read until it fits the query."""
_URL_BYTES = 4096
"""Keys of one request, by the length of their URL; servers and proxies refuse URLs from 8,000 bytes on."""


async def answer(call: Call, namespace: str, query: queries.Query[T]) -> T:
    """Answer a query, by as many requests as it takes, or raise `StoreError` if the answer does not fit.

    Pages that were read while another client replaced rows may contain a row twice. So they are read again first.
    """
    wrong: str | None = None
    for _ in range(_READINGS):
        found = await _ANSWERS[type(query)](call, namespace, query)
        wrong = mismatch(query, found)
        if wrong is None:
            return cast("T", found)
    raise unfit(wrong)


def unfit(wrong: str | None) -> StoreError:
    """Return the error for an answer that is not the one to the request."""
    return StoreError(f"the server answered with {wrong}. Check the URL, and the proxies between here and the server")


async def _get_entry(call: Call, namespace: str, query: queries.GetEntry) -> Entry | None:
    path = wire.name_path("memory", namespace, query.key)
    if path is None:
        entries = await _get_entries(call, namespace, queries.GetEntries((query.key,)))
        return entries[0] if entries else None
    body = await _found(call, path)
    return None if body is None else wire.decode_entry(body)


async def _found(call: Call, path: str) -> bytes | None:
    """Return the body of the answer to a GET; None: there is nothing."""
    try:
        return await call.ask(Request("GET", path))
    except BotWireError as error:
        if error.code == "not_found":
            return None
        raise


async def _get_entries(call: Call, namespace: str, query: queries.GetEntries) -> list[Entry]:
    found: list[Entry] = []
    for chunk in _chunks(query.keys):
        keys = chunk
        while keys and not _is_full(found, query.room):
            page = await call.get(wire.namespace_path("memory", namespace, key=keys))
            found += page.rows("entries")
            keys = _after(keys, page.next)
    return queries.within(found, query.room)


def _after(keys: list[str], last: object) -> list[str]:
    """Return the keys after the last one of a page that was full."""
    if last is None:
        return []
    if last not in keys:
        raise StoreError("the answer names a key that was not asked for, which no botwire server does. Check the URL")
    return keys[keys.index(str(last)) + 1 :]


async def _list_keys(call: Call, namespace: str, query: queries.ListKeys) -> list[str]:
    path = partial(wire.namespace_path, "memory", namespace, prefix=query.prefix)
    return await _pages(call, path, "keys", query.limit, query.room, after=query.after)


async def _list_entries(call: Call, namespace: str, query: queries.ListEntries) -> list[Entry]:
    path = partial(wire.namespace_path, "memory", namespace, prefix=query.prefix, values="true")
    return await _pages(call, path, "entries", query.limit, query.room, after=query.after)


async def _list_messages(call: Call, namespace: str, query: queries.ListMessages) -> list[Message]:
    path = partial(_session_path, namespace, query.session)
    after, limit, last, room = query.after, query.limit, query.last, query.room
    if last is None:
        return await _pages(call, path, "messages", limit, room, after=after)
    if last > MAX_PAGE:
        after = max(after, await _count_messages(call, namespace, queries.CountMessages(query.session)) - last)
        messages: list[Message] = await _pages(call, path, "messages", limit, room, after=after)
        return messages[-last:]  # more were appended since they were counted
    page = await call.get(path(after=after or None, last=last))
    found: list[Message] = page.rows("messages")
    if page.next is not None and not _is_full(found, room):
        found += await _pages(call, path, "messages", last - len(found), room, after=page.next)
    return queries.within(found, room)


async def _get_session(call: Call, namespace: str, query: queries.GetSession) -> Session | None:
    path = _session_path(namespace, query.session, about="true", preview="true" if query.preview else None)
    body = await _found(call, path)
    return None if body is None else wire.decode_session(body)


async def _list_sessions(call: Call, namespace: str, query: queries.ListSessions) -> list[Session]:
    path = partial(
        wire.namespace_path,
        "sessions",
        namespace,
        order=query.order,
        prefix=query.prefix or None,
        where=wire.encode(query.where).decode() if query.where else None,
        tag=query.tag,
        since=None if query.since is None else moment(query.since).isoformat(),
        preview="true" if query.preview else None,
    )
    return await _pages(call, path, "sessions", query.limit, query.room, after=query.after)


async def _get_context(call: Call, namespace: str, query: queries.GetContext) -> Context:
    while True:  # until the deadline of the call, if others edit the session all the time
        found = await _context_of_one_version(call, namespace, query)
        if found is not None:
            return found


async def _context_of_one_version(call: Call, namespace: str, query: queries.GetContext) -> Context | None:
    """Return a context from as many pages as it takes; None: the session has changed since the first page."""
    path = partial(_session_path, namespace, query.session, context="true")
    size, head = min(query.last, MAX_PAGE), min(query.head, MAX_PAGE)
    first, before = wire.decode_context(await call.ask(Request("GET", path(last=size, before=query.before, head=head))))
    messages = first.messages
    while before is not None and len(messages) < query.last and not _is_full(messages, query.room):
        size = min(query.last - len(messages), MAX_PAGE)
        page, before = wire.decode_context(await call.ask(Request("GET", path(last=size, before=before))))
        if page.version != first.version:
            return None
        messages = page.messages + messages
    found = first.head
    if len(found) < min(query.head, first.last):
        rest = queries.ListMessages(query.session, after=len(found), limit=query.head - len(found), room=query.room)
        found = found + await _list_messages(call, namespace, rest)
        known = await _get_session(call, namespace, queries.GetSession(query.session))
        if known is None or known.version != first.version:
            return None
    newest = queries.within(reversed(messages), query.room)
    return msgspec.structs.replace(first, messages=newest[::-1], head=queries.within(found, query.room))


async def _get_retention(call: Call, namespace: str, _: queries.GetRetention) -> list[Rule]:
    return (await call.get(wire.namespace_path("retention", namespace))).rows("rules")


async def _list_namespaces(call: Call, _: str, query: queries.ListNamespaces) -> list[str]:
    return await _pages(call, _namespaces_path, "namespaces", query.limit, None, after=query.after)


async def _pages(
    call: Call, path: Callable[..., str], field: str, limit: int | None, room: int | None, **cursor: Any
) -> list[Any]:
    """Return one field of the answers, from as many pages as it takes; the cursor is where the first page begins."""
    ((name, start),) = cursor.items()
    found: list[Any] = []
    while (limit is None or len(found) < limit) and not _is_full(found, room):
        size = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(found))
        page = await call.get(path(**{name: start or None, "limit": size}))
        found += page.rows(field)
        start = page.next
        if start is None:
            break
    return queries.within(found, room)


def _is_full(rows: list[Any], room: int | None) -> bool:
    return room is not None and bool(rows) and sum(map(queries.weight, rows)) >= room


async def _count_entries(call: Call, namespace: str, query: queries.CountEntries) -> int:
    path = wire.namespace_path("memory", namespace, prefix=query.prefix or None, count="true")
    return (await call.get(path)).count


async def _count_messages(call: Call, namespace: str, query: queries.CountMessages) -> int:
    return (await call.get(_session_path(namespace, query.session, count="true"))).count


async def _get_usage(call: Call, namespace: str, _: queries.GetUsage) -> Usage:
    return wire.decode_usage(await call.ask(Request("GET", wire.namespace_path("usage", namespace))))


async def _search(call: Call, namespace: str, query: queries.Search) -> list[Hit]:
    # A POST, because a query text may be longer than a URL.
    path = wire.namespace_path("search", namespace)
    body = await call.ask(Request("POST", path, wire.encode_search(query), is_read=True))
    return wire.decode_answer(body).rows("hits")


async def _list_texts(call: Call, namespace: str, query: queries.ListTexts) -> list[Text]:
    path = partial(wire.namespace_path, "texts", namespace, model=query.model)
    return await _pages(call, path, "texts", query.limit, query.room, after=query.after)


def _namespaces_path(**parameters: Any) -> str:
    return "/namespaces" + wire.query(**parameters)


def _session_path(namespace: str, session: str, **parameters: Any) -> str:
    path = wire.name_path("sessions", namespace, session)
    if path is None:
        return wire.namespace_path("sessions", namespace, session=session, **parameters)
    return path + wire.query(**parameters)


def _chunks(keys: tuple[str, ...]) -> list[list[str]]:
    chunks: list[list[str]] = []
    room = 0
    for key in keys:
        length = 3 * len(key.encode()) + 5
        if length > room or len(chunks[-1]) >= MAX_OPERATIONS:
            chunks.append([])
            room = _URL_BYTES
        chunks[-1].append(key)
        room -= length
    return chunks


_ANSWERS: Mapping[type, Callable[..., Coroutine[Any, Any, Any]]] = {
    queries.GetEntry: _get_entry,
    queries.GetEntries: _get_entries,
    queries.ListKeys: _list_keys,
    queries.ListEntries: _list_entries,
    queries.CountEntries: _count_entries,
    queries.ListMessages: _list_messages,
    queries.CountMessages: _count_messages,
    queries.GetSession: _get_session,
    queries.ListSessions: _list_sessions,
    queries.GetContext: _get_context,
    queries.GetRetention: _get_retention,
    queries.ListNamespaces: _list_namespaces,
    queries.GetUsage: _get_usage,
    queries.Search: _search,
    queries.ListTexts: _list_texts,
}
