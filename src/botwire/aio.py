"""AsyncMemory and AsyncHistory: the methods of `Memory` and `History`, for event loops."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeVar, cast
from weakref import WeakSet

from . import reading, revising  # noqa: F401 - `History` imports them when it needs them, which blocks an event loop
from .bridge import Bridge, awaiting
from .history import History, SessionHistory
from .limits import check_name
from .memory import Memory
from .namespace import Namespace
from .operations import Operation, Result
from .queries import ListChanges, Query
from .records import Message
from .store import AsyncFeed, AsyncStore
from .stores import Lease
from .watch import AsyncWatch, watch_query

if TYPE_CHECKING:
    from .stores.wrappers.encrypted import AsyncEncryptedStore

T = TypeVar("T")


class AsyncMemory(Namespace):
    """`Memory` for an event loop: the same arguments, methods and errors; await each call.

    ``await memory.contains(key)``, ``await memory.length()`` and ``async for key in memory`` replace ``in``, ``len`` and
    iteration. A cancelled call leaves no lock held; its write is applied completely or not at all. `update` takes functions and
    coroutine functions.

    The store is opened in a thread by the first awaited call, which raises `StoreError` or `Unavailable` if it cannot be opened.
    """

    _memory: Memory | None = None

    def _begin(self) -> None:
        _ = self._lease.address  # raises now if it is not valid
        self.bridge: _Awaiting = _Awaiting(self._lease, self._namespace)
        self._watches: WeakSet[AsyncWatch] = WeakSet()

    @classmethod
    def of(cls, memory: Memory) -> Self:
        """Return the async form of a memory, on the same store. Close the memory when you are done with both."""
        twin = cls.__new__(cls)
        twin._namespace = memory._namespace
        twin._embedding = memory._embedding
        twin._lease = memory._lease
        twin._memory = memory  # keeps the store open
        twin._release = None
        twin.bridge = _Awaiting(twin._lease, twin._namespace)
        twin._watches = WeakSet()
        return twin

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Pickle as a `Memory`. The async form of a memory becomes that of the unpickled memory."""
        return super().__reduce_ex__(protocol) if self._memory is None else (type(self).of, (self._memory,))

    read = awaiting(Memory.read)
    write = awaiting(Memory.write)
    set = awaiting(Memory.set)
    get = awaiting(Memory.get)
    entry = awaiting(Memory.entry)
    delete = awaiting(Memory.delete)
    list_keys = awaiting(Memory.list_keys)
    keys = list_keys
    items = awaiting(Memory.items)
    get_many = awaiting(Memory.get_many)
    set_many = awaiting(Memory.set_many)
    delete_many = awaiting(Memory.delete_many)
    increment = awaiting(Memory.increment)
    update = awaiting(Memory.update)
    clear = awaiting(Memory.clear)
    usage = awaiting(Memory.usage)
    sessions = awaiting(Memory.sessions)
    retain = awaiting(Memory.retain)
    retention = awaiting(Memory.retention)
    destroy = awaiting(Memory.destroy)
    search = awaiting(Memory.search)
    embed = awaiting(Memory.embed)
    length = awaiting(Memory.__len__)

    async def reencrypt(self, *, plain: bool = False) -> int:
        """As `Memory.reencrypt`."""
        self._lease.encrypted_or_raise()
        store = cast("AsyncEncryptedStore", await self.bridge.store())
        return await store.reencrypt(self._namespace, plain=plain)

    async def contains(self, key: str) -> bool:
        """Whether there is such a key."""
        return await self.list_keys(check_name(key), limit=1) == [key]  # as in `Memory.__contains__`

    async def __aiter__(self) -> AsyncIterator[str]:
        for key in await self.list_keys():
            yield key

    def watch(
        self, prefix: str = "", *, after: int | None = None, session: str | None = None, wait: float | None = None
    ) -> AsyncWatch:
        """As `Memory.watch`. It begins with ``async with memory.watch() as changes``, or when it is first iterated."""
        watch = AsyncWatch(partial(self.bridge.changes, watch_query(prefix, session=session, after=after)), wait)
        self._watches.add(watch)
        return watch

    def history(self, session_id: str) -> AsyncHistory:
        """As `Memory.history`."""
        return AsyncHistory(self, session_id)

    async def close(self) -> None:
        """As `Memory.close`. A memory from `of` closes only its watches."""
        for watch in tuple(self._watches):
            await watch.end()
        if self._release is not None:
            self._release.detach()
            await asyncio.to_thread(self._lease.release)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Awaiting(Bridge):
    """The bridge of an `AsyncMemory`: every call is awaited."""

    def __init__(self, lease: Lease, namespace: str) -> None:
        self._lease = lease
        self._namespace = namespace
        self._store: AsyncStore | None = None

    async def store(self) -> AsyncStore:
        """Return the async store, opened in a thread if it is not open yet."""
        opened = self._lease.opened
        if opened is None:
            opened = await asyncio.to_thread(self._lease.store)
        if self._store is None:
            self._store = opened.to_async()
        return self._store

    async def changes(self, query: ListChanges) -> AsyncFeed:
        """Return a feed of the namespace."""
        return (await self.store()).changes(self._namespace, query)

    async def read(self, query: Query[T]) -> T:
        return await (await self.store()).read(self._namespace, query)

    async def write(self, *operations: Operation, idempotency_key: str | None = None) -> list[Result]:
        return await (await self.store()).write(self._namespace, operations, idempotency_key=idempotency_key)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, fn: Callable[[Any], Any], value: Any) -> Any:
        result = fn(value)
        return await result if inspect.isawaitable(result) else result

    async def compute(self, fn: Callable[[Any], T], value: Any) -> T:
        return await asyncio.to_thread(fn, value)


class AsyncHistory(SessionHistory):
    """`History` for an event loop, made by `AsyncMemory.history`."""

    append = awaiting(History.append)
    replace = awaiting(History.replace)
    messages = awaiting(History.messages)
    context = awaiting(History.context)
    context_messages = awaiting(History.context_messages)
    pop = awaiting(History.pop)
    edit = awaiting(History.edit)
    redact = awaiting(History.redact)
    summarize = awaiting(History.summarize)
    problems = awaiting(History.problems)
    mend = awaiting(History.mend)
    info = awaiting(History.info)
    about = awaiting(History.about)
    set_about = awaiting(History.set_about)
    expire = awaiting(History.expire)
    search = awaiting(History.search)
    clear = awaiting(History.clear)
    length = awaiting(History.__len__)

    async def fork(self, session_id: str, upto: int | None = None) -> AsyncHistory:
        """As `History.fork`."""
        return await self._fork(session_id, upto)

    def watch(self, *, after: int | None = None, wait: float | None = None) -> AsyncWatch:
        """As `History.watch`."""
        return cast("AsyncWatch", self._memory.watch(session=self._session, after=after, wait=wait))

    async def __aiter__(self) -> AsyncIterator[Message]:
        for message in await self.messages():
            yield message
