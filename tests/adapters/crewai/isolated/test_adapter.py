"""Beside CrewAI's own backends: the same operations, the same answers; and what those do not do."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.metadata import requires
from pathlib import Path

import pytest
from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.flow.persistence.base import _persistence_registry
from crewai.flow.persistence.sqlite import SQLiteFlowPersistence
from crewai.memory.storage.backend import EmbeddingDimensionMismatchError, StorageBackend
from crewai.memory.storage.lancedb_storage import LanceDBStorage
from crewai.memory.types import MemoryRecord
from crewai.tools import BaseTool
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from pydantic import BaseModel, RootModel

from botwire import InvalidName, InvalidValue, Memory, generate_key
from botwire.adapters.crewai import BotWireFlowPersistence, BotWireStorage, memory_tools
from botwire.adapters.crewai import storage as adapter_records

NOON = datetime(2026, 1, 1, 12)
SCOPES = ["/", "/a", "/a/b", "/a/b/c", "/z", "/ü #%_/x"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
vectors = st.lists(st.integers(-3, 3).map(float), min_size=3, max_size=3)
fields = {
    "content": texts,
    "scope": st.sampled_from(SCOPES),
    "categories": st.lists(st.sampled_from("xyz"), max_size=2, unique=True),
    "metadata": st.dictionaries(st.sampled_from(["who", "när"]), st.integers(0, 1) | texts, max_size=2),
    "importance": st.floats(0, 1),
    "source": st.none() | st.just("ada"),
    "private": st.booleans(),
    "embedding": vectors,
}
records = st.builds(dict, **fields)
scopes = st.none() | st.sampled_from([*SCOPES, "/nobody"])
steps = st.one_of(
    st.tuples(st.just("save"), st.lists(records, min_size=1, max_size=3)),
    st.tuples(st.just("update"), st.integers(0, 5), records),
    st.tuples(st.just("delete"), st.lists(st.integers(0, 5), min_size=1, max_size=2)),
    st.tuples(st.just("delete by category"), st.sampled_from("xyz"), scopes, st.integers(0, 9)),
    st.tuples(st.just("reset"), scopes.filter(bool)),
    st.tuples(
        st.just("search"),
        vectors,
        scopes,
        st.none() | st.just(["x", "y"]),
        st.none() | st.just({"who": 1}),
        st.sampled_from([0.0, 0.2]),
    ),
)


def name() -> str:
    return str(uuid.uuid4())


def record(**changes) -> MemoryRecord:
    return MemoryRecord(**{"content": "x", "embedding": [1.0, 0.0, 0.0]} | changes)


def seen(found: MemoryRecord | None) -> dict | None:
    return found and found.model_dump() | {"embedding": [float(x) for x in found.embedding]}


def scored(storage: StorageBackend, *query) -> tuple[list[float], list[tuple[float, str]]]:
    """The scores in their order, and who has them: whose are equal may change places."""
    *filters, min_score = query
    # LanceDB filters what it has found, so with a small limit it may miss some.
    found = [(round(score, 5), item.id) for item, score in storage.search(*filters, limit=50, min_score=min_score)]
    return [score for score, _ in found], sorted(found)


@given(script=st.lists(steps, min_size=3, max_size=8))
@settings(max_examples=12, deadline=None, phases=set(Phase) - {Phase.shrink})  # LanceDB takes its time
def test_a_storage_answers_as_lancedb_does(script: list, tmp_path_factory) -> None:
    ours = BotWireStorage(name(), f"sqlite:///{tmp_path_factory.getbasetemp()}/records.db")
    theirs = LanceDBStorage(tmp_path_factory.mktemp("lance"), compact_every=0)
    ids: list[str] = []
    for number, (step, *rest) in enumerate(script):
        times = {"created_at": NOON + timedelta(seconds=number), "last_accessed": NOON}
        if step == "save":
            made = [MemoryRecord(**item, **times) for item in rest[0]]
            made = [
                item.model_copy(update={"created_at": NOON + timedelta(seconds=10 * number + n)})
                for n, item in enumerate(made)
            ]
            ids += [item.id for item in made]
            for storage in (ours, theirs):
                storage.save(made)
        elif step == "update" and ids:
            changed = MemoryRecord(
                id=ids[rest[0] % len(ids)], **rest[1], **times | {"created_at": NOON + timedelta(seconds=1000 + number)}
            )
            for storage in (ours, theirs):
                storage.update(changed)
        elif step == "delete" and ids:
            chosen = sorted({ids[index % len(ids)] for index in rest[0]})
            assert ours.delete(record_ids=chosen) == theirs.delete(record_ids=chosen)
        elif step == "delete by category":
            criteria = {
                "categories": [rest[0]],
                "scope_prefix": rest[1],
                "older_than": NOON + timedelta(seconds=10 * rest[2]),
            }
            assert ours.delete(**criteria) == theirs.delete(**criteria)
        elif step == "reset":
            ours.reset(rest[0])
            theirs.reset(rest[0])
        elif step == "search":
            assert scored(ours, *rest) == scored(theirs, *rest)
    for scope in (None, *SCOPES, "/nobody"):
        assert ours.count(scope) == theirs.count(scope)
        assert ours.list_categories(scope) == theirs.list_categories(scope)
        for page in ({}, {"limit": 2, "offset": 1}):
            assert [*map(seen, ours.list_records(scope, **page))] == [*map(seen, theirs.list_records(scope, **page))]
        if scope is not None:
            assert ours.get_scope_info(scope) == theirs.get_scope_info(scope)
            assert ours.list_scopes(scope) == theirs.list_scopes(scope)
        query = [1.0, 2.0, 0.0], scope, None, None, 0.0
        assert scored(ours, *query) == scored(theirs, *query)
    for record_id in [*ids, "nobody"]:
        assert seen(ours.get_record(record_id)) == seen(theirs.get_record(record_id))


def test_the_extra_mcp_does_not_fit_into_the_same_environment() -> None:
    """If this fails, crewai takes mcp 2: correct docs/mcp.md, docs/crewai.md and pyproject.toml."""
    needed, wanted = (
        [item for item in map(Requirement, requires(name)) if item.name == "mcp"] for name in ("crewai", "botwire")
    )
    assert needed, "crewai needs no mcp any more"
    for release in ("2.0.0", "2.3.0", "2.99.0"):
        assert any(release in item.specifier for item in wanted)
        assert not any(release in item.specifier for item in needed)


def test_it_is_a_storage_backend(address: str) -> None:
    storage = BotWireStorage(name(), address)
    assert isinstance(storage, StorageBackend)
    assert copy.deepcopy(storage) is storage
    storage.save([])
    assert (storage.search([1.0]), storage.count(), storage.delete()) == ([], 0, 0)
    assert storage.get_scope_info("/") == LanceDBStorage.get_scope_info(storage_without_table(), "/")


def storage_without_table() -> LanceDBStorage:
    empty = LanceDBStorage.__new__(LanceDBStorage)
    empty._table = None
    return empty


async def test_the_async_methods_do_the_same(address: str) -> None:
    storage = BotWireStorage(name(), address)
    kept = record(scope="/a", categories=["x"], metadata={"who": "Ada"})
    await storage.asave([kept, record(scope="/z")])
    found = await storage.asearch([1.0, 0.0, 0.0], "/a", ["x"], {"who": "Ada"})
    assert found == [(kept, 1.0)] == storage.search([1.0, 0.0, 0.0], "/a", ["x"], {"who": "Ada"})
    assert await storage.adelete("/z") == 1
    assert storage.count() == 1


def test_a_scope_is_a_path_and_all_criteria_count(address: str) -> None:
    storage = BotWireStorage(name(), address)
    mine, notes, other, root = (
        record(scope=scope, categories=["x"]) for scope in ("/user/1", "/user/1/notes", "/user/10", "/")
    )
    storage.save([mine, notes, other, root])
    assert {found.id for found, _ in storage.search([1.0, 0.0, 0.0], "/user/1")} == {mine.id, notes.id}
    assert storage.count("/user/1") == storage.count("user/1/") == 2
    assert storage.delete("/user/1", record_ids=[other.id]) == 0
    assert storage.delete(categories=["x"], record_ids=[notes.id]) == 1
    assert storage.delete(record_ids=[]) == 0
    assert storage.delete("/user/1") == 1
    assert {found.id for found in storage.list_records()} == {other.id, root.id}


def test_filters_come_before_the_limit(address: str) -> None:
    storage = BotWireStorage(name(), address)
    storage.save([record(embedding=[1.0, number / 100, 0.0]) for number in range(50)])
    far = record(embedding=[-1.0, 0.0, 0.0], categories=["rare"])
    storage.save([far])
    assert storage.search([1.0, 0.0, 0.0], categories=["rare"], limit=1) == [(far, pytest.approx(0.2))]
    assert [round(score, 3) for _, score in storage.search([1.0, 0.0, 0.0], limit=2)] == [1.0, 1.0]


def test_a_moved_record_is_in_one_place(address: str) -> None:
    storage = BotWireStorage(name(), address)
    moving = record(scope="/a")
    storage.save([moving])
    storage.update(moving.model_copy(update={"scope": "/b", "embedding": None}))
    assert (storage.count("/a"), storage.count("/b"), storage.count()) == (0, 1, 1)
    assert storage.get_record(moving.id).embedding is None
    assert storage.search([1.0, 0.0, 0.0]) == []


def test_embeddings_of_another_length_are_refused(address: str) -> None:
    storage = BotWireStorage(name(), address)
    storage.save([record()])
    for attempt in (
        lambda: storage.save([record(embedding=[1.0])]),
        lambda: storage.update(record(embedding=[1.0] * 4)),
        lambda: storage.search([1.0]),
    ):
        with pytest.raises(EmbeddingDimensionMismatchError, match="3-dimensional"):
            attempt()
    with pytest.raises(EmbeddingDimensionMismatchError):
        BotWireStorage(name(), address).save([record(), record(embedding=[1.0])])
    assert storage.count() == 1
    storage.reset()
    storage.save([record(embedding=[1.0])])


def test_what_cannot_come_back_is_refused(address: str) -> None:
    storage = BotWireStorage(name(), address)
    with pytest.raises(InvalidName):
        storage.save([record(scope="/" + "x" * 600)])
    with pytest.raises(InvalidValue):
        storage.save([record(), record(metadata={"x": float("nan")})])
    for wrong in (float("nan"), float("-inf"), 1e39):
        unreal = record(embedding=[1.0, wrong, 0.0])
        for attempt in (lambda: storage.save([record(), unreal]), lambda: storage.search(unreal.embedding)):
            with pytest.raises(InvalidValue, match="finite"):
                attempt()
    with pytest.raises(InvalidValue, match="list of numbers"):
        storage.search(["x"])
    for half in ("\ud83d", "x/\ud83d"):
        for attempt in (
            lambda: storage.save([record(id=half)]),
            lambda: storage.save([record(scope=half)]),
            lambda: storage.search([1.0, 0.0, 0.0], half),
            lambda: storage.get_record(half),
            lambda: storage.list_scopes(half),
            lambda: storage.delete(record_ids=[half]),
        ):
            with pytest.raises(InvalidName, match="surrogate"):
                attempt()
    with pytest.raises(InvalidValue, match="not dict"):
        storage.save([{"content": "x"}])
    assert storage.count() == 0
    namespace = name()
    Memory(namespace, address).set("crewai:record:#1", {"__class__": "subprocess.Popen"})
    with pytest.raises(InvalidValue, match="not a memory record"):
        BotWireStorage(namespace, address).list_records()


def test_what_would_not_be_read_back_is_refused(address: str) -> None:
    """One unreadable record would break every list and search of its scope."""
    storage, flows = BotWireStorage(name(), address), BotWireFlowPersistence(name(), address)
    changed = record()
    changed.importance = "sEcReT"
    with pytest.raises(InvalidValue, match="would not come back: importance") as caught:
        storage.save([record(), changed])
    assert "sEcReT" not in str(caught.value)
    assert storage.list_records() == []
    with pytest.raises(InvalidValue, match="has none"):
        flows.save_state("f", "m", RootModel[list[int]]([1]))
    with pytest.raises(InvalidValue, match="cannot be stored"):
        flows.save_state("f", "m", {"x": b"\xff"})
    assert flows.load_state("f") is None


def test_an_unreadable_record_can_be_deleted(address: str) -> None:
    namespace = name()
    storage, bad = BotWireStorage(namespace, address), record(id="bad")
    storage.save([record(), bad])
    Memory(namespace, address).set("crewai:record:#bad", {"importance": 7})
    with pytest.raises(InvalidValue, match="delete"):
        storage.list_records()
    assert storage.delete(record_ids=["bad"]) == 1
    assert len(storage.list_records()) == 1


def test_fields_of_a_subclass_and_other_keys_are_kept(address: str) -> None:
    class Rated(MemoryRecord):
        stars: int

    namespace = name()
    storage, memory = BotWireStorage(namespace, address), Memory(namespace, address)
    memory.set("mine", 1)
    storage.save([Rated(content="x", stars=5)])
    assert storage.list_records()[0].stars == 5
    storage.reset()
    assert memory.list_keys() == ["mine"]


def test_large_saves_go_in_batches(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BotWireStorage(name(), address)
    storage.save([record(content="x" * 6_000_000) for _ in range(6)])  # more than one write may hold
    monkeypatch.setattr(adapter_records, "_BATCH", 20)
    monkeypatch.setattr(adapter_records, "_PAGE", 7)
    storage.save([record(scope=f"/{number % 3}") for number in range(50)])
    assert storage.count() == 56
    assert len(storage.search([1.0, 0.0, 0.0], limit=40)) == 40
    assert len(storage.list_records("/1")) == 17
    assert storage.delete("/1") == 17
    assert storage.delete("/") == 39


def test_sixteen_threads_lose_nothing(address: str) -> None:
    storage = BotWireStorage(name(), address)
    shared = record(scope="/0")
    failures = []

    def use(thread: int) -> None:
        try:
            for number in range(4):
                storage.save([record(content=f"{thread}/{number}", scope=f"/{thread}")])
                storage.update(shared.model_copy(update={"scope": f"/{thread}", "content": "shared"}))
                storage.touch_records([shared.id])
                asyncio.run(storage.asearch([1.0, 0.0, 0.0]))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(found.content for found in storage.list_records()) == sorted(
        ["shared", *(f"{thread}/{number}" for thread in range(16) for number in range(4))]
    )
    assert storage.count() == 65


def test_touching_changes_the_time_only(address: str) -> None:
    storage = BotWireStorage(name(), address)
    old = record(created_at=NOON, last_accessed=NOON)
    storage.save([old])
    storage.touch_records([old.id, "nobody"])
    touched = storage.get_record(old.id)
    assert touched.last_accessed > NOON
    assert touched.model_copy(update={"last_accessed": NOON}) == old


# Flows


class Draft(BaseModel):
    """A state of a flow."""

    id: str = ""
    when: datetime = NOON
    words: list[str] = []


def test_touching_is_one_write_and_loses_no_update(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that another client changes at the same time are left as that client stores them."""
    storage, many = BotWireStorage(name(), address), [record(id=str(number)) for number in range(40)]
    storage.save(many)
    early = min(found.last_accessed for found in storage.list_records())

    def work(thread: int) -> None:
        for number in range(thread, 40, 8):
            storage.touch_records([one.id for one in many])
            storage.update(record(id=str(number), content=f"changed {number}", last_accessed=early))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    writes, write = [], storage._memory.bridge.write
    monkeypatch.setattr(storage._memory.bridge, "write", lambda *new: writes.append(len(new)) or write(*new))
    storage.touch_records([one.id for one in many])
    assert writes == [40]
    found = storage.list_records()
    assert {one.content for one in found} == {f"changed {number}" for number in range(40)}
    assert min(one.last_accessed for one in found) > early


def test_pickles_and_copies_have_the_same_data(address: str) -> None:
    storage, flows = BotWireStorage(name(), address), BotWireFlowPersistence(name(), address)
    storage.save([record(id="x")])
    flows.save_state("f", "m", {"x": 1})
    for others in (pickle.loads(pickle.dumps([storage, flows])), copy.deepcopy([storage, flows])):
        assert others[0].get_record("x").content == "x"
        assert others[1].load_state("f") == {"x": 1}
    tools = memory_tools(name(), address)
    tools[0].run(key="k", value="v")
    assert copy.deepcopy(tools)[1].run(key="k") == "v"
    for secret in (BotWireStorage, BotWireFlowPersistence):
        with pytest.raises(TypeError, match="BOTWIRE_TOKEN"):
            pickle.dumps(secret(url="http://127.0.0.1:9", token="sEcReT-sEcReT-sEcReT"))


class Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"a": [1, None, "ü"]},
        {"t": (1, 2), "when": NOON, "odd": Odd(), "m": Draft()},
        {"when": NOON.replace(tzinfo=UTC), "in": [{"day": NOON.date()}]},
        Draft(words=["a"]),
    ],
)
def test_flow_persistence_answers_as_sqlite_does(state, address: str, tmp_path: Path) -> None:
    ours, theirs = BotWireFlowPersistence(name(), address), SQLiteFlowPersistence(str(tmp_path / "flows.db"))
    context = PendingFeedbackContext(
        flow_id="f", flow_class="Review", method_name="draft", method_output=Draft(), message="Good?", requested_at=NOON
    )
    for persistence in (ours, theirs):
        assert persistence.load_state("f") is persistence.load_pending_feedback("f") is None
        persistence.save_state("f", "start", {"old": 1})
        persistence.save_state("f", "draft", state)
    assert ours.load_state("f") == theirs.load_state("f")
    for persistence in (ours, theirs):
        persistence.save_pending_feedback("f", context, state)
        persistence.save_pending_feedback("f", context, state)
    assert ours.load_pending_feedback("f") == theirs.load_pending_feedback("f")
    for persistence in (ours, theirs):
        persistence.clear_pending_feedback("f")
        persistence.clear_pending_feedback("f")
        assert persistence.load_pending_feedback("f") is None
    assert ours.load_state("f") == theirs.load_state("f")


def test_a_flow_persistence_is_made_again_without_its_secrets(tmp_path: Path, monkeypatch) -> None:
    url = f"sqlite:///{tmp_path}/flows.db"
    plain = BotWireFlowPersistence("flows", url, token="hush-hush")
    dumped = plain.model_dump()
    assert "hush-hush" not in f"{plain!r} {json.dumps(dumped)}"
    again = _persistence_registry[dumped["persistence_type"]].model_validate(dumped)
    plain.save_state("f", "m", {"x": 1})
    assert again.load_state("f") == {"x": 1}
    monkeypatch.setattr(Memory, "address", "postgresql://ada@db/x")  # without the password that was in it
    assert BotWireFlowPersistence("flows", url).model_dump()["url"] == "postgresql://ada@db/x"
    monkeypatch.undo()
    assert copy.deepcopy(plain) is plain
    key = generate_key()
    dumped = BotWireFlowPersistence("flows", url, encryption_key=key).model_dump()
    assert key not in json.dumps(dumped)
    with pytest.raises(ValueError, match="with its encryption_key"):
        BotWireFlowPersistence.model_validate(dumped)
    with pytest.raises(InvalidValue, match="dict or a pydantic model"):
        plain.save_state("f", "m", [1])


def test_sixteen_flows_and_sixteen_threads_that_remember_lose_nothing(address: str) -> None:
    namespace = name()
    persistence, tools = BotWireFlowPersistence(namespace, address), memory_tools(namespace, address)

    def use(thread: int) -> None:
        for number in range(4):
            persistence.save_state(f"flow-{thread}", "count", {"n": number})
            tools[0].run(key=f"{thread}/{number}", value=str(number))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(16)))
    assert [persistence.load_state(f"flow-{thread}") for thread in range(16)] == [{"n": 3}] * 16
    facts = {f"{thread}/{number}": str(number) for thread in range(16) for number in range(4)}
    assert Memory(namespace, address).get_many(facts) == facts


# Tools


async def test_tools_remember(address: str) -> None:
    namespace = name()
    remember, recall, list_, forget = tools = memory_tools(namespace, address)
    assert [tool.name for tool in tools] == ["remember", "recall", "list", "forget"]
    assert all(isinstance(tool, BaseTool) and not tool.cache_function({}, "") for tool in tools)
    assert all(copy.deepcopy(tool) is tool for tool in tools)
    assert recall.run(key="colour") == "Nothing is remembered under colour."
    assert remember.run(key="colour", value="teal") == "Remembered colour."
    assert await recall.arun(key="colour") == recall.run(key="colour") == "teal"
    Memory(namespace, address).set("seats", {"n": 3})
    assert recall.run(key="seats") == '{"n":3}'
    assert list_.run() == "colour\nseats"
    assert recall.run(key="teal things") == "Nothing is remembered under teal things.\nBut there is:\ncolour: teal"
    assert await recall.arun(key="walrus") == "Nothing is remembered under walrus."
    sealed = memory_tools(name(), address, encryption_key=generate_key())
    assert sealed[1].run(key="teal") == "Nothing is remembered under teal."
    assert await list_.arun(prefix="c") == "colour"
    assert await forget.arun(key="colour") == "Forgot colour."
    assert forget.run(key="colour") == "Nothing was remembered under colour."
    assert list_.run(prefix="c") == "Nothing is remembered."
    Memory(namespace, address).set_many({f"k/{number:03}": number for number in range(300)})
    assert list_.run(prefix="k/").splitlines()[199:] == ["k/199", "… and more: ask for a longer prefix."]
    with pytest.raises(ValueError, match="validation failed"):
        remember.run(key="colour")
