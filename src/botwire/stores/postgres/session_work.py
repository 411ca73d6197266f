"""The sessions and messages of a unit of work."""

from __future__ import annotations

from typing import Any

from ..engine.session_tables import Details
from ..engine.tables import LAST_SESSION, MOST, SEQ_BITS, NamespaceId, SessionHead, end_of, place_of
from .work import Work


class SessionWork(Work):
    """The part of `Tables` for sessions. Their rows are fetched and written in bulk; rare statements are sent on their own."""

    def peek_session(self, _namespace: NamespaceId, name: str) -> SessionHead | None:
        return self._fetched().sessions[name]

    def new_session(self, _namespace: NamespaceId, name: str, created: int, version: int) -> int:
        self._sessions_ever += 1
        session = self._sessions_ever
        if session > LAST_SESSION:  # those that were used longest ago come first
            first = session & LAST_SESSION
            session = self._free_number("free_session", first, LAST_SESSION, self._namespace)
            self._sessions_ever += (session - first) % (LAST_SESSION + 1)
        self._change(self._rows.session_names, session, name)
        self._put_session(name, SessionHead(session, 0, 0, version, created, created, None))
        return session

    def _first_free(self, statement: str, *values: object) -> int | None:
        # Without the changes so far: none of them has this number, because numbers rise.
        (rows,) = self._connection.run_all(((statement, values),))
        return rows[0][0] if rows else None

    def _put_session(self, name: str, head: SessionHead) -> None:
        self._change(self._rows.sessions, name, head)
        row = {
            "name": name, "id": head.id, "last_seq": head.last, "bytes": head.bytes, "version": head.version,
            "created": head.created, "updated": head.updated, "expires": head.expires,
        }  # fmt: skip
        self._change(self._changed.sessions, name, row)

    def _change_session(self, session: int, **changes: Any) -> None:
        name = self._rows.session_names[session]
        head = self._rows.sessions[name]
        assert head is not None
        self._put_session(name, head._replace(**changes))

    def set_session(self, session: int, last: int, size: int, updated: int) -> None:
        self._change_session(session, last=last, bytes=size, updated=updated)

    def set_session_version(self, session: int, version: int) -> None:
        self._change_session(session, version=version)

    def set_session_expiry(self, session: int, expires: int | None) -> None:
        self._change_session(session, expires=expires)

    def rename_session(self, namespace: NamespaceId, session: int, name: str) -> None:
        self._send_later(("rename_session", (namespace, session, name)))
        self._rows.rename_session(session, name)

    def settle_sessions(self, _namespace: NamespaceId, ids: str, names: str) -> None:
        self._change(self._changed.settled, (ids, names), None)

    def delete_session(self, session: int) -> None:
        self._change_later("delete_details", self._namespace, session)
        self._change_later("delete_session", self._namespace, session)

    # Messages

    def add_message(self, session: int, seq: int, id_: str, created: int, data: str) -> bool:
        if (session, id_) in self._rows.seqs:
            return False
        self._change(self._rows.seqs, (session, id_), seq)
        place = place_of(session, seq)
        self._change(self._changed.messages, place, {"place": place, "id": id_, "created": created, "data": data})
        return True

    def mark_edited(self, session: int, seq: int, edited: int | None, redacted: str | None) -> None:
        place, messages = place_of(session, seq), self._changed.messages
        self._change(messages, place, {**messages[place], "edited": edited, "redacted": redacted})

    def seq_of_message(self, session: int, id_: str) -> int:
        return self._rows.seqs[session, id_]

    def last_messages(self, session: int, last: int, limit: int) -> list[tuple[int, int]]:
        start = session << SEQ_BITS
        return self._run("last_messages", self._namespace, start, start + last, limit)

    def delete_messages(self, session: int, after: int, last: int) -> None:
        start = session << SEQ_BITS
        values = self._namespace, start + after, start + last
        self._change_later("delete_messages", *values, vectors="drop_vectors_of_messages")

    def peek_message(self, session: int, seq: int) -> tuple[str, int, int | None, int] | None:
        return self._first("peek_message", self._namespace, place_of(session, seq))

    def edit_message(self, session: int, seq: int, data: str, edited: int, redacted: str | None) -> None:
        place = place_of(session, seq)
        if self._has_vectors:
            self._send_later(("drop_vectors_of_messages", (self._namespace, place - 1, place)))
        self._send_later(("edit_message", (self._namespace, place, data, edited, redacted)))

    def measure_messages(self, session: int, after: int, last: int) -> tuple[int, int]:
        start = session << SEQ_BITS
        return self._first("measure_messages", self._namespace, start + after, start + last) or (0, 0)

    def copy_messages(self, source: int, target: int, last: int) -> None:
        start = source << SEQ_BITS
        distance = (target << SEQ_BITS) - start
        self._change_later("copy_messages", self._namespace, start, start + last, distance, target)

    # Details

    def get_details(self, namespace: NamespaceId, session: int) -> Details | None:
        row = self._first("get_details", namespace, session)
        return None if row is None else Details(*row)

    def put_details(self, namespace: NamespaceId, session: int, details: Details) -> None:
        self._send_later(("set_owner", (namespace, session, details.owner)))
        if details.is_empty:
            self._send_later(("delete_details", (namespace, session)))
        else:
            version, _, *others = details
            self._send_later(("put_details", (namespace, session, version, *others)))

    # Sessions that a statement finds. Their rows are kept, because they are changed next.

    def expired_sessions(self, namespace: NamespaceId, now: int, limit: int) -> list[tuple[str, SessionHead]]:
        return self._found(super().expired_sessions(namespace, now, limit))

    def idle_sessions(
        self, namespace: NamespaceId, rules: str, active: int, now: int, limit: int
    ) -> list[tuple[str, SessionHead]]:
        return self._found(super().idle_sessions(namespace, rules, active, now, limit))

    def old_sessions(self, namespace: NamespaceId, rules: str, now: int, limit: int) -> list[tuple[str, SessionHead]]:
        return self._found(super().old_sessions(namespace, rules, now, limit))

    def some_sessions(self, namespace: NamespaceId, limit: int) -> list[tuple[str, SessionHead]]:
        return self._found(super().some_sessions(namespace, limit))

    def _found(self, sessions: list[tuple[str, SessionHead]]) -> list[tuple[str, SessionHead]]:
        for name, head in sessions:
            self._rows.add_session(name, head)
        return sessions

    # The whole namespace

    def set_retention(self, namespace: NamespaceId, retention: str | None) -> None:
        self._create_state()
        self._send_later(("set_retention", (namespace, retention)))

    def empty_namespace(self, namespace: NamespaceId, version: int) -> None:
        for name in ("forget_responses", "forget_popped", "forget_changes"):
            self._change_later(name, namespace)
        self._change_later("delete_texts", namespace, 0, MOST)
        if self._has_vectors:
            self._change_later("drop_vectors_of_entries", namespace, "", end_of(""))
            self._change_later("drop_vectors_of_messages", namespace, 0, MOST)
        self._change_later("mark_destroyed", namespace, version)
