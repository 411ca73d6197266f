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
"""The lock that everybody who listens holds."""


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
    queries, around = (
        load_queries(SQL_FOLDER / "queries.sql") | load_queries(SQL_FOLDER / "search.sql"),
        (SQL_FOLDER / "removing_vectors.sql").read_text("utf-8"),
    )
    return queries | {name: around.replace("{removal}", queries[name].removesuffix(";")) for name in _REMOVALS}


TEXTS = _queries() | {
    "begin": "BEGIN",
    "begin_snapshot": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # How a word is best followed depends on how many texts its namespace has.
    # And many vectors are compared faster at once than workers and a compiler of plans take to begin.
    "plan_custom": "SELECT "
    + _set(plan_cache_mode="force_custom_plan", enable_seqscan="off", max_parallel_workers_per_gather="0", jit="off"),
    # And no planning anew for each value: there is one good plan for each of our statements. It never reads a whole table, which
    # looks cheap while the table is small, and is done again and again by a plan that is kept while it grows.
    "limit_times": "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true),"
    f" set_config('idle_in_transaction_session_timeout', $1, true), {_GENERIC}, {_TIME}",
    # For a read, in whose round trip it goes: else each would be planned anew, for all partitions.
    "plan_once": f"SELECT {_GENERIC}",
    # For what walks two tables in the same order: one pass over both, whatever they were when somebody last counted them.
    "plan_merge": "SELECT "
    + _set(plan_cache_mode="force_custom_plan", enable_seqscan="off", enable_nestloop="off", enable_hashjoin="off"),
    "time": "SELECT " + _TIME,
    # A COMMIT that is cancelled while it waits for its replica says that it has succeeded. And whether anybody listens: then the
    # lock cannot be had alone. It is given back at once, or those who write at the same time would be taken for listeners.
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
PLAN_ONCE: Statement = ("plan_once", ())
PLAN_MERGE: Statement = ("plan_merge", ())
