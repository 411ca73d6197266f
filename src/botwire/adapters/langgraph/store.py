"""BotWireStore: data that graphs share across threads."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Unpack

from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    TTLConfig,
    ensure_embeddings,
    get_text_at_path,
    tokenize_path,
)

from ...aio import AsyncMemory
from ...bridge import awaiting
from ...errors import Conflict, InvalidArgument, Unavailable
from ...limits import MAX_HITS, MAX_OPERATIONS, MAX_QUESTION_CHARS, check_ttl
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Delete, Operation, Put
from ...queries import GetEntries, GetEntry, ListEntries, ListKeys
from ...records import Entry
from ...timestamps import now
from ...values import encode
from .._base import async_form, blocking_method
from .configs import check_index, check_ttl_config
from .drop_in import DropIn, Sweeping
from .filters import filtering
from .items import (
    ITEM,
    LAST,
    VECTOR,
    ItemPath,
    Stored,
    by_words,
    content,
    joined,
    labels_of,
    likeness,
    matches,
    namespaces_in,
    packed_vectors,
    text_of,
)
from .keys import check_text

_FIRST, _PAGE = 32, 1000
"""Items that a search reads at once: at least in the first page, and at most in any page."""
_FEW = 12
"""Keys that a listing of namespaces reads at once while each namespace has many items."""
_find = awaiting(Memory.search)


class BotWireStore(DropIn, Sweeping, BaseStore):
    """A persistent store for LangGraph.

    When a call returns, what it put or deleted is on disk. A batch is one write: all of it is stored, or nothing. Threads,
    processes and event loops may share a store or a file. As in LangGraph's own stores, a batch reads the state before its
    own writes, and the last of two puts of one key wins.

    With an `index`, a search compares embeddings. Without one it ranks as `Memory.search` does. Items that do not match the query
    come last, without a score. Without a query, items are ordered by namespace and key.

    Args:
        namespace, url, options: as for `Memory`. It also lists the errors of the constructor and of every method.
        index: LangGraph's `IndexConfig`: ``embed``, ``dims`` and ``fields``. A search compares the query
            with every vector in its namespaces, by the cosine of their angle.
        ttl: LangGraph's `TTLConfig`: ``default_ttl`` in minutes, and ``refresh_on_read``. Reads and listings
            never return an expired item, whatever ``omit_expired`` says, and no sweep is needed. A read that refreshes an item
            writes only after a hundredth of its time to live has passed since the last refresh.

    Labels and keys are any text. As in LangGraph, a label is not empty and contains no period and no NUL; others raise
    `InvalidNamespaceError`. The labels of a namespace have at most 400 bytes of UTF-8 together. Values are dicts of JSON
    values, up to 16 MiB.

    Raises:
        InvalidArgument: the index or the ttl has a key or a value that botwire does not support.
    """

    supports_ttl = True

    def __init__(
        self,
        namespace: str = "langgraph-store",
        url: str | None = None,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_index(index)
        check_ttl_config(ttl)
        self.ttl_config, self.index_config = ttl, index
        self.embeddings = ensure_embeddings(index["embed"]) if index else None
        self._memory = Memory(namespace, url, **options)
        self._dims = index.get("dims") if index else None
        self._fields = [_path(field) for field in (index or {}).get("fields") or ["$"]]

    @blocking_method
    async def batch(self, memory: Namespace, ops: Iterable[Op]) -> list[Result]:
        """Apply operations and return the result of each. When this returns, all their writes are on disk; if it raises, none."""
        ops = tuple(ops)
        if len(ops) == 1 and isinstance(ops[0], GetOp):  # most calls are one get: a shorter way for them
            read: dict[str, Stored] = {}
            key = ItemPath.of(ops[0].namespace, ops[0].key).item
            item = _got(ops[0], await memory.bridge.read(GetEntry(key)), read)
            if read:
                await self._refresh(memory, list(read.values()))
            return [item]
        puts = {ItemPath.of(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        results = [None] * len(ops) if len(puts) == len(ops) else await self._results(memory, ops, puts)
        if puts:
            await memory.bridge.write(*await self._operations(memory, puts))
        return results

    async def _results(self, memory: Namespace, ops: Sequence[Op], puts: Container[ItemPath]) -> list[Result]:
        """Return the results of the operations that read, and refresh the items that they read and that no put replaces."""
        keys = [ItemPath.of(op.namespace, op.key).item for op in ops if isinstance(op, GetOp)]
        entries = await memory.bridge.read(GetEntries(tuple(dict.fromkeys(keys)))) if keys else []
        found = {entry.key: entry for entry in entries}
        read: dict[str, Stored] = {}
        results = [await self._result(memory, op, found, read) for op in ops]
        if read:
            await self._refresh(memory, [item for item in read.values() if item.path not in puts])
        return results

    async def _result(self, memory: Namespace, op: Op, found: Mapping[str, Entry], read: dict[str, Stored]) -> Result:
        if isinstance(op, GetOp):
            return _got(op, found.get(ItemPath.of(op.namespace, op.key).item), read)
        if isinstance(op, SearchOp):
            hits = await self._search(memory, op)
            if op.refresh_ttl:
                read.update((item.entry.key, item) for item, _ in hits if item.has_ttl)
            return [item.found(score) for item, score in hits]
        if isinstance(op, ListNamespacesOp):
            return await self._namespaces(memory, op)
        if isinstance(op, PutOp):
            return None
        raise InvalidArgument(f"an operation is a GetOp, SearchOp, PutOp or ListNamespacesOp, not {op!r:.60}")

    # Writing

    async def _operations(self, memory: Namespace, puts: Mapping[ItemPath, PutOp]) -> list[Operation]:
        operations = [_operation(path, op) for path, op in puts.items()]
        if self.embeddings is None:
            return operations
        texts = {path: self._texts(op) for path, op in puts.items()}
        unique = list(dict.fromkeys(text for own in texts.values() for text in own))
        vectors = dict(zip(unique, await self._embed(memory, "embed_documents", unique), strict=True)) if unique else {}
        for path, op in puts.items():
            if own := [vectors[text] for text in texts[path]]:
                operations.append(Put(path.vector, encode(packed_vectors(own, self._dims)), _seconds(op.ttl)))
            else:
                operations.append(Delete(path.vector))
        return operations

    def _texts(self, op: PutOp) -> list[str]:
        """Return the texts of an item that are embedded."""
        if op.value is None or op.index is False:
            return []
        fields = self._fields if op.index is None else [_path(field) for field in op.index]
        return [text for field in fields for text in get_text_at_path(op.value, field) if text]

    async def _embed(self, memory: Namespace, method: str, value: Any) -> Any:
        prefix = "a" if isinstance(memory, AsyncMemory) else ""  # of the async methods of LangChain's embeddings
        return await memory.bridge.call(getattr(self.embeddings, prefix + method), value)

    async def _refresh(self, memory: Namespace, items: Sequence[Stored]) -> None:
        """Restart the time to live of items. If another client writes an item in the meantime, its write wins."""
        instant = now()
        puts: dict[str, list[Put]] = {}
        for item in items:
            if (put := item.refreshed(instant)) is not None:
                puts[put.key] = [put]
                if self.embeddings is not None:
                    vector = await memory.bridge.read(GetEntry(item.path.vector))
                    if vector is not None:
                        puts[put.key].append(Put(vector.key, vector.stored, put.ttl, if_version=vector.version))
        while puts:
            try:
                await memory.bridge.write(*[put for group in puts.values() for put in group][:MAX_OPERATIONS])
            except Conflict as conflict:
                lost = conflict.details["key"]
                puts = {key: group for key, group in puts.items() if lost not in {put.key for put in group}}
            else:
                return

    # Reading

    async def _search(self, memory: Namespace, op: SearchOp) -> list[tuple[Stored, float | None]]:
        prefix = joined(op.namespace_prefix)
        if not op.query:
            most = op.offset + op.limit
            items = await self._all(memory, prefix, op, most)
            return [(item, None) for item in items[op.offset : most]]
        check_text(op.query, "query")
        if self.embeddings is not None:
            items = await self._all(memory, prefix, op)
            scores = await self._by_likeness(memory, op.query, prefix, items)
        else:
            items, scores = await self._by_words(memory, op, prefix)
        scored = [(item, scores[item.entry.key]) for item in items if item.entry.key in scores]
        scored.sort(key=lambda pair: -pair[1])
        others: list[tuple[Stored, float | None]] = [(item, None) for item in items if item.entry.key not in scores]
        return [*scored, *others][op.offset : op.offset + op.limit]

    async def _all(self, memory: Namespace, prefix: str, op: SearchOp, most: int | None = None) -> list[Stored]:
        """Return the items with a prefix that pass the filter, at most `most` of them."""
        fits = filtering(op.filter)
        items: list[Stored] = []
        after, count = "", _PAGE
        if most is not None:
            count = min(_PAGE, max(4 * most, _FIRST) if op.filter else most)
        while most is None or len(items) < most:
            page = await memory.bridge.read(ListEntries(ITEM + prefix, after, count))
            items += [item for item in map(Stored.of, page) if fits(item.value)]
            if len(page) < count:
                break
            after, count = page[-1].key, min(4 * count, _PAGE)
        return items if most is None else items[:most]

    async def _by_likeness(
        self, memory: Namespace, query: str, prefix: str, items: Sequence[Stored]
    ) -> dict[str, float]:
        wanted = {item.path.vector: item.entry.key for item in items}
        vectors: dict[str, bytes] = {}
        after = ""
        while page := await memory.bridge.read(ListEntries(VECTOR + prefix, after, _PAGE)):
            vectors.update(
                (wanted[entry.key], entry.stored)
                for entry in page
                if entry.key in wanted and isinstance(entry.stored, bytes)
            )
            after = page[-1].key
        scores = likeness(await self._embed(memory, "embed_query", query), list(vectors.values()))
        return dict(zip(vectors, scores, strict=True))

    async def _by_words(self, memory: Namespace, op: SearchOp, prefix: str) -> tuple[list[Stored], dict[str, float]]:
        """Return items, and the scores of those that match: from the word index, or without one by reading every item."""
        assert op.query is not None
        most = op.offset + op.limit
        try:
            hits = await _find(
                memory, op.query[:MAX_QUESTION_CHARS], limit=MAX_HITS, kinds="entries", prefix=ITEM + prefix
            )
        except (InvalidArgument, Unavailable):
            if memory.embedding_model is not None:
                raise
            items = await self._all(memory, prefix, op)
            scores = by_words(op.query, [text_of(item.value) for item in items])
            return items, {item.entry.key: score for item, score in zip(items, scores, strict=True) if score}
        found = {hit.entry.key: (Stored.of(hit.entry), hit.score) for hit in hits if hit.entry is not None}
        fits = filtering(op.filter)
        items = [item for item, _ in found.values() if fits(item.value)]
        if len(items) < most:
            rest = await self._all(memory, prefix, op, most + len(found))
            items += [item for item in rest if item.entry.key not in found]
        return items, {key: score for key, (_, score) in found.items()}

    async def _namespaces(self, memory: Namespace, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        prefix = ITEM + max((_fixed(condition) for condition in conditions), key=len, default="")
        namespaces: set[str] = set()
        after, count = "", _FEW
        while page := await memory.bridge.read(ListKeys(prefix, after, count)):
            own = namespaces_in(page)
            namespaces.update(own)
            if len(page) < count:
                break
            # Skip the rest of the last namespace. Larger pages pay only where most namespaces have few items.
            after = f"{ITEM}{own[-1]}/{LAST}"
            count = min(4 * count, _PAGE) if len(own) > count // 4 else _FEW
        labels = [found for found in map(labels_of, namespaces) if all(matches(one, found) for one in conditions)]
        shown = sorted({found[: op.max_depth] for found in labels})
        return shown[op.offset : op.offset + op.limit]

    abatch = async_form(batch)


def _got(op: GetOp, entry: Entry | None, read: dict[str, Stored]) -> Item | None:
    """Return the item of an entry. Adds it to `read` if the operation refreshes its time to live."""
    if entry is None:
        return None
    stored = Stored.of(entry)
    if op.refresh_ttl and stored.has_ttl:
        read[entry.key] = stored
    return stored.item(tuple(op.namespace), str(op.key))


def _operation(path: ItemPath, op: PutOp) -> Operation:
    if op.value is None:
        return Delete(path.item)
    seconds = _seconds(op.ttl)  # checked first
    return Put(path.item, content(str(op.key), op.value, op.ttl), seconds)


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else check_ttl(minutes * 60)


def _path(field: str) -> Any:
    return field if field == "$" else tokenize_path(field)


def _fixed(condition: Any) -> str:
    """Return the common prefix of the namespaces that match a condition, up to the first wildcard."""
    if condition.match_type != "prefix":
        return ""
    path = tuple(condition.path)
    return joined(path[: path.index("*")] if "*" in path else path)
