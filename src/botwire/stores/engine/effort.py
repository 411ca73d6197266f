"""How many bytes of stored values a transaction touches and returns.

A write of a few bytes may replace, remove or pop many: SQLite takes 7 ms to free the pages of a value of 15 MB.
"""

from __future__ import annotations

import math

from ...errors import InvalidArgument, Unavailable
from ...queries import weight
from ...records import Message
from .tables import Tables

MAX_POPPED = 64 * 1024 * 1024
"""Memory for the messages that a transaction pops, beside the one that reaches it. 32 MiB of text take up to four times as much."""
MAX_DIGITS = 200_000
"""Digits of long numbers that one write increments, together. Those of 4,300 digits take Python 0.3 ms each."""
_LONG = 100
"""Digits of a long number."""


class NotHere(Exception):
    """A transaction would touch more bytes than its caller allows. The caller rolls it back."""


class Effort:
    """What a transaction may still touch and pop.

    Args:
        most: bytes of stored values that it may replace, remove or pop. Beyond them, it raises `NotHere`.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._left = most
        self._room = MAX_POPPED
        self._digits = 0

    def begin_write(self) -> None:
        """Begin to count what is limited for each write."""
        self._digits = 0

    def increment(self, number: str) -> None:
        """Count a number, or raise `InvalidArgument` if the write increments too many long ones."""
        if len(number) > _LONG:
            self._digits += len(number)
            if self._digits > MAX_DIGITS:
                raise InvalidArgument(
                    f"one write may increment {MAX_DIGITS:,} digits of numbers with more than {_LONG}; nothing was written. "
                    "Split it"
                )

    def touch(self, length: int) -> None:
        """Count a value of this length, before it is replaced or removed."""
        self._left -= length
        if self._left < 0:
            raise NotHere

    def messages(self, tables: Tables, session: int, after: int, last: int) -> list[Message]:
        """Return the messages of a session that a write may pop, and count them.

        Raises:
            InvalidArgument: they are too many bytes for one write.
            Unavailable: other writes of the transaction have read so much that there is no room for these.
        """
        had_room = self._room
        found = tables.list_messages(session, after, last, None, int(min(self._room, self._left)))
        length = sum(map(weight, found))
        self.touch(length)
        self._room -= length
        if len(found) == last - after:
            return found
        del found  # or the error would keep them
        if self._left < math.inf:
            raise NotHere
        if had_room < MAX_POPPED:
            raise Unavailable(
                "other messages that are popped now take all the memory for them; nothing was written. Try again"
            )
        raise InvalidArgument(
            f"one write may pop about {MAX_POPPED // 2:,} bytes of messages, and these are more; nothing was written. "
            "Pop fewer messages at a time"
        )
