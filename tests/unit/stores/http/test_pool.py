"""A store has a limited number of connections. Callers wait for one, and nothing that interrupts them takes one away."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from botwire import AsyncMemory, Memory, Timeout
from botwire.bridge import blocking
from botwire.deadline import Deadline
from botwire.operations import Put
from botwire.stores.http import pool as pool_module
from botwire.stores.http.connection import LoopConnection, ThreadConnection
from botwire.stores.http.messages import Request
from botwire.stores.http.origin import Origin
from botwire.stores.http.pool import MAX_CONNECTIONS, ThreadPool
from botwire.stores.http.store import AsyncHttpStore, HttpStore
from botwire.stores.http.transport import Call, Transport
from botwire.timestamps import new_id
from tests.servers import Server
from tests.unit.stores.http.peers import OK, Peer, head_of

GET = Request("GET", "/x")
acquire = blocking(ThreadPool.acquire)


def send(transport, deadline):
    return blocking(Transport.send)(transport, GET, ThreadConnection, deadline)


def send_async(transport, deadline):
    return transport.send(GET, LoopConnection, deadline)


@pytest.fixture
def few(monkeypatch):
    """Let stores have four connections."""
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 4)
    return 4


def test_many_threads(listening):
    peer = listening(Peer(answer=OK, pause=0.005))
    transport = Transport(Origin(peer.url, {}))
    with closing(transport), ThreadPoolExecutor(3 * MAX_CONNECTIONS) as threads:
        for response in threads.map(lambda _: send(transport, Deadline.after(30)), range(600)):
            assert response.status == 200
    assert peer.most <= MAX_CONNECTIONS


def test_many_awaited_calls(listening):
    peer = listening(Peer(answer=OK, pause=0.005))

    async def run():
        transport = Transport(Origin(peer.url, {}))
        responses = await asyncio.gather(*(send_async(transport, Deadline.after(30)) for _ in range(600)))
        transport.close()
        return responses

    assert {response.status for response in asyncio.run(run())} == {200}
    assert peer.most <= MAX_CONNECTIONS


def test_many_calls_at_a_server_that_takes_few_connections(tmp_path):
    """The server answers connections beyond its limit with 503 and closes them. Two loops and many threads call it at once."""

    def awaited(loop):
        async def gather():
            async with AsyncMemory("n", server.url, timeout=60) as memory:
                await asyncio.gather(*(memory.set(f"{loop}/{number}", number) for number in range(200)))

        asyncio.run(gather())

    def blocking():
        with Memory("n", server.url, timeout=60) as memory, ThreadPoolExecutor(100) as threads:
            list(threads.map(lambda number: memory.set(f"thread/{number}", number), range(200)))

    with Server(tmp_path / "server.db", "--max-connections", "20") as server:
        with ThreadPoolExecutor(3) as callers:
            for done in [callers.submit(awaited, 1), callers.submit(awaited, 2), callers.submit(blocking)]:
                done.result()
        with Memory("n", server.url, timeout=60) as memory:
            assert len(memory.list_keys()) == 600


class Crowded(Peer):
    """A server that serves few connections at once, and refuses the others as botwire's does."""

    def __init__(self):
        self.room, self.refused = 8, 0
        self.awaited = 0
        """How many connections it waits for before it answers."""
        super().__init__(answer=OK, pause=0.001)

    def talk(self, connection):
        if self.now <= self.room:
            end = time.monotonic() + 10
            while self.now < self.awaited and time.monotonic() < end:
                time.sleep(0.01)
            super().talk(connection)
        elif head_of(connection):
            self.refused += 1
            connection.sendall(BUSY)


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("awaited", [False, True])
def test_few_connections_are_opened_that_the_server_refuses(listening, awaited):
    peer, calls = listening(Crowded()), 1_500

    def get(transport, kind):
        return Call(transport, kind, 60, None).ask(GET)

    async def gather():
        await asyncio.gather(*(get(transport, LoopConnection) for _ in range(calls)))

    with closing(Transport(Origin(peer.url, {}))) as transport:
        if awaited:
            asyncio.run(gather())
        else:
            with ThreadPoolExecutor(100) as threads:
                list(threads.map(lambda _: blocking(get)(transport, ThreadConnection), range(calls)))
    assert peer.refused < calls / 4


def test_refused_connections_are_tried_again_later(listening, monkeypatch):
    """Once the server has room, all connections are used again."""
    monkeypatch.setattr(pool_module, "HELD_SECONDS", 0.001)
    peer = listening(Crowded())

    async def gather(transport):
        async def get():
            return await Call(transport, LoopConnection, 60, None).ask(GET)

        await asyncio.gather(*(get() for _ in range(200)))
        await asyncio.sleep(0.2)
        transport._pool_of_loop().close_idle()
        while peer.now:
            await asyncio.sleep(0.01)
        peer.room, peer.awaited = 1_000, MAX_CONNECTIONS
        await asyncio.gather(*(get() for _ in range(200)))

    with closing(Transport(Origin(peer.url, {}))) as transport:
        asyncio.run(gather(transport))
    assert peer.most == MAX_CONNECTIONS


def test_calls_get_their_connections_in_order(listening, monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    peer = listening(Peer(answer=OK))

    async def run():
        transport = Transport(Origin(peer.url, {}))
        requests = [Request("GET", f"/{number}") for number in range(50)]
        calls = [asyncio.create_task(transport.send(item, LoopConnection, Deadline.after(30))) for item in requests]
        await asyncio.sleep(0)
        calls[7].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        transport.close()

    asyncio.run(run())
    asked = [request.split()[1] for request in peer.requests]
    assert asked == [f"/base/{number}".encode() for number in range(50) if number != 7]


def test_a_watch_needs_no_free_connection(shared_server):
    with closing(HttpStore(shared_server.url)) as store, Memory(new_id(), store=store) as memory:
        memory.set("k", 1)
        permits = [acquire(store.transport._threads, Deadline.after(30)) for _ in range(MAX_CONNECTIONS)]
        with closing(memory.watch(after=0, wait=0)) as watch:
            assert [change.key for change in watch] == ["k"]
        for give_back in permits:
            give_back()


def test_waiting_ends_at_the_deadline(few, listening):
    peer = listening(Peer(answer=OK, pause=30))
    with closing(Transport(Origin(peer.url, {}))) as transport:
        for _ in range(few):
            threading.Thread(target=_quietly, args=(transport,), daemon=True).start()
        _until(lambda: peer.now == few)
        with pytest.raises(TimeoutError, match="connections were in use"):
            send(transport, Deadline.after(0.2))
    assert peer.connections == few


def _quietly(transport):
    with suppress(OSError):
        send(transport, Deadline.after(2))


def _until(is_true):
    end = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_error_says_that_no_connection_was_free(few, listening):
    peer = listening(Peer(answer=OK, pause=30))

    async def run():
        store = HttpStore(peer.url, timeout=0.3)
        busy = [asyncio.ensure_future(send_async(store.transport, Deadline.after(30))) for _ in range(few)]
        while peer.now < few:
            await asyncio.sleep(0.01)
        with pytest.raises(Timeout, match=f"within 0.3 s: all {MAX_CONNECTIONS} connections were in use$"):
            await AsyncHttpStore(store).write("n", [Put("k", "1")])
        for call in busy:
            call.cancel()
        store.close()

    asyncio.run(run())


def test_cancelled_calls_leave_their_connections(few, listening):
    peer = listening(Peer(answer=OK, pause=0.05))

    async def run():
        transport = Transport(Origin(peer.url, {}))
        for _ in range(5):
            tasks = [asyncio.create_task(send_async(transport, Deadline.after(30))) for _ in range(3 * few)]
            await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        responses = await asyncio.gather(*(send_async(transport, Deadline.after(30)) for _ in range(few)))
        transport.close()
        return responses

    assert len(asyncio.run(run())) == few


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a socket lost between two steps closes itself
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt may strike in a callback
def test_an_interrupt_leaves_the_pool_usable(few, listening, monkeypatch):
    """Interrupts strike at any step of a call; afterwards all permits are there."""
    # pytest would keep the frames of a callback that was interrupted, and these the permit of its caller.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    peer = listening(Peer(answer=OK))
    transport = Transport(Origin(peer.url, {}))
    interrupted = 0
    armed = set()

    def interrupt(*_):
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(400):
            try:
                armed.add(True)
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 50 * 0.00002)
                for _ in range(5):
                    send(transport, Deadline.after(30))
                armed.clear()
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    gc.collect()  # frames of interrupted calls, which hold permits, may be in cycles
    permits = [acquire(transport._threads, Deadline.after(1)) for _ in range(few)]
    with pytest.raises(TimeoutError):
        acquire(transport._threads, Deadline.after(0.01))
    del permits
    assert send(transport, Deadline.after(30)).status == 200
    transport.close()


def test_a_permit_that_is_lost_comes_back(few):
    """However it was lost, and to a caller that waits already."""
    pool = ThreadPool()
    for _ in range(3 * few):
        acquire(pool, Deadline.after(1))
    permits = [acquire(pool, Deadline.after(1)) for _ in range(few)]
    with pytest.raises(TimeoutError):
        acquire(pool, Deadline.after(0.3))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(acquire, pool, Deadline.after(30))
        time.sleep(0.2)
        permits.pop()
        permits.append(waiting.result(10))
    with pytest.raises(TimeoutError):
        acquire(pool, Deadline.after(0.01))


def test_a_permit_that_is_lost_before_anyone_took_it_comes_back(few):
    """An interrupt strikes after a permit was taken out of the queue, or before it was put there."""
    pool = ThreadPool()
    for _ in range(few):
        pool._free.get_nowait()
    pool._permits.pop()
    permits = [acquire(pool, Deadline.after(1)) for _ in range(few)]
    assert len(permits) == few


def test_a_call_from_a_signal_handler_while_lost_permits_are_replaced(few, monkeypatch):
    """The handler runs in the thread that holds the lock, and there are never more permits than allowed."""
    pool = ThreadPool()
    real = pool_module._Permit

    def permit():
        monkeypatch.setattr(pool_module, "_Permit", real)
        pool._replace_lost()
        return real()

    for _ in range(few):
        acquire(pool, Deadline.after(1))
    monkeypatch.setattr(pool_module, "_Permit", permit)
    permits = [acquire(pool, Deadline.after(1)) for _ in range(few)]
    assert len(permits) == few
    with pytest.raises(TimeoutError):
        acquire(pool, Deadline.after(0.01))


def test_permits_do_not_keep_a_pool_alive():
    pool = ThreadPool()
    release = acquire(pool, Deadline.after(1))
    ended = weakref.ref(pool)
    gc.disable()  # without the garbage collector: nothing in a pool refers to it
    try:
        del pool
        assert ended() is None
    finally:
        gc.enable()
    release()


def test_closed_stores_are_not_kept_for_a_fork(listening):
    """A transport is registered for forks, and forgotten when its store is."""
    store = HttpStore(listening(Peer(answer=OK)).url)
    transport = weakref.ref(store.transport)
    store.close()
    del store
    gc.collect()
    assert transport() is None


def test_a_fork_while_every_connection_is_in_use(few, listening):
    """The child has none of the parent's connections, and all permits."""
    peer = listening(Peer(answer=OK, pause=0.5))
    transport = Transport(Origin(peer.url, {}))
    send(transport, Deadline.after(30))
    threads = [threading.Thread(target=_quietly, args=(transport,)) for _ in range(few)]
    for thread in threads:
        thread.start()
    _until(lambda: peer.now == few)
    child = os.fork()
    if not child:
        try:
            code = 0 if send(transport, Deadline.after(30)).status == 200 else 1
            os._exit(code)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    for thread in threads:
        thread.join()
    assert send(transport, Deadline.after(30)).status == 200
    transport.close()
