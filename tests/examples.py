"""Runs the examples of a document."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def has_environment(document: Path) -> bool:
    """Whether a document is about a framework whose tests and examples run in a separate environment."""
    return any((ROOT / "tests" / within / document.stem / "isolated").is_dir() for within in ("adapters", "server"))


def run_examples(document: Path, server: str, capsys) -> None:
    """Run all Python of a document in one scope. Check that each ``print(…)`` prints the text of the comment after it."""
    scope = {"__name__": "__main__"}
    for number, block in enumerate(blocks(document, "python")):
        code = block.replace("http://127.0.0.1:8765", server)
        exec(compile(code, f"{document.name}, example {number + 1}", "exec", dont_inherit=True), scope)
    printed = capsys.readouterr().out
    for expected in re.findall(r"print\(.*\)\s+# (.*)", "\n".join(blocks(document, "python"))):
        begin = expected.split("…")[0].split("'sqlite")[0]
        assert begin in printed, expected
