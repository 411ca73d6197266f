"""Hypothesis strategies for names, values and operations, and helpers of the contracts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from ..errors import BotWireError
from ..operations import (
    Append,
    Clear,
    Delete,
    Edit,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Operation,
    Pop,
    Put,
    Replace,
    Retain,
    SetAbout,
    SetExpiry,
    Summarize,
)
from ..queries import (
    GetContext,
    GetEntry,
    GetRetention,
    GetSession,
    GetUsage,
    ListEntries,
    ListMessages,
    ListSessions,
    Query,
)
from ..records import Entry, Message, Session
from ..store import Store
from ..timestamps import new_id
from ..values import Stored, encode, encode_json, size

T = TypeVar("T")
WRITERS = 8

AWKWARD_NAMES = (
    ".", "..", "../..", "a//b", "/", "//", "/a/", "a/../b", "%2F", "%", "%00", "?", "a?b=c&d", "#", "a#b", "a b", "+", "a\\b",
    "'; DROP TABLE entries; --", '"', "é", "e\u0301", "日本語", "🤖", "\u202eright to left", "k" * 512, "é" * 256,
)  # fmt: skip
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100)
"""Legal keys and session names."""
_numbers = st.integers() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
_texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_texts, inner, max_size=5),
    max_leaves=20,
)
"""JSON values of every kind."""
values = json_values | st.binary()
"""What may be stored under a key."""
_SOME_DATA = st.lists(json_values, max_size=3)
_OWNERS = st.sampled_from([None, "ada", "bob"])
_TAGS = st.sampled_from(["red", "blue", "é"])
_SOME_OBJECTS = st.dictionaries(_texts, _numbers | _texts, max_size=2)


def operations_on(
    keys: st.SearchStrategy[str],
    sessions: st.SearchStrategy[str],
    some_values: st.SearchStrategy[Any] = values,
    messages: st.SearchStrategy[list[Any]] = _SOME_DATA,
) -> st.SearchStrategy[Operation]:
    """Return operations of every kind that changes the data, on some keys and sessions. Forks have names of their own."""
    forks = sessions.map(fork_of)
    all_sessions = st.one_of(sessions, sessions, forks)
    seqs = st.integers(0, 5)
    seconds = st.sampled_from([None, 3_600.0, 7_200.5])
    return st.one_of(
        st.builds(put, keys, some_values),
        st.builds(Delete, keys),
        st.builds(Increment, keys, st.integers() | st.floats(-1e9, 1e9)),
        st.builds(lambda key, length: Clear(key[:length]), keys, st.integers(0, 20)),
        st.builds(lambda session, data: Append(session, messages_of(*data)), sessions, messages),
        st.builds(lambda name, data, last: Append(name, messages_of(*data), last), all_sessions, messages, seqs),
        st.builds(Pop, all_sessions, st.integers(0, 4) | st.just(30)),
        st.builds(Forget, all_sessions),
        st.builds(lambda name, data, after: Replace(name, messages_of(*data), after), all_sessions, messages, seqs),
        st.builds(Fork, all_sessions, forks, st.none() | seqs),
        st.builds(
            lambda name, seq, data, reason: Edit(name, seq, encode_json([*data, None][0]), redacted=reason),
            all_sessions, seqs, messages, st.sampled_from([None, "", "asked for"]),
        ),
        st.builds(lambda name, upto, data: Summarize(name, upto, encode_json(data)), all_sessions, seqs, messages),
        st.builds(about_of, all_sessions, st.none() | _texts, _OWNERS, st.lists(_TAGS, max_size=2, unique=True), _SOME_OBJECTS),
        st.builds(SetExpiry, all_sessions, seconds),
        st.builds(Retain, st.just("") | sessions.map(lambda name: name[:1]), seconds, seconds),
    )  # fmt: skip


def exact(value: Any) -> Any:
    """Return a form in which different values differ: ``1``, ``1.0`` and ``True`` are equal in Python."""
    return repr(value)


def put(key: str, value: Any, **options: Any) -> Put:
    """Return the operation that sets a key to a value."""
    return Put(key, encode(value), **options)


def messages_of(*data: Any) -> tuple[NewMessage, ...]:
    """Return new messages with these data."""
    return tuple(NewMessage(new_id(), encode_json(item)) for item in data)


def fork_of(name: str) -> str:
    """Return the name of a fork of a session."""
    return f"{name} copy"


def about_of(
    session: str, title: str | None = None, owner: str | None = None, tags: Sequence[str] = (), data: Any = None,
    **options: Any,
) -> SetAbout:  # fmt: skip
    """Return the operation that sets what is known about a session."""
    parts = ({} if title is None else {"title": title}) | ({"data": data} if data else {})
    return SetAbout(session, encode_json(parts) if parts else "", owner, tuple(tags), **options)


def session_of(store: Store, name: str = "s", namespace: str = "n", *, preview: bool = False) -> Session:
    """Return a session, which must exist."""
    session = store.read(namespace, GetSession(name, preview))
    assert session is not None, name
    return session


def message_of(store: Store, seq: int, session: str = "s", namespace: str = "n") -> Message:
    """Return a message, which must exist."""
    (message,) = store.read(namespace, ListMessages(session, seq - 1, 1))
    return message


def popped(store: Store, pop: Pop) -> list[Message]:
    """Pop messages and return them."""
    (messages,) = store.write("n", [pop])
    return cast("list[Message]", messages)


def entry_of(store: Store, key: str, namespace: str = "n") -> Entry:
    """Return the entry of a key, which must exist."""
    entry = store.read(namespace, GetEntry(key))
    assert entry is not None, key
    return entry


def data_of(store: Store, session: str = "s", namespace: str = "n", **options: Any) -> list[Any]:
    """Return the data of the messages of a session."""
    return [message.data for message in store.read(namespace, ListMessages(session, **options))]


def snapshot(store: Store, namespace: str = "n") -> Any:
    """Return all that a store answers about a namespace."""
    sessions = store.read(namespace, ListSessions(preview=True))
    of_sessions = [query(session.name) for session in sessions for query in (ListMessages, _context_of)]
    queries: list[Query[Any]] = [ListEntries(), GetRetention(), GetUsage(), *of_sessions]
    return [sessions, *(store.read(namespace, query) for query in queries)]


def _context_of(session: str) -> GetContext:
    return GetContext(session, 3, head=1)


def refused(store: Store, kind: type[BotWireError], operation: Operation, **details: Any) -> BotWireError:
    """Check that an operation is refused, also after others in one write, with these details, and changes nothing."""
    before = snapshot(store)
    writes: list[list[Operation]] = [[operation], [put("refused", 1), Append("refused", messages_of(1)), operation]]
    for write in writes:
        with pytest.raises(kind) as caught:
            store.write("n", write)
        assert {name: caught.value.details.get(name) for name in details} == details
        assert snapshot(store) == before
    return caught.value


class Generated:
    """A contract with generated tests. ``examples`` and ``steps`` set how long these run."""

    examples = 25
    steps = 40

    def for_all(self, strategy: st.SearchStrategy[T], check: Callable[[T], None]) -> None:
        """Call a check with generated examples."""
        settings(max_examples=4 * self.examples, deadline=None)(given(strategy)(check))()

    def run(self, machine: type[RuleBasedStateMachine]) -> None:
        """Run a state machine."""
        config = settings(
            max_examples=self.examples,
            stateful_step_count=self.steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(machine, settings=config)


class Counted(Generated):
    """A contract that knows the bytes of what a store holds."""

    def counted(self, stored: Stored) -> int:
        """Return the accounted bytes of a stored form. Override it for a store with another stored form."""
        return size(stored)

    def counted_message(self, stored: str) -> int:
        """Like `counted`, for a message, a summary, or the title and data of a session."""
        return size(stored)

    def counted_messages(self, messages: Sequence[NewMessage]) -> int:
        """Return the accounted bytes of messages and their ids."""
        return sum(size(item.id) + self.counted_message(item.stored) for item in messages)

    def counted_about(self, about: SetAbout) -> int:
        """Return the accounted bytes of what is known about a session."""
        names = size(about.owner or "") + (size(encode_json(list(about.tags))) if about.tags else 0)
        return names + (self.counted_message(about.stored) if about.stored else 0)


def race(work: Callable[[int], T]) -> list[T]:
    """Do work in several threads that start at the same moment, and return all results."""
    barrier = threading.Barrier(WRITERS, timeout=30)

    def run(writer: int) -> T:
        barrier.wait()
        return work(writer)

    with ThreadPoolExecutor(WRITERS) as threads:
        return list(threads.map(run, range(WRITERS)))


@contextmanager
def repeating(work: Callable[[], object], threads: int = 2) -> Iterator[None]:
    """Repeat work in threads until the block ends, and raise what it raised."""
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            work()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(run) for _ in range(threads)]
        try:
            yield
        finally:
            done.set()
        for future in running:
            future.result()
