"""Commands that read and write a memory: keys, sessions, search, watch, usage."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any, Literal

import typer

from .. import wire
from ..errors import InvalidArgument
from ..limits import MAX_HITS
from ..queries import ListTexts
from ..records import Change, Message
from ..search.embedding import local_embedder
from .base import Json, Model, Name, Url, app, line_of, memory_at, missing, seconds_of

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]


@app.command()
def get(namespace: Name, key: Key, url: Url = None, as_json: Json = False) -> None:
    """Print the value of a key: text and bytes unchanged, other values as JSON. Exits with 1 if the key does not exist."""
    with memory_at(namespace, url) as memory:
        entry = memory.entry(key)
    if entry is None:
        raise missing(f"no key {key!r} in namespace {namespace!r}")
    if as_json:
        typer.echo(wire.encode_entry(namespace, entry).decode())
    elif isinstance(entry.stored, bytes):
        sys.stdout.buffer.write(entry.stored)
        sys.stdout.buffer.flush()
    else:
        typer.echo(_text(entry.value))


@app.command("set")
def set_(
    namespace: Name,
    key: Key,
    value: Annotated[
        str, typer.Argument(help="The value as JSON, or text if it is not valid JSON; -: read standard input.")
    ] = "-",
    url: Url = None,
    text: Annotated[bool, typer.Option("--text", help="Store the value as text, even if it is valid JSON.")] = False,
    raw: Annotated[bool, typer.Option("--bytes", help="Store bytes from standard input.")] = False,
    ttl: Annotated[str, typer.Option(help="Time to live, such as 30s, 10m, 12h or 90d; or never.")] = "never",
    if_version: Annotated[
        int | None,
        typer.Option(help="Write only if the entry has this version; 0: only if the key does not exist.", min=0),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a value. Prints the new version of the entry."""
    if raw and value != "-":
        raise InvalidArgument("--bytes reads standard input: leave out the value")
    given: Any = sys.stdin.buffer.read() if raw else _value(sys.stdin.read() if value == "-" else value, text=text)
    with memory_at(namespace, url) as memory:
        version = memory.set(key, given, ttl=seconds_of(ttl, "--ttl"), if_version=if_version)
    typer.echo(line_of({"namespace": namespace, "key": key, "version": version}) if as_json else str(version))


@app.command()
def delete(
    namespace: Name,
    keys: Annotated[list[str], typer.Argument(metavar="KEY…", help="The keys to delete.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete keys. Exits with 1 if none of them existed."""
    with memory_at(namespace, url) as memory:
        deleted = memory.delete_many(keys)
    typer.echo(line_of({"deleted": deleted}) if as_json else f"{deleted:,} deleted")
    if not deleted:
        raise typer.Exit(1)


@app.command()
def keys(
    namespace: Name,
    prefix: Annotated[str, typer.Option(help="Only keys that begin with this prefix.")] = "",
    after: Annotated[str | None, typer.Option(help="Only keys after this one.")] = None,
    limit: Annotated[int | None, typer.Option(help="Maximum number.", min=0, show_default="all")] = None,
    values: Annotated[bool, typer.Option("--values", help="Print the values too, as JSON.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List keys, one per line, in the order of their bytes."""
    left = sys.maxsize if limit is None else limit
    with memory_at(namespace, url) as memory:
        while (
            page := memory.items(prefix, limit=min(_PAGE, left), after=after)
            if values
            else [(key, None) for key in memory.list_keys(prefix, limit=min(_PAGE, left), after=after)]
        ):
            for key, value in page:
                typer.echo(_key_line(key, value, values=values, as_json=as_json))
            after, left = page[-1][0], left - len(page)
            if not left:
                break


@app.command()
def history(
    namespace: Name,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session.")],
    last: Annotated[int | None, typer.Option(help="Only the last n messages.", min=0)] = None,
    after: Annotated[int, typer.Option(help="Only messages after this number.", min=0)] = 0,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print the messages of a session, in order. Exits with 1 if there are none."""
    with memory_at(namespace, url) as memory:
        chat = memory.history(session)
        if last is not None:
            after = max(after, len(chat) - last)
        start = after
        while page := chat.messages(after=after, limit=_PAGE):
            for message in page:
                typer.echo(wire.encode_record(message).decode() if as_json else _message_line(message))
            after = page[-1].seq
    if after == start and last != 0:
        raise missing(f"no messages in session {session!r} of namespace {namespace!r}")


@app.command()
def sessions(
    namespace: Name,
    limit: Annotated[int | None, typer.Option(help="Maximum number.", min=0, show_default="all")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the sessions, newest first, with their number of messages and the time of the last change."""
    left, before = sys.maxsize if limit is None else limit, None
    with memory_at(namespace, url) as memory:
        while page := memory.sessions(limit=min(_PAGE, left), before=before):
            for item in page:
                facts = {"session": item.name, "messages": item.messages, "created_at": item.created_at}
                full = {**facts, "updated_at": item.updated_at}
                typer.echo(
                    line_of(full)
                    if as_json
                    else f"{item.messages:>8,}  {item.updated_at:%Y-%m-%d %H:%M:%S}  {item.name}"
                )
            before, left = page[-1].place, left - len(page)
            if not left:
                break


@app.command()
def usage(namespace: Name, url: Url = None, as_json: Json = False) -> None:
    """Show the usage of a namespace and the limits of its plan."""
    with memory_at(namespace, url) as memory:
        found = memory.usage()
    if as_json:
        typer.echo(wire.encode_usage(namespace, found).decode())
        return
    typer.echo(f"plan          {found.plan}")
    typer.echo(f"writes today  {found.writes_today:,} {_limit(found.writes_per_day)}")
    typer.echo(f"bytes         {found.bytes:,} {_limit(found.max_bytes)}")
    typer.echo(f"resets at     {found.resets_at:%Y-%m-%d %H:%M:%S} UTC")


@app.command()
def watch(
    namespace: Name,
    prefix: Annotated[str, typer.Option(help="Only changes to keys that begin with this prefix.")] = "",
    session: Annotated[str | None, typer.Option(help="Only changes to this session.")] = None,
    after: Annotated[
        int | None,
        typer.Option(help="Resume after this version; 0: from the beginning.", min=0, show_default="from now on"),
    ] = None,
    wait: Annotated[
        str,
        typer.Option(help="Stop when nothing has changed for this time, such as 30s, 10m or 12h; or never."),
    ] = "never",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print changes until Ctrl-C: one line per change, beginning with its version."""
    with memory_at(namespace, url) as memory:
        changes = memory.watch(prefix, session=session, after=after, wait=seconds_of(wait, "--wait"))
        try:
            for change in changes:
                typer.echo(wire.encode_record(change).decode() if as_json else _change_line(change))
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        finally:
            changes.close()


@app.command()
def search(
    namespace: Name,
    query: Annotated[str, typer.Argument(help="A question or some words.")],
    url: Url = None,
    limit: Annotated[int, typer.Option(help="Maximum number of hits.", min=1, max=MAX_HITS)] = 10,
    session: Annotated[str | None, typer.Option(help="Only messages of this session.")] = None,
    prefix: Annotated[str, typer.Option(help="Only entries whose key begins with this prefix.")] = "",
    by: Annotated[
        Literal["words", "meaning", "both"] | None,
        typer.Option(
            help="How to search. By meaning needs a local model.", show_default="words, or both with --embedder"
        ),
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
            print(
                f"botwire: some texts have no vector of {memory.embedding_model}: run botwire embed {namespace!r}",
                file=sys.stderr,
            )
        for hit in memory.search(
            query, limit=limit, session=session, prefix=prefix, by=["words", "meaning"] if by == "both" else by
        ):
            if as_json:
                typer.echo(wire.encode_record(hit).decode())
                continue
            where = hit.entry.key if hit.entry else f"{hit.session}#{hit.message.seq if hit.message else ''}"
            typer.echo(f"{hit.score:7.3f}  {where}  {hit.snippet}")


@app.command()
def embed(
    namespace: Name,
    embedder: Model = None,
    limit: Annotated[int | None, typer.Option(help="Maximum number of texts.", min=0, show_default="all")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make missing vectors for search by meaning. Run it again to resume."""
    with memory_at(namespace, url, embedder=local_embedder(embedder or "minilm")) as memory:
        made = memory.embed(limit=limit)
    typer.echo(line_of({"embedded": made}) if as_json else f"{made:,} embedded")


_PAGE = 500
"""Rows per read."""


def _value(given: str, *, text: bool) -> Any:
    if text:
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def _text(value: Any) -> str:
    """Return a value on one line: text unchanged, other values as JSON."""
    if isinstance(value, str):
        return value
    return _json(value)


def _json(value: Any) -> str:
    if isinstance(value, bytes):
        value = {"value_base64": base64.b64encode(value).decode()}
    return json.dumps(value, ensure_ascii=False)


def _key_line(key: str, value: Any, *, values: bool, as_json: bool) -> str:
    if not as_json:
        return f"{key}\t{_json(value)}" if values else key
    if isinstance(value, bytes):
        return line_of({"key": key, "value_base64": base64.b64encode(value).decode()})
    return line_of({"key": key, "value": value} if values else {"key": key})


def _message_line(message: Message) -> str:
    when = message.created_at.astimezone(UTC)
    return f"{message.seq:>6}  {when:%Y-%m-%d %H:%M:%S}  {_said(message.data)}"


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


def _change_line(change: Change) -> str:
    about = {
        "set": f"{change.key}\t{_json(change.value)}",
        "clear": f"{change.prefix}*",
        "append": f"{change.session}\t{_said(change.value)}",
        "pop": f"{change.session}\t{change.left} left",
    }
    return f"{change.version}\t{change.kind}\t{about.get(change.kind, change.key)}"


def _limit(limit: int | None) -> str:
    return "(no limit)" if limit is None else f"of {limit:,}"
