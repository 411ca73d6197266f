"""What one transaction may pop and increment, in both databases."""

from __future__ import annotations

import asyncio

import pytest

from botwire import Conflict, InvalidArgument, InvalidValue, Unavailable
from botwire.operations import Append, Increment, NewMessage, Pop, Put
from botwire.queries import CountMessages, GetEntry, ListKeys
from botwire.records import Message
from botwire.stores.engine import effort
from botwire.stores.sqlite.store import SqliteStore
from botwire.values import MAX_NUMBER_BYTES

TEXT = f'"{"x" * 1_000}"'


@pytest.fixture(autouse=True)
def little_room(monkeypatch):
    monkeypatch.setattr(effort, "MAX_POPPED", 3_000)


def append(store, session, count):
    store.write("n", [Append(session, tuple(NewMessage(f"m{number}", TEXT) for number in range(count)))])


def test_a_pop_of_too_much_is_refused_before_it_is_read(opened):
    store, _ = opened
    append(store, "s", 10)
    for key in (None, "key"):
        with pytest.raises(InvalidArgument, match="Pop fewer messages"):
            store.write("n", [Put("k", "1"), Pop("s", 10)], idempotency_key=key)
        with pytest.raises(InvalidArgument, match="Pop fewer messages"):
            store.write("n", [Pop("s", 10, if_ids=("another",))], idempotency_key=key)
    assert store.read("n", CountMessages("s")) == 10
    assert store.read("n", ListKeys()) == []
    assert len(store.write("n", [Pop("s", 2)])[0]) == 2
    assert [len(store.write("n", [Pop("s")])[0]) for _ in range(8)] == [1] * 8


def test_writes_that_are_committed_together_pop_no_more_than_one(opened):
    store, _ = opened
    for number in range(20):
        append(store, f"s{number}", 2)

    async def pop(session):
        try:
            return len((await asynchronous.write("n", [Pop(session, 2)]))[0])
        except Unavailable as error:
            assert "Try again" in error.message
            return 0

    async def main():
        return await asyncio.gather(*(pop(f"s{number}") for number in range(20)))

    asynchronous = store.to_async()
    popped = asyncio.run(main())
    assert 2 in popped
    assert set(popped) <= {0, 2}
    assert 0 in popped or not isinstance(store, SqliteStore)  # PostgreSQL commits some of them one by one
    left = [store.read("n", CountMessages(f"s{number}")) for number in range(20)]
    assert [a + b for a, b in zip(popped, left, strict=True)] == [2] * 20


def test_a_write_increments_few_long_numbers(opened):
    store, _ = opened
    store.write("n", [Put("long", "9" * 4_000), Put("short", "9" * 50)])
    assert len(store.write("n", [Increment("short", 1)] * 10_000)) == 10_000
    assert len(store.write("n", [Increment("long", 1)] * 40)) == 40
    with pytest.raises(InvalidArgument, match="Split it"):
        store.write("n", [Increment("long", 1)] * 60)
    assert store.read("n", GetEntry("long")).value == 10**4_000 + 39


def test_the_longest_value_that_may_be_a_number(opened):
    store, _ = opened
    for length, message in ((MAX_NUMBER_BYTES, "holds str, not a number"), (MAX_NUMBER_BYTES + 1, "holds 4,401 bytes")):
        store.write("n", [Put("k", f'"{"x" * (length - 2)}"')])
        with pytest.raises(InvalidValue, match=message):
            store.write("n", [Increment("k", 1)])


def test_a_refused_pop_keeps_no_messages(opened):
    """The error waits for its answer. Several of 30 MB each were in memory at once."""
    store, _ = opened
    append(store, "s", 10)
    for count in (2, 10):
        with pytest.raises((Conflict, InvalidArgument)) as caught:
            store.write("n", [Pop("s", count, if_ids=("another",))])
        kept = [value for entry in caught.traceback for value in entry.frame.f_locals.values()]
        assert not [value for value in kept if isinstance(value, list) and value and isinstance(value[0], Message)]
