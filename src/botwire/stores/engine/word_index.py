"""The word index: what a transaction changes in it, and how it is built before the first search.

A namespace has no index before its first search, and until then a write does nothing here. Indexing each text in its own
commit would make writes nearly twice as slow (measured). So the state, which every write updates anyway, lists what is not
indexed yet. The write that makes the list long enough indexes what is on it, up to a limit: it holds the lock of the database, and
may run on an event loop. Later writes continue, or the next search. A search reads the texts on the list itself. It
also reads each hit where it is stored, so an outdated index costs a little time and never shows an outdated text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from ...search.terms import terms_of, text_of_entry, text_of_message
from .tables import FIRST_MESSAGE, NOT_BEGUN, OFF, SEQ_BITS, NamespaceState, Tables, place_of

DUE = 96
"""Entries and messages on the list at which the next write indexes them."""
DUE_CHARS = 1_500
"""Characters of the list at which the next write indexes it: a longer row would need overflow pages."""
DUE_NOW = "\t"
"""In a list that the next write indexes, however short it is. No key has a control character."""
LARGE = 16_384
"""Characters of a text, or of the messages of an append, that are indexed at once. So a search never reads much from the list."""
MANY = 32
"""Messages of an append that are indexed at once."""
LIST_CHARS = 1_000_000
"""Characters that a list may have. Beyond it, a write indexes as much as it adds."""
STEP = 500
"""Texts of either kind that one transaction indexes."""
STEP_BYTES = 1 << 19
"""Bytes of values that one transaction indexes on a thread, in some 0.1 s, and one text at least."""
SHORT_STEP_BYTES = 1 << 16
"""The same for a transaction on an event loop, in some 15 ms."""
_ENTRIES, _MESSAGES = NOT_BEGUN, "messages "
"""`NamespaceState.index_cursor` starts with one of these. The key, or the place, to continue after follows."""


class Allowance:
    """The bytes of values that a transaction may still index. It indexes nothing more once there are none."""

    def __init__(self, bytes_: int) -> None:
        self.bytes = bytes_

    def take(self, values: Sequence[str | bytes | None]) -> None:
        """Subtract values."""
        self.bytes -= sum(len(value) for value in values if value is not None)


# The list: a line for each key (``e``), each message (``m`` and its place), or many messages (``m``, place, tab and number).


def is_due(marks: str) -> bool:
    """Whether the next write indexes what is on the list."""
    return DUE_NOW in marks or (len(marks) > DUE and (len(marks) > DUE_CHARS or marks.count("\n") >= DUE))


def is_behind(state: NamespaceState) -> bool:
    """Whether the index must continue before a search can use it."""
    return state.index_cursor != OFF and (state.index_cursor is not None or is_due(state.pending))


def pending_of(marks: str) -> tuple[list[str], list[range]]:
    """Return the keys and the places of messages on the list."""
    lines = marks.split("\n")[:-1]
    runs = [line[1:].partition(DUE_NOW) for line in lines if line[0] == "m"]
    keys = dict.fromkeys(line[1:] for line in lines if line[0] == "e")
    return list(keys), [range(int(place), int(place) + int(count or 1)) for place, _, count in runs]


def mark_messages(state: NamespaceState, first: int, count: int, length: int) -> None:
    """Put new messages on the list: `count` from a place on, with `length` bytes in all."""
    if count >= MANY or length > LARGE:
        state.mark_unindexed(f"m{first}{DUE_NOW}{count}\n")
        return
    for place in range(first, first + count):
        state.mark_unindexed(f"m{place}\n")


def _marks_of(keys: Sequence[str], runs: Sequence[range]) -> str:
    marks = [f"e{key}\n" for key in keys] + [f"m{run.start}{DUE_NOW}{len(run)}\n" for run in runs]
    return "".join([*marks, f"{DUE_NOW}\n"]) if marks else ""


def _after(runs: Sequence[range], count: int) -> Iterator[range]:
    """Return what is left of runs after this many places."""
    for run in runs:
        if len(run) > count:
            yield run[count:]
        count = max(count - len(run), 0)


# Indexing


def index_pending(tables: Tables, state: NamespaceState, allowance: Allowance) -> bool:
    """Index what is on the list if it is due, within the allowance. Returns whether some of it is left."""
    marks = state.pending
    if not is_due(marks):
        return False
    keys, runs = pending_of(marks)
    state.pending = ""
    half = Allowance(allowance.bytes // 2 if runs else allowance.bytes)  # or entries could leave nothing to messages
    allowance.bytes -= half.bytes
    done = index_entries(tables, state, keys[:STEP], half)
    allowance.bytes += half.bytes
    excess = len(marks) - LIST_CHARS
    while excess > sum(map(len, keys[:done])) and done < len(keys):
        done += index_entries(tables, state, keys[done : done + STEP], Allowance(STEP_BYTES))
    places = list(islice(chain.from_iterable(runs), STEP))
    indexed = index_messages(tables, state, places, allowance)
    state.pending = _marks_of(keys[done:], list(_after(runs, indexed)))
    return bool(state.pending)


def index_entries(tables: Tables, state: NamespaceState, keys: Sequence[str], allowance: Allowance) -> int:
    """Index the entries under these keys as they are now, and remove the texts of those that do not exist.

    Returns how many of the keys it came to.
    """
    assert state.id is not None
    if not keys or allowance.bytes <= 0:
        return 0
    new: list[tuple[int, list[str]]] = []
    rows = tables.entries_to_index(state.id, keys, allowance.bytes)
    allowance.take([row[4] for row in rows])
    # In the order of their ids, or FTS5 starts a new segment for each text.
    for key, text, indexed, version, value in sorted(rows, key=lambda row: row[1] or FIRST_MESSAGE):
        if text is not None and indexed == version:
            continue
        terms = [] if version is None or value is None else terms_of(text_of_entry(key, value))
        if text is None:
            if terms and version is not None:
                new.append((tables.new_entry_text(state.id, key, version), terms))
        elif terms and version is not None:
            tables.renew_entry_text(text, key, version)
            subtract(state, 1)
            _add(tables, state, text, terms, replace=True)
        else:
            subtract(state, tables.delete_entry_text(text))
    for text, terms in sorted(new):
        _add(tables, state, text, terms)
    return len(rows)


def index_messages(tables: Tables, state: NamespaceState, places: Sequence[int], allowance: Allowance) -> int:
    """Index the messages at these places, if they exist and are not indexed. Returns how many of the places it came to."""
    if not places or allowance.bytes <= 0:
        return 0
    rows = tables.messages_to_index(places, allowance.bytes)
    allowance.take([data for _, data in rows])
    for place, data in sorted(
        dict(rows).items()
    ):  # a place is there twice if its message was popped and followed by another
        terms = [] if data is None else terms_of(text_of_message(data))
        if terms:
            _add(tables, state, place, terms)
    return len(rows)


def _add(tables: Tables, state: NamespaceState, text: int, terms: list[str], *, replace: bool = False) -> None:
    assert state.id is not None
    tables.add_text(state.id, text, " ".join(terms), replace=replace)
    state.texts += 1
    state.words += len(terms)


def subtract(state: NamespaceState, removed: int) -> None:
    """Subtract texts from the state. How many words they had is not known: the average is assumed."""
    if state.texts:
        state.words -= state.words * min(removed, state.texts) // state.texts
        state.texts -= min(removed, state.texts)


# Building


def step(tables: Tables, state: NamespaceState) -> None:
    """Index some of what was written before the first search, and record how far it came. Any process can continue."""
    cursor = state.index_cursor
    if state.id is None or cursor is None or cursor == OFF:
        return
    if cursor.startswith(_ENTRIES):
        keys = tables.keys_to_index(state.id, cursor.removeprefix(_ENTRIES), STEP)
        done = index_entries(tables, state, keys, Allowance(STEP_BYTES))
        more = len(keys) == STEP or done < len(keys)
        state.index_cursor = _ENTRIES + keys[done - 1] if more else f"{_MESSAGES}{FIRST_MESSAGE}"
    else:
        _step_messages(tables, state, int(cursor.removeprefix(_MESSAGES)))


def _step_messages(tables: Tables, state: NamespaceState, after: int) -> None:
    assert state.id is not None
    places: list[int] = []
    sessions = tables.sessions_from(state.id, after >> SEQ_BITS, STEP)
    for session, last in sessions:
        start = place_of(session, 0)
        seq = max(after - start, 0)
        until = min(last, seq + STEP - len(places))
        places += range(start + seq + 1, start + until + 1)
        after = start + until
        if len(places) == STEP:
            break
    done = index_messages(tables, state, places, Allowance(STEP_BYTES))
    if done < len(places):
        state.index_cursor = f"{_MESSAGES}{places[done - 1]}"
    else:
        state.index_cursor = f"{_MESSAGES}{after}" if STEP in {len(places), len(sessions)} else None


def turn_off(state: NamespaceState) -> None:
    """Stop indexing a namespace. `empty` removes what is in the index."""
    state.index_cursor, state.pending, state.texts, state.words = OFF, "", 0, 0


def empty(tables: Tables, state: NamespaceState, session: int) -> int | None:
    """Remove some of what the index of a namespace holds, after `turn_off`.

    `session` is 0, or what the last call returned: the session to continue with. None: nothing is left.
    """
    if state.id is None or state.index_cursor != OFF:
        return None
    if not session:
        return 0 if tables.empty_entries(state.id, STEP) == STEP else 1
    for number, last in tables.sessions_from(state.id, session, 1):
        return number if tables.empty_messages(number, last, STEP) == STEP else number + 1
    return None


def turn_on(state: NamespaceState) -> None:
    """Index a namespace from its next search on. The index must be empty."""
    if state.index_cursor == OFF:
        state.index_cursor = NOT_BEGUN
