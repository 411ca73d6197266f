"""BotWireHistoryProvider and BotWireCheckpointStorage for Microsoft's Agent Framework.

Messages are stored as their `to_dict` has them. Checkpoints hold objects of any kind; they are stored as JSON that says what
each is made of, and never run. Loading makes values of Python, data classes of the framework, and classes that the
program has allowed; it calls no constructor but theirs, and imports nothing that the data names.
"""

from __future__ import annotations

import base64
import copyreg
import dataclasses
import logging
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from importlib import import_module
from inspect import signature
from typing import Any, Unpack
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from ...aio import AsyncMemory
from ...errors import InvalidValue
from ...limits import check_name
from ...memory import Memory, Options
from ...records import Delete, Operation, Put
from ...values import encode

try:
    import agent_framework._sessions as sessions
    from agent_framework import HistoryProvider, Message, WorkflowCheckpoint, WorkflowCheckpointException
    from agent_framework._workflows import _checkpoint_encoding as encoding
    from pydantic import BaseModel
except ModuleNotFoundError as error:
    if error.name != "agent_framework":
        raise
    missing = "botwire.adapters.agent_framework needs agent-framework-core: pip install 'botwire[agent-framework]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["BotWireCheckpointStorage", "BotWireHistoryProvider"]

_log = logging.getLogger(__name__)


class BotWireHistoryProvider(HistoryProvider):
    """What agents and their users said, kept beyond the process.

    ::

        agent = Agent(client, context_providers=[BotWireHistoryProvider()])
        session = agent.create_session(session_id="user-42")
        await agent.run("My name is Ada.", session=session)

    Messages are on disk when a run is over. Any number of agents, threads, processes and event loops may add to a session
    at once. Messages that an agent passes on again are stored once, by the rule of the framework's own providers. A message of a
    subclass comes back as a `Message`, with the subclass's own fields as attributes.

    Args:
        namespace: the namespace that the sessions are in.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        source_id: the name of this provider among those of the agent.
        load_messages: whether the agent gets to see the messages that are stored.
        store_inputs: whether to store what the agent is told.
        store_context_messages: whether to store what other providers add.
        store_context_from: of which providers. None: of all.
        store_outputs: whether to store what the agent answers.
        skip_excluded: leave out messages that a compaction has marked as ``_excluded``.
        options: as for `botwire.Memory`.

    Raises:
        InvalidName, InvalidArgument: the namespace, the address or an option is not allowed.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `botwire.Memory` names.
    """

    DEFAULT_SOURCE_ID = "botwire_history"
    DEFAULT_SESSION = "default"

    def __init__(
        self,
        namespace: str = "agent-framework-sessions",
        url: str | None = None,
        *,
        source_id: str = DEFAULT_SOURCE_ID,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
        skip_excluded: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self.skip_excluded = skip_excluded
        self._memory = Memory(namespace, url, **options)
        self._twin = AsyncMemory.of(self._memory)

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """Return the messages of a session in order; None is the session ``default``.

        Raises:
            InvalidValue: somebody put something into the session that is not a message of the framework.
        """
        del state, kwargs
        messages = await self._stored(session_id)
        if self.skip_excluded:
            return [message for message in messages if not message.additional_properties.get("_excluded", False)]
        return messages

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add messages at the end of a session, at the most 10,000, all or none; they are on disk when this returns.

        Raises:
            InvalidValue: a message holds something that JSON does not know, or would not come back; nothing was written.
            QuotaExceeded, StorageExceeded: the plan does not allow it; nothing was written.
        """
        del state, kwargs
        new = list(messages)
        if new and hasattr(sessions, "filter_new_messages"):
            # It looks for an overlap, which is not longer than what is new, and for all of a session that is shorter.
            new = sessions.filter_new_messages(await self._stored(session_id, len(new) + 1), new)
        if new:
            await self._twin.history(session_id or self.DEFAULT_SESSION).append([_message_to_item(one) for one in new])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"

    async def _stored(self, session_id: str | None, last: int | None = None) -> list[Message]:
        records = await self._twin.history(session_id or self.DEFAULT_SESSION).messages(last)
        return [_item_to_message(record.data, record.seq) for record in records]


def _message_to_item(message: Message) -> dict[str, Any]:
    if not isinstance(message, Message):
        raise InvalidValue(f"a history of Agent Framework holds messages, not {type(message).__name__}")
    item: dict[str, Any] = message.to_dict()
    if item["type"] != _TYPE:
        item = item | {"type": _TYPE, "original_type": item["type"]}
    try:
        _made(item)
    except _UNREADABLE as error:
        raise InvalidValue(f"the {type(message).__name__} would not come back: {error}") from error
    return item


def _item_to_message(item: Any, seq: int) -> Message:
    try:
        return _made(item)
    except _UNREADABLE as error:
        raise InvalidValue(f"message {seq} of the session is not one of Agent Framework: {error}") from error


_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
_FIELDS = frozenset(signature(Message).parameters) | {"type"}
_TYPE: str = Message("user").to_dict()["type"]


def _made(item: Any) -> Message:
    """Return a message, with the fields of somebody's subclass, or of a newer release, as attributes."""
    message = Message.from_dict({name: value for name, value in item.items() if name in _FIELDS})
    for name in item.keys() - _FIELDS:
        if name.startswith("_") or hasattr(message, name):
            raise ValueError(f"a message has no field {name!r}")
        setattr(message, name, item[name])
    return message


_ID, _CHECKPOINT = "id:", "checkpoint:"


class BotWireCheckpointStorage:
    """Where workflows keep their checkpoints, beyond the process.

    ::

        storage = BotWireCheckpointStorage(allowed_checkpoint_types=["my_app.models:Order"])
        workflow = WorkflowBuilder(start_executor=first, checkpoint_storage=storage).build()

    It is the framework's `CheckpointStorage`. A checkpoint is on disk when `save` returns, and comes back as it was.
    It may hold values of Python (also tuples, sets, dates, UUIDs, decimals, the classes of `collections`), data of the framework and
    of ``openai.types``, and your own classes that you allow here, or with the framework's `register_checkpoint_type`. Anything
    else is refused when it is saved.

    Loading a checkpoint makes nothing else either, whoever wrote it: nothing is unpickled, and no class is imported
    because the data names it.

    Args:
        namespace: the namespace to keep the checkpoints in.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        allowed_checkpoint_types: your own classes, each as ``"module:qualname"``.
        options: as for `botwire.Memory`.

    Raises:
        InvalidName, InvalidArgument: the namespace, the address or an option is not allowed.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `botwire.Memory` names.
    """

    def __init__(
        self,
        namespace: str = "agent-framework-checkpoints",
        url: str | None = None,
        *,
        allowed_checkpoint_types: list[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._memory = Memory(namespace, url, **options)
        self._twin = AsyncMemory.of(self._memory)
        self._codec = _Codec(allowed_checkpoint_types or ())

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Store a checkpoint and return its id; one with the same id is replaced.

        Raises:
            WorkflowCheckpointException: it holds something that is not allowed; nothing was written.
            InvalidValue: it has more than 16 MiB; nothing was written.
        """
        text = self._codec.dumps(checkpoint.to_dict())
        id_key, place = _id_key(checkpoint.checkpoint_id), _place(checkpoint.workflow_name, checkpoint.checkpoint_id)
        before = await self._twin.get(id_key)
        moved: list[Operation] = [] if before is None or before["place"] == place else [Delete(before["place"])]
        about = {"place": place, "timestamp": checkpoint.timestamp}
        await self._twin._write(*moved, Put(id_key, encode(about)), Put(place, encode(text)))
        return str(checkpoint.checkpoint_id)

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """Return a checkpoint.

        Raises:
            WorkflowCheckpointException: there is none with this id, or it holds something that is not allowed.
        """
        about = await self._twin.get(_id_key(checkpoint_id))
        text = None if about is None else await self._twin.get(about["place"])
        if text is None:
            raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")
        return self._restored(text)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """Return the checkpoints of a workflow, the oldest first; as in the framework's own storage, but for those that cannot be read."""
        checkpoints = []
        for place, text in await self._twin.items(_place(workflow_name)):
            try:
                checkpoints.append(self._restored(text))
            except WorkflowCheckpointException as error:
                _log.warning("The checkpoint %s cannot be read: %s", place, error)
        return sorted(checkpoints, key=lambda checkpoint: _moment(checkpoint.timestamp))

    async def delete(self, checkpoint_id: str) -> bool:
        """Remove a checkpoint; whether there was one."""
        about = await self._twin.get(_id_key(checkpoint_id))
        if about is None:
            return False
        return bool(await self._twin.delete_many([about["place"], _id_key(checkpoint_id)]))

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """Return the checkpoint of a workflow with the latest timestamp, or None; no other is read."""
        ids = await self.list_checkpoint_ids(workflow_name=workflow_name)
        return await self.load(ids[-1]) if ids else None

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """Return the ids of the checkpoints of a workflow, the oldest first."""
        places = await self._twin.list_keys(_place(workflow_name))
        about = await self._twin.get_many(_ID + place.rpartition("#")[2] for place in places)
        found = sorted(about.items(), key=lambda pair: _moment(pair[1]["timestamp"]))
        return [unquote(key.removeprefix(_ID)) for key, _ in found]

    def _restored(self, text: str) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_dict(self._codec.loads(text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._memory.namespace!r}, {self._memory.address!r})"


def _id_key(checkpoint_id: str) -> str:
    return check_name(_ID + quote(checkpoint_id, safe=""))


def _place(workflow_name: str, checkpoint_id: str = "") -> str:
    return check_name(f"{_CHECKPOINT}{quote(workflow_name, safe='')}#{quote(checkpoint_id, safe='')}")


def _moment(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


# Objects ⇄ JSON

_MARK = "$"


def _by_key(*classes: Any) -> dict[str, Any]:
    return {f"{cls.__module__}:{cls.__qualname__}": cls for cls in classes}


_MADE = _by_key(
    *(complex, bytearray, set, frozenset, range, slice, datetime, date, time, timedelta, timezone, Decimal),
    *(OrderedDict, defaultdict, deque, Counter),
)
"""Values of Python that their constructors make."""
_VALUES = _MADE | _by_key(bool, int, float, str, bytes, list, tuple, dict, object, type(None), UUID)
_VALUES["typing:Any"] = Any
"""What any checkpoint may hold, and refer to as a class."""
_FRAMEWORK = ("agent_framework.", "agent_framework_orchestrations.")


class _Codec:
    """Writes objects as JSON, and makes only what is allowed when it reads it.

    JSON values stand for themselves. Everything else is a dict with ``$`` in it, whose kind is one of ``float`` (not finite),
    ``dict``, ``tuple``, ``bytes``, ``class``, ``enum``, ``new`` (made without its constructor, then given its state) and
    ``call`` (made by its constructor). What an object is made of, it says itself, by Python's protocol for copies
    (https://docs.python.org/3/library/pickle.html#object.__reduce_ex__).
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)

    def dumps(self, value: Any) -> str:
        try:
            return msgspec.json.encode(self._plain(value)).decode()
        except RecursionError as error:
            raise WorkflowCheckpointException("the checkpoint is nested too deep, or contains itself") from error
        except (TypeError, UnicodeEncodeError) as error:
            raise WorkflowCheckpointException(f"the checkpoint cannot be stored: {error}") from error

    def loads(self, text: str) -> Any:
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
        if key in _VALUES:
            return _VALUES[key]
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
