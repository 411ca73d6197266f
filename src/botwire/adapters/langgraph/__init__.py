"""BotWireSaver and BotWireStore: the checkpoints of a graph, and its memory across threads, for LangGraph."""

from __future__ import annotations

from .._base import needs

with needs("langgraph", "BotWireSaver and BotWireStore need langgraph: pip install 'botwire[langgraph]'"):
    import langgraph.checkpoint.base
    import langgraph.store.base  # noqa: F401

from .saver import BotWireSaver
from .store import BotWireStore

__all__ = ["BotWireSaver", "BotWireStore"]
