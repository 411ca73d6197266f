"""Checkpoint objects as JSON, rebuilt only as types that are allowed."""

from __future__ import annotations

import base64
import copyreg
import dataclasses
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from importlib import import_module
from inspect import signature
from typing import Any
from uuid import UUID

import agent_framework._sessions as sessions
import msgspec
from agent_framework import Message, WorkflowCheckpointException
from agent_framework._workflows import _checkpoint_encoding as encoding
from pydantic import BaseModel

UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
_FIELDS = frozenset(signature(Message).parameters) | {"type"}
TYPE: str = Message("user").to_dict()["type"]


def message_from(item: Any) -> Message:
    """Return a message, with the fields of a subclass, or of a newer release, as attributes."""
    message = Message.from_dict({name: value for name, value in item.items() if name in _FIELDS})
    for name in item.keys() - _FIELDS:
        if name.startswith("_") or hasattr(message, name):
            raise ValueError(f"a message has no field {name!r}")
        setattr(message, name, item[name])
    return message


_MARK = "$"


def _by_key(*classes: Any) -> dict[str, Any]:
    return {f"{cls.__module__}:{cls.__qualname__}": cls for cls in classes}


_MADE = _by_key(
    *(complex, bytearray, set, frozenset, range, slice, datetime, date, time, timedelta, timezone, Decimal),
    *(OrderedDict, defaultdict, deque, Counter),
)
"""Values of Python that their constructors make."""
VALUES = _MADE | _by_key(bool, int, float, str, bytes, list, tuple, dict, object, type(None), UUID)
_FRAMEWORK = ("agent_framework.", "agent_framework_orchestrations.")


class Codec:
    """Writes objects as JSON, and makes only what is allowed when it reads it.

    JSON values are stored as they are. Everything else is a dict with ``$`` in it, whose kind is one of ``float`` (not finite),
    ``dict``, ``tuple``, ``bytes``, ``class``, ``enum``, ``new`` (made without its constructor, then given its state) and
    ``call`` (made by its constructor). What an object is made of, it says itself, by Python's protocol for copies
    (https://docs.python.org/3/library/pickle.html#object.__reduce_ex__).
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)

    def dumps(self, value: Any) -> str:
        """Return an object as JSON text."""
        try:
            return msgspec.json.encode(self._plain(value)).decode()
        except RecursionError as error:
            raise WorkflowCheckpointException("the checkpoint is nested too deep, or contains itself") from error
        except (TypeError, UnicodeEncodeError) as error:
            raise WorkflowCheckpointException(f"the checkpoint cannot be stored: {error}") from error

    def loads(self, text: str) -> Any:
        """Return the object that a JSON text describes."""
        try:
            return self._made(msgspec.json.decode(text))
        except WorkflowCheckpointException:
            raise
        except Exception as error:  # whatever the setters of an allowed class raise
            raise WorkflowCheckpointException(f"the checkpoint is damaged: {error}") from error

    def _plain(self, value: Any) -> Any:
        kind = type(value)
        if kind in {str, int, bool, type(None)} or (kind is float and math.isfinite(value)):
            return value
        if kind is list:
            return [self._plain(item) for item in value]
        if kind is dict and all(type(key) is str for key in value) and _MARK not in value:
            return {key: self._plain(item) for key, item in value.items()}
        return self._marked(kind, value)

    def _marked(self, kind: Any, value: Any) -> dict[str, Any]:
        plain: dict[str, Any]
        if kind is float:
            plain = {_MARK: "float", "value": repr(value)}
        elif kind is dict:
            plain = {_MARK: "dict", "items": [[self._plain(key), self._plain(item)] for key, item in value.items()]}
        elif kind is tuple:
            plain = {_MARK: "tuple", "items": [self._plain(item) for item in value]}
        elif kind is bytes:
            plain = {_MARK: "bytes", "base64": base64.b64encode(value).decode()}
        elif isinstance(value, Enum):
            plain = {_MARK: "enum", "class": self._key(kind), "value": self._plain(value.value)}
        elif isinstance(value, type) or value is Any:
            plain = {_MARK: "class", "class": self._key(value)}
        else:
            plain = self._taken_apart(value)
        return plain

    def _taken_apart(self, value: Any) -> dict[str, Any]:
        key = self._key(type(value))
        reduced = value.__reduce_ex__(4)
        call, arguments, *rest = reduced if isinstance(reduced, tuple) else (None, ())
        state, items, pairs = (*rest, None, None, None)[:3]
        how = "call"
        if call is copyreg.__newobj__:  # type: ignore[attr-defined]
            how, (call, *arguments) = "new", arguments
        if call is not type(value) or (how == "call" and not self._may_call(key)):
            raise WorkflowCheckpointException(f"a {key} cannot be taken apart and made again from data")
        return {
            _MARK: how,
            "class": key,
            "arguments": [self._plain(item) for item in arguments],
            "state": self._plain(state),
            "items": [self._plain(item) for item in items or ()],
            "pairs": [[self._plain(name), self._plain(item)] for name, item in pairs or ()],
        }

    def _made(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._made(item) for item in value]
        if not isinstance(value, dict):
            return value
        if _MARK not in value:
            return {key: self._made(item) for key, item in value.items()}
        return self._unmarked(value[_MARK], value)

    def _unmarked(self, kind: str, value: Mapping[str, Any]) -> Any:
        made: Any
        if kind == "float":
            made = float(value["value"])
        elif kind == "dict":
            made = {self._made(key): self._made(item) for key, item in value["items"]}
        elif kind == "tuple":
            made = tuple(self._made(item) for item in value["items"])
        elif kind == "bytes":
            made = base64.b64decode(value["base64"], validate=True)
        elif kind == "class":
            made = self._class(value["class"])
        elif kind == "enum" and issubclass(cls := self._class(value["class"]), Enum):
            made = cls(self._made(value["value"]))
        elif kind == "new" or (kind == "call" and self._may_call(value["class"])):
            made = self._put_together(self._class(value["class"]), value)
        else:
            raise WorkflowCheckpointException(f"a checkpoint holds no {kind!r} of {value.get('class')}")
        return made

    def _put_together(self, cls: Any, value: Mapping[str, Any]) -> Any:
        arguments = [self._made(item) for item in value["arguments"]]
        made = cls.__new__(cls, *arguments) if value[_MARK] == "new" else cls(*arguments)
        state = self._made(value["state"])
        if state is not None and hasattr(made, "__setstate__"):
            made.__setstate__(state)
        elif state is not None:
            attributes, slots = state if isinstance(state, tuple) else (state, None)
            for name, item in {**(attributes or {}), **(slots or {})}.items():
                _set(made, name, item)
        for item in value["items"]:
            made.add(self._made(item)) if isinstance(made, set) else made.append(self._made(item))
        for name, item in value["pairs"]:
            made[self._made(name)] = self._made(item)
        return made

    def _may_call(self, key: str) -> bool:
        return key in _MADE or key in self._named()

    def _named(self) -> frozenset[str]:
        return self._allowed | getattr(encoding, "_REGISTERED_CHECKPOINT_TYPE_KEYS", frozenset())

    def _key(self, cls: Any) -> str:
        key = "typing:Any" if cls is Any else f"{cls.__module__}:{cls.__qualname__}"
        if self._class(key) is not cls:
            raise WorkflowCheckpointException(f"{key} is not found under this name: define the class in a module")
        return key

    def _class(self, key: str) -> Any:
        """Return the class of a name, if it is allowed."""
        if key in VALUES:
            return VALUES[key]
        module, _, name = key.partition(":")
        if key in self._named():
            return _found(import_module(module), name)
        cls = _found(sys.modules.get(module), name) if "." not in name else None
        if _is_data(module, cls):
            return cls
        raise WorkflowCheckpointException(
            f"a checkpoint may not hold {key}: to allow it, add {key!r} to allowed_checkpoint_types"
        )


def _is_data(module: str, cls: Any) -> bool:
    """Whether a class of the framework or of OpenAI holds data, and does nothing else."""
    if not isinstance(cls, type) or cls.__module__ != module:
        return False
    if module.startswith("openai.types."):
        return issubclass(cls, BaseModel)
    if module in {"agent_framework._types", "agent_framework._workflows._events"}:
        return True
    return module.startswith(_FRAMEWORK) and (
        dataclasses.is_dataclass(cls) or issubclass(cls, Enum | BaseModel) or cls is sessions.AgentSession
    )


def _found(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _set(made: Any, name: str, item: Any) -> None:
    """Set an attribute as unpickling does, beside what a frozen class or a property would say."""
    if name.startswith("__"):
        raise WorkflowCheckpointException(f"a checkpoint may not set {name}")
    if hasattr(made, "__dict__") and name not in _slots(type(made)):
        made.__dict__[name] = item
    else:
        object.__setattr__(made, name, item)


def _slots(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name in getattr(base, "__slots__", ())}
