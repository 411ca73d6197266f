"""Operations → rows: what a write does to the tables, inside a transaction that its caller began and will commit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ... import operations
from ...errors import BotWireError, Conflict, InvalidArgument, InvalidValue, QuotaExceeded, StorageExceeded
from ...limits import FIRST_NAME, MAX_RULES, MAX_TTL_SECONDS, check_numbers
from ...operations import Guard, Result, Write
from ...plans import DAY, Plan, Plans
from ...records import Rule
from ...store import GUARD_FAILED, GuardFailed
from ...values import MAX_NUMBER_BYTES, Stored, add, encode_json, size
from . import idempotency, journal, removal, retention, sessions, vectors, word_index
from .effort import LONG_NUMBER, Effort, NotHere
from .journal import BLOCK_CHARS, DELETED, EXPIRED, RULES, SET
from .tables import NOT_BEGUN, OFF, EntryHead, NamespaceId, NamespaceState, Tables, day_of

PURGE = 64
"""Expired entries that one write removes. More than one, so that a backlog shrinks."""
PURGE_FOR_ROOM = 1_000
"""Expired entries that a write removes at a time, if it needs their bytes."""
SWEEP_INTERVAL = 10_000_000
"""How often the writes of a connection remove old idempotency records, in microseconds."""

_UNLIMITED = Plan()
_Times: TypeAlias = tuple[int, int, int | None]
"""Created, updated and expires of an entry."""


class Transaction:
    """Applies writes one after the other; `finish` writes the states back.

    `ages_are_known` returns whether the clock gives the age of idempotency records. If not, none is removed. `known` are states
    that are certain to be those in the database, so that they need not be read. The transaction takes them over. `index_bytes`
    limits how much is indexed for search: see `word_index`. `most_bytes` is how
    many bytes of stored values it may replace, remove or pop. Beyond them, it raises `NotHere`. `finish` adds the namespaces of which something is left to `behind`.
    `apply_also` applies the second write of a write; this transaction by default.
    """

    def __init__(
        self,
        tables: Tables,
        plans: Plans,
        now: int,
        *,
        ages_are_known: Callable[[], bool] = lambda: False,
        known: dict[str, NamespaceState] | None = None,
        index_bytes: int = word_index.STEP_BYTES,
        apply_also: Callable[[Write], object] | None = None,
        behind: set[str] | None = None,
        most_bytes: float = math.inf,
    ) -> None:
        self.tables = tables
        self._plans = plans.current  # all writes see one version, although a server may replace its plans
        self.now = now
        self._ages_are_known = ages_are_known
        self._known = {} if known is None else known
        self._index_bytes = index_bytes
        self._apply_also = apply_also or self._apply
        self._behind: set[str] = set() if behind is None else behind
        self.left = most_bytes
        self._effort: Effort | None = None
        self._changes_rules = False
        """Whether the write has changed rules. No session has expired by rules that only a part of a write has seen."""
        self.states: dict[str, NamespaceState] = {}
        """The states of all namespaces touched. After `finish`, they are those in the database."""
        self._guarded: dict[str, int] = {}

    def apply(self, write: Write, *, alone: bool = False) -> list[Result] | BotWireError:
        """Apply a write and return its results, or undo all of it and return the reason.

        Args:
            write: the write.
            alone: no other write is in this transaction. The reason is raised, and the caller's ROLLBACK undoes the write.
        """
        if write.guard is not None and not self._holds(write.guard):
            failed = GuardFailed(GUARD_FAILED)
            if alone:
                raise failed
            return failed
        if write.also is not None:
            return self._apply_both(write) if alone else self._apply_or_undo(write)
        if alone:
            return self._apply(write)
        if write.idempotency_key is None and len(write.operations) == 1 and self._changes_nothing_if_refused(write):
            try:
                return self._apply(write)
            except BotWireError as error:
                return error
        return self._apply_or_undo(write)

    def finish(self) -> None:
        """Remove some expired entries, and write back the index, the journal and the states of all namespaces touched."""
        allowance: word_index.Allowance | None = None
        for name, state in self.states.items():
            if state.id is None:
                continue
            if state.expires is not None:
                self._purge(state, PURGE)
            limits = self.limits(state)
            if limits is not None or state.sessions_due is not None:
                retention.purge(self.tables, state, limits, self.now)
            if state.pending:
                allowance = allowance or word_index.Allowance(self._index_bytes)
                if word_index.index_pending(self.tables, state, allowance):
                    self._behind.add(name)
            if len(state.recent) > BLOCK_CHARS:
                journal.move_to_blocks(self.tables, state)
            self.tables.set_state(state)
        if self.now > self.tables.sweep_due and self._ages_are_known():
            self.sweep()

    def purge(self, namespace: str) -> None:
        """Remove all expired entries of a namespace."""
        self._purge(self.state(namespace), None)

    def set_plan(self, namespace: str, plan: str | None) -> None:
        """Set the plan of a namespace; None: the default plan of the writer."""
        state, id_ = self.open_namespace(namespace)
        state.plan = plan
        self.tables.set_plan(id_, plan)

    def state(self, namespace: str) -> NamespaceState:
        """Return the state of a namespace, an empty one if it does not exist."""
        state = self.states.get(namespace)
        if state is None:
            today = self.now // DAY
            state = self._known.pop(namespace, None) or self.tables.get_state(namespace)
            if state is None:
                state = NamespaceState(None, None, today, 0, 0, 0, None)
            if state.day < today:
                state.day, state.writes = today, 0
            elif state.day > today:
                state.day = day_of(state.day, today)
            state.is_system = namespace < FIRST_NAME
            self.states[namespace] = state
        return state

    def open_namespace(self, namespace: str) -> tuple[NamespaceState, NamespaceId]:
        """Return the state of a namespace and its id. Creates the namespace if it does not exist."""
        state = self.state(namespace)
        if state.id is None:
            state.id = self.tables.new_state(namespace, state.day)
            # A system namespace is never searched, and no plan limits it.
            state.index_cursor = OFF if state.is_system else NOT_BEGUN
        return state, state.id

    def purge_responses(self) -> None:
        """Remove some old responses, as each write that saves one does."""
        if self._ages_are_known():
            self.tables.purge_responses(self.now - idempotency.RESPONSES_KEPT, idempotency.AT_ONCE)

    def sweep(self) -> bool:
        """Remove some old idempotency records, of any namespace; returns whether there may be more."""
        before = self.now - idempotency.RESPONSES_KEPT
        more = self.tables.sweep_responses(before, idempotency.AT_ONCE) >= idempotency.AT_ONCE
        self.tables.sweep_due = 0 if more else self.now + SWEEP_INTERVAL
        return more

    # Applying

    def _holds(self, guard: Guard) -> bool:
        """Whether a guard holds, after the earlier writes of this transaction."""
        state = self.states.get(guard.namespace)
        if state is None and guard.namespace not in self._guarded:
            self._guarded[guard.namespace] = self.tables.get_version(guard.namespace)
        version = self._guarded[guard.namespace] if state is None else state.version
        return self.tables.holds(guard, version, self.now)

    def _changes_nothing_if_refused(self, write: Write) -> bool:
        """Whether a write that is refused is refused before it changes anything, so that nothing needs to be undone."""
        return type(write.operations[0]) in _REFUSED_FIRST and self.state(write.namespace).id is not None

    def _apply_or_undo(self, write: Write) -> list[Result] | BotWireError:
        also = () if write.also is None else (write.also.namespace,)
        saved = {name: copy.copy(self.states.get(name)) for name in (write.namespace, *also)}
        self.tables.savepoint()
        try:
            results = self._apply_both(write)
        except BotWireError as error:
            self.tables.undo()
            for name, state in saved.items():
                if state is None:
                    self.states.pop(name, None)
                else:
                    self.states[name] = state
            return error
        self.tables.release()
        return results

    def _apply_both(self, write: Write) -> list[Result]:
        """Apply a write, and also its second one if this one changes something."""
        if write.also is None:
            return self._apply(write)
        before = self.state(write.namespace).version
        results = self._apply(write)
        # A repeated write has results and changes nothing; a delete of nothing may remove what had expired.
        if operations.has_effect(write.operations, results) and self.state(write.namespace).version != before:
            self._apply_also(write.also)
        return results

    def _apply(self, write: Write) -> list[Result]:
        if write.idempotency_key is None:
            return self._apply_each(write)
        hashed = idempotency.hash_of(write)
        state = self.state(write.namespace)
        known = None if state.id is None else idempotency.find(self.tables, state.id, write, hashed)
        if known is not None:
            return known
        version = state.version
        results = self._apply_each(write)
        if state.version != version and not removal.is_partial(results):
            idempotency.save(self.tables, state, write, hashed, results, self.now)
            self.purge_responses()
        return results

    def touch(self, length: int) -> None:
        """Count bytes that are replaced, removed or popped."""
        self.left -= length
        if self.left < 0:
            raise NotHere

    def begin_effort(self) -> Effort:
        if self._effort is None:  # few writes need it
            self._effort = Effort()
        return self._effort

    def _apply_each(self, write: Write) -> list[Result]:
        if len(write.operations) == 1 and type(write.operations[0]) in removal.REMOVALS:
            return [self._remove(write)]
        results: list[Result] = []
        self._changes_rules = False
        if self._effort is not None:
            self._effort.begin_write()
        for op in write.operations:
            results.append(_APPLY[type(op)](self, write.namespace, op))
            state = self.states.get(write.namespace)
            if state is not None and len(state.recent) > BLOCK_CHARS:  # each further record would copy all of them
                journal.move_to_blocks(self.tables, state)
        return results

    def _remove(self, write: Write) -> int:
        """Apply a removal that is alone in its write."""
        state, operation = self.state(write.namespace), write.operations[0]
        if isinstance(operation, operations.Forget):
            sessions.live_head(self, state, operation.session)  # so that the messages of an expired one do not count
        return removal.remove(self.tables, state, write, self.now)

    # Entries

    def _put(self, namespace: str, op: operations.Put) -> int:
        state, id_ = self.open_namespace(namespace)
        head = self._live_head(state, id_, op.key)
        version = 0 if head is None else head[0]
        if op.if_version is not None and op.if_version != version:
            raise Conflict(_conflict(op.key, op.if_version, version), key=op.key, version=version)
        if op.times is not None:
            check_numbers("times", op.times)
            return self._store(state, op.key, op.stored, head, op.times, writes=0)
        created = self.now if head is None else head[1]
        if op.keep_ttl:
            expires = None if head is None else head[2]
        else:
            expires = None if op.ttl is None else self._expires_in(op.ttl)
        return self._store(state, op.key, op.stored, head, (created, self.now, expires))

    def _expires_in(self, ttl: float) -> int:
        if not abs(ttl) <= MAX_TTL_SECONDS:  # not a number, perhaps
            raise InvalidArgument(f"ttl is at most {MAX_TTL_SECONDS:,} s, not {ttl!r}; nothing was written")
        return self.now + int(ttl * 1_000_000)

    def _require(self, namespace: str, op: operations.Require) -> int:
        state = self.state(namespace)
        head = None if state.id is None else self._live_head(state, state.id, op.key)
        version = 0 if head is None else head[0]
        if op.version != version:
            raise Conflict(_conflict(op.key, op.version, version), key=op.key, version=version)
        return version

    def _increment(self, namespace: str, op: operations.Increment) -> int | float:
        state, id_ = self.open_namespace(namespace)
        head = self._live_head(state, id_, op.key)
        if head is not None and head[3] > MAX_NUMBER_BYTES:
            raise InvalidValue(f"key {op.key!r} holds {head[3]:,} bytes, not a number: it cannot be incremented")
        total = add(op.key, None if head is None else self.tables.peek_value(id_, op.key), op.by)
        created, expires = (self.now, None) if head is None else head[1:3]
        stored = encode_json(total)
        if len(stored) > LONG_NUMBER:
            self.begin_effort().increment(stored)
        self._store(state, op.key, stored, head, (created, self.now, expires))
        return total

    def _live_head(self, state: NamespaceState, id_: NamespaceId, key: str) -> EntryHead | None:
        """Return the head of a live entry. An expired one is removed at once.

        What follows may have to make room by removing everything that has expired. If this entry were still there, it would be
        removed then, and its bytes would be given back twice.
        """
        head = self.tables.peek_entry(id_, key)
        if head is not None and head[2] is not None and head[2] <= self.now:
            self._delete_entry(state, key, head[3], EXPIRED)
            return None
        return head

    def _store(
        self, state: NamespaceState, key: str, stored: Stored, head: EntryHead | None, times: _Times, *, writes: int = 1
    ) -> int:
        created, updated, expires = times
        if head is None:
            length = size(stored) + size(key)
        else:
            length = size(stored) - head[3]
            self.left -= head[3]  # `touch`, without its call: this is a hot path
            if self.left < 0:
                raise NotHere
        self.charge(state, writes, length)
        _record_entry(state, SET, key)
        if len(stored) > word_index.LARGE and state.is_indexed:
            state.mark_unindexed(f"{word_index.DUE_NOW}\n")
        if expires is not None and (state.expires is None or expires < state.expires):
            state.expires = expires
        assert state.id is not None
        self.tables.put_entry((state.id, key, state.version, created, updated, expires, stored))
        return state.version

    def _delete(self, namespace: str, op: operations.Delete) -> bool:
        state = self.state(namespace)
        if state.id is None:
            return False
        head = self._live_head(state, state.id, op.key)
        if head is None:
            return False
        self._delete_entry(state, op.key, head[3], DELETED)
        return True

    def _delete_entry(self, state: NamespaceState, key: str, length: int, kind: str) -> None:
        """Remove an entry whose value has `length` bytes."""
        assert state.id is not None
        self.touch(length)
        self.tables.delete_entry(state.id, key)
        state.bytes -= length + size(key)
        _record_entry(state, kind, key)

    def _clear(self, namespace: str, op: operations.Clear) -> int:
        return removal.clear(self.tables, self.state(namespace), op.prefix, self.now)

    # Others

    def _expire(self, namespace: str, _: operations.Expire) -> bool:
        state = self.state(namespace)
        self._purge(state, PURGE)
        more = retention.purge(self.tables, state, self.limits(state), self.now)
        return more or (state.expires is not None and state.expires <= self.now)

    def _retain(self, namespace: str, op: operations.Retain) -> bool:
        state, id_ = self.open_namespace(namespace)
        rules = retention.with_rule(state.retention, Rule(op.prefix, op.idle, op.age))
        if rules == state.retention:
            return False
        if len(retention.rules_in(rules)) > MAX_RULES:
            raise InvalidArgument(f"a namespace has at most {MAX_RULES} rules for its sessions; nothing was written")
        if not self._changes_rules:  # or what has expired would return
            retention.purge_all(self.tables, state, self.limits(state), self.now)
        self._changes_rules = True
        self.tables.set_retention(id_, rules)
        state.retention, state.sessions_due = rules, 0
        state.record(RULES)
        return True

    def _destroy(self, _: str, __: operations.Destroy) -> int:
        raise InvalidArgument("a namespace is destroyed by a write with no other operations; nothing was written")

    def _set_vectors(self, namespace: str, op: operations.SetVectors) -> int:
        state = self.state(namespace)
        if state.id is None:
            return 0
        state.refuse_if_off(namespace)
        check_numbers("version", [item.version for item in op.vectors])
        length = sum(len(item.vector) for item in op.vectors)
        self._make_room(state, length, *self._plan_of(state))
        kept = vectors.keep(self.tables, state.id, op)
        state.vectors = self.tables.vector_bytes(state.id)  # some replaced others, some were not kept
        return kept

    # The state

    def limits(self, state: NamespaceState) -> retention.Limits | None:
        """Return how long the sessions of a namespace are kept."""
        plan = self._plan_of(state)[1]
        if state.retention is None and plan.session_idle_days is None:  # without a call: this runs with each write
            return None
        return retention.limits_of(state.retention, plan)

    def _plan_of(self, state: NamespaceState) -> tuple[str, Plan]:
        if state.is_system:
            return "", _UNLIMITED
        named, name = self._plans.named, state.plan
        if name is None or name not in named:  # `Plans.of`, without its call: this runs with each write
            name = self._plans.default
        return name, named[name]

    def charge(self, state: NamespaceState, writes: int, length: int) -> None:
        """Count writes and bytes, or raise if the plan does not allow them."""
        name, plan = self._plan_of(state)
        if plan.writes_per_day is not None and writes and state.writes + writes > plan.writes_per_day:
            seconds = math.ceil(((state.day + 1) * DAY - self.now) / 1_000_000)
            raise QuotaExceeded(
                f"the plan {name!r} allows {plan.writes_per_day:,} writes a UTC day: {state.writes:,} are used. "
                f"It starts again in {seconds:,} s; reads, deletes and redactions still work",
                plan=name,
                limit=plan.writes_per_day,
                retry_after=seconds,
            )
        if plan.max_bytes is not None:
            self._make_room(state, length, name, plan)
        state.writes += writes
        state.bytes += length

    def _make_room(self, state: NamespaceState, length: int, name: str, plan: Plan) -> None:
        """Raise `StorageExceeded` unless `length` more bytes fit. If they do not, expired entries are removed until they do."""
        if plan.max_bytes is None or length <= 0 or state.held + length <= plan.max_bytes:
            return
        assert state.id is not None
        while state.held + length > plan.max_bytes and self._purge(state, PURGE_FOR_ROOM):
            # Each removal adds to these lists, which would be copied each time.
            word_index.index_pending(self.tables, state, word_index.Allowance(self._index_bytes))
            journal.move_to_blocks(self.tables, state)
        if state.vectors:
            state.vectors = self.tables.vector_bytes(state.id)
        if state.held + length > plan.max_bytes:
            raise StorageExceeded(
                f"the plan {name!r} allows {plan.max_bytes:,} bytes a namespace: {state.held:,} are in use and this "
                f"needs {length:,} more. Delete something, or ask the operator for another plan",
                plan=name,
                limit=plan.max_bytes,
            )

    def _purge(self, state: NamespaceState, limit: int | None) -> int:
        """Remove expired entries, at most `limit`. Returns how many."""
        if state.id is None or state.expires is None or state.expires > self.now:
            return 0
        expired = self.tables.find_expired(state.id, self.now, limit)
        for key, length in expired:
            self._delete_entry(state, key, length - size(key), EXPIRED)
        state.expires = self.tables.first_expiry(state.id)
        return len(expired)


def _record_entry(state: NamespaceState, kind: str, key: str) -> None:
    """Count and record a change of an entry, and mark the entry for the word index."""
    state.version += 1  # `record` and `is_indexed`, without their calls: this is a hot path
    state.recent += f"{state.version} {kind}{key}\n"
    if state.index_cursor != NOT_BEGUN and state.index_cursor != OFF:  # noqa: PLR1714 - a set costs more
        state.mark_unindexed(f"e{key}\n")


def _conflict(key: str, expected: int, version: int) -> str:
    now = f"at version {version}" if version else "missing"
    want = f"version {expected}" if expected else "no entry"
    return f"key {key!r} is {now}, but {want} was expected; nothing was written. Read it again and decide again"


_REFUSED_FIRST = frozenset(
    {operations.Put, operations.Delete, operations.Require, operations.Increment, operations.Pop}
)
_APPLY: Mapping[type, Callable[[Transaction, str, Any], Result]] = {
    operations.Put: Transaction._put,
    operations.Delete: Transaction._delete,
    operations.Require: Transaction._require,
    operations.Increment: Transaction._increment,
    operations.Clear: Transaction._clear,
    operations.Expire: Transaction._expire,
    operations.SetVectors: Transaction._set_vectors,
    operations.Retain: Transaction._retain,
    operations.Destroy: Transaction._destroy,
    **sessions.APPLY,
}
