"""Is a SQLite file as it should be? What SQLite can tell, and what only we know."""

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
"""Problems that are told, at the most."""


class Report(msgspec.Struct, frozen=True):
    """What a file holds, and what is wrong with it: nothing, if `problems` is empty."""

    problems: list[str]
    namespaces: int = 0
    entries: int = 0
    sessions: int = 0
    messages: int = 0
    bytes: int = 0


def check(path: str | os.PathLike[str]) -> Report:
    """Check a file, also while it is in use: SQLite's ``integrity_check``, then the facts that connect the tables.

    These are, for each namespace and session: the bytes of the account are those of the rows; messages are numbered 1, 2, 3,
    … up to the session's last; nothing belongs to nobody; every value is JSON or bytes.

    Raises:
        StoreError: the file is not there, cannot be read, or is none of botwire.
    """
    with opened(Path(path).absolute()) as connection:
        if problems := _what_sqlite_finds(connection):
            return Report(problems)
        for statement in _CHECKS.values():
            found = connection.execute(f"SELECT * FROM ({statement.rstrip(';')}) LIMIT ?", (MOST - len(problems),))  # noqa: S608
            problems += [text for (text,) in found]
        counts = {table: connection.execute(f"SELECT count(*) FROM {table}").get for table in _TABLES}  # noqa: S608
        size = connection.pragma("page_count") * connection.pragma("page_size")
        return Report(problems, bytes=size, **counts)


def _what_sqlite_finds(connection: Connection) -> list[str]:
    try:
        found = [text for (text,) in connection.execute(f"PRAGMA integrity_check({MOST})")]
    except apsw.CorruptError as error:  # too much for it to go on
        found = [str(error)]
    return [f"SQLite: {text}" for text in found if text != "ok"]


_TABLES = ("namespaces", "entries", "sessions", "messages")
