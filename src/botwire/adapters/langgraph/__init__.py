"""BotWireSaver and BotWireStore: the checkpoints of a graph, and its memory across threads, for LangGraph."""

from .._base import needs

with needs("langgraph", "BotWireSaver and BotWireStore need langgraph: pip install 'botwire[langgraph]'"):
    from .saver import BotWireSaver
    from .store import BotWireStore

__all__ = ["BotWireSaver", "BotWireStore"]
