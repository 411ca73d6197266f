"""Persistent memory for AI agents, in two lines.

::

    from botwire import Memory, BotWireChatHistory
    memory = Memory("my-agent")
    history = BotWireChatHistory(session_id="user-42")   # a LangChain BaseChatMessageHistory
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .aio import AsyncHistory, AsyncMemory
from .errors import (
    AuthError,
    BotWireError,
    Conflict,
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
from .records import Entry, Message, Session, Usage
from .version import __version__

if TYPE_CHECKING:
    from .adapters.langchain import BotWireChatHistory


__all__ = [
    "AsyncHistory",
    "AsyncMemory",
    "AuthError",
    "BotWireChatHistory",
    "BotWireError",
    "Conflict",
    "Entry",
    "History",
    "InvalidArgument",
    "InvalidName",
    "InvalidValue",
    "Memory",
    "Message",
    "NotFound",
    "QuotaExceeded",
    "Session",
    "StorageExceeded",
    "StoreError",
    "Timeout",
    "Unavailable",
    "Usage",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Loaded when first asked for, so that `import botwire` needs no framework and costs no time.
    if name == "BotWireChatHistory":
        from .adapters.langchain import BotWireChatHistory

        return BotWireChatHistory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
