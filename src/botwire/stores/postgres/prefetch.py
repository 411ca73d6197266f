"""The rows that a group of writes needs, fetched at once at the beginning of its transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...operations import Append, Delete, Increment, Operation, Put, Write
from .statements import Statement
from .tables import as_json

_KNOWN_BEFOREHAND = frozenset({Put, Delete, Increment, Append})


def is_known_beforehand(write: Write) -> bool:
    """Whether the operations of a write name all rows that it needs, so that these can be fetched at once."""
    return all(type(operation) in _KNOWN_BEFOREHAND for operation in write.operations)


class Prefetch:
    """The rows that some writes need.

    Args:
        writes: the writes.
        new_ids: no message of the writes exists yet, so none is fetched.
    """

    def __init__(self, writes: Sequence[Write], *, new_ids: bool) -> None:
        self._new_ids = new_ids
        self.keys: set[str] = set()
        self.numbers: set[str] = set()
        self.sessions: set[str] = set()
        self.messages: list[dict[str, str]] = []
        self.responses = {write.idempotency_key for write in writes if write.idempotency_key is not None}
        for write in writes:
            for operation in write.operations:
                self._add(operation)

    def _add(self, operation: Operation) -> None:
        match operation:
            case Put(key=key) | Delete(key=key):
                self.keys.add(key)
            case Increment(key=key):
                self.keys.add(key)
                self.numbers.add(key)
            case Append(session=name, messages=messages):
                self.sessions.add(name)
                if not self._new_ids:
                    self.messages += [{"name": name, "id": message.id} for message in messages]
            case _:
                session = getattr(operation, "session", None)
                if session is not None:
                    self.sessions.add(session)

    def statements(self, namespace: str) -> list[Statement]:
        """Return the statements that fetch the rows."""
        wanted: list[tuple[str, Iterable[Any]]] = [
            ("fetch_entries", self.keys),
            ("fetch_values", self.numbers),
            ("fetch_sessions", self.sessions),
            ("fetch_messages", self.messages),
            ("fetch_responses", self.responses),
        ]
        return [(name, (namespace, as_json(list(items)))) for name, items in wanted if items]
