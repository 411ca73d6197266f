"""CrewAI: the storage of its memory, the persistence of its flows, and tools to remember facts."""

try:
    from .flows import BotWireFlowPersistence
    from .storage import BotWireStorage
    from .tools import memory_tools
except ModuleNotFoundError as error:
    if error.name not in {"crewai", "numpy"}:
        raise
    missing = "botwire.adapters.crewai needs crewai: pip install 'botwire[crewai]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["BotWireFlowPersistence", "BotWireStorage", "memory_tools"]
