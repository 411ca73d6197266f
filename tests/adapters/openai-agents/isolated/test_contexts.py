"""A budget of tokens, summaries, expiry and repair of a BotWireSession."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from botwire import Conflict, InvalidArgument, InvalidValue
from botwire.adapters.openai_agents import BotWireSession

SUMMARY = {"role": "user", "content": "summary"}


def turn(number: int) -> list[Any]:
    return [
        {"role": "user", "content": f"question {number}"},
        {"type": "function_call", "call_id": f"c{number}", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": f"c{number}", "output": "found"},
        {"role": "assistant", "content": f"answer {number}"},
    ]


@pytest.fixture
def name() -> str:
    return str(uuid.uuid4())


async def test_a_budget_keeps_calls_with_their_results(address: str, name: str) -> None:
    counted: list[Any] = []

    def count(item: Any) -> int:
        counted.append(item)
        return 1

    session = BotWireSession(name, url=address, max_tokens=7, count=count)
    await session.add_items([*turn(1), *turn(2)])
    assert await session.get_items() == turn(2)
    assert turn(2)[0] in counted
    assert await session.get_items(2) == turn(2)[2:]
    assert await session.get_items(-1) == [*turn(1), *turn(2)]
    assert await BotWireSession(name, url=address, max_tokens=1_000).get_items() == [*turn(1), *turn(2)]
    with pytest.raises(InvalidArgument, match="Pass at least 4"):
        await BotWireSession(name, url=address, max_tokens=3, count=count).get_items()


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"max_tokens": "9"}, {"count": 4}, {"ttl": 0}, {"ttl": "day"}])
def test_wrong_options(address: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        BotWireSession("s", url=address, **wrong)


async def test_a_summary_replaces_the_first_items_in_a_context(address: str, name: str) -> None:
    session = BotWireSession(name, url=address)
    await session.add_items([*turn(1), *turn(2)])
    await session.summarize([SUMMARY], upto=4, if_last=8)
    await session.add_items(turn(3))
    assert await session.get_items() == [SUMMARY, *turn(2), *turn(3)]
    assert await BotWireSession(name, url=address, max_tokens=5, count=lambda _: 1).get_items() == [SUMMARY, *turn(3)]
    assert await session.get_items(-1) == [*turn(1), *turn(2), *turn(3)]
    with pytest.raises(Conflict):
        await session.summarize([SUMMARY], upto=8, if_last=8)
    with pytest.raises(InvalidArgument, match="its last is 12"):
        await session.summarize([SUMMARY], upto=13)
    with pytest.raises(InvalidValue):
        await session.summarize([{"content": object()}], upto=8)
    await session.summarize([], upto=0)
    assert len(await session.get_items()) == 12


async def test_each_added_item_moves_the_expiry(address: str, name: str) -> None:
    session = BotWireSession(name, url=address, ttl=timedelta(hours=1))
    await session.add_items(turn(1))
    first = (await session._async_history.info()).expires
    await session.add_items(turn(2))
    assert (await session._async_history.info()).expires > first
    await BotWireSession(name, url=address, ttl=0.05).add_items(turn(3))
    other = BotWireSession(name, url=address)
    while await other.get_items():
        pass
    await other.add_items(turn(4))
    assert await other.get_items() == turn(4)
    assert (await other._async_history.info()).expires is None


async def test_mend(address: str, name: str) -> None:
    session = BotWireSession(name, url=address)
    await session.add_items(turn(1)[:2])
    (problem,) = await session.mend()
    assert (problem.kind, problem.action) == ("call_without_result", "inserted")
    assert (await session.get_items())[2]["type"] == "function_call_output"
    assert await session.mend() == []
