"""A worker is killed at each write of a turn with tools. Afterwards `mend` makes the messages valid, and none is lost."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from botwire.adapters.pydantic_ai import BotWireMessageHistory
from tests.adapters.isolated.crashes import Strike, kill_workers, note, store_at


def turn(address: str, worker: str, acknowledged: Path, strike: Strike | None = None) -> None:
    history = BotWireMessageHistory("s", store=store_at(address, strike))
    calls = [f"{worker}-{uuid.uuid4().hex}" for _ in range(2)]
    steps: list[tuple[str, ModelMessage]] = [
        (f"{worker}-question", ModelRequest([UserPromptPart(f"{worker}-question")])),
        (calls[0], ModelResponse([ToolCallPart("find", {}, tool_call_id=call) for call in calls])),
        (calls[1], ModelRequest([ToolReturnPart("find", "found", tool_call_id=call) for call in calls])),
        (f"{worker}-answer", ModelResponse([TextPart(f"{worker}-answer")])),
    ]
    for mark, message in steps:
        history.append([message])
        note(acknowledged, mark)


def verify(address: str, acknowledged: Path) -> None:
    history = BotWireMessageHistory("s", store=store_at(address))
    history.mend()
    assert history.mend() == []
    messages = history.load()
    check(messages)
    text = "".join(map(repr, messages))
    assert all(mark in text for mark in acknowledged.read_text().split()) if acknowledged.exists() else True
    turn(address, "after", acknowledged)
    check(history.load())
    check(BotWireMessageHistory("s", store=store_at(address), max_tokens=60).load())


def check(messages: list[ModelMessage]) -> None:
    """Fail unless all results come before the next response. Pydantic AI joins responses that follow each other."""
    expected: set[str] = set()
    previous: ModelMessage | None = None
    for message in messages:
        results = {part.tool_call_id for part in message.parts if isinstance(part, ToolReturnPart)}
        assert results <= expected
        expected -= results
        if isinstance(message, ModelResponse):
            assert not expected or isinstance(previous, ModelResponse)
            expected |= {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)}
        previous = message
    assert not expected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_leaves_messages_that_can_be_mended(tmp_path: Path, workers: int) -> None:
    kill_workers(tmp_path, turn, verify, 4, workers)
