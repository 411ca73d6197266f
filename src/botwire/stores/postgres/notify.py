"""Who writes to PostgreSQL tells those who watch, in other processes too, by NOTIFY.

Commits that notify take turns in the whole server (``PreCommit_Notify`` in its ``async.c``). So nobody notifies in the
transaction of a write, nobody who is not heard by anybody, and nobody more often than every few milliseconds: who listens holds
a lock in shared mode, each write tries to get it alone in a round trip that it makes anyway, and when that fails, a
thread tells after the commit what has changed, all at once.

A notification is a wake-up, nothing more: what has changed is in the journal. One that is lost, or never sent because the
writer died between its commit and telling, costs a second, until the next look.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from ...backoff import Backoff
from ...errors import BotWireError
from ..engine.poller import ChangeSignal, adaptive_pause
from .connection import Connection

PAUSES = 0.02, 0.1
"""Seconds between two looks when nobody tells: the shortest and the longest time."""
LONGEST = 1.0
"""Seconds between two looks while others tell of what they write."""
TURN = 0.02
"""Seconds in which a store tells once, at the most."""
LINGER = 10.0
"""Seconds for which the connection is kept when nobody watches any more."""
_AT_ONCE = 400
"""Namespaces in one notification, whose text may have 8,000 bytes."""
_PATIENCE = 5.0
"""Seconds that it may take to begin to listen."""
_LONGEST_PAUSE = 10.0


def mark_of(namespace: str) -> str:
    """Return what stands for a namespace in a notification, which everybody in the database may listen to."""
    return hashlib.blake2b(namespace.encode(), digest_size=8).hexdigest()


class Teller:
    """Tells of namespaces that were written to, soon after and outside of any commit.

    Args:
        send: sends a notification.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self.begin_anew()

    def begin_anew(self) -> None:
        """At the beginning, and in a forked child."""
        self._mutex = threading.Lock()
        self._marks: set[str] = set()
        self._telling = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="botwire-notify")

    def tell(self, namespace: str) -> None:
        """Have those who watch a namespace told."""
        with self._mutex:
            self._marks.add(mark_of(namespace))
            if self._telling:
                return
            self._telling = True
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._thread.submit(self._tell_all)

    def close(self) -> None:
        """Tell what is to be told, and end."""
        self._thread.shutdown()

    def _tell_all(self) -> None:
        while marks := self._take():
            for start in range(0, len(marks), _AT_ONCE):
                with contextlib.suppress(BotWireError, psycopg.Error):  # they will look themselves
                    self._send(" ".join(marks[start : start + _AT_ONCE]))
            time.sleep(TURN)

    def _take(self) -> list[str]:
        with self._mutex:
            marks, self._marks = list(self._marks), set()
            self._telling = bool(marks)
            return marks


class Listener(ChangeSignal):
    """Wakes those who follow a namespace when they are told of it: over a connection of its own, which is there while they wait.

    Args:
        connect: opens a connection.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._is_pooled = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """At the beginning, and in a forked child."""
        if self._connection is not None:
            _leave_to_parent(self._connection)
        self._connection = None
        self._mutex = threading.Lock()
        self._closing = threading.Event()
        self._waiting: dict[str, list[Callable[[], object]]] = {}
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._left = time.monotonic()

    @property
    def is_hearing(self) -> bool:
        """Whether it is told what others write."""
        return self._since is not None

    def pause(self, idle: float) -> float:
        """As `ChangeSignal.pause`; and begin to listen, since somebody is about to wait."""
        since = self._since
        if since is None:
            self._begin()
            return adaptive_pause(idle, *PAUSES)
        # Those who were writing when this began to listen may not have noticed.
        return min(LONGEST, max(PAUSES[0], time.monotonic() - since))

    @contextlib.contextmanager
    def waiting(self, namespace: str, wake: Callable[[], object]) -> Iterator[None]:
        """As `ChangeSignal.waiting`."""
        mark = mark_of(namespace)
        with self._mutex:
            self._waiting.setdefault(mark, []).append(wake)
        try:
            yield
        finally:
            with self._mutex:
                wakes = self._waiting[mark]
                wakes.remove(wake)
                if not wakes:
                    del self._waiting[mark]
                self._left = time.monotonic()

    def close(self) -> None:
        """End it."""
        self._closing.set()
        with self._mutex:
            thread = self._thread
            if self._connection is not None:
                _hang_up(self._connection)
        if thread is not None:
            thread.join(1)  # if it is trying to reach the server, it ends later

    def _begin(self) -> None:
        with self._mutex:
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
        """Whether to go on; if not, this was the end of the thread."""
        with self._mutex:
            if self._is_possible() and self._is_used():
                return True
            self._thread = None
            return False

    def _is_possible(self) -> bool:
        return not self._is_pooled and not self._closing.is_set()

    def _is_used(self) -> bool:
        return bool(self._waiting) or time.monotonic() - self._left < LINGER

    def _listen(self, connection: Connection) -> None:
        connection.deadline = time.monotonic() + _PATIENCE
        ((process,),) = connection.run("server_process")
        if process != connection.pgconn.backend_pid:  # a pooler, which lends another connection to each transaction
            self._is_pooled = True
            return
        connection.run_all([("listen", ()), ("be_noticed", ())])
        with self._mutex:
            self._connection = connection
        try:
            self._since = time.monotonic()
            self._wake()
            while self._is_used() and self._is_possible():
                told = connection.notifications(LINGER)
                self._wake([mark for text in told for mark in text.split()])
        finally:
            with self._mutex:
                self._connection = None

    def _wake(self, marks: Sequence[str] | None = None) -> None:
        """Wake those who wait for these namespaces; None: everybody."""
        with self._mutex:
            wakes = [
                wake for mark in (self._waiting if marks is None else marks) for wake in self._waiting.get(mark, ())
            ]
        for wake in wakes:
            wake()


def _hang_up(connection: Connection) -> None:
    """End a connection that another thread waits for."""
    with (
        contextlib.suppress(OSError),
        socket.fromfd(connection.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM) as it,
    ):
        it.shutdown(socket.SHUT_RDWR)


def _leave_to_parent(connection: Connection) -> None:
    """Close a connection in a forked child, without a word to the server."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, connection.pgconn.socket)
    os.close(nothing)
    connection.close()
