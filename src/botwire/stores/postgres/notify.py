"""Notify watchers in all processes of writes, by NOTIFY of PostgreSQL. docs/decisions.md says why it works this way.

Every listener holds a lock in shared mode. Each write tries to get that lock alone, in a round trip that it makes anyway. If
that fails, a thread notifies after the commit. A notification only wakes a watcher. If it is lost, the watcher finds the change
a second later, when it polls.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from ...backoff import Backoff
from ...errors import BotWireError
from ..engine.feeds import ChangeSignal, adaptive_pause
from .connection import Connection

PAUSES = 0.02, 0.1
"""Shortest and longest seconds between two polls without notifications."""
LONGEST = 1.0
"""Longest seconds between two polls with notifications."""
INTERVAL = 0.02
"""Seconds in which a store notifies at most once."""
LINGER = 10.0
"""Seconds for which the connection is kept after the last watcher has left."""
_AT_ONCE = 400
"""Namespaces in one notification, whose payload may have 8,000 bytes."""
_PATIENCE = 5.0
"""Seconds that it may take to begin to listen."""
_CLOSE_WAIT = 1.0
"""Seconds that `Listener.close` waits for its thread."""
_LONGEST_PAUSE = 10.0
"""Seconds between two attempts to listen."""


def channel_of(namespace: str) -> str:
    """Return a hash for a namespace in notifications, because every role of the database can listen to them."""
    return hashlib.blake2b(namespace.encode(), digest_size=8).hexdigest()


class Notifier:
    """Sends notifications of namespaces that were written to, soon after their commits, from a thread of its own."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._mutex = threading.RLock()  # reentrant: a finalizer or a signal handler may use the store too
        self._pending: set[str] = set()
        self._is_running = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="botwire-notify")

    def notify(self, namespace: str) -> None:
        """Wake the watchers of a namespace soon, in all processes."""
        with self._mutex:
            self._pending.add(channel_of(namespace))
            if self._is_running:
                return
            self._is_running = True
        with contextlib.suppress(RuntimeError):  # it is closed
            self._thread.submit(self._run)

    def close(self) -> None:
        """Send what is pending, and end the thread."""
        self._thread.shutdown()

    def _run(self) -> None:
        while channels := self._take():
            for start in range(0, len(channels), _AT_ONCE):
                with contextlib.suppress(BotWireError, psycopg.Error):  # the watchers poll
                    self._send(" ".join(channels[start : start + _AT_ONCE]))
            time.sleep(INTERVAL)

    def _take(self) -> list[str]:
        with self._mutex:
            channels, self._pending = list(self._pending), set()
            self._is_running = bool(channels)
            return channels


class Listener(ChangeSignal):
    """Wakes the watchers of a namespace when a notification arrives. It has its own connection while there are watchers.

    `inside`: the threads in which a call of the store is refused. A thread that holds the lock of this object is one of them:
    a finalizer in it must not close the store, because `close` waits for a thread that takes the lock.
    """

    def __init__(self, connect: Callable[[], Connection], address: str, inside: set[int]) -> None:
        self._connect = connect
        self._address = address
        self._inside = inside
        self._connection: Connection | None = None
        self._is_pooled = False
        self.restart()

    def restart(self) -> None:
        """Start, also in a forked child."""
        if self._connection is not None:
            _leave_to_parent(self._connection)
        self._connection = None
        self._mutex = threading.RLock()
        self._closing = threading.Event()
        self._waiting: dict[str, list[Callable[[], object]]] = {}
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._left = time.monotonic()

    @property
    def is_listening(self) -> bool:
        """Whether it receives notifications."""
        return self._since is not None

    def pause(self, idle: float) -> float:
        """As `ChangeSignal.pause`. Starts to listen, because the caller is about to wait."""
        since = self._since
        if since is None:
            self._start()
            return adaptive_pause(idle, *PAUSES)
        # Writers that committed while this started to listen may not have sent a notification. So the first polls are frequent.
        return min(LONGEST, max(PAUSES[0], time.monotonic() - since))

    @contextlib.contextmanager
    def waiting(self, namespace: str, wake: Callable[[], object]) -> Iterator[None]:
        channel = channel_of(namespace)
        with self._locked():
            self._waiting.setdefault(channel, []).append(wake)
        try:
            yield
        finally:
            with self._locked():
                wakes = self._waiting[channel]
                wakes.remove(wake)
                if not wakes:
                    del self._waiting[channel]
                self._left = time.monotonic()

    def close(self) -> None:
        """Close the connection and end the thread. If that takes longer than a second, as while it connects, it is logged."""
        with self._locked():
            self._closing.set()
            thread = self._thread
            if self._connection is not None:
                self._connection.hang_up()
        if thread is None or not thread.is_alive():  # one that is about to start ends at once
            return
        thread.join(_CLOSE_WAIT)
        if thread.is_alive():
            logging.getLogger("botwire").warning(
                "%s: the thread that listens for changes is still connecting after the store was closed; it closes its "
                "connection and ends as soon as the server answers",
                self._address,
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        thread = threading.get_ident()
        is_inside = thread in self._inside
        try:
            self._inside.add(thread)
            with self._mutex:
                yield
        finally:
            if not is_inside:
                self._inside.discard(thread)

    def _start(self) -> None:
        with self._locked():
            if self._thread is None and self._is_possible():
                self._thread = threading.Thread(target=self._run, name="botwire-listen", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        backoff = Backoff(PAUSES[0], _LONGEST_PAUSE)
        while self._is_wanted():
            with contextlib.suppress(BotWireError, psycopg.Error, OSError), contextlib.closing(self._connect()) as it:
                self._listen(it)
            if self._since is not None:
                backoff.restart()
            self._since = None
            self._wake()
            self._closing.wait(backoff.next())

    def _is_wanted(self) -> bool:
        """Whether to continue. If not, the thread ends, and a later watcher starts another one."""
        with self._locked():
            if self._is_possible() and self._is_used():
                return True
            self._thread = None
            return False

    def _is_possible(self) -> bool:
        return not self._is_pooled and not self._closing.is_set()

    def _is_used(self) -> bool:
        return bool(self._waiting) or time.monotonic() - self._left < LINGER

    def _listen(self, connection: Connection) -> None:
        with self._locked():
            if self._closing.is_set():  # `close` did not see this connection, which the caller closes
                return
            self._connection = connection
        try:
            connection.deadline = time.monotonic() + _PATIENCE
            ((process,),) = connection.run("server_process")
            if process != connection.pgconn.backend_pid:  # a pooler, which lends each transaction another connection
                self._is_pooled = True
                return
            connection.run_all([("listen", ()), ("register_listener", ())])
            self._since = time.monotonic()
            self._wake()
            while self._is_used() and self._is_possible():
                payloads = connection.notifications(LINGER)
                self._wake([channel for payload in payloads for channel in payload.split()])
        finally:
            with self._locked():
                self._connection = None

    def _wake(self, channels: Sequence[str] | None = None) -> None:
        """Wake the watchers of some namespaces; None: of all."""
        with self._locked():
            chosen = self._waiting if channels is None else channels
            wakes = [wake for channel in chosen for wake in self._waiting.get(channel, ())]
        for wake in wakes:
            wake()


def _leave_to_parent(connection: Connection) -> None:
    """Close a connection in a forked child without ending the session of the parent, as a normal close does."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, connection.pgconn.socket)
    os.close(nothing)
    connection.close()
