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


def is_partial(results: Sequence[Result]) -> bool:
    """Whether these are the results of a write that is to be repeated, because it has removed only some of its rows."""
    return len(results) == 1 and type(results[0]) is Partial


def continued(write: Write, results: Sequence[Result]) -> Write | None:
    """Return the write that removes more; None: these results are final."""
    (removed,) = results
    return replace(write, removed=int(removed)) if isinstance(removed, Partial) else None


def remove(tables: Tables, state: NamespaceState, write: Write, now: int) -> int:
    """Apply a clear or forget that is alone in its write, or as much of it as one transaction does."""
    operation = write.operations[0]
    if isinstance(operation, Forget):
        removed = forget(tables, state, operation.session, now, in_steps=True)
    else:
        assert isinstance(operation, Clear)
        removed = clear(tables, state, operation.prefix, now, in_steps=True)
    return type(removed)(write.removed + removed)


def clear(tables: Tables, state: NamespaceState, prefix: str, now: int, *, in_steps: bool = False) -> int:
    """Remove all entries with a prefix; returns how many were live.

    With ``in_steps``, more than `ROWS` or `BYTES` are not removed at once, and the result is `Partial`.
    """
    if state.id is None:
        return 0
    if in_steps and tables.has_more_entries(state.id, prefix, ROWS):
        return _clear_some(tables, state, prefix, now)
    count, live, length = tables.measure_entries(state.id, prefix, now)
    if in_steps and length > BYTES:
        return _clear_some(tables, state, prefix, now)
    if count:
        _remove_entries(tables, state, prefix, None, length)
        state.record(CLEARED + prefix)
    return live


def _clear_some(tables: Tables, state: NamespaceState, prefix: str, now: int) -> Partial:
    assert state.id is not None
    rows = tables.first_entries(state.id, prefix, now, STEP + 1)
    some = rows[: _fitting(length for _, length, _ in rows)]
    end = rows[len(some)][0] if len(some) < len(rows) else None
    _remove_entries(tables, state, prefix, end, sum(length for _, length, _ in some))
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


def forget(tables: Tables, state: NamespaceState, name: str, now: int, *, in_steps: bool = False) -> int:
    """Remove a session and what was popped from it; returns how many messages it had. `in_steps` is as for `clear`."""
    if state.id is None:
        return 0
    tables.erase_popped(state.id, name)
    head = tables.peek_session(state.id, name)
    if head is None:
        return 0
    _, last, held = head
    if in_steps and (last > ROWS or held > BYTES):
        return _forget_some(tables, state, name, head, now)
    shorten(tables, state, name, head, 0, held, now)
    return last


def _forget_some(tables: Tables, state: NamespaceState, name: str, head: SessionHead, now: int) -> Partial:
    session, last, _ = head
    rows = tables.last_messages(session, last, STEP + 1)
    fitting = _fitting(length for _, length in rows)
    left = rows[fitting][0] if fitting < len(rows) else 0
    shorten(tables, state, name, head, left, sum(length for _, length in rows[:fitting]), now)
    return Partial(last - left)


def _fitting(lengths: Iterable[int]) -> int:
    """Return how many rows of these lengths a step removes: at least one."""
    sums = takewhile(lambda total: total <= BYTES, accumulate(lengths))
    return min(max(sum(1 for _ in sums), 1), STEP)


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
