"""A namespace in plain dicts: what a store must hold after random operations, and answer to queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from .. import operations as ops
from .. import queries
from ..errors import BotWireError, Conflict, InvalidValue
from ..records import Entry, Message, Session
from ..store import Store
from ..timestamps import new_id
from ..values import decode
from .strategies import entry_of, exact


class Reference:
    """What a namespace of a store, empty until now, must hold. Entries with a time to live are not in it.

    The store is asked only for the version after an increment, which no result contains.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._last = 0
        self.values: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.logs: dict[str, list[ops.NewMessage]] = {}
        self.embedded: set[tuple[Any, Any]] = set()
        """Texts with a vector: keys and versions, sessions and ids."""

    @property
    def texts(self) -> dict[tuple[Any, Any], Any]:
        """All values and data, by key and version, or by session and id."""
        texts = {(key, self.versions[key]): value for key, value in self.values.items()}
        return texts | {(name, item.id): decode(item.stored) for name, log in self.logs.items() for item in log}

    def apply(self, operation: ops.Operation, result: ops.Result | BotWireError) -> None:
        """Check the result of an operation, or its refusal, and apply it."""
        self.APPLY[type(operation)](self, operation, result)
        if self.embedded:
            self.embedded &= self.texts.keys()

    def answer(self, query: queries.Query[Any]) -> Any:
        """Return what the store must answer, in the form of `seen`."""
        return self.ANSWER[type(query)](self, query)

    def _put(self, op: ops.Put, result: Any) -> None:
        version = self.versions.get(op.key, 0)
        if op.if_version not in {None, version}:
            assert isinstance(result, Conflict)
            assert result.details["version"] == version
        else:
            self._set(op.key, decode(op.stored), result)

    def _set(self, key: str, value: Any, version: int) -> None:
        assert version > self._last
        self.values[key], self.versions[key], self._last = value, version, version

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

    def _append(self, op: ops.Append, result: Any) -> None:
        log = self.logs.setdefault(op.session, [])
        seqs = {item.id: seq for seq, item in enumerate(log, 1)}
        for item in op.messages:
            if item.id not in seqs:
                log.append(item)
                seqs[item.id] = len(log)
        assert result == [seqs[item.id] for item in op.messages]
        self._keep(op.session, len(log))

    def _keep(self, session: str, count: int) -> list[ops.NewMessage]:
        """Keep the first messages of a session and return the others. A session without messages does not exist."""
        log = self.logs.get(session, [])
        removed = log[count:]
        del log[count:]
        if not log:
            self.logs.pop(session, None)
        return removed

    def _pop(self, op: ops.Pop, result: Any) -> None:
        log = self.logs.get(op.session, [])
        left = max(0, len(log) - op.count)
        if op.if_ids is not None and op.if_ids != tuple(item.id for item in log[left:]):
            assert isinstance(result, Conflict)
            return
        assert seen(result) == self._messages(queries.ListMessages(op.session, left))
        self._keep(op.session, left)

    def _forget(self, op: ops.Forget, result: Any) -> None:
        assert result == len(self._keep(op.session, 0))

    def _set_vectors(self, op: ops.SetVectors, result: Any) -> None:
        texts = {(item.key, item.version) if item.session is None else (item.session, item.id) for item in op.vectors}
        assert result == len(texts & self.texts.keys())
        self.embedded |= texts

    def _keys(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        keys = sorted((key for key in self.values if key.startswith(prefix)), key=str.encode)
        return [key for key in keys if key.encode() > after.encode()][:limit]

    def _entries(self, keys: list[str] | tuple[str, ...]) -> list[Any]:
        return [(key, exact(self.values[key]), self.versions[key]) for key in keys if key in self.values]

    def _messages(self, query: queries.ListMessages) -> list[Any]:
        log = list(enumerate(self.logs.get(query.session, []), 1))[query.after :][: query.limit]
        log = log if query.last is None else log[max(0, len(log) - query.last) :]
        return [(seq, item.id, exact(decode(item.stored))) for seq, item in log]

    APPLY: ClassVar[dict[type, Callable[[Any, Any, Any], None]]] = {
        ops.Put: _put,
        ops.Delete: _delete,
        ops.Require: _require,
        ops.Increment: _increment,
        ops.Append: _append,
        ops.Clear: _clear,
        ops.Forget: _forget,
        ops.Pop: _pop,
        ops.Expire: lambda *_: None,
        ops.SetVectors: _set_vectors,
    }
    ANSWER: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {
        queries.GetEntry: lambda self, query: next(iter(self._entries([query.key])), None),
        queries.GetEntries: lambda self, query: self._entries(query.keys),
        queries.ListKeys: lambda self, query: self._keys(query.prefix, query.after, query.limit),
        queries.ListEntries: lambda self, query: self._entries(self._keys(query.prefix, query.after, query.limit)),
        queries.CountEntries: lambda self, query: len(self._keys(query.prefix)),
        queries.ListMessages: _messages,
        queries.CountMessages: lambda self, query: len(self.logs.get(query.session, [])),
        queries.ListSessions: lambda self, _: [(name, len(log)) for name, log in reversed(self.logs.items())],
    }
    """The queries that every store answers in the same way. Others have tests in the contracts."""


def seen(found: Any) -> Any:
    """Return what a store answered without times and cursors."""
    match found:
        case list():
            return list(map(seen, found))
        case Entry():
            return found.key, exact(found.value), found.version
        case Message():
            return found.seq, found.id, exact(found.data)
        case Session():
            return found.name, found.messages
    return found


def machine_of(store: Store, operations: st.SearchStrategy[ops.Operation]) -> type[RuleBasedStateMachine]:
    """Return a state machine that applies the same operations to a store and to a `Reference`."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.namespace = new_id()
            self.reference = Reference(store, self.namespace)

        @rule(operation=operations)
        def write(self, operation: ops.Operation) -> None:
            result: ops.Result | BotWireError
            try:
                (result,) = store.write(self.namespace, [operation])
            except (Conflict, InvalidValue) as error:
                result = error
            self.reference.apply(operation, result)

    return Machine
