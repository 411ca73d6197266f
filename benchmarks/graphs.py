"""Compare LangGraph savers and stores on the same graph, conversations and items."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import psycopg
from psycopg.rows import dict_row

from botwire.adapters.langgraph import BotWireSaver, BotWireStore
from botwire.adapters.langgraph.write_batching import WriteBatcher

from .measure import Row, Timing, faster, in_turns
from .services import postgres_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.base.id import uuid6
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.checkpoint.postgres import PostgresSaver
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.graph.message import add_messages
    from langgraph.store.base import PutOp
    from langgraph.store.sqlite import SqliteStore

SHORT, LONG = 100, 400
"""Turns of a conversation. A turn has two messages and three checkpoints."""
ITEMS = 1000
PEER = "SqliteSaver"


class State(TypedDict):
    """The state of the graph."""

    messages: Annotated[list[Any], add_messages]


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure turns of a conversation, its size, reads of it, and a store of items."""
    with ExitStack() as stack:
        yield from _savers(folder, step, stack)
        yield from _batching(folder, step)
        yield from _stores(folder, step, stack)


def _savers(folder: Path, step: Callable[[str], None], stack: ExitStack) -> Iterator[Row]:
    savers = {
        "ours": BotWireSaver(url=f"sqlite:///{folder}/ours.db"),
        PEER: _sqlite_saver(folder / "peer.db", stack),
        "PostgresSaver": _postgres_saver(folder, stack),
        "InMemorySaver": InMemorySaver(),
    }
    graphs = {name: _chat(saver) for name, saver in savers.items()}
    turns: dict[str, Callable[[int], Any]] = {
        name: lambda number, graph=graph: graph.invoke(_said(number), _at("t")) for name, graph in graphs.items()
    }
    turns["the graph alone"] = _alone()
    sizes = {}
    done = 0
    for end in (SHORT, LONG // 2, LONG):
        step(f"turns {done} to {end} of a conversation")
        timings = in_turns(turns, end - done)
        yield from _compared(f"a turn, of {done} to {end}", timings, 2.0)
        done = end
        sizes[end] = {name: _bytes(folder / f"{file}.db") for name, file in (("ours", "ours"), (PEER, "peer"))}
    step("adding to a conversation and reading it")
    puts = {name: _next_put(saver) for name, saver in savers.items()}
    yield from _compared(f"put, {LONG} turns", in_turns(puts, 100), 2.0)
    reads = in_turns({name: lambda _, saver=saver: saver.get_tuple(_at("t")) for name, saver in savers.items()}, 100)
    yield from _compared(f"get_tuple, {LONG} turns", reads, 2.0)
    histories = in_turns(
        {name: lambda _, saver=saver: list(saver.list(_at("t"), limit=10)) for name, saver in savers.items()}, 20
    )
    yield from _compared(f"list 10 checkpoints, {LONG} turns", histories, None)
    for name in ("ours", PEER):
        saver = "" if name == "ours" else f" of {name}"
        half, whole = (sizes[turns][name] / 1024 for turns in (LONG // 2, LONG))
        bar = 1.15 if name == "ours" else None
        yield Row(f"KiB on disk{saver}, {LONG} turns", f"twice {LONG // 2} turns", whole, 2 * half, 0, bar)
    ours, theirs = (sizes[LONG][name] / 1024 for name in ("ours", PEER))
    yield Row(f"KiB on disk, {LONG} turns", PEER, ours, theirs, 0, None, smaller_is_better=False)


def _batching(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure what it saves that small writes wait for the next checkpoint."""
    step("turns with and without write batching")
    savers = {name: BotWireSaver(url=f"sqlite:///{folder}/{name}.db") for name in ("batched", "alone")}
    savers["alone"]._batcher = _NoBatching()
    pairs = {"ours": "batched", "alone": "alone"}
    for nodes in (1, 4):
        turns = {name: _turns(_chat(savers[saver], nodes), f"{nodes}") for name, saver in pairs.items()}
        timings = in_turns(turns, 100)
        yield faster(f"a turn, {nodes} nodes", "without write batching", timings, None, "alone")


def _turns(graph: Any, thread: str) -> Callable[[int], Any]:
    return lambda number: graph.invoke(_said(number), _at(f"{thread}-{number // 10}"))


class _NoBatching(WriteBatcher):
    async def join(self, *_: Any) -> bool:
        return False


def _next_put(saver: Any) -> Callable[[int], Any]:
    """Return a call that adds a message and a checkpoint with it."""
    state: dict[str, Any] = {"last": saver.get_tuple(_at("t"))}
    messages = state["last"].checkpoint["channel_values"]["messages"]

    def put(number: int) -> None:
        last = state["last"]
        messages.append(HumanMessage(f"{number} " + "x" * 160, id=f"put-{number}"))
        version = saver.get_next_version(last.checkpoint["channel_versions"]["messages"], None)
        checkpoint = {
            **last.checkpoint,
            "id": str(uuid6(number)),
            "channel_values": {"messages": messages},
            "channel_versions": {**last.checkpoint["channel_versions"], "messages": version},
        }
        config = saver.put(last.config, checkpoint, last.metadata, {"messages": version})
        state["last"] = last._replace(config=config, checkpoint=checkpoint)

    return put


def _compared(what: str, timings: dict[str, Timing], bar: float | None) -> Iterator[Row]:
    for name in sorted(set(timings) - {"ours"}):
        yield faster(what, name, timings, bar if name == PEER else None, name)


def _stores(folder: Path, step: Callable[[str], None], stack: ExitStack) -> Iterator[Row]:
    stores = {
        "ours": BotWireStore(url=f"sqlite:///{folder}/items.db"),
        "SqliteStore": _sqlite_store(folder / "store.db", stack, "DELETE"),
        "SqliteStore, WAL": _sqlite_store(folder / "wal.db", stack, "WAL"),
    }
    step(f"{ITEMS} items in a store")
    for store in stores.values():
        store.batch([PutOp(("users", f"{n % 10}"), f"{n:04}", _item(n)) for n in range(ITEMS)])
    work: dict[str, tuple[int, float | None, Callable[[Any, int], Any]]] = {
        "store.put": (500, 0.85, lambda store, n: store.put(("users", f"{n % 10}"), f"{n:04}", _item(-n))),
        "store.put, 100 in a batch": (40, None, _put_batch),
        "store.get": (2000, 2.0, lambda store, n: store.get(("users", f"{n % 10}"), f"{n % ITEMS:04}")),
        "store.search, 10 of 100 items": (500, None, lambda store, n: store.search(("users", f"{n % 10}"))),
        f"store.search, filter over {ITEMS}": (
            60,
            None,
            lambda store, n: store.search(("users",), filter={"n": {"$gt": n}, "kind": "fact 3"}, limit=10),
        ),
        f"store.list_namespaces, of {ITEMS} items": (
            60,
            1.0,
            lambda store, _: store.list_namespaces(prefix=("users",)),
        ),
    }
    for what, (rounds, bar, call) in work.items():
        step(what)
        timings = in_turns(
            {name: lambda n, call=call, store=store: call(store, n) for name, store in stores.items()}, rounds
        )
        for name in sorted(set(stores) - {"ours"}):
            yield faster(what, name, timings, bar, name)


def _put_batch(store: Any, number: int) -> None:
    store.batch([PutOp(("users", f"{n % 10}"), f"{n:04}", _item(n + number)) for n in range(100)])


def _item(number: int) -> dict[str, Any]:
    return {"n": number, "kind": f"fact {number % 7}", "text": f"fact {number} " + "x" * 160}


def _chat(saver: Any, nodes: int = 1) -> Any:
    builder = StateGraph(State)
    names = [START, *(f"model-{number}" for number in range(nodes)), END]
    for name in names[1:-1]:
        builder.add_node(name, lambda state: {"messages": [AIMessage(f"{len(state['messages'])} " + "x" * 160)]})
    for first, second in pairwise(names):
        builder.add_edge(first, second)
    return builder.compile(checkpointer=saver)


def _alone() -> Callable[[int], Any]:
    """Return turns without a saver, to measure the time of the graph itself."""
    graph = _chat(None)
    state: dict[str, Any] = {"messages": []}

    def turn(number: int) -> None:
        state.update(graph.invoke({"messages": [*state["messages"], *_said(number)["messages"]]}))

    return turn


def _said(number: int) -> Any:
    return {"messages": [HumanMessage(f"question {number} " + "x" * 160)]}


def _at(thread: str) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


def _sqlite_saver(path: Path, stack: ExitStack) -> Any:
    return SqliteSaver(stack.enter_context(closing(sqlite3.connect(path, check_same_thread=False))))


def _postgres_saver(folder: Path, stack: ExitStack) -> Any:
    address = stack.enter_context(postgres_server(folder)).get_uri()
    saver = PostgresSaver(stack.enter_context(psycopg.connect(address, autocommit=True, row_factory=dict_row)))
    saver.setup()
    return saver


def _sqlite_store(path: Path, stack: ExitStack, journal: str) -> Any:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    stack.callback(connection.close)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    store = SqliteStore(connection)
    store.setup()
    return store


def _bytes(path: Path) -> int:
    """Return the size of a database without the free space of its WAL."""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(count) * int(size)
