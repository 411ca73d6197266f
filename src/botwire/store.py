"""The protocols of a store, one for blocking callers and one for event loops. `botwire.testing.StoreContract` tests them.

A store handles stored forms only (see `botwire.values`) and has two methods for all data: `read` and `write`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from .errors import BotWireError
from .operations import Guard, Operation, Result, Write
from .plans import Plans
from .queries import ListChanges, Query
from .records import Changes

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Feed(Protocol):
    """Changes of a namespace, read in steps. For one caller at a time. After an error, the next call continues."""

    def begin(self) -> int:
        """Return the version after which it returns changes, and keep to it from now on."""
        ...

    def next(self, seconds: float | None) -> Changes:
        """Return the next changes, or none after this many seconds (None: wait without end).

        Raises:
            ChangesLost: some of them are no longer kept.
            StoreError, Unavailable, Timeout, AuthError: as their names say.
        """
        ...

    def close(self) -> None:
        """Release all resources. A call in another thread returns soon."""
        ...


class Store(Protocol):
    """A store for blocking callers. Safe to share between threads, and to use after a fork.

    The caller checks names and operations (`botwire.limits`); a store trusts them. To write a store, inherit from this class and
    test it with `botwire.testing.StoreContract`. A store may refuse queries for searches and vectors, and `changes`, with
    `InvalidArgument`.
    """

    @property
    @abstractmethod
    def address(self) -> str:
        """The address for `open_store`, without secrets."""
        ...

    @abstractmethod
    def read(self, namespace: str, query: Query[T]) -> T:
        """Answer a query from the data committed when it began. Expired entries are missing.

        Raises:
            StoreError, Unavailable, Timeout, AuthError: as their names say.
        """
        ...

    @abstractmethod
    def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        """Apply all of the operations, in order, or none of them.

        When this returns, the write is on disk and survives a crash and a power cut. The namespace's usage is counted and
        its plan is enforced in the same transaction.

        Args:
            namespace: the namespace.
            operations: each sees the effect of those before it.
            idempotency_key: a second write under the same key in the same namespace changes nothing and returns the same
                results. Kept for at least ten minutes, unless the write changed nothing.

        Returns:
            A result for each operation, in order.

        Raises:
            Conflict: an entry has another version than ``if_version`` or a `Require` says.
            InvalidValue: an increment of something that is not a number.
            InvalidArgument: the idempotency key was used for another write, with other operations, names or values. Or messages
                that this write popped the first time are no longer kept.
            QuotaExceeded, StorageExceeded: the plan does not allow it. Deleting is always allowed.
            StoreError, Unavailable, Timeout, AuthError: as their names say.
        """
        ...

    @abstractmethod
    def changes(self, namespace: str, query: ListChanges) -> Feed:
        """Return a feed of the changes that any client makes. It reads nothing before its first call."""
        ...

    def to_async(self) -> AsyncStore:
        """Return the async form of this store; closing it closes this store. By default its calls run in threads."""
        return ThreadedStore(self)

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        """Send these header fields (the trace context) with each request. By default a store sends no requests."""
        del fields

    @abstractmethod
    def close(self) -> None:
        """Release everything. Closing twice is fine; using a closed store raises `StoreError`."""
        ...


@runtime_checkable
class OperatedStore(Store, Protocol):
    """A store with plans and search indexes, which its operator sets."""

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
        """Turn the search index of a namespace on or off. Without it, writes are faster and searches are refused."""
        ...

    def index(self, namespace: str, *, timeout: float) -> bool:
        """Continue the search index of a namespace for at most this many seconds; returns whether it is complete."""
        ...

    def recount(self, namespace: str) -> list[str]:
        """Correct the usage of a namespace by what it holds, in one transaction; returns a line for each correction."""
        ...

    def sweep(self) -> None:
        """Delete the idempotency records of all namespaces that are older than ten minutes."""
        ...


class AsyncFeed(Protocol):
    """`Feed` for event loops. A cancelled call loses no change; the next call returns it."""

    async def begin(self) -> int: ...
    async def next(self, seconds: float | None) -> Changes: ...
    async def close(self) -> None: ...


class Reader(Protocol):
    """What can be read on an event loop."""

    async def read(self, namespace: str, query: Query[T]) -> T: ...


class AsyncStore(Protocol):
    """`Store` for event loops. A cancelled call leaves no lock held; its write is applied completely or not at all."""

    @property
    def address(self) -> str: ...
    async def read(self, namespace: str, query: Query[T]) -> T: ...
    async def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]: ...
    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed: ...
    async def close(self) -> None: ...


class ThreadedStore(AsyncStore):
    """The async form of a store that has no other: each call runs in a worker thread."""

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
    """How long a thread stays in use after its caller was cancelled."""

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
            # A cancelled call leaves its future here. The feed has already moved past the changes in its result.
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


CLOSED = "the store is closed; open a new one"
MEMORY_CLOSED = "this memory is closed; create a new one"
GUARD_FAILED = "a precondition no longer holds; try again"


class GuardFailed(BotWireError):
    """A `Guard` does not hold. Nothing was read or written."""


class GuardedStore(AsyncStore, Protocol):
    """An `AsyncStore` for a server: it reads and writes only while a guard holds.

    A write checks the guard in its own transaction, a read checks it after reading. So when the call that revokes a token has
    returned, no process reads or writes for that token.
    """

    @property
    def plans(self) -> Plans: ...
    async def set_plan(self, namespace: str, plan: str | None) -> None: ...
    async def sweep(self) -> None: ...
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
        also: Write | None = None,
    ) -> list[Result]:
        """As `AsyncStore.write`, or raise `GuardFailed`. ``also``: see `Write`."""
        ...

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        """As `AsyncStore.changes`, read through `reader`, which omits what its caller may not read."""
        ...
