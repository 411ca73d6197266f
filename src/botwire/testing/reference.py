"""A namespace in plain dicts: what a store must hold after random operations, and answer to queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from msgspec.structs import replace

from .. import operations as ops
from .. import queries
from ..errors import BotWireError, Conflict, InvalidArgument, InvalidValue
from ..records import Context, Entry, Message, Rule, Session
from ..store import Store
from ..timestamps import new_id
from ..values import decode
from .strategies import entry_of, exact, message_of, session_of

_Refusals: TypeAlias = list[tuple[type[BotWireError], dict[str, int]]]
"""The errors, of which one must be raised, and their details."""


@dataclass
class Log:
    """A session. ``read`` is what the store last answered, which has its version and times."""

    items: list[ops.NewMessage] = field(default_factory=list)
    about: ops.SetAbout | None = None
    summary: tuple[int, str] | None = None
    origin: tuple[str, int] | None = None
    expires: bool = False
    read: Session | None = None

    @property
    def last(self) -> int:
        return len(self.items)

    @property
    def version(self) -> int:
        return self.read.version if self.read else 0

    @property
    def exists(self) -> bool:
        return bool(self.items or self.about or self.origin or self.expires)

    def cut(self, left: int) -> list[ops.NewMessage]:
        """Delete the messages after `left`, and a summary of them; returns them."""
        removed = self.items[left:]
        del self.items[left:]
        if self.summary and self.summary[0] > left:
            self.summary = None
        return removed

    def add(self, messages: tuple[ops.NewMessage, ...]) -> list[int]:
        """Append messages that are new; returns the seq of each."""
        seqs = {item.id: seq for seq, item in enumerate(self.items, 1)}
        for item in messages:
            if item.id not in seqs:
                self.items.append(item)
                seqs[item.id] = self.last
        return [seqs[item.id] for item in messages]


class Reference:
    """What a namespace of a store, empty until now, must hold. Entries with a time to live are not in it.

    The store is asked for what no result contains: the version after an increment, and versions and times of sessions.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._last = 0
        self.values: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.sessions: dict[str, Log] = {}
        """In the order of their creation."""
        self.rules: dict[str, Rule] = {}
        self.embedded: set[tuple[Any, Any]] = set()
        """Texts with a vector: keys and versions, sessions and ids."""

    @property
    def texts(self) -> dict[tuple[Any, Any], Any]:
        """All values and data, by key and version, or by session and id."""
        texts = {(key, self.versions[key]): value for key, value in self.values.items()}
        return texts | {
            (name, item.id): decode(item.stored) for name, log in self.sessions.items() for item in log.items
        }

    def items(self, session: str) -> list[ops.NewMessage]:
        """Return the messages of a session."""
        return self._log(session).items

    def version_of(self, session: str, seq: int) -> int:
        """Return the version of a message, which the store is asked for, or 0."""
        items = self.items(session)
        if not 0 < seq <= len(items):
            return 0
        message = message_of(self._store, seq, session, self._namespace)
        items[seq - 1] = replace(items[seq - 1], created=message.created, edited=message.edited)
        return message.version

    def apply(self, operation: ops.Operation, result: ops.Result | BotWireError) -> None:
        """Check the result of an operation, or its refusal, and apply it."""
        self.APPLY[type(operation)](self, operation, result)
        if self.embedded:
            self.embedded &= self.texts.keys()

    def expire(self, session: str) -> None:
        """Delete a session that has expired."""
        self.sessions.pop(session, None)
        self.embedded &= self.texts.keys()
        assert self._read(session) is None

    def answer(self, query: queries.Query[Any]) -> Any:
        """Return what the store must answer, in the form of `seen`."""
        return self.ANSWER[type(query)](self, query)

    # Entries

    def _put(self, op: ops.Put, result: Any) -> None:
        version = self.versions.get(op.key, 0)
        if op.if_version not in {None, version}:
            assert isinstance(result, Conflict)
            assert result.details["version"] == version
        else:
            self._set(op.key, decode(op.stored), result)

    def _set(self, key: str, value: Any, version: int) -> None:
        self._advance(version)
        self.values[key], self.versions[key] = value, version

    def _advance(self, version: int) -> None:
        """Check that a version of the namespace is new."""
        assert version > self._last
        self._last = version

    def _delete(self, op: ops.Delete, result: Any) -> None:
        assert result is (op.key in self.values)
        self._remove(op.key)

    def _remove(self, key: str) -> None:
        self.values.pop(key, None)
        self.versions.pop(key, None)

    def _require(self, op: ops.Require, result: Any) -> None:
        version = self.versions.get(op.key, 0)
        if op.version == version:
            assert result == version
        else:
            assert isinstance(result, Conflict)
            assert result.details["version"] == version

    def _increment(self, op: ops.Increment, result: Any) -> None:
        value = self.values.get(op.key, 0)
        if type(value) not in {int, float}:
            assert isinstance(result, InvalidValue)
        else:
            assert exact(result) == exact(value + op.by)
            self._set(op.key, result, entry_of(self._store, op.key, self._namespace).version)

    def _clear(self, op: ops.Clear, result: Any) -> None:
        keys = self._keys(op.prefix)
        assert result == len(keys)
        for key in keys:
            self._remove(key)

    # Sessions

    def _log(self, session: str) -> Log:
        return self.sessions.get(session) or Log()

    def _read(self, session: str) -> Session | None:
        return self._store.read(self._namespace, queries.GetSession(session, preview=True))

    def _keep(self, session: str, log: Log, *, changed: bool | None = False, active: bool | None = False) -> None:
        """Keep a session, and compare it with that of the store; one that nothing needs is deleted.

        Args:
            session: its name.
            log: the session.
            changed: whether its version has changed; None: it may have.
            active: whether the time of its last activity may have changed.
        """
        if not log.exists:
            self.sessions.pop(session, None)
            assert self._read(session) is None
            return
        self.sessions[session] = log
        old, log.read = log.read, session_of(self._store, session, self._namespace, preview=True)
        assert seen(log.read) == self._session(session)
        if old is None:
            return
        new = log.read
        assert new.place == old.place
        if changed is not None:
            assert new.version > old.version if changed else new.version == old.version
        assert new.updated >= old.updated if active else new.updated == old.updated
        assert new.created == old.created or not old.messages

    def _refused(self, op: Any, result: Any, refusals: _Refusals) -> bool:
        """Return whether an operation must be refused, and check the error; then the session is as before."""
        if not refusals:
            assert not isinstance(result, BotWireError), result
            return False
        assert any(
            type(result) is kind and all(result.details.get(name) == value for name, value in details.items())
            for kind, details in refusals
        ), result
        self._keep(op.session, self._log(op.session))
        return True

    @staticmethod
    def _unexpected(op: Any, log: Log) -> _Refusals:
        refusals: _Refusals = []
        if getattr(op, "if_last", None) not in {None, log.last}:
            refusals.append((Conflict, {"last": log.last}))
        if op.if_version not in {None, log.version}:
            refusals.append((Conflict, {"version": log.version}))
        return refusals

    @staticmethod
    def _beyond(log: Log, seq: int, *, first: int = 1) -> _Refusals:
        return [] if first <= seq <= log.last else [(InvalidArgument, {})]

    def _append(self, op: ops.Append, result: Any) -> None:
        log = self._log(op.session)
        is_new = not {item.id for item in op.messages} <= {item.id for item in log.items}
        if self._refused(op, result, self._unexpected(op, log) if is_new else []):
            return
        assert result == log.add(op.messages)
        log.expires |= op.ttl is not None and log.exists
        self._keep(op.session, log, active=is_new)

    def _replace(self, op: ops.Replace, result: Any) -> None:
        log = self._log(op.session)
        if self._refused(op, result, self._unexpected(op, log) + self._beyond(log, op.after, first=0)):
            return
        removed = log.cut(op.after)
        self.embedded -= {(op.session, item.id) for item in removed}
        data = {item.id: exact(decode(item.stored)) for item in op.messages}
        same = {item.id: item for item in removed if data.get(item.id) == exact(decode(item.stored))}
        assert result == log.add(op.messages)
        for seq, item in enumerate(log.items, 1):
            if item in op.messages and item.id in same:  # the same message, unless the store cannot compare data
                message = message_of(self._store, seq, op.session, self._namespace)
                assert message.redacted in {same[item.id].redacted, None}
                log.items[seq - 1] = replace(
                    item, created=message.created, edited=message.edited, redacted=message.redacted
                )
        log.expires |= op.ttl is not None and log.exists
        self._keep(op.session, log, changed=True if removed else None, active=True)

    def _fork(self, op: ops.Fork, result: Any) -> None:
        log = self._log(op.session)
        upto = log.last if op.upto is None else op.upto
        refusals = self._unexpected(op, log) + self._beyond(log, upto)
        if op.target in {op.session, *self.sessions}:
            refusals.append((Conflict, {}))
        if self._refused(op, result, refusals):
            return
        assert result == upto
        self._keep(op.session, log)
        summary = log.summary if log.summary and log.summary[0] <= upto else None
        self._keep(op.target, Log(log.items[:upto], log.about, summary, (op.session, upto)))

    def _edit(self, op: ops.Edit, result: Any) -> None:
        log = self._log(op.session)
        refusals = self._beyond(log, op.seq)
        if not refusals:
            item = log.items[op.seq - 1]
            version = item.created if item.edited is None else item.edited
            if op.if_version not in {None, version}:
                assert version is not None
                refusals = [(Conflict, {"version": version})]
            if op.if_id not in {None, item.id}:
                refusals = [(Conflict, {})]
        if self._refused(op, result, refusals):
            return
        assert result > (version or 0)
        log.items[op.seq - 1] = replace(item, stored=op.stored, edited=result, redacted=op.redacted)
        self.embedded.discard((op.session, item.id))
        if op.redacted is not None and log.summary and op.seq <= log.summary[0]:
            log.summary = None
        self._keep(op.session, log, changed=True, active=True)

    def _summarize(self, op: ops.Summarize, result: Any) -> None:
        log = self._log(op.session)
        refusals = self._unexpected(op, log) + self._beyond(log, op.upto, first=0)
        if (op.upto == 0) != (op.stored == "[]"):
            refusals.append((InvalidArgument, {}))
        if log.summary and 0 < op.upto < log.summary[0]:
            refusals.append((Conflict, {}))
        if not log.items:
            refusals.append((InvalidArgument, {}))
        if self._refused(op, result, refusals):
            return
        self._advance(result)
        log.summary = (op.upto, op.stored) if op.upto else None
        self._keep(op.session, log, changed=True)
        assert log.version == result

    def _set_about(self, op: ops.SetAbout, result: Any) -> None:
        log = self._log(op.session)
        version = log.read.about.version if log.read else 0
        if self._refused(
            op, result, [(Conflict, {"version": version})] if op.if_version not in {None, version} else []
        ):
            return
        self._advance(result)
        log.about = op
        self._keep(op.session, log, changed=None)
        assert log.read
        assert log.read.about.version == result

    def _set_expiry(self, op: ops.SetExpiry, result: Any) -> None:
        assert result is (op.session in self.sessions)
        log = self._log(op.session)
        if log.exists:
            log.expires = op.ttl is not None
        self._keep(op.session, log, changed=None)

    def _pop(self, op: ops.Pop, result: Any) -> None:
        log = self._log(op.session)
        left = max(0, log.last - op.count)
        if op.if_ids is not None and op.if_ids != tuple(item.id for item in log.items[left:]):
            assert isinstance(result, Conflict)
            self._keep(op.session, log)
            return
        assert seen(result) == self._messages(queries.ListMessages(op.session, left))
        popped = log.cut(left)
        self._keep(op.session, log, changed=bool(popped), active=bool(popped))

    def _forget(self, op: ops.Forget, result: Any) -> None:
        assert result == self._log(op.session).last
        self._keep(op.session, Log())

    def _retain(self, op: ops.Retain, result: Any) -> None:
        before = self.rules.copy()
        self.rules.pop(op.prefix, None)
        if op.idle is not None or op.age is not None:
            self.rules[op.prefix] = Rule(op.prefix, op.idle, op.age)
        assert result is (self.rules != before)

    def _destroy(self, _: ops.Destroy, result: Any) -> None:
        assert result == len(self.values) + sum(log.last for log in self.sessions.values())
        for held in (self.values, self.versions, self.sessions, self.rules):
            held.clear()

    def _set_vectors(self, op: ops.SetVectors, result: Any) -> None:
        texts = {(item.key, item.version) if item.session is None else (item.session, item.id) for item in op.vectors}
        assert result == len(texts & self.texts.keys())
        self.embedded |= texts

    # Answers

    def _keys(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        keys = sorted((key for key in self.values if key.startswith(prefix)), key=str.encode)
        return [key for key in keys if key.encode() > after.encode()][:limit]

    def _entries(self, keys: list[str] | tuple[str, ...]) -> list[Any]:
        return [(key, exact(self.values[key]), self.versions[key]) for key in keys if key in self.values]

    def _messages(self, query: queries.ListMessages) -> list[Any]:
        log = list(enumerate(self.items(query.session), 1))[query.after :][: query.limit]
        log = log if query.last is None else log[max(0, len(log) - query.last) :]
        return [(seq, item.id, exact(decode(item.stored)), item.redacted) for seq, item in log]

    def _session(self, name: str) -> Any:
        log = self.sessions.get(name)
        if log is None:
            return None
        about = log.about or ops.SetAbout(name, "")
        parts = decode(about.stored) if about.stored else {}
        summarized = log.summary[0] if log.summary else 0
        known = parts.get("title"), about.owner, about.tags, exact(parts.get("data", {}))
        last = self._messages(queries.ListMessages(name, last=1))
        return name, log.last, *known, log.origin, summarized, log.expires, last

    def _sessions(self, query: queries.ListSessions) -> list[Any]:
        found = [(name, log, log.read) for name, log in reversed(self.sessions.items()) if log.read]
        if query.order == "active":
            found.sort(key=lambda item: (item[2].updated, item[2].place), reverse=True)
        cursors = [read.cursor for _, _, read in found]
        found = found[cursors.index(query.after) + 1 if query.after else 0 :]
        return [
            self._session(name)
            for name, log, read in found
            if name.startswith(query.prefix)
            and (query.tag is None or (log.about and query.tag in log.about.tags))
            and ("owner" not in query.where or (log.about and log.about.owner == query.where["owner"]))
            and read.updated >= (query.since or 0)
        ][: query.limit]

    def _context(self, query: queries.GetContext) -> Any:
        log = self._log(query.session)
        upto, summary = log.summary or (0, None)
        before = log.last + 1 if query.before is None else min(query.before, log.last + 1)
        first = 0 if query.before is not None and before <= upto + 1 else upto
        newest = self._messages(queries.ListMessages(query.session))[first : before - 1]
        head = self._messages(queries.ListMessages(query.session, limit=query.head))
        newest = newest[max(0, len(newest) - query.last) :]
        return log.version, log.last, upto, summary and exact(decode(summary)), head, newest

    APPLY: ClassVar[dict[type, Callable[[Any, Any, Any], None]]] = {
        ops.Put: _put,
        ops.Delete: _delete,
        ops.Require: _require,
        ops.Increment: _increment,
        ops.Append: _append,
        ops.Replace: _replace,
        ops.Fork: _fork,
        ops.Edit: _edit,
        ops.Summarize: _summarize,
        ops.SetAbout: _set_about,
        ops.SetExpiry: _set_expiry,
        ops.Retain: _retain,
        ops.Clear: _clear,
        ops.Forget: _forget,
        ops.Pop: _pop,
        ops.Expire: lambda *_: None,
        ops.SetVectors: _set_vectors,
        ops.Destroy: _destroy,
    }
    ANSWER: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {
        queries.GetEntry: lambda self, query: next(iter(self._entries([query.key])), None),
        queries.GetEntries: lambda self, query: self._entries(query.keys),
        queries.ListKeys: lambda self, query: self._keys(query.prefix, query.after, query.limit),
        queries.ListEntries: lambda self, query: self._entries(self._keys(query.prefix, query.after, query.limit)),
        queries.CountEntries: lambda self, query: len(self._keys(query.prefix)),
        queries.ListMessages: _messages,
        queries.CountMessages: lambda self, query: len(self.items(query.session)),
        queries.GetSession: lambda self, query: self._session(query.session),
        queries.ListSessions: _sessions,
        queries.GetContext: _context,
        queries.GetRetention: lambda self, _: sorted(self.rules.values(), key=lambda rule: rule.prefix.encode()),
    }
    """The queries that every store answers in the same way. Others have tests in the contracts. Sessions are asked for with previews."""


def seen(found: Any) -> Any:
    """Return what a store answered without times and cursors."""
    match found:
        case list():
            return list(map(seen, found))
        case Entry():
            return found.key, exact(found.value), found.version
        case Message():
            return found.seq, found.id, exact(found.data), found.redacted
        case Session():
            known = found.about.title, found.about.owner, found.about.tags, exact(found.about.data)
            last = [] if found.preview is None else [seen(found.preview)]
            return (
                found.name, found.messages, *known, found.origin, found.summarized, found.expires is not None, last,
            )  # fmt: skip
        case Context():
            summary = found.summary and exact(decode(found.summary))
            return (
                found.version, found.last, found.summarized, summary, seen(found.head), seen(found.messages),
            )  # fmt: skip
    return found


def machine_of(store: Store, operations: st.SearchStrategy[ops.Operation]) -> type[RuleBasedStateMachine]:
    """Return a state machine that applies the same operations to a store and to a `Reference`."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.namespace = new_id()
            self.reference = Reference(store, self.namespace)

        @rule(operation=st.one_of(operations, st.builds(ops.Destroy)))
        def write(self, operation: ops.Operation) -> None:
            result: ops.Result | BotWireError
            try:
                (result,) = store.write(self.namespace, [operation])
            except (Conflict, InvalidValue, InvalidArgument) as error:
                result = error
            self.reference.apply(operation, result)

    return Machine
