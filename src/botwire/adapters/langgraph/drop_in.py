"""Methods that LangGraph's own savers and stores have, for code that moves over. Here they have little or nothing to do."""

from __future__ import annotations

import re
from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from ...errors import InvalidArgument
from .._base import OverMemory


class Done(Future[None]):
    """A future that is done, which may be awaited too, since LangGraph's async classes return awaitables."""

    def __init__(self) -> None:
        super().__init__()
        self.set_result(None)

    def __await__(self) -> Generator[Any, None, Self]:
        return self
        yield


class DropIn(OverMemory):
    """What `SqliteSaver`, `PostgresSaver` and their stores have in common."""

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Any) -> Self:
        """Return one for a ``with`` or an ``async with``, which closes it.

        Args:
            conn_string: an address, as ``url`` of the class. Or, as for `SqliteSaver`, a path or ``:memory:``.
            options: as for the class.

        Raises:
            InvalidArgument: it is neither.
        """
        return cls(url=_address(conn_string), **options)  # type: ignore[call-arg]

    def setup(self) -> Done:
        """Do nothing: files and tables are made when they are first used. The result may be awaited."""
        return Done()

    async def asetup(self) -> None:
        """As `setup`."""


class Sweeping(OverMemory):
    """The sweeps of `SqliteStore` and `PostgresStore`. Here expired items are missing at once, and later writes remove them."""

    def sweep_ttl(self) -> int:
        """Return 0: no expired item is left to remove."""
        return 0

    async def asweep_ttl(self) -> int:
        """As `sweep_ttl`."""
        return 0

    def start_ttl_sweeper(self, sweep_interval_minutes: int | None = None) -> Done:  # noqa: ARG002 - LangGraph's name
        """Start nothing. The result is a future that is done, and may be awaited."""
        return Done()

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - LangGraph's name
        """Return True: no sweeper runs."""
        return True

    async def astop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """As `stop_ttl_sweeper`."""
        return self.stop_ttl_sweeper(timeout)


def _address(conn_string: str) -> str:
    if not isinstance(conn_string, str) or not conn_string or re.match(r"\s*\w+\s*=|file:", conn_string):
        raise InvalidArgument(
            f"{conn_string!r:.60} is not a connection string: use a path, :memory:, sqlite:///path, http(s)://host or "
            "postgresql://user@host/database"
        )
    if "://" in conn_string:
        return conn_string
    return f"sqlite:///{conn_string if conn_string == ':memory:' else Path(conn_string).absolute()}"
