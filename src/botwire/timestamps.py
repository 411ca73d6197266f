"""Times in microseconds, and ids that sort by time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

from .errors import StoreError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """Return the wall clock in microseconds since 1970, the unit of all stored times."""
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    """Return a stored time as an aware datetime in UTC, or raise `StoreError` if it is damaged."""
    try:
        return _EPOCH + timedelta(0, 0, microseconds)
    except (OverflowError, TypeError) as error:
        raise StoreError(f"a stored time is damaged: {error}. Restore a backup") from error


def new_id() -> str:
    """Return a new id for a message or a write: a UUID of version 7 (RFC 9562, section 5.7).

    It begins with the time, so new ids are added at the end of an index.
    """
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
