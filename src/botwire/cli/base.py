"""Shared by all commands: the app, common options, and output."""

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
        show_default="the file in your data folder",
    ),
]
AdminAddress = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="BOTWIRE_DB",
        help="The SQLite file, postgresql://…, or the http(s):// address of a server. For a server, set BOTWIRE_TOKEN to an "
        "operator's token.",
        show_default="the file in your data folder",
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plans", help="A TOML file with plans, in addition to the built-in free and unlimited.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The address of the memory: a path, sqlite:///path, http(s)://host (with BOTWIRE_TOKEN), or postgresql://….",
        show_default="$BOTWIRE_URL, or the file in your data folder",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--embedder", help="The local model: minilm, or the folder of another such model.", show_default="minilm"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document per line.")]
Name = Annotated[str, typer.Argument(metavar="NAMESPACE", help="The namespace.")]


def run() -> None:
    """Run the command line. A botwire error is one line on stderr, with exit code 1."""
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
        typer.Option(help="A TOML file with a table of options for each command.", envvar="BOTWIRE_CONFIG"),
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
    return Memory(namespace, as_address(url), token=token_for(url), timeout=timeout, embedder=embedder)


def as_address(url: str | None) -> str | None:
    """Return an address; a path becomes the address of a file."""
    return url if url is None or "://" in url else f"sqlite:///{url}"


def token_for(url: str | None) -> str | None:
    """Return the token for a server named by --url. For BOTWIRE_URL the library adds the token itself."""
    return default_token() if url is not None and url.startswith(("http://", "https://")) else None


def missing(what: str) -> typer.Exit:
    """Report that something does not exist; return the exception to raise."""
    print(f"botwire: {what}", file=sys.stderr)
    return typer.Exit(1)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str, option: str = "--expires") -> float | None:
    """Return a duration such as 90d in seconds; None means never."""
    if text == "never":
        return None
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()):
        raise InvalidArgument(f"{option} {text!r} is not a time: use a number and s, m, h or d, such as 90d, or never")
    return float(number) * unit


def say(text: str, facts: dict[str, Any], *, as_json: bool) -> None:
    """Print the result of a command, as text or as JSON."""
    typer.echo(line_of(facts) if as_json else text)


def line_of(facts: dict[str, Any]) -> str:
    """Return facts as a line of JSON."""
    return json.dumps(facts, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def plans_of(file: Path | None, default: str) -> Plans:
    """Return the plans of a file; `default` is the plan of namespaces without an assigned plan."""
    return Plans(default) if file is None else load_plans(file, default)


def file_of(db: str | None) -> str:
    """Return the path of an existing file; creates no folder."""
    return str(default_path()) if db is None else path_of(db)


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if stderr is a terminal."""
    with typer.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def path_of(db: str | None) -> str:
    """Return the path of a SQLite file, for commands that work on files."""
    address = address_of(db)
    if is_postgres(address):
        raise InvalidArgument(
            "this command works on SQLite files; for PostgreSQL use its own tools, such as pg_dump and pg_basebackup"
        )
    return sqlite_path(address)


def address_of(db: str | None) -> str:
    """Return the address of an operator's store."""
    if db is None:
        make_default_folder()
        db = str(default_path())
    return db if db.startswith("sqlite:") or is_postgres(db) else f"sqlite:///{db}"
