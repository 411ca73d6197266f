"""The history of delta channels beside the walk of LangGraph's base class, which reads checkpoint by checkpoint."""

from __future__ import annotations

import random
import uuid
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph.channels.delta")

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from botwire import Memory, StoreError
from botwire.adapters.langgraph import BotWireSaver
from botwire.stores.sqlite.store import SqliteStore

CHANNELS = ["large", "small", "plain", "never"]


def at(thread: str, ns: str = "", id_: str | None = None) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **({"checkpoint_id": id_} if id_ else {})}}


def grown(saver: Any, ns: str, count: int, seed: int) -> list[str]:
    """Store checkpoints that fork now and then, with writes at most and values at some; return their ids."""
    chance = random.Random(seed)
    ids: list[str] = []
    for number in range(count):
        config = at("t", ns, chance.choice(ids[-3:]) if ids else None)
        checkpoint = {**empty_checkpoint(), "id": f"{number:06}-{ns or 'root'}"}
        values = {
            "large": [f"{number}" * 50, "x" * 100],
            "small": [f"{number}"],
            "plain": {"n": number, "text": "x" * 100},
        }
        values = {channel: value for channel, value in values.items() if chance.random() < 0.05}
        versions = dict.fromkeys(values, number + 1 << 40 | number)
        checkpoint |= {"channel_values": values, "channel_versions": versions}
        stored = saver.put(config, checkpoint, {"step": number}, versions)
        for task in range(chance.randint(0, 2)):
            writes = [(chance.choice(CHANNELS), f"{number} {task} {write}") for write in range(chance.randint(0, 3))]
            saver.put_writes(stored, writes, f"task {chance.random()}", f"path {chance.random()}")
        ids.append(checkpoint["id"])
    return ids


def walked(saver: Any, config: Any, channels: list[str]) -> Any:
    return BaseCheckpointSaver.get_delta_channel_history(saver, config=config, channels=channels)


async def test_it_is_what_a_walk_by_checkpoints_finds(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    for ns, seed in (("", 1), ("sub:1|deep", 2)):
        ids = grown(saver, ns, 40, seed)
        for id_ in [*ids[::11], ids[-1], None]:
            config = at("t", ns, id_)
            expected = walked(saver, config, CHANNELS)
            assert saver.get_delta_channel_history(config=config, channels=CHANNELS) == expected
            assert await saver.aget_delta_channel_history(config=config, channels=CHANNELS) == expected
            assert list(expected) == CHANNELS
        assert any("seed" in entry for entry in expected.values())
        assert any(entry["writes"] for entry in expected.values())
    nothing = {channel: {"writes": []} for channel in CHANNELS}
    for config in (at("none"), at("t", "none"), at("t", "", "none"), at("t", "", "000020"), at("t", "", "-")):
        assert saver.get_delta_channel_history(config=config, channels=CHANNELS) == nothing
    assert saver.get_delta_channel_history(config=at("t"), channels=[]) == {}


@pytest.mark.parametrize("deleted", [None, 0, 7, 12])
def test_ids_may_be_in_any_order(address: str, deleted: int | None) -> None:
    """As those of computers whose clocks differ, and of a thread in which somebody deleted a checkpoint."""
    saver = BotWireSaver(str(uuid.uuid4()), address)
    config = at("t")
    ids = [f"{number:02}" for number in (5, 4, 9, 10, 1, 2, 3, 11, 8, 0, 6, 7, 12)]
    for id_ in ids:
        config = saver.put(config, {**empty_checkpoint(), "id": id_}, {"run_id": id_}, {})
        saver.put_writes(config, [("log", id_)], "task")
    if deleted is not None:
        saver.delete_for_runs([ids[deleted]])
    expected = walked(saver, config, ["log", "other"])
    assert saver.get_delta_channel_history(config=config, channels=["log", "other"]) == expected
    first = 0 if deleted is None else deleted + 1
    assert [value for _, _, value in expected["log"]["writes"]] == ids[first:-1]


def test_a_circle_of_parents_ends(address: str) -> None:
    saver = BotWireSaver(str(uuid.uuid4()), address)
    for id_, parent in (("1", "2"), ("2", "1")):
        saver.put(at("t", "", parent), {**empty_checkpoint(), "id": id_}, {}, {})
    assert saver.get_delta_channel_history(config=at("t"), channels=["log"]) == {"log": {"writes": []}}


def extend(value: list[str], writes: list[list[str]]) -> list[str]:
    return [*value, *(item for write in writes for item in write)]


def graph(saver: Any) -> Any:
    channel = DeltaChannel(extend, list, snapshot_frequency=100_000)
    builder = StateGraph(TypedDict("Log", {"log": Annotated[list[str], channel]}))  # type: ignore[operator, misc]
    builder.add_node("write", lambda state: {"log": [f"{len(state['log'])}"]})
    builder.add_edge(START, "write")
    return builder.compile(checkpointer=saver)


class CountingStore(SqliteStore):
    """A store that keeps how many entries each read returned."""

    def read(self, *arguments: Any, **options: Any) -> Any:
        answer = super().read(*arguments, **options)
        self.found.append(len(answer) if isinstance(answer, list) else 1)
        return answer


@pytest.mark.parametrize(("count", "size", "reads", "entries"), [(600, 10, 3, 1000), (200, 200_000, 8, 140)])
def test_a_long_history_takes_few_reads_and_large_writes_small_ones(
    count: int, size: int, reads: int, entries: int
) -> None:
    store = CountingStore(":memory:")
    store.found = []
    saver = BotWireSaver("n", store=store)
    config: Any = at("t")
    for number in range(count):
        config = saver.put(config, {**empty_checkpoint(), "id": f"{number:06}"}, {"step": number}, {})
        saver.put_writes(config, [("log", bytes(size)), ("step", number)], "task")
    store.found.clear()
    history = saver.get_delta_channel_history(config=config, channels=["step", "log", "other"])
    assert [value for _, _, value in history["step"]["writes"]] == list(range(count - 1))
    assert len(history["log"]["writes"]) == count - 1
    assert len(store.found) <= reads
    assert max(store.found) <= entries


def test_a_graph_has_the_same_states_as_with_langgraphs_own_saver(address: str) -> None:
    name = str(uuid.uuid4())
    ours, theirs = graph(BotWireSaver(name, address)), graph(InMemorySaver())
    for turn in range(4):
        for one in (ours, theirs):
            one.invoke({"log": [f"in {turn}"]}, at("t"))
    for one in (ours, theirs):
        fork = next(state for state in one.get_state_history(at("t")) if len(state.values.get("log", ())) == 4)
        one.invoke({"log": ["fork"]}, fork.config)
    histories = [[state.values for state in one.get_state_history(at("t"))] for one in (ours, theirs)]
    assert histories[0] == histories[1]
    assert graph(BotWireSaver(name, address)).get_state(at("t")).values == theirs.get_state(at("t")).values


def test_a_seed_that_is_missing_is_an_error(address: str) -> None:
    name = str(uuid.uuid4())
    saver = BotWireSaver(name, address)
    value = {"channel_values": {"log": ["x" * 100]}, "channel_versions": {"log": 1 << 40}}
    first = saver.put(at("t"), {**empty_checkpoint(), "id": "1", **value}, {}, {"log": 1 << 40})
    second = saver.put(first, {**empty_checkpoint(), "id": "2"}, {}, {})
    assert "seed" in saver.get_delta_channel_history(config=second, channels=["log"])["log"]
    Memory(name, address).clear("value/")
    with pytest.raises(StoreError, match="missing"):
        saver.get_delta_channel_history(config=second, channels=["log"])
