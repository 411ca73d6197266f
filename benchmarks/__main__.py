"""``python -m benchmarks [ROUNDS]``: measure, print a table, and write ``.cache/benchmarks.json``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import core


def main(rounds: int = 3000) -> None:
    """Measure everything in a temporary folder."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows: list[core.Row] = []
    with tempfile.TemporaryDirectory(prefix="botwire-bench-") as folder, console.status("measuring") as status:
        rows.extend(core.run(Path(folder), rounds, lambda what: status.update(f"measuring: {what}")))
    table = Table(title="botwire beside others, in turns, medians in µs")
    for title in ("what", "beside", "ours", "theirs", "our worst", "ratio", "bar", ""):
        table.add_column(title, justify="left" if title in {"what", "beside", ""} else "right")
    for row in rows:
        table.add_row(
            row.what,
            row.theirs,
            f"{row.our_us:,.1f}",
            f"{row.their_us:,.1f}",
            f"{row.worst_us:,.0f}",
            f"{row.ratio:.2f}",
            "" if row.bar is None else f"{'≤' if row.smaller_is_better else '≥'} {row.bar:g}",
            "" if row.bar is None else "met" if row.met else "MISSED",
        )
    console.print(table)
    path = Path(".cache/benchmarks.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([row._asdict() | {"ratio": row.ratio, "met": row.met} for row in rows], indent=2))
    console.print(f"Written to {path}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
