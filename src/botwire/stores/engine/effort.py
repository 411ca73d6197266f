"""What a transaction may pop and increment. A write of a few bytes may ask for much."""

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
LONG_NUMBER = 100
"""Digits of a long number."""


class NotHere(Exception):
    """A transaction would replace, remove or pop more bytes than its caller allows. The caller rolls it back.

    SQLite takes 7 ms to free the pages of a value of 15 MB.
    """


class Effort:
    """What the writes of a transaction may still pop and increment."""

    def __init__(self) -> None:
        self._room = MAX_POPPED
        self._digits = 0

    def begin_write(self) -> None:
        """Begin to count what is limited for each write."""
        self._digits = 0

    def increment(self, number: str) -> None:
        """Count a long number, or raise `InvalidArgument` if the write increments too many long ones."""
        self._digits += len(number)
        if self._digits > MAX_DIGITS:
            raise InvalidArgument(
                f"one write may increment {MAX_DIGITS:,} digits of numbers with more than {LONG_NUMBER}; nothing was written. "
                "Split it"
            )

    def messages(self, tables: Tables, session: int, after: int, last: int, most: float) -> tuple[list[Message], int]:
        """Return the messages of a session that a write may pop, and about how many bytes they take, and count them.

        Raises:
            NotHere: they have more than `most` bytes.
            InvalidArgument: they are too many bytes for one write.
            Unavailable: other writes of the transaction have read so much that there is no room for these.
        """
        had_room = self._room
        found = tables.list_messages(session, after, last, None, int(min(self._room, most)))
        length = sum(map(weight, found))
        self._room -= length
        if len(found) == last - after:
            return found, length
        del found  # or the error would keep them
        if most < math.inf:
            raise NotHere
        if had_room < MAX_POPPED:
            raise Unavailable(
                "other messages that are popped now take all the memory for them; nothing was written. Try again"
            )
        raise InvalidArgument(
            f"one write may pop about {MAX_POPPED // 2:,} bytes of messages, and these are more; nothing was written. "
            "Pop fewer messages at a time"
        )
