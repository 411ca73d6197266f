"""The SQL statements for PostgreSQL, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..engine.statements import load_queries

Row: TypeAlias = tuple[Any, ...]
Statement: TypeAlias = tuple[str, Sequence[object]]
"""A statement by its name, and its values."""
SQL_FOLDER = Path(__file__).parent / "sql"
_TIME = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
LOCK = 0x424F5457
"""The first number of our advisory locks (``BOTW``), as it is in queries.sql."""
LISTENERS = f"{LOCK}, 2"
"""The lock that every listener holds."""


def _set(**options: str) -> str:
    """Return what sets options for the rest of a transaction."""
    return ", ".join(f"set_config('{name}', '{value}', true)" for name, value in options.items())


_GENERIC = _set(plan_cache_mode="force_generic_plan", enable_seqscan="off")
_REMOVALS = (
    "drop_vectors",
    "drop_vectors_of_entries",
    "drop_vectors_of_messages",
    "delete_some_entry_vectors",
    "delete_some_message_vectors",
)
"""Statements that are within removing_vectors.sql."""


def _queries() -> dict[str, str]:
    queries = load_queries(SQL_FOLDER / "queries.sql") | load_queries(SQL_FOLDER / "search.sql")
    around = (SQL_FOLDER / "removing_vectors.sql").read_text("utf-8")
    return queries | {name: around.replace("{removal}", queries[name].removesuffix(";")) for name in _REMOVALS}


TEXTS = _queries() | {
    "begin": "BEGIN",
    "begin_snapshot": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # For a search: the best plan for a term depends on how many texts its namespace has. Parallel workers and the JIT compiler
    # take longer to start than it takes to compare the vectors.
    "plan_custom": "SELECT "
    + _set(plan_cache_mode="force_custom_plan", enable_seqscan="off", max_parallel_workers_per_gather="0", jit="off"),
    # One generic plan is good for all values of each statement, so it is not planned again. It never scans a whole table: that
    # looks cheap while the table is small, and the plan is kept while the table grows.
    "limit_times": "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true),"
    f" set_config('idle_in_transaction_session_timeout', $1, true), {_GENERIC}, {_TIME}",
    # For a read, in the same round trip. Otherwise each read would be planned again, for all partitions.
    "plan_once": f"SELECT {_GENERIC}",
    # For a statement that walks two tables in the same order: one pass over both, even if the statistics are old.
    "plan_merge": "SELECT "
    + _set(plan_cache_mode="force_custom_plan", enable_seqscan="off", enable_nestloop="off", enable_hashjoin="off"),
    "time": "SELECT " + _TIME,
    # Without a timeout: a COMMIT that is cancelled while it waits for its replica reports success. Also returns whether any
    # process listens: then the exclusive lock is not granted. It is released at once, because another writer would treat this
    # one as a listener.
    "get_ready_to_commit": f"SELECT {_set(statement_timeout='0')},"
    f" CASE WHEN pg_try_advisory_lock({LISTENERS}) THEN NOT pg_advisory_unlock({LISTENERS}) ELSE true END",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "server_process": "SELECT pg_backend_pid()",
    "listen": "LISTEN botwire",
    "register_listener": f"SELECT pg_advisory_lock_shared({LISTENERS})",
    "notify": "SELECT pg_notify('botwire', $1)",
}
SQL = {name: text.encode() for name, text in TEXTS.items()}
_MERGED = frozenset({"entries_without_vector", "messages_without_vector"})


def plan_of(name: str) -> Statement:
    """Return the statement that sets how a read is planned."""
    return ("plan_merge" if name in _MERGED else "plan_once", ())
