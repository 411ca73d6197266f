"""Threads that expire when nothing has been stored in them for a while.

    thread/{thread}     the time to live of a thread, in seconds
    alive/{thread}      an entry with this time to live, which each checkpoint renews

A thread with the first entry and without the second has expired: all that it holds is as if it were not there. The next checkpoint
removes it in the same write, so it never comes back. Checkpoints of other threads remove it in the background. The entries of the
thread itself have no time to live, because a new checkpoint relies on old values.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

from ...errors import BotWireError, Conflict
from ...namespace import Namespace
from ...operations import Clear, Delete, Operation, Put, Require, Result
from ...queries import GetEntries, ListEntries
from ...timestamps import now
from ...values import decode, encode

_THREAD, _ALIVE = "thread/", "alive/"
_EVERY, _PAGE, _MOST_REMOVED = 32, 64, 4
"""Checkpoints between two searches for expired threads, threads that one reads, and threads that it removes."""
_SPARED = 0.01
"""The part of the time to live that passes before a read renews it again."""


class Life(NamedTuple):
    """The versions of the two entries of a thread, 0 for none, its time to live in seconds, and the time when it expires."""

    thread: int = 0
    alive: int = 0
    ttl: float | None = None
    expires: int | None = None

    @property
    def has_expired(self) -> bool:
        return bool(self.thread) and not self.alive


class Renewal(NamedTuple):
    """What a checkpoint writes first so that its thread lives on. `begins`: nothing of before is left in the thread."""

    operations: list[Operation]
    ttl: float | None
    begins: bool


def removal(thread: str) -> list[Operation]:
    """Return the operations that delete all that a thread holds. It is named by the part of its keys."""
    return [Clear(f"checkpoint/{thread}/"), Clear(f"value/{thread}/")]


def deletion(thread: str) -> list[Operation]:
    """Return the operations that delete a thread and its expiry."""
    return [*removal(thread), Delete(_THREAD + thread), Delete(_ALIVE + thread)]


def is_about_expiry(conflict: Conflict) -> bool:
    """Whether a write was refused because the thread was renewed or deleted, or has expired."""
    return str(conflict.details.get("key", "")).startswith((_THREAD, _ALIVE))


class Expiry:
    """The expiry of the threads of a saver, which are named by the parts of their keys."""

    _MOST = 4096

    def __init__(self, ttl: float | None, *, renews_on_read: bool) -> None:
        self._ttl = ttl
        self._renews_on_read = renews_on_read
        self._mutex = threading.Lock()
        self._known: OrderedDict[str, Life] = OrderedDict()
        self._puts = 0
        self._after = ""

    def is_watched(self, thread: str) -> bool:
        """Whether each read of the thread has to ask whether it is alive. Without any time to live, reads save that."""
        return self._ttl is not None or self._known.get(thread, _NONE).thread != 0

    async def read(self, memory: Namespace, thread: str) -> Life:
        """Return what is stored about a thread."""
        entries = await memory.bridge.read(GetEntries((_THREAD + thread, _ALIVE + thread)))
        found = {entry.key: entry for entry in entries}
        own, alive = found.get(_THREAD + thread), found.get(_ALIVE + thread)
        life = Life(
            own.version if own else 0,
            alive.version if own and alive else 0,
            decode(own.stored) if own else None,
            alive.expires if alive else None,
        )
        self._keep(thread, life)
        return life

    async def has_expired(self, memory: Namespace, thread: str) -> bool:
        """Whether a thread that is watched has expired."""
        return self.is_watched(thread) and (await self.read(memory, thread)).has_expired

    async def renew_on_read(self, memory: Namespace, thread: str) -> None:
        """Restart the time to live of a thread that was read, if the saver does so."""
        life = self._known.get(thread, _NONE)
        if not self._renews_on_read or not life.alive or life.ttl is None or life.expires is None:
            return
        if life.expires - now() < (1 - _SPARED) * life.ttl * 1_000_000:
            with suppress(Conflict):  # others renewed it
                await memory.bridge.write(Put(_ALIVE + thread, encode(None), life.ttl, if_version=life.alive))

    async def renewal(self, memory: Namespace, thread: str, ttl: float | None = None) -> Renewal:
        """Return what to write before a checkpoint. If it meets a `Conflict` about the expiry, call `forget` and repeat.

        `ttl`: of a thread for which the saver has none.
        """
        life = self._known.get(thread)
        if life is None:
            life = await self.read(memory, thread) if self._ttl is not None else _NONE
        ttl = self._ttl or life.ttl or ttl
        key, alive = _THREAD + thread, _ALIVE + thread
        if ttl is None:
            return Renewal([Require(key, 0)], None, begins=False)
        own = Put(key, encode(ttl), if_version=life.thread)
        renewed = Put(alive, encode(None), ttl, if_version=life.alive)
        if life.has_expired:
            return Renewal([*removal(thread), own, renewed], ttl, begins=True)
        return Renewal([own, renewed] if ttl != life.ttl else [renewed], ttl, begins=False)

    def renewed(self, thread: str, renewal: Renewal, results: list[Result]) -> None:
        """Remember the versions that a renewal has written."""
        if renewal.ttl is None or not results:
            return
        versions = dict(zip((_key(operation) for operation in renewal.operations), results, strict=False))
        own = versions.get(_THREAD + thread, self._known.get(thread, _NONE).thread)
        self._keep(thread, Life(int(own), int(versions[_ALIVE + thread]), renewal.ttl))  # type: ignore[arg-type]

    def forget(self, thread: str) -> None:
        """Read what is stored about a thread before the next write to it."""
        with self._mutex:
            self._known.pop(thread, None)

    async def sweep(self, memory: Namespace) -> None:
        """Remove some expired threads, at one of 32 calls."""
        self._puts += 1
        if self._ttl is None or self._puts % _EVERY != 1:
            return
        with suppress(BotWireError):  # the checkpoint before it is stored: that must not fail
            await self._sweep(memory)

    async def _sweep(self, memory: Namespace) -> None:
        threads = await memory.bridge.read(ListEntries(_THREAD, self._after, _PAGE))
        self._after = threads[-1].key if len(threads) == _PAGE else ""
        names = [entry.key.removeprefix(_THREAD) for entry in threads]
        entries = await memory.bridge.read(GetEntries(tuple(_ALIVE + name for name in names))) if names else []
        alive = {entry.key for entry in entries}
        expired = [(name, entry) for name, entry in zip(names, threads, strict=True) if _ALIVE + name not in alive]
        for name, entry in expired[:_MOST_REMOVED]:
            with suppress(Conflict):  # it has begun again
                await memory.bridge.write(
                    Require(_ALIVE + name, 0), Require(entry.key, entry.version), *removal(name), Delete(entry.key)
                )
        if len(expired) > _MOST_REMOVED:
            self._after = expired[_MOST_REMOVED - 1][1].key

    def _keep(self, thread: str, life: Life) -> None:
        with self._mutex:
            self._known[thread] = life
            self._known.move_to_end(thread)
            if len(self._known) > self._MOST:
                self._known.popitem(last=False)


_NONE = Life()


def _key(operation: Operation) -> str:
    return operation.key if isinstance(operation, Put) else ""
