"""A worker is killed at each write of a turn with tools. Afterwards `mend` makes the messages valid, and none is lost."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    UserMessage,
)

from botwire.adapters.autogen import BotWireChatCompletionContext
from tests.adapters.isolated.crashes import Strike, kill_workers, note, store_at


def turn(address: str, worker: str, acknowledged: Path, strike: Strike | None = None) -> None:
    asyncio.run(_turn(address, worker, acknowledged, strike))


async def _turn(address: str, worker: str, acknowledged: Path, strike: Strike | None) -> None:
    context = BotWireChatCompletionContext("s", store=store_at(address, strike))
    calls = [FunctionCall(id=f"{worker}-{uuid.uuid4().hex}", name="find", arguments="{}") for _ in range(2)]
    results = [FunctionExecutionResult(content="found", name="find", call_id=call.id, is_error=False) for call in calls]
    steps: list[tuple[str, LLMMessage]] = [
        (f"{worker}-question", UserMessage(content=f"{worker}-question", source="user")),
        (calls[0].id, AssistantMessage(content=calls, source="agent")),
        (calls[1].id, FunctionExecutionResultMessage(content=results)),
        (f"{worker}-answer", AssistantMessage(content=f"{worker}-answer", source="agent")),
    ]
    for mark, message in steps:
        await context.add_message(message)
        note(acknowledged, mark)


def verify(address: str, acknowledged: Path) -> None:
    noted = acknowledged.read_text().split() if acknowledged.exists() else []
    asyncio.run(_verify(address, acknowledged, noted))


async def _verify(address: str, acknowledged: Path, noted: list[str]) -> None:
    context = BotWireChatCompletionContext("s", store=store_at(address))
    await context.mend()
    assert await context.mend() == []
    messages = await context.get_messages()
    check(messages)
    text = "".join(map(repr, messages))
    assert all(mark in text for mark in noted)
    await _turn(address, "after", acknowledged, None)
    check(await context.get_messages())
    check(await BotWireChatCompletionContext("s", store=store_at(address), max_tokens=60).get_messages())


def check(messages: list[LLMMessage]) -> None:
    """Fail unless the results of all calls follow them at once, as providers require."""
    expected: set[str] = set()
    for message in messages:
        if isinstance(message, FunctionExecutionResultMessage):
            expected -= {result.call_id for result in message.content}
        else:
            assert not expected
            content = message.content
            expected = (
                {call.id for call in content if isinstance(call, FunctionCall)} if isinstance(content, list) else set()
            )
    assert not expected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_leaves_messages_that_can_be_mended(tmp_path: Path, workers: int) -> None:
    kill_workers(tmp_path, turn, verify, 4, workers)
