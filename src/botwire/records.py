"""Records: what a store returns."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from .timestamps import moment
from .values import Stored, decode

T = TypeVar("T")
_CURSOR = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})")


def _shown(record: Any, *names: str) -> str:
    return f"{type(record).__name__}({', '.join(f'{name}={getattr(record, name)!r}' for name in names)})"


class Entry(msgspec.Struct, frozen=True):
    """A key and its value.

    ``version`` grows with each write of the key, by one or more. A namespace never uses a version twice, even if the key was deleted.
    """

    key: str
    stored: Stored
    version: int
    created: int
    updated: int
    expires: int | None = None

    def __repr__(self) -> str:
        return _shown(self, "key", "value", "version", "created_at", "updated_at", "expires_at")

    @property
    def value(self) -> Any:
        """The value as it was set."""
        return decode(self.stored)

    @property
    def created_at(self) -> datetime:
        """When the key was first set, UTC."""
        return moment(self.created)

    @property
    def updated_at(self) -> datetime:
        """When the key was last set, UTC."""
        return moment(self.updated)

    @property
    def expires_at(self) -> datetime | None:
        """When the entry expires, UTC; None: never."""
        return None if self.expires is None else moment(self.expires)


class Message(msgspec.Struct, frozen=True):
    """One message of a session: its seq (1, 2, 3, … without gaps), its id and its data.

    ``edited``: when its data was last replaced; None: never. ``redacted``: the reason for which its text was removed, which may be
    empty; None: it was not.
    """

    seq: int
    id: str
    stored: str
    created: int
    edited: int | None = None
    redacted: str | None = None

    def __repr__(self) -> str:
        return _shown(self, "seq", "id", "data", "created_at")

    @property
    def version(self) -> int:
        """A number that grows with each edit, for ``if_version``."""
        return self.created if self.edited is None else self.edited

    @property
    def data(self) -> Any:
        """The message as it was appended."""
        return decode(self.stored)

    @property
    def created_at(self) -> datetime:
        """When the message was stored, UTC."""
        return moment(self.created)


class About(msgspec.Struct, frozen=True):
    """What is known about a session. ``version`` grows with each change of it; 0: nothing was set.

    ``owner`` and ``tags`` are names, and are not encrypted. ``stored`` is the JSON text of title and data; empty: neither was set.
    """

    version: int = 0
    owner: str | None = None
    tags: tuple[str, ...] = ()
    stored: str = ""

    def __repr__(self) -> str:
        return _shown(self, "title", "owner", "tags", "data", "version")

    @property
    def title(self) -> str | None:
        """The title."""
        title: str | None = _part(self.stored, "title", None)
        return title

    @property
    def data(self) -> dict[str, Any]:
        """Any other JSON object."""
        data: dict[str, Any] = _part(self.stored, "data", {})
        return data


def _part(stored: str, name: str, default: Any) -> Any:
    parts = decode(stored) if stored else None
    value = parts.get(name) if isinstance(parts, dict) else None  # a text is encrypted
    return default if value is None else value


class Session(msgspec.Struct, frozen=True):
    """A session.

    ``place`` orders sessions by their creation. ``version`` changes with every change but an append: a pop, an edit, a summary.
    ``bytes`` is what its messages, its summary and `about` take. ``origin`` is the session that it was forked from, and the last seq it
    took from there. ``summarized`` is the last seq that its summary covers, 0 without one. ``preview`` is its last message, if asked for.
    """

    name: str
    place: int
    messages: int
    created: int
    updated: int
    version: int = 0
    bytes: int = 0
    expires: int | None = None
    about: About = About()
    origin: tuple[str, int] | None = None
    summarized: int = 0
    preview: Message | None = None

    def __repr__(self) -> str:
        return _shown(self, "name", "messages", "created_at", "updated_at", "about")

    @property
    def cursor(self) -> str:
        """Where the next page of a list continues after this session."""
        return f"{self.updated}.{self.place}"

    @property
    def created_at(self) -> datetime:
        """When its first message was stored, UTC."""
        return moment(self.created)

    @property
    def updated_at(self) -> datetime:
        """When a message was last stored, edited or deleted, UTC."""
        return moment(self.updated)

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires by its own time to live, UTC; None: never. A rule or the plan may end it earlier."""
        return None if self.expires is None else moment(self.expires)


def position_in(cursor: str) -> tuple[int, int] | None:
    """Return the time and the place in a `Session.cursor`; None: it is not one."""
    found = _CURSOR.fullmatch(cursor)
    return None if found is None else (int(found[1]), int(found[2]))


class Context(msgspec.Struct, frozen=True):
    """What a session has for the context of a model.

    ``version`` and ``last`` are those of the session. ``summarized`` is the last seq that the summary covers, and ``summary`` is its JSON
    text, a list of messages; 0 and None without one. ``head`` has the first messages, ``messages`` the newest ones, in order.
    """

    version: int = 0
    last: int = 0
    summarized: int = 0
    summary: str | None = None
    head: list[Message] = []
    messages: list[Message] = []


class Rule(msgspec.Struct, frozen=True):
    """How long sessions are kept whose name begins with a prefix.

    ``idle``: seconds since the last activity. ``age``: seconds since the first message. None: no limit.
    """

    prefix: str
    idle: float | None
    age: float | None


class Hit(msgspec.Struct, frozen=True):
    """A result of a search: an entry, or a message and its session.

    ``score`` orders the hits of one search; scores of two searches cannot be compared. ``snippet`` is the piece of the text that
    matches best.
    """

    score: float
    snippet: str
    entry: Entry | None = None
    message: Message | None = None
    session: str | None = None

    def __repr__(self) -> str:
        return _shown(self, "score", "snippet", *(["entry"] if self.entry else ["session", "message"]))

    @property
    def value(self) -> Any:
        """The entry's value, or the message's data."""
        record = self.entry or self.message
        assert record is not None
        return decode(record.stored)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a namespace, as a watch delivers it.

    ``version`` orders the changes of a namespace, and is the cursor to continue after. ``kind`` says what happened:

    - ``set``: the key has this entry now;
    - ``delete``, ``expire``: the key has no entry now;
    - ``clear``: no key that begins with the prefix has an entry now;
    - ``append``: the session has this message now, at its seq;
    - ``edit``: the message at this seq of the session is this one now; if no such message was delivered, ignore it;
    - ``pop``: the session has only its first `left` messages; with 0 left it has none;
    - ``about``: the title, the owner, tags, data or expiry of the session changed;
    - ``summary``: the summary of the session changed;
    - ``expire`` with a session: the session is deleted, because it expired.
    """

    version: int
    kind: Literal["set", "delete", "expire", "clear", "append", "edit", "pop", "about", "summary"]
    key: str | None = None
    entry: Entry | None = None
    prefix: str | None = None
    session: str | None = None
    message: Message | None = None
    left: int | None = None

    def __repr__(self) -> str:
        shown = ("session",) if self.kind == "expire" and self.session is not None else _SHOWN[self.kind]
        return _shown(self, "version", "kind", *shown)

    @property
    def value(self) -> Any:
        """The value that was set, or the data of the message that was appended or edited; None for other changes."""
        record = self.entry or self.message
        return None if record is None else decode(record.stored)


_SHOWN = {
    "set": ("key", "value"),
    "delete": ("key",),
    "expire": ("key",),
    "clear": ("prefix",),
    "append": ("session", "message"),
    "edit": ("session", "message"),
    "pop": ("session", "left"),
    "about": ("session",),
    "summary": ("session",),
}


class Changes(msgspec.Struct, frozen=True):
    """Changes of a namespace in order, complete up to `version`."""

    changes: list[Change]
    version: int


class Progress(msgspec.Struct, frozen=True):
    """The version of a namespace, and the seconds until something expires; 0 or less if what expired is not deleted yet."""

    version: int
    due_in: float


class Text(msgspec.Struct, frozen=True):
    """The text of an entry or a message that has no vector. ``place`` is the cursor for the next page.

    ``version`` changes with the text: it is that of the entry or message.
    """

    text: str
    place: str
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None


class Usage(msgspec.Struct, frozen=True):
    """What a namespace holds and what its plan allows; a limit of None is no limit.

    ``writes_today`` counts the values and messages stored since 00:00 UTC; reads and deletes are free. ``bytes`` counts
    keys, message ids, values and messages in their stored form, and vectors. Expired entries count until later writes remove them; a
    write that needs their room removes them first.
    """

    plan: str
    writes_today: int
    writes_per_day: int | None
    bytes: int
    max_bytes: int | None
    resets: int

    def __repr__(self) -> str:
        return _shown(self, "plan", "writes_today", "writes_per_day", "bytes", "max_bytes", "resets_at")

    @property
    def resets_at(self) -> datetime:
        """When `writes_today` starts from 0 again, UTC."""
        return moment(self.resets)


class Sample(msgspec.Struct, frozen=True):
    """The bytes and the writes of the UTC day of a namespace, at a time in microseconds."""

    at: int
    writes: int
    bytes: int
