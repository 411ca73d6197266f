"""Copies of a memory, of what contains one, and of its parts."""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
from dataclasses import asdict, dataclass
from operator import methodcaller

import pytest

import botwire
from botwire import AsyncMemory, InvalidArgument, Memory, StoreError
from botwire.store import Store


@dataclass
class Agent:
    memory: Memory


@pytest.fixture
def memory(tmp_path):
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:
        memory["a"] = 1
        yield memory


def test_a_copy_of_what_contains_a_memory_shares_the_memory(memory):
    assert copy.copy(memory) is memory
    assert copy.deepcopy({"memory": memory})["memory"] is memory
    assert asdict(Agent(memory))["memory"] is memory
    assert copy.deepcopy(memory.history("s")).append(["x"]) == [1]
    history = botwire.BotWireChatHistory("t", url=memory.address)
    copy.deepcopy(history).add_user_message("Hello")
    assert len(history.messages) == 1


def test_a_failed_copy_of_a_store_closes_nothing(memory, tmp_path):
    """It once closed the lock's descriptor, whose number the next file got."""
    for part in (memory._lease, memory._lease.store(), memory.bridge):
        with pytest.raises(TypeError):
            copy.deepcopy(part)
    gc.collect()
    files = [os.open(tmp_path / f"{number}", os.O_CREAT | os.O_RDWR) for number in range(20)]
    memory["a"] = 2
    memory.close()
    for file in files:
        os.write(file, b"x")  # still open
        os.close(file)
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as again:
        assert again["a"] == 2


def test_a_pickle_of_a_memory_is_its_place(memory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"url": "sqlite:///a.db", "timeout": 7}
    for cls in (Memory, AsyncMemory):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(cls("n", **options), protocol))
            assert (type(again), again.namespace, again.address) == (cls, "n", f"sqlite:///{tmp_path}/a.db")
            assert (again._lease.opened, again._lease._timeout) == (None, 7)
    again = pickle.loads(pickle.dumps(memory.history("s")))
    assert again.append(["x"]) == [1]
    twin = AsyncMemory.of(memory)
    blocking, awaited = pickle.loads(pickle.dumps([memory, twin]))
    assert asyncio.run(awaited.get("a")) == 1
    blocking.close()
    with pytest.raises(StoreError, match="closed"):
        asyncio.run(awaited.get("a"))


def test_memories_in_spawned_processes_are_one(memory):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        calls = [pool.apply_async(methodcaller("increment", "count"), (memory,)) for _ in range(8)]
        assert sorted(call.get(60) for call in calls) == list(range(1, 9))
        seqs = pool.apply(methodcaller("append", ["x"]), (memory.history("s"),))
    assert (memory["count"], len(memory.history("s")), seqs) == (8, 1, [1])


def test_the_default_memory_is_that_of_the_other_process(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTWIRE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BOTWIRE_TOKEN", "sEcReT-of-the-environment")
    pickled = pickle.dumps(Memory("n"))
    assert b"sEcReT" not in pickled
    monkeypatch.setenv("BOTWIRE_URL", f"sqlite:///{tmp_path}/other.db")
    assert pickle.loads(pickled).address == f"sqlite:///{tmp_path}/other.db"


def test_a_pickle_holds_no_secret(memory):
    pytest.importorskip("psycopg")
    url, key = memory.address, botwire.generate_key()
    for options, cure in (
        ({"url": "http://127.0.0.1:9", "token": "sEcReT-sEcReT-sEcReT"}, "BOTWIRE_TOKEN"),
        ({"url": url, "encryption_key": key}, "with its key"),
        ({"url": "postgresql://ada:sEcReT@127.0.0.1:9/x"}, "PGPASSWORD"),
        ({"url": "sqlite:///:memory:"}, "a file or a server"),
        ({"store": memory._lease.store()}, "with store="),
        ({"url": url, "embedder": lambda texts: [[1.0]] * len(texts)}, "with an embedder="),
    ):
        unpicklable = AsyncMemory("n", **options)
        for whole in (unpicklable, unpicklable.history("s"), {"agent": unpicklable}):
            with pytest.raises(TypeError, match=cure) as caught:
                pickle.dumps(whole)
            assert "sEcReT" not in str(caught.value)
            assert copy.deepcopy(whole) is not None
    pickled = pickle.dumps(AsyncMemory("n", "postgresql://ada@127.0.0.1:9/x?sslmode=require"))
    assert pickle.loads(pickled).address == "postgresql://ada@127.0.0.1:9/x?sslmode=require"


def test_a_pickle_is_checked_like_arguments():
    good = pickle.dumps(Memory("mine", "http://127.0.0.1:9"), protocol=0)
    for old, new in ((b"Vmine", b"Va/b"), (b"http://127.0.0.1:9", b"ftp://127.0.0.1:9"), (b"F10.0", b"F-1.0")):
        assert old in good
        with pytest.raises((botwire.InvalidName, InvalidArgument)):
            pickle.loads(good.replace(old, new))


def test_a_closed_memory_is_closed_although_another_uses_the_store(memory):
    with Memory("m", memory.address) as other:
        other["k"] = 1
    for call in (lambda: other["k"], lambda: other.set("k", 2), lambda: other.history("s").append([1])):
        with pytest.raises(StoreError, match="this memory is closed"):
            call()
    assert memory["a"] == 1


def test_a_closed_async_memory_is_closed_although_another_uses_the_store(memory):
    async def use():
        async with AsyncMemory("m", memory.address) as other:
            await other.set("k", 1)
        with pytest.raises(StoreError, match="this memory is closed"):
            await other.get("k")
        blocking = Memory("m", memory.address)
        twin = AsyncMemory.of(blocking)
        assert await twin.get("k") == 1
        blocking.close()
        with pytest.raises(StoreError, match="this memory is closed"):
            await twin.get("k")

    asyncio.run(use())


def test_an_object_that_is_no_store_is_refused():
    for value, what in ((Store, "the class Store"), ({}, "a dict without address")):
        with pytest.raises(InvalidArgument, match=what):
            Memory("n", store=value)

    class Half(Store):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Half()


def test_arguments_of_the_wrong_type_are_named(memory):
    for call, what in (
        (lambda: memory.set_many([("a", 1)]), "values is a dict .* not list"),
        (lambda: memory.get_many(None), "keys is a list of keys, not NoneType"),
        (lambda: memory.get_many("abc"), "keys is a list of keys, not str"),
        (lambda: Memory("n", "http://[::1"), "the host or port"),
    ):
        with pytest.raises(InvalidArgument, match=what):
            call()
