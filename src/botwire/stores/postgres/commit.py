"""Commit groups of writes to PostgreSQL: each write once, even if the server's answer to a commit is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import psycopg

from ...errors import BotWireError, StoreError, Timeout, Unavailable
from ...operations import Write
from ...plans import Plans
from ...timestamps import new_id
from ..engine.clock import Clock
from ..engine.group_commit import Outcome
from ..engine.transaction import Transaction
from .connection import Connection, is_lost, mapped
from .pool import ConnectionPool
from .unit_of_work import Unit, is_known_beforehand
from .work import NotAlone


class _ClockTurned(Exception):
    """The server's clock was set back. What had expired must be removed before anything is written."""


@dataclass(slots=True)
class _Group:
    """Writes to one namespace that are committed together, and what is known from earlier attempts."""

    writes: Sequence[Write]
    key: str | None
    """The idempotency key of the whole group. None: every write has its own."""
    new_ids: bool = True
    """Whether to assume that no message of the writes is stored yet."""
    may_turn: bool = True
    """Whether an attempt may end with `_ClockTurned`."""
    outcomes: list[Outcome] | None = None
    """The outcomes of an attempt that was committed or not: its answer was lost. None: there was no such attempt."""


@dataclass(slots=True)
class Committer:
    """Commits the writes of a store."""

    pool: ConnectionPool
    clock: Clock
    plans: Plans
    now: Callable[[float], int]
    """Takes the deadline and returns the time, after removing what had expired if the clock was set back."""
    notify: Callable[[str], None]
    """Is called with a namespace after a commit, if any process listens."""
    behind: set[str]
    """Receives the namespaces of which something is left to index."""

    def commit(self, writes: Sequence[Write], deadline: float) -> list[Outcome]:
        """Commit writes to one namespace, in order, and return an outcome for each. They are durable when this returns."""
        outcomes: list[Outcome] = []
        for together, some in groupby(writes, is_known_beforehand):
            for group in [list(some)] if together else [[write] for write in some]:
                outcomes += self._commit_group(group, deadline)
        return outcomes

    def _commit_group(self, writes: Sequence[Write], deadline: float) -> list[Outcome]:
        """Commit writes in one transaction. If the answer is lost, find out whether it was committed."""
        group = _Group(writes, None if all(write.idempotency_key for write in writes) else "\x01" + new_id())
        backoff = self.pool.backoff(deadline)
        self.now(deadline)
        while True:
            try:
                with self.pool.lend(deadline) as connection:
                    return self._attempt(connection, group, deadline)
            except _ClockTurned:
                self.now(deadline)
                group.may_turn = False
                continue
            except NotAlone:
                return [outcome for write in writes for outcome in self._commit_group([write], deadline)]
            except (psycopg.Error, Timeout, Unavailable) as error:
                failure: Exception = error
            except BotWireError as error:
                return [error] * len(writes)
            group.new_ids = False  # the attempt may have failed because of one that is stored
            if not self.pool.may_retry(failure, backoff):
                address = self.pool.address
                # The last error says "nothing was written", which is not known once the answer to a commit was lost.
                if group.outcomes is not None:
                    lost = f"{address}: the connection was lost during a commit; the write may have happened"
                    return [Timeout(lost)] * len(writes)
                return [mapped(address, failure)] * len(writes)

    def _attempt(self, connection: Connection, group: _Group, deadline: float) -> list[Outcome]:
        """Apply the writes and commit. If an earlier attempt was committed, return its outcomes."""
        unit = Unit(connection, group.writes[0].namespace, group.writes, new_ids=group.new_ids)
        earlier = group.outcomes
        is_committed = unit.begin(deadline - time.monotonic(), None if earlier is None else group.key)
        outcomes = earlier if earlier is not None and is_committed else self._apply(unit, group, connection)
        connection.unreplicated = False
        try:
            # Also if an earlier attempt was committed: it is on the primary, but perhaps not on its replica yet. This commit
            # waits for the replica.
            is_listened_to = unit.commit()
        except psycopg.Error as error:
            if is_lost(error):
                group.outcomes = outcomes
            raise
        if is_listened_to:
            self.notify(group.writes[0].namespace)
        if connection.unreplicated:
            raise StoreError("the commit was cancelled while it waited for its replica: it is on the primary alone")
        return outcomes

    def _apply(self, unit: Unit, group: _Group, connection: Connection) -> list[Outcome]:
        """Apply the writes at the time at which the server began the transaction."""
        self.pool.clock.update(unit.time, unit.asked)
        moment = self.clock.now()
        if self.clock.is_behind and group.may_turn:
            raise _ClockTurned

        def apply_also(write: Write) -> None:
            other = Unit(connection, write.namespace, (write,))
            other.join()
            second = Transaction(other, self.plans, moment)
            second.apply(write, alone=True)
            second.finish()
            other.write_out()

        transaction = Transaction(
            unit,
            self.plans,
            moment,
            ages_are_known=self.clock.ages_are_known,
            apply_also=apply_also,
            behind=self.behind,
        )
        alone = len(group.writes) == 1
        outcomes: list[Outcome] = [transaction.apply(write, alone=alone) for write in group.writes]
        transaction.finish()
        namespace = group.writes[0].namespace
        # To apply writes again that changed nothing does no harm.
        if group.key is not None and transaction.state(namespace).version != unit.get_version(namespace):
            unit.save_response(namespace, group.key, moment, "")
            transaction.purge_responses()
        return outcomes
