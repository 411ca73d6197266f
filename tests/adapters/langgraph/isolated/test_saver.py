"""BotWireSaver beside LangGraph's InMemorySaver, its growth, its writers, and what others could try on it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
import json
import pickle
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Annotated, Any, TypedDict

import msgspec
import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint import base
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from botwire import InvalidArgument, InvalidName, InvalidValue, StoreError
from botwire.adapters.langgraph import BotWireSaver
from botwire.adapters.langgraph.keys import MAX_PART_BYTES, mirrored, part, unescape
from botwire.adapters.langgraph.write_batching import MOMENT

AWKWARD = [
    "",
    "a",
    "a/b",
    "a//b",
    "%2F",
    "%",
    "~",
    "a~",
    ".",
    "..",
    "\x00",
    "ä\u2028",
    "\U0010ffff",
    "x" * 600,
    "x" * 601,
    "7",
]
texts = st.sampled_from(AWKWARD)
values = st.one_of(
    st.none(),
    st.integers(0, 9),
    st.binary(max_size=80),
    st.text(max_size=90),
    st.lists(st.integers(0, 9) | st.none(), max_size=5),
)


ORDERED = hasattr(base, "writes_sort_key")
"""Whether this release says in what order the writes at a checkpoint are; ours are always in that order."""


class Script:
    """Operations on one saver, such as a graph would make them: every version of a channel has one value."""

    def __init__(self, saver: Any) -> None:
        self.saver = saver
        self.heads: dict[tuple[str, str], list[Any]] = {}
        self.count = 0

    def put(self, thread: str, ns: str, parent: int, changes: dict[str, Any]) -> None:
        heads = self.heads.setdefault((thread, ns), [])
        before = heads[parent % len(heads)] if heads else None
        checkpoint = empty_checkpoint()
        self.count += 1
        checkpoint["id"], checkpoint["ts"] = f"{self.count:08}-{thread[:3]}", "now"
        if before is not None:
            checkpoint["channel_values"] = dict(before["channel_values"])
            checkpoint["channel_versions"] = dict(before["channel_versions"])
        new = {channel: self.count << 40 | index for index, channel in enumerate(changes)}
        for channel, change in changes.items():
            value, old = change, checkpoint["channel_values"].get(channel)
            if isinstance(change, list) and isinstance(old, list) and self.count % 3:
                value = old + change
            checkpoint["channel_values"][channel] = value
        checkpoint["channel_versions"].update(new)
        config = {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "extra": thread}}
        if before is not None:
            config["configurable"]["checkpoint_id"] = before["id"]
        metadata = {"source": "loop", "step": self.count % 3, "run_id": f"run-{self.count % 2}"}
        self.saver.put(config, checkpoint, metadata, new)
        heads.append(checkpoint)

    def put_writes(self, thread: str, ns: str, which: int, writes: list[tuple[str, Any]], task: str) -> None:
        if heads := self.heads.get((thread, ns)):
            config = {
                "configurable": {
                    "thread_id": thread,
                    "checkpoint_ns": ns,
                    "checkpoint_id": heads[which % len(heads)]["id"],
                }
            }
            self.saver.put_writes(config, writes, task, f"path-{task[:2]}")

    def delete(self, thread: str) -> None:
        self.saver.delete_thread(thread)
        self.heads = {place: heads for place, heads in self.heads.items() if place[0] != thread}

    def state(self) -> list[Any]:
        seen: list[Any] = []
        for (thread, ns), heads in self.heads.items():
            config = {"configurable": {"thread_id": thread, "checkpoint_ns": ns}}
            seen += [self.saver.get_tuple(config)]
            seen += [
                self.saver.get_tuple({"configurable": {**config["configurable"], "checkpoint_id": head["id"]}})
                for head in heads
            ]
            seen += [list(self.saver.list(config)), list(self.saver.list(config, filter={"step": 1, "extra": thread}))]
            middle = {"configurable": {"checkpoint_id": heads[len(heads) // 2]["id"]}}
            seen += [list(self.saver.list(config, before=middle, limit=2))]
            whole = {"configurable": {"thread_id": thread}}
            seen.append(sorted(found.checkpoint["id"] for found in self.saver.list(whole)))
        seen.append(sorted(found.checkpoint["id"] for found in self.saver.list(None)))
        return seen if ORDERED else list(map(without_order, seen))


def without_order(seen: Any) -> Any:
    if type(seen) is list:
        return list(map(without_order, seen))
    return seen._replace(pending_writes=sorted(seen.pending_writes, key=repr)) if hasattr(seen, "metadata") else seen


channels = st.sampled_from(["messages", "a/b", "__error__"])
steps = st.one_of(
    st.tuples(st.just("put"), texts, texts, st.integers(0, 5), st.dictionaries(channels, values, max_size=2)),
    st.tuples(st.just("put"), st.just("a"), st.just(""), st.integers(-1, 0), st.dictionaries(channels, values, max_size=2)),
    st.tuples(
        st.just("put_writes"), st.just("a"), st.just(""), st.integers(-1, 2),
        st.lists(st.tuples(st.sampled_from(["x", "__error__", "__interrupt__", "__resume__"]), values), max_size=3), texts,
    ),
    st.tuples(st.just("delete"), texts),
)  # fmt: skip


@given(script=st.lists(steps, max_size=14))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_it_does_what_langgraphs_own_saver_does(address: str, script: list[tuple[Any, ...]]) -> None:
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    ours, theirs = Script(BotWireSaver(str(uuid.uuid4()), address)), Script(InMemorySaver(serde=serde))
    for name, *arguments in script:
        getattr(ours, name)(*arguments)
        getattr(theirs, name)(*arguments)
    assert ours.state() == theirs.state()
    # A saver of another process, which knows nothing yet, reads the same.
    ours.saver = BotWireSaver(ours.saver._memory.namespace, address)
    assert ours.state() == theirs.state()


# Every message comes back


class Mood(HumanMessage):
    """A class that LangGraph does not know."""

    mood: str


CALL = {"name": "f", "args": {"x": [1, None, 2.5]}, "id": "1", "type": "tool_call"}
MESSAGES = [
    HumanMessage("hello", id="1", name="Ada"),
    HumanMessage("", mood={"happy": True}, additional_kwargs={"lc": 1, "n": 2**63, "deep": [{"a": None}]}),
    HumanMessage(["a", {"type": "image_url", "image_url": {"url": "data:,"}}]),
    SystemMessage("be kind"),
    AIMessage("hi", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    AIMessage("", tool_calls=[CALL], invalid_tool_calls=[{**CALL, "args": "{", "error": "e", "type": "invalid_tool_call"}]),
    AIMessage("", additional_kwargs={"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
    AIMessage("", response_metadata={"at": dt.datetime(2030, 1, 2, tzinfo=dt.UTC), "id": uuid.UUID(int=1), "t": (1, 2), 3: {4}}),
    AIMessageChunk("he", id="run-1"),
    ToolMessage("22", tool_call_id="1", artifact={"raw": b"\x00"}, status="error"),
    ChatMessage("objection", role="critic"),
    RemoveMessage("1"),
]  # fmt: skip


@pytest.mark.parametrize("message", [*MESSAGES, Mood("hi", mood="good")], ids=lambda message: type(message).__name__)
def test_every_message_comes_back_as_from_langgraphs_own_serializer(message: Any, tmp_path: Any) -> None:
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    expected = serde.loads_typed(serde.dumps_typed([message, message]))
    saver = BotWireSaver(url=f"sqlite:///{tmp_path}/a.db")
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"], checkpoint["channel_versions"] = (
        {"m": [message, message], "one": message},
        {"m": 1, "one": 1},
    )
    saver.put(at(""), checkpoint, {}, {"m": 1, "one": 1})
    for again in (saver, BotWireSaver(url=f"sqlite:///{tmp_path}/a.db")):
        values = again.get_tuple(at("")).checkpoint["channel_values"]
        assert values == {"m": expected, "one": expected[0]}
        for back in (*values["m"], values["one"]):
            assert type(back) is type(expected[0])
            assert repr(back) == repr(expected[0])
            if isinstance(back, BaseMessage):
                assert back.model_fields_set == expected[0].model_fields_set
                assert back.model_copy(deep=True) == back
                assert back.model_dump() == expected[0].model_dump()


CHANGES: dict[str, Callable[[Any], Any]] = {
    "content": lambda message: setattr(message, "content", "changed"),
    "a part of the content": lambda message: message.content[1].update(text="changed"),
    "deep inside": lambda message: message.additional_kwargs["a"][0].update(b=2.0),
    "true for one": lambda message: message.additional_kwargs["a"][0].update(b=True),
    "an unknown field": lambda message: setattr(message, "mood", "bad"),
    "to what msgpack does not have": lambda message: message.additional_kwargs.update(t={2}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_message_that_is_changed_in_place_is_stored_changed(change: Callable[[Any], Any]) -> None:
    """Nobody should, but LangGraph's own savers notice."""

    def first() -> list[Any]:
        parts: list[Any] = ["x" * 99, {"type": "text", "text": "a"}]
        return [
            HumanMessage(parts, id="1", additional_kwargs={"a": [{"b": 1}]}, mood="good"),
            AIMessage("y" * 99),
        ]

    saver = BotWireSaver(url="sqlite:///:memory:")
    messages = first()
    config = at("")
    for version in range(1, 4):
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"], checkpoint["channel_versions"] = {"m": messages}, {"m": version << 40}
        config = saver.put(config, checkpoint, {}, {"m": version << 40})
        if version == 2:
            change(messages[0])
        messages.append(AIMessage(f"{version}" * 99))
    found = [item.checkpoint["channel_values"]["m"] for item in saver.list(at(""))]
    changed = first()
    change(changed[0])
    assert [len(messages) for messages in found] == [4, 3, 2]
    assert [repr(messages[:2]) for messages in found] == [repr(changed), repr(first()), repr(first())]


# A conversation takes space in proportion to its length


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


def chat(saver: Any, answer: Any = None) -> Any:
    builder = StateGraph(State)
    builder.add_node(
        "model", answer or (lambda state: {"messages": [AIMessage(f"answer {len(state['messages'])} " + "x" * 100)]})
    )
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    return builder.compile(checkpointer=saver)


def talk(graph: Any, turns: int, thread: str = "t") -> dict[str, Any]:
    for turn in range(turns):
        state = graph.invoke({"messages": [HumanMessage(f"question {turn} " + "x" * 100)]}, at(thread))
    return state


def at(thread: Any, ns: str = "", id_: str | None = None) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **({"checkpoint_id": id_} if id_ else {})}}


def serializers() -> dict[str, Any]:
    class Cipher:
        def encrypt(self, plain: bytes) -> tuple[str, bytes]:
            return "x", uuid.uuid4().bytes + bytes(byte ^ 0x55 for byte in plain)

        def decrypt(self, name: str, sealed: bytes) -> bytes:
            assert name == "x"
            return bytes(byte ^ 0x55 for byte in sealed[16:])

    return {"plain": None, "encrypted": EncryptedSerializer(Cipher(), JsonPlusSerializer(allowed_msgpack_modules=None))}


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
@pytest.mark.parametrize("fresh", [False, True], ids=["one process", "a new process each turn"])
def test_stored_bytes_grow_linearly(kind: str, fresh: bool, tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/g.db"
    sizes = [0]
    saver = BotWireSaver(url=url, serde=serializers()[kind])
    for _ in range(4):
        for _ in range(12):
            if fresh:
                saver = BotWireSaver(url=url, serde=serializers()[kind])
            talk(chat(saver), 1)
        sizes.append(saver._memory.usage().bytes)
    grown = [after - before for before, after in itertools.pairwise(sizes)]
    assert grown[-1] < grown[0] * 1.1, grown
    assert len(saver.get_tuple(at("t")).checkpoint["channel_values"]["messages"]) == 96


def test_lists_that_are_changed_in_the_middle_come_back_and_take_no_square_of_space(tmp_path: Any) -> None:
    def answer(state: Any) -> Any:
        first = state["messages"][0]
        changes = [RemoveMessage(state["messages"][-2].id)] if len(state["messages"]) % 5 == 4 else []
        last = AIMessage("edited" + "x" * 100, id=state["messages"][-1].id)
        return {"messages": [*changes, last, AIMessage(first.content)]}

    saver, memory = BotWireSaver(url=f"sqlite:///{tmp_path}/g.db"), InMemorySaver()
    ours, theirs = chat(saver, answer), chat(memory, answer)
    sizes = []
    for turn in range(40):
        said = {"messages": [HumanMessage(f"question {turn} " + "x" * 100, id=f"q{turn}")]}
        ours.invoke(said, at("t"))
        theirs.invoke(said, at("t"))
        sizes.append(saver._memory.usage().bytes)
    shown = [[m.content for m in graph.get_state(at("t")).values["messages"]] for graph in (ours, theirs)]
    assert shown[0] == shown[1]
    histories = [
        [len(s.values.get("messages", [])) for s in graph.get_state_history(at("t"))] for graph in (ours, theirs)
    ]
    assert histories[0] == histories[1]
    assert sizes[39] - sizes[19] < 1.3 * (sizes[19] - sizes[0])


def test_a_step_costs_few_writes(tmp_path: Any) -> None:
    saver = BotWireSaver(url=f"sqlite:///{tmp_path}/g.db")
    talk(chat(saver), 5)
    before = saver._memory.usage().writes_today
    talk(chat(saver), 10)
    # An input and two checkpoints after it, each with what was written, and two of them with the messages.
    assert saver._memory.usage().writes_today - before <= 80


def test_what_is_kept_of_a_thread_after_pruning_and_deleting_runs(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    graph = chat(saver)
    talk(graph, 6)
    before = graph.get_state(at("t"))
    saver.copy_thread("t", "copy")
    assert len(list(saver.list(at("copy")))) == len(list(saver.list(at("t"))))
    saver.prune(["t"])
    assert graph.get_state(at("t")).values == graph.get_state(at("copy")).values == before.values
    assert len(list(saver.list(at("t")))) == 1
    talk(graph, 1)
    assert len(graph.get_state(at("t")).values["messages"]) == 14
    for run in range(3):
        graph.invoke({"messages": [("user", f"run {run}")]}, {**at("copy"), "metadata": {"run_id": f"run-{run}"}})
    saver.delete_for_runs(["run-0", "run-1"])
    assert len(graph.get_state(at("copy")).values["messages"]) == 18
    saver.delete_for_runs(["run-2"])
    assert len(graph.get_state(at("copy")).values["messages"]) == 12
    saver.prune(["t", "copy"], strategy="delete")
    assert saver._memory.list_keys() == []
    with pytest.raises(InvalidArgument, match="keep_latest"):
        saver.prune(["t"], strategy="keep_newest")


@pytest.mark.skipif(find_spec("langgraph.channels.delta") is None, reason="this release has no such channels")
def test_channels_that_keep_only_what_was_written(address: str) -> None:
    """Their value is at most steps nowhere but in the writes since it was last stored whole."""
    from langgraph.channels.delta import DeltaChannel

    def extend(value: list[str], writes: list[list[str]]) -> list[str]:
        return [*value, *(item for write in writes for item in write)]

    def graph(saver: Any) -> Any:
        channel = DeltaChannel(extend, list, snapshot_frequency=5)
        builder = StateGraph(TypedDict("Log", {"log": Annotated[list[str], channel]}))  # type: ignore[operator, misc]
        builder.add_node("write", lambda state: {"log": [f"{len(state['log'])}"]})
        builder.add_edge(START, "write")
        return builder.compile(checkpointer=saver)

    name = str(uuid.uuid4())
    ours, theirs = graph(BotWireSaver(name, address)), graph(InMemorySaver())
    for turn in range(9):
        assert ours.invoke({"log": [f"in {turn}"]}, at("t")) == theirs.invoke({"log": [f"in {turn}"]}, at("t"))
    histories = [[state.values for state in one.get_state_history(at("t"))] for one in (ours, theirs)]
    assert histories[0] == histories[1]
    ours = graph(BotWireSaver(name, address))
    ours.checkpointer.prune(["t"])
    assert len(list(ours.checkpointer.list(at("t")))) < 12
    assert ours.get_state(at("t")).values == theirs.get_state(at("t")).values
    assert ours.invoke({"log": ["last"]}, at("t")) == theirs.invoke({"log": ["last"]}, at("t"))


# Sync and async, many at once


async def test_each_half_reads_what_the_other_wrote(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    graph = chat(saver)
    await graph.ainvoke({"messages": [("user", "one")]}, at("t"))
    await asyncio.to_thread(graph.invoke, {"messages": [("user", "two")]}, at("t"))
    await graph.ainvoke({"messages": [("user", "three")]}, at("t"))
    found = [item async for item in saver.alist(at("t"))]
    assert found == list(saver.list(at("t")))
    assert [found[0]] == [item async for item in saver.alist(at("t"), limit=1)]
    assert await saver.aget_tuple(at("t")) == saver.get_tuple(at("t")) == found[0]
    await saver.acopy_thread("t", "copy")
    await saver.aprune(["copy"])
    await saver.adelete_for_runs(["none"])
    await saver.adelete_thread("t")
    assert await saver.aget_tuple(at("t")) is None
    assert len(graph.get_state(at("copy")).values["messages"]) == 6


def test_16_threads_and_16_tasks_on_one_saver_lose_nothing(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    graph = chat(saver)

    async def tasks() -> None:
        async def one(number: int) -> None:
            for turn in range(3):
                await graph.ainvoke({"messages": [("user", f"{turn}")]}, at(f"task-{number}"))

        await asyncio.gather(*map(one, range(16)))

    with ThreadPoolExecutor(17) as pool:
        others = pool.submit(asyncio.run, tasks())
        list(pool.map(lambda number: talk(graph, 3, f"thread-{number}"), range(16)))
        others.result()
    for kind in ("thread", "task"):
        for number in range(16):
            assert len(graph.get_state(at(f"{kind}-{number}")).values["messages"]) == 6


def test_what_many_tasks_write_at_one_checkpoint_is_all_there(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    config = saver.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})

    async def tasks() -> None:
        await asyncio.gather(*(saver.aput_writes(config, [("c", number)], f"task-{number:02}") for number in range(16)))

    with ThreadPoolExecutor(17) as pool:
        others = pool.submit(asyncio.run, tasks())
        # All at one key, so that they have to be merged: of the special ones each has a place of its own.
        names = ["__error__", "__scheduled__", "__interrupt__", "__resume__"] * 4
        list(pool.map(lambda name: saver.put_writes(config, [(name, 1)], "one"), names))
        others.result()
    writes = saver.get_tuple(config).pending_writes
    assert sorted(write for write in writes if write[0] != "one") == [(f"task-{n:02}", "c", n) for n in range(16)]
    assert {write[1] for write in writes if write[0] == "one"} == set(names)


def test_with_an_encryption_key_nothing_said_is_readable(tmp_path: Any) -> None:
    options: Any = {"url": f"sqlite:///{tmp_path}/a.db", "encryption_key": bytes(range(32))}
    with BotWireSaver(**options) as saver:
        talk(chat(saver), 3)
    with BotWireSaver(**options) as saver:
        assert len(talk(chat(saver), 1)["messages"]) == 8
        assert len(list(saver.list(at("t"), filter={"source": "loop"}))) == 8
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"question" not in stored
    with pytest.raises(StoreError):
        BotWireSaver(url=options["url"], encryption_key=bytes(32)).get_tuple(at("t"))


@pytest.mark.parametrize("awaited", [False, True])
def test_what_a_task_wrote_waits_while_a_checkpoint_is_under_way_and_goes_with_the_next(awaited: bool) -> None:
    saver = BotWireSaver(url="sqlite:///:memory:")
    config = saver.put(at(""), empty_checkpoint(), {}, {})
    batcher = saver._batcher
    under_way = batcher.start()

    def write() -> None:
        if awaited:
            asyncio.run(saver.aput_writes(config, [("c", 1)], "task"))
        else:
            saver.put_writes(config, [("c", 1)], "task")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not batcher._waiting and not writing.done():
            time.sleep(0.001)
        time.sleep(10 * MOMENT)
        assert not writing.done()
        pending = batcher.start()
        batcher.finish(under_way, stored=True)
        assert len(pending) == 1
        batcher.finish(pending, stored=False)  # it failed: then what was written goes alone
        writing.result(5)
    assert saver.get_tuple(config).pending_writes == [("task", "c", 1)]


def test_a_cancelled_task_changes_nothing_for_the_checkpoint_and_the_others() -> None:
    """Neither while it waits for a checkpoint, nor once a checkpoint has taken it along."""
    saver = BotWireSaver(url="sqlite:///:memory:")
    config = saver.put(at(""), empty_checkpoint(), {}, {})
    batcher = saver._batcher

    async def cancelled(*tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def main() -> list[str]:
        under_way = batcher.start()
        names = ["kept", "early", "late", "other"]
        tasks = {name: asyncio.create_task(saver.aput_writes(config, [("c", name)], name)) for name in names}
        while len(batcher._waiting) < len(names):
            await asyncio.sleep(0.001)
        await cancelled(tasks["early"])
        assert len(batcher._waiting) == 3
        pending = batcher.start()
        await cancelled(tasks["late"])
        batcher.finish(pending, stored=False)
        batcher.finish(under_way, stored=True)
        await asyncio.wait_for(asyncio.gather(tasks["kept"], tasks["other"]), 10)
        return names

    asyncio.run(main())
    assert sorted(write[2] for write in saver.get_tuple(config).pending_writes) == ["kept", "other"]


def test_a_task_does_not_wait_for_ever_for_a_checkpoint_that_never_ends() -> None:
    saver = BotWireSaver(url="sqlite:///:memory:")
    config = saver.put(at(""), empty_checkpoint(), {}, {})
    batcher = saver._batcher
    batcher.start()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(saver.put_writes, config, [("c", 1)], "task")
        while not batcher._waiting and not writing.done():
            time.sleep(0.001)
        assert len(batcher.start()) == 1  # and its thread ends here, as in a fork
        writing.result(30)
    assert saver.get_tuple(config).pending_writes == [("task", "c", 1)]


def test_a_checkpoint_does_not_fail_for_what_it_takes_along() -> None:
    """Together they are larger than one write may be."""
    saver = BotWireSaver(url="sqlite:///:memory:")
    config = saver.put(at(""), empty_checkpoint(), {}, {})
    batcher = saver._batcher
    under_way = batcher.start()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(saver.put_writes, config, [("c", bytes(3 * 1024**2))], "task")
        while not batcher._waiting and not writing.done():
            time.sleep(0.001)
        versions = {"a": 1, "b": 1}
        values = {name: bytes(15 * 1024**2) for name in versions}
        large = {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}
        stored = saver.put(config, large, {}, versions)
        batcher.finish(under_way, stored=True)
        writing.result(30)
    assert saver.get_tuple(stored).checkpoint["channel_values"] == values
    assert len(saver.get_tuple(config).pending_writes) == 1


def test_an_interrupt_waits_for_its_answer(address: str) -> None:
    name = str(uuid.uuid4())
    ask = lambda _: {"messages": [AIMessage("You said " + interrupt("What?"))]}  # noqa: E731
    graph = chat(BotWireSaver(name, address), ask)
    graph.invoke({"messages": [("user", "hello")]}, at("t"))
    again = chat(BotWireSaver(name, address), ask)
    assert again.get_state(at("t")).interrupts[0].value == "What?"
    assert again.invoke(Command(resume="blue"), at("t"))["messages"][-1].content == "You said blue"


def test_time_travel(address: str) -> None:
    graph = chat(BotWireSaver(str(uuid.uuid4()), address))
    talk(graph, 3)
    old = next(state for state in graph.get_state_history(at("t")) if len(state.values.get("messages", [])) == 2)
    state = graph.invoke({"messages": [("user", "another")]}, old.config)
    assert [m.content[:10] for m in state["messages"]] == ["question 0", "answer 1 x", "another", "answer 3 x"]
    assert len(graph.get_state(at("t")).values["messages"]) == 4


# What others could try


CALLS: list[str] = []


class Trap:
    """Nobody should make one of these from stored bytes."""

    def __init__(self, *arguments: Any) -> None:
        CALLS.append(repr(arguments))

    def __reduce__(self) -> Any:
        return (Trap, ("unpickled",))


PICKLED = pickle.dumps(Trap())


def planted(typed: tuple[str, bytes], where: str) -> BotWireSaver:
    """A thread in which somebody who has got hold of the file has put these bytes."""
    saver = BotWireSaver(url="sqlite:///:memory:")
    checkpoint = empty_checkpoint()
    checkpoint["channel_versions"] = {"c": 1}
    checkpoint["channel_values"] = {"c": {"value": "x" * 100, "list": ["x" * 100]}.get(where, 1)}
    config = saver.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, checkpoint, {}, {"c": 1})
    saver.put_writes(config, [("c", 1)], "task")
    memory = saver._memory
    (record_key, writes_key) = memory.list_keys("checkpoint/")
    if where in {"value", "list"}:
        (key,) = memory.list_keys("value/")
        piece = msgspec.msgpack.decode(memory[key])
        piece[:2] = (typed[0], b"\x91" + typed[1]) if where == "list" and typed[0] == "msgpack" else typed
        memory[key] = msgspec.msgpack.encode(piece)
    elif where == "writes":
        wrote = msgspec.msgpack.decode(memory[writes_key])
        wrote[2] = [(0, "c", *typed)]
        memory[writes_key] = msgspec.msgpack.encode(wrote)
    else:
        record = msgspec.msgpack.decode(memory[record_key])
        record[{"checkpoint": 5, "metadata": 6, "small": 7}[where]] = {"c": typed} if where == "small" else typed
        memory[record_key] = msgspec.msgpack.encode(record)
    return saver


REVIVED = {"lc": 2, "type": "constructor", "id": [__name__, "Trap"], "kwargs": {}, "args": ["made"]}
SECRET = {"lc": 1, "type": "secret", "id": ["PATH"]}
PLACES = ("value", "list", "small", "writes", "checkpoint", "metadata")


@pytest.mark.parametrize("where", PLACES)
def test_stored_bytes_cannot_name_a_class_to_be_made(where: str) -> None:
    """CVE-2025-64439: a form of stored bytes in which they name a class, which the serializer makes. CVE-2026-28277: msgpack that does."""
    CALLS.clear()
    for form, data in (
        ("json", json.dumps({"c": REVIVED, "s": SECRET}).encode()),
        ("pickle", PICKLED),
        ("msgpack+x", b""),
    ):
        with pytest.raises((StoreError, ValueError)):
            planted((form, data), where).get_tuple(at("t"))
    for code, named in (
        (0, (__name__, "Trap", "made")),
        (1, (__name__, "Trap", ("made",))),
        (2, (__name__, "Trap", {})),
        (3, ("os", "system", "made", "__call__")),
        (4, (__name__, "Trap", {}, "parse")),
        (5, (__name__, "Trap", {"content": "made"}, "model_validate_json")),
        (5, ("langchain_core.messages.ai", "Trap", {"content": "made"}, "model_validate_json")),
    ):
        evil = ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(named)))
        try:
            found = planted(("msgpack", evil), where).get_tuple(at("t"))
        except StoreError:
            assert where in {"checkpoint", "metadata"}  # which have to be dicts
        else:
            assert "Trap object" not in repr(found)
    assert CALLS == []


def test_the_trap_of_the_test_above_would_shut() -> None:
    """With a serializer that makes any class, as LangGraph's does unless told otherwise."""
    CALLS.clear()
    evil = ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb((__name__, "Trap", "made"))))
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(("msgpack", evil))
    assert CALLS


@pytest.mark.parametrize("unsafe", [{"pickle_fallback": True}, {"allowed_msgpack_modules": True}, {}])
def test_a_serializer_that_would_run_what_it_reads_is_refused(unsafe: dict[str, Any]) -> None:
    serde = JsonPlusSerializer(**unsafe)
    for one in (serde, EncryptedSerializer(None, serde)):  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match=r"allowed_msgpack_modules"):
            BotWireSaver(url="sqlite:///:memory:", serde=one)


@dataclasses.dataclass
class Plan:
    """A class of the user's own."""

    steps: list[str]


def test_a_class_that_is_allowed_comes_back_and_others_as_data() -> None:
    saver = BotWireSaver(url="sqlite:///:memory:")
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"], checkpoint["channel_versions"] = (
        {"a": Plan(["x"] * 99), "b": [Plan(["y"] * 99)]},
        {"a": 1, "b": 1},
    )
    saver.put(at(""), checkpoint, {}, {"a": 1, "b": 1})
    allowed = saver.with_allowlist({(Plan.__module__, Plan.__name__)})
    for one, kind in ((saver, lambda **fields: fields), (allowed, Plan)):
        values = one.get_tuple(at("")).checkpoint["channel_values"]
        assert values == {"a": kind(steps=["x"] * 99), "b": [kind(steps=["y"] * 99)]}


def test_filters_are_data(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    config = {"configurable": {"thread_id": "t' OR '1'='1", "checkpoint_ns": "') --"}}
    saver.put(config, empty_checkpoint(), {"a": 1}, {})
    for key in ("a') OR 1=1 --", "$.a", 'a"', "') UNION SELECT 1 --", "%", "", "\ud83d", 1):
        with pytest.raises(InvalidArgument, match="Invalid filter key"):
            list(saver.list(None, filter={key: 1}))
    assert len(list(saver.list(config, filter={"a": 1}))) == 1
    assert list(saver.list({"configurable": {"thread_id": "t"}})) == []


def test_a_filter_may_have_paths(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    metadata = {"user": {"access-level": 3, "roles": {"a": None}}, "user.name": "Ada", "größe": 1, "a b": 2}
    saver.put(at(""), empty_checkpoint(), metadata, {})
    for found, filter_ in (
        (1, {"user.access-level": 3, "user.name": "Ada"}),
        (1, {"user.roles": {"a": None}, "größe": 1, "a b": 2}),
        (1, {"user.missing": None, "user.access-level.x": None}),
        (0, {"user.access-level": 4}),
        (0, {"user.roles.a.b": 1}),
    ):
        assert len(list(saver.list(None, filter=filter_))) == found, filter_


NOT_TEXT = "x\ud83d"
"""A lone surrogate: no Unicode text has one."""
REFUSED: dict[str, Callable[[BotWireSaver, Any], Any]] = {
    "thread": lambda saver, _: saver.put(at(NOT_TEXT), empty_checkpoint(), {}, {}),
    "namespace": lambda saver, _: saver.put(at("t", NOT_TEXT), empty_checkpoint(), {}, {}),
    "id": lambda saver, _: saver.put(at("t"), {**empty_checkpoint(), "id": NOT_TEXT}, {}, {}),
    "parent": lambda saver, _: saver.put(at("t", "", NOT_TEXT), empty_checkpoint(), {}, {}),
    "channel": lambda saver, _: saver.put(at("t"), holding({NOT_TEXT: "x" * 99}), {}, {NOT_TEXT: 1}),
    "small channel": lambda saver, _: saver.put(at("t"), holding({NOT_TEXT: 1}), {}, {NOT_TEXT: 1}),
    "key in a value": lambda saver, _: saver.put(at("t"), holding({"c": {NOT_TEXT: 1}}), {}, {"c": 1}),
    "metadata": lambda saver, _: saver.put(at("t"), empty_checkpoint(), {NOT_TEXT: 1}, {}),  # type: ignore[misc]
    "run": lambda saver, _: saver.put(at("t"), empty_checkpoint(), {"run_id": NOT_TEXT}, {}),
    "task": lambda saver, stored: saver.put_writes(stored, [("c", 1)], NOT_TEXT),
    "task path": lambda saver, stored: saver.put_writes(stored, [("c", 1)], "t", NOT_TEXT),
    "written channel": lambda saver, stored: saver.put_writes(stored, [(NOT_TEXT, 1)], "t"),
    "get": lambda saver, _: saver.get_tuple(at(NOT_TEXT)),
    "get by id": lambda saver, _: saver.get_tuple(at("t", "", NOT_TEXT)),
    "list": lambda saver, _: list(saver.list(at(NOT_TEXT))),
    "history": lambda saver, _: saver.get_delta_channel_history(config=at(NOT_TEXT), channels=["c"]),
    "delete": lambda saver, _: saver.delete_thread(NOT_TEXT),
    "prune": lambda saver, _: saver.prune(["t", NOT_TEXT]),
    "prune all": lambda saver, _: saver.prune(["t", NOT_TEXT], strategy="delete"),
    "copy from": lambda saver, _: saver.copy_thread(NOT_TEXT, "u"),
    "copy to": lambda saver, _: saver.copy_thread("t", NOT_TEXT),
}


def holding(values: dict[str, Any]) -> Any:
    return {**empty_checkpoint(), "channel_values": values, "channel_versions": dict.fromkeys(values, 1)}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_a_name_that_is_not_unicode_is_refused_and_nothing_is_written(call: Any) -> None:
    saver = BotWireSaver(url="sqlite:///:memory:")
    stored = saver.put(saver.put(at("t"), empty_checkpoint(), {}, {}), empty_checkpoint(), {}, {})
    keys = saver._memory.list_keys()
    with pytest.raises((InvalidName, InvalidValue), match="surrogate"):
        call(saver, stored)
    assert saver._memory.list_keys() == keys


@pytest.mark.parametrize("thread", [7, uuid.UUID(int=5), "t"])
def test_a_thread_id_is_a_text_a_number_or_a_uuid(thread: Any) -> None:
    saver = BotWireSaver(url="sqlite:///:memory:")
    talk(chat(saver), 2, thread)
    assert len(chat(saver).get_state(at(str(thread))).values["messages"]) == 4
    saver.copy_thread(thread, 8)  # type: ignore[arg-type]
    saver.prune([8])  # type: ignore[list-item]
    assert [len(list(saver.list(at(one)))) for one in (thread, 8, "8")] == [6, 1, 1]
    saver.delete_thread(thread)
    assert saver.get_tuple(at(thread)) is None
    for wrong in (None, b"t"):
        with pytest.raises(InvalidName, match="UUID, not"):
            saver.put(at(wrong), empty_checkpoint(), {}, {})
        with pytest.raises(InvalidName, match="UUID, not"):
            saver.delete_thread(wrong)  # type: ignore[arg-type]


def test_a_value_that_is_too_large_is_refused_and_nothing_is_written() -> None:
    saver = BotWireSaver(url="sqlite:///:memory:")
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"], checkpoint["channel_versions"] = {"c": b"x" * 2**24}, {"c": 1}
    with pytest.raises(InvalidValue, match="16,777,216 bytes"):
        saver.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, checkpoint, {}, {"c": 1})
    assert saver._memory.list_keys() == []


# Names


@given(st.lists(st.text(max_size=60) | texts, min_size=2, max_size=2, unique=True))
def test_different_names_have_different_key_parts(names: list[str]) -> None:
    first, second = map(part, names)
    assert first != second
    for name, text in zip(names, (first, second), strict=True):
        assert "/" not in text
        assert len(text.encode()) <= MAX_PART_BYTES
        assert unescape(text) == name or "%%" in text


@given(st.lists(st.text(max_size=16), min_size=2, max_size=6, unique=True))
def test_mirrored_ids_sort_the_other_way_round(ids: list[str]) -> None:
    keys = [mirrored(id_) for id_ in sorted(ids)]
    assert [key.encode() for key in keys] == sorted((key.encode() for key in keys), reverse=True)
    assert not any(second.startswith(first) for first in keys for second in keys if first is not second)
    assert all(key.index("~") == len(key) - 1 for key in keys)


def test_an_id_that_is_too_long_is_refused() -> None:
    checkpoint = empty_checkpoint()
    checkpoint["id"] = "x" * 131
    with pytest.raises(InvalidName, match="too long"):
        BotWireSaver(url="sqlite:///:memory:").put(at("t"), checkpoint, {}, {})
