"""What the stores of both databases have in common: plans, and the word index of a namespace."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from ...errors import BotWireError, Unavailable
from ...limits import FIRST_NAME
from ...operations import Guard, Operation, Result, Write, weight_of
from ...plans import Plans
from ...queries import ListChanges
from ...store import GuardedStore, OperatedStore, Reader
from . import removal, word_index
from .accounts import recount
from .clock import Clock
from .feeds import AsyncFeed, Poller
from .tables import OFF, NamespaceState, Tables
from .transaction import Transaction

T = TypeVar("T")
S = TypeVar("S", bound=OperatedStore)


class DatabaseStore(ABC):
    """The part of a database store that is the same for both."""

    plans: Plans
    timeout: float
    _clock: Clock

    def __init__(self) -> None:
        self.behind: set[str] = set()
        """Namespaces of which writes have left something to index."""
        self._catching_up = threading.Lock()

    @abstractmethod
    def _change(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        """Run a change in a transaction of its own. It may run again if that fails."""

    @abstractmethod
    def _state(self, namespace: str) -> NamespaceState | None:
        """Return the state of a namespace, None if it does not exist."""

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        del fields  # a database gets no header fields

    def set_plan(self, namespace: str, plan: str | None) -> None:
        if plan is not None:
            self.plans.check(plan)
        self._change_now(namespace, lambda transaction, _: transaction.set_plan(namespace, plan))

    def sweep(self) -> None:
        more = True
        while more and self._clock.ages_are_known():
            more = self._change_now(FIRST_NAME, lambda transaction, _: transaction.sweep())

    def recount(self, namespace: str) -> list[str]:
        return self._change_now(
            namespace, lambda transaction, tables: recount(tables, namespace, transaction.state(namespace))
        )

    def set_index(self, namespace: str, *, on: bool) -> None:
        # What exists already is indexed by the first search, or by `index`.
        state = self._state(namespace)
        if on and (state is None or state.index_cursor != OFF):
            return
        self._change_now(
            namespace, lambda transaction, _: word_index.turn_off(transaction.open_namespace(namespace)[0])
        )
        session: int | None = 0
        while session is not None:
            session = self._empty_index(namespace, session)
        if on:
            self._change_now(
                namespace, lambda transaction, _: word_index.turn_on(transaction.open_namespace(namespace)[0])
            )

    def _empty_index(self, namespace: str, session: int) -> int | None:
        def change(transaction: Transaction, tables: Tables) -> int | None:
            return word_index.empty(tables, transaction.state(namespace), session)

        return self._change_now(namespace, change)

    def index(self, namespace: str, *, timeout: float) -> bool:
        return self._index_until(namespace, time.monotonic() + timeout)

    def _index_until(self, namespace: str, deadline: float) -> bool:
        """Index until a deadline, in steps between which others can write. Returns whether everything is indexed."""
        while (state := self._state(namespace)) is not None and word_index.is_behind(state):
            if time.monotonic() >= deadline:
                return False
            now = time.monotonic()
            # The last step gets a little time of its own: what it has done would be lost otherwise.
            until = min(max(deadline, now + self.timeout / 4), now + self.timeout)
            self._change(
                namespace, lambda transaction, tables: word_index.step(tables, transaction.state(namespace)), until
            )
        return True

    def catch_up(self) -> None:
        """Index what large writes have left, for at most the timeout of a call. Other threads that call this return at once."""
        if not self._catching_up.acquire(blocking=False):
            return
        try:
            deadline = time.monotonic() + self.timeout
            while self.behind and time.monotonic() < deadline:
                self._index_until(self.behind.pop(), deadline)
        except BotWireError:
            pass  # the next writes continue, or the next search
        finally:
            self._catching_up.release()

    def _in_steps(self, write: Write, write_once: Callable[[Write, float], list[Result]]) -> list[Result]:
        """Apply a removal, again until a transaction has removed the last row. Others write in between."""
        results = write_once(write, time.monotonic() + self.timeout)
        while (again := removal.continued(write, results)) is not None:
            results = write_once(again, time.monotonic() + self.timeout)
        return results

    def _catch_up_after(self, write: Write) -> None:
        """After a large write, index what is left of it, so that a search need not. A small write does not wait for others."""
        if weight_of(write) >= word_index.MANY:
            self.catch_up()

    def _change_now(self, namespace: str, change: Callable[[Transaction, Tables], T]) -> T:
        return self._change(namespace, change, time.monotonic() + self.timeout)

    def _bring_up_to_date(self, namespace: str, deadline: float) -> None:
        """Build the index for a search, in at most half of the time that is left."""
        now = time.monotonic()
        if not self._index_until(namespace, now + (deadline - now) / 2):
            raise Unavailable(
                f"the index of namespace {namespace!r} is being built, because this is its first search, or follows many writes; "
                "each search continues the work. Try again, or build it beforehand with: botwire index on"
            )


class AwaitedStore(GuardedStore, Generic[S]):
    """A `GuardedStore` over a store. The subclass defines how reads and writes leave the event loop."""

    _poller: Poller

    @abstractmethod
    def _write(self, write: Write) -> Coroutine[Any, Any, list[Result]]: ...

    def __init__(self, store: S) -> None:
        self.store = store

    @property
    def address(self) -> str:
        return self.store.address

    @property
    def plans(self) -> Plans:
        return self.store.plans

    def write(  # no coroutine of its own, which would be one more to resume: this is a hot path of the server
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
        also: Write | None = None,
    ) -> Coroutine[Any, Any, list[Result]]:
        write = Write(namespace, tuple(operations), idempotency_key, guard, also)
        if len(operations) == 1 and type(operations[0]) in removal.REMOVALS:
            return self._write_in_steps(write)
        return self._write(write)

    async def _write_in_steps(self, write: Write) -> list[Result]:
        """As `DatabaseStore._in_steps`."""
        results = await self._write(write)
        while (again := removal.continued(write, results)) is not None:
            results = await self._write(again)
        return results

    async def set_plan(self, namespace: str, plan: str | None) -> None:
        await asyncio.to_thread(self.store.set_plan, namespace, plan)

    async def sweep(self) -> None:
        await asyncio.to_thread(self.store.sweep)

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed:
        return self.changes_for(self, namespace, query)

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        return AsyncFeed(reader, self._poller, namespace, query)

    async def close(self) -> None:
        await asyncio.to_thread(self.store.close)
