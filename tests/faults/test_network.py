"""On a network that cuts, duplicates and delays data, no write is lost or applied twice and no call exceeds its timeout."""

from __future__ import annotations

import asyncio
import collections
import random
import socket
import threading
import time

import pytest

from botwire import AsyncMemory, Conflict, Memory, Timeout, Unavailable
from tests.faults.scale import Lateness, rounds
from tests.proxy import Proxy

FAULTS = ["cut before", "cut inside", "cut after", "reset", "half", "twice", "again", "delay", "drip"]
ROUNDS = rounds(40, 1_000)


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


def test_no_write_is_lost_or_applied_twice(proxy):
    for fault in FAULTS:
        each_kind_of_write(Memory(fault, proxy.url), proxy, fault)


def each_kind_of_write(memory, proxy, fault):
    history = memory.history("one")
    proxy.plan = [fault]
    assert memory.increment("count") == 1
    proxy.plan = [fault]
    assert history.append(["a", "b"]) == [1, 2]
    proxy.plan = [fault]
    version = memory.set("k", "v", if_version=0)
    assert memory.entry("k").version == version
    proxy.plan = [fault]
    with pytest.raises(Conflict):
        memory.set("k", "w", if_version=0)
    proxy.plan = [fault]
    assert memory.delete("k") is True
    proxy.plan = [fault]
    assert memory.get("count") == 1
    assert [message.data for message in history.messages()] == ["a", "b"]
    proxy.plan = [fault]
    assert history.clear() == 2
    assert not proxy.plan


def test_a_retried_set_does_not_undo_a_later_set(proxy, server):
    """The server applies a set and its answer is lost. Another client sets the key before the retry arrives."""
    proxy.plan = ["cut after"]
    other = Memory("n", server.url)
    memory = Memory("n", proxy.url)
    inner = proxy._ask

    def ask(request, pause=0):
        answer = inner(request, pause)
        if proxy.requests == 1:
            other.set("k", "theirs")
        return answer

    proxy._ask = ask
    memory.set("k", "mine")
    assert proxy.requests == 2
    assert memory.get("k") == "theirs"


@pytest.mark.parametrize("remove", ["pop", "clear"])
def test_a_retried_append_does_not_restore_removed_messages(proxy, server, remove):
    """The server applies an append and its answer is lost. Another client removes the message before the retry arrives."""
    proxy.plan = ["cut after"]
    other, history = Memory("n", server.url).history("s"), Memory("n", proxy.url).history("s")
    inner = proxy._ask

    def ask(request, pause=0):
        answer = inner(request, pause)
        if proxy.requests == 1:
            assert getattr(other, remove)()
        return answer

    proxy._ask = ask
    assert history.append("mine") == [1]
    assert proxy.requests == 2
    assert history.messages() == []


def test_no_write_is_lost_with_many_faults_in_a_row(proxy, figures):
    rng, counts = random.Random(7), collections.Counter()
    memory = Memory("n", proxy.url, timeout=30)
    for number in range(ROUNDS):
        proxy.plan = rng.choices([*FAULTS, "pass"], k=rng.randrange(1, 4))
        counts += collections.Counter(proxy.plan)
        assert memory.increment("count") == number + 1
        assert memory.history("one").append([number]) == [number + 1]
    time.sleep(0.2)  # until repeated requests have arrived
    assert memory.get("count") == ROUNDS
    assert [message.data for message in memory.history("one").messages()] == list(range(ROUNDS))
    figures(writes=2 * ROUNDS, requests=proxy.requests, faults=dict(counts))


def test_no_write_is_lost_with_many_clients(proxy, server, figures):
    """Each client has its own faults. A write that timed out is stored completely or not at all."""
    rng = random.Random(8)
    proxy.plan = rng.choices([*FAULTS, "hang", "trickle", *["pass"] * 8], k=ROUNDS * 8)
    doubts, slowest = [], []

    def work(writer):
        memory, doubtful, longest = Memory("n", proxy.url, timeout=1), set(), 0.0
        for number in range(ROUNDS // 2):
            for write in (lambda: memory.history("one").append([[writer, number]]), lambda: memory.increment("count")):
                begun = time.monotonic()
                try:
                    write()
                except (Timeout, Unavailable):
                    doubtful.add(number)
                longest = max(longest, time.monotonic() - begun)
        doubts.append((writer, doubtful))
        slowest.append(longest)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(4)]
    with Lateness() as late:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(1000)
    time.sleep(0.3)
    memory = Memory("n", server.url)
    messages = memory.history("one").messages()
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    found = [tuple(message.data) for message in messages]
    assert len(set(found)) == len(found)
    certain = {(writer, number) for writer, doubtful in doubts for number in set(range(ROUNDS // 2)) - doubtful}
    assert len(doubts) == 4
    assert certain <= set(found)
    doubtful = sum(len(numbers) for _, numbers in doubts)
    assert len(certain) <= memory.get("count") <= len(certain) + doubtful
    assert max(slowest) < 1.3 + 2 * late.longest
    figures(
        writes=4 * ROUNDS,
        requests=proxy.requests,
        in_doubt=doubtful,
        longest_call_in_s=round(max(slowest), 2),
        of_it_the_machine=round(late.longest, 2),
    )


def test_no_async_write_is_lost_or_applied_twice(proxy):
    async def work():
        async with AsyncMemory("n", proxy.url) as memory:
            for number, fault in enumerate(FAULTS):
                proxy.plan = [fault]
                assert await memory.increment("count") == number + 1
                proxy.plan = [fault]
                assert await memory.history("one").append([number]) == [number + 1]

    asyncio.run(work())


@pytest.mark.parametrize("fault", ["trickle", "hang"])
def test_no_call_lasts_longer_than_its_timeout(proxy, fault):
    memory = Memory("n", proxy.url, timeout=0.5)
    memory.set("k", 1)
    proxy.plan = [fault]
    begun = time.monotonic()
    with pytest.raises(Timeout):
        memory.get("k")
    assert time.monotonic() - begun < 2
    assert memory.get("k") == 1

    async def work():
        async with AsyncMemory("n", proxy.url, timeout=0.5) as memory:
            proxy.plan = [fault]
            begun = time.monotonic()
            with pytest.raises(Timeout):
                await memory.get("k")
            assert time.monotonic() - begun < 2
            assert await memory.get("k") == 1

    asyncio.run(work())


def test_a_refused_connection_raises_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}.*Is the server running"):
        Memory("n", f"http://127.0.0.1:{port}", timeout=0.3).get("k")
    assert time.monotonic() - begun < 2


def test_a_peer_that_does_not_speak_http_raises_an_error():
    """The peer answers like a mail server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        with pytest.raises((Unavailable, Timeout)):
            Memory("n", f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.5).get("k")
        thread.join(10)


def test_connections_are_reopened_after_a_restart(server):
    """A restart closes the pooled connections. The client opens new ones without an error."""
    memory = Memory("n", server.url)
    memory.set("k", 1)
    server.stop()
    server.start()
    assert memory.get("k") == 1
    memory.set("k", 2)


def test_a_cancelled_call_releases_everything(server):
    async def work():
        async with AsyncMemory("n", server.url) as memory:
            for attempt in range(60):
                task = asyncio.create_task(memory.history("one").append([attempt]))
                await asyncio.sleep(random.uniform(0, 0.004))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await memory.set("k", 1)
            return [message.data for message in await memory.history("one").messages()]

    found = asyncio.run(work())
    assert found == sorted(set(found))
