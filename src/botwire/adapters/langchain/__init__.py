"""BotWireChatHistory, BotWireByteStore and BotWireCache: persistent storage for LangChain."""

from .._base import needs

with needs("langchain_core", "BotWireChatHistory needs langchain-core: pip install 'botwire[langchain]'"):
    from .history import BotWireChatHistory
    from .stores import BotWireByteStore, BotWireCache, InvalidKey

__all__ = ["BotWireByteStore", "BotWireCache", "BotWireChatHistory", "InvalidKey"]
