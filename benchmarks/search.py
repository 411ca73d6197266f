"""Search: the time of a query among many messages, and the cost of the index for writers.

The texts use 50,000 words. The n-th word is about 1/n as frequent as the first (Zipf's law, as in any language). A query has three
words of a message, so common words are also more frequent in queries.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

from botwire import Memory
from botwire.stores.sqlite.store import SqliteStore

from .measure import Row, in_turns, row
from .vectors import Drawn

MANY = int(os.environ.get("BENCH_MESSAGES", "1000000"))
FEW = 10_000
SESSION, WORDS = 100, 20
"""The number of messages in a session, and of words in a message."""
VECTORS = 10_000
BLOCKS, BLOCK = 17, 384
"""Writes are timed in blocks, because only every 96th write updates the index. A median of single writes would exclude it."""
AT_ONCE = 5_000
LIMIT_US = 20_000

_VOCABULARY = [f"{''.join(random.Random(n).choices('abcdefghiklmnoprstuvw', k=3 + n % 6))}{n:x}" for n in range(50_000)]
_WEIGHTS = list(accumulate(1 / (rank + 3) for rank in range(len(_VOCABULARY))))


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure queries among many and few messages, in a shared file and alone. Then measure writes and search by meaning."""
    alone, shared = f"sqlite:///{folder}/alone.db", f"sqlite:///{folder}/shared.db"
    fill(Memory("few", alone), FEW, step)
    fill(Memory("few", shared), FEW, step)
    fill(Memory("many", shared), MANY, step)
    step("searching")
    timings = in_turns(
        {
            "many": _asks(Memory("many", shared)),
            "ours": _asks(Memory("few", shared)),
            "theirs": _asks(Memory("few", alone)),
        },
        300,
    )
    many = timings["many"]
    yield Row(f"search {MANY:,} messages for three words", "20 ms", many.median, LIMIT_US, many.worst, 1.0)
    yield row(f"search {FEW:,} messages, {MANY:,} in another namespace", "alone", timings, 1.1)
    yield from _writes(folder, step)
    yield from _meaning(alone, step)


def text(dice: random.Random) -> str:
    """Return a text whose words are as frequent as in a language."""
    return " ".join(dice.choices(_VOCABULARY, cum_weights=_WEIGHTS, k=WORDS))


def fill(memory: Memory, count: int, step: Callable[[str], None]) -> None:
    """Append `count` messages, in sessions of a hundred."""
    dice = random.Random(1)
    for start in range(0, count, SESSION):
        if start % AT_ONCE == 0:
            step(f"{start:,} of {count:,} messages")
        messages = [{"role": "user", "content": text(dice)} for _ in range(min(SESSION, count - start))]
        memory.history(f"session {start // SESSION}").append(messages)
        if not start:
            memory.search("any")  # from the first search on, writes update the index


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
    # Appending to the last session of a file is faster, so a third namespace has the last session.
    for memory in (*memories.values(), Memory("other", url)):
        memory.history("s").append(["begun"])
    memories["ours"].search("begun")  # from the first search on, writes update the index
    texts = [text(random.Random(number)) for number in range(BLOCKS * BLOCK)]

    def append(memory: Memory, block: int) -> None:
        for written in _block(texts, block):
            memory.history("s").append([{"role": "user", "content": written}])

    def put(memory: Memory, block: int) -> None:
        for number, written in enumerate(_block(texts, block)):
            memory.set(f"k{(block * BLOCK + number) % 500}", written)

    for what, work in (("append", append), ("set", put)):
        timings = in_turns(
            {name: lambda block, memory=memory, work=work: work(memory, block) for name, memory in memories.items()},
            BLOCKS,
            turn=1,
        )
        ours, theirs = timings["ours"], timings["theirs"]
        yield Row(
            f"{what}, indexed", "not indexed", ours.median / BLOCK, theirs.median / BLOCK, ours.worst / BLOCK, 1.25
        )


def _block(texts: list[str], block: int) -> list[str]:
    return texts[block * BLOCK : (block + 1) * BLOCK]


def _meaning(url: str, step: Callable[[str], None]) -> Iterator[Row]:
    memory = Memory("few", url, embedder=Drawn())
    for start in range(0, VECTORS, 500):
        step(f"{start:,} of {VECTORS:,} vectors")
        memory.embed(limit=500, batch=500)
    step("searching by meaning")
    question = text(random.Random(1))
    timings = in_turns(
        {"ours": lambda _: memory.search(question), "theirs": lambda _: memory.search(question, by="words")}, 60
    )
    yield row(f"search {VECTORS:,} messages by words and meaning", "by words", timings, None)
