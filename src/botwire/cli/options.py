"""Options and arguments of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

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
PlanFile = Annotated[
    Path | None, Option("--plans", help="A TOML file with plans, besides the built-in free and unlimited.")
]
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
Namespace = Annotated[str, Argument(help="The namespace.")]
Json = Annotated[bool, Option("--json", help="Print JSON, one document per line.")]
Name = Annotated[str, Argument(metavar="NAMESPACE", help="The namespace.")]
