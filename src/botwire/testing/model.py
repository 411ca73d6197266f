"""The contract of all operations together: random ones leave a store as they leave a `Reference`."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ..operations import Append, Delete, Edit, Fork, NewMessage, Pop, Replace, Require, SetExpiry, Summarize
from ..queries import (
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
    ListSessions,
    Query,
)
from ..store import Store
from ..values import encode, encode_json, size
from .reference import machine_of, seen
from .strategies import Counted, about_of, fork_of, names, operations_on, put, values


class ModelContract(Counted):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    def test_model(self, store: Store) -> None:
        self.run(_machine_of(store, self))


def _shared(some: st.SearchStrategy[list[str]], name: str) -> st.SearchStrategy[str]:
    """Return one of some names, which are the same in all steps of an example."""
    return st.shared(some, key=name).flatmap(st.sampled_from)


def _with_prefixes(some: list[str]) -> list[str]:
    return [*some, *(some[0][:50] + name for name in some)]


_KEYS = _shared(st.lists(names, min_size=3, max_size=3).map(_with_prefixes), "keys")
_SESSIONS = _shared(st.lists(names, min_size=2, max_size=2), "sessions")
_ALL_SESSIONS = _SESSIONS | _SESSIONS.map(fork_of)
_PREFIXES = st.builds(lambda key, length: key[:length], _KEYS, st.integers(0, 20))
_LIMITS = st.none() | st.integers(0, 4)
_SEQS = st.integers(0, 5)
_QUERIES: st.SearchStrategy[Query[Any]] = st.one_of(
    st.builds(GetEntry, _KEYS),
    st.builds(GetEntries, st.lists(_KEYS, unique=True).map(tuple)),
    st.builds(ListKeys, _PREFIXES, st.just("") | _KEYS, _LIMITS),
    st.builds(ListEntries, _PREFIXES, st.just("") | _KEYS, _LIMITS),
    st.builds(CountEntries, _PREFIXES),
    st.builds(ListMessages, _ALL_SESSIONS, _SEQS, _LIMITS),
    st.builds(ListMessages, _ALL_SESSIONS, _SEQS, last=_LIMITS),
    st.builds(CountMessages, _ALL_SESSIONS),
    st.builds(GetSession, _ALL_SESSIONS, st.just(True)),  # noqa: FBT003
    st.builds(GetContext, _ALL_SESSIONS, _SEQS, _LIMITS.map(lambda seq: seq and seq + 1), st.integers(0, 2)),
    st.builds(
        ListSessions,
        order=st.sampled_from(["active", "created"]),
        prefix=st.just("") | _SESSIONS.map(lambda name: name[:3]),
        tag=st.none() | st.sampled_from(["red", "é"]),
        where=st.just({}) | st.just({"owner": "ada"}),
        limit=_LIMITS,
        preview=st.just(True),  # noqa: FBT003
    ),
)


def _machine_of(store: Store, contract: ModelContract) -> type[RuleBasedStateMachine]:
    class Machine(machine_of(store, operations_on(_KEYS, _SESSIONS))):  # type: ignore[misc]
        @rule(key=_KEYS, value=values, expected=_KEYS)
        def compare_and_set(self, key: str, value: Any, expected: str) -> None:
            self.write(put(key, value, if_version=self.reference.versions.get(expected, 0)))

        @rule(key=_KEYS, expected=_KEYS, value=values)
        def require(self, key: str, expected: str, value: Any) -> None:
            self.write(Require(key, self.reference.versions.get(expected, 0)))
            self.write(put(key, value))

        @rule(session=_ALL_SESSIONS, behind=st.integers(0, 1))
        def append_again(self, session: str, behind: int) -> None:
            items = self.reference.items(session)
            self.write(Append(session, _new(items), max(0, len(items) - behind)))

        @rule(session=_ALL_SESSIONS, count=st.integers(0, 4), wrong=st.booleans())
        def pop_expected(self, session: str, count: int, *, wrong: bool) -> None:
            log = self.reference.items(session)
            ids = [item.id for item in log[max(0, len(log) - count) :]]
            self.write(Pop(session, count, tuple(ids[:-1] if wrong else ids)))

        @rule(session=_ALL_SESSIONS, kept=_SEQS, after=_SEQS, behind=st.integers(0, 1))
        def replace_by_some_of_them(self, session: str, kept: int, after: int, behind: int) -> None:
            """Some keep their ids, in another order."""
            items = self.reference.items(session)
            version = self._version(session)
            self.write(Replace(session, _new(items[:kept][::-1]), after, max(0, len(items) - behind), version))

        @rule(
            session=_ALL_SESSIONS,
            seq=_SEQS,
            value=values.filter(lambda value: not isinstance(value, bytes)),
            behind=_SEQS,
        )
        def edit_expected(self, session: str, seq: int, value: Any, behind: int) -> None:
            version = self.reference.version_of(session, seq)
            self.write(Edit(session, seq, encode_json(value), max(0, version - behind // 5)))

        @rule(session=_ALL_SESSIONS, upto=_SEQS, behind=st.integers(0, 1))
        def summarize_expected(self, session: str, upto: int, behind: int) -> None:
            last, version = len(self.reference.items(session)), self._version(session)
            self.write(Summarize(session, upto, '["so far"]', max(0, last - behind), version))

        @rule(session=_ALL_SESSIONS, into=_ALL_SESSIONS, behind=_SEQS)
        def fork_expected(self, session: str, into: str, behind: int) -> None:
            self.write(Fork(session, into, None, max(0, self._version(session) - behind // 5)))

        @rule(session=_ALL_SESSIONS, behind=st.integers(0, 1))
        def set_about_expected(self, session: str, behind: int) -> None:
            found = store.read(self.namespace, GetSession(session))
            version = found.about.version if found else 0
            self.write(about_of(session, "title", if_version=version + behind))

        @rule(session=_ALL_SESSIONS)
        def expire(self, session: str) -> None:
            assert store.write(self.namespace, [SetExpiry(session, 0.001)]) == [session in self.reference.sessions]
            time.sleep(0.005)
            self.reference.expire(session)
            for _ in range(3):  # later writes remove its rows
                self.write(put("k", 1))
                self.write(Delete("k"))

        @rule(query=_QUERIES)
        def read(self, query: Query[Any]) -> None:
            assert seen(store.read(self.namespace, query)) == self.reference.answer(query)

        @rule(order=st.sampled_from(["active", "created"]), index=st.integers(0, 3), limit=_LIMITS, since=st.booleans())
        def read_a_page(self, order: Any, index: int, limit: int | None, *, since: bool) -> None:
            found = [log.read for log in self.reference.sessions.values() if log.read]
            if found:
                at = found[index % len(found)]
                self.read(ListSessions(order=order, after=at.cursor, limit=limit, preview=True))
                self.read(ListSessions(order=order, since=at.updated + since, preview=True))

        def _version(self, session: str) -> int:
            found = store.read(self.namespace, GetSession(session))
            return found.version if found else 0

        @invariant()
        def same(self) -> None:
            for query in (ListEntries(), ListSessions(preview=True), GetRetention()):
                self.read(query)
            reference = self.reference
            held = sum(size(key) + contract.counted(encode(value)) for key, value in reference.values.items())
            for session in store.read(self.namespace, ListSessions()):
                log = reference.sessions[session.name]
                length = contract.counted_messages(log.items)
                length += contract.counted_about(log.about) if log.about else 0
                length += contract.counted_message(log.summary[1]) if log.summary else 0
                assert session.bytes == length
                held += length
            assert store.read(self.namespace, GetUsage()).bytes == held

    return Machine


def _new(items: list[NewMessage]) -> tuple[NewMessage, ...]:
    """Return messages with the ids and data of others."""
    return tuple(NewMessage(item.id, item.stored) for item in items)
