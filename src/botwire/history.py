"""History: the messages of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from .bridge import blocking
from .errors import InvalidArgument
from .limits import MAX_OPERATIONS, check_bounded, check_count, check_name, check_ttl
from .namespace import Namespace
from .operations import Append, Edit, Forget, Fork, NewMessage, Pop, Replace, SetExpiry, Summarize
from .queries import CountMessages, GetSession, ListMessages
from .records import About, Hit, Message, Session
from .search.arguments import search_query
from .timestamps import new_id
from .values import encode_json
from .watch import Watch

if TYPE_CHECKING:
    from .conversations.health import Problem
    from .reading import PickedContext


class SessionHistory:
    """A session of a namespace: what `History` and `AsyncHistory` share."""

    def __init__(self, memory: Namespace, session_id: str) -> None:
        self._memory = memory
        self._session = check_name(session_id, "session name")
        self._last_context: tuple[int | None, int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._memory, self._session)

    @property
    def session_id(self) -> str:
        """The name of the session."""
        return self._session

    async def _read_context(
        self,
        max_tokens: int | None,
        count: Callable[[Any], float] | None,
        system: Literal["keep", "drop"],
        start: Literal["user", "any"],
    ) -> PickedContext:
        from .reading import read_context

        # An agent asks in each turn, so about as many messages fit as the last time, and one read is enough.
        known = self._last_context
        probable = known[1] if known is not None and known[0] == max_tokens else None
        picked = await read_context(
            self._memory.bridge, self._session, max_tokens, count, system, start, probable=probable
        )
        self._last_context = max_tokens, len(picked.messages)
        return picked

    async def _fork(self, session_id: str, upto: int | None) -> Self:
        target = type(self)(self._memory, session_id)
        await self._memory.bridge.write(Fork(self._session, target._session, check_count(upto, "upto", least=1)))
        return target

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory!r}, {self._session!r})"


class History(SessionHistory):
    """An ordered chat log that grows at its end. `Memory.history` returns it.

    Any number of writers in any number of processes may append. Messages are numbered 1, 2, 3, … without gaps. A change is on disk
    when its method returns, and is applied completely or not at all.
    """

    @blocking
    async def append(
        self,
        messages: Any,
        *,
        ids: Sequence[str] | None = None,
        if_last: int | None = None,
        if_version: int | None = None,
        ttl: float | timedelta | None = None,
    ) -> list[int]:
        """Append messages, all or none, and return the seq of each when they are on disk.

        Args:
            messages: a list of JSON values, at most 10,000. Anything but a list or a tuple is one message.
            ids: an id for each, so that an append can be repeated safely: a message whose id the session already has is not added
                again, and its seq is returned. None: new ids.
            if_last: append only if this is the seq of the session's last message (0: it has none). If the session has all ids
                already, nothing is checked.
            if_version: append only if this is the session's version, as in `Session.version`: nothing was edited, deleted or
                summarized since.
            ttl: seconds, or a timedelta, from now until the session expires. None: that does not change.

        Raises:
            InvalidValue: a message is not a JSON value; nothing was written.
            Conflict: other clients appended or changed the session; nothing was written. ``details["last"]`` is the seq of its last
                message, or ``details["version"]`` its version.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        new = _new_messages(messages, ids)
        operation = Append(
            self._session, new, check_count(if_last, "if_last"), check_count(if_version, "if_version"), check_ttl(ttl)
        )
        if not new:
            return []
        (seqs,) = await self._memory.bridge.write(operation)
        return cast("list[int]", seqs)

    @blocking
    async def replace(
        self,
        messages: Any,
        *,
        ids: Sequence[str] | None = None,
        after: int = 0,
        if_last: int | None = None,
        if_version: int | None = None,
        ttl: float | timedelta | None = None,
    ) -> list[int]:
        """Delete the messages after a seq and append others in their place, in one step. Returns the seq of each.

        Other clients see the messages of before or those of now, never a session in between. Pass `if_last` and `if_version`, so that
        no message is lost which others have appended since you read the session. After a pop and an append, the last seq alone may be
        the same again.

        Args:
            messages: as in `append`; an empty list deletes only.
            ids: as in `append`. A message that keeps its id keeps its time too.
            after: the seq of the last message that stays; 0: none stays. At most 100,000 messages and 64 MiB are deleted.
            if_last: as in `append`, but always checked.
            if_version: as in `append`, but always checked.
            ttl: as in `append`.

        Raises:
            InvalidValue: a message is not a JSON value; nothing was written.
            InvalidArgument: the session has no message with the seq `after`; nothing was written.
            Conflict: other clients appended or changed the session; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        operation = Replace(
            self._session,
            _new_messages(messages, ids),
            check_count(after, "after") or 0,
            check_count(if_last, "if_last"),
            check_count(if_version, "if_version"),
            check_ttl(ttl),
        )
        (seqs,) = await self._memory.bridge.write(operation)
        return cast("list[int]", seqs)

    @blocking
    async def messages(
        self, last: int | None = None, *, after: int | None = None, limit: int | None = None
    ) -> list[Message]:
        """Return messages in order, each with its seq, id, data and created_at.

        They are those of one moment. Over HTTP, more than 10,000 messages or 4 MiB come in several answers, between which others may write.

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
    async def context(
        self,
        max_tokens: int | None = None,
        *,
        count: Callable[[Any], float] | None = None,
        system: Literal["keep", "drop"] = "keep",
        start: Literal["user", "any"] = "user",
    ) -> list[Any]:
        """Return the newest messages that fit into the context of a model, ready to send to it.

        The list has the system messages at the start of the session, the messages of the summary, and the newest messages. A tool
        call is never separated from its results. The formats of OpenAI, Anthropic, LangChain, Pydantic AI and plain dicts are
        recognized, message by message.

        Args:
            max_tokens: the most tokens of all returned messages together, by `count`. None: no limit.
            count: takes the data of a message and returns its tokens. It is called once for each message that is considered. An
                async memory calls it in a thread. None: 4 tokens a message, and one for each 4 bytes of UTF-8 of its texts.
            system: "drop" leaves out all system messages.
            start: "user": the newest messages begin with one of a user, as providers require. "any": with any message that is
                not the result of a tool.

        Raises:
            InvalidArgument: an argument is wrong, not even the newest turn fits into `max_tokens` (the error names the smallest
                number), or `count` raised an error or returned something else than a number.
            Conflict: other clients edited the session 100 times in a row while it was read.
        """
        return (await self._read_context(max_tokens, count, system, start)).data

    @blocking
    async def context_messages(
        self,
        max_tokens: int | None = None,
        *,
        count: Callable[[Any], float] | None = None,
        system: Literal["keep", "drop"] = "keep",
        start: Literal["user", "any"] = "user",
    ) -> PickedContext:
        """Return what `context` returns, with the seq, id and time of each message. The arguments are the same."""
        return await self._read_context(max_tokens, count, system, start)

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
    async def edit(self, seq: int, data: Any, *, if_version: int | None = None, if_id: str | None = None) -> int:
        """Replace the data of a message; returns the message's new version. Its seq, id and time stay.

        When it returns, readers, searches and watchers get the new data, and the old data is deleted from the database's tables.

        Args:
            seq: the message.
            data: a JSON value.
            if_version: only if the message has this version, as in `Message.version`: no one has edited it since.
            if_id: only if the message has this id. Pass it if others may pop or replace messages: then another one may have the
                seq, and also the same version.

        Raises:
            InvalidValue: `data` is not a JSON value; nothing was written.
            InvalidArgument: the session has no such message; nothing was written.
            Conflict: the message has another id, or another version, which is ``details["version"]``; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        operation = Edit(
            self._session,
            check_seq(seq, "seq"),
            encode_json(data),
            check_count(if_version, "if_version"),
            if_id=None if if_id is None else check_name(if_id, "message id"),
        )
        (version,) = await self._memory.bridge.write(operation)
        assert isinstance(version, int)
        return version

    @blocking
    async def redact(self, seq: int, *, reason: str | None = None) -> int:
        """Remove all text from a message, but keep its seq, id, time and form; returns the message's new version.

        Each text and number of its content becomes ``[redacted]`` in a form that its framework accepts. Roles, types, ids and names
        of tools stay. A summary that covers the message is deleted, because it may contain the text. Backups keep the old data.
        The first redaction of a message does not count toward the daily quota.

        Args:
            seq: the message.
            reason: why, up to 512 bytes, as `Message.redacted`; None: no reason.

        Raises:
            InvalidArgument: the session has no such message; nothing was written.
            Conflict: other clients changed the message 100 times in a row; nothing was written.
            QuotaExceeded, StorageExceeded: the message is redacted already, or needs more bytes than the plan allows.
        """
        from .revising import redact_message

        why = "" if reason is None else check_name(reason, "reason")
        return await redact_message(self._memory.bridge, self._session, check_seq(seq, "seq"), why)

    @blocking
    async def summarize(
        self, *, upto: int, summary: Sequence[Any], if_last: int | None = None, if_version: int | None = None
    ) -> int:
        """Store a summary that replaces the messages up to a seq in `context`; returns the session's new version.

        The messages stay, and `messages` and searches still find them. A later summary replaces this one. Messages that others have
        appended since you read the session are not covered, and are not lost.

        Args:
            upto: the seq of the last message that the summary covers.
            summary: the summary, as a list of messages in your format, such as ``[{"role": "system", "content": "…"}]``. An empty
                list, with an `upto` of 0, deletes the summary.
            if_last: only if this is the seq of the session's last message.
            if_version: only if this is the session's version: no covered message was edited or deleted since.

        Raises:
            InvalidValue: `summary` has something that is not a JSON value; nothing was written.
            InvalidArgument: the session has no message with this seq; nothing was written.
            Conflict: the session changed, or has a summary that covers more messages; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        if not isinstance(summary, list | tuple):
            raise InvalidArgument(f"summary is a list of messages, not {type(summary).__name__}")
        operation = Summarize(
            self._session,
            check_seq(upto, "upto", least=0),
            encode_json(list(summary)),
            check_count(if_last, "if_last"),
            check_count(if_version, "if_version"),
        )
        (version,) = await self._memory.bridge.write(operation)
        assert isinstance(version, int)
        return version

    @blocking
    async def problems(self) -> list[Problem]:
        """Return what would make a provider or framework refuse the session: what a crash in the middle of a turn leaves.

        Each problem has a kind, a seq, an id and a detail. Kinds: ``call_without_result`` and ``result_without_call`` of tools,
        ``duplicate_id``, and ``empty_turn`` of an assistant. All messages are read.
        """
        from .revising import problems_of

        return await problems_of(self._memory.bridge, self._session)

    @blocking
    async def mend(self, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair the problems of the session in one step; returns those that it had. Afterwards there are none.

        Results without a call, duplicates and empty turns are deleted. Messages that stay keep their ids and times.

        Args:
            policy: what happens to a tool call without a result. "cancel": it gets a result that says that it was cancelled. "drop":
                it is deleted.

        Raises:
            InvalidArgument: the policy is not one of these, or more than 10,000 messages follow the first problem; nothing was
                written.
            Conflict: other clients changed the session 100 times in a row; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        from .revising import mend_session

        return await mend_session(self._memory.bridge, self._session, policy)

    @blocking
    async def fork(self, session_id: str, upto: int | None = None) -> History:
        """Copy the session into a new one, and return the history of that. This session does not change.

        Seqs, ids, data and times of the messages are the same. Owner, tags, title and data are copied, and the summary if it ends
        within the messages. `Session.origin` of the new session names this one. All its bytes count; it is one write of the quota.

        Args:
            session_id: the name of the new session.
            upto: the seq of the last message to copy; None: all. At most 100,000 messages and 64 MiB.

        Raises:
            Conflict: there is a session of that name already; nothing was written.
            InvalidArgument: the session has no messages, no message with this seq, or too many; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        return await self._fork(session_id, upto)

    @blocking
    async def info(self, *, preview: bool = False) -> Session | None:
        """Return the session: its number of messages, its times, bytes, version, origin and `About`. None if there is none.

        Args:
            preview: with its last message, as `Session.preview`.
        """
        return await self._memory.bridge.read(GetSession(self._session, preview))

    @blocking
    async def about(self) -> About:
        """Return the title, the owner, the tags and the data of the session, with the version of these. All are empty at first."""
        session = await self._memory.bridge.read(GetSession(self._session))
        return About() if session is None else session.about

    @blocking
    async def set_about(
        self,
        *,
        title: str | EllipsisType | None = ...,
        owner: str | EllipsisType | None = ...,
        tags: Iterable[str] | EllipsisType | None = ...,
        data: Mapping[str, Any] | EllipsisType | None = ...,
        if_version: int | None = None,
    ) -> About:
        """Set what is known about the session, and return all of it. What you do not pass stays, and None removes it.

        `Memory.sessions` lists and filters by these. The session need not have messages yet. In an encrypted memory, title and data
        are encrypted; owner and tags are not.

        Args:
            title: a text.
            owner: a name of 1 to 512 bytes, without control characters.
            tags: up to 32 such names.
            data: a JSON object, which replaces the one of before. All four together take at most 16 KiB as JSON.
            if_version: only if `About.version` is this (0: nothing is set). None: a change by others in the meantime is kept, apart
                from what you pass.

        Raises:
            InvalidArgument, InvalidName, InvalidValue: an argument is wrong; nothing was written.
            Conflict: what is known about the session changed; nothing was written. ``details["version"]`` is its version.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        from .revising import change_about

        given = {"title": title, "owner": owner, "tags": tags, "data": data}
        changes = {name: value for name, value in given.items() if value is not ...}
        return await change_about(self._memory.bridge, self._session, changes, check_count(if_version, "if_version"))

    @blocking
    async def expire(self, ttl: float | timedelta | None) -> bool:
        """Let the session expire; returns whether it exists. Messages that are appended in the meantime do not delay this.

        Args:
            ttl: seconds, or a timedelta, from now; None: never. A rule of `Memory.retain` and the plan still apply.
        """
        (exists,) = await self._memory.bridge.write(SetExpiry(self._session, check_ttl(ttl)))
        return bool(exists)

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


def check_seq(number: object, what: str, *, least: int = 1) -> int:
    """Return a seq, or raise `InvalidArgument`."""
    seq = check_count(number, what, least=least)
    if seq is None:
        raise InvalidArgument(f"{what} is an int of at least {least}, not None")
    return seq


def _new_messages(messages: Any, ids: Sequence[str] | None) -> tuple[NewMessage, ...]:
    data = list(messages) if isinstance(messages, list | tuple) else [messages]
    if len(data) > MAX_OPERATIONS:
        raise InvalidArgument(f"at most {MAX_OPERATIONS:,} messages at once, not {len(data):,}: split them")
    names = [new_id() for _ in data] if ids is None else [check_name(name, "message id") for name in ids]
    if len(names) != len(data):
        raise InvalidArgument(f"{len(data)} messages need as many ids, not {len(names)}")
    return tuple(NewMessage(name, encode_json(item)) for name, item in zip(names, data, strict=True))
