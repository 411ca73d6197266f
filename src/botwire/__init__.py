"""Persistent memory for AI agents, in two lines.

::

    from botwire import Memory, BotWireChatHistory
    memory = Memory("my-agent")
    history = BotWireChatHistory(session_id="user-42")   # a LangChain BaseChatMessageHistory
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters.langchain import BotWireChatHistory
    from .aio import AsyncHistory, AsyncMemory
    from .conversations.health import Problem
    from .errors import (
        AuthError,
        BotWireError,
        ChangesLost,
        Conflict,
        DecryptionError,
        InvalidArgument,
        InvalidName,
        InvalidValue,
        NotFound,
        QuotaExceeded,
        StorageExceeded,
        StoreError,
        Timeout,
        Unavailable,
    )
    from .history import History
    from .memory import Memory
    from .reading import PickedContext
    from .records import About, Change, Entry, Hit, Message, Rule, Session, Usage
    from .stores.wrappers.cipher import generate_key
    from .version import __version__

__all__ = [
    "About", "AsyncHistory", "AsyncMemory", "AuthError", "BotWireChatHistory", "BotWireError", "Change",
    "ChangesLost", "Conflict", "DecryptionError", "Entry", "History", "Hit", "InvalidArgument", "InvalidName",
    "InvalidValue", "Memory", "Message", "NotFound", "PickedContext", "Problem", "QuotaExceeded", "Rule", "Session",
    "StorageExceeded", "StoreError", "Timeout", "Unavailable", "Usage", "__version__", "generate_key",
]  # fmt: skip

_NAMES = {
    "adapters.langchain": ["BotWireChatHistory"],
    "aio": ["AsyncHistory", "AsyncMemory"],
    "conversations.health": ["Problem"],
    "history": ["History"],
    "memory": ["Memory"],
    "reading": ["PickedContext"],
    "records": ["About", "Change", "Entry", "Hit", "Message", "Rule", "Session", "Usage"],
    "stores.wrappers.cipher": ["generate_key"],
    "version": ["__version__"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
"""The module of each name, except for errors. It is imported on first use, so `import botwire` needs no framework and little time."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
