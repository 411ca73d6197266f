"""BotWireStore beside LangGraph's InMemoryStore, its searches, its writers, and what others could try on it."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.store.base import GetOp, InvalidNamespaceError, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from botwire import InvalidArgument, InvalidName, InvalidValue
from botwire.adapters.langgraph import BotWireStore
from botwire.adapters.langgraph import items as adapter_items

labels = st.sampled_from(["a", "b", "a/b", "%2F", "a%", "_", "*", "ä", " ", "\U0010ffff", "aa"])
namespaces = st.lists(labels, min_size=1, max_size=3).map(tuple)
keys = st.sampled_from(["k", "", "a/b", "//", "k\x01", "x" * 300, "x" * 301, "%%"])
numbers = st.integers(-2, 3) | st.floats(-2, 3, allow_nan=False)
items = st.fixed_dictionaries(
    {"n": numbers}, optional={"s": st.sampled_from(["x", "y", ""]), "d": st.dictionaries(st.sampled_from(["p", "q"]), numbers), "l": st.lists(numbers, max_size=2)}
)  # fmt: skip
operators = st.dictionaries(
    st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), numbers, min_size=1, max_size=2
)
filters = st.fixed_dictionaries(
    {}, optional={"n": operators | numbers, "s": st.sampled_from(["x", "", None]) | st.just({"$ne": "x"}), "d": st.dictionaries(st.sampled_from(["p"]), numbers), "l": st.lists(numbers, max_size=2)}
)  # fmt: skip
paths = st.lists(labels, max_size=2).map(tuple)
conditions = st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), paths)
operations = st.one_of(
    st.builds(PutOp, namespaces, keys, items | st.none(), st.none(), st.none()),
    st.builds(PutOp, st.just(("a", "b")), keys, items, st.none(), st.none()),
    st.builds(GetOp, namespaces, keys),
    st.builds(SearchOp, paths, filters, st.just(1000), st.just(0), st.none()),
    st.builds(
        ListNamespacesOp,
        st.lists(conditions, max_size=2).map(tuple),
        st.none() | st.integers(1, 3),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
)


def shown(result: Any) -> Any:
    if isinstance(result, list):
        found = [shown(item) for item in result]
        return found if result and isinstance(result[0], tuple) else sorted(found, key=repr)
    return (result.namespace, result.key, result.value) if hasattr(result, "value") else result


def alone(store: InMemoryStore, op: Any) -> Any:
    """Carry out an operation after forgetting namespaces without items, which this store lists as soon as they are asked for."""
    for namespace in [known for known, held in store._data.items() if not held]:
        del store._data[namespace]
    return store.batch([op])[0]


@given(script=st.lists(st.lists(operations, min_size=1, max_size=4), max_size=8))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_it_does_what_langgraphs_own_store_does(address: str, script: list[list[Any]]) -> None:
    name = str(uuid.uuid4())
    ours, theirs = BotWireStore(name, address), InMemoryStore()
    for batch in script:
        expected = [alone(theirs, op) for op in batch if not isinstance(op, PutOp)]
        theirs.batch([op for op in batch if isinstance(op, PutOp)])
        results = ours.batch(batch)
        assert [shown(r) for op, r in zip(batch, results, strict=True) if not isinstance(op, PutOp)] == list(
            map(shown, expected)
        )
        assert all(r is None for op, r in zip(batch, results, strict=True) if isinstance(op, PutOp))
    everything = SearchOp((), None, 1000)
    assert asyncio.run(BotWireStore(name, address).abatch([everything])) == ours.batch([everything])
    assert shown(ours.batch([everything])[0]) == shown(theirs.batch([everything])[0])


@pytest.fixture
def store(address: str) -> BotWireStore:
    return BotWireStore(str(uuid.uuid4()), address)


def test_an_item_knows_when_it_was_made_and_changed(store: BotWireStore) -> None:
    store.put(("a",), "k", {"n": 1})
    first = store.get(("a",), "k")
    store.put(("a",), "k", {"n": 2})
    second = store.get(("a",), "k")
    assert second.created_at == first.created_at == first.updated_at < second.updated_at
    store.delete(("a",), "k")
    assert store.get(("a",), "k") is None


def test_paging(store: BotWireStore) -> None:
    store.batch([PutOp(("a", f"{n % 3}"), f"{n:02}", {"n": n}) for n in range(30)])
    pages = [store.search(("a",), limit=7, offset=offset) for offset in range(0, 35, 7)]
    assert sorted(item.value["n"] for page in pages for item in page) == list(range(30))
    assert [item.value["n"] for item in store.search(("a",), filter={"n": {"$gt": 20}}, limit=2, offset=1)] == [24, 27]


def test_namespaces_with_more_items_than_a_page(store: BotWireStore) -> None:
    for namespace in (("many",), ("many", "below"), ("z",)):
        store.batch([PutOp(namespace, f"{n}", {"n": n}) for n in range(1100)])
    assert store.list_namespaces() == [("many",), ("many", "below"), ("z",)]
    assert store.list_namespaces(suffix=("below",)) == [("many", "below")]
    assert len(store.search(("many",), limit=5000)) == 2200


# Time to live


def test_expired_items_are_missing_and_reads_renew_the_ttl(address: str) -> None:
    store = BotWireStore(str(uuid.uuid4()), address, ttl={"default_ttl": 1.2 / 60, "refresh_on_read": True})
    store.put(("a",), "read", {"n": 1})
    store.put(("a",), "searched", {"n": 2})
    store.put(("a",), "left", {"n": 3})
    store.put(("a",), "for ever", {"n": 4}, ttl=None)
    before = store.get(("a",), "read")
    for _ in range(4):
        time.sleep(0.4)
        assert store.get(("a",), "read") == before
        assert len(store.search(("a",), filter={"n": 2})) == 1
    assert store.get(("a",), "left") is None
    assert [item.key for item in store.search(("a",))] == ["for ever", "read", "searched"]
    assert store.get(("a",), "read", refresh_ttl=False) is not None
    time.sleep(0.7)
    store.get(("a",), "read", refresh_ttl=False)
    time.sleep(0.7)
    assert store.list_namespaces() == [("a",)]
    assert [item.key for item in store.search(("a",))] == ["for ever"]


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), "x"])
def test_a_time_to_live_that_is_none(store: BotWireStore, ttl: Any) -> None:
    with pytest.raises((InvalidArgument, TypeError)):
        store.put(("a",), "k", {}, ttl=ttl)
    assert store.get(("a",), "k") is None


# Search

FACTS = {
    "colour": "Ada likes the colour teal",
    "town": "Ada lives in Zürich near the lake",
    "food": "Grace eats no fish",
    "work": "Ada writes programs for an engine",
}


@pytest.mark.parametrize("encrypted", [False, True])
def test_search_by_words(address: str, encrypted: bool) -> None:
    options: Any = {"encryption_key": bytes(range(32))} if encrypted else {}
    store = BotWireStore(str(uuid.uuid4()), address, **options)
    for key, text in FACTS.items():
        store.put(("users", "42"), key, {"text": text, "kind": key})
    store.put(("others",), "colour", {"text": "the colour teal"})
    found = store.search(("users",), query="Which colour does she like? teal", limit=2)
    assert found[0].key == "colour"
    assert found[0].score > 0
    assert len(found) == 2
    assert {item.namespace for item in store.search(("users",), query="colour teal")} == {("users", "42")}
    everything = store.search(("users",), query="fish")
    assert (everything[0].key, len(everything)) == ("food", 4)
    assert everything[-1].score is None
    assert [item.key for item in store.search(("users",), query="Ada", filter={"kind": "town"})] == ["town"]
    whole_document = store.search(("users",), query="fish " * 10_000)
    assert (whole_document[0].key, whole_document[1].score) == ("food", None)
    for query in ('" OR 1=1 --', "*", "NEAR(", "'"):
        assert len(store.search(("users",), query=query)) == 4


def embed(texts: list[str]) -> list[list[float]]:
    words = ["teal", "zürich", "fish", "engine"]
    return [[float(text.lower().count(word)) for word in words] + [0.1] for text in texts]


async def aembed(texts: list[str]) -> list[list[float]]:
    return embed(texts)


@pytest.mark.parametrize("numpy", [True, False])
async def test_search_by_vectors_as_langgraphs_own(address: str, numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not numpy:
        monkeypatch.setattr(adapter_items, "np", None)
    index: Any = {"dims": 5, "embed": embed, "fields": ["text", "more[*]"]}
    ours, theirs = BotWireStore(str(uuid.uuid4()), address, index=index), InMemoryStore(index=index)
    for store in (ours, theirs):
        for key, text in FACTS.items():
            await store.aput(("users",), key, {"text": text, "more": ["fish", "teal"] if key == "work" else []})
        await store.aput(("users",), "hidden", {"text": "teal teal"}, index=False)
        await store.aput(("users",), "other", {"title": "engine", "text": "zürich"}, index=["title"])
    for query in ("teal", "fish", "engine in zürich"):
        for limit, offset in ((10, 0), (2, 1)):
            results = [store.search(("users",), query=query, limit=limit, offset=offset) for store in (ours, theirs)]
            scores = [[item.score and round(item.score, 5) for item in result] for result in results]
            assert scores[0] == scores[1], query
            assert results[0][0].key == results[1][0].key or scores[0][0] == scores[0][1]
    assert ours.search(("users",), query="teal") == await ours.asearch(("users",), query="teal")
    ours.put(("users",), "colour", {"text": "none"}, index=False)
    ours.delete(("users",), "other")
    keys = [item.key for item in ours.search(("users",), query="teal") if item.score is not None]
    assert "colour" not in keys
    assert "other" not in keys


def concepts(texts: list[str]) -> list[list[float]]:
    """Return vectors that know what is fruit and what is not."""
    groups = [("banana", "papaya"), ("bicycle", "wheel")]
    return [[float(any(word in text.lower() for word in group)) for group in groups] + [0.1] for text in texts]


async def test_search_by_the_embedder_that_every_memory_may_have(address: str) -> None:
    store = BotWireStore(str(uuid.uuid4()), address, embedder=concepts, embedding_model="concepts")
    for key, text in {"ride": "a bicycle chain", "food": "a banana split", "name": "Ada"}.items():
        store.put(("users", "42"), key, {"text": text})
    if find_spec("sqlite_vec") is None:
        with pytest.raises(InvalidArgument, match=r"botwire\[vectors\]"):
            store.search(("users",), query="papaya")
        return
    for found, key in (
        (store.search(("users",), query="papaya"), "food"),
        (await store.asearch(("users",), query="wheel", limit=1), "ride"),
    ):
        assert found[0].key == key
        assert found[0].score > 0


WRONG_INDEXES: list[tuple[Any, str]] = [
    ({"distance_type": "l2"}, "distance_type is 'cosine', not 'l2'"),
    ({"distance_type": "inner_product"}, "not 'inner_product'"),
    ({"distance_type": None}, "not None"),
    ({"ann_index_config": {"kind": "hnsw"}}, "'ann_index_config'.*it has embed, dims, fields"),
    ({"text_fields": ["text"], "x": 1}, "'text_fields', 'x'"),
    ({"dims": "5"}, "dims is an int"),
    ({"dims": 0}, "dims is an int"),
    ({"fields": "text"}, "fields is a list"),
    ({"embed": None}, "no embed"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_INDEXES)
def test_an_index_that_asks_for_something_else_is_refused(change: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        BotWireStore(url="sqlite:///:memory:", index={"dims": 5, "embed": embed, "fields": ["text"], **change})


WRONG_TTLS: list[Any] = [
    {"ttl": 5},
    {"default_ttl": 0},
    {"default_ttl": "5"},
    {"default_ttl": True},
    {"default_ttl": float("nan")},
    {"default_ttl": 1e12},
    5,
]


@pytest.mark.parametrize("ttl", WRONG_TTLS)
def test_a_ttl_that_asks_for_something_else_is_refused(ttl: Any) -> None:
    with pytest.raises(InvalidArgument, match="ttl"):
        BotWireStore(url="sqlite:///:memory:", ttl=ttl)


def test_what_langgraphs_own_stores_may_be_made_with() -> None:
    index: Any = {"dims": 5, "embed": embed, "distance_type": "cosine"}
    ttl: Any = {"default_ttl": None, "omit_expired": True, "sweep_interval_minutes": 5, "refresh_on_read": False}
    store = BotWireStore(url="sqlite:///:memory:", index=index, ttl=ttl)
    store.put(("a",), "k", {"text": "teal"})
    assert len(store.search(("a",), query="teal")) == 1
    BotWireStore(url="sqlite:///:memory:", index={}, ttl={})  # as no config


def test_vectors_of_another_length_are_refused(address: str) -> None:
    store = BotWireStore(str(uuid.uuid4()), address, index={"dims": 4, "embed": embed})
    with pytest.raises(InvalidArgument, match="5 dimensions"):
        store.put(("a",), "k", {"text": "teal"})
    assert store.get(("a",), "k") is None


# What others could try


def test_filters_are_data(store: BotWireStore) -> None:
    store.put(("a",), "k", {"n": 1, "a'b": 2, "$.n": 3})
    for key in ("n') OR 1=1 --", "$.n", "a'b", 'n"', "') UNION SELECT 1 --", "", "%", "\ud83d", 1):
        for wanted in (1, {"$gt": 0}):
            with pytest.raises(InvalidArgument, match="Invalid filter key"):
                store.search(("a",), filter={key: wanted})
    assert store.search(("a",), filter={"n.x": 1}) == []
    with pytest.raises(ValueError, match=r"Unsupported operator: \$where"):
        store.search(("a",), filter={"n": {"$where": "1"}})
    assert store.search(("a",), filter={"n": {"$gt": "0"}}) == store.search(("a",), filter={"s": {"$lt": 1}}) == []


def test_a_filter_may_have_paths(store: BotWireStore) -> None:
    store.put(("a",), "k", {"user": {"access-level": 3, "tags": {"x": [1]}}, "user.name": "Ada", "größe": 1, "a b": 2})
    for found, filter_ in (
        (1, {"user.access-level": 3, "user.name": "Ada"}),
        (1, {"user.access-level": {"$gt": 2, "$lte": 3}, "größe": {"$ne": 2}, "a b": 2}),
        (1, {"user.tags": {"x": [1]}, "user.tags.x": [1], "user.missing": None}),
        (0, {"user.access-level": {"$gt": 3}}),
        (0, {"user.access-level.x": 3}),
        (0, {"user.name.x": 1}),
    ):
        assert len(store.search(("a",), filter=filter_)) == found, filter_
        assert len(store.search(("a",), query="Ada", filter=filter_)) == found, filter_


def test_names_that_are_not_unicode_are_refused(store: BotWireStore) -> None:
    bad = "x\ud83d"
    for key in (bad, bad * 99):
        for op in (PutOp(("a",), key, {"n": 1}), GetOp(("a",), key), PutOp(("a",), key, None)):
            with pytest.raises((InvalidName, InvalidValue), match="surrogate"):
                store.batch([PutOp(("a",), "good", {"n": 1}), op])
    for op in (
        PutOp(("a", bad), "k", {}),
        GetOp((bad,), "k"),
        SearchOp((bad,)),
        ListNamespacesOp((MatchCondition("prefix", (bad,)),)),
    ):
        with pytest.raises(InvalidNamespaceError, match="surrogate"):
            store.batch([op])
    with pytest.raises(InvalidName, match="query.*surrogate"):
        store.search(("a",), query=bad)
    assert store.search(()) == []


def test_values_are_data(store: BotWireStore) -> None:
    value = {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}, "__class__": "x"}
    store.put(("a",), "k", value)
    assert store.get(("a",), "k").value == value
    for bad in ({"x": object()}, {"x": float("nan")}, {1: 2}):
        with pytest.raises(InvalidValue):
            store.batch([PutOp(("a",), "good", {"n": 1}), PutOp(("a",), "bad", bad)])
    assert store.get(("a",), "good") is None


@pytest.mark.parametrize("namespace", [(), ("",), ("a.b",), ("a", "\x00"), (1,), (["a"],), 5, ("x" * 600,)])
def test_namespaces_that_are_none(store: BotWireStore, namespace: Any) -> None:
    for ops in ([PutOp(namespace, "k", {"n": 1})], [GetOp(namespace, "k")]):
        with pytest.raises(InvalidNamespaceError):
            store.batch(ops)
    with pytest.raises(InvalidNamespaceError):
        store.put(("langgraph",), "k", {})


def test_16_threads_and_16_tasks_on_one_store_lose_nothing(store: BotWireStore) -> None:
    async def tasks() -> None:
        await asyncio.gather(*(store.aput(("task", f"{n % 4}"), f"{n}", {"n": n}) for n in range(80)))

    with ThreadPoolExecutor(17) as pool:
        others = pool.submit(asyncio.run, tasks())
        list(pool.map(lambda n: store.put(("thread", f"{n % 4}"), f"{n}", {"n": n}), range(80)))
        others.result()
    for kind in ("thread", "task"):
        assert sorted(item.value["n"] for item in store.search((kind,), limit=100)) == list(range(80))
