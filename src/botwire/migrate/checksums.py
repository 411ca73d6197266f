"""Checksums (SHA-256) of what a namespace holds, to compare two stores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from ..queries import GetRetention
from ..records import About, Entry, Message, Rule, Session
from ..store import Store
from ..values import decode
from .walk import list_entries, list_messages, list_sessions, summary_of


class Sums:
    """The checksums of a namespace: of its entries, in order, of each session, and of its rules.

    Entries that expire are in no checksum, because one side may have deleted them already.
    """

    def __init__(self) -> None:
        self._entries = hashlib.sha256()
        self.sessions: dict[str, bytes] = {}
        self._expiring: set[str] = set()
        self._rules = b""

    def add_entry(self, entry: Entry) -> None:
        """Add an entry."""
        if entry.expires is None:
            stored = b"b" + entry.stored if isinstance(entry.stored, bytes) else b"j" + entry.stored.encode()
            _add(self._entries, entry.key.encode(), stored)

    def add_session(self, session: Session, digest: bytes) -> None:
        """Add the checksum of a session."""
        self.sessions[session.name] = digest
        if session.expires is not None:
            self._expiring.add(session.name)

    def add_rules(self, rules: list[Rule]) -> None:
        """Add all rules of retention."""
        self._rules = msgspec.json.encode(rules) if rules else b""

    def is_same(self, other: Sums) -> bool:
        """Whether entries and rules are the same. Sessions are compared one by one."""
        return self._entries.digest() == other._entries.digest() and self._rules == other._rules

    def digest(self) -> bytes:
        """Return the checksum of all, without sessions that expire. These come in any order, so they are added as numbers."""
        total, sessions = self._entries.copy(), 0
        for name, digest in self.sessions.items():
            if name not in self._expiring:
                _add(one := hashlib.sha256(), name.encode(), digest)
                sessions = (sessions + int.from_bytes(one.digest())) % (1 << 256)
        _add(total, sessions.to_bytes(32))
        if self._rules:
            _add(total, self._rules)
        return total.digest()


class SessionSum:
    """The checksum of a session, in steps."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()

    def add_messages(self, messages: Sequence[Message]) -> None:
        """Add the next messages."""
        for message in messages:
            _add(self._total, message.id.encode(), message.stored.encode())
            if message.redacted is not None:
                _add(self._total, b"\0redacted", message.redacted.encode())  # no id contains the first character

    def digest(self, about: About, summary: tuple[int, str] | None) -> bytes:
        """Return the checksum, with what is known about the session, and its summary."""
        known = content_of(about)
        if known != NOTHING_KNOWN:
            _add(self._total, b"\0about", known)
        if summary is not None:
            _add(self._total, b"\0summary", msgspec.json.encode(summary))
        return self._total.digest()


def sums_of(store: Store, namespace: str) -> Sums:
    """Return the checksums of a namespace."""
    sums = Sums()
    for entry in list_entries(store, namespace):
        sums.add_entry(entry)
    for session in list_sessions(store, namespace):
        total = SessionSum()
        for page in list_messages(store, namespace, session.name):
            total.add_messages(page)
        sums.add_session(session, total.digest(session.about, summary_of(store, namespace, session)))
    sums.add_rules(store.read(namespace, GetRetention()))
    return sums


def checksum_of(store: Store, namespace: str) -> bytes:
    """Return the checksum of a namespace, without entries and sessions that expire."""
    return sums_of(store, namespace).digest()


def content_of(about: About) -> bytes:
    """Return what is known about a session in the same form, however it was stored: encrypted, or as a server encodes it."""
    known = decode(about.stored) if about.stored else {}
    if isinstance(known, Mapping):
        known = [known.get("title"), known.get("data") or {}]
    return msgspec.json.encode((about.owner, about.tags, known))


NOTHING_KNOWN = content_of(About())


def _add(total: hashlib._Hash, *parts: bytes) -> None:
    for part in parts:
        total.update(len(part).to_bytes(8))
        total.update(part)
