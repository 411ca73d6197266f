"""Check a SQLite file: its structure, and that its tables agree with each other."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import msgspec

from ..engine.statements import load_queries
from .backup import opened
from .connection import SQL_FOLDER, Connection

_CHECKS = load_queries(SQL_FOLDER / "checks.sql")
MOST = 100
"""The most problems in a report."""


class Report(msgspec.Struct, frozen=True):
    """What a file contains, and what is wrong with it. No problems: the file is intact."""

    problems: list[str]
    namespaces: int = 0
    entries: int = 0
    sessions: int = 0
    messages: int = 0
    bytes: int = 0

    @property
    def is_torn(self) -> bool:
        """Whether SQLite cannot read all of the file, so that its rows must not be counted."""
        return any(problem.startswith(_SQLITE) for problem in self.problems)


def check(path: str | os.PathLike[str]) -> Report:
    """Check a file, also while it is in use: SQLite's ``integrity_check``, then whether the tables agree.

    For each namespace and session: the state has as many bytes as the rows; messages are numbered 1, 2, 3, … up to the
    session's last; each row belongs to an existing namespace or session; every value is JSON or bytes.

    Raises:
        StoreError: the file does not exist, cannot be read, or is not a botwire file.
    """
    with opened(Path(path).absolute()) as connection:
        if problems := _integrity_problems(connection):
            return Report(problems)
        for statement in _CHECKS.values():
            found = connection.execute(f"SELECT * FROM ({statement.rstrip(';')}) LIMIT ?", (MOST - len(problems),))  # noqa: S608
            problems += [text for (text,) in found]
        counts = {table: connection.execute(f"SELECT count(*) FROM {table}").get for table in _TABLES}  # noqa: S608
        size = connection.pragma("page_count") * connection.pragma("page_size")
        return Report(problems, bytes=size, **counts)


def _integrity_problems(connection: Connection) -> list[str]:
    try:
        found = [text for (text,) in connection.execute(f"PRAGMA integrity_check({MOST})")]
    except apsw.CorruptError as error:  # so much damage that the check stops
        found = [str(error)]
    return [_SQLITE + text for text in found if text != "ok"]


_SQLITE = "SQLite: "
_TABLES = ("namespaces", "entries", "sessions", "messages")
