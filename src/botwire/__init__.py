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
    from .records import Change, Entry, Hit, Message, Session, Usage
    from .stores.wrappers.cipher import generate_key
    from .version import __version__

__all__ = [
    "AsyncHistory",
    "AsyncMemory",
    "AuthError",
    "BotWireChatHistory",
    "BotWireError",
    "Change",
    "ChangesLost",
    "Conflict",
    "DecryptionError",
    "Entry",
    "History",
    "Hit",
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
    "generate_key",
]


# Each name is loaded when it is first asked for: `import botwire` needs no framework and costs next to no time.
_HOME = {
    "AsyncHistory": "aio",
    "AsyncMemory": "aio",
    "BotWireChatHistory": "adapters.langchain",
    "Change": "records",
    "Entry": "records",
    "History": "history",
    "Hit": "records",
    "Memory": "memory",
    "Message": "records",
    "Session": "records",
    "Usage": "records",
    "__version__": "version",
    "generate_key": "stores.wrappers.cipher",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
