"""The word index: what a transaction changes in it.

A namespace has no index before its first search (`botwire.stores.engine.index_builder`), and until then a write does nothing
here. Indexing each text in its own commit would make writes nearly twice as slow (measured). So the account, which every
write updates anyway, lists what is not indexed yet. The write that makes the list long enough indexes everything on it.
A search reads the texts on the list itself. It also reads each hit where it is stored, so an outdated index costs a little
time and never shows an outdated text.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...search.terms import terms_of, text_of_entry, text_of_message
from .account import FIRST_MESSAGE, Account
from .tables import Tables

DUE = 96
"""Entries and messages on the list at which the next write indexes them."""
DUE_CHARS = 1_500
"""Characters of the list at which the next write indexes it: a longer row would need overflow pages."""


def is_due(account: Account) -> bool:
    """Whether the list is long enough to be indexed."""
    return len(account.pending) > DUE and (len(account.pending) > DUE_CHARS or account.pending.count("\n") >= DUE)


def pending_of(marks: str) -> tuple[list[str], list[int]]:
    """Return the keys and the places of messages on the list."""
    lines = marks.split("\n")[:-1]
    return [line[1:] for line in lines if line[0] == "e"], [int(line[1:]) for line in lines if line[0] == "m"]


def index_pending(tables: Tables, account: Account) -> None:
    """Index everything on the list."""
    keys, places = pending_of(account.pending)
    account.pending = ""
    index_entries(tables, account, keys)
    index_messages(tables, account, places)


def index_entries(tables: Tables, account: Account, keys: Sequence[str]) -> None:
    """Index the entries under these keys as they are now, and remove the texts of those that do not exist."""
    assert account.id is not None
    new: list[tuple[int, list[str]]] = []
    rows = tables.entries_to_index(account.id, keys) if keys else []
    # In the order of their ids, or FTS5 starts a new segment for each text.
    for key, text, indexed, version, value in sorted(rows, key=lambda row: row[1] or FIRST_MESSAGE):
        if text is not None and indexed == version:
            continue
        terms = [] if version is None or value is None else terms_of(text_of_entry(key, value))
        if text is None:
            if terms and version is not None:
                new.append((tables.new_entry_text(account.id, key, version), terms))
        elif terms and version is not None:
            tables.renew_entry_text(text, key, version)
            _subtract(account, 1)
            _add(tables, account, text, terms, replace=True)
        else:
            _subtract(account, tables.delete_entry_text(text))
    for text, terms in sorted(new):
        _add(tables, account, text, terms)


def index_messages(tables: Tables, account: Account, places: Sequence[int]) -> None:
    """Index the messages at these places, if they exist and are not indexed."""
    for place, data in tables.messages_to_index(places) if places else ():
        terms = terms_of(text_of_message(data))
        if terms:
            _add(tables, account, place, terms)


def remove_entries(tables: Tables, account: Account, prefix: str) -> None:
    """Remove the entries with a prefix from the index."""
    if account.is_indexed and account.id is not None:
        _subtract(account, tables.delete_texts_of_entries(account.id, prefix))


def remove_messages(tables: Tables, account: Account, session: int, after: int, last: int) -> None:
    """Remove the messages of a session with a seq above `after`, up to `last`, from the index."""
    if account.is_indexed:
        _subtract(account, tables.delete_texts_of_messages(session, after, last))


def _add(tables: Tables, account: Account, text: int, terms: list[str], *, replace: bool = False) -> None:
    assert account.id is not None
    tables.add_text(account.id, text, " ".join(terms), replace=replace)
    account.texts += 1
    account.words += len(terms)


def _subtract(account: Account, removed: int) -> None:
    """Subtract texts from the account. How many words they had is not known: the average is assumed."""
    if account.texts:
        account.words -= account.words * min(removed, account.texts) // account.texts
        account.texts -= min(removed, account.texts)
