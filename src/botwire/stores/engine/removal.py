"""Removing what a prefix or a session holds, which may be any number of rows.

A transaction keeps all other writers of a file waiting. So a write that removes more than some thousands of rows does so in steps.
Each is a transaction of its own, and its result is `Partial`: the store applies the same write again, after others had their turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile

from msgspec.structs import replace

from ...operations import Clear, Destroy, Forget, Result, Write
from . import journal, word_index
from .journal import BLOCK_CHARS, CLEARED, DELETED, EXPIRED, POPPED, SESSION_EXPIRED
from .session_tables import Details, is_detached
from .tables import NOT_BEGUN, NamespaceState, SessionHead, Tables

REMOVALS = frozenset({Clear, Forget, Destroy})
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
    """Apply a removal that is alone in its write, or as much of it as one transaction does."""
    operation = write.operations[0]
    if isinstance(operation, Destroy):
        removed = destroy(tables, state, now)
    elif isinstance(operation, Forget):
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
    some = rows[: _fitting((length for _, length, _ in rows), STEP, BYTES)]
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
    if in_steps and (head.last > ROWS or head.bytes > BYTES):
        return _forget_some(tables, state, name, head, now)
    delete_session(tables, state, name, head)
    return head.last


def _forget_some(tables: Tables, state: NamespaceState, name: str, head: SessionHead, now: int) -> Partial:
    left, length = _last_rows(tables, head, STEP, BYTES)
    if left:
        shorten(tables, state, name, head, left, length, now)
    else:
        delete_session(tables, state, name, head)
    return Partial(head.last - left)


def _last_rows(tables: Tables, head: SessionHead, most: int, most_bytes: int) -> tuple[int, int]:
    """Return how many messages are left if a step removes the last ones, and the bytes of those."""
    rows = tables.last_messages(head.id, head.last, most + 1)
    fitting = _fitting((length for _, length in rows), most, most_bytes)
    left = rows[fitting][0] if fitting < len(rows) else 0
    return left, sum(length for _, length in rows[:fitting])


def remove_expired(
    tables: Tables, state: NamespaceState, name: str, head: SessionHead, now: int, most: int, most_bytes: int
) -> int:
    """Remove an expired session, or the last messages of one that was renamed; returns how many messages."""
    assert state.id is not None
    if is_detached(name):
        left, length = _last_rows(tables, head, most, most_bytes)
        if left:
            _delete_messages(tables, state, head, left)
            tables.set_session(head.id, left, head.bytes - length, now)
            state.bytes -= length
        else:
            delete_session(tables, state, name, head, record=None)
        return head.last - left
    tables.erase_popped(state.id, name)
    delete_session(tables, state, name, head, record=SESSION_EXPIRED)
    return head.last


def _fitting(lengths: Iterable[int], most: int, most_bytes: int) -> int:
    """Return how many rows of these lengths a step removes: at least one."""
    sums = takewhile(lambda total: total <= most_bytes, accumulate(lengths))
    return min(max(sum(1 for _ in sums), 1), most)


def shorten(
    tables: Tables,
    state: NamespaceState,
    name: str,
    head: SessionHead,
    left: int,
    length: int,
    now: int,
    *,
    keep: bool = False,
) -> None:
    """Remove the messages after `left`, which take `length` bytes. A session without any is deleted, unless it has details.

    ``keep``: do not delete it, because others are appended.
    """
    assert state.id is not None
    details = tables.get_details(state.id, head.id)
    if not left and details is None and head.expires is None and not keep:
        delete_session(tables, state, name, head)
        return
    _delete_messages(tables, state, head, left)
    freed = drop_summary(tables, state, head, details, left)
    tables.set_session(head.id, left, head.bytes - length - freed, now)
    tables.set_session_version(head.id, state.version + 1)
    state.bytes -= length
    state.record(f"{POPPED}{left} {name}")


def drop_summary(tables: Tables, state: NamespaceState, head: SessionHead, details: Details | None, after: int) -> int:
    """Delete the summary of a session if it covers messages after a seq. Returns its bytes, which the caller subtracts in the session."""
    if details is None or details.upto <= after:
        return 0
    assert state.id is not None
    without = details._replace(upto=0, summary=None)
    tables.put_details(state.id, head.id, without)
    freed = details.bytes - without.bytes
    state.bytes -= freed
    return freed


def delete_session(
    tables: Tables, state: NamespaceState, name: str, head: SessionHead, *, record: str | None = f"{POPPED}0 "
) -> None:
    """Remove a session with its messages and details. ``record``: the beginning of the record for watchers; None: no record."""
    _delete_messages(tables, state, head, 0)
    tables.delete_session(head.id)
    state.bytes -= head.bytes
    if record is not None:
        state.record(f"{record}{name}")


def _delete_messages(tables: Tables, state: NamespaceState, head: SessionHead, left: int) -> None:
    if left >= head.last:
        return
    tables.delete_messages(head.id, left, head.last)
    if state.is_indexed:
        word_index.subtract(state, tables.delete_texts_of_messages(head.id, left, head.last))


def destroy(tables: Tables, state: NamespaceState, now: int) -> int:
    """Remove everything in a namespace, or as much as one transaction does. The plan, the day's writes and the version stay."""
    if state.id is None:
        return 0
    if tables.has_more_entries(state.id, "", 0):
        removed = clear(tables, state, "", now, in_steps=True)
        return Partial(removed)
    removed, left = 0, STEP
    for name, head in tables.some_sessions(state.id, STEP):
        if head.last > left:
            rest, length = _last_rows(tables, head, left, BYTES)
            shorten(tables, state, name, head, rest, length, now)
            return Partial(removed + head.last - rest)
        delete_session(tables, state, name, head)
        removed, left = removed + head.last, left - head.last - 1
        if len(state.recent) > BLOCK_CHARS:
            journal.move_to_blocks(tables, state)
        if left <= 0:
            break
    if left < STEP:
        return Partial(removed)
    state.version += 1  # a version without a record: watchers must read everything again
    tables.empty_namespace(state.id, state.version)
    state.recent = state.pending = ""
    state.index_cursor, state.texts, state.words = NOT_BEGUN, 0, 0
    state.expires = state.sessions_due = state.retention = None
    return 0
