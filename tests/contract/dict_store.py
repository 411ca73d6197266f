"""A store of plain dicts, as in another package: the smallest that passes `StoreContract`. It is not durable."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace

import msgspec

from botwire.errors import Conflict, InvalidArgument
from botwire.limits import MAX_COPIED, MAX_COPIED_BYTES, MAX_RULES
from botwire.operations import (
    Append,
    Clear,
    Delete,
    Destroy,
    Edit,
    Expire,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Pop,
    Put,
    Replace,
    Require,
    Retain,
    SetAbout,
    SetExpiry,
    Summarize,
)
from botwire.plans import DAY
from botwire.queries import (
    CountEntries,
    CountMessages,
    GetContext,
    GetEntries,
    GetEntry,
    GetRetention,
    GetSession,
    GetUsage,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    within,
)
from botwire.records import About, Context, Entry, Message, Rule, Session, Usage
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
                names = [name for name, held in self._namespaces.items() if not held.is_destroyed]
                return page(sorted(names, key=str.encode), query)
            return self._namespaces.get(namespace, Namespace()).copy().answer(query)

    def write(self, namespace, operations, *, idempotency_key=None):
        with self._lock:
            changed = self._namespaces.get(namespace, Namespace(is_destroyed=True)).copy()
            results = changed.write(operations, idempotency_key)
            self._namespaces[namespace] = changed  # all of the write, or none if it was refused
            return results

    def changes(self, namespace, query):
        raise InvalidArgument("a DictStore cannot be watched")

    def close(self):
        pass


@dataclass
class Log:
    """A session. ``version`` is the namespace's version at its last change but an append."""

    name: str
    place: int
    created: int
    updated: int
    messages: list[Message] = field(default_factory=list)
    version: int = 0
    expires: int | None = None
    about: About = field(default_factory=About)
    origin: tuple[str, int] | None = None
    summarized: int = 0
    summary: str | None = None

    @property
    def last(self):
        return len(self.messages)

    @property
    def is_needed(self):
        """Whether it exists without messages."""
        return self.messages or self.about.version or self.origin or self.expires is not None

    @property
    def bytes(self):
        about = self.about.stored, self.about.owner or "", encode(list(self.about.tags)) if self.about.tags else ""
        return sum(size(item.id) + size(item.stored) for item in self.messages) + sum(
            map(size, (*about, self.summary or ""))
        )

    def refuse_unless(self, op):
        if op.if_last not in {None, self.last}:
            raise Conflict(f"the last message of session {self.name!r} is {self.last}", last=self.last)
        if op.if_version not in {None, self.version}:
            raise Conflict(f"session {self.name!r} is at version {self.version}", version=self.version)

    def refuse_beyond(self, seq, *, first=1):
        if not first <= seq <= self.last:
            raise InvalidArgument(
                f"session {self.name!r} has no message {seq}: its last is {self.last}; nothing was written"
            )

    def cut(self, left):
        """Delete the messages after `left`, and a summary of them; returns them."""
        cut = self.messages[left:]
        del self.messages[left:]
        if self.summarized > left:
            self.summarized, self.summary = 0, None
        return cut


@dataclass
class Namespace:
    entries: dict[str, Entry] = field(default_factory=dict)
    logs: dict[str, Log] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    known: dict[str, tuple[object, list]] = field(default_factory=dict)
    version: int = 0
    writes: int = 0
    day: int = 0
    is_destroyed: bool = False

    def copy(self):
        """Return a copy as of now: without expired entries and sessions, and with the writes of today."""
        time = now()
        entries = {key: entry for key, entry in self.entries.items() if (entry.expires or time + 1) > time}
        logs = {
            name: replace(log, messages=log.messages[:])
            for name, log in self.logs.items()
            if (self.expires(log) or time + 1) > time
        }
        writes = self.writes if self.day == time // DAY else 0
        return replace(
            self, entries=entries, logs=logs, rules=self.rules.copy(), known=self.known.copy(), writes=writes,
            day=time // DAY,
        )  # fmt: skip

    def expires(self, log):
        """Return when a session expires, by itself or by the rule with the longest prefix of its name."""
        rules = [rule for prefix, rule in self.rules.items() if log.name.startswith(prefix)]
        rule = max(rules, key=lambda rule: len(rule.prefix), default=Rule("", None, None))
        times = [log.expires, ahead(rule.idle, log.updated), ahead(rule.age, log.created)]
        return min((time for time in times if time is not None), default=None)

    def write(self, operations, key):
        fingerprint = [without_chosen(op) for op in operations]
        if key in self.known:
            known, results = self.known[key]
            if known != fingerprint:
                raise InvalidArgument(f"the idempotency key {key!r} was used for another write; nothing was written")
            return results
        if Destroy() in operations and len(operations) > 1:
            raise InvalidArgument("a destroy must be alone in its write; nothing was written")
        results = list(map(self.apply, operations))
        if key is not None:
            self.known[key] = fingerprint, results
        return results

    def apply(self, op):
        self.is_destroyed = isinstance(op, Destroy)
        match op:
            case Put():
                old = self.entries.get(op.key)
                version = 0 if old is None else old.version
                if op.if_version not in {None, version}:
                    raise Conflict(f"key {op.key!r} is at version {version}", key=op.key, version=version)
                return self.set(op.key, op.stored, old.expires if old is not None and op.keep_ttl else ahead(op.ttl))
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
            case Retain():
                return self.retain(op)
            case Destroy():
                count = len(self.entries) + sum(log.last for log in self.logs.values())
                self.entries, self.logs, self.rules, self.known = {}, {}, {}, {}
                self.version += 1
                return count
            case Expire():
                return False
        if type(op) not in OF_SESSIONS:
            raise InvalidArgument(f"a DictStore has no {type(op).__name__}")
        log = self.logs.get(op.session) or Log(op.session, self.version + 1, now(), now())
        result = OF_SESSIONS[type(op)](self, op, log)
        if not log.is_needed:
            self.logs.pop(op.session, None)
        elif not isinstance(op, Forget):
            self.logs[op.session] = log
        return result

    def set(self, key, stored, expires):
        self.version, self.writes, time = self.version + 1, self.writes + 1, now()
        created = self.entries[key].created if key in self.entries else time
        self.entries[key] = Entry(key, stored, self.version, created, time, expires)
        return self.version

    def retain(self, op):
        before = self.rules.copy()
        self.rules.pop(op.prefix, None)
        if (op.idle, op.age) != (None, None):
            self.rules[op.prefix] = Rule(op.prefix, op.idle, op.age)
        if len(self.rules) > MAX_RULES:
            raise InvalidArgument(f"a namespace has at most {MAX_RULES} rules; nothing was written")
        self.version += self.rules != before
        return self.rules != before

    # Sessions

    def append(self, op, log):
        known = {message.id for message in log.messages}
        if not all(new.id in known for new in op.messages):
            log.refuse_unless(op)
        if op.session not in self.logs and op.messages:
            log.created = op.messages[0].created or log.created
        if log.messages and op.updated is not None and op.updated > log.updated:
            log.updated, self.version = op.updated, self.version + 1
        seqs = [self.add(log, new) for new in op.messages]
        if op.ttl is not None and log.messages:
            log.expires = ahead(op.ttl)
        return seqs

    def add(self, log, new: NewMessage, old: Message | None = None):
        """Append a message unless the session has its id; returns its seq. It keeps the time of the one that it replaces."""
        for message in log.messages:
            if message.id == new.id:
                return message.seq
        time, seq, edited, redacted = new.created or now(), log.last + 1, new.edited, new.redacted
        is_same = old is not None and old.stored == new.stored
        self.version, log.updated = self.version + 1, time
        self.writes += new.created is None and not is_same
        if is_same:
            edited, redacted = old.edited, old.redacted
        elif old is not None:
            edited = max(now(), old.version + 1)
        log.messages.append(Message(seq, new.id, new.stored, old.created if old else time, edited, redacted))
        return seq

    def replace(self, op, log):
        log.refuse_unless(op)
        log.refuse_beyond(op.after, first=0)
        self.refuse_many(log.messages[op.after :])
        cut = {message.id: message for message in log.cut(op.after)}
        if cut:
            self.change(log)
        seqs = [self.add(log, new, cut.get(new.id)) for new in op.messages]
        if op.ttl is not None and log.messages:
            log.expires = ahead(op.ttl)
        return seqs

    def pop(self, op, log):
        left = max(0, log.last - op.count)
        if op.if_ids is not None and op.if_ids != tuple(message.id for message in log.messages[left:]):
            raise Conflict(f"session {op.session!r} does not end with these messages")
        popped = log.cut(left)
        if popped:
            self.change(log)
        return popped

    def forget(self, op, log):
        self.logs.pop(op.session, None)
        return log.last

    def fork(self, op, log):
        if op.target in self.logs or op.target == op.session:
            raise Conflict(f"session {op.target!r} exists; nothing was written")
        if op.if_version not in {None, log.version}:
            raise Conflict(f"session {op.session!r} is at version {log.version}", version=log.version)
        upto = log.last if op.upto is None else op.upto
        log.refuse_beyond(upto)
        self.refuse_many(log.messages[:upto])
        self.version, self.writes, time = self.version + 1, self.writes + 1, now()
        target = replace(
            log, name=op.target, place=self.version, created=time, updated=time, messages=log.messages[:upto], version=0,
            expires=None, origin=(op.session, upto), about=with_version(log.about, self.version),
        )  # fmt: skip
        if log.summarized > upto:
            target.summarized, target.summary = 0, None
        self.logs[op.target] = target if op.copies is None else with_copies(target, op.copies)
        return upto

    def edit(self, op, log):
        log.refuse_beyond(op.seq)
        old = log.messages[op.seq - 1]
        if op.if_version not in {None, old.version}:
            raise Conflict(f"message {op.seq} is at version {old.version}", version=old.version)
        if op.if_id not in {None, old.id}:
            raise Conflict(f"message {op.seq} has the id {old.id}", version=old.version)
        self.change(log, writes=1)
        version = max(now(), old.version + 1)
        log.messages[op.seq - 1] = Message(op.seq, old.id, op.stored, old.created, version, op.redacted)
        if op.redacted is not None and op.seq <= log.summarized:
            log.summarized, log.summary = 0, None
        return version

    def summarize(self, op, log):
        log.refuse_unless(op)
        log.refuse_beyond(op.upto, first=0 if log.messages else 1)
        if (op.upto == 0) != (op.stored == "[]"):
            raise InvalidArgument(
                "a summary has messages and ends at a message, or it has neither; nothing was written"
            )
        if 0 < op.upto < log.summarized:
            raise Conflict(f"the summary of session {op.session!r} ends at {log.summarized}")
        self.change(log, writes=1, is_activity=False)
        log.summarized, log.summary = (op.upto, op.stored) if op.upto else (0, None)
        return log.version

    def set_about(self, op, log):
        if op.if_version not in {None, log.about.version}:
            raise Conflict(f"about is at version {log.about.version}", version=log.about.version)
        self.version, self.writes = self.version + 1, self.writes + 1
        log.about = About(self.version, op.owner, op.tags, op.stored)
        log.origin = op.origin or log.origin
        return self.version

    def set_expiry(self, op, log):
        if op.session in self.logs:
            self.version += 1
            log.expires = ahead(op.ttl)
        return op.session in self.logs

    def change(self, log, *, writes=0, is_activity=True):
        self.version, self.writes = self.version + 1, self.writes + writes
        log.version = self.version
        log.updated = now() if is_activity else log.updated

    def refuse_many(self, messages):
        if len(messages) > MAX_COPIED or sum(size(item.stored) for item in messages) > MAX_COPIED_BYTES:
            raise InvalidArgument(f"at most {MAX_COPIED:,} messages and {MAX_COPIED_BYTES:,} bytes at once")

    # Queries

    def answer(self, query):
        keys = sorted((key for key in self.entries if key.startswith(getattr(query, "prefix", ""))), key=str.encode)
        log = self.logs.get(getattr(query, "session", ""), Log("", 0, 0, 0))
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
                return log.last
            case ListMessages():
                found = log.messages[query.after :][: query.limit]
                found = found if query.last is None else found[max(0, len(found) - query.last) :]
                return within(found, query.room)
            case GetSession():
                return self.session(log, preview=query.preview) if query.session in self.logs else None
            case ListSessions():
                return within(self.sessions(query), query.room, weight_of)
            case GetContext():
                return context_of(log, query)
            case GetRetention():
                return sorted(self.rules.values(), key=lambda rule: rule.prefix.encode())
            case GetUsage():
                held = sum(size(key) + size(entry.stored) for key, entry in self.entries.items())
                held += sum(log.bytes for log in self.logs.values())
                return Usage("unlimited", self.writes, None, held, None, (self.day + 1) * DAY)
        raise InvalidArgument(f"a DictStore does not answer {type(query).__name__}")

    def session(self, log, *, preview):
        last = log.messages[-1] if preview and log.messages else None
        return Session(
            log.name, log.place, log.last, log.created, log.updated, log.version, log.bytes, log.expires,
            log.about, log.origin, log.summarized, last,
        )  # fmt: skip

    def sessions(self, query):
        def place_of(updated, place):
            return (updated, place) if query.order == "active" else place

        before = place_of(*map(int, query.after.split("."))) if query.after else place_of(math.inf, math.inf)
        logs = sorted(self.logs.values(), key=lambda log: place_of(log.updated, log.place), reverse=True)
        found = (
            self.session(log, preview=query.preview)
            for log in logs
            if place_of(log.updated, log.place) < before
            and log.name.startswith(query.prefix)
            and query.tag in {None, *log.about.tags}
            and (query.since or 0) <= log.updated
            and fits(log.about, query.where)
        )
        return list(found)[: query.limit]


OF_SESSIONS = {
    Append: Namespace.append,
    Replace: Namespace.replace,
    Pop: Namespace.pop,
    Forget: Namespace.forget,
    Fork: Namespace.fork,
    Edit: Namespace.edit,
    Summarize: Namespace.summarize,
    SetAbout: Namespace.set_about,
    SetExpiry: Namespace.set_expiry,
}


def context_of(log, query):
    """Return the newest messages before a seq. Those that the summary covers are left out until nothing else is left."""
    before = log.last + 1 if query.before is None else min(query.before, log.last + 1)
    first = log.summarized if before > log.summarized + 1 or query.before is None else 0
    found = log.messages[max(first, before - 1 - query.last) : before - 1]
    newest = within(reversed(found), query.room)[::-1]
    return Context(log.version, log.last, log.summarized, log.summary, log.messages[: query.head], newest)


def weight_of(session):
    return 100 + len(session.about.stored) + (len(session.preview.stored) if session.preview else 0)


def ahead(seconds, since=None):
    """Return the time after this many seconds; None: never."""
    return None if seconds is None else (now() if since is None else since) + int(seconds * 1_000_000)


def with_version(about, version):
    return msgspec.structs.replace(about, version=version) if about.version else about


def with_copies(log, copies):
    """Return a session with what an encrypted store has encrypted again."""
    if [item.id for item in copies.messages] != [item.id for item in log.messages]:
        raise Conflict(f"the copies are not those of the messages of session {log.origin[0]!r}")
    pairs = zip(log.messages, copies.messages, strict=True)
    messages = [msgspec.structs.replace(item, stored=copy.stored) for item, copy in pairs]
    about = msgspec.structs.replace(log.about, stored=copies.about)
    return replace(log, messages=messages, about=about, summary=log.summary and copies.summary)


def fits(about, where):
    document = {"title": about.title, "owner": about.owner, "tags": list(about.tags), "data": about.data}
    return all(same(value_at(document, path.split(".")), wanted) for path, wanted in where.items())


def value_at(value, names):
    """Return the value at a path of names and numbers, or a value that equals no other."""
    for name in names:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif (
            isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(value)
        ):
            value = value[int(name)]
        else:
            return object()
    return value


def same(value, wanted):
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def without_chosen(op):
    """Return an operation without the ids that the server chose for its messages, and what a client read for it."""
    match op:
        case Append() | Replace():
            messages = [item if item.has_own_id else NewMessage("", item.stored) for item in op.messages]
            return msgspec.structs.replace(op, messages=tuple(messages))
        case Fork():
            return msgspec.structs.replace(op, if_version=None, copies=None)
        case Edit():
            return msgspec.structs.replace(op, if_version=None, if_id=None)
        case Pop():
            return msgspec.structs.replace(op, if_ids=None)
    return op


def page(names, query):
    return [name for name in names if name.encode() > query.after.encode()][: query.limit]
