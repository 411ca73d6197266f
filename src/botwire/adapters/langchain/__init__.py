"""BotWireChatHistory, BotWireByteStore and BotWireCache: persistent storage for LangChain."""

from __future__ import annotations

from .._base import needs

with needs("langchain_core", "BotWireChatHistory needs langchain-core: pip install 'botwire[langchain]'"):
    import langchain_core  # noqa: F401

from .bytes import BotWireByteStore, InvalidKey
from .cache import BotWireCache
from .history import BotWireChatHistory

__all__ = ["BotWireByteStore", "BotWireCache", "BotWireChatHistory", "InvalidKey"]
