"""The SQL statements for PostgreSQL, by name. They are in the files of the folder sql."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..engine.statements import load_queries

Row: TypeAlias = tuple[Any, ...]
Statement: TypeAlias = tuple[str, Sequence[object]]
"""A statement by its name, and its values."""
SQL_FOLDER = Path(__file__).parent / "sql"
LOCK = 0x424F5457
"""The first number of botwire's advisory locks (``BOTW``); 1112495191 in the files."""
_MERGED = frozenset({"entries_without_vector", "messages_without_vector"})


def plan_of(name: str) -> Statement:
    """Return the statement that sets how a read is planned."""
    return ("plan_merge" if name in _MERGED else "plan_once", ())


def _texts() -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in ("transactions.sql", "queries.sql", "search.sql"):
        texts |= load_queries(SQL_FOLDER / file)
    removing = (SQL_FOLDER / "removing_vectors.sql").read_text("utf-8")
    for name, text in texts.items():
        if text.endswith("RETURNING bytes;"):  # it removes vectors, whose bytes are counted
            texts[name] = removing.replace("{removal}", text.removesuffix(";"))
    return texts


TEXTS = _texts()
SQL = {name: text.encode() for name, text in TEXTS.items()}
