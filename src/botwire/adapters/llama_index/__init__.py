"""BotWireMemory, BotWireChatStore and BotWireMemoryStore: persistent memory for LlamaIndex."""

from .._base import needs

with needs("llama_index", "botwire.adapters.llama_index needs llama-index-core: pip install 'botwire[llama-index]'"):
    from .memory import BotWireMemory
    from .stores import BotWireChatStore, BotWireMemoryStore

__all__ = ["BotWireChatStore", "BotWireMemory", "BotWireMemoryStore"]

# A stored workflow names classes by module. The public path stays the same when the files of this package change.
BotWireMemory.__module__ = BotWireChatStore.__module__ = BotWireMemoryStore.__module__ = __name__
