"""Changes ⇄ server-sent events. Pure, and shared by the client and the server.

https://html.spec.whatwg.org/multipage/server-sent-events.html: the id of an event is the version up to which everything has
been told. A change is an event whose data are JSON; an event with an id alone says that nothing more is there for the moment;
one named ``problem`` says why the stream ends.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..errors import StoreError
from ..limits import MAX_WRITE_BYTES
from ..records import Change, Changes
from .responses import change_document, decode_change

MEDIA_TYPE = "text/event-stream"
MAX_EVENT_BYTES = 2 * MAX_WRITE_BYTES
"""The longest event that is taken, far more than any value needs."""
PROBLEM = "problem"


class Event(NamedTuple):
    """One event as it comes over the wire."""

    id: str
    name: str
    data: bytes


def encode_changes(found: Changes) -> bytes:
    """Return changes as events; when there are none, that there are none."""
    if not found.changes:
        return b"id: %d\n\n" % found.version
    *others, last = found.changes
    events = [_event(change.version, change) for change in others]
    # What was left out behind the last one is told with it.
    return b"".join([*events, _event(found.version, last)])


def encode_end(problem: bytes) -> bytes:
    """Return the last event of a stream: a problem document."""
    return b"event: %b\ndata: %b\n\n" % (PROBLEM.encode(), problem)


def _event(version: int, change: Change) -> bytes:
    data = msgspec.json.encode(change_document(change))
    if b"\n" in data or b"\r" in data:  # between the tokens of a value that came so
        data = b"\ndata: ".join(data.splitlines())
    return b"id: %d\ndata: %b\n\n" % (version, data)


class Parser:
    """Bytes → events."""

    def __init__(self) -> None:
        self._rest = b""
        self._clear()
        self._id = ""

    def _clear(self) -> None:
        self._name = ""
        self._data: list[bytes] = []
        self._length = 0
        self._has_id = False

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes; return the events that are whole now.

        Raises:
            StoreError: an event is too long to be one.
        """
        if b"\n" not in data:
            self._rest += data
            self._check(len(self._rest))
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")  # noqa: PLW2901
            if line:
                self._take(line)
            else:
                if self._data or self._has_id:
                    events.append(Event(self._id, self._name, b"\n".join(self._data)))
                self._clear()
        return events

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._length += len(value)
            self._check(self._length)
        elif field == b"id":
            self._id, self._has_id = value.decode("ascii", "replace"), True
        elif field == b"event":
            self._name = value.decode("ascii", "replace")

    def _check(self, length: int) -> None:
        if length > MAX_EVENT_BYTES:
            raise StoreError("an event is longer than any that botwire knows: is it a botwire server?")


def version_of(event: Event) -> int:
    """Return the version in the id of an event."""
    if not event.id.isdigit() or len(event.id) > 19:
        raise StoreError("an event has no version for its id: is it a botwire server?")
    return int(event.id)


def change_of(event: Event) -> Change:
    """Return the change that an event tells of."""
    return decode_change(event.data)
