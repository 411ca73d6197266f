"""CrewAI: the storage of its memory, the persistence of its flows, and tools to remember facts."""

from .._base import needs

with needs("crewai numpy", "botwire.adapters.crewai needs crewai: pip install 'botwire[crewai]'"):
    from .flows import BotWireFlowPersistence
    from .storage import BotWireStorage
    from .tools import memory_tools

__all__ = ["BotWireFlowPersistence", "BotWireStorage", "memory_tools"]
