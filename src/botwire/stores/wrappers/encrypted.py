"""A store that encrypts values before it passes them to another store, and decrypts the values in answers.

Keys, session names, message ids, sizes and times are not encrypted, because the other store lists and orders by them. The
`values` of an operation or a query says what is done with it. One that has none is refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from ...backoff import MAX_ATTEMPTS, pause_after
from ...bridge import blocking, result_of
from ...errors import Conflict, DecryptionError, InvalidArgument, InvalidValue
from ...limits import MAX_VALUE_BYTES
from ...operations import Append, Clear, Delete, Increment, NewMessage, Operation, Put, Result
from ...queries import GetEntry, ListChanges, ListEntries, Query
from ...records import Change, Changes, Entry, Message
from ...store import AsyncStore, Store
from ...values import Stored, add, encode_json
from .cipher import Cipher

T = TypeVar("T")

_PAGE, _ROOM = 100, 1 << 22
"""Entries, and about how many bytes of them, that are encrypted again at a time."""


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
        answer = await result_of(self.store.read(namespace, query))
        if isinstance(query, GetEntry) and answer is not None and answer.key != query.key:
            raise DecryptionError(f"key {query.key!r}: the store answered with another one", key=query.key)
        return cast("T", self._decrypt(namespace, query, answer))

    async def _write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        if any(_values_of(op) == "computed" for op in operations):
            if idempotency_key is not None:
                raise InvalidArgument("an increment of an encrypted number cannot be written under an idempotency key")
            return await self._write_sums(namespace, operations)
        return await self._write_encrypted(namespace, operations, idempotency_key)

    async def _write_encrypted(
        self, namespace: str, operations: Sequence[Operation], idempotency_key: str | None = None
    ) -> list[Result]:
        encrypted = [self._encrypt(namespace, op) for op in operations]
        results = await result_of(self.store.write(namespace, encrypted, idempotency_key=idempotency_key))
        return [self._decrypt(namespace, op, result) for op, result in zip(operations, results, strict=True)]

    async def _write_sums(self, namespace: str, operations: Sequence[Operation]) -> list[Result]:
        """Add here, since the store cannot. Write only if no entry has changed since it was read, else start again."""
        for attempt in range(MAX_ATTEMPTS):
            sums = await self._add_up(namespace, operations)
            try:
                results = await self._write_encrypted(
                    namespace, [sums.get(index, op) for index, op in enumerate(operations)]
                )
            except Conflict as conflict:
                added = {put.key for put in sums.values() if put.if_version is not None}
                if conflict.details.get("key") not in added or attempt == MAX_ATTEMPTS - 1:
                    raise
                await result_of(self._sleep(pause_after(attempt)))
            else:
                totals = {index: msgspec.json.decode(put.stored) for index, put in sums.items()}
                return [totals.get(index, result) for index, result in enumerate(results)]
        raise AssertionError

    async def _add_up(self, namespace: str, operations: Sequence[Operation]) -> dict[int, Put]:
        """Return a put in place of each increment, which sees the operations before it."""
        known: dict[str, Stored | None] = {}
        cleared: list[str] = []
        sums: dict[int, Put] = {}
        for index, op in enumerate(operations):
            match op:
                case Put():
                    known[op.key] = op.stored
                case Delete():
                    known[op.key] = None
                case Clear():
                    cleared.append(op.prefix)
                    known = {key: stored for key, stored in known.items() if not key.startswith(op.prefix)}
                case Increment():
                    version = None
                    if op.key not in known and not op.key.startswith(tuple(cleared)):
                        entry = await self._read(namespace, GetEntry(op.key))
                        known[op.key], version = (entry.stored, entry.version) if entry else (None, 0)
                    total = encode_json(add(op.key, known.get(op.key), op.by))
                    known[op.key] = total
                    sums[index] = Put(op.key, total, if_version=version, keep_ttl=True)
        return sums

    async def _reencrypt(self, namespace: str, *, plain: bool = False) -> int:
        changed, after = 0, ""
        while page := await result_of(self.store.read(namespace, ListEntries(after=after, limit=_PAGE, room=_ROOM))):
            for entry in page:
                changed += await self._renew(namespace, entry, plain=plain)
            after = page[-1].key
        return changed

    async def _renew(self, namespace: str, entry: Entry | None, *, plain: bool) -> bool:
        """Encrypt an entry with the first key, unless it is or another client deletes it; returns whether it was."""
        while entry is not None and not self.cipher.is_current(entry.stored):
            if not plain or self.cipher.is_encrypted(entry.stored):
                entry = self._decrypt_entry(namespace, entry)
            put = Put(entry.key, entry.stored, if_version=entry.version, keep_ttl=True)
            try:
                await self._write_encrypted(namespace, [put])
            except Conflict:
                entry = await result_of(self.store.read(namespace, GetEntry(entry.key)))
            else:
                return True
        return False

    def _encrypt(self, namespace: str, op: Operation) -> Operation:
        """Return an operation with its values encrypted, or refuse one whose values the store must read."""
        match op:
            case Put():
                encrypted = self.cipher.encrypt(op.stored, _place("entry", namespace, op.key))
                return msgspec.structs.replace(op, stored=_checked(encrypted))
            case Append():
                messages = tuple(self._encrypt_message(namespace, op.session, message) for message in op.messages)
                return Append(op.session, messages)
        if _values_of(op) != "none":
            raise _refusal(op)
        return op

    def _encrypt_message(self, namespace: str, session: str, message: NewMessage) -> NewMessage:
        encrypted = self.cipher.encrypt(message.stored, _place("message", namespace, session, message.id))
        return NewMessage(message.id, _checked(f'"{base64.b64encode(encrypted).decode()}"'))

    def _decrypt(self, namespace: str, asked: Any, answer: Any) -> Any:
        """Return the answer to a query, or the result of an operation, with its values decrypted."""
        match answer:
            case Entry():
                return self._decrypt_entry(namespace, answer)
            case Message():
                return self._decrypt_message(namespace, asked.session, answer)
            case Changes():
                return Changes([self._decrypt_change(namespace, change) for change in answer.changes], answer.version)
            case [Entry() | Message(), *_]:
                return [self._decrypt(namespace, asked, item) for item in answer]
        return answer

    def _decrypt_entry(self, namespace: str, entry: Entry) -> Entry:
        encrypted = entry.stored if isinstance(entry.stored, bytes) else b""
        try:
            stored = self.cipher.decrypt(encrypted, _place("entry", namespace, entry.key))
        except DecryptionError as error:
            raise DecryptionError(f"key {entry.key!r}: {error.message}", key=entry.key) from error
        return msgspec.structs.replace(entry, stored=stored)

    def _decrypt_message(self, namespace: str, session: str, message: Message) -> Message:
        try:
            encrypted = base64.b64decode(msgspec.json.decode(message.stored, type=str), validate=True)
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            encrypted = b""
        try:
            stored = self.cipher.decrypt(encrypted, _place("message", namespace, session, message.id))
        except DecryptionError as error:
            raise DecryptionError(f"message {message.seq} of the session: {error.message}", seq=message.seq) from error
        if isinstance(stored, bytes):
            raise DecryptionError(f"message {message.seq} of the session is not a message")
        return msgspec.structs.replace(message, stored=stored)

    def _decrypt_change(self, namespace: str, change: Change) -> Change:
        if change.entry is not None:
            return msgspec.structs.replace(change, entry=self._decrypt_entry(namespace, change.entry))
        if change.message is None or change.session is None:
            return change
        return msgspec.structs.replace(change, message=self._decrypt_message(namespace, change.session, change.message))


class EncryptedStore(_Encrypted):
    """A `Store` over another one, which gets only encrypted values."""

    store: Store
    _sleep = staticmethod(time.sleep)
    read = blocking(_Encrypted._read)
    write = blocking(_Encrypted._write)
    reencrypt = blocking(_Encrypted._reencrypt)

    def changes(self, namespace: str, query: ListChanges) -> EncryptedFeed:
        return EncryptedFeed(self, namespace, self.store.changes(namespace, query))

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
        return AsyncEncryptedFeed(self, namespace, self.store.changes(namespace, query))


class _EncryptedFeed:
    """The logic of both feeds. What cannot be decrypted is never skipped: each later call raises the same error."""

    def __init__(self, store: _Encrypted, namespace: str, feed: Any) -> None:
        self._store = store
        self._namespace = namespace
        self._feed = feed
        self._error: DecryptionError | None = None
        self.begin = feed.begin
        self.close = feed.close

    async def _next(self, seconds: float | None) -> Changes:
        if self._error is not None:
            raise self._error
        found = await result_of(self._feed.next(seconds))
        try:
            return cast("Changes", self._store._decrypt(self._namespace, None, found))
        except DecryptionError as error:
            self._error = error
            raise


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


def _place(*names: str) -> bytes:
    """Return the place of a value as bytes that differ between places."""
    return msgspec.json.encode(names)


def _checked(encrypted: T) -> T:
    if len(encrypted) > MAX_VALUE_BYTES:  # type: ignore[arg-type]
        raise InvalidValue(
            f"a value may have {MAX_VALUE_BYTES:,} bytes when stored, this one has {len(encrypted):,} when encrypted"  # type: ignore[arg-type]
        )
    return encrypted
