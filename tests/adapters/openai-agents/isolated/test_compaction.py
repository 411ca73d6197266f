"""BotWireSession in the SDK's `OpenAIResponsesCompactionSession`: what others do in the meantime is kept."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, Runner, set_tracing_disabled
from agents.memory import OpenAIResponsesCompactionSession
from agents.testing import ScriptedModel, assistant_message

from botwire import Conflict, Memory, generate_key
from botwire.adapters.openai_agents import BotWireSession

set_tracing_disabled(True)
SUMMARY = {"type": "compaction", "id": "cmp", "encrypted_content": "a summary"}
NEWER = {"role": "user", "content": "newer"}


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.fixture(params=["plain", "encrypted"])
def session(request: pytest.FixtureRequest, address: str) -> BotWireSession:
    key = generate_key() if request.param == "encrypted" else None
    return BotWireSession(str(uuid.uuid4()), url=address, encryption_key=key)


def compacting(session: Any, meanwhile: Callable[[], Awaitable[Any]] | None = None) -> OpenAIResponsesCompactionSession:
    """Return the SDK's session, with an API that answers when `meanwhile` is done."""

    async def compact(**_: Any) -> Any:
        if meanwhile is not None:
            await meanwhile()
        return SimpleNamespace(output=[SUMMARY], usage=None)

    client: Any = SimpleNamespace(responses=SimpleNamespace(compact=compact))
    return OpenAIResponsesCompactionSession(
        "session", session, client=client, compaction_mode="input", should_trigger_compaction=lambda _: True
    )


async def run(session: Any, text: str) -> None:
    agent = Agent(name="helper", model=ScriptedModel([[assistant_message("done")]]))
    await Runner.run(agent, text, session=session)


async def test_what_others_append_during_a_compaction_stays_after_the_summary(session: BotWireSession) -> None:
    await session.add_items(said("1", "2"))
    await compacting(session, lambda: session.add_items([NEWER])).run_compaction({"force": True})
    assert await session.get_items() == [SUMMARY, NEWER]


async def test_a_compaction_replaces_what_the_sdk_has_read_and_not_an_earlier_copy(session: BotWireSession) -> None:
    """The SDK reads each session once, and remembers its items."""
    known = compacting(session)
    await known.add_items(said("1"))
    await known.run_compaction({"force": True})
    await session.add_items([NEWER])
    seen: list[Any] = []
    known.should_trigger_compaction = lambda context: bool(seen.extend(context["session_items"]))
    await known.run_compaction()
    assert seen == [SUMMARY, NEWER]


@pytest.mark.parametrize("change", ["pop", "clear"])
async def test_a_compaction_fails_when_others_delete_what_it_has_read(session: BotWireSession, change: str) -> None:
    await session.add_items(said("1", "2"))
    delete = session.pop_item if change == "pop" else session.clear_session
    with pytest.raises(Conflict):
        await compacting(session, delete).run_compaction({"force": True})
    assert await session.get_items() == ([] if change == "clear" else said("1"))


async def test_after_a_run_a_compaction_waits_for_the_next_run_if_others_append(session: BotWireSession) -> None:
    await session.add_items(said("1"))
    await run(compacting(session, lambda: session.add_items([NEWER])), "2")
    items = await session.get_items()
    assert [item.get("content") for item in items if item.get("role") == "user"] == ["1", "2", "newer"]
    await run(compacting(session), "3")
    assert await session.get_items() == [SUMMARY]


async def test_a_snapshot_replaces_the_last_items(session: BotWireSession) -> None:
    await session.add_items(said("1", "2", "3", "4"))
    before = await session._async_history.messages()
    snapshot = await session._get_compaction_snapshot(3)
    assert (snapshot.items, snapshot.complete) == (said("2", "3", "4"), False)
    assert not await snapshot.replace_suffix(3, [SUMMARY])
    assert await snapshot.replace_suffix(1, [SUMMARY, NEWER])
    assert await session.get_items() == [*said("1", "2"), SUMMARY, NEWER]
    assert (await session._async_history.messages())[:2] == before[:2]
    assert not await snapshot.replace_suffix(1, [SUMMARY])
    assert (await session._get_compaction_snapshot(4)).complete


async def test_a_snapshot_removes_what_has_expired_at_the_start(session: BotWireSession) -> None:
    """Expired items of the SDK's `EncryptedSession`."""
    await session.add_items(said("old", "old", "kept", "old", "4", "5"))
    kept = (await session._async_history.messages())[2]
    snapshot = await session._get_compaction_snapshot(2, prune_prefix=lambda item: item["content"] == "old")
    assert await snapshot.replace_suffix(0, [SUMMARY])
    assert await session.get_items() == [*said("kept", "old"), SUMMARY]
    first = (await session._async_history.messages())[0]
    assert (first.id, first.created) == (kept.id, kept.created)
    snapshot = await session._get_compaction_snapshot(1, prune_prefix=lambda _: False)
    assert await snapshot.replace_suffix(0, said("6"))
    assert await session.get_items() == said("kept", "old", "6")
    snapshot = await session._get_compaction_snapshot(1, prune_prefix=lambda _: True)
    assert await snapshot.replace_suffix(0, [])
    assert await session.get_items() == []


async def test_there_is_no_snapshot_of_messages_that_are_not_items(address: str) -> None:
    session = BotWireSession("session", str(uuid.uuid4()), address)
    with Memory(session._memory.namespace, address) as memory:
        memory.history("session").append(["not an item"])
    assert await session._get_compaction_snapshot(2) is None


async def test_a_compaction_calls_the_methods_of_a_subclass(address: str) -> None:
    class Upper(BotWireSession):
        async def add_items(self, items: list[Any]) -> None:
            await super().add_items([{**item, "content": str(item.get("content")).upper()} for item in items])

    session = Upper(str(uuid.uuid4()), url=address)
    await session.add_items(said("a"))
    assert await session._get_compaction_snapshot(2) is None
    await compacting(session).run_compaction({"force": True})
    assert await session.get_items() == [{**SUMMARY, "content": "NONE"}]


async def test_two_compactions_at_once_lose_nothing(session: BotWireSession) -> None:
    await session.add_items(said("1"))
    both = [compacting(session, lambda: session.add_items([NEWER])) for _ in range(2)]
    done = await asyncio.gather(*(one.run_compaction({"force": True}) for one in both), return_exceptions=True)
    assert sorted(type(result).__name__ for result in done) in (["Conflict", "NoneType"], ["NoneType", "NoneType"])
    items = await session.get_items()
    assert items[0] == SUMMARY
    assert items.count(NEWER) >= 1
