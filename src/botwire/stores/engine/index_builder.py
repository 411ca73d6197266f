"""Bringing into the index what is older than it: what was written before a namespace was first searched.

A step is a transaction of its own, so short that other writers hardly notice, and puts down how far it came. Whoever goes on,
in whichever process, goes on from there.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ...errors import Unavailable
from .account import FIRST_MESSAGE, NOT_BEGUN, OFF, SEQ_BITS, Account
from .ranges import one
from .rows import Run
from .transaction import Transaction
from .word_index import index_entries, index_messages

T = TypeVar("T")

STEP = 500
"""Texts that one transaction indexes, in some 20 ms."""
_ENTRIES, _MESSAGES = NOT_BEGUN, "messages "
"""What `Account.behind` begins with; then comes the key or the place to go on after."""


def state(run: Run, namespace: str) -> str | None:
    """Return where the index of a namespace has to go on: `OFF`, or None when nothing is missing."""
    for _, behind in run("get_behind", (namespace,)):
        return None if behind is None else str(behind)
    return None


def step(transaction: Transaction, run: Run, namespace: str) -> None:
    """Index some of what is missing. The caller finishes the transaction."""
    account = transaction.account(namespace)
    if account.id is None or account.behind is None or account.behind == OFF:
        return
    if account.behind.startswith(_ENTRIES):
        _step_entries(run, account, account.behind.removeprefix(_ENTRIES))
    else:
        _step_messages(run, account, int(account.behind.removeprefix(_MESSAGES)))


def _step_entries(run: Run, account: Account, after: str) -> None:
    keys = [key for (key,) in run("keys_to_index", (account.id, after, STEP))]
    index_entries(run, account, keys)
    account.behind = _ENTRIES + keys[-1] if len(keys) == STEP else f"{_MESSAGES}{FIRST_MESSAGE}"


def _step_messages(run: Run, account: Account, after: int) -> None:
    places: list[int] = []
    sessions = list(run("sessions_from", (account.id, after >> SEQ_BITS, STEP)))
    for session, last in sessions:
        start = session << SEQ_BITS
        seq = max(after - start, 0)
        until = min(last, seq + STEP - len(places))
        places += range(start + seq + 1, start + until + 1)
        after = start + until
        if len(places) == STEP:
            break
    index_messages(run, account, places)
    account.behind = f"{_MESSAGES}{after}" if STEP in {len(places), len(sessions)} else None


def turn_off(transaction: Transaction, namespace: str) -> None:
    """Index nothing of a namespace from now on. `empty` removes what is there."""
    account, _ = transaction.open_account(namespace)
    account.behind, account.pending, account.texts, account.words = OFF, "", 0, 0


def empty(transaction: Transaction, run: Run, namespace: str, session: int) -> int | None:
    """Remove some of what the index holds of a namespace whose index is off; the session to go on with, or None.

    Args:
        transaction: the caller finishes it.
        run: runs statements in it.
        namespace: whose.
        session: 0, or where to go on.
    """
    account = transaction.account(namespace)
    if account.id is None or account.behind != OFF:
        return None
    if not session:
        texts = account.id, STEP
        statements = "delete_some_entry_vectors", "delete_some_texts_of_entries", "delete_some_entry_texts"
        return 0 if max(_changed(run, name, texts) for name in statements) == STEP else 1
    for place, last in run("sessions_from", (account.id, session, 1)):
        some = place << SEQ_BITS, (place << SEQ_BITS) + last, STEP
        most = max(_changed(run, name, some) for name in ("delete_some_message_vectors", "delete_some_texts"))
        return int(place) + int(most < STEP)
    return None


def _changed(run: Run, name: str, values: tuple[Any, ...]) -> int:
    run(name, values)
    return int(one(run("changes", ()))[0])


def turn_on(transaction: Transaction, namespace: str) -> None:
    """Index a namespace from its next search on. The index has to be empty."""
    account, _ = transaction.open_account(namespace)
    if account.behind == OFF:
        account.behind = NOT_BEGUN


class Indexed(ABC):
    """What a store in a database does about the index of a namespace."""

    timeout: float

    @abstractmethod
    def _change(self, namespace: str, change: Callable[[Transaction, Run], T]) -> T:
        """Run a change in a transaction of its own; it may run again if that fails."""

    @abstractmethod
    def _index_state(self, namespace: str) -> str | None:
        """As `state`."""

    def set_index(self, namespace: str, *, on: bool) -> None:
        """Let a namespace be searched or not; without its index, writes are faster and search is refused. For operators.

        What is there already is indexed when it is first searched, or by `index`.
        """
        if on and self._index_state(namespace) != OFF:
            return
        self._change(namespace, lambda transaction, _: turn_off(transaction, namespace))
        session: int | None = 0
        while session is not None:
            session = self._change(namespace, partial(empty, namespace=namespace, session=session))
        if on:
            self._change(namespace, lambda transaction, _: turn_on(transaction, namespace))

    def index(self, namespace: str, *, timeout: float) -> bool:
        """Index what a namespace holds and is not in its index yet, in steps between which others write.

        Args:
            namespace: whose.
            timeout: seconds to go on.

        Returns:
            Whether all of it is indexed now.
        """
        end = time.monotonic() + timeout
        while self._index_state(namespace) not in {None, OFF}:
            if time.monotonic() >= end:
                return False
            self._change(namespace, partial(step, namespace=namespace))
        return True

    def _bring_up_to_date(self, namespace: str) -> None:
        if not self.index(namespace, timeout=self.timeout / 2):
            raise Unavailable(
                f"the index of namespace {namespace!r} is being made, because it has none yet or had none for a time; each "
                "search goes on with it. Try again, or make it beforehand with botwire index on"
            )
