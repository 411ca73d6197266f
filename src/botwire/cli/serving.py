"""Commands that run until they are stopped: serve, mcp, demo."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer import Option

from ..errors import InvalidArgument
from .base import Database, Json, PlanFile, address_of, app, line_of, misuse, plans_of

if TYPE_CHECKING:
    from ..server.settings import Settings

_SETTINGS_ONLY = object()
"""As the context's object: return the settings instead of serving."""

Host = Annotated[str, Option(help="The interface to listen on.")]
Port = Annotated[int, Option(help="The port to listen on; 0: any free one.", min=0, max=65_535)]
DefaultPlan = Annotated[str, Option("--plan", help="The plan of namespaces that have no other.")]
Auth = Annotated[
    Literal["open", "required"],
    Option(help="Whether every request needs a token (required), or only those to claimed namespaces (open)."),
]
Open = Annotated[
    bool,
    Option(
        "--open",
        envvar="BOTWIRE_SERVE_OPEN",
        help="Serve every client that reaches the interface, also from other machines, without a token.",
    ),
]
Certificate = Annotated[str | None, Option("--tls-cert", metavar="<path>", help="Certificate chain for https, in PEM.")]
Key = Annotated[str | None, Option("--tls-key", metavar="<path>", help="The certificate's key, in PEM, unencrypted.")]
Workers = Annotated[int, Option(help="The number of worker processes.", min=1, max=64)]
MaxConnections = Annotated[int, Option(help="Connections per process; further ones get 503 and retry.", min=1)]
MaxHeld = Annotated[
    int, Option(help="MiB of large requests and answers that a process holds; further ones get 503 and retry.", min=16)
]
PerAddress = Annotated[
    int,
    Option(
        "--namespaces-per-address",
        help="New namespaces a day for all clients without a token at one address of another machine; 0: no limit.",
        min=0,
    ),
]
KeepFree = Annotated[
    int | None,
    Option(
        "--keep-free",
        metavar="<MiB>",
        help="Free space on the disk of the file below which writes are refused, and deletes are not; 0: none.",
        show_default="5 % of the disk, at most 256",
        min=0,
    ),
]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], Option("--log-level", help="Lowest level to log.")]
Traces = Annotated[
    str | None,
    Option(
        "--traces",
        help="Exporters of OpenTelemetry traces: otlp, console or none, separated by commas.",
        show_default="from the OTEL_… variables, or none",
    ),
]
ServerEmbedder = Annotated[
    str | None,
    Option(
        "--embedder",
        help="A local model, minilm or its folder, for semantic search without a vector, as in the console.",
        show_default="words only",
    ),
]
ServerJson = Annotated[bool, Option("--json", help="Print the server's address as JSON. The log is always JSON.")]


@app.command()
def serve(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    db: Database = None,
    plan: DefaultPlan = "unlimited",
    plans: PlanFile = None,
    auth: Auth = "open",
    open_: Open = False,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    workers: Workers = 1,
    max_connections: MaxConnections = 1_000,
    max_held: MaxHeld = 256,
    log_level: LogLevel = "info",
    traces: Traces = None,
    as_json: ServerJson = False,
    embedder: ServerEmbedder = None,
    namespaces_per_address: PerAddress = 1_000,
    keep_free: KeepFree = None,
) -> Any:
    """Serve the memory over HTTP until SIGTERM or Ctrl-C. SIGHUP reloads plans, certificate and log level in place."""
    from ..server.serve import serve as run_server
    from ..server.settings import LiveSettings, Settings

    settings = Settings(
        db=address_of(db),
        live=LiveSettings(plans=plans_of(plans, plan), tls_cert=tls_cert, tls_key=tls_key, log_level=log_level),
        host=host,
        port=port,
        auth=auth,
        open=open_,
        workers=workers,
        max_connections=max_connections,
        max_held=max_held,
        traces=traces,
        embedder=embedder,
        namespaces_per_address=namespaces_per_address,
        keep_free=None if keep_free is None else keep_free * 1024 * 1024,
    )
    if context.obj is not _SETTINGS_ONLY:
        run_server(settings, reread=_settings_now, announce=_announce if as_json else _tell)
    return settings


def _settings_now() -> Settings:
    """Return the settings by the command line and by the configuration file as it is now."""
    try:
        return cast("Settings", app(sys.argv[1:], standalone_mode=False, obj=_SETTINGS_ONLY))
    except typer.BadParameter as error:
        raise InvalidArgument(error.format_message()) from error


def _announce(facts: dict[str, Any]) -> None:
    print(line_of(facts), flush=True)


def _tell(facts: dict[str, Any]) -> None:
    """Print the address for a person; a program reads the log."""
    if sys.stdout.isatty():
        print(f"{facts['url']} serves {facts['store']}. Open it in a browser, or press Ctrl-C to stop.", flush=True)


@app.command()
def mcp(
    namespace: Annotated[str, Option(help="The namespace that the tools read and write.")] = "mcp",
    url: Annotated[
        str | None,
        Option(
            help="The address of the memory: sqlite:///path, http(s)://host or postgresql://….",
            show_default="where the library keeps it",
        ),
    ] = None,
    transport: Annotated[
        Literal["stdio", "http"], Option(help="How clients connect: as the parent process (stdio), or over HTTP.")
    ] = "stdio",
    host: Annotated[str, Option(help="The interface to listen on, with http.")] = "127.0.0.1",
    port: Annotated[int, Option(help="The port to listen on, with http; 0: any free one.", min=0, max=65_535)] = 8766,
    open_: Annotated[
        bool, Option("--open", help="Serve every client that reaches the interface, also from other machines.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Print the server's address as JSON; needs http.")] = False,
) -> None:
    """Offer the memory to a model as tools, over the Model Context Protocol."""
    if transport == "stdio" and as_json:
        raise misuse("--json needs --transport http: with stdio, standard output belongs to the protocol")
    from ..adapters.mcp import create_server, say_where, serve_http, serve_stdio

    server = create_server(namespace, url)
    if transport == "stdio":
        serve_stdio(server)
        return
    announce = (lambda url: _announce({"url": url})) if as_json else say_where
    serve_http(server, host=host, port=port, open_to_all=open_, announce=announce)


@app.command()
def demo(as_json: Json = False) -> None:
    """Run an agent, kill it, and check that it remembers. Exits with 1 if it does not."""
    from .demo import main

    main(as_json=as_json)
