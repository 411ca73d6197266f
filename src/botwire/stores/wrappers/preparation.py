"""Operations that a store cannot do alone on encrypted values: increments, and pops.

The client reads what they need, and decrypts it. Then it writes only if nothing of that has changed since. So an operation whose
values cannot be decrypted is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from ...errors import Conflict
from ...operations import Append, Clear, Delete, Forget, Increment, Operation, Pop, Put
from ...queries import GetEntry, ListMessages, Query
from ...values import Stored, add, encode_json

Read: TypeAlias = Callable[[Query[Any]], Awaitable[Any]]
"""Answers a query of the namespace, with decrypted values."""
Prepared: TypeAlias = dict[int, Put | Pop]
"""By their index, the operations to write in place of others."""


async def prepare(read: Read, operations: Sequence[Operation]) -> Prepared:
    """Return what to write in place of the increments and pops."""
    return {**await _sums(read, operations), **await _guarded(read, operations)}


def is_outdated(prepared: Prepared, conflict: Conflict) -> bool:
    """Whether a conflict says that something has changed since it was read for these operations."""
    key = conflict.details.get("key")
    if key is None:
        return any(isinstance(op, Pop) for op in prepared.values())
    return any(isinstance(op, Put) and op.key == key and op.if_version is not None for op in prepared.values())


async def _sums(read: Read, operations: Sequence[Operation]) -> Prepared:
    """Return a put in place of each increment, which sees the operations before it."""
    known: dict[str, Stored | None] = {}
    cleared: list[str] = []
    sums: Prepared = {}
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
                    entry = await read(GetEntry(op.key))
                    known[op.key], version = (entry.stored, entry.version) if entry else (None, 0)
                total = encode_json(add(op.key, known.get(op.key), op.by))
                known[op.key] = total
                sums[index] = Put(op.key, total, if_version=version, keep_ttl=True)
    return sums


async def _guarded(read: Read, operations: Sequence[Operation]) -> Prepared:
    """Return a pop in place of each, that deletes only messages which were read and decrypted here."""
    ends = {
        session: [message.id for message in await read(ListMessages(session, last=count))]
        for session, count in _popped(operations).items()
    }
    pops: Prepared = {}
    for index, op in enumerate(operations):
        if not isinstance(op, Append | Forget | Pop) or op.session not in ends:
            continue
        end = ends[op.session]
        match op:
            case Append():
                end[:] = dict.fromkeys([*end, *(message.id for message in op.messages)])
            case Forget():
                end.clear()
            case Pop():
                ids = tuple(end[max(len(end) - op.count, 0) :])
                if op.if_ids not in {None, ids}:
                    raise Conflict(
                        f"session {op.session!r} does not end with the messages expected; nothing was written"
                    )
                pops[index] = msgspec.structs.replace(op, if_ids=ids)
                del end[len(end) - len(ids) :]
    return pops


def _popped(operations: Sequence[Operation]) -> dict[str, int | None]:
    """Return the sessions that are popped, and how many of their last messages that needs.

    None: all of them, because the operations also append: a message that the session already has is not added again.
    """
    counts: dict[str, int | None] = {}
    for op in reversed(operations):
        if isinstance(op, Pop):
            count = counts.get(op.session, 0)
            counts[op.session] = None if count is None else count + op.count
        elif isinstance(op, Append) and op.session in counts:
            counts[op.session] = None
    return counts
