"""BotWireStorage: the storage of CrewAI's memory."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from ...aio import AsyncMemory
from ...bridge import blocking
from ...memory import Memory, Options
from .._base import OverMemory
from .records import Records

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[Records, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BotWireStorage, P], T]:
    """Return a method of `Records` as one of the storage that returns when the work is done."""

    @wraps(method)
    def run(self: BotWireStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return blocking(method)(self._records, *args, **kwargs)

    return run


def _awaited(
    method: Callable[Concatenate[Records, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BotWireStorage, P], Coroutine[Any, Any, T]]:
    """Return a method of `Records` as one of the storage for event loops."""

    @wraps(method)
    async def run(self: BotWireStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await method(self._async_records, *args, **kwargs)

    return run


class BotWireStorage(OverMemory):
    """A persistent storage backend for CrewAI's memory. Threads, processes and crews can share it.

    ::

        crew = Crew(agents=…, tasks=…, memory=Memory(storage=BotWireStorage()))

    It implements CrewAI's `StorageBackend`, and scores as its default, `LanceDBStorage`, does: 1 / (1 + squared distance). A call
    that saves returns when the records are on disk.

    A scope is a path: ``/user/1`` contains ``/user/1/notes``, but not ``/user/10``. A search without filters reads the embeddings in
    the scope, and the records that it returns. With filters it reads the records in the scope, and the embeddings of those that match.

    Records are stored as JSON. Fields of a subclass of `MemoryRecord` come back as extra fields. Embeddings are stored as 32-bit
    floats, as in LanceDB. A call that is cancelled saves a whole batch or nothing of it.

    Args:
        namespace: the namespace of the records. Keys that do not begin with ``crewai:`` are free for other use.
        url: the address, as for `botwire.Memory`.
        options: as for `botwire.Memory`, whose errors the constructor and every method may raise too.
    """

    def __init__(self, namespace: str = "crewai-memory", url: str | None = None, **options: Unpack[Options]) -> None:
        self._memory = Memory(namespace, url, **options)
        self._records = Records(self._memory)
        self._async_records = Records(AsyncMemory.of(self._memory))

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a crew shares its storage."""
        return self

    save = _blocking(Records.save)
    search = _blocking(Records.search)
    delete = _blocking(Records.delete)
    update = _blocking(Records.update)
    get_record = _blocking(Records.get_record)
    list_records = _blocking(Records.list_records)
    get_scope_info = _blocking(Records.get_scope_info)
    list_scopes = _blocking(Records.list_scopes)
    list_categories = _blocking(Records.list_categories)
    count = _blocking(Records.count)
    reset = _blocking(Records.reset)
    touch_records = _blocking(Records.touch_records)
    asave = _awaited(Records.save)
    asearch = _awaited(Records.search)
    adelete = _awaited(Records.delete)
