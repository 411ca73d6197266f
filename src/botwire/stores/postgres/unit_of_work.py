"""A unit of work with all methods of `Tables`."""

from __future__ import annotations

from collections.abc import Sequence

from ...operations import Append, Delete, Increment, Put, Require, Vector, Write
from ...search.embedding import numbers_of
from ...values import Stored, size
from ..engine.tables import (
    LAST_SEQ,
    SEQ_BITS,
    EntryHead,
    EntryRow,
    EntryToIndex,
    NamespaceId,
    as_json,
    end_of,
)
from .session_work import SessionWork

_KNOWN_BEFOREHAND = frozenset({Put, Delete, Require, Increment, Append})


def is_known_beforehand(write: Write) -> bool:
    """Whether the operations of a write name all rows that it needs, so that these can be fetched at once."""
    return write.also is None and all(type(operation) in _KNOWN_BEFOREHAND for operation in write.operations)


class Unit(SessionWork):
    """One transaction, as `botwire.stores.engine.tables.Tables`: entries, responses, the journal and the index."""

    def peek_entry(self, _namespace: NamespaceId, key: str) -> EntryHead | None:
        return self._fetched().entries[key]

    def peek_value(self, _namespace: NamespaceId, key: str) -> Stored:
        return self._fetched().values[key]

    def put_entry(self, row: EntryRow) -> None:
        _, key, version, created, updated, expires, stored = row
        self._change(self._rows.entries, key, (version, created, expires, size(stored)))
        self._change(self._rows.values, key, stored)
        changed = {"key": key, "version": version, "created": created, "updated": updated, "expires": expires}
        self._change(self._changed.entries, key, {**changed, "bytes" if isinstance(stored, bytes) else "text": stored})

    def delete_entry(self, _namespace: NamespaceId, key: str) -> None:
        self._change(self._rows.entries, key, None)
        self._change(self._changed.entries, key, None)

    def delete_entries(self, namespace: NamespaceId, prefix: str, end: str | None) -> None:
        values = namespace, prefix, end or end_of(prefix)
        self._change_later("delete_entries", *values, vectors="drop_vectors_of_entries")

    def find_response(self, _namespace: NamespaceId, key: str) -> str | None:
        return self._rows.responses.get(key)

    def save_response(self, _namespace: NamespaceId, key: str, created: int, response: str) -> None:
        self._change(self._rows.responses, key, response)
        row = {"idempotency_key": key, "created": created, "results": response}
        self._change(self._changed.responses, key, row)

    def erase_popped(self, namespace: NamespaceId, session: str) -> None:
        self._send_later(("erase_popped", (namespace, session)))

    def purge_responses(self, before: int, limit: int) -> None:
        """As `Tables.purge_responses`, of this namespace, and of popped messages too if it has kept any."""
        earlier = self._changed.purge
        self._changed.purge = before, limit + (0 if earlier is None else earlier[1])
        if self._has_popped:
            self._run("purge_popped", self._namespace, before, limit)
            self._has_popped = False

    def sweep_responses(self, before: int, limit: int) -> int:
        return int(self._one("sweep_responses", before, limit))

    def keep_popped(
        self, namespace: NamespaceId, upto: int, version: int, session: str, created: int, messages: str
    ) -> None:
        self._has_popped = True
        super().keep_popped(namespace, upto, version, session, created, messages)

    def add_journal_block(self, _namespace: NamespaceId, version: int, since: int, records: str, _keep: int) -> None:
        """As `Tables.add_journal_block`. The statement that writes the blocks drops the oldest ones."""
        blocks = self._changed.blocks
        place = len(blocks) + 1
        self._change(blocks, place, {"place": place, "version": version, "since": since, "records": records})

    def held_vector_bytes(self, namespace: NamespaceId) -> int:
        return super().held_vector_bytes(namespace) if self._has_vectors else 0

    def entries_to_index(self, namespace: NamespaceId, keys: Sequence[str], most: int) -> list[EntryToIndex]:
        rows = self._run("entries_to_index", namespace, as_json(keys), most)
        return [(*head, text if data is None else data) for *head, text, data in rows]

    def messages_to_index(self, places: Sequence[int], most: int) -> list[tuple[int, str | None]]:
        return self._run("messages_to_index", self._namespace, as_json(places), most)

    def new_entry_text(self, _namespace: NamespaceId, key: str, version: int) -> int:
        self._entry_texts_ever += 1
        text = self._entry_texts_ever
        if text > LAST_SEQ:
            first = text & LAST_SEQ
            text = self._free_number("free_entry_text", first, LAST_SEQ, self._namespace)
            self._entry_texts_ever += (text - first) % (LAST_SEQ + 1)
        self.renew_entry_text(text, key, version)
        return text

    def renew_entry_text(self, text: int, key: str, version: int) -> None:
        self._changed.texts[text] = {"id": text, "key": key, "version": version}

    def add_text(self, _namespace: NamespaceId, text: int, terms: str, *, replace: bool = False) -> None:
        del replace
        self._changed.texts[text] = {"id": text, **(self._changed.texts.get(text) or {}), "terms": terms}

    def delete_entry_text(self, text: int) -> int:
        self._changed.texts[text] = None
        return 1

    def delete_texts_of_entries(self, namespace: NamespaceId, prefix: str, end: str | None) -> int:
        return self._change_now("delete_texts_of_entries", namespace, prefix, end or end_of(prefix))

    def delete_texts_of_messages(self, session: int, after: int, last: int) -> int:
        start = session << SEQ_BITS
        return self._change_now("delete_texts", self._namespace, start + after + 1, start + last)

    def empty_entries(self, namespace: NamespaceId, limit: int) -> int:
        return self._change_now("delete_some_texts_of_entries", namespace, limit, vectors="delete_some_entry_vectors")

    def empty_messages(self, session: int, last: int, limit: int) -> int:
        start = session << SEQ_BITS
        values = self._namespace, start, start + last, limit
        return self._change_now("delete_some_texts", *values, vectors="delete_some_message_vectors")

    def keep_entry_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        items = [(item.key, item.version, _array(item.vector)) for item in vectors]
        return self._keep_vectors("keep_entry_vectors", namespace, as_json(items), model)

    def keep_message_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        items = [(item.session, item.id, item.version, _array(item.vector)) for item in vectors]
        return self._keep_vectors("keep_message_vectors", namespace, as_json(items), model)

    def _keep_vectors(self, name: str, *values: object) -> int:
        # The statement counts the bytes in the row of the namespace, so that must exist.
        self._create_state()
        self._has_vectors = True
        return self._change_now(name, *values)


def _array(vector: bytes) -> str:
    """Return a vector as an array of PostgreSQL."""
    return f"{{{numbers_of(vector)}}}"
