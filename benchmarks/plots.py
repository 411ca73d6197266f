"""Draws plots of the measurements as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "botwire"
import matplotlib.pyplot as plt  # noqa: E402

from .measure import Row  # noqa: E402
from .servers import Served  # noqa: E402

OURS, OTHERS = "#1f6f8b", "#b8b8b8"


def draw(rows: Sequence[Row], served: Sequence[Served], folder: Path) -> None:
    """Draw the main results: adding and reading messages, and the server compared with bare routes."""
    for what, title in ("add a message", "Add one message durably"), ("read 1,000 messages", "Read 1,000 messages"):
        found = [row for row in rows if row.what == what]
        if found:
            bars = [("botwire", found[0].our_us), *((row.theirs, row.their_us) for row in found)]
            _bars(folder / what.replace(" ", "-").replace(",", ""), title, "µs, median, less is better", bars)
    for work in ("GET", "PUT"):
        bars = [
            ("botwire" if item.server == "ours" else item.server, item.rate)
            for item in served
            if item.work == work and item.connections == 64 and "process" not in item.server
        ]
        if bars:
            _bars(
                folder / f"server-{work.lower()}",
                f"{work} through 64 connections",
                "requests a second on one core",
                bars,
            )


def _bars(path: Path, title: str, unit: str, bars: Sequence[tuple[str, float]]) -> None:
    ordered = sorted(bars, key=lambda bar: bar[1])
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(ordered) + 1.2), layout="constrained")
    drawn = axes.barh(
        [name for name, _ in ordered],
        [value for _, value in ordered],
        color=[OURS if name == "botwire" else OTHERS for name, _ in ordered],
    )
    axes.bar_label(drawn, fmt="{:,.0f}", padding=3)
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    for kind in ("png", "svg"):
        figure.savefig(path.with_suffix(f".{kind}"), dpi=120, metadata={"Date": None} if kind == "svg" else None)
    plt.close(figure)
