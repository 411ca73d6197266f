"""Commands that read and write a memory: keys, search, watch, usage."""

from __future__ import annotations

import json
import sys
from contextlib import closing, suppress
from operator import itemgetter
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from .. import wire
from ..limits import MAX_HITS
from ..queries import ListTexts
from ..records import Change, Hit
from ..search.embedding import local_embedder
from .base import Json, Limit, Model, Name, Url, app, failure, memory_at, misuse, say, say_each, seconds_of, warn
from .rows import in_base64, json_of, paged, said, text_of

Key = Annotated[str, Argument(metavar="KEY", help="The key.")]


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
        say(text_of(entry.value), wire.encode_entry(namespace, entry), as_json=as_json)


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
        raise misuse("--bytes reads standard input: leave out the value")
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
            items = paged(lambda last, most: memory.items(prefix, limit=most, after=last), itemgetter(0), after, limit)
            say_each(items, lambda item: f"{item[0]}\t{json_of(item[1])}", _entry, as_json=as_json)
        else:
            names = paged(lambda last, most: memory.list_keys(prefix, limit=most, after=last), str, after, limit)
            say_each(names, str, lambda key: {"key": key}, as_json=as_json)


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


def _entry(item: tuple[str, Any]) -> dict[str, Any]:
    key, value = item
    return {"key": key} | (in_base64(value) if isinstance(value, bytes) else {"value": value})


def _change_line(change: Change) -> str:
    match change.kind:
        case "set":
            what = f"{change.key}\t{json_of(change.value)}"
        case "clear":
            what = f"{change.prefix}*"
        case "append":
            what = f"{change.session}\t{said(change.value)}"
        case "edit":
            what = f"{change.session}\t{change.message.seq if change.message else ''}\t{said(change.value)}"
        case "pop":
            what = f"{change.session}\t{change.left} left"
        case _:
            what = f"{change.session if change.key is None else change.key}"
    return f"{change.version}\t{change.kind}\t{what}"


def _hit_line(hit: Hit) -> str:
    where = hit.entry.key if hit.entry else f"{hit.session}#{hit.message.seq if hit.message else ''}"
    return f"{hit.score:7.3f}  {where}  {hit.snippet}"


def _limit(limit: int | None) -> str:
    return "(no limit)" if limit is None else f"of {limit:,}"
