"""A transaction on one namespace that reads in one round trip and writes in another.

`Transaction` reads and changes row by row. Over a network each statement would be a round trip. So a unit of work fetches, at
its beginning, the rows that a group of writes may need, and writes the changes with one statement a table (M. Fowler, Patterns
of Enterprise Application Architecture). Statements for other rows run in the database, after the changes so far.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

from ...limits import FIRST_NAME
from ...operations import Write
from ..engine.tables import NOT_BEGUN, NamespaceId, NamespaceState, Tables, as_json
from .connection import Connection
from .rows import ChangedRows, NeededRows
from .statements import Row, Statement
from .tables import PostgresReads

_MISSING: Any = object()


class NotAlone(Exception):
    """A write of a group needs its own transaction: it must run a statement in the database, which cannot undo it alone."""


class Work(PostgresReads, Tables):
    """One transaction: `begin` it, apply writes, `commit` it. Its parts have the methods of `Tables`.

    ``writes`` are all that will be applied. ``new_ids``: assume that no message of them exists yet, as is nearly always so. If one
    does, the commit fails with a ``UniqueViolation``, and must be repeated without this.
    """

    sweep_due = math.inf  # each write removes old responses of its own namespace, and a server sweeps the others

    def __init__(
        self, connection: Connection, namespace: str, writes: Sequence[Write] = (), *, new_ids: bool = True
    ) -> None:
        super().__init__(connection, namespace)
        self.time = 0
        """The server's time when the transaction began, in microseconds."""
        self.asked = 0.0
        """When the server was asked for it, on `time.monotonic`."""
        self._guarded = {write.guard.namespace for write in writes if write.guard is not None} - {namespace}
        self._changes_guarded = namespace < FIRST_NAME or any(write.also is not None for write in writes)
        """Whether it may change a system namespace, on which the guards of others rely."""
        self._versions: dict[str, int] = {}
        self._state: NamespaceState | None = None
        self._changed_state: NamespaceState | None = None
        self._sessions_ever = self._entry_texts_ever = 0
        self._has_vectors = False
        self._has_popped = False
        """Whether the transaction has kept popped messages. If so, it also removes old ones."""
        self._rows = NeededRows(writes, new_ids=new_ids)
        self._is_fetched = False
        self._changed = ChangedRows()
        self._unsent: list[Statement] = []
        """Statements that are sent before the changes since."""
        self._undo_log: list[tuple[dict[Any, Any], Any, Any]] | None = None
        """Table, key and old value of each change since `savepoint`; None: there is no savepoint."""

    def begin(self, seconds: float, key: str | None = None) -> bool:
        """Begin the transaction and lock the namespace. A statement may take this many seconds.

        Returns whether an earlier attempt, which called `save_response` with the key, was committed.
        """
        begin: list[Statement] = [("begin", ()), ("limit_times", (max(1, int(seconds * 1000)),))]
        # Guards first: a transaction that locks a namespace must not wait for them.
        if self._changes_guarded:
            begin.append(("change_guarded", ()))
        elif self._guarded:
            begin.append(("rely_on_guards", ()))
        begin += [("get_version", (namespace,)) for namespace in self._guarded]
        return self._fetch(begin, key)

    def join(self) -> None:
        """Lock another namespace, in a transaction that a unit for another one has begun. `write_out` ends it."""
        self._fetch([], None)

    def _fetch(self, begin: list[Statement], key: str | None) -> bool:
        """Run the first statements, lock the namespace, and fetch the rows that the writes need. Returns as `begin`."""
        begin.append(("lock_state", (self._namespace,)))
        if key is not None:
            begin.append(("fetch_responses", (self._namespace, as_json([key]))))
        fetches = self._rows.statements(self._namespace)
        found = self._connection.run_all([*begin, *fetches])
        self.asked = self._connection.asked
        is_committed = False
        for (name, values), rows in zip(begin, found, strict=False):
            if name == "limit_times":
                self.time = rows[0][-1]
            elif name == "get_version":
                self._versions[str(values[0])] = rows[0][0] if rows else 0
            elif name == "lock_state" and rows:
                *state, self._sessions_ever, self._entry_texts_ever = rows[0]
                self._state = NamespaceState(*state)
                self._has_vectors = self._state.vectors > 0
            elif name == "fetch_responses":
                is_committed = bool(rows)
        self._rows.take_in(fetches, found[len(begin) :])
        self._is_fetched = True
        return is_committed

    def commit(self) -> bool:
        """Write everything; it is on disk when this returns. Returns whether any process listens for changes."""
        statements = self._last_changes()
        self._connection.committing = True
        *_, ready, _ = self._connection.run_all([*statements, ("get_ready_to_commit", ()), ("commit", ())])
        self._connection.committing = False
        ((_, is_listened_to),) = ready
        return bool(is_listened_to)

    def write_out(self) -> None:
        """Write everything, and leave the commit to the unit that began the transaction."""
        self._connection.run_all(self._last_changes())

    def _last_changes(self) -> list[Statement]:
        """Return the statements that write what is left, and the state."""
        statements = self._take_unsent()
        state = self._changed_state
        if state is not None:
            name = "add_state" if self._state is None else "set_state"
            # First: if two clients create a namespace, the second fails before it waits for anything else.
            statements.insert(0, (name, self._state_row(state)))
        return statements

    def _state_row(self, state: NamespaceState) -> Row:
        return (
            self._namespace, state.day, state.writes, state.bytes, state.version, state.expires, state.recent,
            state.pending, state.index_cursor, state.texts, state.words, self._sessions_ever,
            self._entry_texts_ever, state.sessions_due,
        )  # fmt: skip

    def _run(self, name: str, *values: object) -> list[Any]:
        return self._run_all((name, values))[-1]

    def _run_all(self, *statements: Statement) -> list[list[Row]]:
        """Run statements after the changes so far, and return the rows of each."""
        if self._undo_log is not None:
            raise NotAlone
        unsent = self._take_unsent()
        return self._connection.run_all([*unsent, *statements])[len(unsent) :]

    def _send_later(self, *statements: Statement) -> None:
        """Run statements after the changes so far, in the next round trip."""
        if self._undo_log is not None:
            raise NotAlone
        self._unsent = [*self._take_unsent(), *statements]

    def _change_now(self, name: str, *values: object, vectors: str | None = None) -> int:
        """Change rows in the database, so that the fetched rows are out of date; returns the largest number of a statement.

        `vectors` is the statement that deletes vectors by the same values, if the namespace has any.
        """
        rows = self._run_all(*self._with_vectors(name, values, vectors))
        self._is_fetched = False
        return max(some[0][0] if some else 0 for some in rows)

    def _change_later(self, name: str, *values: object, vectors: str | None = None) -> None:
        """As `_change_now`, in the next round trip."""
        self._send_later(*self._with_vectors(name, values, vectors))
        self._is_fetched = False

    def _with_vectors(self, name: str, values: Sequence[object], vectors: str | None) -> list[Statement]:
        names = [name] if vectors is None or not self._has_vectors else [vectors, name]
        return [(each, values) for each in names]

    def _take_unsent(self) -> list[Statement]:
        """Return the statements that write what was not sent yet, and forget them."""
        statements = [*self._unsent, *self._changed.statements(self._namespace, has_vectors=self._has_vectors)]
        self._unsent, self._changed = [], ChangedRows()
        return statements

    def _fetched(self) -> NeededRows:
        """Return the rows as they are now."""
        if not self._is_fetched:
            fetches = self._rows.statements(self._namespace)
            self._rows.take_in(fetches, self._run_all(*fetches))
            self._is_fetched = True
        return self._rows

    def _change(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if self._undo_log is not None:
            self._undo_log.append((table, key, table.get(key, _MISSING)))
        table[key] = value

    def savepoint(self) -> None:
        self._undo_log = []

    def release(self) -> None:
        self._undo_log = None

    def undo(self) -> None:
        for table, key, value in reversed(self._undo_log or ()):
            if value is _MISSING:
                del table[key]
            else:
                table[key] = value
        self._undo_log = None

    # The state of the namespace, which `commit` writes

    def get_state(self, _namespace: str) -> NamespaceState | None:
        return copy.copy(self._state)

    def get_version(self, namespace: str) -> int:
        if namespace == self._namespace:
            return 0 if self._state is None else self._state.version
        return self._versions[namespace]

    def new_state(self, namespace: str, _day: int) -> NamespaceId:
        return namespace

    def set_state(self, state: NamespaceState) -> None:
        self._changed_state = state

    def set_plan(self, namespace: NamespaceId, plan: str | None) -> None:
        self._create_state()
        self._change_now("set_plan", namespace, plan)

    def _create_state(self) -> None:
        """Write a new namespace at once, for statements that change its row in the database."""
        if self._state is None:
            state = NamespaceState(self._namespace, None, 0, 0, 0, 0, None, index_cursor=NOT_BEGUN)
            self._run("add_state", *self._state_row(state))
            self._state = state
