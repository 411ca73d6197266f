"""Processes that are killed at a write of their store, or after some time."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from botwire.store import ThreadedStore
from botwire.stores import open_store

UNHARMED = 70
"""The exit code of a process that reached the write at which it was to be killed, and was not."""

_struck: list[tuple[Any, Strike]] = []
"""The stores of this process that are to kill it, and when."""


class Strike(NamedTuple):
    """When a process is killed: before or after its nth write, or after some seconds."""

    moment: Literal["before", "after", "later"]
    number: float


def strikes(writes: int, random_ones: int = 6) -> Iterator[Strike]:
    """Yield each step of a process that writes so many times, and some random times."""
    for number in range(1, writes + 1):
        yield Strike("before", number)
        yield Strike("after", number)
    times = random.Random(writes)
    for _ in range(random_ones):
        yield Strike("later", times.uniform(0, 0.2))


def store_at(address: str, strike: Strike | None = None) -> Any:
    """Return a store that kills this process as it is told. Its ``writes`` are the number of writes so far."""
    store: Any = open_store(address)
    write, mutex = store.write, threading.Lock()

    def killing(*args: Any, **kwargs: Any) -> Any:
        with mutex:
            store.writes += 1
            number = store.writes
        if strike == ("before", number):
            _kill()
        try:
            return write(*args, **kwargs)
        finally:  # a refused write counts too
            if strike == ("after", number):
                _kill()

    store.writes, store.write = 0, killing
    store.to_async = lambda: ThreadedStore(store)  # so that awaited writes are counted too
    if strike is not None and strike.moment == "later":
        threading.Timer(strike.number, _kill).start()
    elif strike is not None:
        _struck.append((store, strike))
    return store


def forked(run: Callable[[], None]) -> Callable[[], int]:
    """Run a function in a new process. Returns a function that waits for its end and returns its exit code.

    The code is `UNHARMED` if the process should have been killed at a write that it reached.
    """
    gc.freeze()  # a collection in the new process would copy the memory of all imported modules
    pid = os.fork()
    if not pid:
        code = 1
        try:
            _struck.clear()
            run()
            code = UNHARMED if any(store.writes >= strike.number for store, strike in _struck) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait() -> int:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise AssertionError("a process did not end in 60 seconds")

    return wait


def check_end(code: int, strike: Strike, fewest: int) -> None:
    """Check the exit code of a process that was to be killed.

    Each write that every process reaches kills it. A process that ends unharmed had fewer writes, or was faster than the clock.
    """
    must_die = strike.moment != "later" and strike.number <= fewest
    assert code in ({-signal.SIGKILL} if must_die else {0, -signal.SIGKILL}), f"exit code {code} with {strike}"


Turn: TypeAlias = Callable[[str, str, Path, Strike | None], None]
"""Runs a turn at an address, as a worker of a name. It notes in a file what was acknowledged, and is killed at a strike."""


def kill_workers(
    folder: Path, turn: Turn, verify: Callable[[str, Path], None], fewest: int, workers: int, *, most: int | None = None
) -> None:
    """Kill a worker at each write of its turn, beside others, and verify each time what is left, in a new process.

    Args:
        folder: where the databases and the files of what was acknowledged are created.
        turn: the turn of a worker. The one with the name ``killed`` gets the strikes.
        verify: raises if what is left is wrong.
        fewest: how many writes a turn has at least.
        workers: how many workers run at once.
        most: how many writes a turn has at most; None: always `fewest`.
    """
    open_store("sqlite:///:memory:").close()  # imports what each process would import
    for number, strike in enumerate(strikes(most or fewest)):
        address, acknowledged = f"sqlite:///{folder}/{number}.db", folder / f"{number}.txt"
        others = [f"living-{other}" for other in range(workers - 1)]
        waits = [forked(partial(turn, address, "killed", acknowledged, strike))]
        waits += [forked(partial(turn, address, name, acknowledged, None)) for name in others]
        codes = [wait() for wait in waits]
        check_end(codes[0], strike, fewest)
        assert codes[1:] == [0] * len(others)
        assert forked(partial(verify, address, acknowledged))() == 0, f"what is left is wrong after {strike}"


def note(file: Path, line: str) -> None:
    """Add a line to a file. The system has it when this returns, so it outlives the process."""
    with file.open("ab", buffering=0) as out:
        out.write(f"{line}\n".encode())


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
