"""Commands about all of a memory: backup, restore, check, copy, export, import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import asdict

from ..errors import InvalidArgument
from ..store import Store
from ..stores import open_store, open_to_serve
from ..stores.address import default_address, default_token, is_postgres, sqlite_path
from .base import Database, Json, Name, PlanFile, Url, address_of, app, bar, file_of, path_of, place_of, plans_of, say


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; an older one there is replaced.")],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Copy the memory to a file as it is now, also while a server runs on it."""
    from ..stores.sqlite.backup import backup as back_up

    with bar("Copying") as progress:
        size = back_up(file_of(db), file, progress=progress)
    say(f"{file} holds {size:,} bytes and is whole", {"file": str(file), "bytes": size}, as_json=as_json)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The copy that `botwire backup` made.")],
    db: Database = None,
    force: Annotated[bool, typer.Option("--force", help="Replace all that the memory holds now.")] = False,
    as_json: Json = False,
) -> None:
    """Put a backup back; no server and no program may have the memory open."""
    from ..stores.sqlite.backup import restore as put_back

    path = path_of(db)
    with bar("Copying") as progress:
        size = put_back(file, path, force=force, progress=progress)
    say(f"{path} holds what {file} does, {size:,} bytes", {"file": str(path), "bytes": size}, as_json=as_json)


@app.command()
def check(db: Database = None, as_json: Json = False) -> None:
    """Check the memory, or a backup by its --db, also while it is in use; exit with 1 when something is wrong."""
    from ..stores.sqlite.check import check as look

    path = file_of(db)
    report = look(path)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    if report.problems:
        print(f"botwire: {path} is damaged: restore a backup", file=sys.stderr)
        raise typer.Exit(1)
    say(
        f"{path} is whole: {_counts(report, 'namespaces', 'entries', 'sessions', 'messages')} in {report.bytes:,} bytes",
        {"file": path, **asdict(report)},
        as_json=as_json,
    )


@app.command("copy")
def copy_all(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="A path, sqlite:///path, postgresql://… or http(s)://host.")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="The same.")],
    namespace: Annotated[
        list[str] | None, typer.Option(help="Copy this one alone. Again for several.", show_default="all")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove what TO has and FROM has not.")] = False,
    plans: PlanFile = None,
    from_token: Annotated[
        str | None,
        typer.Option(help="What lets in at the server FROM; an operator's, to copy all.", envvar="BOTWIRE_FROM_TOKEN"),
    ] = None,
    to_token: Annotated[
        str | None, typer.Option(help="What lets in at the server TO.", envvar="BOTWIRE_TO_TOKEN")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy namespaces, while FROM is in use, and compare checksums. Begun again it goes on, and brings over what is new."""
    from ..migrate.copy import copy

    with _end(source, from_token, plans, there=True) as here, _end(target, to_token, plans) as there:
        with bar("Copying") as progress:
            report = copy(here, there, namespaces=namespace or (), replace=replace, progress=progress)
        say(
            f"{there.address} holds {_counts(report, 'namespaces', 'entries', 'messages')} as they were read, "
            f"{report.written:,} of them new; SHA-256 {report.checksum}",
            {"address": there.address, **vars(report)},
            as_json=as_json,
        )


@app.command("export")
def export_lines(
    namespace: Name,
    file: Annotated[
        str,
        typer.Argument(
            help="Where the lines go; -: to standard output. Half a file of an earlier try is gone on with."
        ),
    ] = "-",
    url: Url = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a whole file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a namespace as JSON Lines: a line for each entry and each message."""
    from ..migrate.jsonl import export, export_file

    with _memory(url, there=True) as store, bar("Exporting") as progress:
        if file == "-":
            export(store, namespace, sys.stdout.buffer, progress=progress)
            sys.stdout.buffer.flush()
            return
        report = export_file(store, namespace, Path(file), force=force, progress=progress)
    say(
        f"{file} holds {namespace}: {_counts(report, 'entries', 'messages')} written to it now",
        {"file": file, **asdict(report)},
        as_json=as_json,
    )


@app.command("import")
def import_lines(
    file: Annotated[str, typer.Argument(help="What botwire export wrote; -: from standard input.")],
    namespace: Annotated[
        str | None, typer.Option(help="Into which namespace.", show_default="the one that was exported")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Write the lines of an export into a namespace: keys are replaced, messages go behind what there is.

    When it is interrupted, the same command goes on where it was.
    """
    from ..migrate.jsonl import import_file
    from ..migrate.jsonl import import_lines as import_from

    with _memory(url) as store:
        if file == "-":
            report = import_from(store, sys.stdin.buffer, namespace)
        else:
            with bar("Importing") as progress:
                report = import_file(store, Path(file), namespace, progress=progress)
    say(
        f"{report.namespace}: {_counts(report, 'entries', 'messages')} written",
        asdict(report),
        as_json=as_json,
    )


_ONE = {"namespaces": "namespace", "entries": "entry", "sessions": "session", "messages": "message"}


def _counts(report: Any, *names: str) -> str:
    """Return what a report counts: 1 entry and 2 messages."""
    *others, last = (
        f"{number:,} {name if number != 1 else _ONE[name]}" for name in names for number in [getattr(report, name)]
    )
    return f"{', '.join(others)} and {last}"


@contextmanager
def _memory(url: str | None, *, there: bool = False) -> Iterator[Store]:
    place = default_address() if url is None else str(place_of(url))
    with _end(place, default_token(), None, there=there) as store:
        yield store


@contextmanager
def _end(place: str, token: str | None, plans: Path | None, *, there: bool = False) -> Iterator[Store]:
    """Open one end of a copy; with `there` a file has to be there already."""
    if place.startswith(("http://", "https://")):
        store: Store = open_store(place, token=token, timeout=60)
    else:
        address = address_of(place)
        if there and not is_postgres(address) and not Path(sqlite_path(address)).is_file():
            raise InvalidArgument(f"there is no file {sqlite_path(address)}: nothing to copy")
        store = open_to_serve(address, plans_of(plans, "unlimited"))
    with closing(store):
        yield store
