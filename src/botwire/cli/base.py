"""What the commands share: the app, options that several have, and how things are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import BotWireError, InvalidArgument
from ..memory import Memory
from ..plans import Plans, load_plans
from ..search.embedding import Embedder
from ..stores.address import default_path, default_token, is_postgres, make_default_folder, sqlite_path
from ..version import __version__
from .config import read_config

app = typer.Typer(
    help="Persistent memory for AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "BOTWIRE"},
)

Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="BOTWIRE_DB",
        help="The SQLite file, as a path or sqlite:///path, or postgresql://…",
        show_default="where the library keeps it",
    ),
]
Place = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="BOTWIRE_DB",
        help="The SQLite file, or postgresql://…, or the http(s):// address of a server, at which BOTWIRE_TOKEN is to be an "
        "operator's token.",
        show_default="where the library keeps it",
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plans", help="A TOML file of plans, beside the built-in free and unlimited.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Where the memory is: a path, sqlite:///path, http(s)://host (with BOTWIRE_TOKEN), or postgresql://….",
        show_default="$BOTWIRE_URL, or where the library keeps it",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--embedder", help="The local model: minilm, or the folder of one such.", show_default="minilm"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]
Name = Annotated[str, typer.Argument(metavar="NAMESPACE", help="The namespace.")]


def run() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 1."""
    try:
        app()
    except BotWireError as error:
        print(f"botwire: {error}", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _global(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", allow_from_autoenv=False)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="A TOML file with a table for each command, and in it its options.", envvar="BOTWIRE_CONFIG"),
    ] = None,
) -> None:
    if config is not None:
        assert isinstance(context.command, TyperGroup)
        context.default_map = read_config(config, context.command)
    if version:
        typer.echo(f"botwire {__version__}")
        raise typer.Exit


def memory_at(namespace: str, url: str | None, *, timeout: float = 10.0, embedder: Embedder | None = None) -> Memory:
    """Open a memory."""
    return Memory(namespace, place_of(url), token=token_for(url), timeout=timeout, embedder=embedder)


def place_of(url: str | None) -> str | None:
    """Return an address; a path is one of a file."""
    return url if url is None or "://" in url else f"sqlite:///{url}"


def token_for(url: str | None) -> str | None:
    """Return the token for a server that was named; for one in BOTWIRE_URL the library sees to it itself."""
    return default_token() if url is not None and url.startswith(("http://", "https://")) else None


def missing(what: str) -> typer.Exit:
    """Say that something is not there; return what to raise."""
    print(f"botwire: {what}", file=sys.stderr)
    return typer.Exit(1)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str, option: str = "--expires") -> float | None:
    """Return a time given as a number and a unit, in seconds; None: never."""
    if text == "never":
        return None
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()):
        raise InvalidArgument(
            f"{option} {text!r} is not a time: write a number and s, m, h or d, such as 90d, or never"
        )
    return float(number) * unit


def say(text: str, facts: dict[str, Any], *, as_json: bool) -> None:
    """Print what has come of a command, for a person or for a program."""
    typer.echo(line_of(facts) if as_json else text)


def line_of(facts: dict[str, Any]) -> str:
    """Return facts as a line of JSON."""
    return json.dumps(facts, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def plans_of(file: Path | None, default: str) -> Plans:
    """Return the plans of a file, and the one of namespaces that are on no other."""
    return Plans(default) if file is None else load_plans(file, default)


def file_of(db: str | None) -> str:
    """Return the path of a file that is there already: nothing is made for it."""
    return str(default_path()) if db is None else path_of(db)


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is, if anybody looks."""
    with typer.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def path_of(db: str | None) -> str:
    """Return the path of a SQLite file; for what is done to files."""
    address = address_of(db)
    if is_postgres(address):
        raise InvalidArgument("this is for SQLite files; PostgreSQL has its own tools, as pg_dump and pg_basebackup")
    return sqlite_path(address)


def address_of(db: str | None) -> str:
    """Return the address of an operator's store."""
    if db is None:
        make_default_folder()
        db = str(default_path())
    return db if db.startswith("sqlite:") or is_postgres(db) else f"sqlite:///{db}"
