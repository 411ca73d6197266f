"""Logic that is written once, as coroutines, for blocking callers and for callers on an event loop.

Over a `Store`, nothing in a coroutine waits for an event loop, so `blocking` runs it to its end at once. Over an `AsyncStore`, it is
awaited.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from .backoff import MAX_ATTEMPTS, pause_after
from .errors import Conflict
from .operations import Operation, Result
from .queries import Query
from .store import Store

P = ParamSpec("P")
S = TypeVar("S")
A = TypeVar("A")
T = TypeVar("T")


def blocking(method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[S, P], T]:
    """Turn a coroutine method into a method that returns when the work is done."""

    @wraps(method)
    def run(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        coroutine = method(self, *args, **kwargs)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            value: T = stop.value  # without `cast`, which is a call: every method of a memory runs this
            return value
        coroutine.close()
        raise RuntimeError(f"{method.__qualname__} waited for an event loop, which a blocking store never does")

    return cast("Callable[Concatenate[S, P], T]", run)


def awaiting(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]:
    """Return the coroutine method of one made by `blocking`, for the async class."""
    return cast("Callable[Concatenate[A, P], Coroutine[Any, Any, T]]", method.__wrapped__)  # type: ignore[attr-defined]


def is_on_event_loop() -> bool:
    """Whether this thread runs an event loop now."""
    asyncio = sys.modules.get("asyncio")  # an import would take longer than the rest of botwire
    # While another thread imports it, the module lacks most names, and no event loop runs yet.
    get_running_loop = getattr(asyncio, "get_running_loop", None)
    if get_running_loop is None:
        return False
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True


async def result_of(call: Any) -> Any:
    """Return what a method of a store returned, and await it if the store is for event loops."""
    return await call if hasattr(call, "__await__") else call


class Bridge(Protocol):
    """How logic that is written once, as coroutines, reaches the store.

    `Memory.bridge` never suspends, so `botwire.bridge.blocking` turns a coroutine that awaits only its methods into a blocking
    method. `AsyncMemory.bridge` waits on the event loop: `call` then accepts coroutine functions too, and `compute`, for slow
    functions, uses a thread.
    """

    async def read(self, query: Query[T]) -> T: ...
    async def write(self, *operations: Operation, idempotency_key: str | None = None) -> list[Result]: ...
    async def sleep(self, seconds: float) -> None: ...
    async def call(self, fn: Callable[[Any], Any], value: Any) -> Any: ...
    async def compute(self, fn: Callable[[Any], T], value: Any) -> T: ...


async def repeated(bridge: Bridge, attempt: Callable[[], Awaitable[T]], what: str) -> T:
    """Return the result of an attempt, which is repeated while it raises `Conflict`, up to 100 times.

    Args:
        bridge: pauses between the attempts.
        attempt: reads, decides and writes on a condition, or reads in several steps.
        what: what other clients change in the meantime, for the error.
    """
    for number in range(MAX_ATTEMPTS):
        try:
            return await attempt()
        except Conflict:
            await bridge.sleep(pause_after(number))
    raise Conflict(
        f"{what} was changed by other clients {MAX_ATTEMPTS} times in a row. Nothing was written: try again later"
    )


class Opener(Protocol):
    """Opens a store when it is first used."""

    opened: Store | None
    """The store while it is open."""

    def store(self) -> Store:
        """Return the store, and open it if it is not open yet."""
        ...


class BlockingBridge(Bridge):
    """The bridge of a `Memory`: its coroutines never suspend."""

    def __init__(self, opener: Opener, namespace: str) -> None:
        self._opener = opener
        self._namespace = namespace

    @property
    def store(self) -> Store:
        """The store, opened if it is not open yet."""
        opened = self._opener.opened
        return self._opener.store() if opened is None else opened

    async def read(self, query: Query[T]) -> T:
        opened = self._opener.opened  # as `store`, without its call
        return (self.store if opened is None else opened).read(self._namespace, query)

    async def write(self, *operations: Operation, idempotency_key: str | None = None) -> list[Result]:
        return self.store.write(self._namespace, operations, idempotency_key=idempotency_key)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def call(self, fn: Callable[[Any], Any], value: Any) -> Any:
        return fn(value)

    async def compute(self, fn: Callable[[Any], T], value: Any) -> T:
        return fn(value)
