"""Logic that is written once, as coroutines, for blocking callers and for callers on an event loop.

Over a `Store`, nothing in a coroutine waits for an event loop, so `blocking` runs it to its end at once. Over an `AsyncStore`, it is
awaited.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

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
            return cast("T", stop.value)
        coroutine.close()
        raise RuntimeError(f"{method.__qualname__} waited for an event loop, which a blocking store never does")

    return cast("Callable[Concatenate[S, P], T]", run)


def awaiting(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]:
    """Return the coroutine method of one made by `blocking`, for the async class."""
    return cast("Callable[Concatenate[A, P], Coroutine[Any, Any, T]]", method.__wrapped__)  # type: ignore[attr-defined]


def is_on_event_loop() -> bool:
    """Whether this thread runs an event loop now."""
    asyncio = sys.modules.get("asyncio")  # an import would take longer than the rest of botwire
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def result_of(call: Any) -> Any:
    """Return what a method of a store returned, and await it if the store is for event loops."""
    return await call if hasattr(call, "__await__") else call
