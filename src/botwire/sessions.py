"""Sessions: what a memory does with its sessions as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, get_args

from .bridge import blocking
from .errors import InvalidArgument
from .limits import check_count, check_name, check_prefix, check_time, check_ttl
from .namespace import Namespace
from .operations import Destroy, Retain
from .queries import GetRetention, ListSessions, Order
from .records import Rule, Session, position_in
from .search.arguments import check_where

_FIELDS = ("title", "owner", "tags", "data")
"""What the paths of a filter of sessions begin with."""


class SessionMethods(Namespace):
    """The methods of `Memory` for its sessions as a whole."""

    @blocking
    async def sessions(
        self,
        *,
        order: Order = "active",
        prefix: str = "",
        where: Mapping[str, Any] | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        after: Session | str | None = None,
        preview: bool = False,
    ) -> list[Session]:
        """Return the chat sessions of the namespace, the newest first. Sessions that have expired are not among them.

        Args:
            order: "active": by their last activity; "created": by their creation.
            prefix: only sessions whose name begins with it.
            where: JSON values that a session must have, by their paths, with dots between names. A path begins with title,
                owner, tags or data: ``{"owner": "ada", "data.customer.plan": "pro"}``. At most 32 paths, of 100 names each, and
                8 kB as JSON. In an encrypted memory only owner and tags.
            tag: only sessions with this tag.
            since: only sessions with activity at this time or later.
            limit: at most n sessions; None: all.
            after: only sessions after this one: the last session of the previous page in the same order, or its `Session.cursor`.
            preview: with the last message of each, as `Session.preview`.

        Raises:
            InvalidArgument, InvalidName: an argument is wrong.
        """
        query = sessions_query(
            order=order,
            prefix=prefix,
            where=where,
            tag=tag,
            since=check_time(since, "since"),
            limit=limit,
            after=after,
            preview=preview,
        )
        return await self.bridge.read(query)

    @blocking
    async def retain(
        self,
        *,
        sessions_idle: float | timedelta | None = None,
        sessions_age: float | timedelta | None = None,
        prefix: str = "",
    ) -> bool:
        """Set how long sessions are kept; returns whether this changed the rule. The rule is on disk when it returns.

        A session that has expired does not exist any more for every read and write, at once. Later writes delete its rows. The
        rule with the longest prefix of a session's name applies to it. A plan, and `History.expire`, may let it expire earlier.

        Args:
            sessions_idle: seconds, or a timedelta, since the last activity of a session; None: no limit.
            sessions_age: seconds, or a timedelta, since the first message of a session; None: no limit.
            prefix: only sessions whose name begins with it. This call replaces the whole rule of the prefix. With no limit at all it
                removes the rule.

        Raises:
            InvalidArgument: a time is not more than 0 and at most 100 years, or there are 64 rules already; nothing was written.
        """
        idle, age = check_ttl(sessions_idle, "sessions_idle"), check_ttl(sessions_age, "sessions_age")
        (changed,) = await self.bridge.write(Retain(check_prefix(prefix), idle, age))
        return bool(changed)

    @blocking
    async def retention(self) -> list[Rule]:
        """Return the rules that `retain` has set, in the order of their prefixes."""
        return await self.bridge.read(GetRetention())

    @blocking
    async def destroy(self) -> int:
        """Delete the namespace: all keys, sessions and rules. Returns how many entries and messages it had.

        Everything is deleted when it returns. More than some thousand rows are deleted in several transactions, between which others
        can write. If such a call fails, repeat it. The plan and the writes of the day stay. A watch of the namespace raises
        `ChangesLost`.
        """
        (count,) = await self.bridge.write(Destroy())
        assert isinstance(count, int)
        return count


def sessions_query(
    *,
    order: object = "active",
    prefix: object = "",
    where: object = None,
    tag: object = None,
    since: int | None = None,
    limit: object = None,
    after: object = None,
    preview: object = False,
) -> ListSessions:
    """Return the checked query for sessions, or raise `InvalidArgument` or `InvalidName`. ``since`` is in microseconds."""
    if order not in get_args(Order):
        raise InvalidArgument(f"order is one of {', '.join(get_args(Order))}, not {order!r:.100}")
    if not isinstance(preview, bool):
        raise InvalidArgument(f"preview is True or False, not {preview!r:.100}")
    return ListSessions(
        order=order,  # type: ignore[arg-type]
        prefix=check_prefix(prefix),
        where=_about_filter(where),
        tag=None if tag is None else check_name(tag, "tag"),
        since=since,
        after=_cursor(after),
        limit=check_count(limit, "limit"),
        preview=preview,
    )


def _about_filter(where: object) -> dict[str, Any]:
    paths = check_where(where)
    for path in paths:
        if path.partition(".")[0] not in _FIELDS:
            raise InvalidArgument(f"a path in where begins with one of {', '.join(_FIELDS)}, not {path!r:.100}")
    return paths


def _cursor(after: object) -> str:
    if after is None:
        return ""
    cursor = after.cursor if isinstance(after, Session) else after
    if not isinstance(cursor, str) or position_in(cursor) is None:
        raise InvalidArgument(f"after is a session, or the cursor of one, not {after!r:.100}")
    return cursor
