"""Processes that are killed at a write of their store, or after some time."""

from __future__ import annotations

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
        results = write(*args, **kwargs)
        if strike == ("after", number):
            _kill()
        return results

    store.writes, store.write = 0, killing
    store.to_async = lambda: ThreadedStore(store)  # so that awaited writes are counted too
    if strike is not None and strike.moment == "later":
        threading.Timer(strike.number, _kill).start()
    return store


def forked(run: Callable[[], None]) -> Callable[[], int]:
    """Run a function in a new process. Returns a function that waits for its end and returns its exit code."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run()
            code = 0
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


Turn: TypeAlias = Callable[[str, str, Path, Strike | None], None]
"""Runs a turn at an address, as a worker of a name. It notes in a file what was acknowledged, and is killed at a strike."""


def kill_workers(folder: Path, turn: Turn, verify: Callable[[str, Path], None], steps: int, workers: int) -> None:
    """Kill a worker at each of the steps of its turn, beside others, and verify what is left each time."""
    open_store("sqlite:///:memory:").close()  # imports what each process would import
    kills = 0
    for number, strike in enumerate(strikes(steps)):
        address, acknowledged = f"sqlite:///{folder}/{number}.db", folder / f"{number}.txt"
        others = [f"living-{other}" for other in range(workers - 1)]
        waits = [forked(partial(turn, address, "killed", acknowledged, strike))]
        waits += [forked(partial(turn, address, name, acknowledged, None)) for name in others]
        codes = [wait() for wait in waits]
        kills += codes[0] == -signal.SIGKILL
        assert codes[0] in {0, -signal.SIGKILL}
        assert codes[1:] == [0] * len(others)
        verify(address, acknowledged)
    assert kills >= 2 * steps


def note(file: Path, line: str) -> None:
    """Add a line to a file. The system has it when this returns, so it outlives the process."""
    with file.open("ab", buffering=0) as out:
        out.write(f"{line}\n".encode())


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
