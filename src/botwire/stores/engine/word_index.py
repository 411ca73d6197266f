"""The word index: what a transaction changes in it, and how it is built before the first search.

A namespace has no index before its first search, and until then a write does nothing here. Indexing each text in its own
commit would make writes nearly twice as slow (measured). So the state, which every write updates anyway, lists what is not
indexed yet. The write that makes the list long enough indexes everything on it. A search reads the texts on the list itself. It
also reads each hit where it is stored, so an outdated index costs a little time and never shows an outdated text.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...search.terms import terms_of, text_of_entry, text_of_message
from .tables import FIRST_MESSAGE, NOT_BEGUN, OFF, SEQ_BITS, NamespaceState, Tables, place_of

DUE = 96
"""Entries and messages on the list at which the next write indexes them."""
DUE_CHARS = 1_500
"""Characters of the list at which the next write indexes it: a longer row would need overflow pages."""
STEP = 500
"""Texts that one transaction indexes, in some 20 ms."""
_ENTRIES, _MESSAGES = NOT_BEGUN, "messages "
"""`NamespaceState.index_cursor` starts with one of these. The key, or the place, to continue after follows."""


def pending_of(marks: str) -> tuple[list[str], list[int]]:
    """Return the keys and the places of messages on the list."""
    lines = marks.split("\n")[:-1]
    return [line[1:] for line in lines if line[0] == "e"], [int(line[1:]) for line in lines if line[0] == "m"]


def index_pending(tables: Tables, state: NamespaceState) -> None:
    """Index everything on the list, if it is long enough."""
    marks = state.pending
    if len(marks) <= DUE or (len(marks) <= DUE_CHARS and marks.count("\n") < DUE):
        return
    keys, places = pending_of(state.pending)
    state.pending = ""
    index_entries(tables, state, keys)
    index_messages(tables, state, places)


def index_entries(tables: Tables, state: NamespaceState, keys: Sequence[str]) -> None:
    """Index the entries under these keys as they are now, and remove the texts of those that do not exist."""
    assert state.id is not None
    new: list[tuple[int, list[str]]] = []
    rows = tables.entries_to_index(state.id, keys) if keys else []
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


def index_messages(tables: Tables, state: NamespaceState, places: Sequence[int]) -> None:
    """Index the messages at these places, if they exist and are not indexed."""
    for place, data in tables.messages_to_index(places) if places else ():
        terms = terms_of(text_of_message(data))
        if terms:
            _add(tables, state, place, terms)


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
        index_entries(tables, state, keys)
        state.index_cursor = _ENTRIES + keys[-1] if len(keys) == STEP else f"{_MESSAGES}{FIRST_MESSAGE}"
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
    index_messages(tables, state, places)
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
