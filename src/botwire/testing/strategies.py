"""Hypothesis strategies for names, values and operations, and helpers of the contracts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from ..operations import Append, Clear, Delete, Forget, Increment, NewMessage, Operation, Pop, Put
from ..queries import GetEntry, ListMessages
from ..records import Entry
from ..store import Store
from ..timestamps import new_id
from ..values import encode, encode_json

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


def operations_on(
    keys: st.SearchStrategy[str],
    sessions: st.SearchStrategy[str],
    some_values: st.SearchStrategy[Any] = values,
    messages: st.SearchStrategy[list[Any]] = _SOME_DATA,
) -> st.SearchStrategy[Operation]:
    """Return operations of every kind that changes the data, on some keys and sessions."""
    return st.one_of(
        st.builds(put, keys, some_values),
        st.builds(Delete, keys),
        st.builds(Increment, keys, st.integers() | st.floats(-1e9, 1e9)),
        st.builds(lambda key, length: Clear(key[:length]), keys, st.integers(0, 20)),
        st.builds(lambda session, data: Append(session, messages_of(*data)), sessions, messages),
        st.builds(Pop, sessions, st.integers(0, 4) | st.just(30)),
        st.builds(Forget, sessions),
    )


def exact(value: Any) -> Any:
    """Return a form in which different values differ: ``1``, ``1.0`` and ``True`` are equal in Python."""
    return repr(value)


def put(key: str, value: Any, **options: Any) -> Put:
    """Return the operation that sets a key to a value."""
    return Put(key, encode(value), **options)


def messages_of(*data: Any) -> tuple[NewMessage, ...]:
    """Return new messages with these data."""
    return tuple(NewMessage(new_id(), encode_json(item)) for item in data)


def entry_of(store: Store, key: str, namespace: str = "n") -> Entry:
    """Return the entry of a key, which must exist."""
    entry = store.read(namespace, GetEntry(key))
    assert entry is not None, key
    return entry


def data_of(store: Store, session: str = "s", namespace: str = "n", **options: Any) -> list[Any]:
    """Return the data of the messages of a session."""
    return [message.data for message in store.read(namespace, ListMessages(session, **options))]


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
