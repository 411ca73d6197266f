"""SQL statements by name, read from files."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^-- (\w+)\n-- [^\n]+\n", re.MULTILINE)


def load_queries(file: Path) -> dict[str, str]:
    """Return the statements of a file by name.

    Each begins with a line ``-- name`` and a line that says what the statement is for.
    """
    parts = _NAME.split(file.read_text("utf-8"))[1:]
    return {name: statement.strip() for name, statement in zip(parts[::2], parts[1::2], strict=True)}


def load_migrations(folder: Path) -> list[str]:
    """Return the migration scripts of a folder in order. Script N creates schema version N, starting at 1."""
    scripts = {int(file.name.removesuffix(".sql")): file for file in folder.iterdir() if file.name.endswith(".sql")}
    return [scripts[number].read_text("utf-8") for number in range(1, len(scripts) + 1)]
