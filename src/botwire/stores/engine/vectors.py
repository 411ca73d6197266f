"""Storing the vectors of a write."""

from __future__ import annotations

from ...operations import SetVectors
from .tables import NamespaceId, Tables


def keep(tables: Tables, namespace: NamespaceId, op: SetVectors) -> int:
    """Store vectors of texts that have not changed; returns how many. Of several for one text, the last counts."""
    entries = {item.key: item for item in op.vectors if item.key is not None}
    messages = {
        (item.session, item.id): item for item in op.vectors if item.session is not None and item.id is not None
    }
    kept = tables.keep_entry_vectors(namespace, list(entries.values()), op.model) if entries else 0
    return kept + (tables.keep_message_vectors(namespace, list(messages.values()), op.model) if messages else 0)
