"""Run a finalizer at every line of a store's code while one thread uses the store. Prints what the finalizers met.

Usage: ``python -m tests.unit.stores.engine.finalizers KIND ADDRESS ACT [STEP]``. KIND is ``threads``, ``loop``, ``served`` or ``watch``.
ACT is what the finalizer does: ``write``, ``read`` or ``close``. In a file or in memory, it runs at every STEPth line (every one by
default) that any thread runs. With PostgreSQL, which takes longer, it runs once at each line of the source in each sort of thread. If
any thread waits for itself, faulthandler ends the process and prints where each thread is.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import faulthandler
import gc
import itertools
import math
import sys
import threading
import time
from functools import partial
from pathlib import Path

import botwire.stores
from botwire import BotWireError, StoreError, Unavailable
from botwire.operations import Append, NewMessage, Put
from botwire.queries import GetEntry, GetProgress, ListChanges
from botwire.stores import open_store
from botwire.stores.engine import pool
from botwire.stores.sqlite.served import ServedSqliteStore

ROOT = Path(botwire.stores.__file__).parent
FOLDERS = tuple(str(ROOT / name) for name in ("engine", "sqlite", "postgres"))
WATCHING = tuple(str(ROOT / name) for name in ("engine/feeds.py", "postgres/notify.py", "postgres/connection.py"))
"""What is left for ``watch``. The other kinds of use run the other lines too."""
SECONDS = 5.0
"""How long one use of the store may take, with its finalizer. A thread that waits for itself waits until the timeout."""

PAUSE = 0.05
"""Seconds that a strike waits for the threads of the store: longer than `botwire-notify` pauses."""

pool._REENTRY_WAIT = 0.01


class Finalized:
    """An object in a cycle: only the garbage collector frees it, and runs its finalizer."""

    def __init__(self, act):
        self.act, self.me = act, self

    def __del__(self):
        self.act()


class Strike:
    """Collects a `Finalized` once, before a line of the store's code that is due, in the thread that runs this line."""

    now = None
    """The strike that is waiting for its line, for threads that were started before it."""

    def __init__(self, is_due, act):
        self.is_due, self.act = is_due, act
        self.struck, self.line, self.ended = False, None, threading.Event()

    def __enter__(self):
        Strike.now = self
        sys.settrace(self._trace)

    def __exit__(self, *_):
        sys.settrace(None)
        Strike.now = None
        if self.struck:
            self.ended.wait()

    def _trace(self, frame, event, argument):
        if self.struck or self is not Strike.now or not frame.f_code.co_filename.startswith(FOLDERS):
            return None
        if event == "line" and self.is_due(frame):
            self.struck, self.line = True, (frame.f_code.co_filename, frame.f_lineno)
            Finalized(self.act)
            gc.collect()
            self.ended.set()
        return self._trace


def trace_thread(frame, event, argument):
    """Trace a call in any other thread."""
    return None if Strike.now is None else Strike.now._trace(frame, event, argument)


def every(step):
    """Return what gives each strike its line: the first, then the one that is STEP lines later, and so on."""
    starts = itertools.count(0, step)

    def next_line():
        left = itertools.count(next(starts), -1)
        return lambda frame: next(left) <= 0

    return next_line


def each_once(files):
    """As `every`, but each line of some source files once in each sort of thread."""
    seen = set()

    def is_due(frame):
        line = threading.current_thread().name.rstrip("0123456789"), frame.f_code, frame.f_lineno
        return frame.f_code.co_filename.startswith(files) and line not in seen and not seen.add(line)

    return lambda: is_due


def use(store):
    store.write("n", (Put("key", "1"), Append("s", (NewMessage(str(time.time_ns()), "1"),))))
    store.read("n", GetEntry("key"))


async def use_async(shared):
    await asyncio.gather(*(shared.write("n", (Put(f"key {number}", "1"),)) for number in range(3)))
    await shared.read("n", GetEntry("key"))


def watch(store):
    version = store.read("n", GetProgress()).version
    feed = store.changes("n", ListChanges(after=version))
    feed.next(0.002)
    use(store)
    assert feed.next(SECONDS).changes
    feed.close()


def user_of(kind, store):
    """Return what uses the store once."""
    if kind in {"threads", "watch"}:
        return lambda: (use if kind == "threads" else watch)(store)
    shared = ServedSqliteStore(store) if kind == "served" else store.to_async()
    return lambda: asyncio.run(use_async(shared))


def finalizer_of(act, met):
    """Return the finalizer, which counts in `met` what it met. It acts on the store that is passed to `functools.partial`."""

    def finalizer(store):
        start = time.monotonic()
        try:
            ACTS[act](store)
            met["done"] += 1
        except BotWireError as error:
            met[type(error).__name__] += 1
        if time.monotonic() - start >= SECONDS:
            met["waited"] += 1

    return finalizer


def main(kind, address, act, step=1):
    met = collections.Counter()
    gc.disable()
    threading.excepthook = sys.unraisablehook = lambda found: met.update([repr(found.exc_value)])
    is_postgres = address.startswith("postgresql:")
    next_line = each_once(WATCHING if kind == "watch" else FOLDERS) if is_postgres else every(step)
    threading.settrace(trace_thread)
    store = open_store(address, timeout=2 * SECONDS)
    user_of(kind, store)()
    listening = listen(store) if is_postgres else None
    gc.freeze()  # so that a collection takes microseconds
    lines = 0
    closed = 0 if act == "close" else math.inf
    expected = StoreError if act == "close" else Unavailable
    while strike_once(kind, store, Strike(next_line(), partial(finalizer_of(act, met), store)), expected):
        lines += 1
        if met["done"] > closed:
            closed = met["done"]
            store.close()
            store = open_store(address, timeout=2 * SECONDS)
    faulthandler.cancel_dump_traceback_later()
    store.close()
    del listening
    print(lines, dict(met))


def listen(store):
    """Listen with a connection of its own, so that each commit notifies."""
    connection = store._connect_listener()
    connection.run("register_listener")
    return connection


def strike_once(kind, store, strike, expected):
    """Use the store while a strike waits for its line; the use may fail with an expected error. Returns whether the line came."""
    faulthandler.dump_traceback_later(SECONDS * 4, exit=True)
    start, use_once = time.monotonic(), user_of(kind, store)
    with strike, contextlib.suppress(expected):
        use_once()
        if not strike.struck:
            time.sleep(PAUSE)
    with contextlib.suppress(*[StoreError] if expected is StoreError else []):  # it is closed
        use(store)
    assert time.monotonic() - start < SECONDS, f"{strike.line}: it waited"
    return strike.struck


ACTS = {
    "write": lambda store: store.write("n", (Put("finalized", "1"),)),
    "read": lambda store: store.read("n", GetEntry("finalized")),
    "close": lambda store: store.close(),
}

if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
