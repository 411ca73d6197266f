"""The rows that a unit of work has fetched, and those that it has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...operations import Append, Delete, Fork, Increment, Operation, Put, Replace, Require, Write
from ...values import Stored
from ..engine.journal import BLOCKS
from ..engine.tables import EntryHead, SessionHead, as_json
from .statements import Row, Statement


class NeededRows:
    """The rows that some writes need, with the changes so far. None: there is no such row.

    ``new_ids``: no message of the writes exists yet, so none is fetched.
    """

    def __init__(self, writes: Sequence[Write], *, new_ids: bool) -> None:
        self._new_ids = new_ids
        self._keys: set[str] = set()
        self._numbers: set[str] = set()
        self._names: set[str] = set()
        self._messages: list[dict[str, str]] = []
        self._idempotency_keys = {write.idempotency_key for write in writes if write.idempotency_key is not None}
        for write in writes:
            for operation in write.operations:
                self._add(operation)
        self.entries: dict[str, EntryHead | None] = {}
        self.values: dict[str, Stored] = {}
        self.sessions: dict[str, SessionHead | None] = {}
        self.session_names: dict[int, str] = {}
        self.seqs: dict[tuple[int, str], int] = {}
        self.responses: dict[str, str] = {}

    def add_session(self, name: str, head: SessionHead) -> None:
        """Add a session that a statement has found."""
        self._names.add(name)
        self.sessions[name] = head
        self.session_names[head.id] = name

    def rename_session(self, session: int, name: str) -> None:
        """Give a session another name."""
        old = self.session_names[session]
        head, self.sessions[old] = self.sessions[old], None
        assert head is not None
        self.add_session(name, head)

    def _add(self, operation: Operation) -> None:
        match operation:
            case Put(key=key) | Delete(key=key) | Require(key=key):
                self._keys.add(key)
            case Increment(key=key):
                self._keys.add(key)
                self._numbers.add(key)
            case Append(session=name, messages=messages) | Replace(session=name, messages=messages):
                self._names.add(name)
                # An append that others have changed the session before is refused, unless it is a repeat.
                if not self._new_ids or operation.if_last is not None or operation.if_version is not None:
                    self._messages += [{"name": name, "id": message.id} for message in messages]
            case Fork(session=name, target=target):
                self._names |= {name, target}
            case _:
                session = getattr(operation, "session", None)
                if session is not None:
                    self._names.add(session)

    def statements(self, namespace: str) -> list[Statement]:
        """Return the statements that fetch the rows."""
        wanted: list[tuple[str, Iterable[Any]]] = [
            ("fetch_entries", self._keys),
            ("fetch_values", self._numbers),
            ("fetch_sessions", self._names),
            ("fetch_messages", self._messages),
            ("fetch_responses", self._idempotency_keys),
        ]
        return [(name, (namespace, as_json(list(items)))) for name, items in wanted if items]

    def take_in(self, statements: Sequence[Statement], found: Sequence[Sequence[Row]]) -> None:
        """Replace all rows by those that the statements returned."""
        rows = {name: some for (name, _), some in zip(statements, found, strict=True)}
        sessions = rows.get("fetch_sessions", ())
        self.entries = dict.fromkeys(self._keys)
        self.entries.update((key, (*head,)) for key, *head in rows.get("fetch_entries", ()))
        self.values = {key: text if data is None else data for key, text, data in rows.get("fetch_values", ())}
        self.sessions = dict.fromkeys(self._names)
        self.sessions.update((name, SessionHead(*head)) for name, *head in sessions)
        self.session_names = {number: name for name, number, *_ in sessions}
        self.seqs = {(session, id_): seq for session, id_, seq in rows.get("fetch_messages", ())}
        self.responses = dict(rows.get("fetch_responses", ()))


class ChangedRows:
    """The rows that are not in the database yet, by their keys. None: the row is to be deleted."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any] | None] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.settled: dict[tuple[str, str], None] = {}
        """JSON lists of ids and names of sessions whose index is to be brought up to date."""
        self.messages: dict[int, dict[str, Any]] = {}
        self.responses: dict[str, dict[str, Any]] = {}
        self.texts: dict[int, dict[str, Any] | None] = {}
        self.blocks: dict[int, dict[str, Any]] = {}
        self.purge: tuple[int, int] | None = None
        """Before when, and how many, old responses are to be deleted."""

    def statements(self, namespace: str, *, has_vectors: bool) -> list[Statement]:
        """Return the statements that write the rows; `has_vectors`: the namespace has any."""
        changes: list[tuple[str, list[Any]]] = [
            ("drop_texts", [text for text, row in self.texts.items() if row is None]),
            ("add_texts", [row for row in self.texts.values() if row is not None]),
            ("drop_vectors", list(self.entries) if has_vectors else []),
            ("put_entries", [row for row in self.entries.values() if row is not None]),
            ("drop_entries", [key for key, row in self.entries.items() if row is None]),
            ("put_sessions", list(self.sessions.values())),
            ("add_messages", list(self.messages.values())),
            ("add_responses", list(self.responses.values())),
        ]
        statements: list[Statement] = [(name, (namespace, as_json(rows))) for name, rows in changes if rows]
        statements += [("settle_sessions", (namespace, ids, names)) for ids, names in self.settled]
        if self.purge is not None:
            statements.append(("purge_responses", (namespace, *self.purge)))
        if self.blocks:
            statements.append(("add_blocks", (namespace, as_json(list(self.blocks.values())), BLOCKS)))
        return statements
