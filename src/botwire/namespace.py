"""What a memory is to the logic above it: a namespace that can be read and written, in place or awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from .records import ListChanges, Operation, Query, Result

T = TypeVar("T")


class Namespace(ABC):
    """What `Memory` and `AsyncMemory` are: a namespace of a store."""

    _namespace: str

    @property
    def namespace(self) -> str:
        """The name of the namespace."""
        return self._namespace

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the memory is, without secrets."""

    @abstractmethod
    async def _read(self, query: Query[T]) -> T: ...

    @abstractmethod
    async def _write(self, *operations: Operation) -> list[Result]: ...

    @abstractmethod
    def _changes(self, query: ListChanges) -> Any: ...

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    @abstractmethod
    async def _call(self, fn: Callable[[Any], Any], value: Any) -> Any: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._namespace!r}, {self.address!r})"
