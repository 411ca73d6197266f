"""What an agent gets of a long session, and sessions that expire."""

from __future__ import annotations

import asyncio

import pytest
from agent_framework import Message

from botwire import Conflict, InvalidArgument
from botwire.adapters.agent_framework import BotWireHistoryProvider


async def fill(provider: BotWireHistoryProvider) -> None:
    messages = [Message("system", ["Be kind."])]
    for number in range(20):
        messages += [Message("user", [f"question {number}"]), Message("assistant", [f"answer {number}"])]
    await provider.save_messages("s", messages)


async def test_the_newest_messages_that_fit(address: str) -> None:
    counted: list[Message] = []

    def count(message: Message) -> int:
        counted.append(message)
        return 10

    provider = BotWireHistoryProvider("budget", address, max_tokens=50, count=count)
    await fill(provider)
    texts = [message.text for message in await provider.get_messages("s")]
    assert texts == ["Be kind.", "question 18", "answer 18", "question 19", "answer 19"]
    assert counted
    assert all(isinstance(message, Message) for message in counted)
    with pytest.raises(InvalidArgument, match="20"):
        await BotWireHistoryProvider("budget", address, max_tokens=19, count=count).get_messages("s")


async def test_a_summary_replaces_the_first_messages(address: str) -> None:
    provider = BotWireHistoryProvider("summary", address)
    await fill(provider)
    await provider.summarize("s", [Message("user", ["They asked 15 questions."])], upto=31)
    texts = [message.text for message in await provider.get_messages("s")]
    assert texts[:3] == ["Be kind.", "They asked 15 questions.", "question 15"]
    with pytest.raises(Conflict):
        await provider.summarize("s", [Message("user", ["less"])], upto=3)
    with pytest.raises(InvalidArgument):
        await provider.summarize("s", [Message("user", ["more"])], upto=99)


async def test_a_session_expires(address: str) -> None:
    provider = BotWireHistoryProvider("ttl", address, ttl=0.3)
    await provider.save_messages("s", [Message("user", ["x"])])
    assert len(await provider.get_messages("s")) == 1
    await asyncio.sleep(0.35)
    assert await provider.get_messages("s") == []


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"max_tokens": "5"}, {"count": 5}, {"ttl": 0}])
def test_wrong_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        BotWireHistoryProvider(url="sqlite:///:memory:", **wrong)
