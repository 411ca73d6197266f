"""Search: how long a question takes among many messages and beside them, and what an index costs those who write.

The texts are made of 50,000 words, of which the n-th is about 1/n as frequent as the first (Zipf's law, as in any language);
a question is three words of a message, so common ones are asked for more often.
"""

from __future__ import annotations

import os
import random
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

from botwire import Memory
from botwire.stores.sqlite import SqliteStore

from .measure import Row, Timing, in_turns, row

MANY = int(os.environ.get("BENCH_MESSAGES", "1000000"))
FEW = 10_000
SESSION, WORDS = 100, 20
"""Messages of a session, and words of a message."""
VECTORS, DIMENSIONS = 10_000, 384
AT_ONCE = 5_000
LIMIT_US = 20_000

_VOCABULARY = [f"{''.join(random.Random(n).choices('abcdefghiklmnoprstuvw', k=3 + n % 6))}{n:x}" for n in range(50_000)]
_WEIGHTS = list(accumulate(1 / (rank + 3) for rank in range(len(_VOCABULARY))))


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure among many messages, among few beside them and alone, what writes cost, and search by meaning."""
    alone, beside = f"sqlite:///{folder}/alone.db", f"sqlite:///{folder}/beside.db"
    fill(Memory("few", alone), FEW, step)
    fill(Memory("few", beside), FEW, step)
    fill(Memory("many", beside), MANY, step)
    step("searching")
    timings = in_turns(
        {
            "many": _asks(Memory("many", beside)),
            "ours": _asks(Memory("few", beside)),
            "theirs": _asks(Memory("few", alone)),
        },
        300,
    )
    many = timings["many"]
    yield Row(f"search {MANY:,} messages for three words", "20 ms", many.median, LIMIT_US, many.worst, 1.0)
    yield row(f"search {FEW:,} messages beside {MANY:,} of a neighbour", "alone", timings, 1.1)
    yield from _writes(folder, step)
    yield from _meaning(alone, step)


def text(dice: random.Random) -> str:
    """Return a text of words as frequent as in a language."""
    return " ".join(dice.choices(_VOCABULARY, cum_weights=_WEIGHTS, k=WORDS))


def fill(memory: Memory, count: int, step: Callable[[str], None]) -> None:
    """Append so many messages, in sessions of a hundred."""
    dice = random.Random(1)
    for start in range(0, count, SESSION):
        if start % AT_ONCE == 0:
            step(f"{start:,} of {count:,} messages")
        messages = [{"role": "user", "content": text(dice)} for _ in range(min(SESSION, count - start))]
        memory.history(f"session {start // SESSION}").append(messages)


def _asks(memory: Memory) -> Callable[[int], object]:
    def ask(number: int) -> object:
        dice = random.Random(-number)
        return memory.search(" ".join(dice.sample(text(dice).split(), 3)))

    return ask


def _writes(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    step("writing with and without an index")
    url = f"sqlite:///{folder}/writes.db"
    with closing(SqliteStore(folder / "writes.db")) as store:
        store.set_index("theirs", on=False)
    memories = {"ours": Memory("ours", url), "theirs": Memory("theirs", url)}
    texts = [text(random.Random(number)) for number in range(6_400)]
    appends = in_turns(
        {
            name: lambda n, memory=memory: memory.history("s").append([{"role": "user", "content": texts[n]}])
            for name, memory in memories.items()
        },
        len(texts),
        turn=64,
    )
    yield _whole("append, indexed", "not indexed", appends)
    sets = in_turns(
        {name: lambda n, memory=memory: memory.set(f"k{n % 500}", texts[n]) for name, memory in memories.items()},
        len(texts),
        turn=64,
    )
    yield _whole("set, indexed", "not indexed", sets)


def _whole(what: str, theirs: str, timings: dict[str, Timing]) -> Row:
    """Return a row of means: every 64th write indexes what the others left, and a median would not see it."""
    ours = timings["ours"]
    return Row(what, theirs, ours.mean, timings["theirs"].mean, ours.worst, 1.25)


def _meaning(url: str, step: Callable[[str], None]) -> Iterator[Row]:
    dice = random.Random(1)

    def embedder(texts: list[str]) -> list[array[float]]:
        return [array("f", (dice.gauss(0, 1) for _ in range(DIMENSIONS))) for _ in texts]

    memory = Memory("few", url, embedder=embedder)
    for start in range(0, VECTORS, 500):
        step(f"{start:,} of {VECTORS:,} vectors")
        memory.embed(limit=500, batch=500)
    step("searching by meaning")
    question = text(dice)
    timings = in_turns(
        {"ours": lambda _: memory.search(question), "theirs": lambda _: memory.search(question, by="words")}, 60
    )
    yield row(f"search {VECTORS:,} messages by words and meaning", "by words", timings, None)
