"""Removing what a prefix or a session holds, which may be any number of rows.

A transaction keeps all other writers of a file waiting. So a write that removes more than some thousands of rows does so in steps.
Each is a transaction of its own, and its result is `Partial`: the store applies the same write again, after others had their turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile

from msgspec.structs import replace

from ...operations import Clear, Forget, Result, Write
from . import journal, word_index
from .journal import BLOCK_CHARS, CLEARED, DELETED, EXPIRED, POPPED
from .tables import NamespaceState, SessionHead, Tables

REMOVALS = frozenset({Clear, Forget})
"""Operations that are applied in steps when they are alone in their write."""
ROWS = 10_000
"""Rows that are removed in one transaction: some 0.1 s of work. It is also the most operations of a write."""
BYTES = 32 * 1024 * 1024
"""The same in bytes."""
STEP = 1_000
"""Rows that a step removes if there are more. A watcher reads a record of each, and the journal holds some thousands."""


class Partial(int):
    """How many live entries or messages a write has removed so far. More are left."""


class Room:
    """What the removals of one transaction may still remove."""

    def __init__(self) -> None:
        self.rows, self.bytes = ROWS, BYTES

    def take(self, rows: int, length: int) -> None:
        self.rows -= rows
        self.bytes -= length

    def fitting(self, lengths: Iterable[int]) -> int:
        """Return how many rows of these lengths a step removes: at least one, but none after another removal of the transaction."""
        if self.rows < ROWS:
            return 0
        sums = takewhile(lambda total: total <= self.bytes, accumulate(lengths))
        return min(max(sum(1 for _ in sums), 1), STEP)


def is_partial(results: Sequence[Result]) -> bool:
    """Whether these are the results of a write that is to be repeated, because it has removed only some of its rows."""
    return len(results) == 1 and type(results[0]) is Partial


def continued(write: Write, results: Sequence[Result]) -> Write | None:
    """Return the write that removes more; None: these results are final."""
    (removed,) = results
    return replace(write, removed=int(removed)) if isinstance(removed, Partial) else None


def clear(tables: Tables, state: NamespaceState, prefix: str, now: int, room: Room | None = None) -> int:
    """Remove all entries with a prefix; returns how many were live. If there is no room for all, the result is `Partial`."""
    if state.id is None:
        return 0
    if room is not None and tables.has_more_entries(state.id, prefix, max(room.rows, 0)):
        return _clear_some(tables, state, prefix, now, room)
    count, live, length = tables.measure_entries(state.id, prefix, now)
    if room is not None:
        if length > room.bytes:
            return _clear_some(tables, state, prefix, now, room)
        room.take(count, length)
    if count:
        _remove_entries(tables, state, prefix, None, length)
        state.record(CLEARED + prefix)
    return live


def _clear_some(tables: Tables, state: NamespaceState, prefix: str, now: int, room: Room) -> Partial:
    assert state.id is not None
    rows = tables.first_entries(state.id, prefix, now, STEP + 1)
    fitting = room.fitting(length for _, length, _ in rows)
    if not fitting:
        return Partial(0)
    some, end = rows[:fitting], rows[fitting][0] if fitting < len(rows) else None
    length = sum(length for _, length, _ in some)
    room.take(fitting, length)
    _remove_entries(tables, state, prefix, end, length)
    for key, _, is_live in some:
        state.record(f"{DELETED if is_live else EXPIRED}{key}")
        if len(state.recent) > BLOCK_CHARS:  # each further record would copy all of them
            journal.move_to_blocks(tables, state)
    return Partial(sum(is_live for _, _, is_live in some))


def _remove_entries(tables: Tables, state: NamespaceState, prefix: str, end: str | None, length: int) -> None:
    assert state.id is not None
    tables.delete_entries(state.id, prefix, end)
    if state.is_indexed:
        word_index.subtract(state, tables.delete_texts_of_entries(state.id, prefix, end))
    state.bytes -= length


def forget(tables: Tables, state: NamespaceState, name: str, now: int, room: Room | None = None) -> int:
    """Remove a session and what was popped from it; returns how many messages it had. `room` is as of `clear`."""
    if state.id is None:
        return 0
    tables.erase_popped(state.id, name)
    head = tables.peek_session(state.id, name)
    if head is None:
        return 0
    _, last, held = head
    if room is not None:
        if last > room.rows or held > room.bytes:
            return _forget_some(tables, state, name, head, now, room)
        room.take(last, held)
    shorten(tables, state, name, head, 0, held, now)
    return last


def _forget_some(tables: Tables, state: NamespaceState, name: str, head: SessionHead, now: int, room: Room) -> Partial:
    session, last, _ = head
    rows = tables.last_messages(session, last, STEP + 1)
    fitting = room.fitting(length for _, length in rows)
    if not fitting:
        return Partial(0)
    left = rows[fitting][0] if fitting < len(rows) else 0
    length = sum(length for _, length in rows[:fitting])
    room.take(fitting, length)
    shorten(tables, state, name, head, left, length, now)
    return Partial(last - left)


def shorten(
    tables: Tables, state: NamespaceState, name: str, head: SessionHead, left: int, length: int, now: int
) -> None:
    """Remove the messages after `left`, which take `length` bytes, and a session without any."""
    session, last, held = head
    tables.delete_messages(session, left, last)
    if state.is_indexed:
        word_index.subtract(state, tables.delete_texts_of_messages(session, left, last))
    if left:
        tables.set_session(session, left, held - length, now)
    else:
        tables.delete_session(session)
    state.bytes -= length
    state.record(f"{POPPED}{left} {name}")
