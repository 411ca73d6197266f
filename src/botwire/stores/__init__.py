"""Addresses → stores, opened once a process and shared by everybody who names the same one."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import InvalidArgument
from ..limits import check_timeout
from ..plans import Plans
from ..store import AsyncStore, GuardedStore, OperatedStore, Store
from .address import _checked, default_path, default_token, is_postgres, make_default_folder, sqlite_path
from .sqlite.store import SqliteStore

EncryptionKey: TypeAlias = str | bytes | Sequence[str | bytes]
"""A key, or several: the first encrypts, all of them decrypt."""

__all__ = [
    "EncryptionKey",
    "async_store",
    "default_address",
    "encrypted_store",
    "guarded_store",
    "is_postgres",
    "lease_async_store",
    "lease_store",
    "open_store",
    "open_to_serve",
    "sqlite_path",
]


def open_store(url: str | None = None, *, token: str | None = None, timeout: float = 10.0) -> Store:
    """Open a store of its own, which its caller closes.

    Args:
        url: ``sqlite:///path``, ``sqlite:///:memory:``, ``postgresql://user@host/database``, ``http://host`` or
            ``https://host``; None: `default_address`.
        token: for a server that asks for one; None: `default_token` if `url` is None too.
        timeout: seconds that a call may take in all.

    Raises:
        InvalidArgument: not such an address.
        StoreError: the file cannot be opened.
    """
    token = default_token() if token is None and url is None else token
    address = _checked(url, token)
    if address.startswith("sqlite:"):
        path = sqlite_path(address)
        if path == str(default_path()):
            make_default_folder()
        return SqliteStore(path, timeout=timeout)
    if is_postgres(address):
        from .postgres.store import PostgresStore

        return PostgresStore(address, timeout=timeout)
    from .http.store import HttpStore

    return HttpStore(address, token=token, timeout=timeout)


def open_to_serve(address: str, plans: Plans) -> OperatedStore:
    """Open the store of an operator, who decides on plans, at ``sqlite:///path`` or ``postgresql://…``.

    Raises:
        InvalidArgument: not such an address.
        StoreError, Unavailable: it cannot be opened.
    """
    if not is_postgres(address):
        return SqliteStore(sqlite_path(address), plans=plans)
    from .postgres.store import PostgresStore

    return PostgresStore(address, plans=plans)


def lease_store(
    url: str | None, *, token: str | None, timeout: float, encryption_key: EncryptionKey | None = None
) -> tuple[Store, Callable[[], None]]:
    """Return a store shared by all who name the same address, and what to call when done with it."""
    if encryption_key is None:
        store, release = _SHARED.lease(url, token, timeout)
        return _traced(store), release
    from .wrappers.cipher import Cipher
    from .wrappers.encrypted import EncryptedStore

    cipher = Cipher(encryption_key)
    store, release = _SHARED.lease(url, token, timeout)
    return EncryptedStore(_traced(store), cipher), release


def _traced(store: Store) -> Store:
    """Return a store whose calls are spans, if the program has imported OpenTelemetry; else the store as it is."""
    if "opentelemetry.trace" not in sys.modules:
        return store
    from .wrappers.traced import TracedStore, is_wanted

    if not is_wanted():
        return store
    from .http.store import HttpStore
    from .wrappers import tracing

    if isinstance(store, HttpStore):
        store.context = tracing.context_fields
    return TracedStore(store, tracing.Tracing())


def lease_async_store(
    url: str | None, *, token: str | None, timeout: float, encryption_key: EncryptionKey | None = None
) -> tuple[AsyncStore, Callable[[], None]]:
    """As `lease_store`, for an event loop. The store beneath is the same one."""
    store, release = lease_store(url, token=token, timeout=timeout, encryption_key=encryption_key)
    return async_store(store), release


def async_store(store: Store) -> AsyncStore:
    """Return the event loop's side of a store, which closes it."""
    if isinstance(store, SqliteStore):
        from .sqlite.async_store import AsyncSqliteStore

        return AsyncSqliteStore(store)
    from .http.store import AsyncHttpStore, HttpStore

    if isinstance(store, HttpStore):
        return AsyncHttpStore(store)
    from .wrappers.traced import TracedStore

    if isinstance(store, TracedStore):
        return store.over(async_store(store.store))
    from .wrappers.encrypted import AsyncEncryptedStore, EncryptedStore

    if not isinstance(store, EncryptedStore):
        from .postgres.async_store import AsyncPostgresStore, PostgresStore

        assert isinstance(store, PostgresStore)
        return AsyncPostgresStore(store)
    return AsyncEncryptedStore(async_store(store.store), store.cipher)


def guarded_store(store: OperatedStore) -> GuardedStore:
    """Return the event loop's side of an operator's store, for a server that lets callers in by permits."""
    if isinstance(store, SqliteStore):
        from .sqlite.async_store import AsyncSqliteStore

        return AsyncSqliteStore(store)
    from .postgres.async_store import AsyncPostgresStore, PostgresStore

    assert isinstance(store, PostgresStore)
    return AsyncPostgresStore(store)


def encrypted_store(store: Any) -> Any:
    """Return a store if its values are encrypted, or raise `InvalidArgument`."""
    if not hasattr(store, "reencrypt"):
        raise InvalidArgument("this memory has no encryption_key")
    return store


class _Shared:
    """Stores in use and by how many. A file is known by its inode, so that one put in its place is another store."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._stores: dict[Any, tuple[Store, int]] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_mutex)

    def lease(self, url: str | None, token: str | None, timeout: float) -> tuple[Store, Callable[[], None]]:
        token = default_token() if token is None and url is None else token
        address = _checked(url, token)
        with self._mutex:
            key = _identity(address, token, check_timeout(timeout))
            store, users = self._stores.get(key, (None, 0)) if key else (None, 0)
            if store is None:
                store = open_store(url, token=token, timeout=timeout)
                key = _identity(address, token, timeout) or object()
            self._stores[key] = (store, users + 1)
        return store, lambda: self._release(key)

    def _release(self, key: Any) -> None:
        with self._mutex:
            store, users = self._stores.pop(key)
            if users > 1:
                self._stores[key] = (store, users - 1)
                return
        store.close()

    def _renew_mutex(self) -> None:
        self._mutex = threading.RLock()


def _identity(address: str, token: str | None, timeout: float) -> Any:
    """Return what tells one store from another; None for one that does not exist yet or is nobody else's."""
    if not address.startswith("sqlite:"):
        return address, token, timeout
    try:
        facts = Path(sqlite_path(address)).stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, timeout


_SHARED = _Shared()
