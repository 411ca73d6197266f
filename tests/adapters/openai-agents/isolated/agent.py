"""An agent of the SDK that talks, is killed, and goes on: ``agent.py talk|resume ADDRESS…``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from botwire.adapters.openai_agents import BotWireSession

set_tracing_disabled(True)


class ScriptedModel(Model):
    """A model that gives the answers it was made with, and keeps what it was asked; for every release of the SDK."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[list[Any]] = []

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        self.asked.append(input)
        return ModelResponse(output=[self.answers.pop(0)], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def said(text: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=content)


def call(**arguments: Any) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        name="weather", arguments=json.dumps(arguments), call_id="call-1", id="f", type="function_call"
    )


@function_tool
def weather(city: str) -> str:
    """Say what the weather is like."""
    return f"Sun in {city}."


def chat(role: str, address: str) -> dict[str, Any]:
    session = BotWireSession("user-42", url=address)
    if role == "talk":
        model, text = ScriptedModel(call(city="Zürich"), said("Sunny, Ada.")), "I am Ada in Zürich. Weather?"
    else:
        model, text = ScriptedModel(said("You are Ada.")), "Who am I?"
    agent = Agent(name="helper", model=model, tools=[weather])
    result = Runner.run_sync(agent, text, session=session)
    asked = [item.get("content") or item.get("output") or item.get("name") for item in model.asked[-1]]
    items = asyncio.run(session.get_items())
    return {"answer": result.final_output, "asked": asked, "items": len(items)}


def main(role: str, *addresses: str) -> None:
    print(json.dumps([chat(role, address) for address in addresses]), flush=True)
    if role == "talk":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
