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
from typing import Any
from uuid import UUID

import msgspec
from agent_framework import AgentSession, WorkflowCheckpointException
from agent_framework._workflows import _checkpoint_encoding as encoding
from pydantic import BaseModel

_MARK = "$"


def _by_key(*classes: Any) -> dict[str, Any]:
    return {f"{cls.__module__}:{cls.__qualname__}": cls for cls in classes}


_CALLED = _by_key(
    *(complex, bytearray, set, frozenset, range, slice, datetime, date, time, timedelta, timezone, Decimal),
    *(OrderedDict, defaultdict, deque, Counter),
)
"""Python's types whose values are created by their constructors."""
_PYTHON = (
    _CALLED | _by_key(bool, int, float, str, bytes, list, tuple, dict, object, type(None), UUID) | {"typing:Any": Any}
)
"""Python's types that every checkpoint may contain."""
_FRAMEWORK = ("agent_framework.", "agent_framework_orchestrations.")


class Codec:
    """Encodes objects as JSON, and creates only allowed objects when it decodes it.

    JSON values are stored unchanged. Any other object is a dict with ``$``, whose kind is ``float`` (not finite), ``dict``, ``tuple``,
    ``bytes``, ``class``, ``enum``, ``new`` (created without its constructor, then given its state) or ``call`` (by its constructor).
    The object itself reports its parts, by Python's protocol for copies
    (https://docs.python.org/3/library/pickle.html#object.__reduce_ex__).
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)

    def dumps(self, value: Any) -> str:
        """Return an object as JSON text."""
        try:
            return msgspec.json.encode(self._encoded(value)).decode()
        except RecursionError as error:
            raise WorkflowCheckpointException("the checkpoint is nested too deep, or contains itself") from error
        except (TypeError, UnicodeEncodeError) as error:
            raise WorkflowCheckpointException(f"the checkpoint cannot be stored: {error}") from error

    def loads(self, text: str) -> Any:
        """Return the object that a JSON text describes."""
        try:
            return self._decoded(msgspec.json.decode(text))
        except WorkflowCheckpointException:
            raise
        except Exception as error:  # the setters of an allowed class may raise anything
            raise WorkflowCheckpointException(f"the checkpoint is damaged: {error}") from error

    def _encoded(self, value: Any) -> Any:
        kind = type(value)
        if kind in {str, int, bool, type(None)} or (kind is float and math.isfinite(value)):
            return value
        if kind is list:
            return [self._encoded(item) for item in value]
        if kind is dict and all(type(key) is str for key in value) and _MARK not in value:
            return {key: self._encoded(item) for key, item in value.items()}
        return self._marked(kind, value)

    def _marked(self, kind: Any, value: Any) -> dict[str, Any]:
        marked: dict[str, Any]
        if kind is float:
            marked = {_MARK: "float", "value": repr(value)}
        elif kind is dict:
            marked = {_MARK: "dict", "items": self._encoded_pairs(value.items())}
        elif kind is tuple:
            marked = {_MARK: "tuple", "items": self._encoded(list(value))}
        elif kind is bytes:
            marked = {_MARK: "bytes", "base64": base64.b64encode(value).decode()}
        elif isinstance(value, Enum):
            marked = {_MARK: "enum", "class": self._key(kind), "value": self._encoded(value.value)}
        elif isinstance(value, type) or value is Any:
            marked = {_MARK: "class", "class": self._key(value)}
        else:
            marked = self._parts(value)
        return marked

    def _parts(self, value: Any) -> dict[str, Any]:
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
            "arguments": self._encoded(list(arguments)),
            "state": self._encoded(state),
            "items": self._encoded(list(items or ())),
            "pairs": self._encoded_pairs(pairs or ()),
        }

    def _encoded_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
        return [[self._encoded(key), self._encoded(item)] for key, item in pairs]

    def _decoded(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._decoded(item) for item in value]
        if not isinstance(value, dict):
            return value
        if _MARK in value:
            return self._unmarked(value[_MARK], value)
        return {key: self._decoded(item) for key, item in value.items()}

    def _unmarked(self, kind: str, value: Mapping[str, Any]) -> Any:
        made: Any
        if kind == "float":
            made = float(value["value"])
        elif kind == "dict":
            made = {self._decoded(key): self._decoded(item) for key, item in value["items"]}
        elif kind == "tuple":
            made = tuple(self._decoded(item) for item in value["items"])
        elif kind == "bytes":
            made = base64.b64decode(value["base64"], validate=True)
        elif kind == "class":
            made = self._class(value["class"])
        elif kind == "enum" and issubclass(cls := self._class(value["class"]), Enum):
            made = cls(self._decoded(value["value"]))
        elif kind == "new" or (kind == "call" and self._may_call(value["class"])):
            made = self._made(self._class(value["class"]), value)
        else:
            raise WorkflowCheckpointException(f"a checkpoint holds no {kind!r} of {value.get('class')}")
        return made

    def _made(self, cls: Any, value: Mapping[str, Any]) -> Any:
        arguments = [self._decoded(item) for item in value["arguments"]]
        made = cls.__new__(cls, *arguments) if value[_MARK] == "new" else cls(*arguments)
        state = self._decoded(value["state"])
        if state is not None and hasattr(made, "__setstate__"):
            made.__setstate__(state)
        elif state is not None:
            attributes, slots = state if isinstance(state, tuple) else (state, None)
            for name, item in {**(attributes or {}), **(slots or {})}.items():
                _set(made, name, item)
        for item in value["items"]:
            made.add(self._decoded(item)) if isinstance(made, set) else made.append(self._decoded(item))
        for name, item in value["pairs"]:
            made[self._decoded(name)] = self._decoded(item)
        return made

    def _may_call(self, key: str) -> bool:
        return key in _CALLED or key in self._named()

    def _named(self) -> frozenset[str]:
        """Return the classes that the program allows here, or has registered with the framework."""
        return self._allowed | getattr(encoding, "_REGISTERED_CHECKPOINT_TYPE_KEYS", frozenset())

    def _key(self, cls: Any) -> str:
        key = "typing:Any" if cls is Any else f"{cls.__module__}:{cls.__qualname__}"
        if self._class(key) is not cls:
            raise WorkflowCheckpointException(f"{key} is not found under this name: define the class in a module")
        return key

    def _class(self, key: str) -> Any:
        """Return the class of a name, if it is allowed. Only an allowed name may cause an import."""
        if key in _PYTHON:
            return _PYTHON[key]
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
    """Return whether this is a class of the framework or of OpenAI that only holds data."""
    if not isinstance(cls, type) or cls.__module__ != module:
        return False
    if module.startswith("openai.types."):
        return issubclass(cls, BaseModel)
    if module in {"agent_framework._types", "agent_framework._workflows._events"}:
        return True
    return module.startswith(_FRAMEWORK) and (
        dataclasses.is_dataclass(cls) or issubclass(cls, Enum | BaseModel) or cls is AgentSession
    )


def _found(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _set(made: Any, name: str, item: Any) -> None:
    """Set an attribute as unpickling does, also in a frozen class and without calling a property."""
    if name.startswith("__"):
        raise WorkflowCheckpointException(f"a checkpoint may not set {name}")
    slots = {slot for base in type(made).__mro__ for slot in getattr(base, "__slots__", ())}
    if hasattr(made, "__dict__") and name not in slots:
        made.__dict__[name] = item
    else:
        object.__setattr__(made, name, item)
