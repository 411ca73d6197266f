"""A crew and a flow of CrewAI that work, are killed, and go on: ``agent.py work|resume ADDRESS…``."""

from __future__ import annotations

import json
import os
import signal
import sys
import zlib
from typing import Any

from crewai import Agent, Crew, Memory, Task
from crewai.flow.async_feedback.types import HumanFeedbackPending
from crewai.flow.flow import Flow, listen, start
from crewai.flow.human_feedback import human_feedback
from crewai.flow.persistence import persist
from crewai.llms.base_llm import BaseLLM

from botwire.adapters.crewai import BotWireFlowPersistence, BotWireStorage, memory_tools


class Scripted(BaseLLM):
    """A model that says what it is told to say, and keeps what it was asked."""

    answers: list[str] = []
    asked: list[str] = []

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        self.asked.append(messages if isinstance(messages, str) else "\n".join(str(m["content"]) for m in messages))
        return self.answers.pop(0) if self.answers else "Thought: done\nFinal Answer: nothing"

    def supports_function_calling(self) -> bool:
        return False


def embed(texts: list[str]) -> list[list[float]]:
    """Count words into 16 buckets."""
    vectors = []
    for text in texts:
        vector = [0.0] * 16
        for word in text.lower().split():
            vector[zlib.crc32(word.strip(".?!").encode()) % 16] += 1.0
        vectors.append(vector)
    return vectors


class Wait:
    """A provider of feedback that has none yet."""

    def request_feedback(self, context: Any, flow: Any) -> str:
        raise HumanFeedbackPending(context=context)


def make_flow(address: str, **options: Any) -> type[Flow]:
    @persist(BotWireFlowPersistence("flows", address))
    class Review(Flow):
        @start()
        @human_feedback(message="Good?", provider=Wait())
        def draft(self) -> str:
            self.state["draft"] = "Once upon a time …"
            return self.state["draft"]

        @listen(draft)
        def publish(self, result: Any) -> str:
            return f"{self.state['draft']} ({result.feedback})"

    return Review


def crew(address: str, *answers: str) -> tuple[Crew, Scripted]:
    model = Scripted(model="scripted", answers=list(answers))
    quiet = Scripted(model="scripted", answers=[])
    memory = Memory(storage=BotWireStorage("crew", address), embedder=embed, llm=quiet)
    agent = Agent(role="helper", goal="help", backstory="kind", llm=model, tools=memory_tools("facts", address))
    task = Task(description="Which colour does Ada like?", expected_output="a colour", agent=agent)
    return Crew(agents=[agent], tasks=[task], memory=memory, cache=True), model


def work(address: str) -> dict:
    helpers, _model = crew(
        address,
        'Thought: keep it\nAction: remember\nAction Input: {"key": "ada/colour", "value": "teal"}',
        "Thought: I know\nFinal Answer: teal",
    )
    helpers._memory.remember(
        "Ada likes the colour teal.", scope="/ada", categories=["taste"], importance=0.9, metadata={"who": "Ada"}
    )
    answer = helpers.kickoff().raw
    flow = make_flow(address)()
    paused = flow.kickoff()
    return {"answer": answer, "paused": type(paused).__name__, "flow": flow.flow_id}


def resume(address: str, flow_id: str) -> dict:
    helpers, model = crew(
        address,
        'Thought: look\nAction: recall\nAction Input: {"key": "ada/colour"}',
        "Thought: I know\nFinal Answer: still teal",
    )
    answer = helpers.kickoff().raw
    flow_class = make_flow(address)
    flow = flow_class.from_pending(flow_id, BotWireFlowPersistence("flows", address))
    return {
        "answer": answer,
        "asked": "\n".join(model.asked),
        "matches": [match.record.content for match in helpers._memory.recall("colour Ada likes", depth="shallow")],
        "flow": str(flow.resume("yes")),
        "pending": BotWireFlowPersistence("flows", address).load_pending_feedback(flow_id) is not None,
    }


def main(what: str, *addresses: str) -> None:
    if what == "work":
        print(json.dumps([work(address) for address in addresses]), file=sys.__stdout__, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    pairs = zip(addresses[::2], addresses[1::2], strict=True)
    print(json.dumps([resume(address, flow) for address, flow in pairs]), file=sys.__stdout__, flush=True)


main(*sys.argv[1:])
