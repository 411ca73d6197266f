"""An agent and a workflow that are killed, and go on: ``agent.py work|resume ADDRESS…``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    Executor,
    Message,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from orders import Order, Size

from botwire.adapters.agent_framework import BotWireCheckpointStorage, BotWireHistoryProvider


class Scripted(BaseChatClient):
    """A model that says what it is told to say, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []

    def _inner_get_response(self, *, messages, stream, options, **kwargs):
        async def answer() -> ChatResponse:
            self.asked += [message.text for message in messages]
            return ChatResponse(messages=[Message("assistant", [self.answers.pop(0)])])

        return answer()


class Take(Executor):
    @handler
    async def take(self, text: str, ctx: WorkflowContext[Order]) -> None:
        ctx.set_state("seen", {"texts": (text,)})
        await ctx.send_message(Order(text, Size.LARGE, ["taken"]))


class Deliver(Executor):
    def __init__(self, id: str, wait) -> None:
        super().__init__(id)
        self.wait = wait

    @handler
    async def deliver(self, order: Order, ctx: WorkflowContext[None, str]) -> None:
        await self.wait()
        await ctx.yield_output(f"{order.what} {order.size.name} {order.notes} {ctx.get_state('seen')}")


def storage(address: str) -> BotWireCheckpointStorage:
    allowed = ["orders:Order", "orders:Size"]
    return BotWireCheckpointStorage("checkpoints", address, allowed_checkpoint_types=allowed)


def workflow(address: str, wait):
    take, deliver = Take("take"), Deliver("deliver", wait)
    builder = WorkflowBuilder(start_executor=take, name="orders", checkpoint_storage=storage(address))
    return builder.add_edge(take, deliver).build()


async def chat(address: str, text: str, answer: str) -> list[str]:
    client = Scripted(answer)
    agent = Agent(client, context_providers=[BotWireHistoryProvider("sessions", address)])
    response = await agent.run(text, session=agent.create_session(session_id="ada"))
    assert response.text == answer
    return client.asked


async def work(addresses: list[str]) -> None:
    asked = [await chat(address, "I am Ada.", "Hello Ada.") for address in addresses]
    arrived = []

    async def wait() -> None:
        arrived.append(1)
        if len(arrived) == len(addresses):
            print(json.dumps(asked), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(60)

    await asyncio.gather(*(workflow(address, wait).run(f"order {n}") for n, address in enumerate(addresses)))


async def resume(addresses: list[str]) -> None:
    async def wait() -> None:
        pass

    report = []
    for address in addresses:
        asked = await chat(address, "Who am I?", "You are Ada.")
        latest = await storage(address).get_latest(workflow_name="orders")
        result = await workflow(address, wait).run(checkpoint_id=latest.checkpoint_id)
        report.append({"asked": asked, "outputs": result.get_outputs()})
    print(json.dumps(report), flush=True)


asyncio.run({"work": work, "resume": resume}[sys.argv[1]](sys.argv[2:]))
