"""Sixteen processes use shared sessions in every way, and are killed at random moments, as is their server.

PostgreSQL also loses its connections at random moments.

``python -m tests.faults.conversations SECONDS SEED [sqlite|server|postgres]`` prints what it counted, and what is wrong.
"""

from __future__ import annotations

import collections
import multiprocessing
import random
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg

from botwire.plans import Plans
from botwire.stores import open_to_serve
from botwire.stores.sqlite.check import check as check_file
from tests import postgres
from tests.faults.conversation_check import Check, read_notes
from tests.faults.conversation_writer import NAMESPACE, TTL, write
from tests.faults.forked import ForkedServer

WRITERS = 16
KINDS = ("sqlite", "server", "postgres")
_FORKS = multiprocessing.get_context("forkserver")


class Drill:
    """Writers over one database. `seed` selects when which of them is killed."""

    def __init__(self, folder: Path, kind: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder, self.kind = folder, kind
        self.counts: collections.Counter[str] = collections.Counter()
        self._stack = ExitStack()
        self.database = f"sqlite:///{folder}/memory.db"
        if kind == "postgres":
            self.database = self._stack.enter_context(postgres.database())
        self.server: ForkedServer | None = None
        if kind != "sqlite":
            self.server = ForkedServer(self.database if kind == "postgres" else folder / "memory.db")
        self.address = self.database if self.server is None else self.server.url
        self._writers: dict[int, BaseProcess] = {}
        self._lives: collections.Counter[int] = collections.Counter()

    def __enter__(self) -> Drill:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._writers.values():
            process.kill()
        if self.server is not None and self.server.process.poll() is None:
            self.server.stop()
        self._stack.close()

    def run(self, seconds: float) -> None:
        """Let the writers write, and kill one every 0.2 s or so."""
        for slot in range(WRITERS):
            self._start(slot)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.rng.uniform(0.05, 0.4))
            slot = self.rng.randrange(WRITERS)
            self._kill(slot)
            self._start(slot)
            if self.server is not None and self.rng.random() < 0.1:
                self.server.kill()
                self.counts["kills of the server"] += 1
                time.sleep(self.rng.uniform(0, 0.2))
                self.server.start()
            if self.kind == "postgres" and self.rng.random() < 0.3:
                self._cut()
        for slot in range(WRITERS):
            self._kill(slot)
        self.counts["kills"] -= WRITERS  # the last ones only end the drill

    def _cut(self) -> None:
        """Close the connections to PostgreSQL, some of them before the answer to a commit."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'botwire'"
            )
        self.counts["cuts"] += 1

    def _start(self, slot: int) -> None:
        self._lives[slot] += 1
        log = str(self.folder / f"{slot}.log")
        process = _FORKS.Process(target=write, args=(self.address, log, slot, self._lives[slot]), daemon=True)
        process.start()
        self._writers[slot] = process

    def _kill(self, slot: int) -> None:
        process = self._writers.pop(slot)
        if process.exitcode is not None:
            raise AssertionError(f"writer {slot} ended by itself with {process.exitcode}")
        process.kill()
        process.join(30)
        self.counts["kills"] += 1

    def faults(self) -> list[str]:
        """Compare the database with the notes of the writers, and return what is wrong."""
        time.sleep(TTL + 0.6)  # what is in transit is applied, and what expires has expired
        notes = read_notes(self.folder)
        check = Check(self.address, notes)
        if self.server is not None:
            self.server.stop()
        with closing(open_to_serve(self.database, Plans())) as store:
            corrected = store.recount(NAMESPACE)
        problems = check_file(self.folder / "memory.db").problems if self.kind != "postgres" else []
        for item in notes:
            self.counts[{"ok": "acknowledged", None: "in flight"}.get(item.outcome, item.outcome)] += 1
            if item.is_done:
                self.counts[f"{item.op} acknowledged"] += 1
        self.counts |= {"lost": 0, "damaged": 0, **check.counts}
        return [*check.faults, *(f"counted wrongly: {line}" for line in corrected), *problems]


def main(seconds: str, seed: str, *kinds: str) -> int:
    """Run a drill over each kind of database."""
    found = []
    for kind in kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder, Drill(Path(folder), kind, int(seed)) as drill:
            drill.run(float(seconds))
            faults = drill.faults()
            print(kind, dict(drill.counts), *faults, sep="\n", flush=True)
            found += faults
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
