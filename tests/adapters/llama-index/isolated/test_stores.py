"""The chat stores beside LlamaIndex's own, and with many writers."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.llms import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore

import botwire
from botwire import InvalidArgument, InvalidName, InvalidValue
from botwire.adapters.llama_index import BotWireChatStore, BotWireMemoryStore

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
messages = st.builds(
    ChatMessage,
    role=st.sampled_from(MessageRole),
    blocks=st.lists(st.builds(TextBlock, text=texts), max_size=3),
    additional_kwargs=st.dictionaries(texts.filter(lambda text: text != "images"), json_values, max_size=3),
)
keys = st.sampled_from(["a", "b/c", "é"])
places = st.integers(-4, 4)
few = st.lists(messages, max_size=3)
operations = st.one_of(
    st.tuples(st.just("add_message"), keys, messages),
    st.tuples(st.just("add_message"), keys, messages, places),
    st.tuples(st.just("set_messages"), keys, few),
    st.tuples(st.just("get_messages"), keys),
    st.tuples(st.just("delete_message"), keys, places),
    st.tuples(st.just("delete_last_message"), keys),
    st.tuples(st.just("delete_messages"), keys),
    st.tuples(st.just("get_keys")),
)
active = st.just(MessageStatus.ACTIVE)
db_operations = st.one_of(
    st.tuples(st.just("add_message"), keys, messages),
    st.tuples(st.just("add_messages"), keys, st.lists(messages, min_size=1, max_size=3)),
    st.tuples(st.just("set_messages"), keys, few, active | st.just(MessageStatus.ARCHIVED)),
    st.tuples(st.just("get_messages"), keys, active, st.none() | st.integers(0, 3)),
    st.tuples(st.just("get_messages"), keys, active, st.just(2), st.integers(0, 3)),
    st.tuples(st.just("count_messages"), keys, st.none() | st.sampled_from(MessageStatus)),
    st.tuples(st.just("archive_oldest_messages"), keys, st.integers(0, 4)),
    st.tuples(st.just("delete_oldest_messages"), keys, st.integers(0, 4)),
    st.tuples(st.just("delete_messages"), keys, st.none() | st.sampled_from(MessageStatus)),
    st.tuples(st.just("get_keys")),
)
examples = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
ASYNC = {"add_message": "async_add_message"}


def simple(store: SimpleChatStore, name: str, *arguments: Any) -> Any:
    """Do it to LlamaIndex's own, which raises IndexError where there is nothing, and keeps keys without messages."""
    try:
        result = getattr(store, name)(*arguments)
    except IndexError:
        result = None
    for key in [key for key, there in store.store.items() if not there]:
        del store.store[key]
    return result


def seen(result: Any, name: str) -> Any:
    return sorted(result) if name == "get_keys" else result


@examples
@given(script=st.lists(operations, max_size=12), awaited=st.booleans())
def test_it_does_what_simple_chat_store_does(address: str, script: list[tuple[Any, ...]], awaited: bool) -> None:
    ours, theirs = BotWireChatStore(f"test-{uuid.uuid4()}", address), SimpleChatStore()

    async def compare() -> None:
        for name, *arguments in [*script, *(("get_messages", key) for key in ("a", "b/c", "é"))]:
            if awaited:
                got = await getattr(ours, ASYNC.get(name, f"a{name}"))(*arguments)
            else:
                got = getattr(ours, name)(*arguments)
            wanted = simple(theirs, name, *map(copied, arguments))
            assert seen(got, name) == seen(wanted, name), name

    asyncio.run(compare())


def copied(argument: Any) -> Any:
    return list(argument) if isinstance(argument, list) else argument


@examples
@given(script=st.lists(db_operations, max_size=10))
def test_it_does_what_the_sql_chat_store_does(address: str, script: list[tuple[Any, ...]]) -> None:
    async def compare() -> None:
        ours, theirs = BotWireMemoryStore(f"test-{uuid.uuid4()}", address), SQLAlchemyChatStore("messages")
        last = [("get_messages", key, status) for key in ("a", "b/c", "é") for status in (*MessageStatus, None)]
        for name, *arguments in [*script, *last]:
            if name == "set_messages" and not arguments[1]:
                continue  # of which theirs makes a statement without values
            got, wanted = [await getattr(store, name)(*arguments) for store in (ours, theirs)]
            assert seen(got, name) == seen(wanted, name), name
        await theirs._async_engine.dispose()

    asyncio.run(compare())


@pytest.fixture
def store(address: str) -> BotWireChatStore:
    return BotWireChatStore(f"test-{uuid.uuid4()}", address)


class Moody(ChatMessage):
    mood: str = "good"


def test_every_message_comes_back(store: BotWireChatStore) -> None:
    blocks = [TextBlock(text="a"), ImageBlock(image=b"\x89PNG\r\n\x1a\nabc"), ImageBlock(url="http://localhost/x.png")]
    given = [
        ChatMessage(role="user", blocks=blocks),
        ChatMessage("", role="tool", additional_kwargs={"tool_call_id": "1"}),
    ]
    store.set_messages("k", given)
    assert store.get_messages("k") == given
    store.add_message("k", Moody("hm", mood="bad", additional_kwargs={"a": 1}))
    assert store.get_messages("k")[2] == ChatMessage("hm", additional_kwargs={"a": 1, "mood": "bad"})


def test_what_would_not_come_back_is_refused_before_anything_is_written(store: BotWireChatStore) -> None:
    nested: list[Any] = []
    for _ in range(200):
        nested = [nested]
    for wrong in ({"a": float("nan")}, {"a": object()}, {"a": nested}, {"images": ["x"]}, {"a": "\ud800"}):
        message = ChatMessage.model_construct(role=MessageRole.USER, blocks=[], additional_kwargs=wrong)
        with pytest.raises(InvalidValue):
            store.set_messages("k", [ChatMessage("fine"), message])
    with pytest.raises(InvalidValue):
        store.add_message("k", {"role": "user"})
    assert store.get_keys() == []


def test_a_message_from_another_program_is_read_or_refused(store: BotWireChatStore) -> None:
    store._memory.history("k").append([{"role": "nobody", "blocks": 7}])
    with pytest.raises(InvalidValue, match="message 1 of session 'k'"):
        store.get_messages("k")


async def test_the_oldest_of_more_messages_than_one_write_holds_are_deleted(tmp_path) -> None:
    store = BotWireMemoryStore(url=f"sqlite:///{tmp_path}/memory.db")
    said = [ChatMessage(str(number)) for number in range(10_100)]
    await store.add_messages("k", said[:9_000])
    await store.add_messages("k", said[9_000:])
    with pytest.raises(InvalidArgument, match="all messages after it again"):
        await store.archive_oldest_messages("k", 1)
    assert await store.delete_oldest_messages("k", 200) == said[:200]
    assert await store.get_messages("k") == said[200:]


async def test_wrong_names_and_arguments(store: BotWireChatStore, address: str) -> None:
    for key in ("", "a\nb", "k" * 513, 7):
        for call in (store.get_messages, store.delete_messages, store.delete_last_message):
            with pytest.raises(InvalidName):
                call(key)
        for change in (store.set_messages, store.add_message, store.delete_message):
            with pytest.raises(InvalidName):
                change(key, {"set_messages": [], "add_message": ChatMessage("x"), "delete_message": 0}[change.__name__])
        with pytest.raises(InvalidName):
            await BotWireMemoryStore(url=address).get_messages(key)
    with pytest.raises(InvalidArgument):
        store.delete_message("k", "0")
    with pytest.raises(InvalidName):
        BotWireChatStore("a/b", address)
    with pytest.raises(InvalidArgument, match="10,000"):
        store.set_messages("k", [ChatMessage("x")] * 10_001)


def test_a_store_can_be_made_from_its_dict(store: BotWireChatStore, monkeypatch) -> None:
    store.add_message("k", ChatMessage("x"))
    assert BotWireChatStore.from_dict(store.to_dict()).get_messages("k") == [ChatMessage("x")]
    assert store.url not in repr(store)
    monkeypatch.setattr("botwire.Memory.address", "postgresql://ada@db/x")  # without the password that was in it
    assert BotWireChatStore(url=store.url).to_dict()["url"] == "postgresql://ada@db/x"


def test_copies_and_what_is_loaded_again_have_their_messages_in_the_same_place(store: BotWireChatStore) -> None:
    buffer = ChatMemoryBuffer.from_defaults(chat_store=store, chat_store_key="k", tokenizer_fn=str.split)
    buffer.put(ChatMessage("x"))
    loaded = ChatMemoryBuffer.from_dict(json.loads(json.dumps(buffer.to_dict())))
    for again in (copy.deepcopy(buffer), pickle.loads(pickle.dumps(buffer)), loaded):
        assert again.chat_store.get_messages("k") == [ChatMessage("x")]
    db = BotWireMemoryStore(store.namespace, store.url)
    for other in (copy.deepcopy(db), pickle.loads(pickle.dumps(db))):
        assert (type(other), other.namespace, other.url) == (BotWireMemoryStore, db.namespace, db.url)


@pytest.mark.skipif("chat_store" not in inspect.signature(Memory.from_defaults).parameters, reason="a newer release")
async def test_a_memory_stored_with_a_workflow_resumes(address: str) -> None:
    db = BotWireMemoryStore(f"test-{uuid.uuid4()}", address)
    memory = Memory.from_defaults(session_id="ada", chat_store=db, tokenizer_fn=str.split)
    await memory.aput(ChatMessage("x"))
    for again in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert await again.aget_all() == [ChatMessage("x")]


def test_an_encrypted_store_is_not_restored_without_its_key(address: str) -> None:
    options = {"namespace": f"test-{uuid.uuid4()}", "url": address, "encryption_key": b"k" * 32}
    for store in (BotWireChatStore(**options), BotWireMemoryStore(**options)):
        assert "kkk" not in repr(store.model_dump())
        with pytest.raises(InvalidArgument, match="encryption_key"):
            pickle.loads(pickle.dumps(store))
    data = BotWireChatStore(**options).to_dict()
    with pytest.raises(InvalidArgument, match="encryption_key"):
        BotWireChatStore.from_dict(data)
    assert BotWireChatStore.from_dict(data, encryption_key=b"k" * 32).get_keys() == []


def test_16_threads_on_one_store_lose_nothing(store: BotWireChatStore) -> None:
    deleted: list[ChatMessage] = []

    def work(writer: int) -> None:
        for number in range(6):
            store.add_message("k", ChatMessage(f"{writer}/{number}"))
            if writer % 4 == 0:
                gone = store.delete_message("k", 0) if number % 2 else store.delete_last_message("k")
                deleted.append(gone)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    balance(store.get_messages("k"), deleted)


async def test_16_tasks_on_one_store_lose_nothing(store: BotWireChatStore) -> None:
    deleted: list[ChatMessage] = []

    async def work(writer: int) -> None:
        for number in range(6):
            await store.async_add_message("k", ChatMessage(f"{writer}/{number}"))
            if writer % 4 == 0:
                deleted.append(await (store.adelete_message("k", 0) if number % 2 else store.adelete_last_message("k")))

    await asyncio.gather(*map(work, range(16)))
    balance(await store.aget_messages("k"), deleted)


def test_an_unreadable_message_is_named_and_can_be_deleted(store: BotWireChatStore, caplog) -> None:
    session = botwire.Memory(store.namespace, store._memory.address).history("k")
    session.append([{"role": "user", "blocks": "sEcReT"}])
    store.add_message("k", ChatMessage("last"))
    with pytest.raises(InvalidValue, match="message 1 of session 'k' is not one of LlamaIndex") as caught:
        store.get_messages("k")
    assert store.delete_message("k", 0) is None
    assert [message.content for message in store.get_messages("k")] == ["last"]
    session.append(["sEcReT"])
    assert store.delete_last_message("k") is None
    session.append(["sEcReT"])
    assert [message.content for message in store.delete_messages("k")] == ["last"]
    assert store.get_keys() == []
    assert caplog.text.count("is not returned") == 3
    assert "sEcReT" not in caplog.text + str(caught.value)


def balance(left: list[ChatMessage], deleted: list[ChatMessage | None]) -> None:
    found = Counter(message.content for message in (*left, *deleted) if message is not None)
    assert found == Counter(f"{writer}/{number}" for writer in range(16) for number in range(6))


async def test_16_tasks_that_add_and_archive_lose_nothing(address: str) -> None:
    store = BotWireMemoryStore(f"test-{uuid.uuid4()}", address)

    async def work(writer: int) -> None:
        for number in range(4):
            await store.add_message("k", ChatMessage(f"{writer}/{number}"))
            if writer % 4 == 0:
                await store.archive_oldest_messages("k", 3)

    await asyncio.gather(*map(work, range(16)))
    everything = await store.get_messages("k", None)
    assert Counter(message.content for message in everything) == Counter(
        f"{writer}/{number}" for writer in range(16) for number in range(4)
    )
    assert await store.count_messages("k", MessageStatus.ARCHIVED) >= 12


@pytest.mark.skipif("chat_store" not in inspect.signature(Memory.from_defaults).parameters, reason="a newer release")
async def test_a_memory_archives_messages_and_continues(address: str) -> None:
    store = BotWireMemoryStore(f"test-{uuid.uuid4()}", address)

    def memory() -> Memory:
        options = {"tokenizer_fn": str.split, "token_limit": 20, "token_flush_size": 5, "chat_history_token_ratio": 0.5}
        return Memory.from_defaults(session_id="ada", chat_store=store, **options)

    for number in range(12):
        await memory().aput(ChatMessage(f"message number {number}", role="user" if number % 2 == 0 else "assistant"))
    everything = await store.get_messages("ada", None)
    assert [message.content for message in everything] == [f"message number {number}" for number in range(12)]
    assert await store.count_messages("ada", MessageStatus.ARCHIVED) > 0
    assert (await memory().aget())[-1].content == "message number 11"
