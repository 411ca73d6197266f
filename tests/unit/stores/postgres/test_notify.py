"""Watchers on PostgreSQL are notified by NOTIFY, and find changes by polling when a notification is lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from botwire.operations import Increment, Put
from botwire.queries import ListChanges
from botwire.stores import async_store
from botwire.stores.postgres.notify import Listener, channel_of
from botwire.stores.postgres.store import PostgresStore
from tests.cutter import Cutter

LISTENERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND mode = 'ShareLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"


@pytest.fixture
def admin(postgres):
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


@pytest.fixture
def stores(postgres):
    writer, watcher = PostgresStore(postgres), PostgresStore(postgres)
    yield writer, watcher
    watcher.close()
    writer.close()


@pytest.fixture
def seldom(monkeypatch):
    """A watcher that listens polls so seldom that it finds a change sooner only by a notification."""
    pause = Listener.pause
    monkeypatch.setattr(Listener, "pause", lambda self, idle: 30.0 if self.is_listening else pause(self, idle))


def until(condition, what):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def listening(store):
    """Wait until a store listens, and its first polls are done."""
    until(lambda: store.listener.is_listening, "the store does not listen")
    time.sleep(0.1)


def test_a_waiting_thread_is_notified_at_once(stores, seldom):
    writer, watcher = stores
    with closing(watcher.changes("n", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
        took = []
        for number in range(6):
            waiting = threads.submit(lambda: (feed.next(20).changes, time.monotonic()))
            listening(watcher)
            writer.write("n", [Put(f"k{number}", "1")])
            written = time.monotonic()
            ((change,), seen) = waiting.result()
            assert change.key == f"k{number}"
            took.append(seen - written)
    assert statistics.median(took) < 0.1


def test_waiting_tasks_are_notified_at_once(stores, seldom):
    """Each task is notified of its own namespace only."""
    writer, watcher = stores
    names = [f"n{number}" for number in range(20)]

    async def main():
        store = async_store(watcher)
        feeds = [store.changes(name, ListChanges(0)) for name in names]
        waiting = [asyncio.create_task(feed.next(20)) for feed in feeds]
        await asyncio.to_thread(listening, watcher)
        reads, took = counted(watcher), []
        for name, task in zip(names[:-1], waiting[:-1], strict=True):
            await asyncio.to_thread(writer.write, name, [Put("k", f'"{name}"')])
            written = time.monotonic()
            (change,) = (await task).changes
            took.append(time.monotonic() - written)
            assert change.value == name
        assert statistics.median(took) < 0.1
        assert not waiting[-1].done()
        assert len(reads) < 4 * len(names)
        waiting[-1].cancel()

    asyncio.run(main())


def counted(store):
    """Return a list that grows with each read of a store."""
    reads, read = [], store.read

    def reading(*arguments, **options):
        reads.append(arguments)
        return read(*arguments, **options)

    store.read = reading
    return reads


def test_an_expiry_is_delivered_when_it_happens(stores, seldom):
    writer, watcher = stores
    for name in "n", "m":
        writer.write(name, [Put("k", "1", ttl=0.7), Put("l", "1", ttl=60.0)])
    begun = time.monotonic()

    def seen(found):
        assert [(change.kind, change.key) for change in found.changes] == [("expire", "k")]
        return time.monotonic() - begun

    async def follow():
        return seen(await async_store(watcher).changes("m", ListChanges(2)).next(25))

    with closing(watcher.changes("n", ListChanges(2))) as feed, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: seen(feed.next(25)))
        assert 0.6 < asyncio.run(follow()) < 25  # the next look at the database would come after 30 s
        assert 0.6 < waiting.result() < 25


def test_writers_notify_only_while_a_process_listens(stores, admin):
    """One notification is for all writes of some milliseconds, and is sent outside of the commits."""
    writer, watcher = stores
    admin.execute("LISTEN botwire")

    def notified(seconds):
        return [note.payload.split() for note in admin.notifies(timeout=seconds)]

    for number in range(50):
        writer.write(f"n{number % 5}", [Increment("k")])
    assert notified(0.1) == []
    with closing(watcher.changes("other", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(feed.next, 20)
        listening(watcher)
        begun = time.monotonic()
        for number in range(100):
            writer.write(f"n{number % 5}", [Increment("k")])
        took = time.monotonic() - begun
        channels = notified(0.2)
        assert 1 <= len(channels) <= took / 0.02 + 2
        assert {channel for some in channels for channel in some} == {channel_of(f"n{number}") for number in range(5)}
        feed.close()
        waiting.result(1)


def test_a_repeatedly_disconnected_listener_misses_nothing(stores, admin):
    writer, watcher = stores
    count = 150

    def write():
        for _ in range(count):
            writer.write("n", [Increment("k")])
            time.sleep(0.005)

    with closing(watcher.changes("n", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
        writing, seen, thrown = threads.submit(write), 0, set()
        while seen < count:
            for change in feed.next(5).changes:
                assert change.value > seen
                seen = change.value
            for (pid,) in admin.execute(LISTENERS).fetchall():
                admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
                thrown.add(pid)
        writing.result()
        assert len(thrown) > 3
        waiting = threads.submit(feed.next, 20)
        listening(watcher)  # again
        assert not {pid for (pid,) in admin.execute(LISTENERS)} & thrown
        writer.write("n", [Put("k", "1")])
        assert waiting.result().changes


def test_a_lost_notification_delays_a_change_by_a_second(stores, monkeypatch):
    writer, watcher = stores
    monkeypatch.setattr(writer._notifier, "_send", lambda _: None)
    with closing(watcher.changes("n", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(feed.next, 20)
        listening(watcher)
        time.sleep(0.4)
        writer.write("n", [Put("k", "1")])
        written = time.monotonic()
        assert waiting.result().changes
        assert time.monotonic() - written < 1.2


def test_a_watcher_polls_through_a_pooler(postgres, admin):
    """A pooler lends another session to each transaction, so notifications do not arrive. The process id reveals it."""
    if not psycopg.conninfo.conninfo_to_dict(postgres).get("host", "").startswith("/"):
        pytest.skip("the proxy speaks to a Unix socket")
    with closing(Pooler(postgres)) as pooler, closing(PostgresStore(pooler.address(postgres))) as store:
        with closing(store.changes("n", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(feed.next, 20)
            until(lambda: store.listener._is_pooled, "the pooler is not detected")
            time.sleep(0.3)
            assert admin.execute(LISTENERS).fetchall() == []
            store.write("n", [Put("k", "1")])
            written = time.monotonic()
            assert waiting.result().changes
            assert time.monotonic() - written < 0.5


class Pooler(Cutter):
    """Reports another process id than that of the process that serves the client."""

    def _changed(self, data):
        before, key, after = data.partition(b"K\0\0\0\x0c")
        return before + key + (b"\0\0\0\x01" + after[4:] if key else after)


def test_a_listening_connection_exists_only_while_there_are_watchers(stores, admin, monkeypatch):
    monkeypatch.setattr("botwire.stores.postgres.notify.LINGER", 0.1)
    writer, watcher = stores
    with closing(watcher.changes("n", ListChanges(0))) as feed:
        assert feed.next(0).changes == []
        assert not watcher.listener.is_listening  # a feed that does not wait needs no connection
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(feed.next, None)
            listening(watcher)
            assert len(admin.execute(LISTENERS).fetchall()) == 1
            feed.close()
            waiting.result(1)
    until(lambda: not admin.execute(LISTENERS).fetchall(), "the connection stays open")
    with closing(watcher.changes("n", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(feed.next, 20)
        listening(watcher)  # again
        writer.write("n", [Put("k", "1")])
        assert waiting.result().changes


def test_closing_does_not_wait(stores, admin):
    _, watcher = stores
    with closing(watcher.changes("n", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(feed.next, 20)
        listening(watcher)
        begun = time.monotonic()
        watcher.close()
        assert time.monotonic() - begun < 0.5
        assert "botwire-listen" not in [thread.name for thread in threading.enumerate()]
        until(lambda: not admin.execute(LISTENERS).fetchall(), "the connection stays open")
        feed.close()
        assert waiting.exception(1) is None or "closed" in str(waiting.exception())


def test_a_fork_leaves_the_connection_to_the_parent(stores, admin, seldom):
    writer, watcher = stores

    def watch_in_the_child():
        with closing(watcher.changes("n", ListChanges())) as feed, ThreadPoolExecutor(1) as threads:
            feed.begin()
            waiting = threads.submit(feed.next, 10)
            listening(watcher)
            watcher.write("n", [Put("child", "1")])
            assert waiting.result().changes[0].key == "child"
        watcher.close()

    with closing(watcher.changes("n", ListChanges(0))) as feed, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(feed.next, 20)
        listening(watcher)
        before = admin.execute(LISTENERS).fetchall()
        child = multiprocessing.get_context("fork").Process(target=watch_in_the_child)
        child.start()
        assert waiting.result().changes[0].key == "child"
        child.join(10)
        assert child.exitcode == 0
        until(
            lambda: admin.execute(LISTENERS).fetchall() == before,
            "the parent's connection changed, or the child's stays open",
        )
        waiting = threads.submit(feed.next, 20)
        time.sleep(0.1)
        writer.write("n", [Put("parent", "1")])
        assert waiting.result(2).changes[0].key == "parent"
