"""BotWireConversationStore beside Pydantic AI's own store, and with many writers."""

from __future__ import annotations

import asyncio
import copy
import pickle
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationStore, InMemoryConversationStore
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.usage import RequestUsage, RunUsage

from botwire import InvalidName, InvalidValue, Memory
from botwire.adapters.pydantic_ai import BotWireConversationStore

TIME = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
EVERY: list[ModelMessage] = [
    ModelRequest([SystemPromptPart("Be kind.", timestamp=TIME), UserPromptPart("Grüezi 🤖", timestamp=TIME)]),
    ModelRequest(
        [
            UserPromptPart(
                ["look", ImageUrl("http://localhost/x.png"), BinaryContent(b"\x00\xff", media_type="image/png")]
            )
        ],
        instructions="short",
    ),
    ModelResponse(
        [ThinkingPart("hm", signature="s"), TextPart("Hi"), ToolCallPart("f", {"x": [1, None]}, tool_call_id="1")],
        usage=RequestUsage(input_tokens=3, output_tokens=4, details={"cached": 1}),
        model_name="m",
        timestamp=TIME,
        provider_details={"a": 1},
    ),
    ModelRequest([ToolReturnPart("f", {"y": 2.5}, tool_call_id="1", metadata={"source": "test"}, timestamp=TIME)]),
]

EVERY = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(EVERY))
"""As Pydantic AI reads them back itself: of an image in bytes it makes another class."""


def request(text: str) -> ModelMessage:
    return ModelRequest([UserPromptPart(text, timestamp=TIME)])


# The same operations on our store and on theirs

names = st.sampled_from(["a", "b/c", "é"])
counts = st.integers(0, 5)
operations = st.one_of(
    st.tuples(st.just("say"), names, st.integers(1, 3)),
    st.tuples(st.just("say"), names, st.integers(1, 3)),
    st.tuples(st.just("rewrite"), names, counts),
    st.tuples(st.just("window"), names, counts),
    st.tuples(st.just("stale"), names),
    st.tuples(st.just("branch"), names, counts),
    st.tuples(st.just("back"), names),
    st.tuples(st.just("fork"), names, counts, names),
    st.tuples(st.just("delete"), names),
)


class Player:
    """Does operations with a store and tells what came of them, without the ids and revisions, which are random."""

    def __init__(self, store: ConversationStore) -> None:
        self.store = store
        self.said = 0

    async def play(self, name: str, *arguments: Any) -> Any:
        try:
            result = await getattr(self, name)(*arguments)
        except (ConversationConflict, UserError) as error:
            result = type(error)
        return result, [await self.seen(key) for key in ("a", "b/c", "é")], await self.listed()

    async def seen(self, key: str) -> Any:
        loaded = await self.store.load(key)
        last = await self.store.load(key, limit=2)
        return loaded and (loaded.messages, loaded.usage.requests, last.messages)

    async def listed(self) -> Any:
        records = await self.store.list_conversations()
        return sorted((item.conversation_id, item.scope, item.forked_from, len(item.branches)) for item in records)

    def new(self, count: int) -> list[ModelMessage]:
        self.said += count
        return [request(f"{self.said}/{number}") for number in range(count)]

    async def say(self, key: str, count: int) -> None:
        conversation = await self.store.load(key) or Conversation(conversation_id=key)
        conversation.messages.extend(self.new(count))
        conversation.usage.requests += 1
        await self.store.save(conversation)

    async def rewrite(self, key: str, keep: int) -> None:
        conversation = await self.store.load(key)
        if conversation is not None:
            messages = [*conversation.messages[:keep], *self.new(1)]
            rewritten = Conversation(conversation_id=key, messages=messages, revision=conversation.revision)
            await self.store.save(rewritten)

    async def window(self, key: str, limit: int) -> Any:
        conversation = await self.store.load(key, limit=limit)
        if conversation is None:
            return None
        conversation.messages.extend(self.new(1))
        stored = await self.store.save(conversation, scope="team")
        return [entry.message for entry in stored]

    async def stale(self, key: str) -> None:
        old = await self.store.load(key)
        await self.say(key, 1)
        conversation = old or Conversation(conversation_id=key)
        conversation.messages.extend(self.new(1))
        await self.store.save(conversation)

    async def branch(self, key: str, at: int) -> None:
        conversation = await self.store.load(key)
        revision = conversation.revision if conversation else None
        await self.store.branch(key, at=at, expected_revision=revision)

    async def back(self, key: str) -> None:
        record = await self.store.read_record(key)
        if record is not None and record.branches:
            await self.store.branch(key, from_entry=record.branches[0], expected_revision=record.revision)

    async def fork(self, key: str, at: int, to: str) -> None:
        await self.store.fork(key, at=at, new_conversation_id=to)

    async def delete(self, key: str) -> None:
        await self.store.delete(key)


@given(script=st.lists(operations, max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_does_what_their_own_store_does(address: str, script: list[tuple[Any, ...]]) -> None:
    async def compare() -> None:
        store = BotWireConversationStore(f"test-{uuid.uuid4()}", address)
        ours, theirs = Player(store), Player(InMemoryConversationStore())
        for operation in script:
            assert await ours.play(*operation) == await theirs.play(*operation), operation
        for key in ("a", "b/c", "é"):
            await store.delete(key)
        memory = Memory(store._memory.namespace, address)
        assert memory.list_keys() in ([], ["forks"])
        assert memory.sessions() == []

    asyncio.run(compare())


@pytest.fixture
def store(address: str) -> BotWireConversationStore:
    return BotWireConversationStore(f"test-{uuid.uuid4()}", address)


async def test_everything_in_a_conversation_comes_back(store: BotWireConversationStore) -> None:
    deferred = DeferredToolRequests(
        calls=[ToolCallPart("f", '{"a": 1}', tool_call_id="1")], metadata={"1": {"why": [1, None]}}
    )
    usage = RunUsage(requests=2, tool_calls=1, input_tokens=3, output_tokens=4, details={"x": 1})
    given = Conversation(conversation_id="c", messages=list(EVERY), usage=usage, deferred_tool_requests=deferred)
    await store.save(given, scope="ada")
    loaded = await store.load("c", scope="ada")
    assert loaded == given
    assert await store.load("c", scope="bob") is None
    (record,) = await store.list_conversations(scope="ada", limit=1)
    assert (record.conversation_id, record.scope) == ("c", "ada")
    entries = await store.load_entries("c")
    assert [entry.message for entry in entries] == EVERY
    assert await store.read_entry(entries[1].id) == entries[1]
    with pytest.raises(LookupError):
        await store.read_entry("nobody")


async def test_a_conversation_may_begin_with_more_messages_than_one_write_holds(
    store: BotWireConversationStore,
) -> None:
    said = [request(str(number)) for number in range(5001)]
    await store.save(Conversation(conversation_id="c", messages=said))
    assert (await store.load("c")).messages == said
    with pytest.raises(ConversationConflict):
        await store.save(Conversation(conversation_id="c", messages=said))
    memory = Memory(store._memory.namespace, store._memory.address)
    assert len(memory.history("c")) == 5001
    await store.delete("c")
    assert (memory.list_keys(), memory.sessions()) == (["forks"], [])


async def test_of_many_saves_of_one_revision_one_succeeds(store: BotWireConversationStore) -> None:
    await store.save(Conversation(conversation_id="c", messages=[request("begin")]))
    loaded = [await store.load("c") for _ in range(16)]

    async def save(number: int) -> bool:
        loaded[number].messages.append(request(str(number)))
        try:
            await store.save(loaded[number])
        except ConversationConflict as conflict:
            assert conflict.conversation_id == "c"
            return False
        return True

    won = await asyncio.gather(*map(save, range(16)))
    assert won.count(True) == 1
    assert [text(message) for message in (await store.load("c")).messages] == ["begin", str(won.index(True))]


def test_16_threads_on_one_store_lose_nothing(store: BotWireConversationStore) -> None:
    async def say(writer: int) -> None:
        for number in range(2):
            while True:
                conversation = await store.load("c") or Conversation(conversation_id="c")
                conversation.messages.append(request(f"{writer}/{number}"))
                try:
                    await store.save(conversation)
                except ConversationConflict:
                    continue
                break
            if number == 1:
                fork = await store.fork("c", new_conversation_id=f"fork-{writer}")
                assert (await store.load(fork.conversation_id)).messages == fork.messages
                await store.delete(fork.conversation_id)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda writer: asyncio.run(say(writer)), range(16)))
    messages = asyncio.run(store.load("c")).messages
    assert Counter(map(text, messages)) == Counter(f"{writer}/{number}" for writer in range(16) for number in range(2))


async def test_a_fork_outlives_what_it_was_forked_from(store: BotWireConversationStore) -> None:
    await store.save(Conversation(conversation_id="c", messages=[request("1"), request("2")]))
    await store.fork("c", at=1, new_conversation_id="f")
    await store.fork("f", new_conversation_id="g")
    await store.delete("c")
    await store.delete("f")
    await store.save(Conversation(conversation_id="c", messages=[request("other")]))
    assert [text(message) for message in (await store.load("g")).messages] == ["1"]
    await store.delete("g")
    assert [text(message) for message in (await store.load("c")).messages] == ["other"]


async def test_a_message_that_would_not_be_read_back_is_refused(store: BotWireConversationStore) -> None:
    await store.save(Conversation(conversation_id="c", messages=[request("begin")]))
    conversation = await store.load("c")
    error = {"type": "missing", "loc": ("city",), "msg": "Field required"}
    conversation.messages.append(ModelRequest([RetryPromptPart([error], tool_name="weather", tool_call_id="1")]))
    with pytest.raises(InvalidValue, match="would not read it back"):
        await store.save(conversation)
    assert [text(message) for message in (await store.load("c")).messages] == ["begin"]


async def test_a_pickle_or_a_copy_of_a_store_is_the_store(store: BotWireConversationStore) -> None:
    await store.save(Conversation(conversation_id="c", messages=[request("hi")]))
    for other in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
        assert (await other.load("c")).messages == [request("hi")]


async def test_wrong_names_and_what_is_not_json(store: BotWireConversationStore) -> None:
    for wrong in ("", "a\nb", "x" * 513):
        with pytest.raises(InvalidName):
            await store.save(Conversation(conversation_id=wrong, messages=[request("x")]))
    for content in (float("nan"), object()):
        message = ModelRequest([ToolReturnPart("f", content, tool_call_id="1")])
        with pytest.raises(InvalidValue):
            await store.save(Conversation(conversation_id="c", messages=[request("x"), message]))
    assert await store.list_conversations() == []


def text(message: ModelMessage) -> str:
    return message.parts[0].content
