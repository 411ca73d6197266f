"""Build the word index of a namespace: index what was written before the first search.

A step is one short transaction that records how far it came, so other writers are hardly delayed. Any process can continue.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ...errors import Unavailable
from ...plans import Plans
from .account import FIRST_MESSAGE, NOT_BEGUN, OFF, SEQ_BITS, Account, place_of
from .tables import Tables
from .transaction import Transaction
from .word_index import index_entries, index_messages

T = TypeVar("T")

STEP = 500
"""Texts that one transaction indexes, in some 20 ms."""
_ENTRIES, _MESSAGES = NOT_BEGUN, "messages "
"""`Account.index_cursor` starts with one of these. The key, or the place, to continue after follows."""


def step(transaction: Transaction, tables: Tables, namespace: str) -> None:
    """Index some of what is missing. The caller finishes the transaction."""
    account = transaction.account(namespace)
    if account.id is None or account.index_cursor is None or account.index_cursor == OFF:
        return
    if account.index_cursor.startswith(_ENTRIES):
        _step_entries(tables, account, account.index_cursor.removeprefix(_ENTRIES))
    else:
        _step_messages(tables, account, int(account.index_cursor.removeprefix(_MESSAGES)))


def _step_entries(tables: Tables, account: Account, after: str) -> None:
    assert account.id is not None
    keys = tables.keys_to_index(account.id, after, STEP)
    index_entries(tables, account, keys)
    account.index_cursor = _ENTRIES + keys[-1] if len(keys) == STEP else f"{_MESSAGES}{FIRST_MESSAGE}"


def _step_messages(tables: Tables, account: Account, after: int) -> None:
    assert account.id is not None
    places: list[int] = []
    sessions = tables.sessions_from(account.id, after >> SEQ_BITS, STEP)
    for session, last in sessions:
        start = place_of(session, 0)
        seq = max(after - start, 0)
        until = min(last, seq + STEP - len(places))
        places += range(start + seq + 1, start + until + 1)
        after = start + until
        if len(places) == STEP:
            break
    index_messages(tables, account, places)
    account.index_cursor = f"{_MESSAGES}{after}" if STEP in {len(places), len(sessions)} else None


def turn_off(transaction: Transaction, _: Tables, namespace: str) -> None:
    """Stop indexing a namespace. `empty` removes what is in the index."""
    account, _id = transaction.open_account(namespace)
    account.index_cursor, account.pending, account.texts, account.words = OFF, "", 0, 0


def empty(transaction: Transaction, tables: Tables, namespace: str, session: int) -> int | None:
    """Remove some of what the index of a namespace holds, after `turn_off`.

    Args:
        transaction: the caller finishes it.
        tables: its tables.
        namespace: the namespace.
        session: 0, or what the last call returned.

    Returns:
        The session to continue with; None: nothing is left.
    """
    account = transaction.account(namespace)
    if account.id is None or account.index_cursor != OFF:
        return None
    if not session:
        return 0 if tables.empty_entries(account.id, STEP) == STEP else 1
    for number, last in tables.sessions_from(account.id, session, 1):
        return number if tables.empty_messages(number, last, STEP) == STEP else number + 1
    return None


def turn_on(transaction: Transaction, _: Tables, namespace: str) -> None:
    """Index a namespace from its next search on. The index must be empty."""
    account, _id = transaction.open_account(namespace)
    if account.index_cursor == OFF:
        account.index_cursor = NOT_BEGUN


class Indexed(ABC):
    """The part of a database store that is the same for both: plans, and the word index of a namespace."""

    plans: Plans
    timeout: float

    @abstractmethod
    def _change(self, namespace: str, change: Callable[[Transaction, Tables], T], deadline: float) -> T:
        """Run a change in a transaction of its own. It may run again if that fails."""

    @abstractmethod
    def _index_cursor(self, namespace: str) -> str | None:
        """Return `Account.index_cursor`; None: everything is indexed."""

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        del fields  # a database gets no header fields

    def set_plan(self, namespace: str, plan: str | None) -> None:
        if plan is not None:
            self.plans.check(plan)
        self._change_now(namespace, lambda transaction, _: transaction.set_plan(namespace, plan))

    def set_index(self, namespace: str, *, on: bool) -> None:
        # What exists already is indexed by the first search, or by `index`.
        if on and self._index_cursor(namespace) != OFF:
            return
        self._change_now(namespace, partial(turn_off, namespace=namespace))
        session: int | None = 0
        while session is not None:
            session = self._change_now(namespace, partial(empty, namespace=namespace, session=session))
        if on:
            self._change_now(namespace, partial(turn_on, namespace=namespace))

    def index(self, namespace: str, *, timeout: float) -> bool:
        return self._index_until(namespace, time.monotonic() + timeout)

    def _index_until(self, namespace: str, deadline: float) -> bool:
        """Index until a deadline, in steps between which others can write. Returns whether everything is indexed."""
        while self._index_cursor(namespace) not in {None, OFF}:
            if time.monotonic() >= deadline:
                return False
            now = time.monotonic()
            # The last step gets a little time of its own: what it has done would be lost otherwise.
            until = min(max(deadline, now + self.timeout / 4), now + self.timeout)
            self._change(namespace, partial(step, namespace=namespace), until)
        return True

    def _change_now(self, namespace: str, change: Callable[[Transaction, Tables], T]) -> T:
        return self._change(namespace, change, time.monotonic() + self.timeout)

    def _bring_up_to_date(self, namespace: str, deadline: float) -> None:
        """Build the index for a search, in at most half of the time that is left."""
        now = time.monotonic()
        if not self._index_until(namespace, now + (deadline - now) / 2):
            raise Unavailable(
                f"the index of namespace {namespace!r} is being built, because this is its first search; each search "
                "continues the work. Try again, or build it beforehand with: botwire index on"
            )
