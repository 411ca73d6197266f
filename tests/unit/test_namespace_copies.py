"""Copies of a memory, of what contains one, and of its parts."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
from dataclasses import asdict, dataclass

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


def test_a_memory_is_not_pickled(memory):
    for pickled in (memory, AsyncMemory("n", memory.address)):
        with pytest.raises(TypeError, match="Create one in each process"):
            pickle.dumps(pickled)


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
