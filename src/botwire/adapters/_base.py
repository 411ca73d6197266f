"""What adapters share: the memory that they use, and methods in a blocking and an async form.

The logic of such a method is a coroutine whose first argument is the memory, from which `blocking_method` and `async_form` make both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

from ..aio import AsyncHistory, AsyncMemory
from ..bridge import awaiting, blocking
from ..errors import InvalidName, InvalidValue
from ..history import History
from ..limits import MAX_OPERATIONS, check_name
from ..memory import Memory
from ..namespace import Namespace

BATCH_BYTES = 16 * 1024 * 1024
"""The most bytes of values in a write that can be split. In base64 they take 21 of the 32 MiB that a request may have."""

P = ParamSpec("P")
S = TypeVar("S")
A = TypeVar("A")
T = TypeVar("T")


class OverMemory:
    """An object with a memory of its own. It can be closed, and used in a ``with`` and an ``async with``."""

    _memory: Memory

    @cached_property
    def _async_memory(self) -> AsyncMemory:
        return AsyncMemory.of(self._memory)

    def close(self) -> None:
        """Close the memory. Nothing is pending: writes are on disk when they return."""
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"


class OverSession(OverMemory):
    """An object with a session of a memory of its own."""

    _history: History

    @property
    def session_id(self) -> str:
        """The name of the session."""
        return self._history.session_id

    @cached_property
    def _async_history(self) -> AsyncHistory:
        return self._async_memory.history(self._history.session_id)

    def clear(self) -> None:
        """Delete the messages of the session."""
        self._history.clear()

    async def aclear(self) -> None:
        """As `clear`."""
        await self._async_history.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r}, {self._memory.namespace!r}, {self._memory.address!r})"


def blocking_method(
    logic: Callable[Concatenate[S, Namespace, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], T]:
    """Turn a coroutine method whose first argument is a memory into a blocking one, which passes the object's `Memory`."""
    run_at_once = blocking(logic)

    @wraps(logic)
    def run(self: Any, *args: Any, **kwargs: Any) -> T:
        return run_at_once(self, self._memory, *args, **kwargs)

    signature = inspect.signature(logic)  # LangGraph inspects the arguments of its savers
    shown = [parameter for name, parameter in signature.parameters.items() if name != "memory"]
    run.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return cast("Callable[Concatenate[S, P], T]", run)


def async_form(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]:
    """Return the async form of a method made by `blocking_method`, which passes the object's `AsyncMemory`."""
    logic: Callable[..., Coroutine[Any, Any, T]] = awaiting(method)

    @wraps(method)
    async def run(self: Any, *args: Any, **kwargs: Any) -> T:
        return await logic(self, self._async_memory, *args, **kwargs)

    return cast("Callable[Concatenate[A, P], Coroutine[Any, Any, T]]", run)


UNREADABLE = (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What the classes of a framework raise for data that is not theirs."""


def reason(error: Exception) -> str:
    """Return what an error says, without the data that pydantic adds to it: the data may be secret."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return str(error)
    found = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in errors(include_input=False)]
    return "; ".join([*found[:3], *([f"and {len(found) - 3} more"] if len(found) > 3 else [])])


def unreadable(seq: int, session: str, framework: str, error: Exception) -> InvalidValue:
    """Return the error for a stored message that a framework cannot read."""
    return InvalidValue(
        f"message {seq} of session {session!r} is not one of {framework}: {reason(error)}. "
        "The how-to guide says how to remove it",
        seq=seq,
        session=session,
    )


SessionId: TypeAlias = str | int | UUID
"""Programs often have a number or a UUID, which the frameworks' own classes accept too. The name of the session is its text."""


def session_name(session_id: SessionId) -> str:
    """Return the name of a session, or raise `InvalidName`."""
    return check_name(
        str(session_id) if type(session_id) is int or isinstance(session_id, UUID) else session_id, "session name"
    )


def quoted(name: str, what: str, safe: str = "") -> str:
    """Return a name as a part of a key: ``/`` and ``#`` in it separate nothing."""
    if not isinstance(name, str):
        raise InvalidName(f"a {what} is a str, not {type(name).__name__}")
    try:
        return quote(name, safe=safe)
    except UnicodeEncodeError:
        raise InvalidName(f"{what} {name!a:.60} has a lone surrogate, half of a character: remove it") from None


@contextmanager
def needs(packages: str, message: str) -> Iterator[None]:
    """Say in one line what to install if one of these packages, or a module of it, is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in packages.split():
            raise
        raise ImportError(message, name=error.name) from None


def batches(
    items: Iterable[T], most: int = MAX_OPERATIONS, size: Callable[[T], int] = lambda _: 0, room: int = 0
) -> Iterator[list[T]]:
    """Yield the items in parts that fit into one write each: at most `most` items, and `room` in the sum of their sizes."""
    batch: list[T] = []
    left = room
    for item in items:
        length = size(item)
        if batch and (len(batch) == most or length > left):
            yield batch
            batch, left = [], room
        batch.append(item)
        left -= length
    if batch:
        yield batch
