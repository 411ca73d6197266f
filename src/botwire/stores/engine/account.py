"""The usage and state of a namespace: one row, read and written by each transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from .rows import Row

SEQ_BITS = 32
FIRST_MESSAGE = 1 << SEQ_BITS
"""Ids of texts from here on are places of messages, those below are of entries."""
OFF = "off"
"""What `Account.behind` is when nothing is indexed and nobody may search."""
NOT_BEGUN = "entries "
"""What `Account.behind` is until somebody searches: many namespaces never are, and their writes need not pay for it."""


def is_kept(account: Account) -> bool:
    """Whether there is an index, so that what is written has to come into it."""
    return account.behind not in {OFF, NOT_BEGUN}


Place: TypeAlias = int | str
"""What a database knows a namespace by: a number in SQLite, the name itself where tables are split by it."""


@dataclass(slots=True)
class Account:
    """A namespace's row as a transaction goes on. ``id`` is None until something is stored in the namespace.

    ``recent`` are the newest lines of the journal (`botwire.stores.engine.journal`), ``lines`` those to add. ``pending``, ``behind``,
    ``texts`` and ``words`` are about the index of words (`botwire.stores.engine.word_index`). ``vectors`` are the bytes of vectors, which
    the database keeps.
    """

    id: Place | None
    plan: str | None
    day: int
    writes: int
    bytes: int
    version: int
    expires: int | None
    recent: str = ""
    pending: str = ""
    behind: str | None = None
    texts: int = 0
    words: int = 0
    vectors: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def row(self) -> Row:
        """What a transaction puts down, in the order of the columns."""
        counts = self.day, self.writes, self.bytes, self.version, self.expires
        return (self.id, *counts, self.recent, self.pending, self.behind, self.texts, self.words)

    def note(self, mark: str, changes: int = 1) -> None:
        """Count a change, or several, and keep for watchers what it was."""
        self.version += changes
        self.lines.append(f"{self.version} {mark}\n")

    @property
    def held(self) -> int:
        """All bytes that count for a plan."""
        return self.bytes + self.vectors

    def touch(self, mark: str) -> None:
        """Note that something was written that the index does not know."""
        if is_kept(self) and (line := mark + "\n") not in self.pending:
            self.pending += line


def day_of(day: int, today: int) -> int:
    """Return the day that an account's writes count for, when the clock may have been set back since they were counted.

    They count on, so that no day's writes are given twice; but never for a day after tomorrow, or a clock that was once a
    year ahead would shut everybody out for a year.
    """
    return today if day > today + 1 else day
