"""Group commit: the one queue through which every transaction of a store goes.

A sync to disk costs the same for one write as for a hundred. So writers queue here. The first one leads: it commits everything
that waits as one group, and hands the lead to the next in line. A lone writer neither waits nor changes threads. The queue is
first come, first served, which is fair to threads and tasks alike. A change that is not a write, such as a new plan, takes
its turn in the same queue and is committed alone. So a store never has two transactions of its own at once.

Deadlines are times on `time.monotonic`, computed once a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from ...errors import StoreError, Timeout, Unavailable
from ...operations import Result, Write, weight_of
from ...store import CLOSED
from .pool import REENTERED

T = TypeVar("T")
Outcome: TypeAlias = list[Result] | BaseException
Work: TypeAlias = Callable[[float], Any]
"""A transaction that is no write. Takes the deadline."""

MAX_GROUP = 512
"""Writes in one commit: enough to make the sync cheap, few enough that no writer waits long for the group."""
MAX_ROWS = 10_000.0
"""Rows that the small writes of a group touch, and its large ones, beside the first: some 0.1 s each."""
FEW_ROWS = 100
"""Rows of a small write."""
GRACE = 0.25
"""Seconds after its deadline for which a write in a commit waits to learn whether it happened."""
_CLOSE = 0.01
"""Seconds before its deadline at which a write counts as late: timeouts are rounded to milliseconds."""
TOO_LATE = "no turn to write before the timeout, because other writers hold the store; nothing was written. Try again"
_NO_DISK = "the disk did not answer before the timeout; the write may still happen"
_INTERRUPTED = "the commit was interrupted; the write may or may not have happened"
_PENDING: Any = object()
COMMIT_THREAD = "botwire-commit"
"""The name of the threads that commit for event loops."""


class Executor(Protocol):
    """Commits the groups that a task leads, which must not be done on the event loop while it waits for a disk."""

    def lead(self, queue: CommitQueue, leader: object, loop: asyncio.AbstractEventLoop) -> None:
        """Take the lead over from a leader, and commit groups until a thread is next in line, or no one is."""

    def close(self, *, wait: bool) -> None:
        """Release the threads. `wait`: for the commit under way. If not, take no lock: they end when they are collected."""


class CommitQueue:
    """Gathers writes from threads and event loops into groups, and commits one group at a time.

    Args:
        commit: takes the writes of a group and the earliest of their deadlines. Returns an outcome for each once they are on
            disk. What it raises becomes the outcome of all. `Timeout` means that nothing was written.
        executor: commits for event loops; a thread of the queue's own by default.
        inside: the threads in `no_reentry`, for queues whose commits need something in common, such as connections.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Write], float], list[Outcome]],
        *,
        executor: Executor | None = None,
        inside: set[int] | None = None,
    ) -> None:
        self.commit = commit
        self.executor = executor or ThreadExecutor()
        # Whatever takes it runs in `no_reentry`, so no thread waits for itself.
        self._mutex = threading.Lock()
        self._waiting: list[_Turn] = []
        self._after_large = False
        """Whether the last group had a large write. The next one has none while small ones wait."""
        self._leader: object | None = None
        self._inside: set[int] = set() if inside is None else inside
        self._alarm: _Alarm | None = None
        """Of the event loop that wrote last."""
        self.led_by: asyncio.AbstractEventLoop | None = None
        """The event loop that leads, if an executor applies groups there. A write that blocks it would wait for itself."""

    def write(self, write: Write, deadline: float) -> list[Result]:
        """Return the results of a write when it is on disk. Blocks.

        Raises:
            Timeout: its turn did not come before the deadline, and it did not happen.
            Unavailable: it interrupted the queue on the same thread.
        """
        thread = threading.get_ident()
        if thread in self._inside:
            raise Unavailable(REENTERED)
        try:  # `no_reentry`, without its call: this is a hot path
            self._inside.add(thread)
            results = self._write(write, deadline)
        finally:
            self._inside.discard(thread)
        return results

    def run(self, work: Callable[[float], T], deadline: float) -> T:
        """Run a transaction that is no write, alone, in its turn. Blocks. Raises as `write` does."""
        return cast("T", self.no_reentry(self._take_turn, _ThreadTurn(None, work, deadline)))

    async def write_async(self, write: Write, deadline: float) -> list[Result]:
        """As `write`, on an event loop. Cancelled while it waits, it does not happen; once its commit has begun, it does."""
        turn = _TaskTurn(write, deadline, asyncio.get_running_loop())
        alarm = self._alarm
        if alarm is None or alarm.loop() is not turn.loop:
            alarm = self._alarm = _Alarm(self, turn.loop)
        self.no_reentry(self._begin, turn)
        alarm.add(turn)
        try:
            await turn.done
        except asyncio.CancelledError:
            self.no_reentry(self._withdraw, turn)
            raise
        finally:
            alarm.discard(turn)
        return cast("list[Result]", turn.result())

    def no_reentry(self, act: Callable[..., T], *args: Any) -> T:
        """Do something for which a write of this thread would wait. One that interrupts it is refused.

        A signal handler runs in the main thread between any two instructions, and the garbage collector runs finalizers in
        any thread. A write in one of them would wait for the lock of the queue, or for a turn that only this thread can end.
        """
        return no_reentry(self._inside, act, *args)

    def close(self) -> None:
        """Wait for the commit under way, if any. A finalizer that interrupted the queue does not wait."""
        self.executor.close(wait=threading.get_ident() not in self._inside)

    def _write(self, write: Write, deadline: float) -> list[Result]:
        """Commit a write at once if no one leads, and hand the lead on.

        Ctrl-C may come between any two calls, because CPython checks for signals after each. A leader that it interrupts still
        hands the lead on, and does so again if it was interrupted doing that.
        """
        lead = object()  # not the write itself: two threads may pass the same one
        try:
            with self._mutex:
                if self._leader is None:  # as nearly always
                    self._leader = lead
            if self._leader is not lead:
                return cast("list[Result]", self._take_turn(_ThreadTurn(write, None, deadline)))
            (outcome,) = self.commit((write,), deadline)
        finally:
            if self._leader is lead:
                try:
                    self._resign(lead)
                except KeyboardInterrupt:
                    self._resign(lead)
                    raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _begin(self, turn: _TaskTurn) -> None:
        try:
            if self._join(turn):
                self.executor.lead(self, turn, turn.loop)
        except BaseException:
            self._withdraw(turn, leading=True)
            self._resign(turn)
            raise

    # Turns of threads

    def _take_turn(self, turn: _ThreadTurn) -> Any:
        try:
            if self._join(turn) or self._wait(turn):
                while turn.outcome is _PENDING:  # put back when only others of its group were late
                    self._lead(turn)
                self._resign(turn)
        except KeyboardInterrupt:
            self._withdraw(turn, leading=True)
            self._resign(turn)
            raise
        return turn.result()

    def _join(self, turn: _Turn) -> bool:
        """Queue up; returns whether the owner of the turn must lead, because no one does."""
        with self._mutex:
            self._waiting.append(turn)
            if self._leader is not None:
                return False
            self._leader = turn
            return True

    def _wait(self, turn: _ThreadTurn) -> bool:
        """Wait until the turn is done (False), or must lead (True)."""
        # A thread that commits is here only if a finalizer interrupted it. It leads, or is about to.
        is_own = threading.current_thread().name.startswith(COMMIT_THREAD)
        leads_here = self.led_by is not None and self.led_by is asyncio._get_running_loop()
        if (is_own or leads_here) and self._withdraw(turn):
            raise Unavailable(REENTERED)
        if not turn.called.acquire(timeout=max(turn.deadline - time.monotonic(), 0)):
            if self._withdraw(turn):
                raise Timeout(TOO_LATE)
            if not turn.called.acquire(timeout=GRACE):
                raise Timeout(_NO_DISK)
        return self._leader is turn

    def _withdraw(self, turn: _Turn, *, leading: bool = False) -> bool:
        """Take a turn out of the queue. Returns False if it is in a commit already, or has been called to lead."""
        with self._mutex:
            called = isinstance(turn, _ThreadTurn) and self._leader is turn
            if turn not in self._waiting or (called and not leading):
                return False
            self._waiting.remove(turn)
            return True

    def give_up(self, turn: _TaskTurn) -> None:
        """End the wait of a task: at its deadline if it still waits for its turn, a little later if it is in a commit."""
        if turn.done.done():
            return
        if self._withdraw(turn):
            turn.done.set_exception(Timeout(TOO_LATE))
        elif time.monotonic() >= turn.deadline + GRACE:
            turn.done.set_exception(Timeout(_NO_DISK))

    # Leading

    def _resign(self, leader: object) -> None:
        """Hand the lead on, if this one has it."""
        task = self.hand_on(leader)
        if task is not None:
            self.executor.lead(self, leader, task.loop)

    def take_over(self, leader: object) -> object | None:
        """Make the executor the leader. Returns a token for it; None: that leader does not lead any more."""
        token = object()
        with self._mutex:
            if self._leader is not leader:  # asked twice, by one that was interrupted in between
                return None
            self._leader = token
        return token

    def hand_on(self, leader: object) -> _TaskTurn | None:
        """Let the next in line lead, if `leader` leads. If that is a task, return it: the executor must lead for it."""
        with self._mutex:
            if self._leader is not leader:
                return None
            if not self._waiting:
                self._leader = None
                return None
            heir = self._waiting[0]
            if isinstance(heir, _TaskTurn):
                return heir
            self._leader = heir
            cast("_ThreadTurn", heir).called.release()
            return None

    def lead_for_tasks(self, leader: object) -> None:
        """Commit groups until a thread is next in line, or no one is. Blocks, so not on an event loop."""
        token = self.take_over(leader)
        if token is not None:
            self._lead(token)
            while self.hand_on(token) is not None:
                self._lead(token)

    def _lead(self, leader: object) -> None:
        group: list[_Turn] = []
        outcomes: list[Any] = []
        try:
            group = self.next_group()
            outcomes = self.outcomes(group) if group else []
        except BaseException as error:
            # Ctrl-C is for the one thread that it struck.
            outcomes = [error if turn is leader else Unavailable(_INTERRUPTED) for turn in group]
        try:
            self.deliver(group, outcomes)
        except KeyboardInterrupt:
            self.deliver(group, outcomes)
            raise

    def next_group(self) -> list[_Turn]:
        """Take the next turns out of the queue: writes together, any other transaction alone."""
        with self._mutex:
            if len(self._waiting) > 1:
                group, self._waiting = _divided(self._waiting, self._after_large)
            else:
                group, self._waiting = self._waiting, []
            self._after_large = any(turn.rows() > FEW_ROWS for turn in group)
        return group

    def outcomes(self, group: Sequence[_Turn]) -> list[Any]:
        """Commit a group and return an outcome for each turn. Blocks until the earliest deadline at most."""
        deadline = min(turn.deadline for turn in group)
        try:
            work = group[0].work
            if work is not None:
                return [work(deadline)]
            return self.commit([cast("Write", turn.write) for turn in group], deadline)
        except Timeout as error:
            return self.late(group, deadline, error)
        except Exception as error:
            return [error] * len(group)

    def late(self, group: Sequence[_Turn], deadline: float, error: Timeout) -> list[Any]:
        """Return the outcomes of a group that was not written: others than the late ones are put back into the queue."""
        now = time.monotonic() + _CLOSE
        if now < deadline:  # it was not the deadline that ended it
            return [error] * len(group)
        outcomes = [error if turn.deadline <= now else _PENDING for turn in group]
        with self._mutex:
            self._waiting[:0] = [turn for turn in group if turn.deadline > now]
        return outcomes

    def deliver(
        self, group: Sequence[_Turn], outcomes: Sequence[Any], *, here: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Give each turn its outcome, and wake those that wait. Doing it twice does no harm. `here`: the loop that this runs on."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_TaskTurn]] = {}
        for turn, outcome in zip(group, outcomes, strict=True):
            if outcome is _PENDING:
                continue
            turn.outcome = outcome
            if isinstance(turn, _TaskTurn):
                by_loop.setdefault(turn.loop, []).append(turn)
            elif isinstance(turn, _ThreadTurn) and turn.called.locked():
                turn.called.release()
        for loop, turns in by_loop.items():
            # One wake-up a loop, not one a write.
            if loop is here:
                _finish(turns)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_finish, turns)


def _divided(waiting: list[_Turn], after_large: bool) -> tuple[list[_Turn], list[_Turn]]:  # noqa: FBT001
    """Return the next group, and those that wait longer: large writes, and what comes after them in their namespaces.

    So a small write waits for one large write of others, or a few: those of the commit under way, or of its own.
    """
    if waiting[0].work is not None:
        return waiting[:1], waiting[1:]
    group: list[_Turn] = []
    left: list[_Turn] = []
    behind: set[str] = set()
    room = {True: MAX_ROWS, False: 0 if after_large else MAX_ROWS}
    for number, turn in enumerate(waiting):
        if turn.write is None or len(group) == MAX_GROUP:
            left += waiting[number:]
            break
        rows, namespace = turn.rows(), turn.write.namespace
        is_small = rows <= FEW_ROWS
        if namespace in behind or (rows > room[is_small] and room[is_small] < MAX_ROWS):
            behind.add(namespace)
            left.append(turn)
        else:
            room[is_small] -= rows
            group.append(turn)
    return (group, left) if group else _divided(waiting, after_large=False)


def no_reentry(inside: set[int], act: Callable[..., T], *args: Any) -> T:
    """Do something while this thread is in `inside`. Raises `Unavailable` if it is already."""
    thread = threading.get_ident()
    if thread in inside:
        raise Unavailable(REENTERED)
    try:
        inside.add(thread)
        result = act(*args)
    finally:
        inside.discard(thread)
    return result


class ThreadExecutor:
    """Commits for event loops: on `threads` that several queues share and their owner closes, or on one thread of its own."""

    def __init__(self, threads: ThreadPoolExecutor | None = None) -> None:
        self._shared = threads
        self._own: ThreadPoolExecutor | None = None

    def lead(self, queue: CommitQueue, leader: object, _: object) -> None:
        threads = self._shared or self._own
        if threads is None:  # only a leader is here, so no other thread makes one too
            threads = self._own = ThreadPoolExecutor(1, thread_name_prefix=COMMIT_THREAD)
        try:
            threads.submit(queue.no_reentry, queue.lead_for_tasks, leader)
        except RuntimeError as error:  # they were shut down
            raise StoreError(CLOSED) from error

    def close(self, *, wait: bool) -> None:
        threads, self._own = self._own, None
        if threads is not None and wait:
            with contextlib.suppress(RuntimeError):  # a finalizer runs on this very thread
                threads.shutdown()


@dataclass(slots=True, eq=False)
class _Turn:
    """A write or other work in the queue, and in the end its outcome."""

    write: Write | None
    work: Work | None
    deadline: float
    outcome: Any = _PENDING
    _rows: float = -1

    def rows(self) -> float:
        """Return about how many rows its write touches."""
        if self._rows < 0:
            self._rows = 0 if self.write is None else weight_of(self.write)
        return self._rows

    def result(self) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not _PENDING
        return self.outcome


class _ThreadTurn(_Turn):
    __slots__ = ("called",)

    def __init__(self, write: Write | None, work: Work | None, deadline: float) -> None:
        super().__init__(write, work, deadline)
        self.called = threading.Lock()
        self.called.acquire()


class _TaskTurn(_Turn):
    __slots__ = ("done", "loop")

    def __init__(self, write: Write, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(write, None, deadline)
        self.loop = loop
        self.done: asyncio.Future[None] = loop.create_future()


class _Alarm:
    """Ends the waits of the tasks of one event loop at their deadlines, with one timer for all of them.

    A timer for each write costs a busy server a twentieth of its time. It refers to the loop only while a task waits.
    """

    def __init__(self, queue: CommitQueue, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self._queue = queue
        self._turns: set[_TaskTurn] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0

    def add(self, turn: _TaskTurn) -> None:
        self._turns.add(turn)
        if self._timer is None or turn.deadline < self._when:
            self._set(turn.loop, turn.deadline)

    def discard(self, turn: _TaskTurn) -> None:
        self._turns.discard(turn)
        if not self._turns and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._when = when
        self._timer = loop.call_later(when - time.monotonic(), self._queue.no_reentry, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        turns = tuple(self._turns)  # a finalizer may end a task while this runs
        for turn in turns:
            if turn.deadline <= now:
                self._queue.give_up(turn)
        waiting = [turn.deadline + (GRACE if turn.deadline <= now else 0) for turn in turns if not turn.done.done()]
        self._timer = None
        if waiting:
            self._set(loop, min(waiting))


def _finish(turns: Sequence[_TaskTurn]) -> None:
    for turn in turns:
        if not turn.done.done():
            turn.done.set_result(None)
