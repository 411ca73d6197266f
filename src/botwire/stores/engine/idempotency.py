"""Idempotency records: what was written under a key, and the response that a repeat gets.

A record is a row with a hash of the write and its results. It is kept for ten minutes. A write that changes nothing has none,
because repeating it does no harm. So a database cannot be filled with records of writes that no plan counts.

Popped messages are kept apart from the record, so that their bytes are bounded, and are deleted with their session.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace

from ...answers import mismatch_of_results
from ...errors import InvalidArgument
from ...operations import Append, Edit, Forget, Fork, NewMessage, Operation, Pop, Replace, Result, Write
from ...records import Message
from ...values import size
from .tables import NamespaceId, NamespaceState, Tables

RESPONSES_KEPT = 600_000_000
"""How long a record is kept, in microseconds: ten minutes, longer than any client retries."""
POPPED_BYTES = 32 * 1024 * 1024
"""Bytes of popped messages that are kept for each namespace, the newest. A write with a key may not pop more at once."""
AT_ONCE = 64
"""Old records that one transaction removes. More than one, so that a backlog shrinks."""
_HASH_BYTES = 16
_HASH_DIGITS = 2 * _HASH_BYTES


class _Kept(msgspec.Struct, frozen=True):
    """In place of popped messages in a record: where they are kept, and the version of the namespace after the write."""

    upto: int
    version: int


_RECORD = msgspec.json.Decoder(tuple[str, list[bool | int | float | list[int | Message] | _Kept]])


def hash_of(write: Write) -> str:
    """Return a hash of all that the caller wrote.

    What the caller did not choose differs in a repeat and is left out: ids of messages that a server chose, and what an encrypted memory
    reads first, such as the ids of messages to pop and the versions of an edited message and a forked session.
    """
    digest = hashlib.blake2b(digest_size=_HASH_BYTES)
    for operation in write.operations:
        # Bytes are base64 in JSON, which may also be the JSON text of a value.
        kind = type(operation).__name__, type(getattr(operation, "stored", None)).__name__
        digest.update(msgspec.json.encode((kind, _without_chosen_ids(operation))))
    return digest.hexdigest()


def _without_chosen_ids(operation: Operation) -> Operation:
    if isinstance(operation, Pop):
        return Pop(operation.session, operation.count)
    if isinstance(operation, Edit):  # an encrypted memory reads the message first
        return replace(operation, if_version=None, if_id=None)
    if isinstance(operation, Fork):  # and the session
        return replace(operation, if_version=None, copies=None)
    if not isinstance(operation, Append | Replace) or all(message.has_own_id for message in operation.messages):
        return operation
    messages = (item if item.has_own_id else NewMessage("", item.stored) for item in operation.messages)
    return replace(operation, messages=tuple(messages))


def find(tables: Tables, namespace: NamespaceId, write: Write, hashed: str) -> list[Result] | None:
    """Return the results of the earlier write under this key; None: there was none.

    Raises:
        InvalidArgument: it was another write, or the messages that it popped are no longer kept.
    """
    assert write.idempotency_key is not None
    record = tables.find_response(namespace, write.idempotency_key)
    if record is None:
        return None
    known, results = _RECORD.decode(record)
    if len(known) != _HASH_DIGITS:  # of an earlier botwire, which did not hash values
        plain: list[Any] = [[] if isinstance(result, _Kept) else result for result in results]
        known = hashed if mismatch_of_results(write.operations, plain, is_new=False) is None else known
    if known != hashed:
        raise InvalidArgument(
            f"the idempotency key {write.idempotency_key!r} was used for another write; nothing was written. Use a new key for "
            "each write"
        )
    return [_popped(tables, namespace, write, result) if isinstance(result, _Kept) else result for result in results]  # type: ignore[misc]


def _popped(tables: Tables, namespace: NamespaceId, write: Write, kept: _Kept) -> list[Message]:
    messages = tables.find_popped(namespace, kept.upto, kept.version)
    if messages is None:
        raise InvalidArgument(
            f"the write under the idempotency key {write.idempotency_key!r} was applied, and the messages that it popped are no "
            "longer kept: their session was deleted, or many others were popped since"
        )
    return msgspec.json.decode(messages, type=list[Message])


def save(tables: Tables, state: NamespaceState, write: Write, hashed: str, results: list[Result], now: int) -> None:
    """Save the record of a write.

    Raises:
        InvalidArgument: it popped too much to keep.
    """
    assert state.id is not None
    assert write.idempotency_key is not None
    popped = sum(map(_popped_bytes, results))
    if popped > POPPED_BYTES:
        raise InvalidArgument(
            f"a write under an idempotency key may pop {POPPED_BYTES:,} bytes of messages, not {popped:,}; nothing was "
            "written. Pop fewer messages at a time"
        )
    saved = _keep(tables, state, write, results, now) if popped else results
    tables.save_response(state.id, write.idempotency_key, now, msgspec.json.encode((hashed, saved)).decode())


def _popped_bytes(result: Result) -> int:
    if not isinstance(result, list):
        return 0
    return sum(size(item.stored) + size(item.id) for item in result if isinstance(item, Message))


def _keep(tables: Tables, state: NamespaceState, write: Write, results: list[Result], now: int) -> list[Result | _Kept]:
    """Keep the messages that a write popped; returns its results, with a `_Kept` in place of them."""
    assert state.id is not None
    upto = tables.last_popped(state.id)
    saved: list[Result | _Kept] = []
    for number, (operation, result) in enumerate(zip(write.operations, results, strict=True)):
        if not isinstance(operation, Pop) or not result:
            saved.append(result)
            continue
        upto += _popped_bytes(result)
        saved.append(_Kept(upto, state.version))
        if Forget(operation.session) not in write.operations[number:]:
            messages = msgspec.json.encode(result).decode()
            tables.keep_popped(state.id, upto, state.version, operation.session, now, messages)
    tables.drop_popped(state.id, upto - POPPED_BYTES)
    return saved
