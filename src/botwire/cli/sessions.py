"""Commands for sessions: list, read, repair, fork, name, delete, and how long they are kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import typer
from typer import Argument, Option

from .. import wire
from ..conversations.health import Problem
from ..history import History
from ..queries import Order
from ..records import Message, Rule, Session
from .base import Json, Limit, Name, Url, app, failure, memory_at, misuse, say, say_each, seconds_of
from .rows import paged, said, shortened

SessionName = Annotated[str, Argument(metavar="SESSION", help="The session.")]


@app.command()
def sessions(
    namespace: Name,
    order: Annotated[Order, Option(help="By the last activity, or by creation.")] = "active",
    prefix: Annotated[str, Option(help="Only sessions whose name begins with this prefix.")] = "",
    owner: Annotated[str | None, Option(help="Only sessions of this owner.")] = None,
    tag: Annotated[str | None, Option(help="Only sessions with this tag.")] = None,
    since: Annotated[
        str | None,
        Option(help="Only sessions with activity since then: an age such as 12h or 7d, or a time such as 2030-01-31."),
    ] = None,
    after: Annotated[str | None, Option(help="Only sessions after this cursor, from --json.")] = None,
    limit: Limit = None,
    preview: Annotated[bool, Option("--preview", help="Print the last message too.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List sessions, newest first, with their number of messages, the time of the last activity, and the title."""
    with memory_at(namespace, url) as memory:
        read = partial(
            memory.sessions,
            order=order,
            prefix=prefix,
            where=None if owner is None else {"owner": owner},
            tag=tag,
            since=None if since is None else _time_of(since),
            preview=preview,
        )
        found = paged(lambda cursor, most: read(limit=most, after=cursor), attrgetter("cursor"), after, limit)
        say_each(found, _session_line, _session, as_json=as_json)


@app.command()
def history(
    namespace: Name,
    session: SessionName,
    last: Annotated[int | None, Option(help="Only the last n messages.", min=0)] = None,
    after: Annotated[int, Option(help="Only messages after this number.", min=0)] = 0,
    check: Annotated[
        bool, Option("--check", help="List problems that a crash left. Exits with 1 if there are any.")
    ] = False,
    mend: Annotated[bool, Option("--mend", help="Repair these problems, and list what was repaired.")] = False,
    policy: Annotated[
        Literal["cancel", "drop"] | None,
        Option(
            help="For `--mend`: add a result to a tool call that has none, or delete the call.", show_default="cancel"
        ),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print the messages of a session, in order. Exits with 1 if there are none."""
    if (check and mend) or ((check or mend) and (last is not None or after)) or (policy and not mend):
        raise misuse("use --check, or `--mend` with or without --policy, or --last and --after")
    with memory_at(namespace, url) as memory:
        chat = memory.history(session)
        if check or mend:
            if chat.info() is None:
                raise failure(f"there is no session {session!r} in namespace {namespace!r}")
            _repair(chat, None if check else policy or "cancel", as_json=as_json)
            return
        start = after if last is None else max(after, len(chat) - last)
        messages = paged(lambda seq, most: chat.messages(after=seq, limit=most), attrgetter("seq"), start)
        printed = say_each(messages, _message_line, wire.encode_record, as_json=as_json)
    if not printed and last != 0:
        raise failure(f"no messages in session {session!r} of namespace {namespace!r}")


def _repair(chat: History, policy: Literal["cancel", "drop"] | None, *, as_json: bool) -> None:
    """Print the problems of a session. With a policy, repair them first."""
    found = chat.problems() if policy is None else chat.mend(policy)
    say_each(found, _problem_line, msgspec.structs.asdict, as_json=as_json)
    if not found and not as_json:
        typer.echo("no problems")
    if found and policy is None:
        raise typer.Exit(1)


@app.command()
def fork(
    namespace: Name,
    session: SessionName,
    new: Annotated[str, Argument(metavar="NEW", help="The new session, which must not exist.")],
    upto: Annotated[int | None, Option(help="Copy the messages up to this number.", min=1, show_default="all")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Copy a session into a new one."""
    with memory_at(namespace, url) as memory:
        count = len(memory.history(session).fork(new, upto))
    say(f"{count:,} messages copied", {"session": new, "messages": count}, as_json=as_json)


@app.command()
def title(
    namespace: Name,
    session: SessionName,
    text: Annotated[str, Argument(help="The title; an empty text removes it.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Set the title of a session."""
    with memory_at(namespace, url) as memory:
        about = memory.history(session).set_about(title=text or None)
    said_so = "the title is removed" if about.title is None else shortened(about.title)
    say(said_so, {"session": session, "title": about.title, "version": about.version}, as_json=as_json)


@app.command()
def forget(
    namespace: Name,
    names: Annotated[list[str], Argument(metavar="SESSION…", help="The sessions to delete.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete sessions and their messages. Exits with 1 if none of them existed."""
    with memory_at(namespace, url) as memory:
        chats = [chat for chat in map(memory.history, names) if chat.info() is not None]
        count = sum(chat.clear() for chat in chats)
    text = f"{len(chats):,} sessions and {count:,} messages deleted"
    say(text, {"sessions": len(chats), "messages": count}, as_json=as_json)
    if not chats:
        raise typer.Exit(1)


@app.command()
def retain(
    namespace: Name,
    idle: Annotated[
        str | None, Option(help="Delete sessions without activity for this time, such as 12h or 30d; or never.")
    ] = None,
    age: Annotated[str | None, Option(help="Delete sessions older than this, such as 365d; or never.")] = None,
    prefix: Annotated[str, Option(help="Only sessions whose name begins with this prefix.")] = "",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Set how long sessions are kept. Without --idle and --age, list the rules."""
    with memory_at(namespace, url) as memory:
        if idle is not None or age is not None:
            memory.retain(
                sessions_idle=None if idle is None else seconds_of(idle, "--idle"),
                sessions_age=None if age is None else seconds_of(age, "--age"),
                prefix=prefix,
            )
        rules: Sequence[Rule] = [rule for rule in memory.retention() if rule.prefix.startswith(prefix)]
        say_each(rules, _rule_line, msgspec.structs.asdict, as_json=as_json)


@app.command()
def destroy(
    namespace: Name,
    yes: Annotated[bool, Option("--yes", help="Do not ask.", allow_from_autoenv=False)] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete a namespace with all its keys, sessions and rules. This cannot be undone."""
    with memory_at(namespace, url) as memory:
        if not yes:
            if not sys.stdin.isatty():
                raise misuse("this deletes the whole namespace: pass --yes to confirm")
            question = f"Delete all keys and sessions of namespace {namespace!r} in {memory.address}?"
            typer.confirm(question, abort=True, err=True)
        count = memory.destroy()
    say(f"{count:,} entries and messages deleted", {"namespace": namespace, "deleted": count}, as_json=as_json)


def _time_of(text: str) -> datetime:
    if text[:-1].isdigit():
        age = seconds_of(text, "--since")
        assert age is not None
        return datetime.now(UTC) - timedelta(seconds=age)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise misuse(
            f"--since {text!r} is not a time: use an age such as 12h or 7d, or a time such as 2030-01-31 or 2030-01-31T09:00Z"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _session(session: Session) -> dict[str, Any]:
    about = session.about
    document: dict[str, Any] = {
        "session": session.name,
        "messages": session.messages,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "expires_at": session.expires_at,
        "bytes": session.bytes,
        "about": {
            "title": about.title,
            "owner": about.owner,
            "tags": about.tags,
            "data": about.data,
            "version": about.version,
        },
        "origin": session.origin,
        "cursor": session.cursor,
    }
    if session.preview is not None:
        document["preview"] = {"seq": session.preview.seq, "data": session.preview.data}
    return document


def _session_line(session: Session) -> str:
    parts = [f"{session.messages:>8,}", f"{session.updated_at:%Y-%m-%d %H:%M:%S}", session.name]
    if session.about.title is not None:
        parts.append(shortened(session.about.title))
    if session.preview is not None:
        parts.append(shortened(said(session.preview.data)))
    return "  ".join(parts)


def _message_line(message: Message) -> str:
    when = message.created_at.astimezone(UTC)
    return f"{message.seq:>6}  {when:%Y-%m-%d %H:%M:%S}  {said(message.data)}"


def _problem_line(problem: Problem) -> str:
    done = "" if problem.action is None else f"{problem.action}: "
    return f"{problem.seq:>6}  {problem.kind}  {done}{shortened(problem.detail, 200)}"


def _rule_line(rule: Rule) -> str:
    return f"idle {_duration(rule.idle)}  age {_duration(rule.age)}  {rule.prefix}*"


def _duration(seconds: float | None) -> str:
    """Return seconds in the largest unit that divides them."""
    if seconds is None:
        return "never"
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"
