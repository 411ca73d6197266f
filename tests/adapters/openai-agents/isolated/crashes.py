"""Two workers run turns with a tool on one session, and are killed: ``crashes.py ADDRESS``. Prints what it finds as JSON.

The workers are forks of this process, so that each starts at once. A strike ends a worker with SIGKILL before or after its n-th write to
the store, or at a random time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from botwire import Memory
from botwire.adapters.openai_agents import BotWireSession

set_tracing_disabled(True)

SESSION = "crashes"


class Strike(NamedTuple):
    """When a worker ends: before or after its n-th write, or after some seconds."""

    write: int = 0
    is_after: bool = False
    seconds: float | None = None


class StrictModel(Model):
    """Calls the tool, then answers. As a provider, it refuses a result without its call, and a call without its result."""

    def __init__(self, turn: str) -> None:
        self.turn = turn

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        check(input)
        has_called = any(isinstance(item, dict) and item.get("call_id") == f"call-{self.turn}" for item in input)
        return ModelResponse(
            output=[said(self.turn) if has_called else call(self.turn)], usage=Usage(), response_id=None
        )

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def check(items: Any) -> None:
    """Raise if a provider would refuse these items."""
    called: set[str] = set()
    answered: set[str] = set()
    for item in [] if isinstance(items, str) else items:
        if item.get("type") == "function_call":
            called.add(item["call_id"])
        elif item.get("type") == "function_call_output":
            if item["call_id"] not in called or item["call_id"] in answered:
                raise ValueError(f"No tool call found for function call output {item['call_id']}")
            answered.add(item["call_id"])
    if called != answered:
        raise ValueError(f"No tool output found for function call {sorted(called - answered)}")


def said(turn: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(text=f"answer-{turn}.", type="output_text", annotations=[])]
    return ResponseOutputMessage(id=f"m-{turn}", type="message", role="assistant", status="completed", content=content)


def call(turn: str) -> ResponseFunctionToolCall:
    arguments = json.dumps({"turn": turn})
    return ResponseFunctionToolCall(
        name="look_up", arguments=arguments, call_id=f"call-{turn}", id=f"f-{turn}", type="function_call"
    )


@function_tool
def look_up(turn: str) -> str:
    """Look something up."""
    return f"result-{turn}."


async def run_turn(session: BotWireSession, turn: str) -> None:
    agent = Agent(name="helper", model=StrictModel(turn), tools=[look_up])
    result = await Runner.run(agent, f"question-{turn}.", session=session)
    assert result.final_output == f"answer-{turn}."


def work(address: str, name: str, turns: int, strike: Strike, acknowledge: Callable[[str], None]) -> int:
    """Run turns, and acknowledge each that has returned. Returns how many writes there were."""
    session = BotWireSession(SESSION, url=address)
    bridge: Any = session._async_memory.bridge
    write, count = bridge.write, 0

    async def counted(*operations: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == strike.write and not strike.is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await write(*operations, **options)
        if count == strike.write:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    bridge.write = counted

    async def run() -> None:
        for number in range(turns):
            await run_turn(session, f"{name}-{number}")
            acknowledge(f"{name}-{number}")

    asyncio.run(run())
    return count


def started(address: str, name: str, turns: int, strike: Strike, pipe: int) -> int:
    """Start a worker in a fork; returns its process."""
    process = os.fork()
    if process:
        return process
    try:
        work(address, name, turns, strike, lambda turn: os.write(pipe, f"{turn}\n".encode()) and None)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def strike_two(address: str, number: int, strikes: tuple[Strike, Strike]) -> set[str]:
    """Let two workers run until they are struck. Returns the turns that they have acknowledged."""
    reads, writes = os.pipe()
    processes = [started(address, f"{number}-{worker}", 3, strikes[worker], writes) for worker in range(2)]
    os.close(writes)
    for process, strike in zip(processes, strikes, strict=True):
        if strike.seconds is not None:
            time.sleep(strike.seconds)
            os.kill(process, signal.SIGKILL)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    assert all(status in {0, -signal.SIGKILL} for status in statuses), f"strike {number} {strikes}: {statuses}"
    with os.fdopen(reads) as pipe:
        return set(pipe.read().split())


def strikes_in_all(writes: int) -> list[tuple[Strike, Strike]]:
    """Return the strikes of each pair of workers: at every write of two turns, which are `writes` each, and at random times."""
    chance = random.Random(1)
    steps = [Strike(write, is_after) for write in range(1, 2 * writes + 1) for is_after in (False, True)]
    pairs = list(zip(steps, reversed(steps), strict=True))
    times = [Strike(seconds=chance.uniform(0, 0.1)) for _ in range(8)]
    return [*pairs, *zip(times[::2], times[1::2], strict=True)]


def main(address: str) -> None:
    turns: list[str] = []
    writes = work(address, "first", 1, Strike(), turns.append)
    acknowledged = set(turns)
    found: list[str] = []
    with Memory("openai-agents", address) as memory:
        history = memory.history(SESSION)
        for number, pair in enumerate(strikes_in_all(writes)):
            acknowledged |= strike_two(address, number, pair)
            found += [problem.kind for problem in history.problems()]
            check_kept(history, acknowledged)
        work(address, "last", 1, Strike(), acknowledged.add)
        check_kept(history, acknowledged)
        print(json.dumps({"acknowledged": len(acknowledged), "writes": writes, "problems": found}))


def check_kept(history: Any, acknowledged: set[str]) -> None:
    """Fail if something of an acknowledged turn is missing or there twice, or if seqs have a gap."""
    messages = history.messages()
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    text = json.dumps([message.data for message in messages])
    for turn in acknowledged:
        counts = {part: len(re.findall(rf"\b{part}-{turn}\.", text)) for part in ("question", "result", "answer")}
        assert set(counts.values()) == {1}, (turn, counts)
        assert text.count(f'"call_id": "call-{turn}"') == 2, turn


if __name__ == "__main__":
    main(sys.argv[1])
