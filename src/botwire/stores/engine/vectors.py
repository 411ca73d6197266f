"""Vectors: which texts have none, and storing them.

A text has at most one vector, which is removed with the text: in SQLite by triggers, in PostgreSQL by statements of the same
transaction. In SQLite vectors are in ordinary tables, and sqlite-vec only computes distances. So a process that writes and
deletes needs no extension, and no write waits for a vector. In PostgreSQL they are in columns of pgvector's type, because
converting arrays takes longer than comparing vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import InvalidArgument
from ...operations import Operation, SetVectors
from ...queries import ListTexts, Query, Search
from ...records import Text
from ...search.terms import text_of_entry, text_of_message
from .account import FIRST_MESSAGE, OFF, NamespaceId
from .tables import EntryVector, MessageVector, ReadTables, Tables

_PAGE = 500


def refuse_if_off(namespace: str, index_cursor: str | None) -> None:
    """Raise `InvalidArgument` when the index of a namespace is off."""
    if index_cursor == OFF:
        raise InvalidArgument(f"namespace {namespace!r} cannot be searched: its index is off")


def needs_vectors(asked: Query[Any] | Sequence[Operation]) -> bool:
    """Whether a query or a write reads or stores vectors."""
    if isinstance(asked, Query):
        return isinstance(asked, ListTexts) or (isinstance(asked, Search) and asked.vector is not None)
    return any(isinstance(op, SetVectors) for op in asked)


def list_texts(tables: ReadTables, namespace: NamespaceId, query: ListTexts, now: int) -> list[Text]:
    """Return texts that have no vector of a model."""
    found: list[Text] = []
    for text in _texts(tables, namespace, query.model, query.after, now):
        if len(found) == query.limit:
            break
        found.append(text)
    return found


def _texts(tables: ReadTables, namespace: NamespaceId, model: str, after: str, now: int) -> Iterator[Text]:
    """Return entries by key, then messages by place. The cursor is ``e`` and a key, or ``m`` and a place."""
    key, place = ("", int(after[1:])) if after[:1] == "m" else (after[1:], FIRST_MESSAGE)
    while after[:1] != "m" and (entries := tables.entries_without_vector(namespace, model, key, _PAGE, now)):
        for key, version, value in entries:
            text = text_of_entry(key, value)
            if text:
                yield Text(text, f"e{key}", key=key, version=version)
    while messages := tables.messages_without_vector(namespace, model, place, _PAGE):
        for place, session, id_, created, data in messages:
            text = text_of_message(data)
            if text:
                yield Text(text, f"m{place}", version=created, session=session, id=id_)


def set_vectors(tables: Tables, namespace: NamespaceId, op: SetVectors) -> int:
    """Store vectors of texts that have not changed; returns how many. Of several for one text, the last counts."""
    entries: dict[str, EntryVector] = {}
    messages: dict[tuple[str, str], MessageVector] = {}
    for item in op.vectors:
        if item.key is not None:
            entries[item.key] = item.key, item.version, item.vector
        elif item.session is not None and item.id is not None:
            messages[item.session, item.id] = item.session, item.id, item.version, item.vector
    kept = tables.keep_entry_vectors(namespace, list(entries.values()), op.model) if entries else 0
    return kept + (tables.keep_message_vectors(namespace, list(messages.values()), op.model) if messages else 0)
