"""Two workers run turns with tools in one session, and one is killed at each step of its turn.

Afterwards `mend` makes the session valid, and it has every message whose addition was acknowledged, each once.
"""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, convert_to_openai_messages

from botwire import BotWireChatHistory
from tests.adapters.isolated.crashes import Strike, kill_workers, note, store_at


def turn(address: str, worker: str, acknowledged: Path, strike: Strike | None = None) -> None:
    """Add the messages of a turn as they come: a question, two tool calls, their results, an answer."""
    history = BotWireChatHistory("session", store=store_at(address, strike))
    calls = [f"{worker}-{uuid.uuid4().hex}" for _ in range(2)]
    tools = [{"name": "find", "args": {}, "id": call} for call in calls]
    steps: list[list[BaseMessage]] = [
        [HumanMessage(f"{worker}-question")],
        [AIMessage(f"{worker}-calls", tool_calls=tools)],
        [ToolMessage(f"result-of-{call}", tool_call_id=call) for call in calls],
        [AIMessage(f"{worker}-answer")],
    ]
    for messages in steps:
        history.add_messages(messages)
        note(acknowledged, " ".join(str(message.content) for message in messages))


def check(messages: list[BaseMessage]) -> None:
    """Fail unless the results of all calls follow them at once, as providers require."""
    expected: set[str] = set()
    for message in convert_to_openai_messages(messages):
        if message["role"] == "tool":
            expected.remove(message["tool_call_id"])
        else:
            assert not expected
            expected = {call["id"] for call in message.get("tool_calls", ())}
    assert not expected


def verify(address: str, acknowledged: Path) -> None:
    history = BotWireChatHistory("session", store=store_at(address))
    before = history.messages
    history.mend()
    assert history.mend() == []
    messages = history.messages
    check(messages)
    noted = acknowledged.read_text().split() if acknowledged.exists() else []
    counts = Counter(str(message.content) for message in messages)
    assert all(counts[text] == 1 for text in noted)
    assert {str(message.content) for message in before} <= set(counts)
    seqs = [message.seq for message in history._history.messages()]
    assert seqs == list(range(1, len(messages) + 1))
    turn(address, "after", acknowledged)
    check(history.messages)
    check(BotWireChatHistory("session", store=store_at(address), max_tokens=200).messages)
    check(BotWireChatHistory("session", store=store_at(address), last=5).messages)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_leaves_a_session_that_can_be_mended(tmp_path: Path, workers: int) -> None:
    kill_workers(tmp_path, turn, verify, 4, workers)
