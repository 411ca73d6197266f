"""Commands that stay: serve, mcp, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import InvalidArgument
from .base import Database, Json, PlanFile, address_of, app, line_of, plans_of


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
        bool,
        typer.Option(
            "--open",
            envvar="BOTWIRE_SERVE_OPEN",
            help="Let in whoever reaches the interface, also from other machines.",
        ),
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
    traces: Annotated[
        str | None,
        typer.Option(
            help="Where OpenTelemetry's traces go: otlp, console or none; several with commas between.",
            show_default="as the OTEL_… variables say, or else nowhere",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where it listens, as a line of JSON; the log is JSON anyway.")
    ] = False,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="A local model, minilm or the folder of one such, to answer questions by meaning, as the console's.",
            show_default="by words only",
        ),
    ] = None,
) -> None:
    """Serve the memory over HTTP, until SIGTERM or Ctrl-C; SIGHUP reloads the plans and the certificate, refusing nobody."""
    from ..server.serve import serve as run_server

    if (tls_cert is None) != (tls_key is None):
        raise InvalidArgument("--tls-cert and --tls-key go together: name both files, or neither")
    run_server(
        address_of(db),
        host=host,
        port=port,
        plans=lambda: plans_of(plans, plan),
        auth=auth,
        open_to_all=open_,
        tls=(tls_cert, tls_key) if tls_cert and tls_key else None,
        log_level=log_level,
        workers=workers,
        max_connections=max_connections,
        traces=traces,
        announce=_announce if as_json else _tell,
        embedder=embedder,
    )


def _announce(facts: dict[str, Any]) -> None:
    print(line_of(facts), flush=True)


def _tell(facts: dict[str, Any]) -> None:
    """Say it to a person; a program reads the log."""
    if sys.stdout.isatty():
        print(f"{facts['url']} serves {facts['store']}; open it in a browser to look. Ctrl-C ends it.", flush=True)


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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where it listens, with http, as a line of JSON.")
    ] = False,
) -> None:
    """Give the memory to a model as tools, by the Model Context Protocol."""
    if transport == "stdio" and as_json:
        raise InvalidArgument("--json goes with --transport http: with stdio all that is printed is the protocol's")
    try:
        from ..adapters.mcp import create_server, say_where, serve_http, serve_stdio
    except ImportError as error:
        print(f"botwire: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    server = create_server(namespace, url)
    if transport == "stdio":
        serve_stdio(server)
        return
    announce = (lambda url: _announce({"url": url})) if as_json else say_where
    serve_http(server, host=host, port=port, open_to_all=open_, announce=announce)


@app.command()
def demo(as_json: Json = False) -> None:
    """Let an agent talk, kill it, and see that it remembers. Exits with 1 when it does not."""
    from .demo import main

    main(as_json=as_json)
