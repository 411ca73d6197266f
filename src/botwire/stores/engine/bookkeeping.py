"""What a transaction needs of tables besides the data: idempotency records, popped messages, and counts of rows."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

NamespaceId: TypeAlias = int | str
"""What a database identifies a namespace by: a number in SQLite, the name itself where tables are split by it."""


class Bookkeeping(Protocol):
    """The part of `Tables` for `idempotency.py` and `accounts.py`, a statement each.

    ``sweep_due``: the time from which on a write removes old idempotency records of any namespace.
    """

    sweep_due: float

    def _run(self, name: str, *values: object) -> list[Any]: ...

    def _value(self, name: str, *values: object) -> Any | None: ...

    def _one(self, name: str, *values: object) -> Any: ...

    # Responses

    def find_response(self, namespace: NamespaceId, key: str) -> str | None:
        return self._value("find_response", namespace, key)

    def save_response(self, namespace: NamespaceId, key: str, created: int, response: str) -> None:
        self._run("save_response", namespace, key, created, response)

    def purge_responses(self, before: int, limit: int) -> None:
        """Remove some of the oldest responses, if they are older than `before`."""
        self._run("purge_responses", before, limit)

    def sweep_responses(self, before: int, limit: int) -> int:
        """Remove some responses and popped messages of any namespace that are older than `before`; returns how many."""

    # Popped messages, which a repeat of their pop returns

    def last_popped(self, namespace: NamespaceId) -> int:
        """Return the bytes of all popped messages that were kept, up to the last that still is."""
        return self._value("last_popped", namespace) or 0

    def find_popped(self, namespace: NamespaceId, upto: int, version: int) -> str | None:
        return self._value("find_popped", namespace, upto, version)

    def keep_popped(
        self, namespace: NamespaceId, upto: int, version: int, session: str, created: int, messages: str
    ) -> None:
        """Keep popped messages of a session, as JSON."""
        self._run("keep_popped", namespace, upto, version, session, created, messages)

    def drop_popped(self, namespace: NamespaceId, upto: int) -> None:
        """Remove the oldest popped messages of a namespace."""
        self._run("drop_popped", namespace, upto)

    def erase_popped(self, namespace: NamespaceId, session: str) -> None:
        """Remove all popped messages of a session."""
        self._run("erase_popped", namespace, session)

    # What the rows hold, which a recount compares with what is counted

    def wrong_sessions(self, namespace: NamespaceId) -> list[tuple[int, str, int, int, int, int]]:
        """Return number, name, messages and bytes of sessions that count them wrongly, then those they have."""
        return self._run("wrong_sessions", namespace)

    def correct_session(self, namespace: NamespaceId, session: int, messages: int, size: int) -> None:
        self._run("correct_session", namespace, session, messages, size)

    def held_bytes(self, namespace: NamespaceId) -> int:
        return int(self._one("held_bytes", namespace))

    def held_vector_bytes(self, namespace: NamespaceId) -> int:
        return int(self._one("held_vector_bytes", namespace))

    def set_vector_bytes(self, namespace: NamespaceId, size: int) -> None:
        self._run("set_vector_bytes", namespace, size)
