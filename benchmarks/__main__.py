"""``python -m benchmarks [PART …] [--docs]`` measures and prints tables. It writes tables, JSON and plots to ``.cache/benchmarks``.

``--docs`` also writes the tables to ``docs/benchmarks.md``. The part ``compaction`` runs alone: it counts lost messages, and measures
no time.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from . import (
    compaction,
    durability,
    embedded,
    graphs,
    growth,
    histories,
    keyvalue,
    plots,
    postgres,
    report,
    search,
    servers,
    sessions,
    vectors,
)
from .measure import Row
from .servers import Served

OUTPUT = Path(".cache/benchmarks")
PARTS: dict[str, Callable[[Path, Callable[[str], None], list[Served]], Iterator[Row]]] = {
    "histories": lambda folder, step, _: histories.run(folder, step),
    "keyvalue": lambda folder, step, _: keyvalue.run(folder, step),
    "langgraph": lambda folder, step, _: graphs.run(folder, step),
    "embedded": lambda folder, step, _: embedded.run(folder, step),
    "growth": lambda folder, step, _: growth.run(folder, step),
    "search": lambda folder, step, _: search.run(folder, step),
    "sessions": lambda folder, step, _: sessions.run(folder, step),
    "vectors": lambda folder, step, _: vectors.run(folder, step),
    "servers": servers.run,
    "postgres": lambda folder, step, _: postgres.run(folder, step),
}


def main(*parts: str) -> None:
    """Run the named parts, or all of them, in a temporary folder."""
    into_docs = "--docs" in parts
    parts = tuple(part for part in parts if part != "--docs")
    unknown = set(parts) - set(PARTS)
    if unknown:
        sys.exit(f"unknown part: {', '.join(sorted(unknown))}. Parts: {', '.join(PARTS)}")
    warnings.simplefilter("ignore")
    console = Console(width=None if sys.stdout.isatty() else 140)
    rows: list[Row] = []
    served: list[Served] = []
    with console.status("measuring") as status:
        for part in parts or PARTS:
            with tempfile.TemporaryDirectory(prefix="botwire-bench-", dir=".cache") as folder:
                step = lambda what: status.update(f"measuring: {what}")  # noqa: E731
                rows += [row._replace(group=part) for row in PARTS[part](Path(folder).absolute(), step, served)]
        status.update("counting syncs")
        kinds = {"histories": "history", "keyvalue": "keyvalue"}
        peers = {(part, row.theirs): None for part, kind in kinds.items() for row in rows if row.group == part and kind}
        counted = {
            f"{part}: botwire": durability.syncs(kinds[part], "ours") for part in kinds if part in (parts or PARTS)
        }
        counted |= {f"{part}: {name}": _syncs(kinds[part], name) for part, name in peers}
    tables = report.tables(rows, served, counted)
    for table in tables:
        console.print(report.for_terminal(table))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    document = {
        "rows": [row._asdict() | {"ratio": row.ratio, "met": row.met} for row in rows],
        "served": [item._asdict() for item in served],
        "syncs": counted,
    }
    (OUTPUT / "benchmarks.json").write_text(json.dumps(document, indent=2))
    plots.draw(rows, served, OUTPUT)
    text = report.markdown(tables)
    (OUTPUT / "benchmarks.md").write_text(text, "utf-8")
    console.print(f"Written to {OUTPUT}: benchmarks.json, benchmarks.md and the plots")
    if into_docs:
        report.write(text, OUTPUT)


_NAMES = {
    "bare apsw insert of its JSON": "bare",
}


def _syncs(kind: str, name: str) -> float | None:
    if "LangChain building" in name:
        return None
    return durability.syncs(kind, _NAMES.get(name, name))


if __name__ == "__main__":
    if sys.argv[1:] == ["compaction"]:
        compaction.main()
    else:
        main(*sys.argv[1:])
