"""Memory: the keys and values of a namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self, TypedDict, TypeVar
from weakref import WeakSet

from .backoff import MAX_ATTEMPTS, pause_after
from .bridge import BlockingBridge, blocking, is_on_event_loop
from .errors import Conflict, InvalidArgument
from .history import History
from .limits import MAX_OPERATIONS, check_count, check_name, check_prefix, check_ttl
from .operations import Clear, Delete, Increment, Operation, Put, Result
from .queries import CountEntries, GetEntries, GetEntry, GetUsage, ListEntries, ListKeys, Query
from .records import Entry, Hit, Usage
from .search.arguments import search_query
from .search.embedding import Embedder
from .sessions import SessionMethods
from .store import Store
from .stores import Authorities, EncryptionKey
from .values import encode
from .watch import Watch, watch_query

T = TypeVar("T")
S = TypeVar("S", bound=Sequence[Any])


class Options(TypedDict, total=False):
    """The options of `Memory` that every adapter passes on to it."""

    token: str | None
    timeout: float
    ca: Authorities
    encryption_key: EncryptionKey | None
    embedder: Embedder | None
    embedding_model: str | None
    store: Store | None


class Memory(SessionMethods):
    """Persistent key-value memory: one namespace, in a file, in PostgreSQL or on a server.

    ::

        memory = Memory("my-agent")
        memory.set("last_action", "processed_invoice_#1234")

    A write that has returned is on disk: it survives a crash and a power cut. Safe to share between threads and after a fork.
    A copy is the same memory. A pickle holds its address, without secrets.

    Args:
        namespace: the name of the memory: 1 to 128 characters, no ``/``, no control characters, not ``.`` or ``..``.
        url: the address: ``sqlite:///path``, ``sqlite:///:memory:``, ``postgresql://…`` or ``http(s)://host``. None:
            ``$BOTWIRE_URL``, or else the file ``botwire.db`` in the user's data folder.
        token: authorizes the caller at a server, whose operator issues it. To claim a namespace on an open server, choose one of
            at least 16 characters. It is sent to the host of `url` only. None: ``$BOTWIRE_TOKEN``, if `url` is None too.
        timeout: seconds that a call may take in all, including waiting and retries.
        ca: a file (PEM) or folder of the CA certificates to trust for ``https``. None: ``$SSL_CERT_FILE``, or else the system's.
        encryption_key: a key from `generate_key`, or 32 bytes. Values and messages are encrypted with it (AES-256-GCM) before they
            leave this process. Of a list of keys, the first encrypts and all decrypt. Namespaces, keys, session names, sizes and
            times are not encrypted.
        embedder: for search by meaning: a callable that takes a list of texts and returns a vector for each (lists of floats,
            all of one length, up to 4,096), or LangChain's ``Embeddings``, or `botwire.search.minilm.MiniLM`. It runs in this
            process, see `embed`. Not with an `encryption_key`: a vector reveals what its text says.
        embedding_model: the name of the embedder's model. Vectors of different models are never compared. None: the name
            that the embedder has.
        store: a `botwire.store.Store` of your own instead of `url`, `token` and `ca`. You close it; several memories may share it.

    Creating a memory opens its store. On a thread that runs an event loop, the first call does that instead.

    Raises:
        InvalidName: the namespace is not allowed.
        InvalidArgument: the address, the timeout, `ca`, the encryption key or the embedder is not valid.
        ImportError: the address or an option needs a package that is not installed.
        StoreError: the file cannot be opened.

    Every method may raise the errors of its store: `StoreError`, `Unavailable`, `Timeout`, `AuthError`. With an encryption
    key, reads may raise `DecryptionError`. Writes may raise `QuotaExceeded` and `StorageExceeded`. A write that raises has
    changed nothing, with one exception: after `Timeout` and `Unavailable` over HTTP it may have been applied completely, because
    only the response was lost.
    """

    def _begin(self) -> None:
        self.bridge: BlockingBridge = BlockingBridge(self._lease, self._namespace)
        self._watches: WeakSet[Watch] = WeakSet()
        if self._opens_at_once and not is_on_event_loop():
            self._lease.store()
        else:  # opening a store takes time; the first call opens it
            _ = self._lease.address  # raises now if it is not valid

    @blocking
    async def read(self, query: Query[T]) -> T:
        """Return the result of a query of `botwire.queries`. All methods that read use it.

        It is for code that needs more than the other methods, such as an adapter for a framework. The arguments of the query are not
        checked: check them with `botwire.limits` first.

        Args:
            query: such as ``GetEntry("key")`` or ``ListKeys(prefix="user/")``.
        """
        if not isinstance(query, Query):
            raise InvalidArgument(f"read takes a query of botwire.queries, not {type(query).__name__}")
        return await self.bridge.read(query)

    @blocking
    async def write(self, *operations: Operation, idempotency_key: str | None = None) -> list[Result]:
        """Apply operations of `botwire.operations`, in order, all or none. All methods that write use it.

        It is for code that needs more than the other methods: for example two keys and a message in one transaction. Names are not
        checked and values not encoded: use `botwire.limits` and `botwire.values.encode` first.

        Args:
            operations: such as ``Put("key", encode(1))``; up to 10,000.
            idempotency_key: a second call with the same operations and key changes nothing and returns the same results. A store
                keeps a key for at least ten minutes, unless the write changed nothing. None: no key.

        Returns:
            A result for each operation, in order. All of them are on disk.

        Raises:
            Conflict: an entry has another version than ``if_version`` or a `Require` says; nothing was written.
            InvalidArgument: too many operations, or the key was used for another write; nothing was written.
            InvalidName: the key is not 1 to 512 bytes of UTF-8 without control characters; nothing was written.
        """
        for operation in operations:
            if not isinstance(operation, Operation):
                raise InvalidArgument(f"write takes operations of botwire.operations, not {type(operation).__name__}")
        if idempotency_key is not None:
            check_name(idempotency_key, "idempotency key")
        return await self.bridge.write(*limited(operations), idempotency_key=idempotency_key)

    @blocking
    async def set(
        self, key: str, value: Any, *, ttl: float | timedelta | None = None, if_version: int | None = None
    ) -> int:
        """Store a value under a key.

        Args:
            key: 1 to 512 bytes of UTF-8 without control characters.
            value: a JSON value (None, bool, int, finite float, str, list, dict with str keys, up to 100 deep) or bytes; up to
                16 MiB as stored. You read back exactly this value.
            ttl: seconds until the entry expires; None: never.
            if_version: store only if the entry has this version (0: only if there is no entry).

        Returns:
            The entry's new version.

        Raises:
            InvalidName, InvalidValue, InvalidArgument: nothing was sent or written.
            Conflict: the entry has another version than `if_version`.
        """
        operation = Put(check_name(key), encode(value), check_ttl(ttl), check_count(if_version, "if_version"))
        (version,) = await self.bridge.write(operation)
        assert isinstance(version, int)
        return version

    @blocking
    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default if there is none."""
        entry = await self.bridge.read(GetEntry(check_name(key)))
        return default if entry is None else entry.value

    @blocking
    async def entry(self, key: str) -> Entry | None:
        """Return the entry of a key (value, version, created_at, updated_at, expires_at), or None."""
        return await self.bridge.read(GetEntry(check_name(key)))

    @blocking
    async def delete(self, key: str) -> bool:
        """Delete a key; returns whether it existed. The deletion is on disk when it returns."""
        (was_there,) = await self.bridge.write(Delete(check_name(key)))
        return bool(was_there)

    @blocking
    async def list_keys(self, prefix: str = "", *, limit: int | None = None, after: str | None = None) -> list[str]:
        """Return the keys that begin with a prefix, in the order of their UTF-8 bytes.

        Args:
            prefix: the beginning of the keys.
            limit: at most n keys; None: all.
            after: only keys after this one: the last key of the previous page.
        """
        return await self.bridge.read(ListKeys(check_prefix(prefix), _after(after), check_count(limit, "limit")))

    keys = list_keys

    @blocking
    async def items(
        self, prefix: str = "", *, limit: int | None = None, after: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return keys and values. The arguments are those of `list_keys`."""
        entries = await self.bridge.read(ListEntries(check_prefix(prefix), _after(after), check_count(limit, "limit")))
        return [(entry.key, entry.value) for entry in entries]

    @blocking
    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of the keys that exist, by key."""
        entries = await self.bridge.read(GetEntries(_names(keys)))
        return {entry.key: entry.value for entry in entries}

    @blocking
    async def set_many(self, values: Mapping[str, Any], *, ttl: float | timedelta | None = None) -> dict[str, int]:
        """Store several values in one transaction: all or none. At most 10,000 at once.

        Returns:
            The new version of each.
        """
        seconds = check_ttl(ttl)
        if not isinstance(values, Mapping):
            raise InvalidArgument(f"values is a dict of keys and values, not {type(values).__name__}")
        puts = [Put(check_name(key), encode(value), seconds) for key, value in values.items()]
        versions = await self.bridge.write(*limited(puts)) if puts else []
        return {put.key: int(version) for put, version in zip(puts, versions, strict=True)}  # type: ignore[arg-type]

    @blocking
    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete several keys in one transaction; returns how many existed."""
        deletes = [Delete(key) for key in _names(keys)]
        return sum(map(bool, await self.bridge.write(*deletes))) if deletes else 0

    @blocking
    async def increment(self, key: str, by: float = 1) -> int | float:
        """Add to the number of a key and return the sum. A missing key counts as 0. A time to live is kept.

        No increment is lost, however many writers there are.

        Raises:
            InvalidValue: the value is not a number, or the sum is not finite; nothing was written.
        """
        if type(by) not in {int, float}:
            raise InvalidArgument(f"an increment is an int or a float, not {type(by).__name__}")
        encode(by)
        (total,) = await self.bridge.write(Increment(check_name(key), by))
        assert not isinstance(total, list)
        return total

    @blocking
    async def update(self, key: str, fn: Callable[[Any], Any], default: Any = None) -> Any:
        """Replace a value with the result of a function, without losing the writes of other clients.

        The result is stored if the entry still has the version that was read. If not, the update is repeated, up to 100 times. So the
        function may be called several times. A time to live is kept.

        Args:
            key: the key.
            fn: takes the value and returns the new value; it should not change its argument.
            default: the argument of the function if the key is missing.

        Returns:
            The new value.

        Raises:
            Conflict: other clients changed the key each time; nothing was written.
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
        raise Conflict(
            f"key {key!r} was changed by other clients {MAX_ATTEMPTS} times in a row; nothing was written. Try again later",
            key=key,
        )

    @blocking
    async def clear(self, prefix: str = "") -> int:
        """Delete all keys, or those that begin with a prefix; returns their number. Sessions are kept.

        Up to 10,000 keys are deleted at once, all or none. More are deleted in several transactions, between which others can
        write. If such a clear fails, some keys are deleted already: repeat it.
        """
        (count,) = await self.bridge.write(Clear(check_prefix(prefix)))
        assert isinstance(count, int)
        return count

    @blocking
    async def usage(self) -> Usage:
        """Return the namespace's bytes, its writes of today, and the limits of its plan."""
        return await self.bridge.read(GetUsage())

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
        """Return the entries and messages that match a question best, the best first.

        Words are found anywhere in a value. Case, diacritics and English endings make no difference. Rare words count more, and words
        such as "what" count nothing. There are no operators.

        Args:
            query: a question or some words, up to 8,000 characters.
            limit: at most n hits, up to 1,000. There are fewer if their values take more than 16 MB: then the last ones are left out.
            kinds: what to search: "messages", "entries", or both.
            session: only messages of this session.
            prefix: only entries whose key begins with it.
            where: JSON values that a value or a message's data must have, by their paths, with dots between names:
                ``{"data.type": "ai"}``. At most 32 paths, of 100 names each, and 8 kB as JSON.
            since: only hits that were stored at this time or later. For an entry, its last change counts.
            until: only hits that were stored before this time.
            neighbours: how many messages before and after a message gain from its score, because an answer is often next to
                the words of the question. The next messages gain half of it, those after them a quarter. 0: none.
            half_life: seconds after which a score is halved; None: age does not matter.
            by: "words", "meaning", or both, whose scores are added. None: both if the memory has an `embedder`, else words.

        Returns:
            Hits, each with its score, a snippet, and the entry, or the message and its session.

        Raises:
            InvalidArgument: an argument is wrong, the namespace's index is off, or its values are encrypted.
            Unavailable: the index is not complete yet. Search again: each search continues it.
            Timeout: the search took longer than the memory's timeout.
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
        """Make and store vectors for the texts that have none of the embedder's model; returns how many were stored.

        A write never waits for an embedder. A search first embeds at most 32 such texts. For more, call this after an import, in a
        thread, or from cron. Each batch is stored at once, so an interrupted call continues the next time. Texts without a vector are
        found by their words.

        Args:
            limit: at most n texts; None: all.
            batch: texts per call of the embedder, up to 500.

        Raises:
            InvalidArgument: the memory has no embedder, or the embedder's vectors are wrong.
            StorageExceeded: the vectors would take more bytes than the namespace's plan allows.
        """
        return await self._embed(limit, batch)

    def watch(
        self, prefix: str = "", *, after: int | None = None, session: str | None = None, wait: float | None = None
    ) -> Watch:
        """Return an iterator of the changes that any client makes from now on. It waits for each change.

        ::

            for change in memory.watch("user/"):
                print(change.kind, change.key, change.value)

        A change is delivered some milliseconds after it is on disk: once, in order, and with the current value. So a key that was
        set ten times in the meantime is delivered once, with its last value. Applying every change to a copy keeps the copy
        identical. To start a copy, create the watch, read everything, then iterate. A lost connection is opened again and
        nothing is missed. If that fails for as long as the memory's timeout, an error is raised.

        Args:
            prefix: only changes of keys that begin with it. Without any argument: all changes, those of sessions too.
            after: continue after this version of a change or a watch. None: from now on. 0: from the beginning, if all changes
                are kept. About 40,000 changes of a namespace are kept, or 1 MB of keys and names.
            session: only changes of this session.
            wait: end the iteration after this many seconds without a change (0: after the changes that exist). It can be
                iterated again. None: never end.

        Raises:
            ChangesLost: when iterated: some changes after `after` are no longer kept; read everything again.
        """
        query = watch_query(prefix, session=session, after=after)
        watch = Watch(self.bridge.store.changes(self._namespace, query), wait)
        self._watches.add(watch)
        return watch

    def history(self, session_id: str) -> History:
        """Return the chat history of a session, which need not exist yet."""
        return History(self, session_id)

    def reencrypt(self, *, plain: bool = False) -> int:
        """Encrypt again the values that are not encrypted with the first key; returns their number.

        Each value is on disk when the next one is read, so an interrupted call continues the next time. No write of another client
        is lost. Times to live are kept. Messages cannot be replaced: keep the old keys in the list for as long as you keep sessions
        that were written with them.

        Args:
            plain: also encrypt values that are not encrypted, which are refused otherwise. Only for a store to which no one else
                could write: every value in it is trusted.

        Raises:
            InvalidArgument: the memory has no encryption key.
            DecryptionError: some values cannot be decrypted with any of the keys; ``details["keys"]`` names the first 20. They are
                left as they are, and all others are encrypted again. With `plain`, these may also be unencrypted bytes that have
                the form of an encrypted value.
        """
        return self._lease.encrypted().reencrypt(self._namespace, plain=plain)

    def close(self) -> None:
        """Close the memory and its watches, and its store if no other memory uses it. No write is pending.

        A store that was passed as ``store=`` stays open.
        """
        if self._release is not None:
            self._release.detach()
        for watch in tuple(self._watches):
            watch.end()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Like a dict

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
        # The first key that begins with `key` is the key itself, if it exists. No value is read: it may be large.
        return isinstance(key, str) and self.list_keys(key, limit=1) == [key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.list_keys())

    @blocking
    async def __len__(self) -> int:
        """The number of keys."""
        return await self.bridge.read(CountEntries())

    def __bool__(self) -> bool:
        """Always true, so ``memory or …`` sends no request."""
        return True


def _after(key: str | None) -> str:
    return "" if key is None else check_prefix(key)


def _names(keys: Iterable[str]) -> tuple[str, ...]:
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise InvalidArgument(f"keys is a list of keys, not {type(keys).__name__}")
    return tuple(limited([check_name(key) for key in keys]))


def limited(items: S) -> S:
    """Return operations or keys, or raise `InvalidArgument` if there are too many for one write."""
    if len(items) > MAX_OPERATIONS:
        raise InvalidArgument(f"at most {MAX_OPERATIONS:,} keys or messages at once, not {len(items):,}: split them")
    return items
