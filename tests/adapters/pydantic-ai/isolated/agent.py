"""An agent of Pydantic AI that talks, is killed, and goes on: ``agent.py talk|resume ADDRESS…``."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sys
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from botwire.adapters.pydantic_ai import BotWireConversationStore, BotWireMessageHistory


def parts(messages: list[ModelMessage]) -> list[str]:
    return [str(getattr(part, "content", None) or getattr(part, "args", None)) for m in messages for part in m.parts]


def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Ask for the weather once, then say what has been said."""
    if len(messages) == 1:
        return ModelResponse([ToolCallPart("weather", {"city": "Zürich"}, tool_call_id="call-1")])
    return ModelResponse([TextPart(" | ".join(parts(messages)))])


agent = Agent(FunctionModel(answer))


@agent.tool_plain
def weather(city: str) -> str:
    """Say what the weather is like."""
    return f"Sun in {city}."


async def chat(role: str, address: str) -> dict[str, Any]:
    text = "I am Ada." if role == "talk" else "Who am I?"
    history = BotWireMessageHistory("ada", url=address)
    by_hand = await agent.run(text, message_history=await history.aload())
    await history.aappend(by_hand.new_messages())
    report = {"by hand": by_hand.output, "messages": len(history.load())}
    if importlib.util.find_spec("pydantic_ai.conversation_store"):  # since 2.66
        report |= await converse(text, address)
    return report


async def converse(text: str, address: str) -> dict[str, Any]:
    from pydantic_ai.conversation import Conversation

    store = BotWireConversationStore(url=address)
    conversation = await store.load("ada") or Conversation(conversation_id="ada")
    result = await agent.run(text, conversation=conversation)
    await store.save(result)
    return {"answer": result.output, "requests": (await store.load("ada")).usage.requests}


async def main(role: str, *addresses: str) -> None:
    print(json.dumps([await chat(role, address) for address in addresses]), flush=True)
    if role == "talk":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
