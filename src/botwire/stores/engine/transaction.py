"""Operations → rows: what a write does to the tables, inside a transaction that its caller began and will commit."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ...errors import BotWireError, Conflict, InvalidArgument, QuotaExceeded, StorageExceeded
from ...limits import ACCESS
from ...operations import (
    Append,
    Clear,
    Delete,
    Expire,
    Forget,
    Increment,
    NewMessage,
    Permit,
    Pop,
    Put,
    Result,
    SetVectors,
    Write,
)
from ...plans import DAY, Plan, Plans
from ...records import Message
from ...store import STALE, Stale
from ...values import Stored, add, encode_json, size
from . import journal, word_index
from .account import OFF, SEQ_BITS, Account, Place, day_of
from .permits import access_version, entries_hold
from .ranges import end_of, one
from .rows import Run
from .vectors import refuse_if_off, set_vectors

FREE = Plan()
ANSWERS_KEPT = 600_000_000
"""How long an answer is remembered for its idempotency key, in microseconds: ten minutes, more than any client retries."""
PURGE = 64
"""Rows that one write removes of what has expired. More than one, so that the backlog shrinks."""

_ANSWER = msgspec.json.Decoder(tuple[str, list[bool | int | float | list[int | Message]]])


class Transaction:
    """Applies writes one after the other; `finish` puts the accounts down.

    Args:
        run: runs the statements.
        plans: limits for the namespaces.
        now: the time.
        keep_answers: forget none, because their ages cannot be told.
    """

    def __init__(self, run: Run, plans: Plans, now: int, *, keep_answers: bool = False) -> None:
        self._run = run
        self._plans = plans
        self._now = now
        self._keep_answers = keep_answers
        self._accounts: dict[str, Account] = {}
        self._access: int | None = None

    def apply(self, write: Write, *, alone: bool = False) -> list[Result] | BotWireError:
        """Apply a write and return its results, or undo all of it and return the reason.

        Args:
            write: the write.
            alone: nothing else is in this transaction: the reason is raised, and the caller's ROLLBACK is the undoing.
        """
        if write.permit is not None and not self._holds(write.permit):
            stale = Stale(STALE)
            if alone:
                raise stale
            return stale
        if alone:
            return self._apply(write)
        if write.idempotency_key is None and len(write.operations) == 1 and self._is_whole(write):
            try:
                return self._apply(write)
            except BotWireError as error:
                return error
        before = self._accounts.get(write.namespace)
        saved = copy.copy(before)
        if saved is not None:
            saved.lines = saved.lines.copy()
        self._run("savepoint", ())
        try:
            results = self._apply(write)
        except BotWireError as error:
            self._run("undo", ())
            if saved is None:
                self._accounts.pop(write.namespace, None)
            else:
                self._accounts[write.namespace] = saved
            return error
        self._run("release", ())
        return results

    def _holds(self, permit: Permit) -> bool:
        """Whether a permit holds, with what the writes before this one have changed."""
        account = self._accounts.get(ACCESS)
        if account is not None:
            version = account.version
        elif self._access is not None:
            version = self._access
        else:
            version = self._access = access_version(self._run)
        return version == permit.version or entries_hold(self._run, permit, self._now)

    def _is_whole(self, write: Write) -> bool:
        """Whether a write is refused, if it is, before it changes anything, so that nothing would have to be undone."""
        return type(write.operations[0]) in _WHOLE and self.account(write.namespace).id is not None

    def finish(self) -> None:
        """Purge a little of what has expired, and put down the index and the accounts of the namespaces touched."""
        for account in self._accounts.values():
            if account.id is not None:
                self._purge(account, PURGE)
                if word_index.is_due(account):
                    word_index.index_pending(self._run, account)
                if account.lines:
                    journal.put_down(self._run, account, account.lines)
                    account.lines = []
                self._run("set_account", account.row)

    def purge(self, namespace: str) -> None:
        """Remove all of a namespace that has expired."""
        self._purge(self.account(namespace), -1)

    def account(self, namespace: str) -> Account:
        """Return the account of a namespace, an empty one when it has none."""
        account = self._accounts.get(namespace)
        if account is None:
            today = self._now // DAY
            row = next(iter(self._run("get_account", (namespace,))), None)
            account = Account(*row) if row else Account(None, None, today, 0, 0, 0, None)
            if account.day < today:
                account.day, account.writes = today, 0
            account.day = day_of(account.day, today)
            self._accounts[namespace] = account
        return account

    def open_account(self, namespace: str) -> tuple[Account, Place]:
        """Return the account of a namespace and its id, begun if need be."""
        account = self.account(namespace)
        if account.id is None:
            account.id, account.behind = one(self._run("new_account", (namespace, account.day)))
            if namespace == ACCESS:
                account.behind = OFF  # nobody searches it
        assert account.id is not None
        return account, account.id

    def _apply(self, write: Write) -> list[Result]:
        if write.idempotency_key is None:
            return [_APPLY[type(op)](self, write.namespace, op) for op in write.operations]
        _, place = self.open_account(write.namespace)
        mark = _mark(write)
        for (answer,) in self._run("find_answer", (place, write.idempotency_key)):
            known, given = _ANSWER.decode(answer)
            if known != mark:
                raise InvalidArgument(
                    f"the idempotency key {write.idempotency_key!r} was used for another write; nothing was written. Take a "
                    "new key for each write"
                )
            return given  # type: ignore[return-value]
        results = [_APPLY[type(op)](self, write.namespace, op) for op in write.operations]
        self.remember(place, write.idempotency_key, msgspec.json.encode((mark, results)).decode())
        return results

    def remember(self, place: Place, key: str, answer: str) -> None:
        """Keep an answer under a key, and drop a few of those that are old enough."""
        if not self._keep_answers:
            self._run("purge_answers", (self._now - ANSWERS_KEPT, PURGE))
        self._run("add_answer", (place, key, self._now, answer))

    # Operations

    def _put(self, namespace: str, op: Put) -> int:
        account, place = self.open_account(namespace)
        version, created, expires, old_size = self._peek(place, op.key)
        if op.if_version is not None and op.if_version != version:
            raise Conflict(_conflict(op.key, op.if_version, version), key=op.key, version=version)
        if not op.keep_ttl:
            expires = None if op.ttl is None else self._now + int(op.ttl * 1_000_000)
        if op.times is not None:
            created, updated, expires = op.times
            return self._store(account, op.key, op.stored, created, expires, old_size, copied=updated)
        return self._store(account, op.key, op.stored, created, expires, old_size)

    def _increment(self, namespace: str, op: Increment) -> int | float:
        account, place = self.open_account(namespace)
        version, created, expires, old_size = self._peek(place, op.key)
        stored = one(self._run("peek_value", (place, op.key)))[0] if version else None
        total = add(op.key, stored, op.by)
        self._store(account, op.key, encode_json(total), created, expires, old_size)
        return total

    def _peek(self, place: Place, key: str) -> tuple[int, int, int | None, int | None]:
        """Return version, created and expires of an entry, as if new when there is none alive, and the bytes it occupies."""
        for version, created, expires, length in self._run("peek_entry", (place, key)):
            if expires is None or expires > self._now:
                return version, created, expires, length
            return 0, self._now, None, length
        return 0, self._now, None, None

    def _store(
        self,
        account: Account,
        key: str,
        stored: Stored,
        created: int,
        expires: int | None,
        old_size: int | None,
        *,
        copied: int | None = None,
    ) -> int:
        length = size(stored)
        updated = self._now if copied is None else copied
        self._charge(account, 1 if copied is None else 0, length + size(key) if old_size is None else length - old_size)
        account.note(journal.set_mark(key))
        account.touch(word_index.entry_mark(key))
        if expires is not None and (account.expires is None or expires < account.expires):
            account.expires = expires
        self._run("put_entry", (account.id, key, account.version, created, updated, expires, stored))
        return account.version

    def _delete(self, namespace: str, op: Delete) -> bool:
        account = self.account(namespace)
        if account.id is None:
            return False
        version, _, _, length = self._peek(account.id, op.key)
        if length is not None:
            self._run("delete_entry", (account.id, op.key))
            account.touch(word_index.entry_mark(op.key))
            account.bytes -= length + size(op.key)
            account.note(journal.delete_mark(op.key, expired=not version))
        return version > 0

    def _clear(self, namespace: str, op: Clear) -> int:
        account = self.account(namespace)
        if account.id is None:
            return 0
        end = end_of(op.prefix)
        count, length = one(self._run("measure_entries", (account.id, op.prefix, end, self._now)))
        self._run("delete_entries", (account.id, op.prefix, end))
        word_index.remove_entries(self._run, account, op.prefix, end)
        account.bytes -= length
        account.note(journal.clear_mark(op.prefix))
        return int(count)

    def _append(self, namespace: str, op: Append) -> list[int]:
        if not op.messages:
            return []
        account, place = self.open_account(namespace)
        row = next(iter(self._run("peek_session", (place, op.session))), None)
        begun = op.messages[0].created or self._now
        session, last, held = row or (one(self._run("new_session", (place, op.session, begun)))[0], 0, 0)
        added, writes, when = held, 0, self._now
        seqs = []
        for message in op.messages:
            seq = last + 1
            if self._add(session, seq, message):
                last, when = seq, message.created or self._now
                writes += message.created is None
                added += size(message.id) + size(message.stored)
                account.touch(word_index.message_mark(session << SEQ_BITS | seq))
            else:
                seq = one(self._run("seq_of_message", (session, message.id)))[0]
            seqs.append(seq)
        if added > held:
            before = row[1] if row else 0
            self._charge(account, writes, added - held)
            self._run("set_session", (session, last, added, when))
            account.note(journal.append_mark(session, before + 1, last), last - before)
        return seqs

    def _add(self, session: int, seq: int, message: NewMessage) -> bool:
        created = message.created or self._now
        self._run("add_message", (session << SEQ_BITS | seq, session, message.id, created, message.stored))
        return bool(one(self._run("changes", ()))[0])

    def _forget(self, namespace: str, op: Forget) -> int:
        account = self.account(namespace)
        if account.id is None:
            return 0
        for session, last, held in self._run("peek_session", (account.id, op.session)):
            self._shorten(account, op.session, session, last, 0, held, held)
            return int(last)
        return 0

    def _pop(self, namespace: str, op: Pop) -> list[Message]:
        account = self.account(namespace)
        session, last, held = 0, 0, 0
        if account.id is not None:
            session, last, held = next(iter(self._run("peek_session", (account.id, op.session))), (0, 0, 0))
        left = max(last - op.count, 0)
        place = session << SEQ_BITS
        rows = self._run("messages_between", (place + left, place + last, op.count)) if left < last else ()
        popped = [Message(*row) for row in rows]
        if op.if_ids is not None and op.if_ids != tuple(message.id for message in popped):
            raise Conflict(f"session {op.session!r} does not end with the messages expected; nothing was written")
        if popped:
            length = sum(size(message.id) + size(message.stored) for message in popped)
            self._shorten(account, op.session, session, last, left, held, length)
        return popped

    def _shorten(self, account: Account, name: str, session: int, last: int, left: int, held: int, length: int) -> None:
        """Remove the messages after `left`, which have `length` of the session's `held` bytes, and a session without any."""
        place = session << SEQ_BITS
        self._run("delete_messages", (place + left, place + last))
        word_index.remove_messages(self._run, account, place + left, place + last)
        if left:
            self._run("set_session", (session, left, held - length, self._now))
        else:
            self._run("delete_session", (session,))
        account.bytes -= length
        account.note(journal.pop_mark(name, left))

    def _expire(self, namespace: str, _: Expire) -> bool:
        account = self.account(namespace)
        if account.id is not None:
            self._purge(account, PURGE)
        return account.expires is not None and account.expires <= self._now

    def _set_vectors(self, namespace: str, op: SetVectors) -> int:
        account = self.account(namespace)
        if account.id is None:
            return 0
        refuse_if_off(namespace, account.behind)
        length = sum(len(item.vector) for item in op.vectors)
        self._check_room(account, length, *self._plan_of(account))
        account.vectors += length
        return set_vectors(self._run, account.id, op)

    # The account

    def _plan_of(self, account: Account) -> tuple[str, Plan]:
        return ("", FREE) if account is self._accounts.get(ACCESS) else self._plans.of(account.plan)

    def _charge(self, account: Account, writes: int, length: int) -> None:
        name, plan = self._plan_of(account)
        if plan.writes_per_day is not None and account.writes + writes > plan.writes_per_day:
            raise self._quota_exceeded(name, plan, account)
        self._check_room(account, length, name, plan)
        account.writes += writes
        account.bytes += length

    def _check_room(self, account: Account, length: int, name: str, plan: Plan) -> None:
        if plan.max_bytes is None or length <= 0:
            return
        if account.held + length > plan.max_bytes:
            # What has expired is not held against anybody.
            self._purge(account, -1)
        if account.held + length > plan.max_bytes:
            raise StorageExceeded(
                f"the plan {name!r} allows {plan.max_bytes:,} bytes a namespace: {account.held:,} are in use and this "
                f"needs {length:,} more. Delete something, or ask the operator for another plan",
                plan=name,
                limit=plan.max_bytes,
            )

    def _quota_exceeded(self, name: str, plan: Plan, account: Account) -> QuotaExceeded:
        seconds = math.ceil(((account.day + 1) * DAY - self._now) / 1_000_000)
        return QuotaExceeded(
            f"the plan {name!r} allows {plan.writes_per_day:,} writes a UTC day: {account.writes:,} are used. "
            f"It starts again in {seconds:,} s; reads and deletes go on working",
            plan=name,
            limit=plan.writes_per_day,
            retry_after=seconds,
        )

    def _purge(self, account: Account, most: int) -> None:
        if account.expires is None or account.expires > self._now:
            return
        for key, length in self._run("find_expired", (account.id, self._now, most)):
            self._run("delete_entry", (account.id, key))
            account.note(journal.delete_mark(key, expired=True))
            account.touch(word_index.entry_mark(key))
            account.bytes -= length
        account.expires = one(self._run("first_expiry", (account.id,)))[0]


def _mark(write: Write) -> str:
    """Return what tells a write from another one under the same idempotency key: a hash of what it does, and to what.

    Neither the values, which are encrypted differently each time, nor the ids of messages, which the server may have given.
    """
    told = [(type(op).__name__, *(getattr(op, name) for name in _TOLD if hasattr(op, name))) for op in write.operations]
    sizes = [len(op.messages) for op in write.operations if isinstance(op, Append)]
    return hashlib.blake2b(msgspec.json.encode((told, sizes)), digest_size=8).hexdigest()


_TOLD = ("key", "session", "prefix", "by", "count", "ttl", "if_version", "keep_ttl")


def _conflict(key: str, expected: int, version: int) -> str:
    now = f"at version {version}" if version else "not there"
    want = f"version {expected}" if expected else "no entry"
    return f"key {key!r} is {now}, and {want} was expected; nothing was written. Read it again and decide anew"


_WHOLE = frozenset({Put, Delete, Increment, Pop})
_APPLY: Mapping[type, Callable[[Transaction, str, Any], Result]] = {
    Put: Transaction._put,
    Delete: Transaction._delete,
    Increment: Transaction._increment,
    Append: Transaction._append,
    Clear: Transaction._clear,
    Forget: Transaction._forget,
    Pop: Transaction._pop,
    Expire: Transaction._expire,
    SetVectors: Transaction._set_vectors,
}
