"""The index of words: what a transaction changes in it.

A namespace's index begins when it is first searched (`botwire.stores.engine.index_builder`); until then a write has nothing to do here.
A commit of its own for each text would make writes nearly twice as slow (measured). So the namespace's account, which is
written with every write anyway, notes what the index does not know yet, and the write that makes the list long enough indexes
all that is on it. Search reads what is on the list itself. Whatever search finds, it looks up where it is stored; a text in
the index that is out of date costs a little time and is never shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...search.terms import terms_of, text_of_entry, text_of_message
from .account import FIRST_MESSAGE, is_kept
from .rows import Run, as_json

if TYPE_CHECKING:
    from .account import Account


DUE = 96
"""So many things on the list are indexed with the next write."""
DUE_CHARS = 1_500
"""So long a list is, too: longer rows would spread over several pages."""


def entry_mark(key: str) -> str:
    """Return the line on the list for an entry; a key has no line breaks in it."""
    return "e" + key


def message_mark(place: int) -> str:
    """Return the line on the list for a message."""
    return f"m{place}"


def is_due(account: Account) -> bool:
    """Whether it is time to index what is on the list."""
    return len(account.pending) > DUE and (len(account.pending) > DUE_CHARS or account.pending.count("\n") >= DUE)


def pending_of(list_: str) -> tuple[list[str], list[int]]:
    """Return the keys and the places on the list."""
    marks = list_.split("\n")[:-1]
    return [mark[1:] for mark in marks if mark[0] == "e"], [int(mark[1:]) for mark in marks if mark[0] == "m"]


def index_pending(run: Run, account: Account) -> None:
    """Bring into the index what is on the list."""
    keys, places = pending_of(account.pending)
    account.pending = ""
    index_entries(run, account, keys)
    index_messages(run, account, places)


def index_entries(run: Run, account: Account, keys: Sequence[str]) -> None:
    """Index the entries under these keys as they are now, and take out those that are gone."""
    new: list[tuple[int, list[str]]] = []
    rows = list(run("entries_to_index", (account.id, as_json(keys)))) if keys else []
    # In the order of the ids, which is what FTS5 takes without beginning a new segment for each.
    for key, id_, indexed, version, value in sorted(rows, key=lambda row: row[1] or FIRST_MESSAGE):
        if id_ is not None and indexed == version:
            continue
        terms = [] if version is None else terms_of(text_of_entry(key, value))
        if terms and id_ is None:
            ((begun,),) = run("new_entry_text", (account.id, key, version))
            new.append((begun, terms))
        elif terms:
            run("renew_entry_text", (id_, key, version))
            _forget(account, 1)
            _add(run, account, id_, terms, "replace_text")
        elif id_ is not None:
            _count_gone(run, account, "delete_text", (id_,))
            run("delete_entry_text", (id_,))
    for id_, terms in sorted(new):
        _add(run, account, id_, terms)


def index_messages(run: Run, account: Account, places: Sequence[int]) -> None:
    """Index the messages at these places, as far as they are there and not indexed."""
    for place, data in run("messages_to_index", (as_json(places),)) if places else ():
        terms = terms_of(text_of_message(data))
        if terms:
            _add(run, account, place, terms)


def remove_entries(run: Run, account: Account, prefix: str, end: str | bytes) -> None:
    """Take the entries from a prefix to the end of its range out of the index."""
    if not is_kept(account):
        return
    _count_gone(run, account, "delete_texts_of_entries", (account.id, prefix, end))
    run("delete_entry_texts", (account.id, prefix, end))


def remove_messages(run: Run, account: Account, after: int, to: int) -> None:
    """Take the messages after a place and up to another out of the index."""
    if is_kept(account):
        _count_gone(run, account, "delete_texts", (after + 1, to))


def _add(run: Run, account: Account, id_: int, terms: list[str], name: str = "add_text") -> None:
    assert account.id is not None
    run(name, (account.id, id_, " ".join(terms)))
    account.texts += 1
    account.words += len(terms)


def _count_gone(run: Run, account: Account, name: str, values: tuple[Any, ...]) -> None:
    """Delete, and take from the account what was deleted."""
    run(name, values)
    ((gone,),) = run("changes", ())
    _forget(account, gone)


def _forget(account: Account, gone: int) -> None:
    """Take texts from the account. How many words they had is not known: as many as others."""
    if account.texts:
        account.words -= account.words * min(gone, account.texts) // account.texts
        account.texts -= min(gone, account.texts)
