"""BotWireChatHistory, BotWireByteStore and BotWireCache: persistent storage for LangChain."""

from __future__ import annotations

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "langchain_core":
        raise
    missing = "BotWireChatHistory needs langchain-core: pip install 'botwire[langchain]'"
    raise ImportError(missing, name=error.name) from None

from .bytes import BotWireByteStore, InvalidKey
from .cache import BotWireCache
from .history import BotWireChatHistory

__all__ = ["BotWireByteStore", "BotWireCache", "BotWireChatHistory", "InvalidKey"]
