"""Leases: stores that memories share, opened off the event loop and closed where nothing can wait for it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from contextlib import closing

import pytest

import botwire
from botwire import AsyncMemory, InvalidArgument, Memory, StoreError, Unavailable
from botwire import stores as botwire_stores
from botwire.queries import ListKeys
from botwire.store import Store
from botwire.stores import open_store
from botwire.stores.sqlite.store import SqliteStore
from tests.certificates import write_certificate
from tests.servers import Server


class Wrapping(Store):
    """A store from outside the package, with no side for event loops."""

    def __init__(self, path):
        self._store = SqliteStore(path)

    @property
    def address(self):
        return "wrapping:"

    def read(self, namespace, query):
        return self._store.read(namespace, query)

    def write(self, namespace, operations, *, idempotency_key=None):
        return self._store.write(namespace, operations, idempotency_key=idempotency_key)

    def changes(self, namespace, query):
        return self._store.changes(namespace, query)

    def close(self):
        self._store.close()


def test_a_store_of_the_caller(tmp_path):
    store = Wrapping(tmp_path / "botwire.db")
    with Memory("n", store=store) as memory:
        memory["k"] = 1

    async def awaited():
        async with AsyncMemory("n", store=store) as memory:
            assert await memory.get("k") == 1
            async with memory.watch(wait=5) as changes:
                await memory.set("k", 2)
                assert (await anext(changes)).value == 2

    asyncio.run(awaited())
    assert Memory("n", store=store)["k"] == 2, "a memory does not close it"
    with pytest.raises(InvalidArgument, match="either store= or url="):
        Memory("n", "sqlite:///:memory:", store=store)
    store.close()


def test_a_finalizer_during_a_lease_does_not_close_its_store(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/botwire.db"
    first = Memory("n", url)
    first["k"] = 1

    class Collecting(dict):
        def setdefault(self, *args):
            found = super().setdefault(*args)
            first._release()
            return found

    shared = botwire_stores._SHARED
    monkeypatch.setattr(shared, "_stores", Collecting(shared._stores))
    assert Memory("n", url)["k"] == 1


def test_a_collected_memory_closes_its_store_soon(tmp_path):
    memory = Memory("n", f"sqlite:///{tmp_path}/botwire.db")
    memory["k"] = 1
    memory.me = memory
    store = memory.bridge.store
    del memory
    gc.collect()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            store.read("n", ListKeys())
        except StoreError:
            return
        time.sleep(0.01)
    raise AssertionError("it is still open")


def test_making_a_memory_on_an_event_loop_opens_nothing(tmp_path):
    path = tmp_path / "botwire.db"

    async def awaited():
        memory, blocking = AsyncMemory("n", f"sqlite:///{path}"), Memory("n", f"sqlite:///{path}")
        assert memory.address == blocking.address == f"sqlite:///{path}"
        assert not path.exists()
        await asyncio.gather(*(memory.set(str(number), number) for number in range(5)))
        assert await AsyncMemory.of(blocking).length() == 5
        await memory.close()
        lost = AsyncMemory("n", f"sqlite:///{tmp_path}/missing/botwire.db")
        with pytest.raises(StoreError):
            await lost.get("k")

    asyncio.run(awaited())


def test_a_forked_child_leases_again(tmp_path):
    url = f"sqlite:///{tmp_path}/botwire.db"
    memory = Memory("n", url)
    memory["k"] = 1
    child = os.fork()
    if child == 0:
        os._exit(0 if Memory("n", url)["k"] == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_fork_while_another_thread_opens_a_store(tmp_path, monkeypatch):
    """The child has none of the locks that the thread held."""
    url = f"sqlite:///{tmp_path}/botwire.db"
    opening, go = threading.Event(), threading.Event()
    open_store = botwire_stores.open_store

    def slow(*args, **kwargs):
        opening.set()
        go.wait(20)
        return open_store(*args, **kwargs)

    lease = botwire_stores.Lease(url)
    monkeypatch.setattr(botwire_stores, "open_store", slow)
    thread = threading.Thread(target=lease.store)
    thread.start()
    opening.wait(20)
    child = os.fork()
    if child == 0:
        go.set()
        opened = []
        again = threading.Thread(target=lambda: opened.append(lease.store()), daemon=True)
        again.start()
        again.join(10)
        os._exit(0 if opened else 1)
    go.set()
    thread.join(20)
    assert os.waitpid(child, 0)[1] == 0
    lease.release()


@pytest.fixture
def tls_server(tmp_path):
    certificate, key = write_certificate(tmp_path)
    with Server(tmp_path / "a.db", "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        yield server.url.replace("http://", "https://"), certificate


def test_a_certificate_authority(tls_server, tmp_path, monkeypatch):
    url, certificate = tls_server
    with Memory("n", url, ca=certificate) as memory:
        memory["k"] = 1
    with closing(open_store(url, ca=str(certificate))) as store:
        assert store.read("n", ListKeys()) == ["k"]

    async def awaited():
        async with AsyncMemory("n", url, ca=certificate) as memory:
            return await memory.get("k")

    assert asyncio.run(awaited()) == 1
    history = botwire.BotWireChatHistory("s", url=url, ca=certificate)
    assert history.messages == []
    with pytest.raises(Unavailable, match="certificate"), Memory("n", url, timeout=1) as untrusting:
        untrusting.get("k")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(InvalidArgument, match=r"empty\.pem"):
        Memory("n", url, ca=tmp_path / "empty.pem")


@pytest.mark.parametrize("url", [None, "sqlite:///:memory:", "postgresql://host/db"])
def test_a_certificate_authority_is_for_servers(url):
    for cls in (Memory, AsyncMemory):
        with pytest.raises(InvalidArgument, match="ca is for the address of a server"):
            cls("n", url, ca="ca.pem")
    with pytest.raises(InvalidArgument, match="ca is for the address of a server"):
        open_store(url, ca="ca.pem")
    with pytest.raises(InvalidArgument, match="ca is the path"):
        Memory("n", "https://localhost:1", ca=["ca.pem"])


def test_memories_with_different_authorities_share_nothing(tls_server, tmp_path):
    url, certificate = tls_server
    copy = tmp_path / "copy.pem"
    copy.write_bytes(certificate.read_bytes())
    with Memory("n", url, ca=certificate) as one, Memory("n", url, ca=copy) as two, Memory("n", url, ca=copy) as three:
        assert one._lease._share is not two._lease._share
        assert two._lease._share is three._lease._share
