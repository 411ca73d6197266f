"""The usage and state of a namespace: one row, read and written by each transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

NamespaceId: TypeAlias = int | str
"""What a database identifies a namespace by: a number in SQLite, the name itself where tables are split by it."""

SEQ_BITS = 32
FIRST_MESSAGE = 1 << SEQ_BITS
"""Text ids from here on are places of messages. Smaller ones belong to entries."""
OFF = "off"
"""`Account.index_cursor` when nothing is indexed and searches are refused."""
NOT_BEGUN = "entries "
"""`Account.index_cursor` until the first search. Most namespaces are never searched, so their writes do not pay for an index."""


def place_of(session: int, seq: int) -> int:
    """Return the place of a message: its session and seq in one number."""
    return session << SEQ_BITS | seq


@dataclass(slots=True)
class Account:
    """The row of a namespace, as a transaction changes it. ``id`` is None until something is stored in the namespace.

    ``recent`` holds the newest records of the journal (`botwire.stores.engine.journal`). ``pending``, ``index_cursor``,
    ``texts`` and ``words`` belong to the word index (`botwire.stores.engine.word_index`). ``vectors`` is the bytes of all
    vectors; the database counts them. ``is_system`` is not in the row: no plan limits such a namespace.
    """

    id: NamespaceId | None
    plan: str | None
    day: int
    writes: int
    bytes: int
    version: int
    expires: int | None
    recent: str = ""
    pending: str = ""
    index_cursor: str | None = None
    texts: int = 0
    words: int = 0
    vectors: int = 0
    is_system: bool = False

    @property
    def is_indexed(self) -> bool:
        """Whether the namespace has a word index, which must learn of each write."""
        return self.index_cursor != NOT_BEGUN and self.index_cursor != OFF  # noqa: PLR1714 - a set costs more

    @property
    def held(self) -> int:
        """All bytes that count toward a plan."""
        return self.bytes + self.vectors

    def record(self, change: str) -> None:
        """Count one change, and record it for watchers. The journal defines what a record looks like."""
        self.version += 1
        self.recent += f"{self.version} {change}\n"

    def record_entry(self, kind: str, key: str) -> None:
        """Count and record a change of an entry, and mark the entry for the word index."""
        self.version += 1
        self.recent += f"{self.version} {kind}{key}\n"
        if self.index_cursor != NOT_BEGUN and self.index_cursor != OFF:  # noqa: PLR1714 - a set costs more
            self.mark_unindexed(f"e{key}\n")

    def mark_unindexed(self, mark: str) -> None:
        """Add a mark to the list of what the word index does not have yet."""
        if mark not in self.pending:
            self.pending += mark


def day_of(day: int, today: int) -> int:
    """Return the day that an account's writes count for when the clock may have been set back since.

    The count continues, so no day's writes are granted twice. It never counts for a day after tomorrow, or a clock that was
    once a year ahead would block the namespace for a year.
    """
    return day if day <= today + 1 else today
