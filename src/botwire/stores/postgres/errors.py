"""Map psycopg errors to botwire errors, and decide which ones are worth a retry."""

from __future__ import annotations

import psycopg

from ...errors import BotWireError, StoreError, Timeout, Unavailable
from .connection import Late


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection was lost, so that a commit may have happened."""
    return error.sqlstate is None or error.sqlstate[:2] == "08" or error.sqlstate[:3] == "57P"


_PASSING = frozenset({"25006", "25P03", "25P04", "26000", "42P05", "53300", "55P03", "23505"})
"""A standby, an idle transaction that was ended, a pooler, too many connections, a lock. And a unique violation: two clients
created the same namespace, or a message is stored already."""


def is_passing(error: Exception) -> bool:
    """Whether an error may go away, so that a retry makes sense."""
    if isinstance(error, BotWireError):
        return isinstance(error, Unavailable)
    assert isinstance(error, psycopg.Error)
    return is_lost(error) or error.sqlstate in _PASSING or (error.sqlstate or "")[:2] == "40"


def mapped(address: str, error: Exception) -> BotWireError:
    """Return the botwire error for an error of PostgreSQL."""
    if isinstance(error, BotWireError):
        return error
    assert isinstance(error, psycopg.Error)
    # The details of an error can contain values; its first line does not.
    said = error.diag.message_primary or str(error).strip().partition("\n")[0]
    if isinstance(error, Late):  # not from the server, so it has no state
        return Timeout(f"{address}: {_LATE} ({said})")
    state = error.sqlstate or ""
    for states, cls, text in _MAPPED:
        if state.startswith(states):
            return cls(f"{address}: {text} ({said})")
    if not state or is_passing(error):
        return Unavailable(f"{address} cannot be reached: {said}. Is the server running, and is the address right?")
    return StoreError(f"{address}: PostgreSQL failed: {said}")


_LATE = "no answer in time; nothing was written, try again"
_MAPPED: tuple[tuple[tuple[str, ...], type[BotWireError], str], ...] = (
    (("55P03", "57014", "25P03", "25P04"), Timeout, _LATE),
    (("53100",), StoreError, "the server's disk is full; nothing was written. Free some space, then try again"),
    (("53",), Unavailable, "the server has no memory or connections left; nothing was written"),
    (("42501",), StoreError, "permission denied: the role must own the schema botwire, or be allowed to create it"),
    (("XX001", "XX002"), StoreError, "the database is damaged: restore a backup"),
)
