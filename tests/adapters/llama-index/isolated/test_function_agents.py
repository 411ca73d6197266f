"""Real agents with tools, whose worker is killed at each write of a turn."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage, ChatResponse, LLMMetadata, MockLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer

from botwire.adapters.llama_index import BotWireChatStore, BotWireMemory
from tests.adapters.isolated.crashes import Strike, forked, kill_workers, note, store_at
from tests.adapters.isolated.llama_index import check


class Model(MockLLM):
    """Calls two tools at once, and then answers with the number of messages that it got."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True)

    async def astream_chat_with_tools(self, tools: Any, chat_history: list[ChatMessage], **_: Any) -> Any:
        async def stream() -> Any:
            yield self.answer(chat_history)

        return stream()

    def answer(self, chat_history: list[ChatMessage]) -> ChatResponse:
        check(chat_history)
        if chat_history[-1].role == "tool":
            text = f"I got {len(chat_history)}."
            return ChatResponse(message=ChatMessage(text, role="assistant"), delta=text)
        calls = [
            {"id": uuid.uuid4().hex, "type": "function", "function": {"name": "clock", "arguments": "{}"}}
            for _ in range(2)
        ]
        message = ChatMessage("", role="assistant", additional_kwargs={"tool_calls": calls})
        return ChatResponse(message=message, delta="")

    def get_tool_calls_from_response(self, response: ChatResponse, **_: Any) -> list[ToolSelection]:
        calls = response.message.additional_kwargs.get("tool_calls", ())
        return [ToolSelection(tool_id=call["id"], tool_name="clock", tool_kwargs={}) for call in calls]


def clock() -> str:
    """Return the time."""
    return "noon"


async def run(memory: BaseMemory, question: str) -> str:
    agent = FunctionAgent(tools=[clock], llm=Model())
    return str(await agent.run(question, memory=memory))


def ten(_: ChatMessage) -> int:
    return 10


async def test_an_agent_continues_in_a_new_process(address: str) -> None:
    namespace = f"test-{uuid.uuid4()}"
    for number in range(4):
        options: dict[str, Any] = {"max_tokens": 80, "count": ten, "summarizer": lambda _: "summary"}
        memory = BotWireMemory("s", namespace, address, **options)
        answer = await run(memory, f"question {number}")
        assert len(memory.get_all()) == 5 * (number + 1)
        assert (await memory.aget())[-1].content == answer
        assert len(memory.get()) <= 8
        check(memory.get())
    assert memory.get()[0].content == "summary"


def turn(address: str, worker: str, acknowledged: Path, strike: Strike | None = None) -> None:
    options: dict[str, Any] = {"max_tokens": 50, "count": ten, "summarizer": lambda _: "summary"}
    memory = BotWireMemory("s", store=store_at(address, strike), **options)
    for number in range(2):
        asyncio.run(run(memory, f"{worker}-{number}"))
        note(acknowledged, f"{worker}-{number}")


def verify(address: str, acknowledged: Path) -> None:
    memory = BotWireMemory("s", store=store_at(address), max_tokens=50, count=ten)
    messages = memory.get_all()
    check(messages)
    check(memory.get())
    assert memory.mend() == []
    asked = [message.content for message in messages if message.role == "user"]
    assert all(mark in asked for mark in acknowledged.read_text().split()) if acknowledged.exists() else True
    turn(address, "after", acknowledged)
    check(memory.get_all())
    check(memory.get())
    assert memory.get()[0].content == "summary"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_agent_leaves_a_valid_session(tmp_path: Path, workers: int) -> None:
    # A turn has two writes: its question, and all of its other messages. In the second turn a lone worker also stores a summary.
    kill_workers(tmp_path, turn, verify, 5 if workers == 1 else 4, workers)


def test_llama_indexs_own_buffer_leaves_half_a_turn(tmp_path: Path) -> None:
    def killed(address: str) -> None:
        store = BotWireChatStore(store=store_at(address, Strike("after", 3)))
        asyncio.run(run(ChatMemoryBuffer.from_defaults(chat_store=store, chat_store_key="s"), "question"))

    address = f"sqlite:///{tmp_path}/memory.db"
    assert forked(partial(killed, address))() == -9
    with pytest.raises(AssertionError):
        check(BotWireChatStore(url=address).get_messages("s"))
