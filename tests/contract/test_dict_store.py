"""A store from another package passes the contract, and works wherever a store does."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from botwire import AsyncMemory, BotWireChatHistory, InvalidArgument, Memory, generate_key
from botwire.migrate.copy import copy
from botwire.queries import ListKeys
from botwire.testing import StoreContract
from tests.contract.dict_store import DictStore


class TestDictStore(StoreContract):
    examples = 10

    @pytest.fixture
    def store(self):
        return DictStore()


@pytest.fixture
def store():
    return DictStore()


@pytest.mark.parametrize("options", [{}, {"encryption_key": generate_key()}])
def test_memory(store, options):
    with Memory("n", store=store, **options) as memory:
        memory["k"] = {"a": [1]}
        memory.set_many({"l": 1, "m": b"2"})
        assert memory.update("l", lambda value: value + 1) == 2
        assert dict(memory.items()) == {"k": {"a": [1]}, "l": 2, "m": b"2"}
        history = memory.history("s")
        assert history.append(["one", "two"]) == [1, 2]
        assert [message.data for message in history.pop()] == ["two"]
        assert [session.name for session in memory.sessions()] == ["s"]
        assert memory.address == "dict:"
        for refused in (lambda: memory.search("one"), memory.watch):
            with pytest.raises(InvalidArgument):
                refused()


def test_async_memory(store):
    async def awaited():
        async with AsyncMemory("n", store=store) as memory:
            await asyncio.gather(*(memory.increment("k") for _ in range(20)))
            await memory.history("s").append([1])
            return await memory.get("k"), await memory.history("s").length()

    assert asyncio.run(awaited()) == (20, 1)
    assert store.read("n", ListKeys()) == ["k"]


def test_langchain(store):
    history = BotWireChatHistory("s", store=store)
    history.add_messages([HumanMessage("Hi"), AIMessage("Hello")])
    assert [message.content for message in BotWireChatHistory("s", store=store).messages] == ["Hi", "Hello"]
    assert len(asyncio.run(history.aget_messages())) == 2


def test_copies(store, tmp_path):
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as file, Memory("n", store=store) as memory:
        file.set_many({"k": 1, "é": b"bytes"})
        file.set("t", 2, ttl=60)
        file.history("s").append(["one", "two"])
        report = copy(file.bridge.store, store)
        assert (report.namespaces, report.entries, report.messages) == (1, 3, 2)
        assert memory.items() == file.items()
        assert memory.entry("t").expires_at is not None
        assert [item.data for item in memory.history("s")] == ["one", "two"]
        other = DictStore()
        assert copy(store, other).checksum == copy(store, other).checksum == report.checksum
