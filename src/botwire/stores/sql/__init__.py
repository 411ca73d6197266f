"""Statements by name, read from the files beside this one."""

from __future__ import annotations

import re
from pathlib import Path

_HERE = Path(__file__).parent
_NAME = re.compile(r"^-- (\w+)\n-- [^\n]+\n", re.MULTILINE)


def load_queries(dialect: str) -> dict[str, str]:
    """Return the statements of ``{dialect}/queries.sql`` by name.

    Each begins with a line ``-- name`` and a line that says what it is for.
    """
    text = (_HERE / dialect / "queries.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    return {name: statement.strip() for name, statement in zip(parts[::2], parts[1::2], strict=True)}


def load_script(dialect: str, name: str) -> str:
    """Return the script ``{dialect}/{name}.sql``."""
    return (_HERE / dialect / f"{name}.sql").read_text("utf-8")


def load_migrations(dialect: str) -> list[str]:
    """Return the scripts of ``{dialect}/migrations`` in order; script N leads to schema version N, from 1 on."""
    folder = _HERE / dialect / "migrations"
    scripts = {int(file.name.removesuffix(".sql")): file for file in folder.iterdir() if file.name.endswith(".sql")}
    return [scripts[number].read_text("utf-8") for number in range(1, len(scripts) + 1)]
