"""A store that encrypts values before it passes them to another store, and decrypts the values in answers.

Keys, session names, message ids, sizes and times are not encrypted, because the other store lists and orders by them. The
`values` of an operation or a query says what is done with it. One that has none is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from ...answers import mismatch, mismatch_of_results
from ...backoff import MAX_ATTEMPTS, pause_after
from ...bridge import blocking, result_of
from ...errors import Conflict, DecryptionError, InvalidArgument
from ...operations import Edit, Operation, Pop, Put, Result
from ...queries import GetEntry, ListChanges, ListEntries, ListSessions, Query
from ...records import Changes, Entry
from ...store import AsyncStore, Store
from .cipher import Cipher
from .preparation import is_outdated, needs_reading, prepare
from .sealing import Decryption, Encryption

T = TypeVar("T")

_PAGE, _ROOM = 100, 1 << 22
"""Entries, and about how many bytes of them, that are encrypted again at a time."""
_NAMED = 20
"""Keys that an error names."""
_SEARCHABLE = frozenset({"owner", "tags"})
"""What a store can read of what is known about a session."""


class _Encrypted:
    """The logic of both encrypted stores."""

    _sleep: Callable[[float], Any]

    def __init__(self, store: Any, cipher: Cipher) -> None:
        self.store = store
        self.cipher = cipher

    @property
    def address(self) -> str:
        return cast("str", self.store.address)

    def close(self) -> Any:
        return self.store.close()

    async def _read(self, namespace: str, query: Query[T]) -> T:
        if _values_of(query) == "plain":
            raise _refusal(query)
        if isinstance(query, ListSessions):
            _check_where(query)
        decrypted: T = self._decrypt(namespace, query, await self._read_encrypted(namespace, query))
        return decrypted

    async def _read_encrypted(self, namespace: str, query: Query[T]) -> T:
        answer: T = await result_of(self.store.read(namespace, query))
        if (wrong := mismatch(query, answer)) is not None:
            raise _unfit(wrong)
        return answer

    async def _write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        if not any(map(needs_reading, operations)):
            return await self._write_encrypted(namespace, operations, operations, idempotency_key)
        if idempotency_key is not None and any(_values_of(op) == "computed" for op in operations):
            raise InvalidArgument("an increment of an encrypted number cannot be written under an idempotency key")
        return await self._write_prepared(namespace, operations, idempotency_key)

    async def _write_encrypted(
        self, namespace: str, asked: Sequence[Operation], sent: Sequence[Operation], idempotency_key: str | None = None
    ) -> list[Result]:
        """Write the operations that are sent, and return their results if they fit what was asked."""
        encrypted = [self._encrypt(namespace, op, idempotency_key) for op in sent]
        results = await result_of(self.store.write(namespace, encrypted, idempotency_key=idempotency_key))
        if (wrong := mismatch_of_results(asked, results)) is not None:
            raise _unfit(wrong)
        return [self._decrypt(namespace, op, result) for op, result in zip(asked, results, strict=True)]

    async def _write_prepared(
        self, namespace: str, operations: Sequence[Operation], idempotency_key: str | None
    ) -> list[Result]:
        """Write what was prepared, if nothing has changed since it was read, else start again."""
        read, may_repeat = partial(self._read, namespace), idempotency_key is not None
        for attempt in range(MAX_ATTEMPTS):
            prepared = await prepare(read, operations, may_repeat=may_repeat)
            sent = [prepared.get(index, op) for index, op in enumerate(operations)]
            # A write under a known idempotency key returns the first results: not the messages that were read just now.
            asked = [
                op if may_repeat or isinstance(op, Edit) else prepared.get(index, op)
                for index, op in enumerate(operations)
            ]
            try:
                results = await self._write_encrypted(namespace, asked, sent, idempotency_key)
            except (Conflict, InvalidArgument) as error:
                if attempt == MAX_ATTEMPTS - 1 or not await is_outdated(read, operations, prepared, error):
                    raise
                await result_of(self._sleep(pause_after(attempt)))
            else:
                totals = {
                    index: msgspec.json.decode(op.stored) for index, op in prepared.items() if isinstance(op, Put)
                }
                return [totals.get(index, result) for index, result in enumerate(results)]
        raise AssertionError

    async def _reencrypt(self, namespace: str, *, plain: bool = False) -> int:
        changed, after, skipped = 0, "", list[str]()
        while page := await self._read_encrypted(namespace, ListEntries(after=after, limit=_PAGE, room=_ROOM)):
            for entry in page:
                try:
                    changed += await self._renew(namespace, entry, plain=plain)
                except DecryptionError:
                    skipped.append(entry.key)
            after = page[-1].key
        if skipped:
            raise _skipped(changed, skipped)
        return changed

    async def _renew(self, namespace: str, entry: Entry | None, *, plain: bool) -> bool:
        """Encrypt an entry with the first key, unless it is or another client deletes it; returns whether it was."""
        while entry is not None:
            is_current = self.cipher.is_current(entry.stored)
            # Bytes in the form of an encrypted value may be plain. Only decrypting them shows what they are.
            if not plain or self.cipher.is_encrypted(entry.stored):
                entry = Decryption(self.cipher, namespace).entry(entry)
            if is_current:
                return False
            put = Put(entry.key, entry.stored, if_version=entry.version, keep_ttl=True)
            try:
                await self._write_encrypted(namespace, [put], [put])
            except Conflict:
                entry = await self._read_encrypted(namespace, GetEntry(entry.key))
            else:
                return True
        return False

    def _encrypt(self, namespace: str, op: Operation, idempotency_key: str | None) -> Operation:
        """Return an operation with its values encrypted, or refuse one whose values the store must read."""
        encrypted = Encryption(self.cipher, namespace, idempotency_key).operation(op)
        if encrypted is None and _values_of(op) != "none" and not isinstance(op, Pop):
            raise _refusal(op)
        return op if encrypted is None else encrypted

    def _decrypt(self, namespace: str, asked: Any, answer: Any) -> Any:
        """Return the answer to a query, or the result of an operation, with its values decrypted."""
        return Decryption(self.cipher, namespace).answer(asked, answer)


class EncryptedStore(_Encrypted):
    """A `Store` over another one, which gets only encrypted values."""

    store: Store
    _sleep = staticmethod(time.sleep)
    read = blocking(_Encrypted._read)
    write = blocking(_Encrypted._write)
    reencrypt = blocking(_Encrypted._reencrypt)

    def changes(self, namespace: str, query: ListChanges) -> EncryptedFeed:
        return EncryptedFeed(self, namespace, query, self.store.changes(namespace, query))

    def to_async(self) -> AsyncEncryptedStore:
        return AsyncEncryptedStore(self.store.to_async(), self.cipher)

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self.store.propagate(fields)


class AsyncEncryptedStore(_Encrypted):
    """`EncryptedStore` for event loops."""

    store: AsyncStore
    _sleep = staticmethod(asyncio.sleep)
    read = _Encrypted._read
    write = _Encrypted._write
    reencrypt = _Encrypted._reencrypt

    def changes(self, namespace: str, query: ListChanges) -> AsyncEncryptedFeed:
        return AsyncEncryptedFeed(self, namespace, query, self.store.changes(namespace, query))


class _EncryptedFeed:
    """The logic of both feeds. What cannot be decrypted is never skipped: each later call raises the same error."""

    def __init__(self, store: _Encrypted, namespace: str, query: ListChanges, feed: Any) -> None:
        self._store = store
        self._namespace = namespace
        self._query = query
        self._feed = feed
        self._error: DecryptionError | None = None
        self.begin = feed.begin
        self.close = feed.close

    async def _next(self, seconds: float | None) -> Changes:
        if self._error is not None:
            raise self._error
        found = await result_of(self._feed.next(seconds))
        try:
            if (wrong := mismatch(self._query, found)) is not None:
                raise _unfit(wrong)
            changes = cast("Changes", self._store._decrypt(self._namespace, None, found))
        except DecryptionError as error:
            self._error = error
            raise
        self._query = msgspec.structs.replace(self._query, after=found.version)
        return changes


class EncryptedFeed(_EncryptedFeed):
    """A `Feed` of an `EncryptedStore`."""

    next = blocking(_EncryptedFeed._next)


class AsyncEncryptedFeed(_EncryptedFeed):
    """An `AsyncFeed` of an `AsyncEncryptedStore`."""

    next = _EncryptedFeed._next


def _values_of(asked: Query[Any] | Operation) -> str:
    return getattr(asked, "values", "plain")


def _refusal(asked: Query[Any] | Operation) -> InvalidArgument:
    return InvalidArgument(f"{type(asked).__name__} does not work on encrypted values: the store cannot read them")


def _check_where(query: ListSessions) -> None:
    for path in query.where:
        if path.partition(".")[0] not in _SEARCHABLE:
            raise InvalidArgument(
                f"where cannot have {path!r:.100} in an encrypted memory: titles and data are encrypted, so the store cannot compare "
                "them. Use owner and tags, which are not encrypted"
            )


def _skipped(changed: int, keys: Sequence[str]) -> DecryptionError:
    named = ", ".join(map(repr, keys[:_NAMED])) + (", …" if len(keys) > _NAMED else "")
    return DecryptionError(
        f"{len(keys):,} values cannot be decrypted with these keys, and were left as they are: {named}. {changed:,} others were "
        "encrypted again. Add the missing key to the list, or store values that are not encrypted with set()",
        keys=list(keys[:_NAMED]),
        changed=changed,
    )


def _unfit(wrong: str) -> DecryptionError:
    return DecryptionError(f"the store answered with {wrong}: the database is damaged, or someone has changed it")
