"""Group commit: whatever writes have gathered while one commit was on its way to disk go into the next one together.

A sync to disk costs the same for one write as for a hundred. So writers queue here: the first leads, commits everything
that waits as one group, and hands the lead to the next in line. A writer alone never waits and never
changes threads. The queue is first come, first served, which makes threads and tasks fair to each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ...errors import Timeout, Unavailable
from ...operations import Result, Write

if TYPE_CHECKING:  # both take longer to import than everything else here, and many programs need neither
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

Outcome: TypeAlias = list[Result] | BaseException

MAX_GROUP = 512
"""Writes in one commit: enough to make the sync cheap, few enough that nobody waits long behind them."""


class CommitQueue:
    """Gathers writes from threads and event loops into groups, and commits one group at a time.

    Args:
        commit: takes the writes of a group and returns an outcome for each, once they are on disk; what it raises
            becomes the outcome of all of them.
        threads: where commits for event loops run, when several queues share it; else a thread of the queue's own.
    """

    def __init__(
        self, commit: Callable[[Sequence[Write]], list[Outcome]], *, threads: ThreadPoolExecutor | None = None
    ) -> None:
        self._commit = commit
        self._shared = threads
        self._mutex = threading.Lock()
        self._waiting: list[_Turn] = []
        self._leader: object | None = None
        self._thread: ThreadPoolExecutor | None = None

    def write(self, write: Write, timeout: float) -> list[Result]:
        """Return the results of a write when it is on disk, waiting in place.

        Ctrl-C may come between any two calls (CPython looks for signals after each). Whoever is struck while he leads still
        hands on, and hands on again if he was struck doing that.

        Raises:
            Timeout: its turn did not come in time; it did not happen.
        """
        try:
            with self._mutex:
                if self._leader is None:  # as nearly always
                    self._leader = write
            if self._leader is not write:
                return self._write_in_turn(write, timeout)
            (outcome,) = self._commit((write,))
        finally:
            if self._leader is write:
                try:
                    self._resign(write)
                except KeyboardInterrupt:
                    self._resign(write)
                    raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def write_async(self, write: Write, timeout: float) -> list[Result]:
        """As `write`, on an event loop. Cancelled while it waits, it does not happen; once its commit has begun, it does."""
        import asyncio

        turn = _TaskTurn(write, asyncio.get_running_loop())
        if self._join(turn):
            self._lead_on_thread(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn.done
        except (TimeoutError, asyncio.CancelledError) as error:
            gone = self._withdraw(turn)
            if isinstance(error, asyncio.CancelledError):
                raise
            if gone:
                raise Timeout(TOO_LATE.format(timeout)) from None
            raise Timeout(f"the disk did not answer within {timeout:g} s; the write may still happen") from None
        return turn.result()

    def close(self) -> None:
        """Wait for the commit under way, if any."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _write_in_turn(self, write: Write, timeout: float) -> list[Result]:
        turn = _ThreadTurn(write)
        try:
            if self._join(turn) or self._wait(turn, timeout):
                self._lead(turn)
                self._resign(turn)
        except KeyboardInterrupt:
            self._withdraw(turn, leading=True)
            self._resign(turn)
            raise
        return turn.result()

    def _join(self, turn: _Turn) -> bool:
        """Queue up; whether the turn is at the head and nobody leads, so that its owner must."""
        with self._mutex:
            self._waiting.append(turn)
            if self._leader is not None:
                return False
            self._leader = turn
            return True

    def _wait(self, turn: _ThreadTurn, timeout: float) -> bool:
        """Wait until the turn is done, or is to lead (True)."""
        if not turn.called.acquire(timeout=timeout):
            if self._withdraw(turn):
                raise Timeout(TOO_LATE.format(timeout))
            turn.called.acquire()
        return self._leader is turn

    def _withdraw(self, turn: _Turn, *, leading: bool = False) -> bool:
        """Take a turn out of the queue; False when it is in a commit already, or has been called to lead."""
        with self._mutex:
            called = isinstance(turn, _ThreadTurn) and self._leader is turn
            if turn not in self._waiting or (called and not leading):
                return False
            self._waiting.remove(turn)
            return True

    def _resign(self, leader: object) -> None:
        """Hand on what one leads, if one does."""
        if self._hand_on(leader):
            self._lead_on_thread(leader)

    def _lead_on_thread(self, leader: object) -> None:
        if self._shared is not None:
            self._shared.submit(self._lead_while_tasks, leader)
            return
        from concurrent.futures import ThreadPoolExecutor

        with self._mutex:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="botwire-commit")
        self._thread.submit(self._lead_while_tasks, leader)

    def _lead_while_tasks(self, leader: object) -> None:
        mine = object()
        with self._mutex:
            if self._leader is not leader:  # asked twice, by one who was struck between
                return
            self._leader = mine
        self._lead(mine)
        while self._hand_on(mine):
            self._lead(mine)

    def _lead(self, leader: object) -> None:
        """Commit one group."""
        group: list[_Turn] = []
        outcomes: list[Outcome] = []
        try:
            with self._mutex:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
            outcomes = self._commit([turn.write for turn in group]) if group else []
        except Exception as error:
            outcomes = [error] * len(group)
        except BaseException as error:
            # Ctrl-C is for the one thread that it struck.
            outcomes = [error if turn is leader else Unavailable(_INTERRUPTED) for turn in group]
        try:
            self._deliver(group, outcomes)
        except KeyboardInterrupt:
            self._deliver(group, outcomes)
            raise

    def _deliver(self, group: list[_Turn], outcomes: list[Outcome]) -> None:
        """Tell everybody; it may be done twice."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_TaskTurn]] = {}
        for turn, outcome in zip(group, outcomes, strict=True):
            turn.outcome = outcome
            if isinstance(turn, _TaskTurn):
                by_loop.setdefault(turn.loop, []).append(turn)
            elif isinstance(turn, _ThreadTurn) and turn.called.locked():
                turn.called.release()
        for loop, turns in by_loop.items():
            # One wake-up a loop, not one a write.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, turns)

    def _hand_on(self, leader: object) -> bool:
        """Let the next in line lead, if it was this one; whether that is a task, for which a thread has to do it."""
        with self._mutex:
            if self._leader is not leader:
                return False
            if not self._waiting:
                self._leader = None
                return False
            heir = self._waiting[0]
            if not isinstance(heir, _ThreadTurn):
                return True
            self._leader = heir
            heir.called.release()
            return False


TOO_LATE = "no turn to write within {:g} s, because other writers hold the store; nothing was written. Try again"

_INTERRUPTED = "the commit was interrupted; the write may or may not have happened"


class _Turn:
    """A write in the queue, and in the end its outcome."""

    __slots__ = ("outcome", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self.outcome: Outcome | None = None

    def result(self) -> list[Result]:
        if isinstance(self.outcome, list):
            return self.outcome
        assert self.outcome is not None
        raise self.outcome


class _ThreadTurn(_Turn):
    __slots__ = ("called",)

    def __init__(self, write: Write) -> None:
        super().__init__(write)
        self.called = threading.Lock()
        self.called.acquire()


class _TaskTurn(_Turn):
    __slots__ = ("done", "loop")

    def __init__(self, write: Write, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(write)
        self.loop = loop
        self.done: asyncio.Future[None] = loop.create_future()


def _finish(turns: list[_TaskTurn]) -> None:
    for turn in turns:
        if not turn.done.done():
            turn.done.set_result(None)
