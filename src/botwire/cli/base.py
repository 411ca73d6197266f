"""Shared by all commands: the app, their options, the configuration file, addresses and output."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer import Argument, Option
from typer.core import TyperGroup, TyperOption

from ..errors import BotWireError, InvalidArgument
from ..memory import Memory
from ..plans import Plans, load_plans
from ..search.embedding import Embedder
from ..stores.address import (
    default_address,
    default_path,
    default_token,
    is_postgres,
    make_default_folder,
    scheme_of,
    sqlite_path,
)
from ..version import __version__

T = TypeVar("T")

app = typer.Typer(
    help="Persistent memory for AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "BOTWIRE"},
)

Database = Annotated[
    str | None,
    Option(
        "--db",
        envvar="BOTWIRE_DB",
        help="The SQLite file, as a path or sqlite:///path, or postgresql://…",
        show_default="the file in your data folder",
    ),
]
AdminAddress = Annotated[
    str | None,
    Option(
        "--db",
        envvar="BOTWIRE_DB",
        help="The SQLite file, postgresql://…, or the http(s):// address of a server. For a server, set BOTWIRE_TOKEN to an "
        "operator's token.",
        show_default="the file in your data folder",
    ),
]
PlanFile = Annotated[Path | None, Option("--plans", help="A TOML file with plans, besides free and unlimited.")]
Url = Annotated[
    str | None,
    Option(
        "--url",
        help="The address of the memory: a path, sqlite:///path, http(s)://host (with BOTWIRE_TOKEN), or postgresql://….",
        show_default="$BOTWIRE_URL, or the file in your data folder",
    ),
]
Model = Annotated[
    str | None,
    Option("--embedder", help="The local model: minilm, or the folder of another such model.", show_default="minilm"),
]
Json = Annotated[bool, Option("--json", help="Print JSON, one document per line.")]
Limit = Annotated[int | None, Option(help="Maximum number.", min=0, show_default="all")]
Name = Annotated[str, Argument(metavar="NAMESPACE", help="The namespace.")]


def run() -> None:
    """Run the command line. An error of botwire, or a package that is not installed, is one line on stderr, with exit code 1."""
    try:
        app()
    except (BotWireError, ImportError) as error:
        warn(error)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _global(
    context: typer.Context,
    version: Annotated[bool, Option("--version", help="Print the version and exit.", allow_from_autoenv=False)] = False,
    config: Annotated[
        Path | None, Option(help="A TOML file with a table of options for each command.", envvar="BOTWIRE_CONFIG")
    ] = None,
) -> None:
    if config is not None:
        assert isinstance(context.command, TyperGroup)
        context.default_map = read_config(config, context.command)
    if version:
        typer.echo(f"botwire {__version__}")
        raise typer.Exit


def read_config(file: Path, app: TyperGroup) -> dict[str, Any]:
    """Return the defaults of each command by name, or raise `InvalidArgument` for an unknown command or option."""
    try:
        given = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} is not TOML: {error}") from error
    return _defaults(file, given, app)


def _defaults(file: Path, given: Mapping[str, Any], group: TyperGroup) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, table in given.items():
        command = group.commands.get(name)
        if command is None or not isinstance(table, dict):
            raise InvalidArgument(f"{file}: [{name}] is not one of the commands {', '.join(sorted(group.commands))}")
        if isinstance(command, TyperGroup):
            found[name] = _defaults(file, table, command)
            continue
        options = [option for option in command.params if isinstance(option, TyperOption)]
        known = {max(option.opts, key=len).lstrip("-").replace("-", "_"): option.name for option in options}
        wrong = [key for key in table if key.replace("-", "_") not in known]
        if wrong:
            raise InvalidArgument(f"{file}: [{name}] has no option {wrong[0]!r}, only {', '.join(sorted(known))}")
        found[name] = {known[key.replace("-", "_")]: value for key, value in table.items()}
    return found


def address_from(url: str | None) -> str:
    """Return the address that --url names; a path is that of a SQLite file."""
    if url is None:
        return default_address()
    return url if "://" in url else f"sqlite:///{url}"


def is_server(address: str) -> bool:
    """Return whether an address is that of a server."""
    return scheme_of(address) in {"http", "https"}


def memory_at(namespace: str, url: str | None, *, timeout: float = 10.0, embedder: Embedder | None = None) -> Memory:
    """Open the memory that --url names."""
    address = address_from(url)
    token = default_token() if is_server(address) else None
    return Memory(namespace, address, token=token, timeout=timeout, embedder=embedder)


def address_of(db: str | None) -> str:
    """Return the address of the operator's store that --db names."""
    if db is None:
        make_default_folder()
        db = str(default_path())
    return db if db.startswith("sqlite:") or is_postgres(db) else f"sqlite:///{db}"


def path_of(db: str | None) -> str:
    """Return the path of the SQLite file that --db names, for commands that work on files."""
    address = address_of(db)
    if is_postgres(address):
        raise InvalidArgument("this command works on SQLite files; for PostgreSQL use pg_dump or pg_basebackup")
    return sqlite_path(address)


def file_of(db: str | None) -> str:
    """Return the path of an existing file; creates no folder."""
    return path_of(str(default_path()) if db is None else db)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str, option: str) -> float | None:
    """Return a duration such as 90d in seconds; None means never."""
    if text == "never":
        return None
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()):
        raise misuse(f"{option} {text!r} is not a time: use a number and s, m, h or d, such as 90d, or never")
    return float(number) * unit


def plans_of(file: Path | None, default: str) -> Plans:
    """Return the plans of a file; `default` is the plan of namespaces without an assigned plan."""
    return Plans(default) if file is None else load_plans(file, default)


def say(text: str, document: Mapping[str, Any] | bytes, *, as_json: bool) -> None:
    """Print the result of a command, as text or as a line of JSON."""
    typer.echo(line_of(document) if as_json else text)


def say_each(
    rows: Iterable[T], text: Callable[[T], str], document: Callable[[T], Mapping[str, Any] | bytes], *, as_json: bool
) -> int:
    """Print rows as lines of text or of JSON, each at once, and return their number."""
    count = 0
    for row in rows:
        typer.echo(line_of(document(row)) if as_json else text(row))
        count += 1
    return count


def line_of(document: Mapping[str, Any] | bytes) -> str:
    """Return a line of JSON. Bytes are JSON already."""
    if isinstance(document, bytes):
        return document.decode()
    return json.dumps(document, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def warn(text: object) -> None:
    """Print a warning or an error on stderr."""
    print(f"botwire: {text}", file=sys.stderr)


def failure(text: str) -> typer.Exit:
    """Print what failed, and return the exception to raise."""
    warn(text)
    return typer.Exit(1)


def misuse(text: str) -> typer.Exit:
    """Print which argument or option is wrong, and return the exception to raise: it exits with 2, as Typer's own errors do."""
    warn(text)
    return typer.Exit(2)


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if stderr is a terminal."""
    with typer.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show
