"""Commands that read and write a memory: keys, sessions, search, watch, usage."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer import Argument, Option

from .. import wire
from ..errors import InvalidArgument
from ..limits import MAX_HITS
from ..queries import ListTexts
from ..records import Change, Hit, Message, Session
from ..search.embedding import local_embedder
from .base import Json, Model, Name, Url, app, failure, memory_at, say, say_each, seconds_of, warn

Key = Annotated[str, Argument(metavar="KEY", help="The key.")]
Limit = Annotated[int | None, Option(help="Maximum number.", min=0, show_default="all")]
T = TypeVar("T")


@app.command()
def get(namespace: Name, key: Key, url: Url = None, as_json: Json = False) -> None:
    """Print the value of a key: text and bytes unchanged, other values as JSON. Exits with 1 if the key does not exist."""
    with memory_at(namespace, url) as memory:
        entry = memory.entry(key)
    if entry is None:
        raise failure(f"no key {key!r} in namespace {namespace!r}")
    if isinstance(entry.stored, bytes) and not as_json:
        typer.echo(entry.stored, nl=False)
    else:
        say(_text(entry.value), wire.encode_entry(namespace, entry), as_json=as_json)


@app.command("set")
def set_(
    namespace: Name,
    key: Key,
    value: Annotated[str, Argument(help="The value: JSON, or else text; -: read standard input.")] = "-",
    url: Url = None,
    text: Annotated[bool, Option("--text", help="Store the value as text, even if it is valid JSON.")] = False,
    raw: Annotated[bool, Option("--bytes", help="Store bytes from standard input.")] = False,
    ttl: Annotated[str, Option(help="Time to live, such as 30s, 10m, 12h or 90d; or never.")] = "never",
    if_version: Annotated[
        int | None, Option(help="Write only if the entry has this version; 0: only if the key does not exist.", min=0)
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a value. Prints the new version of the entry."""
    if raw and value != "-":
        raise InvalidArgument("--bytes reads standard input: leave out the value")
    given: Any = (sys.stdin.buffer if raw else sys.stdin).read() if value == "-" else value
    if not raw and not text:
        with suppress(ValueError):  # not JSON: text
            given = json.loads(given)
    with memory_at(namespace, url) as memory:
        version = memory.set(key, given, ttl=seconds_of(ttl, "--ttl"), if_version=if_version)
    say(str(version), {"namespace": namespace, "key": key, "version": version}, as_json=as_json)


@app.command()
def delete(
    namespace: Name,
    keys: Annotated[list[str], Argument(metavar="KEY…", help="The keys to delete.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete keys. Exits with 1 if none of them existed."""
    with memory_at(namespace, url) as memory:
        deleted = memory.delete_many(keys)
    say(f"{deleted:,} deleted", {"deleted": deleted}, as_json=as_json)
    if not deleted:
        raise typer.Exit(1)


@app.command()
def keys(
    namespace: Name,
    prefix: Annotated[str, Option(help="Only keys that begin with this prefix.")] = "",
    after: Annotated[str | None, Option(help="Only keys after this one.")] = None,
    limit: Limit = None,
    values: Annotated[bool, Option("--values", help="Print the values too, as JSON.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List keys, one per line, in the order of their bytes."""
    with memory_at(namespace, url) as memory:
        if values:
            items = _paged(lambda last, most: memory.items(prefix, limit=most, after=last), itemgetter(0), after, limit)
            say_each(items, lambda item: f"{item[0]}\t{_json(item[1])}", _entry, as_json=as_json)
        else:
            names = _paged(lambda last, most: memory.list_keys(prefix, limit=most, after=last), str, after, limit)
            say_each(names, str, lambda key: {"key": key}, as_json=as_json)


@app.command()
def history(
    namespace: Name,
    session: Annotated[str, Argument(metavar="SESSION", help="The session.")],
    last: Annotated[int | None, Option(help="Only the last n messages.", min=0)] = None,
    after: Annotated[int, Option(help="Only messages after this number.", min=0)] = 0,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print the messages of a session, in order. Exits with 1 if there are none."""
    with memory_at(namespace, url) as memory:
        chat = memory.history(session)
        start = after if last is None else max(after, len(chat) - last)
        messages = _paged(lambda seq, most: chat.messages(after=seq, limit=most), attrgetter("seq"), start)
        printed = say_each(messages, _message_line, wire.encode_record, as_json=as_json)
    if not printed and last != 0:
        raise failure(f"no messages in session {session!r} of namespace {namespace!r}")


@app.command()
def sessions(namespace: Name, limit: Limit = None, url: Url = None, as_json: Json = False) -> None:
    """List the sessions, newest first, with their number of messages and the time of the last change."""
    with memory_at(namespace, url) as memory:
        found = _paged(lambda place, most: memory.sessions(limit=most, before=place), attrgetter("place"), None, limit)
        say_each(found, _session_line, _session, as_json=as_json)


@app.command()
def search(
    namespace: Name,
    query: Annotated[str, Argument(help="A question or some words.")],
    url: Url = None,
    limit: Annotated[int, Option(help="Maximum number of hits.", min=1, max=MAX_HITS)] = 10,
    session: Annotated[str | None, Option(help="Only messages of this session.")] = None,
    prefix: Annotated[str, Option(help="Only entries whose key begins with this prefix.")] = "",
    by: Annotated[
        Literal["words", "meaning", "both"] | None,
        Option(help="How to search. By meaning needs a local model.", show_default="words, or both with --embedder"),
    ] = None,
    embedder: Model = None,
    as_json: Json = False,
) -> None:
    """Search messages and values: one line per hit, best first. Makes no vectors; use botwire embed."""
    by = by or ("both" if embedder else "words")
    model = None if by == "words" else local_embedder(embedder or "minilm")
    with memory_at(namespace, url, embedder=model) as memory:
        memory.embeds_on_search = False
        if memory.embedding_model and memory.read(ListTexts(memory.embedding_model, "", 1)):
            warn(f"some texts have no vector of {memory.embedding_model}: run botwire embed {namespace!r}")
        ways = ["words", "meaning"] if by == "both" else by
        hits = memory.search(query, limit=limit, session=session, prefix=prefix, by=ways)
        say_each(hits, _hit_line, wire.encode_record, as_json=as_json)


@app.command()
def embed(
    namespace: Name,
    embedder: Model = None,
    limit: Annotated[int | None, Option(help="Maximum number of texts.", min=0, show_default="all")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make missing vectors for search by meaning. Run it again to resume."""
    with memory_at(namespace, url, embedder=local_embedder(embedder or "minilm")) as memory:
        made = memory.embed(limit=limit)
    say(f"{made:,} embedded", {"embedded": made}, as_json=as_json)


@app.command()
def watch(
    namespace: Name,
    prefix: Annotated[str, Option(help="Only changes to keys that begin with this prefix.")] = "",
    session: Annotated[str | None, Option(help="Only changes to this session.")] = None,
    after: Annotated[
        int | None, Option(help="Resume after this version; 0: from the beginning.", min=0, show_default="from now on")
    ] = None,
    wait: Annotated[str, Option(help="Stop after this time without changes, such as 30s or 12h; or never.")] = "never",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print changes until Ctrl-C: one line per change, beginning with its version."""
    with (
        memory_at(namespace, url) as memory,
        closing(memory.watch(prefix, session=session, after=after, wait=seconds_of(wait, "--wait"))) as changes,
    ):
        try:
            say_each(changes, _change_line, wire.encode_record, as_json=as_json)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


@app.command()
def usage(namespace: Name, url: Url = None, as_json: Json = False) -> None:
    """Show the usage of a namespace and the limits of its plan."""
    with memory_at(namespace, url) as memory:
        found = memory.usage()
    text = (
        f"plan          {found.plan}\n"
        f"writes today  {found.writes_today:,} {_limit(found.writes_per_day)}\n"
        f"bytes         {found.bytes:,} {_limit(found.max_bytes)}\n"
        f"resets at     {found.resets_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    say(text, wire.encode_usage(namespace, found), as_json=as_json)


_PAGE = 500
"""Rows per read."""


def _paged(
    read: Callable[[Any, int], Sequence[T]], cursor: Callable[[T], Any], start: Any, limit: int | None = None
) -> Iterator[T]:
    """Read rows in pages. The cursor of a row is where the page after it starts."""
    left = sys.maxsize if limit is None else limit
    while left and (page := read(start, min(_PAGE, left))):
        yield from page
        start, left = cursor(page[-1]), left - len(page)


def _entry(item: tuple[str, Any]) -> dict[str, Any]:
    key, value = item
    return {"key": key} | (_base64(value) if isinstance(value, bytes) else {"value": value})


def _session(session: Session) -> dict[str, Any]:
    times = {"created_at": session.created_at, "updated_at": session.updated_at}
    return {"session": session.name, "messages": session.messages, **times}


def _session_line(session: Session) -> str:
    return f"{session.messages:>8,}  {session.updated_at:%Y-%m-%d %H:%M:%S}  {session.name}"


def _message_line(message: Message) -> str:
    when = message.created_at.astimezone(UTC)
    return f"{message.seq:>6}  {when:%Y-%m-%d %H:%M:%S}  {_said(message.data)}"


def _change_line(change: Change) -> str:
    about = {
        "set": f"{change.key}\t{_json(change.value)}",
        "clear": f"{change.prefix}*",
        "append": f"{change.session}\t{_said(change.value)}",
        "pop": f"{change.session}\t{change.left} left",
    }
    return f"{change.version}\t{change.kind}\t{about.get(change.kind, change.key)}"


def _hit_line(hit: Hit) -> str:
    where = hit.entry.key if hit.entry else f"{hit.session}#{hit.message.seq if hit.message else ''}"
    return f"{hit.score:7.3f}  {where}  {hit.snippet}"


def _limit(limit: int | None) -> str:
    return "(no limit)" if limit is None else f"of {limit:,}"


def _said(data: Any) -> str:
    """Return role and text of a message in the form of OpenAI or LangChain; else its data."""
    if isinstance(data, Mapping):
        inner = data.get("data")
        role, content = data.get("role"), data.get("content")
        if isinstance(inner, Mapping):
            role, content = data.get("type"), inner.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return f"{role}: {content}"
    return _text(data)


def _text(value: Any) -> str:
    """Return a value on one line: text unchanged, other values as JSON."""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_base64)


def _base64(value: bytes) -> dict[str, str]:
    return {"value_base64": base64.b64encode(value).decode()}
