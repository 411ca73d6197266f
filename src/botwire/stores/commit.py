"""Group commit: whatever writes have gathered while one commit was on its way to disk go into the next one together.

A sync to disk costs the same for one write as for a hundred. So writers queue here: the first leads, commits everything
that waits as one group, and hands the lead to the next in line. A writer alone never waits and never
changes threads. The queue is first come, first served, which makes threads and tasks fair to each other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..errors import Timeout, Unavailable
from ..records import Result, Write

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
        self._waiting: deque[_Turn] = deque()
        self._led = False
        self._thread: ThreadPoolExecutor | None = None

    def write(self, write: Write, timeout: float) -> list[Result]:
        """Return the results of a write when it is on disk, waiting in place.

        Raises:
            Timeout: its turn did not come in time; it did not happen.
        """
        with self._mutex:
            alone = not self._led
            self._led = True
        if alone:  # as nearly always
            return self._commit_alone(write)
        turn = _ThreadTurn(write)
        if self._join(turn) or self._wait(turn, timeout):
            self._lead_here(turn)
        return turn.result()

    async def write_async(self, write: Write, timeout: float) -> list[Result]:
        """As `write`, on an event loop. Cancelled while it waits, it does not happen; once its commit has begun, it does."""
        import asyncio

        turn = _TaskTurn(write, asyncio.get_running_loop())
        if self._join(turn):
            self._lead_on_thread()
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

    def _commit_alone(self, write: Write) -> list[Result]:
        try:
            (outcome,) = self._commit((write,))
        finally:
            if self._hand_on():
                self._lead_on_thread()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _join(self, turn: _Turn) -> bool:
        """Queue up; whether the turn is at the head and nobody leads, so that its owner must."""
        with self._mutex:
            self._waiting.append(turn)
            if self._led:
                return False
            self._led = True
            return True

    def _wait(self, turn: _ThreadTurn, timeout: float) -> bool:
        """Wait until the turn is done, or is to lead (True)."""
        try:
            if not turn.called.acquire(timeout=timeout):
                if self._withdraw(turn):
                    raise Timeout(TOO_LATE.format(timeout))
                turn.called.acquire()
        except KeyboardInterrupt:
            self._abandon(turn)
            raise
        return turn.leads

    def _withdraw(self, turn: _Turn) -> bool:
        """Take a turn out of the queue; False when it is in a commit already, or leads."""
        with self._mutex:
            if turn.leads or turn not in self._waiting:
                return False
            self._waiting.remove(turn)
            return True

    def _abandon(self, turn: _ThreadTurn) -> None:
        if not self._withdraw(turn) and turn.leads:
            with self._mutex:
                self._waiting.remove(turn)
            if self._hand_on():
                self._lead_on_thread()

    def _lead_here(self, turn: _ThreadTurn) -> None:
        if self._lead(turn):
            self._lead_on_thread()

    def _lead_while_tasks(self) -> None:
        while self._lead():
            pass

    def _lead_on_thread(self) -> None:
        if self._shared is not None:
            self._shared.submit(self._lead_while_tasks)
            return
        from concurrent.futures import ThreadPoolExecutor

        with self._mutex:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="botwire-commit")
        self._thread.submit(self._lead_while_tasks)

    def _lead(self, own: _Turn | None = None) -> bool:
        """Commit one group and hand on; whether the next in line is a task, for which a thread has to lead."""
        with self._mutex:
            group = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
        outcomes: list[Outcome] = []
        try:
            outcomes = self._commit([turn.write for turn in group]) if group else []
        except Exception as error:
            outcomes = [error] * len(group)
        except BaseException as error:
            # Ctrl-C is for the one thread that it struck.
            outcomes = [error if turn is own else Unavailable(_INTERRUPTED) for turn in group]
        self._deliver(group, outcomes)
        return self._hand_on()

    def _deliver(self, group: list[_Turn], outcomes: list[Outcome]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_TaskTurn]] = {}
        for turn, outcome in zip(group, outcomes, strict=True):
            turn.outcome = outcome
            if isinstance(turn, _TaskTurn):
                by_loop.setdefault(turn.loop, []).append(turn)
            elif isinstance(turn, _ThreadTurn):
                turn.called.release()
        for loop, turns in by_loop.items():
            # One wake-up a loop, not one a write.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, turns)

    def _hand_on(self) -> bool:
        with self._mutex:
            if not self._waiting:
                self._led = False
                return False
            heir = self._waiting[0]
            heir.leads = True
        if isinstance(heir, _TaskTurn):
            return True
        assert isinstance(heir, _ThreadTurn)
        heir.called.release()
        return False


TOO_LATE = "no turn to write within {:g} s, because other writers hold the store; nothing was written. Try again"

_INTERRUPTED = "the commit was interrupted; the write may or may not have happened"


class _Turn:
    """A write in the queue, and in the end its outcome."""

    __slots__ = ("leads", "outcome", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self.leads = False
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
