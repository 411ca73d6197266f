"""Changes as server-sent events, which all streams share that send the same ones at the same time."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from ..queries import weight
from ..records import Changes
from ..wire import events
from .budget import LARGE, Budget, Hold
from .large import in_thread


class Encoded:
    """Events of several changes. ``hold`` counts large ones, until no stream needs them any more."""

    def __init__(self, hold: Hold, *, has_changes: bool) -> None:
        self.hold = hold
        self.has_changes = has_changes
        self.body = b""
        self.encoding: asyncio.Future[bytes] | None = None

    def __del__(self) -> None:
        self.hold.release()


class Encoder:
    """Encodes changes for the streams of a process."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._shared: WeakValueDictionary[tuple[object, ...], Encoded] = WeakValueDictionary()

    async def encode(self, namespace: str, found: Changes) -> Encoded:
        """Return changes of a namespace as events. Large ones are encoded in a thread, and once for all streams."""
        encoded = Encoded(Hold(self._budget, ""), has_changes=bool(found.changes))
        size = sum(weight(change.entry or change.message) for change in found.changes)
        if size <= LARGE:
            encoded.body = events.encode_changes(found)
            return encoded
        key = namespace, found.version, *(change.version for change in found.changes)
        encoded = self._shared.setdefault(key, encoded)
        if encoded.encoding is None:
            encoded.hold.set(size)
            encoded.encoding = asyncio.ensure_future(in_thread(events.encode_changes, found))
        del found  # or each of the streams that wait would hold its own
        # Not cancelled with this stream: others may wait for it.
        encoded.body = await asyncio.shield(encoded.encoding)
        encoded.hold.set(len(encoded.body))
        return encoded
