"""Commands for whole memories: backup, restore, check, copy, export, import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

from msgspec.structs import asdict
from typer import Argument, Option

from ..errors import InvalidArgument
from ..limits import ACCESS, MAX_PAGE
from ..plans import Plans
from ..queries import ListNamespaces
from ..store import Store
from ..stores import open_store, open_to_serve
from ..stores.address import default_token, is_postgres, sqlite_path
from .base import (
    Database,
    Json,
    Name,
    PlanFile,
    Url,
    address_from,
    address_of,
    app,
    bar,
    failure,
    file_of,
    is_server,
    path_of,
    plans_of,
    say,
)


@app.command()
def backup(
    file: Annotated[Path, Argument(help="The file to write. An older copy is replaced.")],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Back up the memory to a file, also while a server uses it."""
    from ..stores.sqlite.backup import backup as back_up

    with bar("Copying") as progress:
        size = back_up(file_of(db), file, progress=progress)
    say(f"backed up to {file}: {size:,} bytes, checked", {"file": str(file), "bytes": size}, as_json=as_json)


@app.command()
def restore(
    file: Annotated[Path, Argument(help="The file that `botwire backup` wrote.")],
    db: Database = None,
    force: Annotated[bool, Option("--force", help="Replace the current contents of the memory.")] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup. Stop every server and program that has the memory open first."""
    from ..stores.sqlite.backup import restore as restore_file

    path = path_of(db)
    with bar("Copying") as progress:
        size = restore_file(file, path, force=force, progress=progress)
    say(f"restored {path} from {file}: {size:,} bytes", {"file": str(path), "bytes": size}, as_json=as_json)


@app.command()
def check(
    db: Database = None,
    fix: Annotated[
        bool, Option("--fix", help="Correct the usage of namespaces by what they hold. Also for PostgreSQL.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the memory for damage, also while it is in use. --db names a backup. Exits with 1 if there is damage left."""
    from ..stores.sqlite.check import check as check_file

    if fix and db is not None and is_postgres(db):
        corrected = _recounted(db, quiet=as_json)
        say("usage is what the rows hold", {"corrected": corrected}, as_json=as_json)
        return
    path = file_of(db)
    report, corrected = check_file(path), []
    if fix and not report.is_torn:
        corrected = _recounted(f"sqlite:///{path}", quiet=as_json)
        report = check_file(path)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    if report.problems:
        raise failure(f"{path} is damaged: restore a backup, or if only usage is wrong, correct it with --fix")
    counts = _counts(report, "namespaces", "entries", "sessions", "messages")
    text = f"{path} has no damage: {counts} in {report.bytes:,} bytes"
    say(text, {"file": path, "corrected": corrected, **asdict(report)}, as_json=as_json)


def _recounted(address: str, *, quiet: bool) -> list[str]:
    """Correct the usage of every namespace, each in one transaction; returns a line for each correction, and prints it."""
    with closing(open_to_serve(address, Plans())) as store:
        corrected, names = list[str](), [ACCESS]
        while names:
            for name in names:
                lines = store.recount(name)
                corrected += lines
                for line in () if quiet else lines:
                    print(line)
            names = store.read("", ListNamespaces(after=names[-1], limit=MAX_PAGE))
        return corrected


@app.command("copy")
def copy_all(
    source: Annotated[str, Argument(metavar="FROM", help="A path, sqlite:///path, postgresql://… or http(s)://host.")],
    target: Annotated[str, Argument(metavar="TO", help="The same.")],
    namespace: Annotated[
        list[str] | None, Option(help="Only this namespace. Repeat for several.", show_default="all")
    ] = None,
    replace: Annotated[bool, Option("--replace", help="Delete data in TO that FROM does not have.")] = False,
    plans: PlanFile = None,
    from_token: Annotated[
        str | None,
        Option(
            help="Token for the source server. Copying all namespaces needs an operator's token.",
            envvar="BOTWIRE_FROM_TOKEN",
        ),
    ] = None,
    to_token: Annotated[str | None, Option(help="Token for the target server.", envvar="BOTWIRE_TO_TOKEN")] = None,
    as_json: Json = False,
) -> None:
    """Copy namespaces while FROM is in use, and compare checksums. Run it again to resume or to copy new data."""
    from ..migrate.copy import copy

    with _opened(source, from_token, plans, existing=True) as here, _opened(target, to_token, plans) as there:
        with bar("Copying") as progress:
            report = copy(here, there, namespaces=namespace or (), replace=replace, progress=progress)
        text = (
            f"{there.address} holds {_counts(report, 'namespaces', 'entries', 'messages')} with matching checksums, "
            f"{report.written:,} of them new; SHA-256 {report.checksum}"
        )
        say(text, {"address": there.address, **vars(report)}, as_json=as_json)


@app.command("export")
def export_lines(
    namespace: Name,
    file: Annotated[str, Argument(help="The file to write; -: standard output. Resumes an unfinished export.")] = "-",
    url: Url = None,
    force: Annotated[bool, Option("--force", help="Replace a finished export.")] = False,
    as_json: Json = False,
) -> None:
    """Export a namespace as JSON Lines: one line for each entry and each message."""
    from ..migrate.jsonl import export, export_file

    with _opened(address_from(url), default_token(), existing=True) as store, bar("Exporting") as progress:
        if file == "-":
            export(store, namespace, sys.stdout.buffer, progress=progress)
            sys.stdout.buffer.flush()
            return
        report = export_file(store, namespace, Path(file), force=force, progress=progress)
    text = f"{namespace} to {file}: {_counts(report, 'entries', 'messages')} exported"
    say(text, {"file": file, **asdict(report)}, as_json=as_json)


@app.command("import")
def import_lines(
    file: Annotated[str, Argument(help="The file that botwire export wrote; -: standard input.")],
    namespace: Annotated[str | None, Option(help="The target namespace.", show_default="the exported one")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Import an export into a namespace. Keys are replaced; messages are appended to their sessions.

    Run an interrupted import again to resume it.
    """
    from ..migrate import jsonl

    with _opened(address_from(url), default_token()) as store:
        if file == "-":
            report = jsonl.import_lines(store, sys.stdin.buffer, namespace)
        else:
            with bar("Importing") as progress:
                report = jsonl.import_file(store, Path(file), namespace, progress=progress)
    say(f"{report.namespace}: {_counts(report, 'entries', 'messages')} written", asdict(report), as_json=as_json)


_ONE = {"namespaces": "namespace", "entries": "entry", "sessions": "session", "messages": "message"}


def _counts(report: Any, *names: str) -> str:
    """Return the counts of a report, such as 1 entry and 2 messages."""
    numbers = [(getattr(report, name), name) for name in names]
    *others, last = (f"{number:,} {_ONE[name] if number == 1 else name}" for number, name in numbers)
    return f"{', '.join(others)} and {last}"


@contextmanager
def _opened(address: str, token: str | None, plans: Path | None = None, *, existing: bool = False) -> Iterator[Store]:
    """Open a store to copy from or to; with `existing`, a file must exist."""
    if is_server(address):
        store: Store = open_store(address, token=token, timeout=60)
    else:
        address = address_of(address)
        if existing and not is_postgres(address) and not Path(sqlite_path(address)).is_file():
            raise InvalidArgument(f"the file {sqlite_path(address)} does not exist")
        store = open_to_serve(address, plans_of(plans, "unlimited"))
    with closing(store):
        yield store
