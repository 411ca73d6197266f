"""The examples of a document, run as a reader would type them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def has_environment(document: Path) -> bool:
    """Whether a document is about a framework whose tests, and whose page's examples, run in an environment of their own."""
    return any((ROOT / "tests" / within / document.stem / "isolated").is_dir() for within in ("adapters", "server"))


def run_examples(document: Path, server: str, capsys) -> None:
    """Run all Python of a document in one scope, and see that it prints what its comments say behind ``print(…)``."""
    scope = {"__name__": "__main__"}
    for number, block in enumerate(blocks(document, "python")):
        code = block.replace("http://127.0.0.1:8765", server)
        exec(compile(code, f"{document.name}, example {number + 1}", "exec", dont_inherit=True), scope)
    said = capsys.readouterr().out
    for expected in re.findall(r"print\(.*\)\s+# (.*)", "\n".join(blocks(document, "python"))):
        begin = expected.split("…")[0].split("'sqlite")[0]
        assert begin in said, expected
