"""A recount makes usage what the rows hold, on both databases."""

from __future__ import annotations

import threading

import pytest

from botwire import StorageExceeded
from botwire.operations import Append, Forget, NewMessage, Pop, Put, SetVectors
from botwire.plans import Plan, Plans
from botwire.queries import CountMessages, GetUsage, ListTexts
from botwire.stores.sqlite.store import SqliteStore
from botwire.testing.vectors import vector_of

DAMAGE = {
    "UPDATE botwire.namespaces SET bytes = bytes + 5": "bytes, and holds",
    "UPDATE botwire.namespaces SET bytes = -7": "counted -7 bytes, and holds",
    "UPDATE botwire.sessions SET bytes = 0": "session s: it counted 3 messages with 0 bytes, and has 3 with",
    "UPDATE botwire.sessions SET last_seq = 2": "session s: it counted 2 messages",
    "UPDATE botwire.namespaces SET vectors = 1": "counted 1 bytes of vectors, and holds",
    "DELETE FROM botwire.messages WHERE id = 'm2'": "session s: it counted 3 messages",
    "DELETE FROM botwire.entries WHERE key = 'é'": "bytes, and holds",
}


def usage(store, namespace):
    return store.read(namespace, GetUsage()).bytes


def empty(store, namespace):
    """Delete one by one; what is left is an error of what was counted."""
    store.write(namespace, [Pop("s", 1), Forget("s"), *(Put(key, "0") for key in ("k", "é", "old"))])
    return usage(store, namespace)


@pytest.fixture
def filled(opened):
    store, run = opened
    if not isinstance(store, SqliteStore):
        store.create_vectors()
    for namespace in ("n", "other"):
        messages = tuple(NewMessage(f"m{number}", f'"text {number}"') for number in range(3))
        operations = [Put("k", '"some value"'), Put("é", "1"), Put("old", b"bytes", ttl=-1.0), Append("s", messages)]
        store.write(namespace, operations)
        texts = store.read(namespace, ListTexts("m"))
        assert store.write(namespace, [SetVectors("m", tuple(map(vector_of, texts)))]) == [len(texts)]
    return store, run


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_recount_corrects_usage(filled, damage):
    store, run = filled
    assert store.recount("n") == store.recount("other") == store.recount("none") == []
    right = usage(store, "other")
    where = "name = 'n'" if "namespaces" in damage else "name = 's'" if "sessions" in damage else ""
    run(damage + (f" WHERE {where}" if where else ""))
    found = store.recount("n")
    assert DAMAGE[damage] in found[0]
    assert all(line.startswith("namespace n") for line in found)
    assert store.recount("n") == []
    if "DELETE" not in damage:
        assert usage(store, "n") == right
        assert store.read("n", CountMessages("s")) == 3
    if "messages" not in damage:  # a vector of the lost message may be left
        assert empty(store, "n") == len("k") + len("é".encode()) + len("old") + 3


def test_a_session_with_a_gap_keeps_its_number_of_messages(filled):
    store, run = filled
    run("DELETE FROM botwire.messages WHERE id = 'm1'")
    assert "counted 3 messages with 30 bytes, and has 3 with 20 bytes" in store.recount("n")[0]
    assert store.read("n", CountMessages("s")) == 3
    assert store.recount("n") == []


def test_a_recount_in_the_middle_of_writes(opened):
    store, _ = opened
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            store.write(
                "n", [Put(f"{number % 7}", "1" * (number % 50 + 1)), Append("s", (NewMessage(f"{number}", "1"),))]
            )

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        corrections = [store.recount("n") for _ in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert corrections == [[]] * 20
    assert store.recount("n") == []


def test_a_plan_limits_what_is_held_after_a_recount(tmp_path):
    store = SqliteStore(tmp_path / "a.db", plans=Plans("p", {"p": Plan(max_bytes=1_000)}))
    store.write("n", [Put("k", f'"{"x" * 900}"')])
    store._change_now("n", lambda transaction, _: setattr(transaction.state("n"), "bytes", 0))
    store.write("n", [Put("l", f'"{"x" * 900}"')])
    assert "counted 903 bytes, and holds 1,806" in store.recount("n")[0]
    with pytest.raises(StorageExceeded):
        store.write("n", [Put("m", "1")])
    store.close()
