"""What a model receives of a long session, and sessions that expire."""

from __future__ import annotations

import asyncio

import pytest
from autogen_core.models import AssistantMessage, LLMMessage, SystemMessage, UserMessage

from botwire import Conflict, InvalidArgument
from botwire.adapters.autogen import BotWireChatCompletionContext


def texts(messages: list[LLMMessage]) -> list[object]:
    return [message.content for message in messages]


async def fill(context: BotWireChatCompletionContext) -> None:
    await context.add_message(SystemMessage(content="Be kind."))
    for number in range(20):
        await context.add_message(UserMessage(content=f"question {number}", source="user"))
        await context.add_message(AssistantMessage(content=f"answer {number}", source="agent"))


async def test_the_newest_messages_that_fit(address: str) -> None:
    counted: list[LLMMessage] = []

    def count(message: LLMMessage) -> int:
        counted.append(message)
        return 10

    context = BotWireChatCompletionContext("s", "budget", address, max_tokens=50, count=count)
    await fill(context)
    assert texts(await context.get_messages()) == ["Be kind.", "question 18", "answer 18", "question 19", "answer 19"]
    assert all(isinstance(message, SystemMessage | UserMessage | AssistantMessage) for message in counted)
    assert len(texts(await BotWireChatCompletionContext("s", "budget", address).get_messages())) == 41
    with pytest.raises(InvalidArgument, match="20"):
        await BotWireChatCompletionContext("s", "budget", address, max_tokens=19, count=count).get_messages()


async def test_a_summary_replaces_the_first_messages(address: str) -> None:
    context = BotWireChatCompletionContext("s", "summary", address)
    await fill(context)
    await context.summarize([UserMessage(content="They asked 15 questions.", source="user")], upto=31)
    assert texts(await context.get_messages())[:3] == ["Be kind.", "They asked 15 questions.", "question 15"]
    with pytest.raises(Conflict):
        await context.summarize([UserMessage(content="less", source="user")], upto=3)
    with pytest.raises(InvalidArgument):
        await context.summarize([UserMessage(content="more", source="user")], upto=99)
    assert len((await context.save_state())["messages"]) == 41


async def test_a_session_expires(address: str) -> None:
    context = BotWireChatCompletionContext("s", "ttl", address, ttl=0.3)
    await context.add_message(UserMessage(content="x", source="user"))
    assert len(await context.get_messages()) == 1
    await asyncio.sleep(0.35)
    assert await context.get_messages() == []


async def test_a_context_from_its_config_has_the_limits(address: str) -> None:
    config = BotWireChatCompletionContext("s", "config", address, max_tokens=50, ttl=60).dump_component()
    again = BotWireChatCompletionContext.load_component(config)
    assert again.dump_component() == config
    assert (config.config["max_tokens"], config.config["ttl"]) == (50, 60)


async def test_one_limit_at_a_time() -> None:
    with pytest.raises(InvalidArgument, match="one of them"):
        BotWireChatCompletionContext("s", url="sqlite:///:memory:", max_tokens=5, buffer_size=3)
    for wrong in ({"max_tokens": 0}, {"max_tokens": "5"}, {"count": 5}, {"ttl": 0}):
        with pytest.raises(InvalidArgument):
            BotWireChatCompletionContext("s", url="sqlite:///:memory:", **wrong)
