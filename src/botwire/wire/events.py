"""Changes ⇄ server-sent events. Pure, and shared by the client and the server.

https://html.spec.whatwg.org/multipage/server-sent-events.html. The id of an event is a version: the client has every change up
to it. A change is an event with JSON data. An event with only an id says that there are no more changes now. An event named
``problem`` says why the stream ends.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import StoreError
from ..limits import MAX_WRITE_BYTES
from ..records import Change, Changes
from .responses import encode_record

MEDIA_TYPE = "text/event-stream"
MAX_EVENT_BYTES = 2 * MAX_WRITE_BYTES
"""The longest event that a client accepts, far more than any value needs."""
PROBLEM = "problem"


class Event(NamedTuple):
    """One event as it comes over the wire."""

    id: str
    name: str
    data: bytes


def encode_changes(found: Changes) -> bytes:
    """Return changes as events. No changes: an event with only an id."""
    if not found.changes:
        return b"id: %d\n\n" % found.version
    *others, last = found.changes
    events = [_event(change.version, change) for change in others]
    # A filter may leave out changes after the last one. Its id covers them, so that a client does not read them again.
    return b"".join([*events, _event(found.version, last)])


def encode_end(problem: bytes) -> bytes:
    """Return the last event of a stream: a problem document."""
    return b"event: %b\ndata: %b\n\n" % (PROBLEM.encode(), problem)


def _event(version: int, change: Change) -> bytes:
    data = encode_record(change)
    if b"\n" in data or b"\r" in data:  # whitespace between the tokens of a stored value
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
        """Return the events that these bytes complete. Raises `StoreError` if one is longer than `MAX_EVENT_BYTES`."""
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
            raise StoreError(
                f"an event is longer than {MAX_EVENT_BYTES:,} bytes, which no botwire server sends. Check the URL"
            )


def version_of(event: Event) -> int:
    """Return the version in the id of an event."""
    if not event.id.isdigit() or len(event.id) > 19:
        raise StoreError(
            f"the id of an event is {event.id!r:.40} and not a version, which no botwire server sends. Check the URL"
        )
    return int(event.id)
