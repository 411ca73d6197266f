"""The contract of a store. `botwire.testing.StoreContract` proves that a store keeps it.

A store handles stored forms only (see `botwire.values`) and has two verbs, read and write. There is one protocol for blocking
callers and one for event loops, with the same operations, queries, results and errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from .errors import BotWireError
from .operations import Guard, Operation, Result
from .plans import Plans
from .queries import ListChanges, Query
from .records import Changes

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Feed(Protocol):
    """Changes of a namespace, read in steps. For one caller at a time. After an error it continues where it was."""

    def begin(self) -> int:
        """Return the version after which it returns changes. From now on that is fixed."""
        ...

    def next(self, seconds: float | None) -> Changes:
        """Return the next changes, or none if there are none within this many seconds (None: wait for ever).

        Raises:
            ChangesLost: some of them are no longer kept.
            StoreError, Unavailable, Timeout, AuthError: as their names say.
        """
        ...

    def close(self) -> None:
        """Release everything. A call under way returns soon."""
        ...


class Store(Protocol):
    """A store whose calls return when the work is done. Safe to share between threads, and to use after a fork.

    The caller checks names and operations (`botwire.limits`); a store trusts them. To write a store, inherit from this
    class, which brings `to_async` and `propagate`, and prove it with `botwire.testing.StoreContract`.
    """

    @property
    def address(self) -> str:
        """Where this is, as `open_store` takes it, without secrets."""
        ...

    def read(self, namespace: str, query: Query[T]) -> T:
        """Answer a query from what was committed when it began. An expired entry counts as missing.

        Raises:
            StoreError, Unavailable, Timeout, AuthError: as their names say.
        """
        ...

    def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        """Apply all of the operations, in order, or none of them.

        When this returns, the write is on disk and survives a crash and a power cut. The namespace's usage is counted and
        its plan is enforced in the same transaction.

        Args:
            namespace: the namespace.
            operations: what to do. Each sees the effect of those before it.
            idempotency_key: a second write under the same key in the same namespace changes nothing and returns what the
                first one returned. Kept for at least ten minutes.

        Returns:
            A result for each operation, in order.

        Raises:
            Conflict: an entry is not at its ``if_version``.
            InvalidValue: an increment of something that is not a number.
            InvalidArgument: the idempotency key was used for another write, one of other operations or names.
            QuotaExceeded, StorageExceeded: the plan does not allow it. Deleting is always allowed.
            StoreError, Unavailable, Timeout, AuthError: as their names say.
        """
        ...

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        """Return a feed of changes, made by any client. It reads nothing before its first call."""
        ...

    def to_async(self) -> AsyncStore:
        """Return this store's side for event loops, which closes this store. By default its calls run in threads."""
        return ThreadedStore(self)

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        """Send these header fields (the trace context) with each request. By default there are no requests to send."""
        del fields

    def close(self) -> None:
        """Release everything. Closing twice is fine; using a closed store raises `StoreError`."""
        ...


@runtime_checkable
class OperatedStore(Store, Protocol):
    """A store that has plans and an index, on which its operator decides."""

    @property
    def plans(self) -> Plans:
        """All plans, and the default plan for namespaces that have none."""
        ...

    def to_async(self) -> GuardedStore:
        """As `Store.to_async`, for a server."""
        ...

    def set_plan(self, namespace: str, plan: str | None) -> None:
        """Set the plan of a namespace; None: the default plan of each writer.

        Raises:
            InvalidArgument: there is no such plan.
        """
        ...

    def set_index(self, namespace: str, *, on: bool) -> None:
        """Let a namespace be searched or not. Without an index, writes are faster and searches are refused."""
        ...

    def index(self, namespace: str, *, timeout: float) -> bool:
        """Index what is missing in the index of a namespace, for at most this many seconds; returns whether it is complete."""
        ...


class AsyncFeed(Protocol):
    """`Feed` for callers on an event loop. A call that is cancelled loses no change; the next one returns it."""

    async def begin(self) -> int: ...

    async def next(self, seconds: float | None) -> Changes: ...

    async def close(self) -> None: ...


class Reader(Protocol):
    """What can be read on an event loop."""

    async def read(self, namespace: str, query: Query[T]) -> T: ...


class AsyncStore(Protocol):
    """The same for callers on an event loop.

    A call that is cancelled leaves no lock held; its write happens whole or not at all.
    """

    @property
    def address(self) -> str: ...

    async def read(self, namespace: str, query: Query[T]) -> T: ...

    async def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]: ...

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed: ...

    async def close(self) -> None: ...


class ThreadedStore(AsyncStore):
    """The side for event loops of a store that has none: each call runs in a worker thread of the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def address(self) -> str:
        return self._store.address

    async def read(self, namespace: str, query: Query[T]) -> T:
        return await _to_thread(self._store.read, namespace, query)

    async def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        return await _to_thread(self._store.write, namespace, operations, idempotency_key=idempotency_key)

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed:
        return ThreadedFeed(self._store.changes(namespace, query))

    async def close(self) -> None:
        await _to_thread(self._store.close)


class ThreadedFeed(AsyncFeed):
    """An `AsyncFeed` whose calls run in a worker thread, for at most `SLICE` seconds each."""

    SLICE = 0.5
    """How long a thread stays occupied after its caller was cancelled."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._asked: asyncio.Future[Changes] | None = None

    async def begin(self) -> int:
        return await _to_thread(self._feed.begin)

    async def next(self, seconds: float | None) -> Changes:
        import asyncio

        left = float("inf") if seconds is None else seconds
        while True:
            step = min(left, self.SLICE)
            # A call that was cancelled leaves its question here: the feed has moved past what it answers.
            asked = self._asked = self._asked or asyncio.ensure_future(_to_thread(self._feed.next, step))
            try:
                found = await asyncio.shield(asked)
            finally:
                if asked.done():
                    self._asked = None
            left -= step
            if found.changes or left <= 0:
                return found

    async def close(self) -> None:
        await _to_thread(self._feed.close)


async def _to_thread(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    import asyncio  # takes longer to import than botwire, and many programs need neither an event loop nor this

    return await asyncio.to_thread(fn, *args, **kwargs)


GUARD_FAILED = "a precondition no longer holds; try again"


class GuardFailed(BotWireError):
    """A `Guard` does not hold. Nothing was read or written."""


class GuardedStore(AsyncStore, Protocol):
    """An `AsyncStore` for a server: it reads and writes only while a guard holds.

    A write checks the guard in its own transaction, and a read checks it after it has read. So after the call that revokes a
    token has returned, nothing is written or shown because of that token, in any process.
    """

    @property
    def plans(self) -> Plans: ...

    async def set_plan(self, namespace: str, plan: str | None) -> None: ...

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        """As `AsyncStore.read`, or raise `GuardFailed`."""
        ...

    async def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
    ) -> list[Result]:
        """As `AsyncStore.write`, or raise `GuardFailed`."""
        ...

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        """As `AsyncStore.changes`, read through `reader`, which leaves out what its caller may not read."""
        ...
