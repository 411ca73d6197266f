"""Count disk syncs per write with strace.

``python -m benchmarks.durability KIND NAME`` runs under strace. It writes a hundred times between two markers. A marker is a sync
of an invalid file descriptor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

WRITES = 100
NO_FILE = 9_999


def syncs(kind: str, name: str) -> float | None:
    """Return the syncs per write, measured over a hundred writes. Return None if strace is not installed."""
    if shutil.which("strace") is None:
        return None
    with tempfile.TemporaryDirectory(prefix="botwire-strace-") as folder:
        trace = Path(folder) / "trace"
        command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,msync", "-o", str(trace)]
        worker = [sys.executable, "-W", "ignore", "-m", "benchmarks.durability", kind, name]
        done = subprocess.run([*command, *worker], capture_output=True, check=False)
        if done.returncode:
            return None
        lines = trace.read_text().splitlines()
    marks = [index for index, line in enumerate(lines) if f"fsync({NO_FILE})" in line]
    return sum("sync(" in line for line in lines[marks[0] + 1 : marks[1]]) / WRITES


def main(kind: str, name: str) -> None:
    """Write a hundred times to one product."""
    from . import histories, keyvalue

    with tempfile.TemporaryDirectory(prefix="botwire-durable-") as made, ExitStack() as stack:
        folder = Path(made)
        if kind == "history":
            add = histories.histories(folder, stack, "session")[name]().add
        else:
            put, _ = keyvalue.places(folder, stack)[name]()

            def add(number: int) -> object:
                return put(f"key-{number % 10}", {"n": number})

        add(-1)
        _mark()
        for number in range(WRITES):
            add(number)
        _mark()


def _mark() -> None:
    with suppress(OSError):
        os.fsync(NO_FILE)


if __name__ == "__main__":
    main(*sys.argv[1:])
