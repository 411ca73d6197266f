"""The pool of connections: no thread waits for itself, and a fork finds every connection at rest."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import threading
import time
import weakref
from pathlib import Path

import apsw
import pytest

import botwire.stores
from botwire import Memory, StoreError, Unavailable, forks
from botwire.forks import FORK_WAIT
from botwire.operations import Put
from botwire.queries import GetEntry
from botwire.stores.engine import pool as module
from botwire.stores.engine.pool import Connections, SharedConnection
from botwire.stores.sqlite.store import SqliteStore
from tests.unit.stores.engine.ctrl_c import strikes


class Connection:
    closed = False

    def close(self):
        self.closed = True


def started(kind):
    pool = kind(Connection, on_fork=lambda: None)
    pool.start()
    return pool


@pytest.fixture
def shared():
    """The pool of a store in memory: one connection for all threads."""
    pool = started(SharedConnection)
    yield pool
    pool.close()  # or each fork in a later test would wait for the connection that a test has kept


@pytest.fixture
def own_stores(monkeypatch):
    """A fork waits for the stores of this test only. Ctrl-C in an earlier test may have left a connection of its store in use."""
    others = {number: ref for number, ref in forks._registered.items() if not isinstance(ref(), Connections)}
    monkeypatch.setattr(forks, "_registered", others)


def in_thread(act):
    """Start a thread; return what waits for its result."""
    found = []

    def run():
        try:
            found.append(act())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(20)
        assert found, "the thread still waits"
        return found[0]

    return result


def waiting(pool, count):
    deadline = time.monotonic() + 10
    while len(pool._waiting) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_handler_that_interrupts_the_borrower_is_refused(shared):
    def act():
        connection = shared.take()
        with pytest.raises(Unavailable, match="signal handler or a finalizer"):
            shared.take()
        shared.give(connection)
        return shared.take()

    assert isinstance(in_thread(act)(), Connection)


def test_a_handler_that_interrupts_the_wait_is_refused(shared):
    """The connection goes to the first in line: that is the call which the handler interrupted."""
    connection = shared.take()
    refused = []

    def act():
        waiter = module._Waiter(threading.get_ident())
        waiter.called = _Interrupted(waiter.called, lambda: refused.append(attempt(shared.take)))
        return shared._wait(waiter, -1)

    result = in_thread(act)
    waiting(shared, 1)
    deadline = time.monotonic() + 10
    while not refused:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    shared.give(connection)
    assert result() is connection
    assert [type(error) for error in refused] == [Unavailable]


class _Interrupted:
    """A lock whose first `acquire` is interrupted, as by a signal."""

    def __init__(self, lock, handler):
        self._lock, self._handler, self.release = lock, handler, lock.release

    def acquire(self, timeout):
        self._handler()
        return self._lock.acquire(timeout=timeout)


def attempt(act):
    try:
        return act()
    except Exception as error:
        return error


def test_ctrl_c_that_ends_a_wait_leaves_the_connection_to_the_next(shared):
    connection = shared.take()

    def struck():
        raise KeyboardInterrupt

    def act():
        waiter = module._Waiter(threading.get_ident())
        waiter.called = _Interrupted(waiter.called, struck)
        try:
            shared._wait(waiter, -1)
        except KeyboardInterrupt:
            shared._leave(waiter)

    in_thread(act)()
    next_one = in_thread(shared.take)
    waiting(shared, 1)
    shared.give(connection)
    assert next_one() is connection


def test_closing_ends_every_wait(shared):
    connection = shared.take()
    waiters = [in_thread(shared.take) for _ in range(3)]
    waiting(shared, 3)
    shared.close()
    assert [type(waiter()) for waiter in waiters] == [StoreError] * 3
    assert not connection.closed
    shared.give(connection)
    assert connection.closed


def test_the_turns_are_first_come_first_served(shared):
    connection, order = shared.take(), []

    def take(number):
        def act():
            found = shared.take()
            order.append(number)
            shared.give(found)

        return act

    results = []
    for number in range(5):
        results.append(in_thread(take(number)))
        waiting(shared, number + 1)
    shared.give(connection)
    for result in results:
        result()
    assert order == list(range(5))


def test_a_fork_of_a_store_in_memory_waits_for_the_thread_that_uses_it(own_stores):
    """Otherwise every call in the child would wait for a thread that does not exist there."""
    with Memory("n", "sqlite:///:memory:") as memory:
        memory.set("k", 1)
        stop = threading.Event()

        def write():
            while not stop.is_set():
                memory.increment("count")

        thread = threading.Thread(target=write)
        thread.start()
        try:
            fork = multiprocessing.get_context("fork")
            children = [fork.Process(target=lambda: memory.increment("k")) for _ in range(10)]
            for child in children:
                child.start()
            for child in children:
                child.join(20)
            assert [child.exitcode for child in children] == [0] * 10
        finally:
            stop.set()
            thread.join(10)
            for child in children:
                child.kill()


def test_a_fork_waits_once_for_all_stores(own_stores, monkeypatch, caplog):
    monkeypatch.setattr(forks, "FORK_WAIT", 0.2)
    pools = [started(SharedConnection) for _ in range(5)]
    for pool in pools:
        in_thread(pool.take)()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert time.monotonic() - start < 0.8
    assert len(caplog.records) == 5
    for pool in pools:
        pool.close()


def test_a_pool_that_is_dropped_is_not_kept_by_its_registration():
    kept = [weakref.ref(started(kind)) for kind in (Connections, SharedConnection)]
    assert [ref() for ref in kept] == [None, None]


def test_a_fork_that_cannot_wait_any_longer_says_so(caplog):
    pool = started(Connections)
    borrowed = pool.take()
    with caplog.at_level(logging.WARNING, "botwire"):
        pool.before_fork(time.monotonic() + 0.01)
        pool.after_fork()
    assert "1 connection to the store stayed in use" in caplog.text
    pool.give(borrowed)


# Ctrl-C

STRUCK = (str(Path(botwire.stores.__file__).parent), contextlib.__file__)
USES = {
    "read": lambda store: store.read("n", GetEntry("key")),
    "write": lambda store: store.write("n", [Put("key", "1")]),
    "peek": lambda store: store.peek_version("n"),
}


@pytest.fixture
def quick_collections(monkeypatch):
    monkeypatch.setattr(module, "_COLLECT_AFTER", 0.005)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("use", USES)
def test_ctrl_c_anywhere_leaves_no_connection_in_use(own_stores, quick_collections, tmp_path, caplog, use):
    """A fork neither waits for a connection that Ctrl-C has lost nor carries it into the child."""
    store = SqliteStore(tmp_path / "a.db")
    USES[use](store)
    count = 0
    for count in strikes(STRUCK, lambda: USES[use](store), keep=False):
        start = time.monotonic()
        assert open_in_child(tmp_path) == 0, count
        assert time.monotonic() - start < FORK_WAIT, count  # of a lost connection it would wait so long
        assert not caplog.records, count
        USES[use](store)
    assert count >= 5
    store.close()


def open_in_child(folder):
    """Fork; return how many connections to files of a folder are open in the child."""
    child = os.fork()
    if child == 0:
        os._exit(sum(connection.filename.startswith(str(folder)) for connection in apsw.connections()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
