"""Run a finalizer at every line of a store's code while one thread uses the store. Prints what the finalizers met.

Usage: ``python -m tests.unit.stores.engine.finalizers KIND ADDRESS ACT [STEP]``. KIND is ``threads``, ``loop`` or ``served``; ACT is
what the finalizer does: ``write``, ``read`` or ``close``. It runs at every STEPth line (every one by default). If any thread waits for itself,
faulthandler ends the process and prints where each thread is.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import faulthandler
import gc
import sys
import threading
import time
from pathlib import Path

import botwire.stores
from botwire import BotWireError, StoreError, Unavailable
from botwire.operations import Append, NewMessage, Put
from botwire.queries import GetEntry
from botwire.stores import open_store
from botwire.stores.engine import pool
from botwire.stores.sqlite.served import ServedSqliteStore

FOLDERS = tuple(str(Path(botwire.stores.__file__).parent / name) for name in ("engine", "sqlite", "postgres"))
SECONDS = 5.0
"""How long one use of the store may take, with its finalizer. A thread that waits for itself waits until the timeout."""

pool._REENTRY_WAIT = 0.01


class Finalized:
    """An object in a cycle: only the garbage collector frees it, and runs its finalizer."""

    def __init__(self, act):
        self.act, self.me = act, self

    def __del__(self):
        self.act()


class Strike:
    """Collects a `Finalized` in this thread before the nth line of the store's code."""

    def __init__(self, nth, act):
        self.left, self.act = nth, act

    def __enter__(self):
        sys.settrace(self._trace)

    def __exit__(self, *_):
        sys.settrace(None)

    def _trace(self, frame, event, argument):
        if self.left < 0 or not frame.f_code.co_filename.startswith(FOLDERS):
            return None
        if event == "line":
            self.left -= 1
            if self.left < 0:
                Finalized(self.act)
                gc.collect()
        return self._trace


def use(store):
    store.write("n", (Put("key", "1"), Append("s", (NewMessage(str(time.time_ns()), "1"),))))
    store.read("n", GetEntry("key"))


async def use_async(shared):
    await asyncio.gather(*(shared.write("n", (Put(f"key {number}", "1"),)) for number in range(3)))
    await shared.read("n", GetEntry("key"))


def user_of(kind, store):
    """Return what uses the store once."""
    if kind == "threads":
        return lambda: use(store)
    shared = ServedSqliteStore(store) if kind == "served" else store.to_async()
    return lambda: asyncio.run(use_async(shared))


def main(kind, address, act, step=1):
    met = collections.Counter()

    def finalizer():
        try:
            ACTS[act](store)
            met["done"] += 1
        except BotWireError as error:
            met[type(error).__name__] += 1

    gc.disable()
    threading.excepthook = sys.unraisablehook = lambda found: met.update([repr(found.exc_value)])
    store = open_store(address, timeout=2 * SECONDS)
    user_of(kind, store)()
    gc.freeze()  # so that a collection takes microseconds
    nth, strike = 0, None
    while strike is None or strike.left < 0:
        faulthandler.dump_traceback_later(SECONDS * 4, exit=True)
        strike, start, found = Strike(nth, finalizer), time.monotonic(), user_of(kind, store)
        with strike, contextlib.suppress(StoreError if act == "close" else Unavailable):
            found()
        if act == "close":
            store.close()
            store = open_store(address, timeout=2 * SECONDS)
        use(store)
        assert time.monotonic() - start < SECONDS, f"line {nth}: it waited"
        nth += step
    faulthandler.cancel_dump_traceback_later()
    store.close()
    print(nth // step, dict(met))


ACTS = {
    "write": lambda store: store.write("n", (Put("finalized", "1"),)),
    "read": lambda store: store.read("n", GetEntry("finalized")),
    "close": lambda store: store.close(),
}

if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
