"""Usage history: the bytes and writes of each namespace, one entry an hour, stored beside the tokens.

A server records the namespaces that were written to through it. It also records those whose usage a client has asked for,
because other programs may write to the file or database directly.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from ...errors import BotWireError
from ...limits import ACCESS
from ...operations import Put
from ...queries import GetUsage, ListEntries
from ...records import Sample
from ...store import GuardedStore
from ...timestamps import now

log = logging.getLogger("botwire.server")

EVERY = 300.0
"""Seconds between two recordings. A later one in the same hour replaces the earlier one."""
KEPT_DAYS = 90
_HOUR = 3_600_000_000
_BATCH = 500
_MAX_ASKED = 1_000
"""Namespaces that are recorded without a write; beyond it, the one that was asked for first is dropped."""
_decode = msgspec.json.Decoder(Sample).decode


class Recorder:
    """Records the usage of the namespaces of a store."""

    def __init__(self, store: GuardedStore) -> None:
        self._store = store
        self.written: set[str] = set()
        """Namespaces that were written to since they were last recorded."""
        self._asked: dict[str, tuple[int, int]] = {}
        """Namespaces whose usage a client asked for, and the writes and bytes last recorded."""

    async def run(self) -> None:
        """Record again and again, until cancelled. No error ends it: the next round records what this one could not."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.record()
            except BotWireError as error:
                log.warning("usage was not recorded", extra={"code": error.code, "reason": error.message})
            except Exception:
                log.exception("usage was not recorded")

    async def record(self) -> None:
        """Record the usage of each namespace that changed. If it fails, the namespaces that it missed stay due."""
        names = sorted(self.written | self._asked.keys())
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            written = self.written.intersection(batch)
            self.written -= written  # before reading usage: a write from now on is for the next round
            try:
                await self._record(batch, written)
            except BaseException:
                self.written |= written
                raise

    async def _record(self, names: list[str], written: set[str]) -> None:
        puts = []
        recorded = {}
        for name in names:
            usage = await self._store.read(name, GetUsage())
            sample = Sample(now(), usage.writes_today, usage.bytes)
            recorded[name] = sample.writes, sample.bytes
            if name in written or self._asked.get(name) != recorded[name]:
                text = msgspec.json.encode(sample).decode()
                puts.append(Put(_key(name, sample.at // _HOUR), text, ttl=KEPT_DAYS * 86_400.0))
        if puts:
            await self._store.write(ACCESS, puts)
        self._asked |= {name: recorded[name] for name in recorded.keys() & self._asked.keys()}

    async def history(self, namespace: str, days: int) -> list[Sample]:
        """Return the recorded samples of a namespace, the oldest first. From now on it is recorded without a write, too."""
        if namespace not in self._asked:
            self._asked[namespace] = (0, 0)
            if len(self._asked) > _MAX_ASKED:
                del self._asked[next(iter(self._asked))]
        after = _key(namespace, now() // _HOUR - 24 * days)
        entries = await self._store.read(ACCESS, ListEntries(f"usage/{namespace}/", after, 24 * days + 1))
        return [_decode(str(entry.stored)) for entry in entries]


def _key(namespace: str, hour: int) -> str:
    return f"usage/{namespace}/{hour:012d}"  # no namespace contains a slash
