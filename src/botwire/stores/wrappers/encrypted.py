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
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from ...answers import mismatch, mismatch_of_results
from ...backoff import MAX_ATTEMPTS, pause_after
from ...bridge import blocking, result_of
from ...errors import Conflict, DecryptionError, InvalidArgument, InvalidValue
from ...limits import MAX_VALUE_BYTES
from ...operations import Append, NewMessage, Operation, Put, Result
from ...queries import GetEntry, ListChanges, ListEntries, Query
from ...records import Change, Changes, Entry, Message
from ...store import AsyncStore, Store
from .cipher import Cipher
from .preparation import is_outdated, prepare

T = TypeVar("T")

_PAGE, _ROOM = 100, 1 << 22
"""Entries, and about how many bytes of them, that are encrypted again at a time."""
_NAMED = 20
"""Keys that an error names."""
_PREPARED = frozenset({"computed", "returned"})
"""The `values` of operations that are prepared before they are written."""


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
        kinds = {_values_of(op) for op in operations}
        if not kinds & _PREPARED:
            return await self._write_encrypted(namespace, operations, operations, idempotency_key)
        if "computed" in kinds and idempotency_key is not None:
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
        for attempt in range(MAX_ATTEMPTS):
            try:
                prepared = await prepare(partial(self._read, namespace), operations)
            except Conflict:
                if idempotency_key is None:
                    raise
                prepared = {}  # this may be a repeat of a write that was applied; if not, the store refuses it too
            sent = [prepared.get(index, op) for index, op in enumerate(operations)]
            # A write under a known idempotency key returns the first results: not the messages that were read just now.
            asked = sent if idempotency_key is None else operations
            try:
                results = await self._write_encrypted(namespace, asked, sent, idempotency_key)
            except Conflict as conflict:
                if not is_outdated(prepared, conflict) or attempt == MAX_ATTEMPTS - 1:
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
                entry = self._decrypt_entry(namespace, entry)
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
        match op:
            case Put():
                encrypted = self.cipher.encrypt(op.stored, _place("entry", namespace, op.key), idempotency_key)
                return msgspec.structs.replace(op, stored=_checked(encrypted))
            case Append():
                place = "message", namespace, op.session
                messages = (
                    self._encrypt_message(item, _place(*place, item.id), idempotency_key) for item in op.messages
                )
                return Append(op.session, tuple(messages))
        if _values_of(op) not in {"none", "returned"}:
            raise _refusal(op)
        return op

    def _encrypt_message(self, message: NewMessage, place: bytes, idempotency_key: str | None) -> NewMessage:
        encrypted = self.cipher.encrypt(message.stored, place, idempotency_key)
        return msgspec.structs.replace(message, stored=_checked(f'"{base64.b64encode(encrypted).decode()}"'))

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


def _place(*names: str) -> bytes:
    """Return the place of a value as bytes that differ between places."""
    return msgspec.json.encode(names)


def _checked(encrypted: T) -> T:
    if len(encrypted) > MAX_VALUE_BYTES:  # type: ignore[arg-type]
        raise InvalidValue(
            f"a value may have {MAX_VALUE_BYTES:,} bytes when stored, this one has {len(encrypted):,} when encrypted"  # type: ignore[arg-type]
        )
    return encrypted
