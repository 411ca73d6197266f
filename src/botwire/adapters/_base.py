"""What adapters share: the memory that they use, and how it is closed."""

from __future__ import annotations

from typing import Self

from ..memory import Memory


class OverMemory:
    """An object with a memory of its own. It can be closed, and used in a ``with`` and an ``async with``."""

    _memory: Memory

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
