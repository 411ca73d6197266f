"""Addresses of stores: the default, and what is a valid one."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

from ..errors import InvalidArgument, StoreError
from ..limits import check_text


def default_address() -> str:
    """Return ``$BOTWIRE_URL``, or else `default_path` as an address. Nothing but a file is ever the default."""
    return os.environ.get("BOTWIRE_URL", "").strip() or f"sqlite:///{default_path()}"


def default_path() -> Path:
    """Return the file ``botwire.db`` in the user's data folder."""
    import platformdirs

    return platformdirs.user_data_path("botwire", appauthor=False) / "botwire.db"


def default_token() -> str | None:
    """Return ``$BOTWIRE_TOKEN``, which belongs to the server in ``$BOTWIRE_URL`` and goes nowhere else."""
    return os.environ.get("BOTWIRE_TOKEN", "").strip() or None


def sqlite_path(address: str) -> str:
    """Return the path in ``sqlite:///path``: what follows the three slashes, unchanged."""
    prefix = "sqlite:///"
    if not address.startswith(prefix) or address == prefix:
        raise InvalidArgument(
            f"{address!r} is not an address: write sqlite:///path/to/file.db (an absolute path has four slashes)"
        )
    return check_text(address.removeprefix(prefix), "the path of a file")


def scheme_of(address: str) -> str:
    """Return what an address has before its first colon, in lower case."""
    return address.partition(":")[0].lower()


def _checked(url: str | None, token: str | None, schemes: Container[str]) -> str:
    check_token(token)
    address = default_address() if url is None else url
    if not isinstance(address, str):
        raise InvalidArgument(f"url is a str, not {type(address).__name__}")
    scheme = scheme_of(address)
    if ":" in address and scheme in schemes and (scheme not in {"postgres", "postgresql"} or is_postgres(address)):
        return address
    raise InvalidArgument(
        f"{address!r} is not an address: use sqlite:///path, sqlite:///:memory:, http(s)://host or "
        "postgresql://user@host/database"
    )


def is_postgres(address: str) -> bool:
    """Whether an address is one of PostgreSQL, as libpq takes it."""
    return address.startswith(("postgresql://", "postgres://"))


def check_token(token: object) -> None:
    """Raise `InvalidArgument` unless the token is None or fit for a header: visible ASCII."""
    if token is None:
        return
    if not isinstance(token, str) or not token or not all("!" <= char <= "~" for char in token):
        raise InvalidArgument("a token is a str of visible ASCII characters")


def make_default_folder() -> None:
    """Make the user's data folder, for its owner only. Other folders are not created: a wrong path should be an error."""
    folder = default_path().parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be made: {error.strerror}. Set BOTWIRE_URL to another place"
        ) from error
