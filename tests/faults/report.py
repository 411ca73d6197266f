"""The figures of the fault tests, as a JSON file and as a table for ``docs/reliability.md``."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

FILE = Path(__file__).parents[2] / ".cache" / "faults.json"


def write(reports) -> str:
    """Merge pytest's reports into `FILE`, which keeps the last figures of tests that did not run. Return the table."""
    tests: dict[str, dict] = {}
    for item in reports:
        name = item.nodeid.removeprefix("tests/faults/").partition("[")[0]
        new = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "failed": 0, "seconds": 0.0, "figures": {}}
        test = tests.setdefault(name, new)
        test["failed"] += item.outcome == "failed"
        test["seconds"] = round(test["seconds"] + item.duration, 1)
        for _, found in item.user_properties:
            test["figures"] = _joined(test["figures"], found)
    known = json.loads(FILE.read_text())["tests"] if FILE.exists() else {}
    document = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tests": dict(sorted((known | tests).items())),
    }
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(document, indent=1))
    return table(document)


def _joined(one: dict, other: dict) -> dict:
    """Join the figures of the parts of a test. Counts are added; other values are listed with a slash between."""
    joined = dict(one)
    for name, value in other.items():
        before = joined.get(name)
        if before is None or (before == value and type(value) is not int):
            joined[name] = value
        elif isinstance(value, dict):
            joined[name] = _joined(before, value)
        elif type(value) is int and type(before) is int:
            joined[name] = before + value
        else:
            joined[name] = f"{_shown(before)} / {_shown(value)}"
    return joined


def table(document: dict) -> str:
    """Return the figures as Markdown."""
    tests = document["tests"].values()
    dates = sorted({test["date"] for test in tests})
    minutes = round(sum(test["seconds"] for test in tests) / 60)
    machine = f"{document['cores']} cores, Python {document['python']}"
    lines = [
        "",
        f"`make faults`, {' to '.join({dates[0]: 0, dates[-1]: 0})}: {minutes} minutes of tests, {machine}.",
        "",
        "| test | figures |",
        "| --- | --- |",
    ]
    for name, test in document["tests"].items():
        if test["figures"] or test["failed"]:
            failed = [f"**failed: {test['failed']}**"] if test["failed"] else []
            lines.append(f"| `{name}` | {'; '.join(failed + _pairs(test['figures']))} |")
    return "\n".join(lines)


def _pairs(figures: dict) -> list[str]:
    return [f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in figures.items()]


def _shown(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    print(table(json.loads(FILE.read_text())))
