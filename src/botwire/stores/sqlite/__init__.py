"""A store in one SQLite file, or in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...plans import Plans
from ...store import GuardedStore
from ..address import default_path, make_default_folder, sqlite_path

if TYPE_CHECKING:
    from .store import SqliteStore

__all__ = ["SqliteStore", "check_address", "open_served", "open_store", "open_to_serve"]


def __getattr__(name: str) -> object:
    """Import the store when it is first needed: its modules read files, and an event loop may check an address."""
    if name == "SqliteStore":
        from .store import SqliteStore

        return SqliteStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_store(address: str, *, token: str | None, timeout: float) -> SqliteStore:
    """Open the store at ``sqlite:///path``; see `botwire.stores.open_store`."""
    from .store import SqliteStore

    del token  # a file has none
    path = sqlite_path(address)
    if path == str(default_path()):
        make_default_folder()
    return SqliteStore(path, timeout=timeout)


def check_address(address: str) -> str:
    """Return the address with an absolute path; see `botwire.stores.SCHEMES`."""
    path = sqlite_path(address)
    return address if path == ":memory:" else f"sqlite:///{Path(path).absolute()}"


def open_to_serve(address: str, plans: Plans) -> SqliteStore:
    """Open the file of a server; see `botwire.stores.open_to_serve`."""
    from .store import SqliteStore

    return SqliteStore(sqlite_path(address), plans=plans)


def open_served(address: str, plans: Plans, on_commit: Callable[[int], None]) -> GuardedStore:
    """Open the file of a server's event loop; see `botwire.stores.open_served`."""
    from .served import ServedSqliteStore

    return ServedSqliteStore(open_to_serve(address, plans), on_commit=on_commit)
