"""Count what is lost when a session is compacted while another process appends to it.

``make bench ARGS=compaction`` runs 1,000 rounds of each way, and ``python -m benchmarks.compaction ROUNDS`` another number. In each
round, one process adds an item, reads the session, waits for a summary, and writes it. Another process appends an item at a random
moment of that time. A summary here is a list of the items that it covers, so that nothing is missed in the count.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import rich.console
import rich.table
from agents import Agent, Runner, SQLiteSession, set_tracing_disabled
from agents.memory import OpenAIResponsesCompactionSession
from agents.testing import ScriptedModel, assistant_message

from botwire import AsyncHistory, AsyncMemory, Conflict
from botwire.adapters.openai_agents import BotWireSession

ROUNDS = 1_000
_SESSION = "session"
_API_SECONDS = 0.004
"""The most time that a summary takes here. The other process appends within twice that."""


class Way(NamedTuple):
    """How a session is opened, and compacted in a round."""

    name: str
    open: Callable[[Path], Any]
    compact: Callable[[Any, int, random.Random], Awaitable[None]]


class Count(NamedTuple):
    """Items that others appended, summaries that were stored, items that are lost, and items that are there twice."""

    appended: int
    compacted: int
    lost: int
    twice: int


def main(rounds: int = ROUNDS) -> None:
    """Measure every way, and print a table."""
    set_tracing_disabled(True)
    logging.getLogger("openai-agents.openai.compaction").setLevel(logging.ERROR)
    console = rich.console.Console(width=None if sys.stdout.isatty() else 140)
    table = rich.table.Table("compaction", title=f"Compaction while another process appends, {rounds:,} rounds")
    for column in ("appended by the other", "compactions", "lost", "twice"):
        table.add_column(column, justify="right")
    with console.status("counting") as status:
        for way in WAYS:
            status.update(f"{way.name}: {rounds:,} rounds")
            with tempfile.TemporaryDirectory(prefix="botwire-compaction-") as folder:
                count = asyncio.run(_measure(way, Path(folder), rounds))
            table.add_row(way.name, *(f"{number:,}" for number in count))
    console.print(table)


async def _measure(way: Way, folder: Path, rounds: int) -> Count:
    session = way.open(folder)
    chance = random.Random(way.name)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    arguments = (WAYS.index(way), folder, theirs)
    writer = multiprocessing.get_context("spawn").Process(target=append_in_rounds, args=arguments)
    writer.start()
    theirs.close()
    await asyncio.to_thread(ours.recv)  # it has opened the session
    added, compacted = [], 0
    try:
        for number in range(rounds):
            ours.send((number, chance.uniform(0, 2 * _API_SECONDS)))
            await way.compact(session, number, chance)
            added += [f"item-a-{number}", await asyncio.to_thread(ours.recv)]
            compacted += f"summary-{number}." in json.dumps(await _everything(session))
    finally:
        ours.send(None)
        writer.join()
    found = _items(await _everything(session))
    return Count(rounds, compacted, sum(not found[item] for item in added), sum(found[item] > 1 for item in added))


def append_in_rounds(way: int, folder: Path, pipe: Connection) -> None:
    """Append an item whenever the pipe says so, after a time, and confirm it when it is stored."""
    session = WAYS[way].open(folder)
    pipe.send("ready")
    loop = asyncio.new_event_loop()
    while (order := pipe.recv()) is not None:
        number, seconds = order
        loop.run_until_complete(asyncio.sleep(seconds))
        item = f"item-b-{number}"
        loop.run_until_complete(_append(session, _user(item)))
        pipe.send(item)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def _append(session: Any, item: dict[str, str]) -> None:
    await (session.append(item) if isinstance(session, AsyncHistory) else session.add_items([item]))


async def _everything(session: Any) -> list[Any]:
    """Return what a model would get: the summary and the items after it."""
    return list(await (session.context(start="any") if isinstance(session, AsyncHistory) else session.get_items()))


def _items(messages: list[Any]) -> Counter[str]:
    return Counter(re.findall(r"item-[ab]-\d+", json.dumps(messages)))


async def _summary(messages: list[Any], number: int, chance: random.Random) -> dict[str, str]:
    await asyncio.sleep(chance.uniform(0, _API_SECONDS))
    return {"role": "user", "content": f"summary-{number}. " + " ".join(_items(messages))}


def _history(folder: Path) -> AsyncHistory:
    return AsyncMemory("compaction", f"sqlite:///{folder}/memory.db").history(_SESSION)


async def _summarize(history: AsyncHistory, number: int, chance: random.Random) -> None:
    await history.append(_user(f"item-a-{number}"))
    picked = await history.context_messages(start="any")
    await history.summarize(upto=picked.last, summary=[await _summary(picked.data, number, chance)])


async def _replace(history: AsyncHistory, number: int, chance: random.Random) -> None:
    await history.append(_user(f"item-a-{number}"))
    read = await history.messages()
    summary = await _summary([message.data for message in read], number, chance)
    last = read[-1].seq
    while True:
        newer = await history.messages(after=last)
        try:
            new = [summary, *(message.data for message in newer)]
            await history.replace(new, if_last=newer[-1].seq if newer else last)
        except Conflict:
            continue
        return


def _client(number: int, chance: random.Random) -> Any:
    """Return a client whose API for compaction answers with the list of the items."""

    async def compact(*, input: list[Any], **_: Any) -> Any:  # noqa: A002 - the name in the API
        summary = await _summary(input, number, chance)
        return SimpleNamespace(output=[summary], usage=None)

    return SimpleNamespace(responses=SimpleNamespace(compact=compact))


def _compacting(session: Any, number: int, chance: random.Random) -> OpenAIResponsesCompactionSession:
    """Return the SDK's session for compaction, as each request of a web server makes one."""
    return OpenAIResponsesCompactionSession(
        _SESSION,
        session,
        client=_client(number, chance),
        compaction_mode="input",
        should_trigger_compaction=lambda _: True,
    )


async def _by_hand(session: Any, number: int, chance: random.Random) -> None:
    compacting = _compacting(session, number, chance)
    await compacting.add_items([_user(f"item-a-{number}")])  # type: ignore[list-item]
    await compacting.run_compaction({"force": True})


async def _after_a_run(session: Any, number: int, chance: random.Random) -> None:
    model = ScriptedModel([[assistant_message("Noted.")]])
    agent = Agent(name="helper", model=model)
    await Runner.run(agent, f"item-a-{number}", session=_compacting(session, number, chance))


def _ours(folder: Path) -> BotWireSession:
    return BotWireSession(_SESSION, url=f"sqlite:///{folder}/memory.db")


def _theirs(folder: Path) -> SQLiteSession:
    return SQLiteSession(_SESSION, folder / "agents.db")


WAYS = [
    Way("botwire: history.summarize", _history, _summarize),
    Way("botwire: history.replace", _history, _replace),
    Way("OpenAI Agents, run_compaction: BotWireSession", _ours, _by_hand),
    Way("OpenAI Agents, run_compaction: its SQLiteSession", _theirs, _by_hand),
    Way("OpenAI Agents, after each run: BotWireSession", _ours, _after_a_run),
    Way("OpenAI Agents, after each run: its SQLiteSession", _theirs, _after_a_run),
]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
