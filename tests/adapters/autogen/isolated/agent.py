"""A team of AutoGen that talks, is killed, and goes on: ``agent.py talk|resume ADDRESS…``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.memory import MemoryContent, MemoryMimeType
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

from botwire.adapters.autogen import BotWireChatCompletionContext, BotWireMemory, load_state, save_state

INFO = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "family": "unknown",
    "structured_output": False,
    "multiple_system_messages": True,
}


def weather(city: str) -> str:
    """Say what the weather is like."""
    return f"Sun in {city}."


def call() -> CreateResult:
    wanted = [FunctionCall(id="call-1", name="weather", arguments='{"city": "Zürich"}')]
    return CreateResult(finish_reason="function_calls", content=wanted, usage=RequestUsage(1, 1), cached=False)


async def chat(address: str, answers: list) -> dict:
    """One agent with a memory and a context that are kept, and a team whose state is."""
    client = ReplayChatCompletionClient(answers, model_info=INFO)
    memory = BotWireMemory("ada", "memories", address)
    context = BotWireChatCompletionContext("ada", "contexts", address)
    agent = AssistantAgent("helper", client, tools=[weather], model_context=context, memory=[memory])
    writer = AssistantAgent("writer", ReplayChatCompletionClient(["Draft.", "Better draft."], model_info=INFO))
    team = RoundRobinGroupChat([writer], termination_condition=MaxMessageTermination(2))
    resumed = await load_state(team, "team", "states", address)
    if not resumed:
        await memory.add(MemoryContent(content="Ada likes teal.", mime_type=MemoryMimeType.TEXT))
    done = await agent.run(task="And now?" if resumed else "What is the weather?")
    await team.run(task="Write.")
    await save_state(team, "team", "states", address)
    state = await team.save_state()
    return {
        "resumed": resumed,
        "answer": done.messages[-1].content,
        "asked": [str(message.content) for message in client.create_calls[-1]["messages"]],
        "types": [message.type for message in await context.get_messages()],
        "team": json.dumps(state).count("Draft."),
    }


async def main(what: str, *addresses: str) -> None:
    answers = [call(), "It is sunny."] if what == "talk" else ["It is still sunny."]
    print(json.dumps([await chat(address, list(answers)) for address in addresses]), flush=True)
    if what == "talk":
        os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main(*sys.argv[1:]))
