"""What namespaces have used, over time: an entry an hour beside the rules of access.

A server puts it down for the namespaces that were written to there, and for those whose usage somebody has looked at, which
programs may write to that have the file or the database open themselves.
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
"""Seconds after which what is going on in this hour is put down."""
KEPT_DAYS = 90
_HOUR = 3_600_000_000
_BATCH = 500
_MOST_ASKED = 1_000
"""Namespaces that are looked at although nothing was written there; whoever was asked for first is forgotten first."""


_decode = msgspec.json.Decoder(Sample).decode


class Recorder:
    """Puts down what the namespaces use that are written to.

    Args:
        store: where the namespaces are.
    """

    def __init__(self, store: GuardedStore) -> None:
        self._store = store
        self.written: set[str] = set()
        """Namespaces that were written to and not put down since."""
        self._asked: dict[str, tuple[int, int]] = {}
        """Namespaces that somebody looks at, and what was put down of them last."""

    async def run(self) -> None:
        """Put it down again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.record()
            except BotWireError as error:
                log.warning("usage was not recorded", extra={"code": error.code, "reason": error.message})

    async def record(self) -> None:
        """Put it down now. Nothing is written when nothing was."""
        written, self.written = self.written, set()
        names = sorted(written | self._asked.keys())
        for start in range(0, len(names), _BATCH):
            samples = {name: await self._sample(name) for name in names[start : start + _BATCH]}
            puts = [
                _put(name, sample)
                for name, sample in samples.items()
                if name in written or self._asked.get(name) != (sample.writes, sample.bytes)
            ]
            if puts:
                await self._store.write(ACCESS, puts)
            self._asked |= {name: (item.writes, item.bytes) for name, item in samples.items() if name in self._asked}

    async def history(self, namespace: str, days: int) -> list[Sample]:
        """Return what is known of a namespace, the oldest first, and put it down from now on, whoever writes there."""
        if namespace not in self._asked:
            self._asked[namespace] = (0, 0)
            if len(self._asked) > _MOST_ASKED:
                del self._asked[next(iter(self._asked))]
        since = now() // _HOUR - 24 * days
        entries = await self._store.read(ACCESS, ListEntries(_prefix(namespace), _key(namespace, since), 24 * days + 1))
        return [_decode(str(entry.stored)) for entry in entries]

    async def _sample(self, namespace: str) -> Sample:
        usage = await self._store.read(namespace, GetUsage())
        return Sample(now(), usage.writes_today, usage.bytes)


def _put(namespace: str, sample: Sample) -> Put:
    text = msgspec.json.encode(sample).decode()
    return Put(_key(namespace, sample.at // _HOUR), text, ttl=KEPT_DAYS * 86_400.0)


def _prefix(namespace: str) -> str:
    return f"usage/{namespace}/"  # no namespace has a slash


def _key(namespace: str, hour: int) -> str:
    return f"{_prefix(namespace)}{hour:012d}"
