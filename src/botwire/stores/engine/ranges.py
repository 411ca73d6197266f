"""Ranges of keys with a prefix."""

from __future__ import annotations

from ...limits import MAX_NAME_BYTES

LAST = "\U0010ffff" * (MAX_NAME_BYTES // 4 + 1)
"""After every possible key."""


def end_of(prefix: str) -> str:
    """Return where the range of a prefix ends.

    That is the prefix with its last character raised by one; UTF-8 keeps the order of code points (RFC 3629, section 1).
    """
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return LAST
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)
