"""What the engine needs of the tables of sessions: the part of `Tables` for their metadata, edits, forks and retention.

A session may have *details*: title, owner, tags and data, its origin, and its summary. Few have any, so they are in a table of
their own, and an append does not rewrite them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec

from ...limits import FIRST_NAME
from ...records import About, Message, Session
from ...values import size
from .bookkeeping import NamespaceId


def is_detached(name: str) -> bool:
    """Whether this is the name of an expired session, which begins with a control character. No caller may use one."""
    return name < FIRST_NAME


class SessionHead(NamedTuple):
    """What a write needs of a session. ``last`` is its last seq, ``bytes`` what its messages and details take."""

    id: int
    last: int
    bytes: int
    version: int
    created: int
    updated: int
    expires: int | None


class FoundSession(NamedTuple):
    """What a read needs of a session, and of the namespace for how long sessions are kept."""

    id: int
    last: int
    version: int
    created: int
    updated: int
    expires: int | None
    retention: str | None
    plan: str | None


class Details(NamedTuple):
    """The details of a session. ``version`` is that of title, owner, tags and data; ``tags`` is JSON text, empty without any.

    ``summary`` is the text of the summary of the messages up to seq ``upto``; 0 and None without one.
    """

    version: int = 0
    owner: str | None = None
    tags: str = ""
    stored: str = ""
    origin: str | None = None
    origin_seq: int = 0
    upto: int = 0
    summary: str | None = None

    @property
    def bytes(self) -> int:
        """The bytes that count toward a plan."""
        return size(self.stored) + size(self.owner or "") + size(self.tags) + size(self.summary or "")

    @property
    def is_empty(self) -> bool:
        """Whether the row says nothing."""
        return self == NO_DETAILS


NO_DETAILS = Details()


class SessionRow(NamedTuple):
    """A session as a list shows it, with its details."""

    name: str
    id: int
    last: int
    created: int
    updated: int
    version: int
    bytes: int
    expires: int | None
    active: int
    about_version: int | None
    owner: str | None
    tags: str | None
    stored: str | None
    origin: str | None
    origin_seq: int | None
    upto: int | None

    @property
    def about(self) -> About:
        """What is known about the session."""
        if not self.about_version:
            return About()
        tags = msgspec.json.decode(self.tags, type=tuple[str, ...]) if self.tags else ()
        return About(self.about_version, self.owner, tags, self.stored or "")

    def session(self, preview: Message | None) -> Session:
        """Return the record of this session."""
        origin = None if self.origin is None else (self.origin, self.origin_seq or 0)
        return Session(
            self.name,
            self.id,
            self.last,
            self.created,
            self.updated,
            self.version,
            self.bytes,
            self.expires,
            self.about,
            origin,
            self.upto or 0,
            preview,
        )


class SessionReads(Protocol):
    """Reads of sessions, a statement each. ``before`` are (time, id) of the row after which a list continues."""

    def _run(self, name: str, *values: object) -> list[Any]: ...

    def _first(self, name: str, *values: object) -> Any | None: ...

    def find_session(self, namespace: str, name: str) -> FoundSession | None:
        """Return a session, expired or not."""
        row = self._first("find_session", namespace, name)
        return None if row is None else FoundSession(*row)

    def peek_session(self, namespace: NamespaceId, name: str) -> SessionHead | None:
        """Return a session for a write, expired or not."""
        row = self._first("peek_session", namespace, name)
        return None if row is None else SessionHead(*row)

    def get_session(self, namespace: NamespaceId, name: str) -> SessionRow | None:
        row = self._first("get_session", namespace, name)
        return None if row is None else SessionRow(*row)

    def sessions_at(self, namespace: NamespaceId, ids: str, names: str) -> list[SessionRow]:
        """Return the sessions with these ids or names, JSON lists, in any order."""
        return [SessionRow(*row) for row in self._run("sessions_at", namespace, ids, names)]

    def sessions_by_activity(self, namespace: NamespaceId, before: tuple[int, int], limit: int) -> list[SessionRow]:
        """Return sessions in the order of the column "active", the newest first."""
        return [SessionRow(*row) for row in self._run("sessions_by_activity", namespace, *before, limit)]

    def sessions_of_owner(
        self, namespace: NamespaceId, owner: str, before: tuple[int, int], limit: int
    ) -> list[SessionRow]:
        """As `sessions_by_activity`, those of an owner."""
        return [SessionRow(*row) for row in self._run("sessions_of_owner", namespace, *before, limit, owner)]

    def sessions_named(
        self, namespace: NamespaceId, first: str, end: str, before: tuple[int, int], limit: int
    ) -> list[SessionRow]:
        """As `sessions_by_activity`, those in a range of names."""
        return [SessionRow(*row) for row in self._run("sessions_named", namespace, *before, limit, first, end)]

    def sessions_by_age(self, namespace: NamespaceId, before: int, limit: int) -> list[SessionRow]:
        """Return sessions with an id below `before`, the newest first."""
        return [SessionRow(*row) for row in self._run("sessions_by_age", namespace, before, limit)]

    def sessions_by_age_named(
        self, namespace: NamespaceId, first: str, end: str, before: int, limit: int
    ) -> list[SessionRow]:
        """As `sessions_by_age`, those in a range of names."""
        return [SessionRow(*row) for row in self._run("sessions_by_age_named", namespace, before, limit, first, end)]

    def get_summary(self, namespace: NamespaceId, session: int) -> tuple[int, str] | None:
        """Return the last seq of the summary of a session, and its text."""
        return self._first("get_summary", namespace, session)

    def newest_messages(
        self, namespace: NamespaceId, session: int, after: int, last: int, room: int | None
    ) -> list[Message]:
        """Return the messages of a session with a seq above `after`, up to `last`: the newest that fill the room, in order."""


class SessionTables(SessionReads, Protocol):
    """Changes of sessions."""

    def set_session_version(self, session: int, version: int) -> None: ...

    def set_session_expiry(self, session: int, expires: int | None) -> None: ...

    def rename_session(self, namespace: NamespaceId, session: int, name: str) -> None: ...

    def settle_sessions(self, namespace: NamespaceId, ids: str, names: str) -> None:
        """Bring the column "active" of the sessions with these ids or names, JSON lists, up to date."""

    # Messages

    def peek_message(self, session: int, seq: int) -> tuple[str, int, int | None, int] | None:
        """Return the id of a message, when it was created and edited, and the bytes of its data."""

    def edit_message(self, session: int, seq: int, data: str, edited: int, redacted: str | None) -> None:
        """Replace the data of a message, and delete its vector."""

    def mark_edited(self, session: int, seq: int, edited: int | None, redacted: str | None) -> None:
        """Write when a message that was just added had been edited, and why it was redacted."""

    def measure_messages(self, session: int, after: int, last: int) -> tuple[int, int]:
        """Return the number and the bytes of messages after a seq, up to another."""

    def copy_messages(self, source: int, target: int, last: int) -> None:
        """Copy the messages of a session up to a seq to another session."""

    # Details

    def get_details(self, namespace: NamespaceId, session: int) -> Details | None: ...

    def put_details(self, namespace: NamespaceId, session: int, details: Details) -> None:
        """Write the details of a session; empty ones: delete them."""

    # Retention

    def set_retention(self, namespace: NamespaceId, retention: str | None) -> None: ...

    def expired_sessions(self, namespace: NamespaceId, now: int, limit: int) -> list[tuple[str, SessionHead]]:
        """Return sessions whose own time to live has ended, with their names."""
        return [(name, SessionHead(*head)) for name, *head in self._run("expired_sessions", namespace, now, limit)]

    def idle_sessions(
        self, namespace: NamespaceId, rules: str, active: int, now: int, limit: int
    ) -> list[tuple[str, SessionHead]]:
        """Return sessions that a rule ends because they were idle. ``active``: the latest time of the column that may do.

        ``rules``: a JSON list of prefix, idle and age in microseconds, the longest prefixes first.
        """
        rows = self._run("idle_sessions", namespace, rules, active, now, limit)
        return [(name, SessionHead(*head)) for name, *head in rows]

    def old_sessions(self, namespace: NamespaceId, rules: str, now: int, limit: int) -> list[tuple[str, SessionHead]]:
        """Return sessions that a rule ends because of their age."""
        rows = self._run("old_sessions", namespace, rules, now, limit)
        return [(name, SessionHead(*head)) for name, *head in rows]

    def first_session_expiry(self, namespace: NamespaceId) -> int | None:
        """Return when the first session with a time to live of its own expires."""
        row = self._first("first_session_expiry", namespace)
        return None if row is None else row[0]

    # A namespace

    def some_sessions(self, namespace: NamespaceId, limit: int) -> list[tuple[str, SessionHead]]:
        """Return some sessions with their names."""
        return [(name, SessionHead(*head)) for name, *head in self._run("some_sessions", namespace, limit)]

    def empty_namespace(self, namespace: NamespaceId, version: int) -> None:
        """Delete what a namespace without entries and sessions still has, apart from its state, and mark it as destroyed at a version."""
