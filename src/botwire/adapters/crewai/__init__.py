"""CrewAI: the storage of its memory, the persistence of its flows, and tools to remember facts."""

from .storage import BotWireFlowPersistence, BotWireStorage, memory_tools

__all__ = ["BotWireFlowPersistence", "BotWireStorage", "memory_tools"]
