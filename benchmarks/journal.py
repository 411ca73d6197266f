"""Measure the cost of the journal: the same writes with and without it, alternately.

``python -m benchmarks.journal [FOLDER]``: a folder in memory, such as /dev/shm, shows the processor time. A disk shows the time of a
durable write.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from botwire import Memory
from botwire.stores.engine import journal

from .measure import in_turns

ROUNDS = 3000


def main(folder: str) -> None:
    """Measure a set and an append."""
    value = {"text": "x" * 160}
    stores = {name: Memory("bench", f"sqlite:///{folder}/{name}.db") for name in ("with", "without")}

    def both(write: Callable[[Memory, int], Any]) -> dict[str, Callable[[int], object]]:
        def without(number: int) -> object:
            with patch.object(journal, "put_down", lambda *_: None):
                return write(stores["without"], number)

        def patched_alike(number: int) -> object:
            with patch.object(journal, "put_down", journal.put_down):
                return write(stores["with"], number)

        return {"with": patched_alike, "without": without}

    for name, write in (
        ("set", lambda memory, n: memory.set(f"key-{n % 500}", value | {"number": n})),
        ("append", lambda memory, n: memory.history("s").append([value | {"number": n}])),
    ):
        timings = in_turns(both(write), ROUNDS)
        ours, bare = timings["with"].median, timings["without"].median
        print(f"{name}: {ours:.1f} us with it, {bare:.1f} without, {ours - bare:.1f} us more, {ours / bare:.3f} times")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        main(place)
