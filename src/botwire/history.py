"""History: the messages of a session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from .bridge import blocking
from .errors import InvalidArgument
from .limits import MAX_OPERATIONS, check_bounded, check_count, check_name
from .namespace import Namespace
from .operations import Append, Forget, NewMessage, Pop
from .queries import CountMessages, ListMessages
from .records import Hit, Message
from .search.arguments import search_query
from .timestamps import new_id
from .values import encode_json
from .watch import Watch


class SessionHistory:
    """A session of a namespace: what `History` and `AsyncHistory` share."""

    def __init__(self, memory: Namespace, session_id: str) -> None:
        self._memory = memory
        self._session = check_name(session_id, "session name")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._memory, self._session)

    @property
    def session_id(self) -> str:
        """The name of the session."""
        return self._session

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory!r}, {self._session!r})"


class History(SessionHistory):
    """An ordered chat log that grows and shrinks at its end. `Memory.history` returns it.

    Any number of writers in any number of processes may append. Messages are numbered 1, 2, 3, … without gaps.
    """

    @blocking
    async def append(self, messages: Any, *, ids: Sequence[str] | None = None) -> list[int]:
        """Append messages, all or none, and return the seq of each when they are on disk.

        Args:
            messages: a list of JSON values, at most 10,000. Anything but a list or a tuple is one message.
            ids: an id for each, so that an append can be repeated safely: a message whose id the session already has is not added
                again, and its seq is returned. None: new ids.

        Raises:
            InvalidValue: a message is not a JSON value; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        new = _new_messages(messages, ids)
        if not new:
            return []
        (seqs,) = await self._memory.bridge.write(Append(self._session, new))
        return cast("list[int]", seqs)

    @blocking
    async def messages(
        self, last: int | None = None, *, after: int | None = None, limit: int | None = None
    ) -> list[Message]:
        """Return messages in order, each with its seq, id, data and created_at.

        Args:
            last: only the last n messages.
            after: only messages after this seq: the last seq of the previous page.
            limit: at most n messages. Not together with `last`.
        """
        if last is not None and limit is not None:
            raise InvalidArgument("pass last (messages from the end) or limit (messages from the start), not both")
        query = ListMessages(
            self._session, check_count(after, "after") or 0, check_count(limit, "limit"), check_count(last, "last")
        )
        return await self._memory.bridge.read(query)

    @blocking
    async def pop(self, count: int = 1) -> list[Message]:
        """Delete the last messages and return them, in order. The deletion is on disk when it returns.

        If several callers pop and append at the same time, each message is popped by one of them. The next appended message gets
        the seq of the first deleted one.

        Args:
            count: at most n messages, up to 10,000.

        Raises:
            DecryptionError: one of the messages cannot be decrypted; none was deleted.
            Conflict: the memory is encrypted, and other clients changed the session 100 times in a row; nothing was deleted.
        """
        (popped,) = await self._memory.bridge.write(Pop(self._session, check_bounded(count)))
        return cast("list[Message]", popped)

    @blocking
    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        neighbours: int = 2,
        half_life: float | timedelta | None = None,
        by: Iterable[str] | None = None,
    ) -> list[Hit]:
        """Return the messages of the session that match a question best, as `Memory.search` does."""
        asked = search_query(
            query,
            limit=limit,
            session=self._session,
            where=where,
            since=since,
            until=until,
            neighbours=neighbours,
            half_life=half_life,
        )
        return await self._memory._search(asked, by)

    @blocking
    async def clear(self) -> int:
        """Delete the session and its messages; returns their number. The next message gets seq 1.

        Up to 10,000 messages are deleted at once, all or none. Of a longer session, the last messages are deleted first, in
        several transactions, between which others can write. If that fails, some are deleted already: repeat it.
        """
        (count,) = await self._memory.bridge.write(Forget(self._session))
        assert isinstance(count, int)
        return count

    @blocking
    async def __len__(self) -> int:
        """The number of messages."""
        return await self._memory.bridge.read(CountMessages(self._session))

    def watch(self, *, after: int | None = None, wait: float | None = None) -> Watch:
        """Return the changes of the session from now on, as `Memory.watch` does."""
        return cast("Watch", self._memory.watch(session=self._session, after=after, wait=wait))

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages())

    def __bool__(self) -> bool:
        return True


def _new_messages(messages: Any, ids: Sequence[str] | None) -> tuple[NewMessage, ...]:
    data = list(messages) if isinstance(messages, list | tuple) else [messages]
    if len(data) > MAX_OPERATIONS:
        raise InvalidArgument(f"at most {MAX_OPERATIONS:,} messages at once, not {len(data):,}: split them")
    names = [new_id() for _ in data] if ids is None else [check_name(name, "message id") for name in ids]
    if len(names) != len(data):
        raise InvalidArgument(f"{len(data)} messages need as many ids, not {len(names)}")
    return tuple(NewMessage(name, encode_json(item)) for name, item in zip(names, data, strict=True))
