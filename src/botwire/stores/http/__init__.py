"""The store of a server, over HTTP."""

from __future__ import annotations

import os

from .store import HttpStore


def open_store(
    address: str, *, token: str | None, timeout: float, ca: str | os.PathLike[str] | None = None
) -> HttpStore:
    """Return a store that reaches a server over HTTP; see `botwire.stores.open_store`."""
    return HttpStore(address, token=token, timeout=timeout, ca=ca)


def check_address(address: str) -> str:
    """Return the address, or raise `InvalidArgument`; see `botwire.stores.SCHEMES`. It connects to nothing."""
    return HttpStore(address).address
