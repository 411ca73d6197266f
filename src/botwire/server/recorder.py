"""What namespaces have used, over time: an entry an hour beside the rules of access, by whichever server they were written at."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from ..errors import BotWireError
from ..limits import ACCESS
from ..records import GetUsage, ListEntries, Put, Sample, now
from ..store import GuardedStore

log = logging.getLogger("botwire.server")

EVERY = 300.0
"""Seconds after which what is going on in this hour is put down."""
KEPT_DAYS = 90
_HOUR = 3_600_000_000
_BATCH = 500


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
        names, self.written = sorted(self.written), set()
        for start in range(0, len(names), _BATCH):
            puts = [await self._put(name) for name in names[start : start + _BATCH]]
            await self._store.write(ACCESS, puts)

    async def history(self, namespace: str, days: int) -> list[Sample]:
        """Return what is known of a namespace, the oldest first."""
        since = now() // _HOUR - 24 * days
        entries = await self._store.read(ACCESS, ListEntries(_prefix(namespace), _key(namespace, since), 24 * days + 1))
        return [_decode(str(entry.stored)) for entry in entries]

    async def _put(self, namespace: str) -> Put:
        usage, moment = await self._store.read(namespace, GetUsage()), now()
        sample = Sample(moment, usage.writes_today, usage.bytes)
        text = msgspec.json.encode(sample).decode()
        return Put(_key(namespace, moment // _HOUR), text, ttl=KEPT_DAYS * 86_400.0)


def _prefix(namespace: str) -> str:
    return f"usage/{namespace}/"  # no namespace has a slash


def _key(namespace: str, hour: int) -> str:
    return f"{_prefix(namespace)}{hour:012d}"
