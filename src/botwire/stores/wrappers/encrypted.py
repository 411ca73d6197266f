"""A store whose values only their owner can read: sealed before they go into another store, opened when they come out.

Keys, session names, message ids, sizes and times stay as they are: the store beneath lists and orders by them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from ...backoff import MAX_ATTEMPTS, pause_after
from ...bridge import blocking
from ...errors import Conflict, DecryptionError, InvalidArgument, InvalidValue
from ...limits import MAX_PAGE, MAX_VALUE_BYTES
from ...operations import Append, Clear, Delete, Increment, NewMessage, Operation, Pop, Put, Result
from ...queries import (
    CountEntries,
    CountMessages,
    GetEntries,
    GetEntry,
    GetUsage,
    ListChanges,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    Query,
)
from ...records import Change, Changes, Entry, Message
from ...store import AsyncFeed, AsyncStore, Feed, Store
from ...values import Stored, add, encode_json
from .cipher import Cipher

T = TypeVar("T")

_AS_THEY_ARE = frozenset({ListKeys, CountEntries, CountMessages, ListSessions, ListNamespaces, GetUsage})
"""Queries whose answers have no values."""


class _Sealed(ABC):
    """The logic of both encrypted stores."""

    _cipher: Cipher

    @abstractmethod
    async def _read_beneath(self, namespace: str, query: Query[T]) -> T: ...

    @abstractmethod
    async def _write_beneath(
        self, namespace: str, operations: Sequence[Operation], idempotency_key: str | None
    ) -> list[Result]: ...

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    async def _read(self, namespace: str, query: Query[T]) -> T:
        opened = _OPEN.get(type(query))
        if opened is None and type(query) not in _AS_THEY_ARE:
            raise InvalidArgument(
                f"{type(query).__name__} does not work on encrypted values: the store cannot read them"
            )
        answer = await self._read_beneath(namespace, query)
        return answer if opened is None else cast("T", opened(self, namespace, query, answer))

    async def _write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        if any(type(operation) is Increment for operation in operations):
            return await self._write_sums(namespace, operations, idempotency_key)
        results = await self._write_beneath(namespace, self._seal(namespace, operations), idempotency_key)
        return self._open_results(namespace, operations, results)

    async def _write_sums(
        self, namespace: str, operations: Sequence[Operation], idempotency_key: str | None
    ) -> list[Result]:
        """Add here, since the store cannot, and write if nobody else has meanwhile; if not, all over again."""
        if idempotency_key is not None:
            raise InvalidArgument("an increment of an encrypted number cannot be written under an idempotency key")
        for attempt in range(MAX_ATTEMPTS):
            sums = await self._add_up(namespace, operations)
            sealed = self._seal(namespace, [sums.get(index, item) for index, item in enumerate(operations)])
            try:
                results = await self._write_beneath(namespace, sealed, None)
            except Conflict as conflict:
                added = {put.key for put in sums.values() if put.if_version is not None}
                if conflict.details.get("key") not in added or attempt == MAX_ATTEMPTS - 1:
                    raise
                await self._sleep(pause_after(attempt))
            else:
                opened = self._open_results(namespace, operations, results)
                return [_number(sums[index]) if index in sums else item for index, item in enumerate(opened)]
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
        while page := await self._read_beneath(namespace, ListEntries(after=after, limit=min(MAX_PAGE, 100))):
            for entry in page:
                changed += await self._renew(namespace, entry, plain=plain)
            after = page[-1].key
        return changed

    async def _renew(self, namespace: str, entry: Entry | None, *, plain: bool) -> bool:
        while entry is not None and not self._cipher.is_current(entry.stored):
            stored = entry.stored
            if not plain or self._cipher.is_sealed(stored):
                stored = self._open_entry(namespace, entry).stored
            put = Put(entry.key, stored, if_version=entry.version, keep_ttl=True)
            try:
                await self._write_beneath(namespace, self._seal(namespace, [put]), None)
            except Conflict:
                entry = await self._read_beneath(namespace, GetEntry(entry.key))
            else:
                return True
        return False

    # On the way in

    def _seal(self, namespace: str, operations: Sequence[Operation]) -> list[Operation]:
        return [self._seal_one(namespace, operation) for operation in operations]

    def _seal_one(self, namespace: str, op: Operation) -> Operation:
        if getattr(op, "values", "plain") == "none":  # refuses an unknown operation too
            return op
        if isinstance(op, Put):
            sealed = self._cipher.seal(op.stored, _place("entry", namespace, op.key))
            return msgspec.structs.replace(op, stored=_checked(sealed))
        if isinstance(op, Append):
            messages = tuple(self._seal_message(namespace, op.session, message) for message in op.messages)
            return Append(op.session, messages)
        raise InvalidArgument(f"{type(op).__name__} does not work on encrypted values: the store cannot read them")

    def _seal_message(self, namespace: str, session: str, message: NewMessage) -> NewMessage:
        sealed = self._cipher.seal(message.stored, _place("message", namespace, session, message.id))
        return NewMessage(message.id, _checked(f'"{base64.b64encode(sealed).decode()}"'))

    # On the way out

    def _open_entry(self, namespace: str, entry: Entry) -> Entry:
        try:
            stored = self._cipher.open(_bytes(entry.stored), _place("entry", namespace, entry.key))
        except DecryptionError as error:
            raise DecryptionError(f"key {entry.key!r}: {error.message}", key=entry.key) from error
        return msgspec.structs.replace(entry, stored=stored)

    def _open_message(self, namespace: str, session: str, message: Message) -> Message:
        place = _place("message", namespace, session, message.id)
        try:
            stored = self._cipher.open(_unwrapped(message.stored), place)
        except DecryptionError as error:
            raise DecryptionError(f"message {message.seq} of the session: {error.message}", seq=message.seq) from error
        if isinstance(stored, bytes):
            raise DecryptionError(f"message {message.seq} of the session is not a message")
        return msgspec.structs.replace(message, stored=stored)

    def _open_change(self, namespace: str, change: Change) -> Change:
        if change.entry is not None:
            return msgspec.structs.replace(change, entry=self._open_entry(namespace, change.entry))
        if change.message is None or change.session is None:
            return change
        return msgspec.structs.replace(change, message=self._open_message(namespace, change.session, change.message))

    def _open_changes(self, namespace: str, _: Any, found: Changes) -> Changes:
        return Changes([self._open_change(namespace, change) for change in found.changes], found.version)

    def _open_results(self, namespace: str, operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        return [
            [self._open_message(namespace, operation.session, message) for message in cast("list[Message]", result)]
            if isinstance(operation, Pop)
            else result
            for operation, result in zip(operations, results, strict=True)
        ]

    def _open_one(self, namespace: str, query: GetEntry, entry: Entry | None) -> Entry | None:
        if entry is None:
            return None
        return self._open_entry(namespace, _asked(entry, query.key))

    def _open_entries(self, namespace: str, _: Any, entries: list[Entry]) -> list[Entry]:
        return [self._open_entry(namespace, entry) for entry in entries]

    def _open_messages(self, namespace: str, query: ListMessages, messages: list[Message]) -> list[Message]:
        return [self._open_message(namespace, query.session, message) for message in messages]


_OPEN: dict[type, Callable[..., Any]] = {
    GetEntry: _Sealed._open_one,
    GetEntries: _Sealed._open_entries,
    ListEntries: _Sealed._open_entries,
    ListMessages: _Sealed._open_messages,
    ListChanges: _Sealed._open_changes,
}


class EncryptedStore(_Sealed):
    """A `Store` over another, which sees no value.

    Args:
        store: where the sealed values go.
        cipher: the keys.
    """

    def __init__(self, store: Store, cipher: Cipher) -> None:
        self.store = store
        self.cipher = self._cipher = cipher

    @property
    def address(self) -> str:
        return self.store.address

    async def _read_beneath(self, namespace: str, query: Query[T]) -> T:
        return self.store.read(namespace, query)

    async def _write_beneath(
        self, namespace: str, operations: Sequence[Operation], idempotency_key: str | None
    ) -> list[Result]:
        return self.store.write(namespace, operations, idempotency_key=idempotency_key)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def changes(self, namespace: str, query: ListChanges) -> SealedFeed:
        return SealedFeed(self, namespace, self.store.changes(namespace, query))

    def to_async(self) -> AsyncEncryptedStore:
        return AsyncEncryptedStore(self.store.to_async(), self.cipher)

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self.store.propagate(fields)

    read = blocking(_Sealed._read)
    write = blocking(_Sealed._write)
    reencrypt = blocking(_Sealed._reencrypt)

    def close(self) -> None:
        self.store.close()


class AsyncEncryptedStore(_Sealed):
    """`EncryptedStore` for event loops."""

    def __init__(self, store: AsyncStore, cipher: Cipher) -> None:
        self.store = store
        self._cipher = cipher

    @property
    def address(self) -> str:
        return self.store.address

    async def _read_beneath(self, namespace: str, query: Query[T]) -> T:
        return await self.store.read(namespace, query)

    async def _write_beneath(
        self, namespace: str, operations: Sequence[Operation], idempotency_key: str | None
    ) -> list[Result]:
        return await self.store.write(namespace, operations, idempotency_key=idempotency_key)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def changes(self, namespace: str, query: ListChanges) -> AsyncSealedFeed:
        return AsyncSealedFeed(self, namespace, self.store.changes(namespace, query))

    read = _Sealed._read
    write = _Sealed._write
    reencrypt = _Sealed._reencrypt

    async def close(self) -> None:
        await self.store.close()


class _SealedFeed:
    """The logic of both feeds. What cannot be opened is not passed over: it is an error each time."""

    def __init__(self, store: _Sealed, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._error: DecryptionError | None = None

    def _open(self, found: Changes) -> Changes:
        try:
            return self._store._open_changes(self._namespace, None, found)
        except DecryptionError as error:
            self._error = error
            raise

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


class SealedFeed(_SealedFeed):
    """A `Feed` of an `EncryptedStore`."""

    def __init__(self, store: _Sealed, namespace: str, feed: Feed) -> None:
        super().__init__(store, namespace)
        self.begin = feed.begin
        self.close = feed.close
        self._feed = feed

    def next(self, seconds: float | None) -> Changes:
        self._check()
        return self._open(self._feed.next(seconds))


class AsyncSealedFeed(_SealedFeed):
    """An `AsyncFeed` of an `AsyncEncryptedStore`."""

    def __init__(self, store: _Sealed, namespace: str, feed: AsyncFeed) -> None:
        super().__init__(store, namespace)
        self.begin = feed.begin
        self.close = feed.close
        self._feed = feed

    async def next(self, seconds: float | None) -> Changes:
        self._check()
        return self._open(await self._feed.next(seconds))


def _place(*names: str) -> bytes:
    """Return where a value belongs, so written that no two places are written alike."""
    return msgspec.json.encode(names)


def _asked(entry: Entry, key: str) -> Entry:
    if entry.key != key:
        raise DecryptionError(f"key {key!r}: the store answered with another one", key=key)
    return entry


def _checked(sealed: T) -> T:
    if len(sealed) > MAX_VALUE_BYTES:  # type: ignore[arg-type]
        raise InvalidValue(
            f"a value may have {MAX_VALUE_BYTES:,} bytes when stored, this one has {len(sealed):,} when encrypted"  # type: ignore[arg-type]
        )
    return sealed


def _bytes(stored: Stored) -> bytes:
    return stored if isinstance(stored, bytes) else b""


def _unwrapped(stored: str) -> bytes:
    try:
        return base64.b64decode(msgspec.json.decode(stored, type=str), validate=True)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        return b""


def _number(put: Put) -> Result:
    return cast("Result", msgspec.json.decode(put.stored))
