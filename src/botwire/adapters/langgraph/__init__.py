"""BotWireSaver and BotWireStore: the checkpoints of a graph, and its memory across threads, for LangGraph."""

from __future__ import annotations

try:
    import langgraph.checkpoint.base
    import langgraph.store.base  # noqa: F401
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langgraph":
        raise
    missing = "BotWireSaver and BotWireStore need langgraph: pip install 'botwire[langgraph]'"
    raise ImportError(missing, name=error.name) from None

from .saver import BotWireSaver
from .store import BotWireStore

__all__ = ["BotWireSaver", "BotWireStore"]
