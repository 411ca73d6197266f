"""The journal: the last changes of each namespace, for watchers.

A change is a record on one line: the version, and what changed. Values are not in it. The newest records are in the
namespace's account, which every write updates anyway. When they exceed a limit, they move to a block of their own, and the
oldest block is dropped. So a write costs almost nothing more, and a namespace keeps some 40,000 changes with short keys.

Every version has a record, and the last record has the namespace's version. If one is missing, an older botwire that has
no journal wrote to the namespace, and no change after that point is delivered.

Kinds of records: ``s`` key set, ``d`` deleted, ``x`` expired, ``c`` prefix cleared, ``a`` messages appended, ``p`` popped.
Neither keys nor session names contain line breaks.
"""

from __future__ import annotations

from typing import NamedTuple

from .account import Account
from .tables import Tables

BLOCK_CHARS = 900
"""The most characters of the records in an account, and of a block. A row of a quarter page needs no overflow page."""
BLOCKS = 1_000
"""Blocks that are kept for each namespace."""

SET, DELETED, EXPIRED, CLEARED = "s", "d", "x", "c"


# Writing


def record_append(account: Account, session: int, first: int, last: int) -> None:
    """Record that messages were appended. Each of them is a change; records that follow each other become one line."""
    account.version += last - first + 1
    start = account.recent.rfind("\n", 0, -1) + 1
    _, _, previous = account.recent[start:-1].partition(" ")
    if previous.startswith(f"a{session} "):
        _, earliest, latest = previous.split(" ")
        if int(latest) + 1 == first:
            account.recent = f"{account.recent[:start]}{account.version} a{session} {earliest} {last}\n"
            return
    account.recent += f"{account.version} a{session} {first} {last}\n"


def record_pop(account: Account, name: str, left: int) -> None:
    """Record that a session was shortened to its first messages."""
    account.record(f"p{left} {name}")


def move_to_blocks(tables: Tables, account: Account) -> None:
    """Move the records in an account into blocks, apart from the last ones."""
    assert account.id is not None
    recent, start = account.recent, 0
    while len(recent) - start > BLOCK_CHARS:
        end = recent.rindex("\n", start, start + BLOCK_CHARS) + 1  # a record is shorter than a block
        block = recent[start:end]
        since = Record.of(block[: block.index("\n")]).since
        tables.add_journal_block(account.id, last_version(block), since, block, BLOCKS)
        start = end
    account.recent = recent[start:]


# Reading


class Record(NamedTuple):
    """A record. ``name`` is a key, a prefix, a session name, or for appended messages the session's number.

    ``first`` and ``last`` are seqs of appended messages. For a shortened session ``first`` is how many messages are left.
    """

    version: int
    kind: str
    name: str
    first: int = 0
    last: int = 0

    @classmethod
    def of(cls, text: str) -> Record:
        """Return the record on a line."""
        number, _, change = text.partition(" ")
        version, kind, rest = int(number), change[:1], change[1:]
        if kind == "a":
            session, first, last = rest.split(" ")
            return cls(version, kind, session, int(first), int(last))
        if kind == "p":
            left, _, name = rest.partition(" ")
            return cls(version, kind, name, int(left))
        return cls(version, kind, rest)

    @property
    def since(self) -> int:
        """The version before this record."""
        return self.version - 1 - (self.last - self.first if self.kind == "a" else 0)


def last_version(records: str) -> int:
    """Return the version of the last record."""
    return int(records[records.rfind("\n", 0, -1) + 1 :].partition(" ")[0])


def records_in(text: str) -> list[Record]:
    """Return the records in a text."""
    return [Record.of(line) for line in text.split("\n")[:-1]]
