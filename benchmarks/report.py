"""Tables of results, for the terminal and for the documentation."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apsw
import rich.table

from .measure import Row
from .servers import Served

PAGE = Path("docs/benchmarks.md")
PLOTS = Path("docs/plots")
_BEGIN, _END = "<!-- begin: written by make bench -->\n", "<!-- end: written by make bench -->\n"


class Table(NamedTuple):
    """A table of texts. The columns from index `numbers` on contain numbers."""

    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    numbers: int


def tables(rows: Sequence[Row], served: Sequence[Served], syncs: dict[str, float | None]) -> list[Table]:
    """Return the tables that have rows."""
    compared = ("operation", "compared with", "botwire, µs", "other, µs", "botwire worst, µs", "ratio", "goal", "")
    loads = ("server", "work", "connections", "requests/s", "p50, ms", "p99", "p99.9", "worst", "failed", "MB")
    counted = [(name, f"{count:.2f}") for name, count in syncs.items() if count is not None]
    all_ = [
        Table("Comparisons", compared, list(map(_comparison, rows)), 2),
        Table("Servers: one core for the server, one for the load", loads, list(map(_load, served)), 2),
        Table("Disk syncs per write", ("benchmark: product", "syncs"), counted, 1),
    ]
    return [table for table in all_ if table.lines]


def markdown(all_: Sequence[Table]) -> str:
    """Return the tables as Markdown, with a line about the machine."""
    parts = [_machine()]
    for table in all_:
        lines = [table.header, ["---"] * len(table.header), *table.lines]
        parts += [f"## {table.title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(parts) + "\n"


def for_terminal(table: Table) -> rich.table.Table:
    """Return a table for the terminal."""
    drawn = rich.table.Table(title=table.title)
    for index, title in enumerate(table.header):
        drawn.add_column(title, justify="right" if title and index >= table.numbers else "left")
    for line in table.lines:
        drawn.add_row(*line)
    return drawn


def write(text: str, plots: Path) -> None:
    """Write the tables between the markers of the page, and copy the plots."""
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", "utf-8")
    PLOTS.mkdir(exist_ok=True)
    for plot in [*plots.glob("*.svg"), *plots.glob("*.png")]:
        shutil.copy(plot, PLOTS)


def _machine() -> str:
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}. Medians; all products "
        "measured alternately in one run."
    )


def _comparison(row: Row) -> tuple[str, ...]:
    bar = "" if row.bar is None else f"{'≤' if row.smaller_is_better else '≥'} {row.bar:g}"
    verdict = "" if row.bar is None else "met" if row.met else "MISSED"
    numbers = f"{row.our_us:,.1f}", f"{row.their_us:,.1f}", f"{row.worst_us:,.0f}" if row.worst_us else ""
    return row.what, row.theirs, *numbers, f"{row.ratio:.2f}", bar, verdict


def _load(item: Served) -> tuple[str, ...]:
    times = (f"{time:,.2f}" for time in (item.p50, item.p99, item.p999, item.worst))
    size = f"{item.megabytes:.0f}" if item.megabytes else ""
    server = "botwire" if item.server == "ours" else item.server
    return server, item.work, str(item.connections), f"{item.rate:,.0f}", *times, str(item.failed), size
