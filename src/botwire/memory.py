"""Memory: the keys and values of a namespace."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self, TypedDict, TypeVar

from .backoff import MAX_ATTEMPTS, pause_after
from .bridge import blocking, is_on_event_loop
from .errors import Conflict, InvalidArgument
from .history import History
from .limits import MAX_OPERATIONS, check_count, check_name, check_namespace, check_prefix, check_ttl
from .namespace import BlockingBridge, Namespace
from .operations import Clear, Delete, Increment, Operation, Put, Result
from .queries import (
    CountEntries,
    GetEntries,
    GetEntry,
    GetUsage,
    ListChanges,
    ListEntries,
    ListKeys,
    ListSessions,
    Query,
)
from .records import Entry, Hit, Session, Usage
from .search.arguments import search_query
from .search.embedding import Embedder, embedding_of
from .store import Feed, Store
from .stores import EncryptionKey, Lease
from .values import encode
from .watch import Watch, watch_query

T = TypeVar("T")
S = TypeVar("S", bound=Sequence[Any])


class Options(TypedDict, total=False):
    """The options of `Memory` that every adapter takes too, and passes on: how the memory is reached."""

    token: str | None
    timeout: float
    encryption_key: EncryptionKey | None
    embedder: Embedder | None
    embedding_model: str | None
    store: Store | None


class Memory(Namespace):
    """Persistent key-value memory: one namespace, in a file or on a server.

    ::

        memory = Memory("my-agent")
        memory.set("last_action", "processed_invoice_#1234")

    A write that has returned is on disk: it survives a crash and a power cut. Safe to share between threads and to use
    after a fork.

    Args:
        namespace: whose memory: 1 to 128 characters, no ``/``, no control characters, not ``.`` or ``..``.
        url: where it is: ``sqlite:///path``, ``sqlite:///:memory:``, ``postgresql://…`` or ``http(s)://host``. None: the
            environment variable ``BOTWIRE_URL``, or else the file ``botwire.db`` in the user's data folder.
        token: what lets the caller in at a server: one that its operator made, or, to claim the namespace on an open server,
            one of your own of at least 16 characters. It goes to the host of `url` and nowhere else. None: the
            environment variable ``BOTWIRE_TOKEN``, if `url` is None too.
        timeout: seconds that a call may take in all, waiting and retries included.
        encryption_key: what `generate_key` made, or 32 bytes, for values and messages to be encrypted before they leave this
            process (AES-256-GCM), so that neither a server nor a file holds them readable; or a list of such keys, of which
            the first encrypts and all decrypt. Namespaces, keys, session names, sizes and times stay visible.
        embedder: for search by meaning: a callable that takes a list of texts and returns a vector for each (lists of floats,
            all of one length, up to 4,096), or LangChain's ``Embeddings``, or `botwire.search.minilm.MiniLM`. It runs in this process,
            also when the memory is on a server; see `embed`. Not with an `encryption_key`: vectors tell what a text says.
        embedding_model: what its vectors are known by, since those of different models cannot be compared; None: what the
            embedder calls itself.
        store: a `botwire.store.Store` of your own in place of `url` and `token`. You close it; several memories may share it.

    On a thread that runs an event loop, the file is opened or the database is reached when the memory is first used, so
    that making a memory never blocks the loop. Everywhere else it happens at once.

    Raises:
        InvalidName: the namespace is not allowed.
        InvalidArgument: the address, the timeout, the encryption key or the embedder is not one.
        ImportError: an encryption key was given, and the package `cryptography` is not installed.
        StoreError: the file cannot be opened.

    Every method may raise the errors that `botwire.errors` lists for the store behind it: `StoreError`, `Unavailable`,
    `Timeout`, `AuthError`; with an encryption key, reads also `DecryptionError`; writes also `QuotaExceeded` and `StorageExceeded`. A write that raises has changed nothing,
    but for `Timeout` and `Unavailable` over HTTP, where it may have happened, whole, and its answer was lost.
    """

    def __init__(
        self,
        namespace: str,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        encryption_key: EncryptionKey | None = None,
        embedder: Embedder | None = None,
        embedding_model: str | None = None,
        store: Store | None = None,
    ) -> None:
        self._embedding = embedding_of(embedder, embedding_model, encrypted=encryption_key is not None)
        self._namespace = check_namespace(namespace)
        self._lease = Lease(url, token=token, timeout=timeout, encryption_key=encryption_key, store=store)
        self._release = weakref.finalize(self, self._lease.drop)
        self.bridge = BlockingBridge(self._lease, self._namespace)
        if is_on_event_loop():  # opening a store takes time; the first call opens it
            _ = self._lease.address  # raises now if it is not valid
        else:
            self._lease.store()

    @cached_property
    def _store(self) -> Store:
        return self._lease.store()

    @property
    def address(self) -> str:
        """Where the memory is, without secrets."""
        return self._lease.address

    def read(self, query: Query[T]) -> T:
        """Answer a query of `botwire.queries`: the verb under every method that reads.

        For code that needs more than the methods offer, such as an adapter for a framework. Arguments of the query are
        taken as they are: check them with `botwire.limits` first.

        Args:
            query: such as ``GetEntry("key")`` or ``ListKeys(prefix="user/")``.

        Returns:
            What that query says it answers, as of one moment.
        """
        return self._store.read(self._namespace, query)

    def write(self, *operations: Operation, idempotency_key: str | None = None) -> list[Result]:
        """Apply operations of `botwire.operations`, in order, all or none: the verb under every method that writes.

        For code that needs more than the methods offer: for example two keys and a message in one transaction. Names and
        values are taken as they are: check names with `botwire.limits`, encode values with `botwire.values.encode`.

        Args:
            operations: such as ``Put("key", encode(1))``; up to 10,000.
            idempotency_key: the same operations a second time under this key change nothing and return what the first
                call returned. A store remembers a key for at least ten minutes. None: no key.

        Returns:
            A result for each operation, in order. When it returns, all of them are on disk.

        Raises:
            Conflict: an entry is not at its ``if_version``; nothing was written.
            InvalidArgument: too many operations, or the key belongs to another write; nothing was written.
        """
        return self._store.write(self._namespace, limited(operations), idempotency_key=idempotency_key)

    def _changes(self, query: ListChanges) -> Feed:
        return self._store.changes(self._namespace, query)

    @blocking
    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | timedelta | None = None,
        if_version: int | None = None,
    ) -> int:
        """Store a value under a key.

        Args:
            key: 1 to 512 bytes of UTF-8 without control characters.
            value: a JSON value (None, bool, int, finite float, str, list, dict with str keys, up to 100 deep) or bytes; up to
                16 MiB as stored. It comes back exactly as it went in.
            ttl: seconds until the entry is gone; None: never.
            if_version: store only if the entry is at this version (0: only if there is none).

        Returns:
            The entry's new version.

        Raises:
            InvalidName, InvalidValue, InvalidArgument: nothing was sent or written.
            Conflict: the entry is at another version than `if_version`.
        """
        operation = Put(check_name(key), encode(value), check_ttl(ttl), check_count(if_version, "if_version"))
        (version,) = await self.bridge.write(operation)
        assert isinstance(version, int)
        return version

    @blocking
    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value under a key, or the default when there is none."""
        entry = await self.bridge.read(GetEntry(check_name(key)))
        return default if entry is None else entry.value

    @blocking
    async def entry(self, key: str) -> Entry | None:
        """Return the entry under a key (value, version, created_at, updated_at, expires_at), or None."""
        return await self.bridge.read(GetEntry(check_name(key)))

    @blocking
    async def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        (was_there,) = await self.bridge.write(Delete(check_name(key)))
        return bool(was_there)

    @blocking
    async def list_keys(self, prefix: str = "", *, limit: int | None = None, after: str | None = None) -> list[str]:
        """Return the keys that begin with a prefix, in the order of their UTF-8 bytes.

        Args:
            prefix: what they begin with.
            limit: how many at the most; None: all.
            after: only keys behind this one, to go on where another page ended.
        """
        return await self.bridge.read(ListKeys(check_prefix(prefix), _after(after), check_count(limit, "limit")))

    keys = list_keys

    @blocking
    async def items(
        self, prefix: str = "", *, limit: int | None = None, after: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return keys and values, chosen and ordered as by `list_keys`."""
        entries = await self.bridge.read(ListEntries(check_prefix(prefix), _after(after), check_count(limit, "limit")))
        return [(entry.key, entry.value) for entry in entries]

    @blocking
    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return those of these keys that exist, with their values."""
        entries = await self.bridge.read(GetEntries(_names(keys)))
        return {entry.key: entry.value for entry in entries}

    @blocking
    async def set_many(self, values: Mapping[str, Any], *, ttl: float | timedelta | None = None) -> dict[str, int]:
        """Store several values, all or none; at the most 10,000 at once.

        Returns:
            The new version of each.
        """
        seconds = check_ttl(ttl)
        puts = [Put(check_name(key), encode(value), seconds) for key, value in values.items()]
        versions = await self.bridge.write(*limited(puts)) if puts else []
        return {put.key: int(version) for put, version in zip(puts, versions, strict=True)}  # type: ignore[arg-type]

    @blocking
    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove several keys, all in one write; returns how many were there."""
        deletes = [Delete(key) for key in _names(keys)]
        return sum(map(bool, await self.bridge.write(*deletes))) if deletes else 0

    @blocking
    async def increment(self, key: str, by: float = 1) -> int | float:
        """Add to the number under a key and return the sum; a missing key counts as 0, a time to live goes on.

        However many writers there are, no increment is lost.

        Raises:
            InvalidValue: there is something else than a number under the key, or the sum is not finite.
        """
        if type(by) not in {int, float}:
            raise InvalidArgument(f"an increment is an int or a float, not {type(by).__name__}")
        encode(by)
        (total,) = await self.bridge.write(Increment(check_name(key), by))
        assert not isinstance(total, list)
        return total

    @blocking
    async def update(self, key: str, fn: Callable[[Any], Any], default: Any = None) -> Any:
        """Replace a value by what a function makes of it, without losing what others write meanwhile.

        The value is read, passed to the function, and stored if the entry is still at the version that was read; if
        not, all over again, up to 100 times. So the function may be called several times. A time to live goes on.

        Args:
            key: the key.
            fn: takes the value and returns the new one; it should not change the one it is given.
            default: what the function gets when the key is missing.

        Returns:
            The new value.

        Raises:
            Conflict: others were faster every time.
        """
        check_name(key)
        for attempt in range(MAX_ATTEMPTS):
            entry = await self.bridge.read(GetEntry(key))
            value = await self.bridge.call(fn, default if entry is None else entry.value)
            put = Put(key, encode(value), if_version=0 if entry is None else entry.version, keep_ttl=True)
            try:
                await self.bridge.write(put)
            except Conflict:
                await self.bridge.sleep(pause_after(attempt))
            else:
                return value
        raise Conflict(f"key {key!r} was changed by others {MAX_ATTEMPTS} times in a row; nothing was written", key=key)

    @blocking
    async def clear(self, prefix: str = "") -> int:
        """Remove every key, or every key with a prefix; returns how many there were. Sessions stay."""
        (count,) = await self.bridge.write(Clear(check_prefix(prefix)))
        assert isinstance(count, int)
        return count

    @blocking
    async def usage(self) -> Usage:
        """Return what the namespace holds, what it wrote today, and what its plan allows."""
        return await self.bridge.read(GetUsage())

    @blocking
    async def sessions(self, *, limit: int | None = None, before: int | None = None) -> list[Session]:
        """Return the chat sessions of the namespace, the newest first.

        Args:
            limit: how many at the most; None: all.
            before: only sessions older than the one at this `Session.place`, to go on where another page ended.
        """
        return await self.bridge.read(ListSessions(check_count(before, "before"), check_count(limit, "limit")))

    @blocking
    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        kinds: Iterable[str] = ("messages", "entries"),
        session: str | None = None,
        prefix: str = "",
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        neighbours: int = 2,
        half_life: float | timedelta | None = None,
        by: Iterable[str] | None = None,
    ) -> list[Hit]:
        """Return the entries and messages that answer a question best, the best first.

        They are found by their words, wherever these stand in a value: upper and lower case, diacritics and English endings
        make no difference, rare words count for more, and question words for nothing. Whatever the text says, it is a
        question and never a command.

        Args:
            query: a question or some words, as anybody would put it.
            limit: how many hits at the most, up to 1,000.
            kinds: what to search: "messages", "entries", or both.
            session: only messages of this session.
            prefix: only entries whose key begins with it.
            where: paths into a value or a message's data, with dots between (``"data.type"``), and the JSON values that must
                be there.
            since: only what was stored then or later; entries by their last change.
            until: only what was stored before.
            neighbours: how far the score of a message reaches: an answer often lies next to the words that were asked for.
                Half of it goes to the messages beside it, a quarter to the next. 0: only what has the words itself.
            half_life: seconds after which a hit counts half; None: old is as good as new.
            by: "words", "meaning", or both, whose rankings are fused. None: both if the memory has an `embedder`, else words.

        Returns:
            Hits, each with its score, a snippet, and the entry, or the message and its session.

        Raises:
            InvalidArgument: an argument is wrong, or the namespace's index is off, or its values are encrypted.
            Unavailable: a file from before there was an index is being indexed, which each search goes on with.
        """
        asked = search_query(
            query,
            limit=limit,
            kinds=kinds,
            session=session,
            prefix=prefix,
            where=where,
            since=since,
            until=until,
            neighbours=neighbours,
            half_life=half_life,
        )
        return await self._search(asked, by)

    @blocking
    async def embed(self, *, limit: int | None = None, batch: int = 64) -> int:
        """Give vectors to texts that have none of the embedder's model yet; returns how many got one.

        A write never waits for an embedder. A search embeds first what is missing, but no more than 32 texts; for more, call this
        whenever there is time: after an import, in a thread of its own, from cron. Each batch is kept as soon as it is made, so
        it can be stopped at any time and goes on from there. Until then texts are found by their words.

        Args:
            limit: how many texts at the most; None: all.
            batch: how many the embedder gets at once, up to 500.

        Raises:
            InvalidArgument: the memory has no embedder, or the embedder's vectors are wrong.
            StorageExceeded: the vectors would take more bytes than the namespace's plan allows.
        """
        return await self._embed(limit, batch)

    def watch(
        self, prefix: str = "", *, after: int | None = None, session: str | None = None, wait: float | None = None
    ) -> Watch:
        """Return what changes from now on, by whomever, as an iterator that waits for each change.

        ::

            for change in memory.watch("user/"):
                print(change.kind, change.key, change.value)

        A change is told of some milliseconds after it is on disk, once, in order, and with what is stored by then: a key that
        was set ten times meanwhile is told of once, with its last value. Whoever makes every change that is told in a copy
        holds exactly what the memory holds, whenever nothing more is told. To begin such a copy: make the watch, read
        everything, then iterate. A connection that is cut is made anew and nothing is missed; an error is raised
        when that fails for as long as the memory's timeout.

        Args:
            prefix: only changes of keys that begin with it; with nothing else given, all changes, those of sessions too.
            after: go on behind this version, one of a change or of a watch; None: from now on; 0: from the beginning, if all
                is kept. Some 40,000 changes of a namespace are kept, 1 MB of keys and names.
            session: only changes of this session.
            wait: the iteration is over when there was no change for so many seconds (0: when all that is there is told); it
                can be iterated again. None: never.

        Raises:
            ChangesLost: when iterated: the changes since then are not all kept any more; read everything again.
        """
        return Watch(self._changes(watch_query(prefix, session=session, after=after)), wait)

    def history(self, session_id: str) -> History:
        """Return the chat history of a session; it does not have to exist yet."""
        return History(self, session_id)

    def reencrypt(self, *, plain: bool = False) -> int:
        """Encrypt anew what is not under the first of the encryption keys; returns how many values that were.

        Each is replaced only if nobody has changed it meanwhile, and keeps its time to live. Messages cannot be replaced:
        keep the old keys in the list for as long as you keep the sessions that were written with them.

        Args:
            plain: also encrypt values that are not encrypted at all, which are otherwise refused. Only for a store that
                nobody else could write to until now: whatever is there is taken for yours.

        Raises:
            InvalidArgument: the memory has no encryption key.
            DecryptionError: a value is under none of the keys; those before it are done.
        """
        return self._lease.encrypted().reencrypt(self._namespace, plain=plain)

    def close(self) -> None:
        """Close the memory, and its store if no other memory uses it. Nothing is pending: a write that returned is on disk.

        A store that was passed as ``store=`` stays open.
        """
        self._release.detach()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The habits of a dict

    def __getitem__(self, key: str) -> Any:
        entry = self.entry(key)
        if entry is None:
            raise KeyError(key)
        return entry.value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.entry(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.list_keys())

    @blocking
    async def __len__(self) -> int:
        """How many keys there are."""
        return await self.bridge.read(CountEntries())

    def __bool__(self) -> bool:
        """A memory is always true, so that ``memory or …`` asks no server and means the object, not what is in it."""
        return True


def _after(key: str | None) -> str:
    return "" if key is None else check_prefix(key)


def _names(keys: Iterable[str]) -> tuple[str, ...]:
    if isinstance(keys, str):
        raise InvalidArgument("keys is a list of keys, not one str")
    return tuple(limited([check_name(key) for key in keys]))


def limited(operations: S) -> S:
    """Return operations or messages, or raise `InvalidArgument` when there are more than one write may hold."""
    if len(operations) > MAX_OPERATIONS:
        raise InvalidArgument(
            f"at most {MAX_OPERATIONS:,} keys or messages at once, not {len(operations):,}: split them"
        )
    return operations
