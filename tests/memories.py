"""An `AsyncMemory` for tests that are written once for both forms."""

from __future__ import annotations

import asyncio

from botwire import AsyncHistory
from botwire.watch import AsyncWatch


class Awaited:
    """An AsyncMemory as a Memory: each call runs the event loop until it returns."""

    def __init__(self, loop, target):
        self._loop, self._target = loop, target

    def __getattr__(self, name):
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def call(*args, **kwargs):
            result = found(*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = self._loop.run_until_complete(result)
            is_own = isinstance(result, AsyncHistory | AsyncWatch)
            return Awaited(self._loop, result) if is_own else result

        return call

    def __contains__(self, key):
        return self.contains(key)

    def __len__(self):
        return self.length()

    def __iter__(self):
        async def collect():
            return [item async for item in self._target]

        return iter(self._loop.run_until_complete(collect()))
