"""The command line: arguments in, calls down, text out."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .errors import BotWireError, InvalidArgument
from .limits import MAX_HITS, check_namespace
from .memory import Memory
from .plans import Plans, load_plans
from .records import moment
from .store import Store
from .stores import (
    default_path,
    default_token,
    is_postgres,
    make_default_folder,
    open_store,
    open_to_serve,
    sqlite_path,
)
from .version import __version__

if TYPE_CHECKING:
    from .server.administer import Administration

app = typer.Typer(
    help="Persistent memory for AI agents.", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
plan = typer.Typer(help="Put namespaces on plans.", no_args_is_help=True)
app.add_typer(plan, name="plan")
index = typer.Typer(help="Let namespaces be searched or not.", no_args_is_help=True)
app.add_typer(index, name="index")
token = typer.Typer(help="Make, list and revoke tokens.", no_args_is_help=True)
app.add_typer(token, name="token")

Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="The SQLite file, as a path or sqlite:///path, or postgresql://…",
        show_default="where the library keeps it",
    ),
]
Place = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="The SQLite file, or postgresql://…, or the http(s):// address of a server, at which BOTWIRE_TOKEN is to be an "
        "operator's token.",
        show_default="where the library keeps it",
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plans", help="A TOML file of plans, beside the built-in free and unlimited.")
]


def run() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 1."""
    try:
        app()
    except BotWireError as error:
        print(f"botwire: {error}", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _global(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"botwire {__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for any free one.", min=0, max=65_535)] = 8765,
    db: Database = None,
    plan: Annotated[str, typer.Option(help="The plan of namespaces that were put on no other.")] = "unlimited",
    plans: PlanFile = None,
    auth: Annotated[
        Literal["open", "required"],
        typer.Option(
            help="Whether every request needs a token, or only those in namespaces that somebody has claimed."
        ),
    ] = "open",
    open_: Annotated[
        bool, typer.Option("--open", help="Let in whoever reaches the interface, also from other machines.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="The certificate, in PEM, to serve https.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key, in PEM and without a password.")] = None,
    workers: Annotated[int, typer.Option(help="How many processes serve it together.", min=1, max=64)] = 1,
    max_connections: Annotated[
        int, typer.Option(help="How many connections each process serves at once; the next are told to wait.", min=1)
    ] = 1_000,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="What to log.")] = "info",
) -> None:
    """Serve the memory over HTTP, until SIGTERM or Ctrl-C."""
    from .server.serve import serve as run_server

    if (tls_cert is None) != (tls_key is None):
        raise InvalidArgument("--tls-cert and --tls-key go together: name both files, or neither")
    run_server(
        _address(db),
        host=host,
        port=port,
        plans=_plans(plans, plan),
        auth=auth,
        open_to_all=open_,
        tls=(tls_cert, tls_key) if tls_cert and tls_key else None,
        log_level=log_level,
        workers=workers,
        max_connections=max_connections,
    )


@plan.command("set")
def plan_set(
    namespace: Annotated[str, typer.Argument(help="The namespace.")],
    plan: Annotated[str, typer.Argument(help="The plan: free, unlimited, or one of your plans file.")],
    db: Database = None,
    plans: PlanFile = None,
) -> None:
    """Put a namespace on a plan, from now on, also while a server runs."""
    from .server.administer import OnStore

    store = open_to_serve(_address(db), _plans(plans, "unlimited"))
    try:
        store.set_plan(check_namespace(namespace), plan)
    finally:
        store.close()
    with closing(OnStore(_address(db))) as administration:
        administration.record("plan.set", namespace=namespace, plan=plan)
    typer.echo(f"{namespace} is on the plan {plan}")


@token.command("create")
def token_create(
    namespace: Annotated[
        list[str], typer.Option(help="A namespace, or the beginning of names and a *; 'support-*'. Again for several.")
    ],
    can: Annotated[str, typer.Option(help="What it may do: read, write, admin, with commas between.")] = "read,write",
    expires: Annotated[
        str, typer.Option(help="In how long it expires: a number and s, m, h or d, such as 90d; or never.")
    ] = "never",
    name: Annotated[str, typer.Option(help="What it is for, to know it again in the list.")] = "",
    db: Place = None,
) -> None:
    """Make a token and print it. It is shown this once: only its hash is kept.

    With --namespace '*' --can admin it is an operator's.
    """
    with closing(_administration(db)) as administration:
        made = administration.create(namespaces=namespace, can=can.split(","), name=name, expires_in=_seconds(expires))
    typer.echo(made["secret"])


@token.command("list")
def token_list(db: Place = None) -> None:
    """List tokens and claims as JSON, one a line, without their secrets."""
    with closing(_administration(db)) as administration:
        for item in administration.tokens():
            times = {
                when: str(moment(item[when])) for when in ("created", "expires", "revoked") if item[when] is not None
            }
            typer.echo(_line({**item, **times}))


@token.command("revoke")
def token_revoke(
    identity: Annotated[str, typer.Argument(help="The id of the token, as list shows it.", metavar="ID")],
    db: Place = None,
) -> None:
    """Revoke a token or a claim and all tokens that it minted, also while servers run."""
    with closing(_administration(db)) as administration:
        gone = administration.revoke(identity)
    typer.echo(f"revoked: {', '.join(gone)}" if gone else "it was revoked already")


@app.command()
def namespaces(db: Place = None) -> None:
    """List the namespaces."""
    with closing(_administration(db)) as administration:
        for name in administration.namespaces():
            typer.echo(name)


@app.command()
def audit(db: Place = None) -> None:
    """Show what administrators did, as JSON, one act a line: tokens, claims, plans."""
    with closing(_administration(db)) as administration:
        for act in administration.audit():
            typer.echo(_line(act))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; an older one there is replaced.")],
    db: Database = None,
) -> None:
    """Copy the memory to a file as it is now, also while a server runs on it."""
    from .stores.backup import backup as back_up

    with _bar("Copying") as progress:
        size = back_up(_file(db), file, progress=progress)
    typer.echo(f"{file} holds {size:,} bytes and is whole")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The copy that `botwire backup` made.")],
    db: Database = None,
    force: Annotated[bool, typer.Option("--force", help="Replace all that the memory holds now.")] = False,
) -> None:
    """Put a backup back; no server and no program may have the memory open."""
    from .stores.backup import restore as put_back

    path = _path(db)
    with _bar("Copying") as progress:
        size = put_back(file, path, force=force, progress=progress)
    typer.echo(f"{path} holds {size:,} bytes, as {file} does")


@app.command()
def check(db: Database = None) -> None:
    """Check the memory, or a backup by its --db, also while it is in use; exit with 1 when something is wrong."""
    from .stores.check import check as look

    path = _file(db)
    report = look(path)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    if report.problems:
        print(f"botwire: {path} is damaged: restore a backup", file=sys.stderr)
        raise typer.Exit(1)
    typer.echo(
        f"{path} is whole: {report.namespaces:,} namespaces, {report.entries:,} entries, {report.sessions:,} sessions, "
        f"{report.messages:,} messages, {report.bytes:,} bytes"
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
) -> None:
    """Copy namespaces, while FROM is in use, and compare checksums. Begun again it goes on, and brings over what is new."""
    from .copying import copy

    with _end(source, from_token, plans, there=True) as here, _end(target, to_token, plans) as there:
        with _bar("Copying") as progress:
            report = copy(here, there, namespaces=namespace or (), replace=replace, progress=progress)
        typer.echo(
            f"{there.address} holds {report.namespaces:,} namespaces, {report.entries:,} entries and {report.messages:,} "
            f"messages as they were read, {report.written:,} of them new; SHA-256 {report.checksum}"
        )


@app.command()
def search(
    namespace: Annotated[str, typer.Argument(help="The namespace.")],
    query: Annotated[str, typer.Argument(help="A question or some words.")],
    url: Annotated[
        str | None,
        typer.Option(help="Where the memory is.", show_default="$BOTWIRE_URL, or where the library keeps it"),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many hits at the most.", min=1, max=MAX_HITS)] = 10,
    session: Annotated[str | None, typer.Option(help="Only messages of this session.")] = None,
    prefix: Annotated[str, typer.Option(help="Only entries whose key begins with it.")] = "",
) -> None:
    """Find what was said: a line for each hit, the best first."""
    with Memory(namespace, url) as memory:
        for hit in memory.search(query, limit=limit, session=session, prefix=prefix):
            where = hit.entry.key if hit.entry else f"{hit.session}#{hit.message.seq if hit.message else ''}"
            typer.echo(f"{hit.score:7.3f}  {where}  {hit.snippet}")


@index.command("on")
def index_on(
    namespace: Annotated[str, typer.Argument(help="The namespace.")],
    db: Database = None,
) -> None:
    """Let a namespace be searched, and index what it holds. That can be stopped, and goes on where it was."""
    with closing(open_to_serve(_address(db), Plans())) as store:
        store.set_index(check_namespace(namespace), on=True)
        store.index(namespace, timeout=math.inf)
    typer.echo(f"{namespace} is indexed")


@index.command("off")
def index_off(
    namespace: Annotated[str, typer.Argument(help="The namespace.")],
    db: Database = None,
) -> None:
    """Index nothing of a namespace from now on, and remove its index. Its search is refused."""
    with closing(open_to_serve(_address(db), Plans())) as store:
        store.set_index(check_namespace(namespace), on=False)
    typer.echo(f"{namespace} is not indexed")


@app.command()
def mcp(
    namespace: Annotated[str, typer.Option(help="The namespace that the tools read and write.")] = "mcp",
    url: Annotated[
        str | None,
        typer.Option(
            help="Where the memory is: sqlite:///path, http(s)://host or postgresql://….",
            show_default="where the library keeps it",
        ),
    ] = None,
    transport: Annotated[
        Literal["stdio", "http"], typer.Option(help="How clients connect: as the parent of this process, or by HTTP.")
    ] = "stdio",
    host: Annotated[str, typer.Option(help="The interface to listen on, with http.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on, with http; 0 for any free one.", min=0, max=65_535)
    ] = 8766,
    open_: Annotated[
        bool, typer.Option("--open", help="Let in whoever reaches the interface, also from other machines.")
    ] = False,
) -> None:
    """Give the memory to a model as tools, by the Model Context Protocol."""
    try:
        from .adapters.mcp import create_server, serve_http, serve_stdio
    except ImportError as error:
        print(f"botwire: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    server = create_server(namespace, url)
    if transport == "stdio":
        serve_stdio(server)
    else:
        serve_http(server, host=host, port=port, open_to_all=open_)


@app.command()
def demo() -> None:
    """Let an agent talk, kill it, and see that it remembers."""
    from .demo import main

    main()


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(text: str) -> float | None:
    if text == "never":
        return None
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()):
        raise InvalidArgument(
            f"--expires {text!r} is not a time: write a number and s, m, h or d, such as 90d, or never"
        )
    return float(number) * unit


def _administration(db: str | None) -> Administration:
    from .server.administer import OnStore, Remote

    if db is not None and db.partition(":")[0] in {"http", "https"}:
        return Remote(db, default_token())
    return OnStore(_address(db))


def _line(facts: dict[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False, default=str)


@contextmanager
def _end(place: str, token: str | None, plans: Path | None, *, there: bool = False) -> Iterator[Store]:
    """Open one end of a copy; with `there` a file has to be there already."""
    if place.startswith(("http://", "https://")):
        store: Store = open_store(place, token=token, timeout=60)
    else:
        address = _address(place)
        if there and not is_postgres(address) and not Path(sqlite_path(address)).is_file():
            raise InvalidArgument(f"there is no file {sqlite_path(address)}: nothing to copy")
        store = open_to_serve(address, _plans(plans, "unlimited"))
    with closing(store):
        yield store


def _plans(file: Path | None, default: str) -> Plans:
    return Plans(default) if file is None else load_plans(file, default)


def _file(db: str | None) -> str:
    """Return the path of a file that is there already: nothing is made for it."""
    return str(default_path()) if db is None else _path(db)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is, if anybody looks."""
    with typer.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def _path(db: str | None) -> str:
    """Return the path of a SQLite file; for what is done to files."""
    address = _address(db)
    if is_postgres(address):
        raise InvalidArgument("this is for SQLite files; PostgreSQL has its own tools, as pg_dump and pg_basebackup")
    return sqlite_path(address)


def _address(db: str | None) -> str:
    if db is None:
        make_default_folder()
        db = str(default_path())
    return db if db.startswith("sqlite:") or is_postgres(db) else f"sqlite:///{db}"
