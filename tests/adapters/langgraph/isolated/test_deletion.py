"""Threads that others delete, prune, overwrite or restore while a graph runs in them, or while they are read or copied."""

from __future__ import annotations

import asyncio
import operator
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph

from botwire import Conflict, StoreError
from botwire.adapters.langgraph import BotWireSaver, threads
from botwire.operations import Clear, Operation, Put, Result
from botwire.queries import GetEntries, GetEntry, ListChanges, ListEntries, Query
from botwire.store import Feed, Store
from botwire.stores import open_store
from botwire.stores.sqlite.store import SqliteStore


class State(TypedDict):
    notes: Annotated[list[str], operator.add]
    profile: dict[str, str]


LONG = "x" * 200


def at(thread: str, id_: str = "") -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **({"checkpoint_id": id_} if id_ else {})}}


def graph(saver: BotWireSaver, tool: Callable[[], Any] = lambda: None) -> Any:
    """A step that thinks, and one that uses a tool. Nothing changes the profile after the first turn."""

    def use(_: State) -> Any:
        tool()
        return {"notes": [f"a result {LONG}"]}

    builder = StateGraph(State)
    builder.add_node("think", lambda _: {"notes": [f"a thought {LONG}"]})
    builder.add_node("tool", use)
    builder.add_edge(START, "think")
    builder.add_edge("think", "tool")
    return builder.compile(checkpointer=saver)


def said(turn: int) -> Any:
    return {"notes": [f"question {turn} {LONG}"], **({} if turn else {"profile": {"name": LONG}})}


def restore(saver: BotWireSaver, backup: Sequence[Any]) -> None:
    memory = saver._memory
    memory.write(Clear(), *[Put(entry.key, entry.stored) for entry in backup])


def overwrite(saver: BotWireSaver) -> None:
    graph(saver).invoke(said(0), at("other"))
    saver.delete_thread("t")
    saver.copy_thread("other", "t")


WAYS: dict[str, Callable[[BotWireSaver, Sequence[Any]], Any]] = {
    "deleted": lambda saver, _: saver.delete_thread("t"),
    "deleted with others": lambda saver, _: saver.prune(["s", "t"], strategy="delete"),
    "pruned": lambda saver, _: saver.prune(["t"]),
    "all runs deleted": lambda saver, _: saver.delete_for_runs(["first", "second"]),
    "one run deleted": lambda saver, _: saver.delete_for_runs(["second"]),
    "namespace cleared": lambda saver, _: saver._memory.clear(),
    "only values cleared": lambda saver, _: (saver._memory.clear("checkpoint/"), saver._memory.clear("value/")),
    "overwritten": lambda saver, _: overwrite(saver),
    "restored": restore,
}


on_file = pytest.mark.parametrize("address", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    ("address", "way", "awaited"),
    [
        *(("sqlite", way, False) for way in WAYS),
        ("sqlite", "deleted", True),
        ("http", "deleted", False),
        ("http", "one run deleted", True),
    ],
    indirect=["address"],
)
def test_what_is_said_after_a_deletion_is_kept_whole(address: str, way: str, awaited: bool) -> None:
    name = str(uuid.uuid4())
    backup: list[Any] = []

    def delete() -> None:
        with BotWireSaver(name, address) as other:
            WAYS[way](other, backup)

    def invoke(turn: int, run: str, tool: Callable[[], Any] = lambda: None) -> Any:
        config = {**at("t"), "metadata": {"run_id": run}}
        one = graph(worker, tool)
        return asyncio.run(one.ainvoke(said(turn), config)) if awaited else one.invoke(said(turn), config)

    worker = BotWireSaver(name, address)
    invoke(0, "first")
    backup += worker._memory.read(ListEntries())
    states = [invoke(1, "second", delete)]
    assert len(states[0]["notes"]) == 6
    assert saved(name, address) == states[0]
    states += [invoke(turn, f"later {turn}") for turn in (2, 3)]
    assert [len(state["notes"]) for state in states] == [6, 9, 12]
    assert states[-1]["profile"] == {"name": LONG}
    assert saved(name, address) == states[-1] == graph(worker).get_state(at("t")).values
    fresh = BotWireSaver(name, address)
    assert list(fresh.list(at("t"))) == list(worker.list(at("t")))


def saved(name: str, address: str) -> Any:
    return graph(BotWireSaver(name, address)).get_state(at("t")).values


@on_file
@pytest.mark.parametrize("times", [1, 3])
def test_values_that_are_stored_again_during_a_deletion_are_kept(
    address: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A graph that finds its last checkpoint deleted stores all its values again, under the same keys."""
    name = str(uuid.uuid4())
    saver = BotWireSaver(name, address)
    state = graph(saver).invoke(said(0), {**at("t"), "metadata": {"run_id": "first"}})
    stored = saver._memory.read(ListEntries())
    unused, left = threads._unused, [None] * times

    async def and_then_stored(*arguments: Any) -> dict[str, int]:
        found = await unused(*arguments)
        if left:
            left.pop()
            saver._memory.write(*[Put(entry.key, entry.stored) for entry in stored])
        return found

    monkeypatch.setattr(threads, "_unused", and_then_stored)
    saver.delete_for_runs(["first"])
    assert saved(name, address) == state


@pytest.mark.parametrize("kind", ["encrypted store", "encrypted serializer"])
@on_file
def test_it_is_so_with_encryption(address: str, kind: str) -> None:
    class Cipher:
        def encrypt(self, plain: bytes) -> tuple[str, bytes]:
            return "x", bytes(byte ^ 0x55 for byte in plain)

        def decrypt(self, _: str, sealed: bytes) -> bytes:
            return bytes(byte ^ 0x55 for byte in sealed)

    serde = EncryptedSerializer(Cipher(), JsonPlusSerializer(allowed_msgpack_modules=None))
    options: Any = {"encryption_key": bytes(32)} if kind == "encrypted store" else {"serde": serde}
    new = partial(BotWireSaver, str(uuid.uuid4()), address, **options)
    worker = new()
    graph(worker).invoke(said(0), at("t"))
    state = graph(worker, lambda: new().delete_thread("t")).invoke(said(1), at("t"))
    assert graph(new()).get_state(at("t")).values == state


def test_a_subgraph_is_kept_whole(address: str) -> None:
    name = str(uuid.uuid4())

    def conversation(tool: Callable[[], Any]) -> Any:
        inner = graph(True, tool)  # type: ignore[arg-type] # a subgraph with a memory of its own in the thread
        builder = StateGraph(State)
        builder.add_node("inner", inner)
        builder.add_edge(START, "inner")
        return builder.compile(checkpointer=worker)

    worker = BotWireSaver(name, address)
    conversation(lambda: None).invoke(said(0), at("t"))
    conversation(lambda: BotWireSaver(name, address).delete_thread("t")).invoke(said(1), at("t"))
    state = conversation(lambda: None).invoke(said(2), at("t"))
    fresh = BotWireSaver(name, address)
    newest: dict[str, Any] = {}
    for found in fresh.list({"configurable": {"thread_id": "t"}}):
        newest.setdefault(found.config["configurable"]["checkpoint_ns"], found.checkpoint["channel_values"])
    assert newest[""]["notes"] == state["notes"]
    assert len(newest) == 2
    assert all(values["profile"] == {"name": LONG} for values in newest.values())


def fork(saver: BotWireSaver) -> Callable[[], Any]:
    """Read a checkpoint before the profile changed, and return what continues from it and returns the new state."""
    for turn in range(2):
        graph(saver).invoke(said(turn), at("t"))
    old = saver.get_tuple(at("t"))
    graph(saver).invoke({**said(2), "profile": {"name": f"new {LONG}"}}, at("t"))
    read = saver.get_tuple(old.config)
    versions, values = read.checkpoint["channel_versions"], read.checkpoint["channel_values"]
    new = {"notes": saver.get_next_version(versions["notes"])}
    values = {**values, "notes": [*values["notes"], LONG]}
    forked = {**read.checkpoint, "id": str(uuid6()), "channel_values": values, "channel_versions": {**versions, **new}}

    def proceed() -> Any:
        saver.put(old.config, forked, {}, new)
        return {name: values[name] for name in ("notes", "profile")}

    return proceed


def test_a_fork_of_a_deleted_checkpoint_is_kept_whole(address: str) -> None:
    """A worker has read an old checkpoint, which another prunes before the worker continues from it."""
    name = str(uuid.uuid4())
    proceed = fork(BotWireSaver(name, address))
    BotWireSaver(name, address).prune(["t"])
    assert proceed() == saved(name, address)


def test_two_workers_in_one_thread_disturb_nothing(address: str) -> None:
    """Each relies on its own checkpoints, so that neither stores whole lists again."""
    name = str(uuid.uuid4())
    first, second = BotWireSaver(name, address), BotWireSaver(name, address)
    for turn in range(4):
        graph(first).invoke(said(turn), at("t"))
        state = graph(second).invoke(said(turn + 1), at("t"))
    assert saved(name, address) == state
    values = [len(entry.stored) for entry in first._memory.read(ListEntries("value/"))]
    assert max(values) < 5 * min(values)


THREADS = st.sampled_from(["t", "u"])
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 1), THREADS, st.integers(0, 9), st.booleans()),
    st.tuples(st.just("read"), st.integers(0, 1), THREADS, st.integers(0, 9)),
    st.tuples(st.sampled_from(["delete", "prune", "copy"]), st.integers(0, 1), THREADS),
    st.tuples(st.just("delete runs"), st.integers(0, 1), st.integers(0, 2)),
)


class Workers:
    """Two savers in two threads, and all checkpoints that they ever put, from any of which a run in memory may go on."""

    def __init__(self) -> None:
        self.store = SqliteStore(":memory:")
        self.savers = [BotWireSaver("n", store=self.store) for _ in range(2)]
        self.threads: dict[str, list[Any]] = {"t": [], "u": []}
        self.values: dict[str, Any] = {}

    def put(self, worker: int, thread: str, which: int, changed: bool) -> None:
        known, saver, number = self.threads[thread], self.savers[worker], len(self.values)
        old = known[-1 - which % len(known)] if known else empty_checkpoint()
        values, new = dict(old["channel_values"]), {}
        for channel in ["notes", *(["profile"] if changed or not known else [])]:
            new[channel] = saver.get_next_version(old["channel_versions"].get(channel))
            values[channel] = [*values.get("notes", []), f"{number} {LONG}"] if channel == "notes" else {LONG: number}
        versions = {**old["channel_versions"], **new}
        checkpoint = {**old, "id": f"{number:04}", "channel_values": values, "channel_versions": versions}
        saver.put(at(thread, old["id"] if known else ""), checkpoint, {"run_id": f"{number % 3}"}, new)
        known.append(checkpoint)
        self.values[checkpoint["id"]] = values

    def read(self, worker: int, thread: str, which: int) -> None:
        if known := self.threads[thread]:
            self.savers[worker].get_tuple(at(thread, known[-1 - which % len(known)]["id"]))

    def delete(self, worker: int, thread: str) -> None:
        self.savers[worker].delete_thread(thread)

    def prune(self, worker: int, thread: str) -> None:
        self.savers[worker].prune([thread])

    def copy(self, worker: int, thread: str) -> None:
        self.savers[worker].copy_thread(thread, "tu".replace(thread, ""))

    def delete_runs(self, worker: int, run: int) -> None:
        self.savers[worker].delete_for_runs([f"{run}"])

    def check(self) -> None:
        for saver in (*self.savers, BotWireSaver("n", store=self.store)):
            for found in saver.list(None):
                assert found.checkpoint["channel_values"] == self.values[found.checkpoint["id"]]


@given(st.lists(STEPS, max_size=16))
@settings(max_examples=40, deadline=None)
def test_every_checkpoint_is_whole_whatever_two_workers_put_and_delete(steps: list[tuple[Any, ...]]) -> None:
    workers = Workers()
    for name, *arguments in steps:
        getattr(workers, name.replace(" ", "_"))(*arguments)
        workers.check()


# Between two reads


class Between(Store):
    """A store that does something once, right before a read of a kind that begins with a prefix."""

    def __init__(self, store: Store, kind: type[Query[Any]], prefix: str, then: Callable[[], Any]) -> None:
        self.store, self.kind, self.prefix, self.then = store, kind, prefix, then

    @property
    def address(self) -> str:
        return self.store.address

    def read(self, namespace: str, query: Query[Any]) -> Any:
        names = [*getattr(query, "keys", ()), getattr(query, "prefix", "")]
        if type(query) is self.kind and names[0].startswith(self.prefix):
            then, self.then = self.then, lambda: None
            then()
        return self.store.read(namespace, query)

    def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        return self.store.write(namespace, operations, idempotency_key=idempotency_key)

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        return self.store.changes(namespace, query)

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def between(address: str) -> Any:
    """Return two savers of a thread with three turns; the second does something between two of its reads."""
    name = str(uuid.uuid4())
    first = BotWireSaver(name, address)
    for turn in range(3):
        graph(first).invoke(said(turn), {**at("t"), "metadata": {"run_id": f"{turn}"}})
    return lambda kind, prefix, then: (
        first,
        BotWireSaver(name, store=Between(open_store(address), kind, prefix, lambda: then(first))),
    )


@on_file
def test_a_thread_that_is_deleted_while_it_is_read_is_missing(between: Any) -> None:
    _, reader = between(GetEntries, "value/", lambda other: other.delete_thread("t"))
    assert reader.get_tuple(at("t")) is None


@on_file
def test_a_thread_that_is_deleted_while_a_delta_channel_is_read_has_no_history(between: Any) -> None:
    _, reader = between(GetEntries, "value/", lambda other: other.delete_thread("t"))
    assert reader.get_delta_channel_history(config=at("t"), channels=["notes"]) == {"notes": {"writes": []}}


@on_file
def test_a_checkpoint_that_is_deleted_while_it_is_read_is_missing(between: Any) -> None:
    """The newest is then the one before it."""
    _, reader = between(GetEntries, "value/", lambda other: other.delete_for_runs(["2"]))
    assert len(reader.get_tuple(at("t")).checkpoint["channel_values"]["notes"]) == 6
    _, reader = between(GetEntries, "value/", lambda other: other.prune(["t"]))
    assert list(reader.list(at("t")))


@on_file
def test_a_listing_goes_on_with_older_checkpoints(between: Any) -> None:
    first, reader = between(GetEntries, "value/", lambda other: other.delete_for_runs(["2"]))
    read = list(reader.list(at("t"), limit=2))
    assert len(read) == 2
    assert read == list(first.list(at("t"), limit=2))


@on_file
def test_a_value_that_is_missing_although_its_checkpoint_is_there_is_an_error(between: Any) -> None:
    first, reader = between(GetEntries, "value/", lambda other: other._memory.clear("value/"))
    for saver in (reader, first):
        saver._cache.forget(lambda _: True)
        with pytest.raises(StoreError, match="value of a channel is missing"):
            saver.get_tuple(at("t"))
        with pytest.raises(StoreError, match="value of a channel is missing"):
            list(saver.list(at("t")))


@on_file
@pytest.mark.parametrize("kind", ["checkpoint/", "value/"])
def test_a_fork_while_the_thread_is_pruned_is_kept_whole(address: str, kind: str) -> None:
    name = str(uuid.uuid4())
    proceed = fork(BotWireSaver(name, address))
    states: list[Any] = []
    store = Between(open_store(address), ListEntries, kind, lambda: states.append(proceed()))
    BotWireSaver(name, store=store).prune(["t"])
    assert states == [saved(name, address)]


@on_file
@pytest.mark.parametrize("kind", ["checkpoint/", "value/"])
def test_a_turn_while_the_thread_is_pruned_is_kept_whole(between: Any, kind: str) -> None:
    turn = lambda other: graph(other).invoke(said(3), at("t"))  # noqa: E731
    first, pruner = between(ListEntries, kind, turn)
    pruner.prune(["t"])
    state = graph(first).get_state(at("t")).values
    first._cache.forget(lambda _: True)
    assert len(state["notes"]) == 12
    assert [graph(first).get_state(at("t")).values] * 2 == [state, graph(pruner).get_state(at("t")).values]


@on_file
def test_a_turn_while_the_thread_is_copied_leaves_a_whole_copy(between: Any) -> None:
    for kind in ("checkpoint/", "value/"):
        first, copier = between(ListEntries, kind, lambda other: graph(other).invoke(said(3), at("t")))
        copier.copy_thread("t", f"copy of {kind}")
        copies = list(first.list(at(f"copy of {kind}")))
        assert len(copies[0].checkpoint["channel_values"]["notes"]) in {9, 12, 15}
        assert all(copy.checkpoint["channel_values"] for copy in copies)


@on_file
def test_a_thread_that_is_pruned_while_it_is_copied_leaves_a_whole_copy(between: Any) -> None:
    first, copier = between(ListEntries, "value/", lambda other: other.prune(["t"]))
    copier.copy_thread("t", "copy")
    copies, kept = list(first.list(at("copy"))), list(first.list(at("t")))
    assert copies[0].checkpoint == kept[0].checkpoint
    assert all(found.checkpoint["channel_values"] for found in copies)


@on_file
def test_a_target_that_is_deleted_while_a_long_thread_is_copied_stays_whole(address: str, monkeypatch: Any) -> None:
    name = str(uuid.uuid4())
    first = BotWireSaver(name, address)
    for turn in range(3):
        graph(first).invoke(said(turn), at("t"))
    monkeypatch.setattr(threads, "MAX_WRITE_BYTES", 4000)  # so that it takes several writes

    class Deleting(Between):
        def write(self, namespace: str, operations: Sequence[Operation], **options: Any) -> list[Result]:
            if operations[-1].key.startswith("checkpoint/"):  # type: ignore[union-attr]
                first.delete_thread("copy")
            return super().write(namespace, operations, **options)

    copier = BotWireSaver(name, store=Deleting(open_store(address), GetEntry, "", lambda: None))
    with pytest.raises(Conflict):
        copier.copy_thread("t", "copy")
    assert list(first.list(at("copy"))) == []
    first.copy_thread("t", "copy")
    assert len(list(first.list(at("copy")))) == len(list(first.list(at("t"))))
