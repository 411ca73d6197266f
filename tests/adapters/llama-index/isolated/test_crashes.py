"""A worker is killed at each write of a turn with tools. Afterwards `mend` makes the messages valid, and none is lost."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from llama_index.core.llms import ChatMessage

from botwire.adapters.llama_index import BotWireChatStore, BotWireMemoryStore
from tests.adapters.isolated.crashes import Strike, kill_workers, note, store_at
from tests.adapters.isolated.llama_index import check


def turn(address: str, worker: str, acknowledged: Path, strike: Strike | None = None) -> None:
    store = BotWireChatStore(store=store_at(address, strike))
    calls = [f"{worker}-{uuid.uuid4().hex}" for _ in range(2)]
    tools = [{"id": call, "type": "function", "function": {"name": "find", "arguments": "{}"}} for call in calls]
    steps = [
        (f"{worker}-question", ChatMessage(f"{worker}-question", role="user")),
        (calls[0], ChatMessage("", role="assistant", additional_kwargs={"tool_calls": tools})),
        *((call, ChatMessage("found", role="tool", additional_kwargs={"tool_call_id": call})) for call in calls),
        (f"{worker}-answer", ChatMessage(f"{worker}-answer", role="assistant")),
    ]
    for mark, message in steps:
        store.add_message("s", message)
        note(acknowledged, mark)


def verify(address: str, acknowledged: Path) -> None:
    store = BotWireChatStore(store=store_at(address))
    store.mend("s")
    assert store.mend("s") == []
    messages = store.get_messages("s")
    check(messages)
    text = "".join(map(repr, messages))
    assert all(mark in text for mark in acknowledged.read_text().split()) if acknowledged.exists() else True
    turn(address, "after", acknowledged)
    check(store.get_messages("s"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_leaves_messages_that_can_be_mended(tmp_path: Path, workers: int) -> None:
    kill_workers(tmp_path, turn, verify, 5, workers)


async def test_keys_expire(address: str) -> None:
    chats, memories = BotWireChatStore("chats", address, ttl=0.3), BotWireMemoryStore("memories", address, ttl=0.3)
    assert BotWireChatStore.from_dict(chats.to_dict()).ttl == 0.3
    chats.add_message("s", ChatMessage("x"))
    await memories.add_messages("s", [ChatMessage("x")])
    assert len(chats.get_messages("s")) == await memories.count_messages("s") == 1
    await asyncio.sleep(0.35)
    assert chats.get_messages("s") == await memories.get_messages("s") == []
    assert chats.get_keys() == await memories.get_keys() == []
