"""BotWireSession beside the SDK's own SQLiteSession, and with many writers."""

from __future__ import annotations

import asyncio
import copy
import pickle
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from agents.extensions.memory import EncryptedSession
from agents.memory import Session, SessionSettings, SQLiteSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from botwire import (
    BotWireError,
    DecryptionError,
    InvalidArgument,
    InvalidName,
    InvalidValue,
    Memory,
    generate_key,
)
from botwire.adapters.openai_agents import BotWireSession

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3) | st.tuples(inner),
    max_leaves=8,
)
items = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": json_values}
) | st.dictionaries(texts | st.integers(0, 9), json_values, max_size=4)
operations = st.one_of(
    st.tuples(st.just("add_items"), st.lists(items, max_size=4)),
    st.tuples(st.just("pop_item")),
    st.tuples(st.just("get_items"), st.none() | st.integers(-1, 6)),
    st.tuples(st.just("clear_session")),
    st.tuples(st.just("limit"), st.none() | st.integers(0, 4)),
)


@pytest.fixture
def session(address: str) -> BotWireSession:
    return BotWireSession(str(uuid.uuid4()), url=address)


async def perform(session: Any, operation: tuple[Any, ...]) -> Any:
    name, *arguments = operation
    if name == "limit":
        session.session_settings = SessionSettings(limit=arguments[0])
        return None
    return await getattr(session, name)(*arguments)


@pytest.mark.parametrize("number", [7, uuid.UUID(int=7)])
async def test_a_number_or_a_uuid_names_a_session(number: int | uuid.UUID, tmp_path) -> None:
    """As in the SDK's own session."""
    url = f"sqlite:///{tmp_path}/memory.db"
    await BotWireSession(number, url=url).add_items([{"role": "user"}])
    assert await BotWireSession(str(number), url=url).get_items() == [{"role": "user"}]
    for wrong in (True, None, 7.0, b"7", "half \ud83d"):
        with pytest.raises(InvalidName):
            BotWireSession(wrong, url=url)


@given(script=st.lists(operations, max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_does_what_the_sdks_own_session_does(address: str, script: list[tuple[Any, ...]]) -> None:
    async def compare() -> None:
        ours, theirs = BotWireSession(str(uuid.uuid4()), url=address), SQLiteSession("s")
        for operation in [*script, ("get_items",)]:
            assert repr(await perform(ours, operation)) == repr(await perform(theirs, operation)), operation
        theirs.close()

    asyncio.run(compare())


def test_it_is_a_session(session: BotWireSession) -> None:
    assert isinstance(session, Session)
    assert session.session_settings == SessionSettings()


async def test_settings(address: str) -> None:
    name = str(uuid.uuid4())
    session = BotWireSession(name, url=address, session_settings=SessionSettings(limit=2))
    await session.add_items([{"role": "user", "content": str(number)} for number in range(5)])
    assert [item["content"] for item in await session.get_items()] == ["3", "4"]
    assert len(await session.get_items(3)) == 3
    assert len(await BotWireSession(name, url=address, session_settings={"limit": 4}).get_items()) == 4
    for wrong in ({"limits": 4}, {"limit": "four"}, 4):
        with pytest.raises(InvalidArgument, match="session_settings"):
            BotWireSession(name, url=address, session_settings=wrong)


async def test_sessions_and_namespaces_are_apart(address: str, session: BotWireSession) -> None:
    await session.add_items([{"content": "mine"}])
    assert await BotWireSession(str(uuid.uuid4()), url=address).get_items() == []
    assert await BotWireSession(session.session_id, "elsewhere", address).get_items() == []
    assert [message.data for message in Memory("openai-agents", address).history(session.session_id)] == [
        {"content": "mine"}
    ]


@pytest.mark.parametrize("wrong", [float("nan"), b"x", object(), {1}, "\ud800"])
async def test_what_is_not_json_is_refused_before_anything_is_written(session: BotWireSession, wrong: object) -> None:
    with pytest.raises(InvalidValue):
        await session.add_items([{"content": "fine"}, {"content": wrong}])
    assert await session.get_items() == []


async def test_an_item_that_contains_itself_is_refused(session: BotWireSession) -> None:
    item: dict[str, Any] = {}
    item["item"] = item
    with pytest.raises(InvalidValue):
        await session.add_items([item])


def test_wrong_names(address: str) -> None:
    for session_id, namespace in [("", "n"), ("s", "a/b"), (True, "n")]:
        with pytest.raises(InvalidName):
            BotWireSession(session_id, namespace, address)


async def test_a_pickle_or_a_copy_of_a_session_is_the_session(session: BotWireSession, address: str) -> None:
    await session.add_items([{"role": "user"}])
    session.session_settings.limit = 5
    for other in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session)):
        assert (await other.get_items(), other.session_settings.limit) == ([{"role": "user"}], 5)
    with pytest.raises(TypeError, match="BOTWIRE_TOKEN"):
        pickle.dumps(BotWireSession("s", url="http://127.0.0.1:9", token="sEcReT-sEcReT-sEcReT"))


async def test_a_closed_session(session: BotWireSession) -> None:
    session.close()
    if session._memory.address.startswith("sqlite"):
        with pytest.raises(BotWireError):
            await session.add_items([{"content": "late"}])


async def test_16_tasks_on_one_session_lose_nothing(session: BotWireSession) -> None:
    balance: Counter[str] = Counter()
    await asyncio.gather(*(work(session, writer, balance) for writer in range(16)))
    assert await missing(session, balance) == Counter()


def test_16_threads_on_one_session_lose_nothing(session: BotWireSession) -> None:
    balances = [Counter() for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda writer: asyncio.run(work(session, writer, balances[writer])), range(16)))
    total: Counter[str] = Counter()
    for balance in balances:
        total.update(balance)
    assert asyncio.run(missing(session, total)) == Counter()


async def work(session: BotWireSession, writer: int, balance: Counter[str]) -> None:
    """Add pairs, and pop now and then; count up what was added, and down what was popped."""
    for number in range(10):
        pair = [f"{writer}/{number}/{part}" for part in "ab"]
        await session.add_items([{"content": text} for text in pair])
        balance.update(pair)
        if writer % 4 == 0 and (item := await session.pop_item()) is not None:
            balance.subtract([item["content"]])


async def missing(session: BotWireSession, balance: Counter[str]) -> Counter[str]:
    """Return what is neither popped nor there, and what is too often."""
    balance.subtract(item["content"] for item in await session.get_items())
    return Counter({text: count for text, count in balance.items() if count})


def test_an_item_that_cannot_be_read_is_not_popped(address: str) -> None:
    name, namespace, key = str(uuid.uuid4()), "openai-agents", generate_key()
    item: Any = {"role": "user", "content": "hello"}

    async def pops_fail() -> None:
        session = BotWireSession(name, url=address, encryption_key=key)
        await session.add_items([item])
        other = BotWireSession(name, url=address, encryption_key=generate_key())
        with pytest.raises(DecryptionError, match="message 1 of the session"):
            await other.pop_item()
        without = BotWireSession(name, url=address)
        with pytest.raises(InvalidValue, match=r"message 1 .* was not deleted. .* encryption_key"):
            await without.pop_item()
        assert await session.pop_item() == item
        assert await session.pop_item() is None

    asyncio.run(pops_fail())
    with Memory(namespace, address) as memory:
        memory.history(name).append(["not an item"])
        with pytest.raises(InvalidValue, match="is not an item"):
            asyncio.run(BotWireSession(name, url=address).pop_item())
        assert len(memory.history(name)) == 1


def test_the_encrypted_session_of_the_sdk_is_as_the_page_says(address: str) -> None:
    """It empties any session but the SDK's own, when the key is wrong. If this fails, the page can recommend it."""
    session = BotWireSession(str(uuid.uuid4()), url=address)

    async def run() -> list[Any]:
        right = EncryptedSession("s", session, encryption_key="right")
        await right.add_items([{"role": "user", "content": str(number)} for number in range(3)])
        await EncryptedSession("s", session, encryption_key="wrong").pop_item()
        return await session.get_items()

    assert asyncio.run(run()) == []
