"""A store of plain dicts, as in another package: the smallest that passes `StoreContract`. It is not durable."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from botwire.errors import Conflict, InvalidArgument
from botwire.operations import Append, Clear, Delete, Expire, Forget, Increment, NewMessage, Pop, Put, Require
from botwire.plans import DAY
from botwire.queries import (
    CountEntries,
    CountMessages,
    GetEntries,
    GetEntry,
    GetUsage,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    within,
)
from botwire.records import Entry, Message, Session, Usage
from botwire.store import Store
from botwire.timestamps import now
from botwire.values import add, encode, size


class DictStore(Store):
    """Searches, and changes to watch, are optional: this store refuses them."""

    address = "dict:"

    def __init__(self):
        self._lock = threading.Lock()
        self._namespaces = {}

    def read(self, namespace, query):
        with self._lock:
            if isinstance(query, ListNamespaces):
                return page(sorted(self._namespaces, key=str.encode), query)
            return self._namespaces.get(namespace, Namespace()).copy().answer(query)

    def write(self, namespace, operations, *, idempotency_key=None):
        with self._lock:
            changed = self._namespaces.get(namespace, Namespace()).copy()
            results = changed.write(operations, idempotency_key)
            self._namespaces[namespace] = changed  # all of the write, or none if it was refused
            return results

    def changes(self, namespace, query):
        raise InvalidArgument("a DictStore cannot be watched")

    def close(self):
        pass


@dataclass
class Log:
    place: int
    created: int
    updated: int
    messages: list[Message]


@dataclass
class Namespace:
    entries: dict[str, Entry] = field(default_factory=dict)
    logs: dict[str, Log] = field(default_factory=dict)
    known: dict[str, tuple[object, list]] = field(default_factory=dict)
    version: int = 0
    writes: int = 0
    day: int = 0

    def copy(self):
        """Return a copy as of now: without expired entries, and with the writes of today."""
        time = now()
        entries = {key: entry for key, entry in self.entries.items() if (entry.expires or time + 1) > time}
        logs = {name: replace(log, messages=log.messages[:]) for name, log in self.logs.items()}
        writes = self.writes if self.day == time // DAY else 0
        return replace(self, entries=entries, logs=logs, known=self.known.copy(), writes=writes, day=time // DAY)

    def write(self, operations, key):
        fingerprint = [without_chosen_ids(op) for op in operations]
        if key in self.known:
            known, results = self.known[key]
            if known != fingerprint:
                raise InvalidArgument(f"the idempotency key {key!r} was used for another write; nothing was written")
            return results
        results = list(map(self.apply, operations))
        if key is not None:
            self.known[key] = fingerprint, results
        return results

    def apply(self, op):
        match op:
            case Put():
                old = self.entries.get(op.key)
                version = 0 if old is None else old.version
                if op.if_version not in {None, version}:
                    raise Conflict(f"key {op.key!r} is at version {version}", key=op.key, version=version)
                expires = None if op.ttl is None else now() + int(op.ttl * 1_000_000)
                return self.set(op.key, op.stored, old.expires if old is not None and op.keep_ttl else expires)
            case Require():
                version = self.entries[op.key].version if op.key in self.entries else 0
                if op.version != version:
                    raise Conflict(f"key {op.key!r} is at version {version}", key=op.key, version=version)
                return version
            case Increment():
                old = self.entries.get(op.key)
                total = add(op.key, old and old.stored, op.by)
                self.set(op.key, encode(total), old and old.expires)
                return total
            case Delete():
                return self.entries.pop(op.key, None) is not None
            case Clear():
                return len([self.entries.pop(key) for key in list(self.entries) if key.startswith(op.prefix)])
            case Append():
                return [self.append(op.session, message) for message in op.messages]
            case Pop():
                return self.pop(op)
            case Forget():
                log = self.logs.pop(op.session, None)
                return len(log.messages) if log else 0
            case Expire():
                return False
        raise InvalidArgument(f"a DictStore has no {type(op).__name__}")

    def set(self, key, stored, expires):
        self.version, self.writes, time = self.version + 1, self.writes + 1, now()
        created = self.entries[key].created if key in self.entries else time
        self.entries[key] = Entry(key, stored, self.version, created, time, expires)
        return self.version

    def append(self, session, new: NewMessage):
        self.version, time = self.version + 1, now()
        log = self.logs.setdefault(session, Log(self.version, time, time, []))
        for message in log.messages:
            if message.id == new.id:
                return message.seq
        self.writes, log.updated = self.writes + 1, time
        log.messages.append(Message(len(log.messages) + 1, new.id, new.stored, time))
        return len(log.messages)

    def pop(self, op):
        messages = self.logs[op.session].messages if op.session in self.logs else []
        kept = max(0, len(messages) - op.count)
        popped = messages[kept:]
        if op.if_ids is not None and op.if_ids != tuple(message.id for message in popped):
            raise Conflict(f"session {op.session!r} does not end with these messages")
        del messages[kept:]
        if not messages:
            self.logs.pop(op.session, None)
        return popped

    def answer(self, query):
        keys = sorted((key for key in self.entries if key.startswith(getattr(query, "prefix", ""))), key=str.encode)
        log = self.logs.get(getattr(query, "session", ""))
        match query:
            case GetEntry():
                return self.entries.get(query.key)
            case GetEntries():
                return within((self.entries[key] for key in query.keys if key in self.entries), query.room)
            case ListKeys():
                return within(page(keys, query), query.room)
            case ListEntries():
                return within((self.entries[key] for key in page(keys, query)), query.room)
            case CountEntries():
                return len(keys)
            case CountMessages():
                return len(log.messages) if log else 0
            case ListMessages():
                found = log.messages[query.after :][: query.limit] if log else []
                found = found if query.last is None else found[max(0, len(found) - query.last) :]
                return within(found, query.room)
            case ListSessions():
                logs = sorted(self.logs.items(), key=lambda item: -item[1].place)
                before = [(name, log) for name, log in logs if query.before is None or log.place < query.before]
                found = [Session(name, log.place, len(log.messages), log.created, log.updated) for name, log in before]
                return found[: query.limit]
            case GetUsage():
                held = sum(size(key) + size(entry.stored) for key, entry in self.entries.items())
                held += sum(size(item.id) + size(item.stored) for log in self.logs.values() for item in log.messages)
                return Usage("unlimited", self.writes, None, held, None, (self.day + 1) * DAY)
        raise InvalidArgument(f"a DictStore does not answer {type(query).__name__}")


def without_chosen_ids(op):
    """Return an operation without the ids that the server chose for its messages."""
    if not isinstance(op, Append):
        return op
    return op.session, [(item.id if item.has_own_id else None, item.stored) for item in op.messages]


def page(names, query):
    return [name for name in names if name.encode() > query.after.encode()][: query.limit]
