"""The tables as Markdown, and the plots, into the documents."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw

from .measure import Row
from .servers import Served

PAGE = Path("docs/benchmarks.md")
PLOTS = Path("docs/plots")
_BEGIN, _END = "<!-- what make bench printed -->\n", "<!-- to here -->\n"


def tables(rows: Sequence[Row], served: Sequence[Served], syncs: dict[str, float | None]) -> str:
    """Return what was measured as Markdown."""
    parts = [_machine()]
    if rows:
        header = ("what", "beside", "ours, µs", "theirs, µs", "our worst, µs", "ratio", "bar", "")
        parts += ["## Beside others", _table(header, map(_comparison, rows))]
    if served:
        header = ("server", "work", "connections", "a second", "p50, ms", "p99", "p99.9", "worst", "failed", "MB")
        parts += ["## Servers under load", _table(header, map(_load, served))]
    counted = [(name, f"{count:.2f}") for name, count in syncs.items() if count is not None]
    if counted:
        parts += ["## Syncs to disk for each write", _table(("where", "syncs"), counted)]
    return "\n\n".join(parts) + "\n"


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
    verdict = "" if row.bar is None else "met" if row.met else "**missed**"
    numbers = f"{row.our_us:,.1f}", f"{row.their_us:,.1f}", f"{row.worst_us:,.0f}" if row.worst_us else ""
    return row.what, row.theirs, *numbers, f"{row.ratio:.2f}", bar, verdict


def _load(item: Served) -> tuple[str, ...]:
    times = (f"{time:,.2f}" for time in (item.p50, item.p99, item.p999, item.worst))
    size = f"{item.megabytes:.0f}" if item.megabytes else ""
    return item.server, item.work, str(item.connections), f"{item.rate:,.0f}", *times, str(item.failed), size


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
