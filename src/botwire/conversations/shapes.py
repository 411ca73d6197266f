"""What a message is: its role, its tool calls and results, in each format. The format is found for each message."""

from __future__ import annotations

from typing import Any

from .formats.autogen import autogen_answers, autogen_shape, is_autogen
from .formats.chat import chat_answers, chat_shape
from .formats.langchain import is_langchain, langchain_answers, langchain_shape
from .formats.pydantic_ai import is_pydantic_ai, pydantic_ai_answers, pydantic_ai_shape
from .formats.responses import is_item, item_answers, item_shape
from .marks import PLAIN, ROLES, Mark, Shape

__all__ = ["Shape", "answers", "shape_of"]

_TEXT = {name: Shape(role=role, format="chat") for name, role in ROLES.items()}
"""The shapes of messages that are a role and a text."""


def shape_of(data: Any) -> Shape:
    """Return what a message is.

    It knows the messages of OpenAI chat and Responses, Anthropic, LangChain, Pydantic AI, AutoGen, LlamaIndex, Agent Framework and the
    OpenAI Agents SDK, and dicts with a role. Other JSON values have no role. What has the wrong type in a message is ignored.
    """
    if type(data) is not dict:
        return PLAIN
    if len(data) == 2 and type(role := data.get("role")) is str and type(text := data.get("content")) is str:
        found = _TEXT.get(role)
        if found is not None and found.role != "tool" and text and not text.isspace():
            return found
    return _read(data)


def _read(data: dict[str, Any]) -> Shape:
    type_ = data.get("type")
    if type(type_) is str:
        if is_langchain(data):
            return langchain_shape(data)
        if is_autogen(data):
            return autogen_shape(data)
        if is_item(type_):
            return item_shape(data)
    if is_pydantic_ai(data):
        return pydantic_ai_shape(data)
    return chat_shape(data) if "role" in data else PLAIN


_ANSWERS = {
    "langchain": langchain_answers,
    "pydantic_ai": pydantic_ai_answers,
    "autogen": autogen_answers,
    "responses": item_answers,
}


def answers(data: Any, shape: Shape, calls: list[Mark], text: str) -> list[Any]:
    """Return messages that have a text as the result of calls of a message, in its format."""
    return _ANSWERS.get(shape.format, chat_answers)(data, calls, text)
