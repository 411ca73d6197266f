"""Two workers run turns with a tool on one session, and are killed: ``crashes.py ADDRESS FOLDER``. Prints what it finds as JSON.

The workers are forks of this process, so that each starts at once. A strike ends a worker with SIGKILL before or after its n-th write to
the store, or at a random time.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from botwire import Memory
from botwire.adapters.openai_agents import BotWireSession
from tests.adapters.isolated.crashes import Strike, check_end, forked, note, store_at, strikes

set_tracing_disabled(True)

SESSION = "crashes"
TURNS = 3
"""The turns of a worker."""


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


def work(address: str, name: str, turns: int, strike: Strike | None, acknowledge: Callable[[str], None]) -> int:
    """Run turns, and acknowledge each that has returned. Returns how many writes there were."""
    store = store_at(address, strike)

    async def run() -> None:
        session = BotWireSession(SESSION, store=store)
        for number in range(turns):
            await run_turn(session, f"{name}-{number}")
            acknowledge(f"{name}-{number}")

    asyncio.run(run())
    return int(store.writes)


def strike_two(address: str, number: int, pair: tuple[Strike, Strike], writes: int, noted: Path) -> None:
    """Let two workers run until they are struck. They note the turns that they acknowledge in a file."""
    waits = [
        forked(lambda: work(address, f"{number}-{worker}", TURNS, strike, partial(note, noted)))
        for worker, strike in enumerate(pair)
    ]
    for strike, wait in zip(pair, waits, strict=True):
        check_end(wait(), strike, TURNS * writes)


def main(address: str, folder: Path) -> None:
    noted = folder / "acknowledged.txt"
    writes = work(address, "first", 1, None, partial(note, noted))
    found: list[str] = []
    steps = list(strikes(2 * writes, random_ones=8))  # of two turns
    with Memory("openai-agents", address) as memory:
        history = memory.history(SESSION)
        for number, pair in enumerate(zip(steps, reversed(steps), strict=True)):
            strike_two(address, number, pair, writes, noted)
            found += [problem.kind for problem in history.problems()]
            check_kept(history, noted.read_text().split())
        work(address, "last", 1, None, partial(note, noted))
        acknowledged = noted.read_text().split()
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
    main(sys.argv[1], Path(sys.argv[2]))
