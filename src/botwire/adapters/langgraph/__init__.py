"""BotWireSaver and BotWireStore: the checkpoints of a graph, and its memory across threads, for LangGraph."""

from .._base import needs

with needs("langgraph", "BotWireSaver and BotWireStore need langgraph: pip install 'botwire[langgraph]'"):
    from .mending import amend_thread, mend_thread
    from .saver import BotWireSaver
    from .store import BotWireStore

__all__ = ["BotWireSaver", "BotWireStore", "amend_thread", "mend_thread"]
