"""What an agent gets of a long session, and sessions that expire."""

from __future__ import annotations

import time

import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

from botwire import Conflict, InvalidArgument
from botwire.adapters.pydantic_ai import BotWireMessageHistory


def texts(messages: list[ModelMessage]) -> list[object]:
    return [part.content for message in messages for part in message.parts]


def user(text: str) -> ModelRequest:
    return ModelRequest([UserPromptPart(text)])


def fill(history: BotWireMessageHistory) -> None:
    messages: list[ModelMessage] = [ModelRequest([SystemPromptPart("Be kind.")])]
    for number in range(20):
        messages += [user(f"question {number}"), ModelResponse([TextPart(f"answer {number}")])]
    history.append(messages)


def test_the_newest_messages_that_fit(address: str) -> None:
    counted: list[ModelMessage] = []

    def count(message: ModelMessage) -> int:
        counted.append(message)
        return 10

    history = BotWireMessageHistory("s", "budget", address, max_tokens=50, count=count)
    fill(history)
    assert texts(history.load()) == ["Be kind.", "question 18", "answer 18", "question 19", "answer 19"]
    assert counted
    assert all(isinstance(message, ModelRequest | ModelResponse) for message in counted)
    assert len(history.load(41)) == 41
    with pytest.raises(InvalidArgument, match="20"):
        BotWireMessageHistory("s", "budget", address, max_tokens=19, count=count).load()


async def test_a_summary_replaces_the_first_messages(address: str) -> None:
    history = BotWireMessageHistory("s", "summary", address)
    fill(history)
    await history.asummarize([user("They asked 15 questions.")], upto=31)
    assert texts(await history.aload())[:3] == ["Be kind.", "They asked 15 questions.", "question 15"]
    assert await history.amend() == []
    with pytest.raises(Conflict):
        history.summarize([user("less")], upto=3)
    with pytest.raises(InvalidArgument):
        history.summarize([user("more")], upto=99)


def test_a_session_expires(address: str) -> None:
    history = BotWireMessageHistory("s", "ttl", address, ttl=0.3)
    history.append([user("x")])
    assert len(history.load()) == 1
    time.sleep(0.35)
    assert history.load() == []


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"max_tokens": "5"}, {"count": 5}, {"ttl": 0}])
def test_wrong_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        BotWireMessageHistory("s", url="sqlite:///:memory:", **wrong)
