"""BotWireByteStore and BotWireCache beyond LangChain's own tests."""

from __future__ import annotations

import asyncio
import copy
import pickle
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk, LLMResult
from langchain_core.stores import InMemoryByteStore, InvalidKeyException

from botwire import InvalidName, InvalidValue, Memory, generate_key
from botwire.adapters.langchain import BotWireByteStore, BotWireCache

keys = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8) | st.sampled_from(
    ["a", "a/b", "."]
)
operations = st.one_of(
    st.tuples(st.just("mset"), st.lists(st.tuples(keys, st.binary(max_size=9)), max_size=4)),
    st.tuples(st.just("mget"), st.lists(keys, max_size=4)),
    st.tuples(st.just("mdelete"), st.lists(keys, max_size=4)),
)


@pytest.fixture
def store(address: str) -> BotWireByteStore:
    return BotWireByteStore(str(uuid.uuid4()), address)


@pytest.fixture
def cache(address: str) -> BotWireCache:
    return BotWireCache(str(uuid.uuid4()), address)


@given(script=st.lists(operations, max_size=10))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_store_does_what_langchains_own_does(address: str, script: list[tuple[str, list]]) -> None:
    ours, theirs = BotWireByteStore(str(uuid.uuid4()), address), InMemoryByteStore()
    for name, argument in script:
        assert getattr(ours, name)(argument) == getattr(theirs, name)(argument)
        assert sorted(ours.yield_keys()) == sorted(theirs.yield_keys())
        assert sorted(ours.yield_keys(prefix="a")) == sorted(theirs.yield_keys(prefix="a"))


def test_more_keys_than_one_write_holds(store: BotWireByteStore) -> None:
    pairs = [(f"k{number:05}", b"%d" % number) for number in range(10_100)]
    store.mset(pairs)
    assert store.mget([key for key, _ in pairs]) == [value for _, value in pairs]
    assert list(store.yield_keys(prefix="k")) == [key for key, _ in pairs]
    store.mdelete([key for key, _ in pairs])
    assert list(store.yield_keys()) == []


def test_more_bytes_than_one_request_may_have(store: BotWireByteStore) -> None:
    large = b"x" * 12_000_000
    store.mset([(key, large) for key in "abc"])
    assert store.mget(["a", "b", "c"]) == [large] * 3


@pytest.mark.parametrize("key", ["", "a\x00", "x" * 513])
def test_a_key_that_is_none_is_an_error_of_langchains_kind(store: BotWireByteStore, key: str) -> None:
    for call in (lambda: store.mget(["good", key]), lambda: store.mset([("good", b"1"), (key, b"2")])):
        with pytest.raises(InvalidKeyException) as caught:
            call()
        assert isinstance(caught.value, InvalidName)
    assert store.mget(["good"]) == [None]


def test_only_bytes(store: BotWireByteStore) -> None:
    with pytest.raises(InvalidValue, match="bytes, not str"):
        store.mset([("a", b"1"), ("b", "2")])  # type: ignore[list-item]
    assert store.mget(["a"]) == [None]
    Memory(store._memory.namespace, store._memory.address).set("c", {"lc": 1})
    with pytest.raises(InvalidValue, match="holds no bytes"):
        store.mget(["c"])


def test_they_outlive_the_object(store: BotWireByteStore, cache: BotWireCache) -> None:
    store.mset([("a", b"1")])
    cache.update("p", "m", [Generation(text="t")])
    assert BotWireByteStore(store._memory.namespace, store._memory.address).mget(["a"]) == [b"1"]
    assert BotWireCache(cache._memory.namespace, cache._memory.address).lookup("p", "m") == [Generation(text="t")]


def test_they_are_pickled_by_their_place(store: BotWireByteStore, cache: BotWireCache) -> None:
    store.mset([("a", b"1")])
    cache.update("p", "m", [Generation(text="t")])
    for other in (pickle.loads(pickle.dumps([store, cache])), copy.deepcopy([store, cache])):
        assert other[0].mget(["a"]) == [b"1"]
        assert other[1].lookup("p", "m") == [Generation(text="t")]
    with pytest.raises(TypeError, match="BOTWIRE_TOKEN"):
        pickle.dumps(BotWireCache(url="http://127.0.0.1:9", token="sEcReT-sEcReT-sEcReT"))


def test_16_threads_and_tasks_lose_nothing(store: BotWireByteStore) -> None:
    def put(number: int) -> None:
        for turn in range(5):
            store.mset([(f"t{number}-{turn}", b"x")])

    async def aput() -> None:
        async def one(number: int) -> None:
            for turn in range(5):
                await store.amset([(f"a{number}-{turn}", b"x")])

        await asyncio.gather(*map(one, range(16)))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(16)))
    asyncio.run(aput())
    assert len(list(store.yield_keys())) == 160


GENERATIONS = [
    Generation(text="a", generation_info={"reason": "stop", "n": [1, None]}),
    GenerationChunk(text="a"),
    ChatGeneration(message=AIMessage("hi", response_metadata={"m": 1}, id="run-1"), generation_info={"x": {}}),
    ChatGenerationChunk(message=AIMessageChunk("hi")),
    ChatGeneration(
        message=AIMessage("", tool_calls=[{"name": "f", "args": {"x": [1]}, "id": "1", "type": "tool_call"}])
    ),
    Generation(text="a", generation_info={"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}),
]


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda generation: type(generation).__name__)
def test_every_generation_comes_back_equal_and_of_its_class(cache: BotWireCache, generation: Generation) -> None:
    theirs = InMemoryCache()
    for one in (cache, theirs):
        one.update("prompt", "model", [generation, generation])
    (first, _) = back = cache.lookup("prompt", "model")
    assert list(back) == theirs.lookup("prompt", "model")
    assert type(first) is type(generation)


def test_what_would_not_come_back_is_not_cached_and_does_no_harm(cache: BotWireCache, caplog) -> None:
    cache.update("p", "m", [Generation(text="a", generation_info={"k": object()})])
    cache.update("q", "m", [Generation(text="a", generation_info={"k": (1, 2)})])
    assert cache.lookup("p", "m") is cache.lookup("q", "m") is None
    assert "not cached" in caplog.text


def test_something_else_under_the_key_is_a_miss(cache: BotWireCache) -> None:
    cache.update("p", "m", [Generation(text="a")])
    memory = Memory(cache._memory.namespace, cache._memory.address)
    (key,) = memory.list_keys()
    evil = {"lc": 1, "type": "constructor", "id": ["langchain", "llms", "OpenAI"], "kwargs": {}}
    for value in (1, [1], [{"type": "os.system"}], [evil], [{"type": "ChatGeneration", "info": None, "message": evil}]):
        memory.set(key, value)
        assert cache.lookup("p", "m") is None


class Model(BaseLLM):
    """A model that gives one answer."""

    answer: Any

    @property
    def _llm_type(self) -> str:
        return "one answer"

    def _generate(self, prompts: list[str], *_: Any, **__: Any) -> LLMResult:
        return LLMResult(generations=[[self.answer] for _ in prompts])


async def answers(cache: BotWireCache, answer: Generation) -> None:
    """Ask twice in each form: both times there is an answer."""
    model = Model(answer=answer, cache=cache)
    for _ in range(2):
        assert model.invoke("blocking") == answer.text
        assert await model.ainvoke("awaited") == answer.text


@pytest.mark.parametrize(
    "answer",
    [
        Generation(text="x", generation_info={"logprobs": [float("-inf")]}),
        Generation(text="cut \ud83d"),
        Generation(text="x", generation_info={"tokens": b"\xff\x00"}),
        Generation(text="x", generation_info={"when": datetime(2026, 1, 1)}),
        Generation(text="x" * 17_000_000),
    ],
    ids=["infinity", "half an emoji", "bytes", "a date", "17 MB"],
)
async def test_an_answer_that_cannot_be_cached_is_given(cache: BotWireCache, answer: Generation, caplog) -> None:
    await answers(cache, answer)
    assert caplog.text.count("an answer is not cached") == 4


async def test_a_cache_that_fails_costs_no_answer(cache: BotWireCache, address: str, tmp_path, caplog) -> None:
    namespace, answer = cache._memory.namespace, Generation(text="x")
    encrypted = BotWireCache(namespace, address, encryption_key=generate_key())
    await answers(encrypted, answer)
    assert "cache" not in caplog.text
    memory = Memory(namespace, address)
    for key, damaged in zip(memory.list_keys(), ([], {"type": "Generation"}), strict=True):
        memory.set(key, damaged)
    await answers(cache, answer)
    assert "is not one of LangChain" in caplog.text
    wrong_key = BotWireCache(namespace, address, encryption_key=generate_key())
    await answers(wrong_key, answer)
    cache.close()
    await answers(cache, answer)
    await answers(BotWireCache(namespace, "http://127.0.0.1:9", timeout=0.2), answer)
    assert not any("\n" in record.getMessage() for record in caplog.records)


async def test_a_file_that_cannot_be_opened_costs_no_answer(tmp_path, caplog) -> None:
    (tmp_path / "memory.db").write_bytes(b"not a database" * 500)
    await answers(BotWireCache(url=f"sqlite:///{tmp_path}/memory.db"), Generation(text="x"))
    assert "no answer is taken from the cache" in caplog.text


def test_different_prompts_and_models_have_different_keys(cache: BotWireCache) -> None:
    cache.update("ab", "c", [Generation(text="1")])
    assert cache.lookup("a", "bc") is None
    assert cache.lookup("ab\ud800", "c") is None
    Memory(cache._memory.namespace, cache._memory.address).set("other", 1)
    cache.clear(anything=True)
    assert cache.lookup("ab", "c") is None
    assert Memory(cache._memory.namespace, cache._memory.address).get("other") == 1
