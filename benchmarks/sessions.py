"""Measure sessions: append, fork, lists among many sessions, and contexts of long ones, in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import apsw

from botwire import Memory
from botwire.conversations import measures
from botwire.history import History
from botwire.operations import Append, NewMessage, SetAbout

from .conversations import FORMATS
from .measure import Row, Timing, in_turns, row

SESSIONS = 100_000
LONG = 10_000
BUDGETS = 1_000, 8_000, 50_000
"""Tokens of contexts, by botwire's estimate."""
_AT_ONCE = 2_000


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure in one file."""
    with Memory("sessions", f"sqlite:///{folder / 'sessions.db'}") as memory:
        step(f"filling {SESSIONS:,} sessions")
        fill(memory)
        step("lists of sessions")
        yield from lists(memory)
        step("contexts")
        yield from contexts(memory)
        step("forks")
        yield fork(memory)
        step("appends")
        yield append(memory, folder)


def message(number: int) -> dict[str, str]:
    """Return a message with a unique text."""
    return {"role": "assistant" if number % 2 else "user", "content": f"message {number} " + "x" * 160}


def fill(memory: Memory) -> None:
    """Begin the sessions, each with a message; every tenth has an owner, out of 1,000."""
    for first in range(0, SESSIONS, _AT_ONCE):
        operations: list[Any] = []
        for number in range(first, first + _AT_ONCE):
            operations.append(
                Append(f"chat-{number}", (NewMessage(f"m{number}", '{"role":"user","content":"hello"}'),))
            )
            if number % 10 == 0:
                operations.append(SetAbout(f"chat-{number}", f'{{"title":"Chat {number}"}}', f"user-{number % 1_000}"))
        memory.write(*operations)


def lists(memory: Memory) -> Iterator[Row]:
    """Time pages of 50 sessions. Every call is preceded by activity of another session, which is not timed here."""
    calls: dict[str, tuple[Callable[[int], object], float]] = {
        "page of 50 sessions by activity": (lambda _: memory.sessions(limit=50), 2_000),
        "the same with previews": (lambda _: memory.sessions(limit=50, preview=True), 2_000),
        "the next page": (lambda _: memory.sessions(limit=50, after=memory.sessions(limit=50)[-1]), 4_000),
        "page of 50 of an owner": (
            lambda number: memory.sessions(limit=50, where={"owner": f"user-{number % 100 * 10}"}),
            2_000,
        ),
        "page of 50 by creation": (lambda _: memory.sessions(order="created", limit=50), 2_000),
        "page of 50 with a prefix of 11,111": (lambda _: memory.sessions(prefix="chat-1", limit=50), 100_000),
    }
    for what, (call, most) in calls.items():
        for number in range(30):
            memory.history(f"chat-{number * 331}").append(message(number))
        timings = in_turns({"ours": call}, 100)
        yield _within(f"{what}, of {SESSIONS:,}", timings["ours"], most)


def _within(what: str, timing: Timing, most_us: float) -> Row:
    return Row(what, f"{most_us / 1_000:,.0f} ms", timing.median, most_us, timing.worst, 1.0)


def contexts(memory: Memory) -> Iterator[Row]:
    """Compare a context with reading and decoding the messages that it returns, in each format.

    A process remembers the measures of messages. So the first context of a session takes longer, and has rows without a goal.
    """
    for name, write in FORMATS.items():
        history = memory.history(f"long {name}")
        messages = list(islice(chain.from_iterable(write(number) for number in count()), LONG))
        for first in range(0, LONG, _AT_ONCE):
            history.append(messages[first : first + _AT_ONCE])
        for budget in BUDGETS:
            returned = len(history.context(max_tokens=budget))
            timings = in_turns(
                {
                    "ours": lambda _, budget=budget, history=history: history.context(max_tokens=budget),
                    "theirs": lambda _, returned=returned, history=history: [
                        item.data for item in history.messages(last=returned)
                    ],
                },
                100,
                clock=time.process_time,
            )
            yield row(f"context of {budget:,} tokens, {name}", f"reading those {returned:,}", timings, 1.5)
            cold = in_turns(
                {"ours": lambda _, budget=budget, history=history: _first_context(history, budget)},
                30,
                clock=time.process_time,
            )
            yield row("its first context", f"reading those {returned:,}", {**cold, "theirs": timings["theirs"]}, None)


def _first_context(history: History, budget: int) -> object:
    measures.known.clear()
    return history.context(max_tokens=budget)


def fork(memory: Memory) -> Row:
    """Time a fork of 1,000 messages."""
    history = memory.history("to-fork")
    history.append([message(number) for number in range(1_000)])
    timings = in_turns({"ours": lambda number: history.fork(f"fork-{number}")}, 50)
    return _within("fork of 1,000 messages", timings["ours"], 10_000)


def append(memory: Memory, folder: Path) -> Row:
    """Compare an append with a bare statement of SQLite."""
    history = memory.history("appended")
    connection = apsw.Connection(str(folder / "bare.db"))
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE messages (data TEXT)"):
        connection.execute(statement).fetchall()
    timings = in_turns(
        {
            "ours": lambda number: _append(history, number),
            "theirs": lambda number: connection.execute("INSERT INTO messages VALUES (?)", (str(message(number)),)),
        },
        1_000,
    )
    return row("append", "bare apsw insert", timings, None)


def _append(history: History, number: int) -> object:
    return history.append(message(number))
