"""Watch: the changes of a namespace as an iterator."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Self

from .bridge import blocking
from .errors import InvalidArgument, StoreError
from .limits import MAX_TTL_SECONDS, check_count, check_name, check_prefix
from .queries import ListChanges
from .records import Change, Changes
from .store import MEMORY_CLOSED, AsyncFeed, Feed


def watch_query(prefix: str = "", *, session: str | None = None, after: int | None = None) -> ListChanges:
    """Return the checked query for the changes to watch."""
    return ListChanges(
        after=check_count(after, "after"),
        prefix=check_prefix(prefix),
        session=None if session is None else check_name(session, "session name"),
    )


class _Watching:
    """What `Watch` and `AsyncWatch` share: the changes of a feed, one at a time."""

    def __init__(self, wait: float | None) -> None:
        if (
            isinstance(wait, bool)
            or not isinstance(wait, int | float | None)
            or not 0 <= (wait or 0) <= MAX_TTL_SECONDS
        ):
            raise InvalidArgument(f"wait is seconds, at least 0, not {wait!r}")
        self._wait = wait
        self._pending: deque[Change] = deque()
        self._version: int | None = None
        self._reached = 0
        self._closed = False
        self._ended = False

    async def _ask(self) -> Changes:
        raise NotImplementedError

    async def _pull(self) -> Change | None:
        while not self._pending:
            if self._closed:
                self._raise_if_ended()
                return None
            try:
                found = await self._ask()
            except StoreError:  # the store may be closed too by now
                self._raise_if_ended()
                raise
            self._reached = found.version
            self._pending.extend(found.changes)
            if not found.changes:
                self._version = found.version
                self._raise_if_ended()
                return None
        change = self._pending.popleft()
        self._version = change.version if self._pending else self._reached
        return change

    def _raise_if_ended(self) -> None:
        if self._ended:
            raise StoreError(MEMORY_CLOSED)


class Watch(_Watching, Iterator[Change]):
    """An iterator of the changes of a namespace, from `Memory.watch` or `History.watch`. For one thread at a time.

    It begins when it is created: it returns every later change, whenever it is iterated. An error ends the loop but not the watch:
    iterate it again to continue.
    """

    def __init__(self, feed: Feed, wait: float | None) -> None:
        super().__init__(wait)
        self._feed = feed
        self._version = feed.begin()

    @property
    def version(self) -> int:
        """The version of the last change. Pass it as ``after`` to continue in another watch, in any process."""
        assert self._version is not None
        return self._version

    async def _ask(self) -> Changes:
        return self._feed.next(self._wait)

    _step = blocking(_Watching._pull)

    def __next__(self) -> Change:
        change = self._step()
        if change is None:
            raise StopIteration
        return change

    def close(self) -> None:
        """Release all resources. Another thread that waits for a change stops soon."""
        self._closed = True
        self._feed.close()

    def end(self) -> None:
        """Close the watch because its memory is closed. Iterating it raises `StoreError` then."""
        self._ended = True
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncWatch(_Watching, AsyncIterator[Change]):
    """`Watch` for an event loop. It begins when ``async with`` enters it, or else when it is first iterated."""

    def __init__(self, open_feed: Callable[[], Awaitable[AsyncFeed]], wait: float | None) -> None:
        super().__init__(wait)
        self._open_feed = open_feed
        self._feed: AsyncFeed | None = None

    async def _opened(self) -> AsyncFeed:
        if self._feed is None:
            feed = await self._open_feed()
            self._feed = self._feed or feed
        return self._feed

    @property
    def version(self) -> int | None:
        """As `Watch.version`; None before it begins."""
        return self._version

    async def _ask(self) -> Changes:
        return await (await self._opened()).next(self._wait)

    async def __anext__(self) -> Change:
        change = await self._pull()
        if change is None:
            raise StopAsyncIteration
        return change

    async def close(self) -> None:
        """As `Watch.close`."""
        self._closed = True
        if self._feed is not None:
            await self._feed.close()

    async def end(self) -> None:
        """As `Watch.end`."""
        self._ended = True
        await self.close()

    async def __aenter__(self) -> Self:
        self._version = await (await self._opened()).begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
