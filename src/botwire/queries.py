"""Queries: what can be read from a store. Each has the type of its result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import msgspec

from .operations import Values
from .records import Changes, Context, Entry, Hit, Message, Progress, Rule, Session, T, Text, Usage

R = TypeVar("R")
Order: TypeAlias = Literal["active", "created"]
"""Sessions in the order of their last activity, or of their creation; the newest first."""
_OVERHEAD = 100
"""Bytes that a row takes beside its value."""


class Query(msgspec.Struct, Generic[T], frozen=True):
    """A read of one namespace. Its ``values`` says what an encrypted store does with the answer, as `Values` for operations.

    ``room``, where a query has it, is about how many bytes of memory the rows may take. The answer ends with the row that fills it,
    so it has at least one row if there is any. A store reads nothing after that row. None: no limit.
    """


class GetEntry(Query[Entry | None], frozen=True):
    """One entry, or None."""

    values: ClassVar[Values] = "sealed"
    key: str


class GetEntries(Query[list[Entry]], frozen=True):
    """The entries of those keys that exist, in the order of the keys."""

    values: ClassVar[Values] = "sealed"
    keys: tuple[str, ...]
    room: int | None = None


class ListKeys(Query[list[str]], frozen=True):
    """The keys that begin with a prefix and come after `after`, in the order of their UTF-8 bytes, at most `limit`."""

    values: ClassVar[Values] = "none"
    prefix: str = ""
    after: str = ""
    limit: int | None = None
    room: int | None = None


class ListEntries(Query[list[Entry]], frozen=True):
    """As `ListKeys`, but entries."""

    values: ClassVar[Values] = "sealed"
    prefix: str = ""
    after: str = ""
    limit: int | None = None
    room: int | None = None


class CountEntries(Query[int], frozen=True):
    """The number of keys that begin with a prefix."""

    values: ClassVar[Values] = "none"
    prefix: str = ""


class ListMessages(Query[list[Message]], frozen=True):
    """The messages of a session after seq `after`, in order: the first `limit`, or the `last` ones."""

    values: ClassVar[Values] = "sealed"
    session: str
    after: int = 0
    limit: int | None = None
    last: int | None = None
    room: int | None = None


class CountMessages(Query[int], frozen=True):
    """The number of messages of a session."""

    values: ClassVar[Values] = "none"
    session: str


class GetSession(Query[Session | None], frozen=True):
    """A session, or None. ``preview``: with its last message."""

    values: ClassVar[Values] = "sealed"
    session: str
    preview: bool = False


class ListSessions(Query[list[Session]], frozen=True, kw_only=True):
    """Sessions in an order, the newest first, those after `after` (a `Session.cursor` of the same order), at most `limit`.

    ``prefix``: only those whose name begins with it. ``where``: paths into the session's title, owner, tags and data, and what they
    must equal, as in `Search`. ``tag``: only those with it. ``since``: only those with activity at this time in microseconds or later.
    ``preview``: with the last message of each.
    """

    values: ClassVar[Values] = "sealed"
    order: Order = "active"
    prefix: str = ""
    where: dict[str, Any] = {}
    tag: str | None = None
    since: int | None = None
    after: str = ""
    limit: int | None = None
    preview: bool = False
    room: int | None = None

    def __hash__(self) -> int:  # `where` has none
        return hash((self.order, self.prefix, self.tag, self.since, self.after, self.limit, self.preview, self.room))


class GetContext(Query[Context], frozen=True):
    """The summary of a session, and its newest messages before seq ``before`` (None: all), at most ``last``.

    Messages that the summary covers are left out, unless ``before`` is not beyond them. ``head``: also the first n messages.
    """

    values: ClassVar[Values] = "sealed"
    session: str
    last: int
    before: int | None = None
    head: int = 0
    room: int | None = None


class GetRetention(Query[list[Rule]], frozen=True):
    """The rules that say how long sessions are kept, in the order of their prefixes. A plan may keep them for less."""

    values: ClassVar[Values] = "none"


class Search(Query[list[Hit]], frozen=True, kw_only=True):
    """The best matches of a question, the best first. The arguments are those of `Memory.search`, checked.

    ``messages`` and ``entries`` are the kinds to search. ``since`` and ``until`` are in microseconds, ``half_life`` in seconds.
    ``vector`` is the question as a vector of a ``model``. ``words``: search by words too, not only by the vector.
    """

    values: ClassVar[Values] = "plain"
    text: str
    limit: int = 10
    messages: bool = True
    entries: bool = True
    session: str | None = None
    prefix: str = ""
    where: dict[str, Any] = {}
    since: int | None = None
    until: int | None = None
    neighbours: int = 2
    half_life: float | None = None
    words: bool = True
    vector: bytes | None = None
    model: str = ""


class ListTexts(Query[list[Text]], frozen=True):
    """Texts without a vector of a model, after a `Text.place`, at most `limit`."""

    values: ClassVar[Values] = "plain"
    model: str
    after: str = ""
    limit: int = 500
    room: int | None = None


class ListChanges(Query[Changes], frozen=True):
    """The changes after the version `after`, in order, about `limit` at most. None: only the current version.

    With a prefix alone: only changes of entries whose key begins with it. With a session alone: only changes of its messages.
    A key that was set several times appears once, with its current value. A message that was removed since does not appear.
    Raises `ChangesLost` if some of the changes are no longer kept.
    """

    values: ClassVar[Values] = "sealed"
    after: int | None = None
    limit: int = 50
    prefix: str = ""
    session: str | None = None

    @property
    def entries(self) -> bool:
        """Whether changes of entries are asked for."""
        return bool(self.prefix) or self.session is None

    def wants_session(self, name: str) -> bool:
        """Whether changes of a session are asked for."""
        return self.session == name or (self.session is None and not self.prefix)


class GetProgress(Query[Progress], frozen=True):
    """The version of the namespace, and when the next entry expires."""

    values: ClassVar[Values] = "none"


class ListNamespaces(Query[list[str]], frozen=True):
    """The namespaces of the store after `after`, in the order of their UTF-8 bytes, at most `limit`.

    The namespace of the read does not matter. A namespace exists from its first write on.
    """

    values: ClassVar[Values] = "none"
    after: str = ""
    limit: int | None = None


class GetUsage(Query[Usage], frozen=True):
    """The usage of the namespace and the limits of its plan."""

    values: ClassVar[Values] = "none"


def weight(row: Any) -> int:
    """Return about how many bytes of memory a row takes: mostly those of its value or text.

    A text takes one to four bytes a character, so up to four times its length in UTF-8. A session has its preview, title and data
    too, and a context all its messages and the summary.
    """
    stored = getattr(row, "stored", None)
    if stored is not None:
        return _OVERHEAD + sys.getsizeof(stored)
    match row:
        case Session(name=name, about=about, preview=preview):
            texts = sum(map(sys.getsizeof, (name, about.stored, about.owner, *about.tags)))
            return 4 * _OVERHEAD + texts + (0 if preview is None else weight(preview))
        case Context(summary=summary, head=head, messages=messages):
            return _OVERHEAD + sys.getsizeof(summary) + sum(map(weight, head)) + sum(map(weight, messages))
    return _OVERHEAD + sys.getsizeof(getattr(row, "text", row))


def within(rows: Iterable[R], room: int | None, weigh: Callable[[R], int] = weight) -> list[R]:
    """Return rows until they fill the `room` of a query, and read no row after that."""
    if room is None:
        return list(rows)
    found = []
    for row in rows:
        found.append(row)
        room -= weigh(row)
        if room <= 0:
            break
    return found
