"""A worker is killed at each write of a turn with tools. Afterwards `mend` makes the messages valid, and none is lost."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from agent_framework import Content, Message

from botwire.adapters.agent_framework import BotWireHistoryProvider
from tests.adapters.isolated.crashes import Strike, kill_workers, note, store_at


def turn(address: str, worker: str, acknowledged: Path, strike: Strike | None = None) -> None:
    asyncio.run(_turn(address, worker, acknowledged, strike))


async def _turn(address: str, worker: str, acknowledged: Path, strike: Strike | None) -> None:
    provider = BotWireHistoryProvider(store=store_at(address, strike))
    calls = [f"{worker}-{uuid.uuid4().hex}" for _ in range(2)]
    steps = [
        (f"{worker}-question", Message("user", [f"{worker}-question"])),
        (calls[0], Message("assistant", [Content.from_function_call(call, "find", arguments="{}") for call in calls])),
        (calls[1], Message("tool", [Content.from_function_result(call, result="found") for call in calls])),
        (f"{worker}-answer", Message("assistant", [f"{worker}-answer"])),
    ]
    for mark, message in steps:
        await provider.save_messages("s", [message])
        note(acknowledged, mark)


def verify(address: str, acknowledged: Path) -> None:
    noted = acknowledged.read_text().split() if acknowledged.exists() else []
    asyncio.run(_verify(address, acknowledged, noted))


async def _verify(address: str, acknowledged: Path, noted: list[str]) -> None:
    provider = BotWireHistoryProvider(store=store_at(address))
    await provider.mend("s")
    assert await provider.mend("s") == []
    messages = await provider.get_messages("s")
    check(messages)
    text = "".join(str(message.to_dict()) for message in messages)
    assert all(mark in text for mark in noted)
    await _turn(address, "after", acknowledged, None)
    check(await provider.get_messages("s"))
    check(await BotWireHistoryProvider(store=store_at(address), max_tokens=60).get_messages("s"))


def check(messages: list[Message]) -> None:
    """Fail unless the results of all calls follow them at once, as providers require."""
    expected: set[str] = set()
    for message in messages:
        contents = [content.to_dict() for content in message.contents]
        results = {content["call_id"] for content in contents if content["type"] == "function_result"}
        if results:
            assert results <= expected
            expected -= results
        else:
            assert not expected
            expected = {content["call_id"] for content in contents if content["type"] == "function_call"}
    assert not expected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_leaves_messages_that_can_be_mended(tmp_path: Path, workers: int) -> None:
    kill_workers(tmp_path, turn, verify, 4, workers)
