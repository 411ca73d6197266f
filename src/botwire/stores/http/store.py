"""The store behind a server, over HTTP."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from ... import wire
from ...bridge import blocking
from ...errors import BotWireError, Timeout, Unavailable
from ...limits import MAX_OPERATIONS, MAX_PAGE, check_timeout
from ...operations import Operation, Result
from ...queries import (
    CountEntries,
    CountMessages,
    GetEntries,
    GetEntry,
    GetUsage,
    ListChanges,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    ListTexts,
    Query,
    Search,
)
from ...records import Entry, Hit, Text, Usage
from ...timestamps import new_id
from .async_transport import AsyncTransport
from .errors import refusal
from .exchange import ConnectionFailed, Request, Response
from .feed import AsyncHttpFeed, HttpFeed
from .transport import Transport

T = TypeVar("T")

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
_LAST_TRY = 300.0
"""Seconds after which nothing is sent again: half as long as a store remembers by its key that a write has happened."""
_URL_BYTES = 4096
"""Keys asked for in one request, by the length of their URL; servers and proxies refuse from 8,000 on."""


class _Server(ABC):
    """The logic of both HTTP stores: queries and operations → requests, tried again where that does no harm."""

    timeout: float
    context: Callable[[], tuple[tuple[str, str], ...]] | None = None
    """Returns the header fields of the trace that a call is part of; None: nothing is traced."""

    @abstractmethod
    async def _send(self, request: Request, timeout: float) -> Response: ...

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    async def _read(self, namespace: str, query: Query[T]) -> T:
        return cast("T", await _READ[type(query)](self, namespace, query))

    async def _write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        # Whatever is sent a second time must be known by a key, also a plain set, which could undo what somebody else wrote in
        # between, and an append: a message is known by its id, but only until somebody removes it.
        headers = (("Content-Type", wire.MEDIA_TYPE), ("Idempotency-Key", idempotency_key or new_id()))
        path = wire.namespace_path("memory", namespace)
        request = Request("POST", path, wire.encode_write(operations), headers)
        return wire.decode_results(await self._ask(request))

    async def _get(self, target: str) -> wire.Answer:
        return wire.decode_answer(await self._ask(Request("GET", target)))

    async def _ask(self, request: Request) -> bytes:
        """Return the body of the answer, or raise the error in it."""
        response = await self._exchange(request)
        if response.status == 200:
            return response.body
        raise refusal(response)

    async def _exchange(self, request: Request) -> Response:
        """Send a request until it is answered, at the most as long as the timeout allows."""
        begun = time.monotonic()
        deadline = begun + self.timeout
        pause = _FIRST_PAUSE
        if self.context is not None:
            request = request._replace(headers=(*request.headers, *self.context()))
        while True:
            try:
                response = await self._send(request, max(deadline - time.monotonic(), 0.001))
            except TimeoutError as error:
                raise Timeout(f"no answer within {self.timeout:g} s; a write may have happened all the same") from error
            except ConnectionFailed as error:
                failure: BotWireError = Unavailable(f"{error}. Is the server running, and is the address right?")
            else:
                if response.status != Unavailable.status:
                    return response
                failure = refusal(response)
                pause = max(pause, _retry_after(response))
            # The pause is drawn at random, so that clients that were cut off together do not come back together.
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311
            if time.monotonic() + wait >= min(deadline, begun + _LAST_TRY):
                raise failure
            await self._sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    # Queries

    async def _get_entry(self, namespace: str, query: GetEntry) -> Entry | None:
        path = wire.name_path("memory", namespace, query.key)
        if path is None:
            entries = await self._get_entries(namespace, GetEntries((query.key,)))
            return entries[0] if entries else None
        response = await self._exchange(Request("GET", path))
        if response.status == 200:
            return wire.decode_entry(response.body)
        error = refusal(response)
        if error.code == "not_found":
            return None
        raise error

    async def _get_entries(self, namespace: str, query: GetEntries) -> list[Entry]:
        entries: list[Entry] = []
        for keys in _chunks(query.keys):
            answer = await self._get(wire.namespace_path("memory", namespace, key=keys))
            entries += [entry.record() for entry in answer.entries]
        return entries

    async def _list_keys(self, namespace: str, query: ListKeys) -> list[str]:
        return await self._pages(
            "memory", namespace, query.after, query.limit, lambda page: page.keys, prefix=query.prefix
        )

    async def _list_entries(self, namespace: str, query: ListEntries) -> list[Entry]:
        pages = self._pages(
            "memory", namespace, query.after, query.limit, lambda page: page.entries, prefix=query.prefix, values="true"
        )
        return [entry.record() for entry in await pages]

    async def _list_messages(self, namespace: str, query: ListMessages) -> list[Any]:
        after, limit = query.after, query.limit
        if query.last is not None:
            if query.last <= MAX_PAGE:
                path = _session_path(namespace, query.session, after=after or None, last=query.last)
                return [message.record() for message in (await self._get(path)).messages]
            after = max(after, await self._count_messages(namespace, CountMessages(query.session)) - query.last)
        pages = self._pages("sessions", namespace, after, limit, lambda page: page.messages, session=query.session)
        return [message.record() for message in await pages]

    async def _list_sessions(self, namespace: str, query: ListSessions) -> list[Any]:
        pages = self._pages(
            "sessions", namespace, query.before, query.limit, lambda page: page.sessions, cursor="before"
        )
        return [session.record() for session in await pages]

    async def _pages(
        self,
        root: str,
        namespace: str,
        start: Any,
        limit: int | None,
        rows: Callable[[wire.Answer], list[Any]],
        *,
        cursor: str = "after",
        session: str | None = None,
        **parameters: str,
    ) -> list[Any]:
        """Return the rows of as many pages as it takes."""
        found: list[Any] = []
        while limit is None or len(found) < limit:
            size = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(found))
            page_of = {**parameters, cursor: start or None, "limit": size}
            if session is None:
                path = wire.namespace_path(root, namespace, **page_of)
            else:
                path = _session_path(namespace, session, **page_of)
            answer = await self._get(path)
            found += rows(answer)
            start = answer.next
            if start is None:
                break
        return found

    async def _count_entries(self, namespace: str, query: CountEntries) -> int:
        path = wire.namespace_path("memory", namespace, prefix=query.prefix or None, count="true")
        return (await self._get(path)).count

    async def _count_messages(self, namespace: str, query: CountMessages) -> int:
        return (await self._get(_session_path(namespace, query.session, count="true"))).count

    async def _list_namespaces(self, _: str, query: ListNamespaces) -> list[str]:
        found: list[str] = []
        after: Any = query.after
        while query.limit is None or len(found) < query.limit:
            size = MAX_PAGE if query.limit is None else min(MAX_PAGE, query.limit - len(found))
            page = await self._get("/namespaces" + wire.query(after=after or None, limit=size))
            found += page.namespaces
            after = page.next
            if after is None:
                break
        return found

    async def _get_usage(self, namespace: str, _: GetUsage) -> Usage:
        return wire.decode_usage(await self._ask(Request("GET", wire.namespace_path("usage", namespace))))

    async def _search(self, namespace: str, query: Search) -> list[Hit]:
        # A question may be longer than a URL.
        headers = (("Content-Type", wire.MEDIA_TYPE),)
        request = Request("POST", wire.namespace_path("search", namespace), wire.encode_search(query), headers)
        return [hit.record() for hit in wire.decode_answer(await self._ask(request)).hits]

    async def _list_texts(self, namespace: str, query: ListTexts) -> list[Text]:
        path = wire.namespace_path("texts", namespace, model=query.model, after=query.after or None, limit=query.limit)
        return (await self._get(path)).texts


_READ: Mapping[type, Callable[..., Coroutine[Any, Any, Any]]] = {
    GetEntry: _Server._get_entry,
    GetEntries: _Server._get_entries,
    ListKeys: _Server._list_keys,
    ListEntries: _Server._list_entries,
    CountEntries: _Server._count_entries,
    ListMessages: _Server._list_messages,
    CountMessages: _Server._count_messages,
    ListSessions: _Server._list_sessions,
    ListNamespaces: _Server._list_namespaces,
    GetUsage: _Server._get_usage,
    Search: _Server._search,
    ListTexts: _Server._list_texts,
}


class HttpStore(_Server):
    """A `Store` behind ``botwire serve``. Connections are kept and shared between threads; none goes anywhere but to `url`.

    A lost connection and a 503 are tried again, with growing pauses, until the timeout, but no longer than five minutes. No
    write happens twice, because each carries an idempotency key.

    Args:
        url: ``http://host[:port][/path]`` or ``https://…``.
        token: sent as ``Authorization: Bearer`` (RFC 6750).
        timeout: seconds that a request may take in all, retries included.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 10.0) -> None:
        self.timeout = check_timeout(timeout)
        self.address = url
        headers = {"User-Agent": "botwire", "Accept": wire.MEDIA_TYPE}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._transport = Transport(url, headers=headers)
        self.async_transport = AsyncTransport(url, headers=headers)

    async def _send(self, request: Request, timeout: float) -> Response:
        return self._transport.send(request, timeout=timeout)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def changes(self, namespace: str, query: ListChanges) -> HttpFeed:
        """As `Store.changes`."""
        return HttpFeed(self._transport, namespace, query, self.timeout)

    read = blocking(_Server._read)
    write = blocking(_Server._write)
    ask = blocking(_Server._ask)

    def close(self) -> None:
        """As `Store.close`."""
        self._transport.close()
        self.async_transport.close()


class AsyncHttpStore(_Server):
    """`HttpStore` for event loops; all that are made over one share its connections."""

    def __init__(self, store: HttpStore) -> None:
        self.timeout = store.timeout
        self.address = store.address
        self.context = store.context
        self._store = store

    async def _send(self, request: Request, timeout: float) -> Response:
        return await self._store.async_transport.send(request, timeout=timeout)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def changes(self, namespace: str, query: ListChanges) -> AsyncHttpFeed:
        """As `AsyncStore.changes`."""
        return AsyncHttpFeed(self._store.async_transport, namespace, query, self.timeout)

    read = _Server._read
    write = _Server._write

    async def close(self) -> None:
        """As `Store.close`."""
        self._store.close()


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


def _retry_after(response: Response) -> float:
    seconds = response.headers.get("retry-after", "")
    return float(seconds) if seconds.isdigit() else 0.0
