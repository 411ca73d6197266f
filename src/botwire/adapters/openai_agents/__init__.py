"""BotWireSession: a persistent session for the OpenAI Agents SDK."""

from .._base import needs

with needs("agents", "BotWireSession needs openai-agents: pip install 'botwire[openai-agents]'"):
    from .session import BotWireSession

__all__ = ["BotWireSession"]
