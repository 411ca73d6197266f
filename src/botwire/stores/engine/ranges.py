"""Ranges of keys with a prefix."""

from __future__ import annotations

from collections.abc import Iterable

from ...limits import MAX_NAME_BYTES
from .rows import Row

LAST = "\U0010ffff" * (MAX_NAME_BYTES // 4 + 1)
"""Behind every key there can be."""


def one(rows: Iterable[Row]) -> Row:
    """Return the only row."""
    (row,) = rows
    return row


def end_of(prefix: str) -> str:
    """Return where the range of a prefix ends.

    That is the prefix with its last character raised by one; UTF-8 keeps the order of code points (RFC 3629, section 1).
    """
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return LAST
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)
