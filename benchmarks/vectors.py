"""Search by meaning: the time to compare a query with all vectors of a namespace, in a file and in PostgreSQL.

The vectors are random and have the size of the small local model's vectors. The time does not depend on their content, because a
search compares every vector.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from botwire import Memory

from .measure import Row, in_turns
from .services import postgres_server

SIZES = tuple(int(size) for size in os.environ.get("BENCH_VECTORS", "50000,200000").split(","))
DIMENSIONS, SESSION, BATCH, ROUNDS = 384, 1_000, 500, 20


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure each number of vectors, by meaning alone and with words, with all texts embedded."""
    (folder / "pg").mkdir()
    with postgres_server(folder / "pg") as server:
        places = {"PostgreSQL": server.get_uri(), "a file": f"sqlite:///{folder}/vectors.db"}
        memories = {name: Memory("n", url, embedder=Drawn(), timeout=60.0) for name, url in places.items()}
        filled = 0
        for size in SIZES:
            for name, memory in memories.items():
                _fill(memory, filled, size, lambda done, name=name: step(f"{done:,} vectors in {name}"))
            filled = size
            step(f"searching among {size:,} vectors")
            for what, by in ("meaning", ["meaning"]), ("words and meaning", ["words", "meaning"]):
                timings = in_turns(
                    {
                        name: lambda number, memory=memory, by=by: memory.search(f"message {number * 37}", by=by)
                        for name, memory in memories.items()
                    },
                    ROUNDS,
                )
                ours, theirs = timings["PostgreSQL"], timings["a file"]
                about = f"search by {what}, {size:,} vectors in PostgreSQL"
                yield Row(about, "in a file", ours.median, theirs.median, ours.worst)
        for memory in memories.values():
            memory.close()


class Drawn:
    """An embedder that returns random vectors."""

    model = "drawn"

    def __init__(self) -> None:
        self._dice = np.random.default_rng(1)

    def __call__(self, texts: Sequence[str]) -> Any:
        return self._dice.standard_normal((len(texts), DIMENSIONS), "f4").tolist()


def _fill(memory: Memory, filled: int, size: int, step: Callable[[int], None]) -> None:
    for start in range(filled, size, SESSION):
        history = memory.history(f"session {start // SESSION}")
        history.append([{"role": "user", "content": f"message {start + number}"} for number in range(SESSION)])
    for done in range(filled, size, 10_000):
        step(done)
        memory.embed(limit=10_000, batch=BATCH)
