"""The store as a server has it: rows do not gather where the event loop has not taken them."""

from __future__ import annotations

import asyncio
import threading
import time

from botwire.operations import Put
from botwire.queries import GetEntry
from botwire.stores.postgres.pool import CONNECTIONS
from botwire.stores.postgres.served import ServedPostgresStore
from botwire.stores.postgres.store import PostgresStore


class Counting(PostgresStore):
    """A store that counts its reads."""

    def read(self, namespace, query, *, guard=None):
        found = super().read(namespace, query, guard=guard)
        with self.lock:
            self.done += 1
        return found


def test_a_busy_event_loop_holds_up_reads(postgres):
    store = ServedPostgresStore(Counting(postgres))
    store.store.lock, store.store.done = threading.Lock(), 0

    async def main():
        await store.write("n", [Put("k", '"v"')])
        reads = [asyncio.ensure_future(store.read("n", GetEntry("k"))) for _ in range(5 * CONNECTIONS)]
        await asyncio.sleep(0)
        end = time.monotonic() + 1
        while time.monotonic() < end and store.store.done <= CONNECTIONS:
            time.sleep(0.01)  # noqa: ASYNC251 - the event loop is busy
        assert store.store.done <= CONNECTIONS
        assert {entry.value for entry in await asyncio.gather(*reads)} == {"v"}
        assert store.store.done == 5 * CONNECTIONS

    asyncio.run(main())
    store.store.close()


class Held(PostgresStore):
    """A store whose reads of one namespace take until they are released."""

    def read(self, namespace, query, *, guard=None):
        if namespace == "many":
            self.released.wait(30)
        return super().read(namespace, query, guard=guard)


def test_one_namespace_leaves_connections_to_others(postgres):
    store = ServedPostgresStore(Held(postgres))
    store.store.released = threading.Event()

    async def main():
        await store.write("n", [Put("k", '"v"')])
        many = [asyncio.ensure_future(store.read("many", GetEntry("k"))) for _ in range(5 * CONNECTIONS)]
        await asyncio.sleep(0.1)
        try:
            found = await asyncio.wait_for(store.read("n", GetEntry("k")), 20)
        finally:
            store.store.released.set()
        assert found.value == "v"
        assert await asyncio.gather(*many) == [None] * 5 * CONNECTIONS

    asyncio.run(main())
    store.store.close()
