"""The store in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable

from ...plans import Plans
from ...store import GuardedStore

try:
    import psycopg  # noqa: F401
except ImportError as error:
    if error.name is not None and not error.name.startswith("psycopg"):
        raise
    missing = "postgresql:// needs the psycopg package: pip install 'botwire[postgres]'"
    raise ImportError(missing, name=error.name) from None

from .connection import without_password as check_address
from .store import PostgresStore

__all__ = ["check_address", "open_store", "open_to_serve"]


def open_store(address: str, *, token: str | None, timeout: float) -> PostgresStore:
    """Open the store in a database; see `botwire.stores.open_store`."""
    del token  # the address has the password
    return PostgresStore(address, timeout=timeout)


def open_to_serve(address: str, plans: Plans) -> PostgresStore:
    """Open the database of a server; see `botwire.stores.open_to_serve`."""
    return PostgresStore(address, plans=plans)


def open_served(address: str, plans: Plans, on_commit: Callable[[int], None]) -> GuardedStore:
    """Open the database of a server's event loop; see `botwire.stores.open_served`."""
    from .served import ServedPostgresStore

    del on_commit  # PostgreSQL has metrics of its own
    return ServedPostgresStore(open_to_serve(address, plans))
