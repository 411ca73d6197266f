"""The word index and the vectors in a SQLite file: a statement a method, of `botwire.stores.engine.tables`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from ...records import Entry, Message
from ...values import Stored
from ..engine.account import SEQ_BITS, NamespaceId
from ..engine.ranges import end_of
from ..engine.statements import load_queries
from ..engine.tables import EntryVector, MessageVector

_SQL = load_queries(Path(__file__).parent / "sql" / "search.sql")


class SqliteSearchTables:
    """The word index and the vectors. `botwire.stores.sqlite.tables.SqliteTables` has the rest."""

    def __init__(self, execute: Callable[..., Any], changes: Callable[[], int]) -> None:
        self._execute = execute
        self._changes = changes

    # Search

    def count_texts(self, namespace: NamespaceId, terms: Sequence[str]) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._rows("count_texts", namespace, _json(terms)))

    def texts_with_each(
        self, namespace: NamespaceId, terms: Sequence[str], low: int, high: int
    ) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._rows("texts_with_each", namespace, _json(terms), low, high))

    def newest_texts_with(self, namespace: NamespaceId, term: str, low: int, high: int, limit: int) -> list[int]:
        return [text for (text,) in self._rows("newest_texts_with", namespace, term, low, high, limit)]

    def newest_texts_with_both(
        self, namespace: NamespaceId, term: str, others: Sequence[str], low: int, high: int, limit: int
    ) -> list[int]:
        values = namespace, term, _json(others), low, high, limit
        return [text for (text,) in self._rows("newest_texts_with_both", *values)]

    def texts_of_entries(self, namespace: NamespaceId, prefix: str, limit: int) -> list[int]:
        return [text for (text,) in self._rows("texts_of_entries", namespace, prefix, end_of(prefix), limit)]

    def messages_at(self, namespace: NamespaceId, places: Sequence[int]) -> list[tuple[int, str, Message]]:
        rows = self._rows("messages_at", namespace, _json(places))
        return [(place, session, Message(*row)) for place, session, *row in rows]

    def entries_at(self, namespace: NamespaceId, texts: Sequence[int], now: int) -> list[tuple[int, Entry]]:
        return [(text, Entry(*row)) for text, *row in self._rows("entries_at", namespace, _json(texts), now)]

    def entries_named(self, namespace: NamespaceId, keys: Sequence[str], now: int) -> list[Entry]:
        return [Entry(*row) for row in self._rows("entries_named", namespace, _json(keys), now)]

    def nearest_messages(
        self, namespace: NamespaceId, first: int, last: int, model: str, vector: bytes, limit: int
    ) -> list[tuple[int, float | None]]:
        rows = self._rows("nearest_messages", namespace, first, last, model, vector, limit)
        return cast("list[tuple[int, float | None]]", rows)

    def nearest_entries(
        self, namespace: NamespaceId, prefix: str, model: str, vector: bytes, limit: int, now: int
    ) -> list[tuple[str, float | None]]:
        rows = self._rows("nearest_entries", namespace, prefix, end_of(prefix), model, vector, limit, now)
        return cast("list[tuple[str, float | None]]", rows)

    def entries_without_vector(
        self, namespace: NamespaceId, model: str, after: str, limit: int, now: int
    ) -> list[tuple[str, int, Stored]]:
        rows = self._rows("entries_without_vector", namespace, model, after, now, limit)
        return cast("list[tuple[str, int, Stored]]", rows)

    def messages_without_vector(
        self, namespace: NamespaceId, model: str, after: int, limit: int
    ) -> list[tuple[int, str, str, int, str]]:
        rows = self._rows("messages_without_vector", namespace, model, after >> SEQ_BITS, after, limit)
        return cast("list[tuple[int, str, str, int, str]]", rows)

    # The word index

    def entries_to_index(
        self, namespace: NamespaceId, keys: Sequence[str]
    ) -> list[tuple[str, int | None, int | None, int | None, Stored | None]]:
        rows = self._rows("entries_to_index", namespace, _json(keys))
        return cast("list[tuple[str, int | None, int | None, int | None, Stored | None]]", rows)

    def messages_to_index(self, places: Sequence[int]) -> list[tuple[int, str]]:
        return cast("list[tuple[int, str]]", self._rows("messages_to_index", _json(places)))

    def keys_to_index(self, namespace: NamespaceId, after: str, limit: int) -> list[str]:
        return [key for (key,) in self._rows("keys_to_index", namespace, after, limit)]

    def sessions_from(self, namespace: NamespaceId, first: int, limit: int) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._rows("sessions_from", namespace, first, limit))

    def new_entry_text(self, namespace: NamespaceId, key: str, version: int) -> int:
        ((text,),) = self._rows("new_entry_text", namespace, key, version)
        return cast("int", text)

    def renew_entry_text(self, text: int, key: str, version: int) -> None:
        self._rows("renew_entry_text", text, key, version)

    def add_text(self, namespace: NamespaceId, text: int, terms: str, *, replace: bool = False) -> None:
        self._rows("replace_text" if replace else "add_text", namespace, text, terms)

    def delete_entry_text(self, text: int) -> int:
        deleted = self._count("delete_text", text)
        self._rows("delete_entry_text", text)
        return deleted

    def delete_texts_of_entries(self, namespace: NamespaceId, prefix: str) -> int:
        values = namespace, prefix, end_of(prefix)
        deleted = self._count("delete_texts_of_entries", *values)
        self._rows("delete_entry_texts", *values)
        return deleted

    def delete_texts_of_messages(self, session: int, after: int, last: int) -> int:
        start = session << SEQ_BITS
        return self._count("delete_texts", start + after + 1, start + last)

    def empty_entries(self, namespace: NamespaceId, limit: int) -> int:
        names = "delete_some_entry_vectors", "delete_some_texts_of_entries", "delete_some_entry_texts"
        return max(self._count(name, namespace, limit) for name in names)

    def empty_messages(self, session: int, last: int, limit: int) -> int:
        start = session << SEQ_BITS
        names = "delete_some_message_vectors", "delete_some_texts"
        return max(self._count(name, start, start + last, limit) for name in names)

    # Vectors

    def keep_entry_vectors(self, namespace: NamespaceId, vectors: Sequence[EntryVector], model: str) -> int:
        wanted = _json([(key, version, vector.hex()) for key, version, vector in vectors])
        self._rows("drop_entry_vectors", namespace, wanted)
        return self._count("keep_entry_vectors", namespace, wanted, model)

    def keep_message_vectors(self, namespace: NamespaceId, vectors: Sequence[MessageVector], model: str) -> int:
        wanted = _json([(session, id_, created, vector.hex()) for session, id_, created, vector in vectors])
        self._rows("drop_message_vectors", namespace, wanted)
        return self._count("keep_message_vectors", namespace, wanted, model)

    def vector_bytes(self, namespace: NamespaceId) -> int:
        ((length,),) = self._rows("vector_bytes", namespace)
        return cast("int", length)

    def _rows(self, name: str, *values: object) -> list[Any]:
        return cast("list[Any]", self._execute(_SQL[name], values).fetchall())

    def _count(self, name: str, *values: object) -> int:
        """Run a statement, and return how many rows it changed."""
        self._rows(name, *values)
        return self._changes()


def _json(items: Sequence[object]) -> str:
    return msgspec.json.encode(items).decode()
