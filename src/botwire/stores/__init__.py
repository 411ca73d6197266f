"""Addresses → stores. `SCHEMES` is the table: a new database is one package and one line in it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ..errors import InvalidArgument, StoreError
from ..forks import ForkAware, register
from ..limits import check_text, check_timeout
from ..plans import Plans
from ..store import MEMORY_CLOSED, AsyncStore, GuardedStore, OperatedStore, Store
from .address import _checked, default_path, default_token, is_postgres, scheme_of, sqlite_path

if TYPE_CHECKING:
    from .wrappers.encrypted import EncryptedStore

EncryptionKey: TypeAlias = str | bytes | Sequence[str | bytes]
"""A key, or several: the first encrypts, all of them decrypt."""
Authorities: TypeAlias = str | os.PathLike[str] | None
"""A file (PEM) or folder of the CA certificates to trust; None: ``$SSL_CERT_FILE``, or else the system's."""

SCHEMES = {
    "sqlite": "botwire.stores.sqlite",
    "postgresql": "botwire.stores.postgres",
    "postgres": "botwire.stores.postgres",
    "http": "botwire.stores.http",
    "https": "botwire.stores.http",
}
"""The package for each scheme of an address, imported when it is first used.

It has a function ``open_store(address, *, token, timeout)`` that returns a `Store`, and ``check_address(address)``, which
returns the address without secrets or raises `InvalidArgument`, and waits for nothing. That of a server also takes ``ca``.
"""
DATABASES = frozenset({"sqlite", "postgresql", "postgres"})
"""The schemes that ``botwire serve`` can serve.

Their package also has ``open_to_serve(address, plans)``, which returns an `OperatedStore`, and ``open_served(address, plans,
on_commit)``, which returns a `GuardedStore`."""

__all__ = [
    "SCHEMES",
    "EncryptionKey",
    "Lease",
    "async_store",
    "default_path",
    "is_postgres",
    "open_served",
    "open_store",
    "open_to_serve",
    "sqlite_path",
]


def open_store(
    url: str | None = None, *, token: str | None = None, timeout: float = 10.0, ca: Authorities = None
) -> Store:
    """Open a store that is shared with no one. Its caller closes it.

    Args:
        url: ``sqlite:///path``, ``sqlite:///:memory:``, ``postgresql://user@host/database``, ``http://host`` or
            ``https://host``; None: ``$BOTWIRE_URL`` or else the default file.
        token: for a server that requires one; None: ``$BOTWIRE_TOKEN`` if `url` is None too.
        timeout: seconds that a call may take, waiting and retries included.
        ca: for ``https``, see `Authorities`.

    Raises:
        InvalidArgument: the address, the token, the timeout or `ca` is not valid.
        StoreError: the file cannot be opened.
    """
    token = default_token() if token is None and url is None else token
    address = _checked(url, token, SCHEMES)
    _check_ca(address, ca)
    package = import_module(SCHEMES[scheme_of(address)])
    only_http = {} if ca is None else {"ca": ca}
    return cast("Store", package.open_store(address, token=token, timeout=timeout, **only_http))


def _check_ca(address: str, ca: Authorities) -> None:
    if ca is not None and not address.lower().startswith(("http://", "https://")):
        raise InvalidArgument(f"ca is for the address of a server, https://host, not for {scheme_of(address)}://")
    if ca is not None and not isinstance(ca, str | os.PathLike):
        raise InvalidArgument(f"ca is the path of a file of CA certificates, not {type(ca).__name__}")
    if ca is not None:
        check_text(os.fspath(ca), "ca")


def open_to_serve(address: str, plans: Plans) -> OperatedStore:
    """Open a database for its operator, who decides on plans: ``sqlite:///path`` or ``postgresql://…``.

    Raises:
        InvalidArgument: not the address of a database.
        StoreError, Unavailable: it cannot be opened.
    """
    return cast("OperatedStore", _database(address).open_to_serve(address, plans))


def open_served(address: str, plans: Plans, on_commit: Callable[[int], None]) -> GuardedStore:
    """Open a database for a server: for an event loop that has no other work, and authorizes its callers.

    Args:
        address: as for `open_to_serve`, with the same errors.
        plans: of the operator.
        on_commit: called with the number of writes of each commit, if the store makes the commits itself.
    """
    return cast("GuardedStore", _database(address).open_served(address, plans, on_commit))


def _database(address: str) -> Any:
    scheme = scheme_of(address)
    # The error of SQLite says what an address of a file looks like.
    return import_module(SCHEMES[scheme if scheme in DATABASES else "sqlite"])


def async_store(store: Store) -> AsyncStore:
    """Return the event loop's side of a store, which closes it."""
    return store.to_async()


class Lease(ForkAware):
    """One user's share in a store: checked at once, opened when first used, shared by all that name the same address.

    The address is as for `open_store`. `encryption_key` is for values to be encrypted before they reach the store. `store` is
    one that the caller opened and closes, in place of an address.
    """

    def __init__(
        self,
        url: str | None,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        ca: Authorities = None,
        encryption_key: EncryptionKey | None = None,
        store: Store | None = None,
    ) -> None:
        if store is not None and (url is not None or token is not None or ca is not None):
            raise InvalidArgument("pass either store= or url=, token= and ca=: a store has these already")
        self._token = default_token() if token is None and url is None else token
        self._url = "" if store is not None else _checked(url, self._token, SCHEMES)
        self._is_default, self._has_token = url is None, token is not None
        self._timeout = check_timeout(timeout)
        self._ca = ca
        if store is None:
            _check_ca(self._url, ca)
        else:
            _check_store(store)
        self._given = store
        self._wrap: Callable[[Store], Store] = _traced if encryption_key is None else _encrypting(encryption_key)
        self.is_encrypted = encryption_key is not None
        self._mutex = threading.Lock()
        self._share: _Share | None = None
        self.opened: Store | None = None
        """The store while it is open: `store` then returns at once."""
        self._released = False
        register(self)

    def after_fork_in_child(self) -> None:
        # Another thread may have been opening the store.
        self._mutex = threading.Lock()

    @property
    def address(self) -> str:
        """As `Store.address`; opens nothing.

        Raises:
            InvalidArgument: the address is not valid.
        """
        if self._given is not None:
            return self._given.address
        return cast("str", import_module(SCHEMES[scheme_of(self._url)]).check_address(self._url))

    def store(self) -> Store:
        """Return the store, and open it if it is not open yet: this may wait for a disk or a network.

        Raises:
            StoreError, Unavailable: it cannot be opened, or the lease was released before it was.
        """
        opened = self.opened
        if opened is None:
            with self._mutex:
                opened = self.opened
                if opened is None:
                    if self._released:
                        raise StoreError(MEMORY_CLOSED)
                    if self._given is None:
                        self._share = _SHARED.take(self._url, self._token, self._timeout, self._ca)
                        self._given = self._share.store
                    assert self._given is not None
                    opened = self.opened = self._wrap(self._given)
        return opened

    def place(self) -> dict[str, Any]:
        """Return the arguments for a lease of the same store in another process. A pickle holds them, so they contain no secret.

        Raises:
            TypeError: it takes more than that.
        """
        has_password = is_postgres(self._url) and self.address != self._url and not self._is_default
        for unfit, what, cure in (
            (self._has_token, "with token=", "set BOTWIRE_URL and BOTWIRE_TOKEN for both processes instead"),
            (self.is_encrypted, "with encryption_key=", "create it with its key in the other process"),
            (not self._url, "with store=", "create it in the other process"),
            (self._url == "sqlite:///:memory:", "in memory", "use a file or a server for several processes"),
            (has_password, "whose address has a password", "set PGPASSWORD for both processes instead"),
        ):
            if unfit:
                raise TypeError(f"a memory {what} is not pickled: {cure}")
        ca = None if self._ca is None else os.fspath(self._ca)
        return {"url": None if self._is_default else self.address, "timeout": self._timeout, "ca": ca}

    def encrypted_or_raise(self) -> None:
        """Raise `InvalidArgument` unless the store encrypts values."""
        if not self.is_encrypted:
            raise InvalidArgument("this memory has no encryption_key")

    def encrypted(self) -> EncryptedStore:
        """As `store`; raises `InvalidArgument` unless it encrypts values."""
        self.encrypted_or_raise()
        return cast("EncryptedStore", self.store())

    def release(self) -> None:
        """Give the share back. The last one closes the store, which waits for its threads. A second time does nothing."""
        with self._mutex:
            share, self._share, self.opened, self._released = self._share, None, None, True
        if share is not None:
            _SHARED.give_back(share)

    def drop(self) -> None:
        """Give the share back later, in another thread: for a finalizer, which may run anywhere and must not wait."""
        _SHARED.dropped.put(self)


def _check_store(store: object) -> None:
    members = ("address", "read", "write", "changes", "to_async", "propagate", "close")
    missing = [name for name in members if not hasattr(store, name)]
    if isinstance(store, type) or missing:
        what = f"the class {store.__name__}" if isinstance(store, type) else f"a {type(store).__name__}"
        without = f" without {', '.join(missing)}" if missing else ""
        raise InvalidArgument(f"store= takes an object that implements botwire.store.Store, not {what}{without}")


def _encrypting(key: EncryptionKey) -> Callable[[Store], Store]:
    from .wrappers.cipher import Cipher
    from .wrappers.encrypted import EncryptedStore

    cipher = Cipher(key)
    return lambda store: EncryptedStore(_traced(store), cipher)


def _traced(store: Store) -> Store:
    """Return a store whose calls are spans, if the program has imported OpenTelemetry; else the store as it is."""
    if "opentelemetry.trace" not in sys.modules:
        return store
    from .wrappers import is_wanted

    if not is_wanted():
        return store
    from .wrappers import tracing

    store.propagate(tracing.context_fields)
    return tracing.TracedStore(store, tracing.Tracing())


@dataclass(slots=True)
class _Share:
    """A store that leases share, and how many of them do."""

    key: Hashable
    users: int = 0
    opening: threading.Lock = field(default_factory=threading.Lock)
    store: Store | None = None


class _Shared(ForkAware):
    """The stores in use. A file is identified by its inode, so that another file under the same path is another store.

    `_mutex` is held for bookkeeping only, never while a store opens or closes. A finalizer takes no lock: it puts its lease
    into `dropped`, and a thread of this object releases it.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._stores: dict[Hashable, _Share] = {}
        self._closer: threading.Thread | None = None
        # The one queue that a finalizer may use: its `put` never waits.
        self.dropped: SimpleQueue[Lease] = SimpleQueue()
        register(self)

    def take(self, address: str, token: str | None, timeout: float, ca: Authorities) -> _Share:
        """Return the share for an address, with its store open."""
        key = _identity(address, token, timeout, ca)
        with self._mutex:
            if self._closer is None:
                self._closer = threading.Thread(target=self._close_dropped, name="botwire-close", daemon=True)
                self._closer.start()
            share = self._stores.get(key)
            if share is None or getattr(share.store, "has_left", False):
                share = self._stores[key] = _Share(key)
            share.users += 1
        try:
            with share.opening:
                if share.store is None:
                    share.store = open_store(address, token=token, timeout=timeout, ca=ca)
                    self._rename(share, _identity(address, token, timeout, ca))
        except BaseException:
            self.give_back(share)
            raise
        return share

    def give_back(self, share: _Share) -> None:
        """Count one user less, and close the store after the last."""
        with self._mutex:
            share.users -= 1
            if share.users:
                return
            if self._stores.get(share.key) is share:
                del self._stores[share.key]
        if share.store is not None:
            share.store.close()

    def _rename(self, share: _Share, key: Hashable) -> None:
        """Enter a file that has just been created under its inode. Another path to it may have been quicker."""
        with self._mutex:
            if key not in self._stores and self._stores.get(share.key) is share:
                del self._stores[share.key]
                share.key = key
                self._stores[key] = share

    def _close_dropped(self) -> None:
        while True:
            self.dropped.get().release()

    def finish(self) -> None:
        """Release what was dropped, at the end of the process, when its other threads have ended."""
        while not self.dropped.empty():
            self.dropped.get().release()

    def before_fork(self, _: float) -> None:
        """Let no thread be inside the bookkeeping."""
        self._mutex.acquire()

    def after_fork(self) -> None:
        self._mutex.release()

    def after_fork_in_child(self) -> None:
        """Forget the thread, which stays in the parent, and what another thread was opening."""
        self._mutex = threading.Lock()
        self._closer = None
        self.dropped = SimpleQueue()
        self._stores = {key: share for key, share in self._stores.items() if share.store is not None}
        for share in self._stores.values():
            share.opening = threading.Lock()


def _identity(address: str, token: str | None, timeout: float, ca: Authorities) -> Hashable:
    """Return what distinguishes one store from another. A database in memory belongs to its opener alone."""
    if scheme_of(address) != "sqlite":
        return address, token, timeout, ca
    path = sqlite_path(address)
    if path == ":memory:":
        return object()
    try:
        facts = Path(path).stat()
    except OSError:  # it does not exist yet
        return str(Path(path).absolute()), timeout
    return facts.st_dev, facts.st_ino, timeout


_SHARED = _Shared()
atexit.register(_SHARED.finish)
