"""Recount what a namespace holds. A plan limits what its state counts, so both must be the same."""

from __future__ import annotations

from .tables import NamespaceState, Tables


def recount(tables: Tables, namespace: str, state: NamespaceState) -> list[str]:
    """Correct what a namespace and its sessions count, by their rows; returns a line for each correction.

    The number of messages of a session with gaps stays: some messages are lost.
    """
    if state.id is None:
        return []
    found = []
    for number, name, messages, size, held_messages, held in tables.wrong_sessions(state.id):
        tables.correct_session(state.id, number, held_messages, held)
        found.append(
            f"namespace {namespace}, session {name}: it counted {messages:,} messages with {size:,} bytes, and has "
            f"{held_messages:,} with {held:,} bytes"
        )
    held = tables.held_bytes(state.id)
    if state.bytes != held:
        found.append(f"namespace {namespace}: it counted {state.bytes:,} bytes, and holds {held:,}")
        state.bytes = held
    held = tables.held_vector_bytes(state.id)
    if state.vectors != held:
        found.append(f"namespace {namespace}: it counted {state.vectors:,} bytes of vectors, and holds {held:,}")
        tables.set_vector_bytes(state.id, held)
        state.vectors = held
    return found
