"""What was measured as tables, for the terminal and for the documents."""

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
_BEGIN, _END = "<!-- what make bench printed -->\n", "<!-- to here -->\n"


class Table(NamedTuple):
    """Measurements as a person reads them, every cell a text; the columns from `numbers` on are numbers."""

    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    numbers: int


def tables(rows: Sequence[Row], served: Sequence[Served], syncs: dict[str, float | None]) -> list[Table]:
    """Return what was measured, as far as it was."""
    beside = ("what", "beside", "ours, µs", "theirs, µs", "our worst, µs", "ratio", "bar", "")
    loads = ("server", "work", "connections", "a second", "p50, ms", "p99", "p99.9", "worst", "failed", "MB")
    counted = [(name, f"{count:.2f}") for name, count in syncs.items() if count is not None]
    all_ = [
        Table("Beside others", beside, list(map(_comparison, rows)), 2),
        Table("Servers on one core, the load on the other", loads, list(map(_load, served)), 2),
        Table(
            "Syncs to disk for each write (below 1, an acknowledged write can be lost)", ("where", "syncs"), counted, 1
        ),
    ]
    return [table for table in all_ if table.lines]


def markdown(all_: Sequence[Table]) -> str:
    """Return tables as Markdown, and on what machine they were made."""
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
    """Put the tables between the marks in the page, and the plots beside it."""
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", "utf-8")
    PLOTS.mkdir(exist_ok=True)
    for plot in [*plots.glob("*.svg"), *plots.glob("*.png")]:
        shutil.copy(plot, PLOTS)


def _machine() -> str:
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}. Medians, in turns, in one run."
    )


def _comparison(row: Row) -> tuple[str, ...]:
    bar = "" if row.bar is None else f"{'≤' if row.smaller_is_better else '≥'} {row.bar:g}"
    verdict = "" if row.bar is None else "met" if row.met else "MISSED"
    numbers = f"{row.our_us:,.1f}", f"{row.their_us:,.1f}", f"{row.worst_us:,.0f}" if row.worst_us else ""
    return row.what, row.theirs, *numbers, f"{row.ratio:.2f}", bar, verdict


def _load(item: Served) -> tuple[str, ...]:
    times = (f"{time:,.2f}" for time in (item.p50, item.p99, item.p999, item.worst))
    size = f"{item.megabytes:.0f}" if item.megabytes else ""
    return item.server, item.work, str(item.connections), f"{item.rate:,.0f}", *times, str(item.failed), size
