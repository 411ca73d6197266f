"""Search: from a question to the entries and messages that answer it best.

The word index returns candidates, ranked by how rare their words are. The best ones are read, and scored again by their whole
text. For a word that is in very many texts, only texts that also have a rarer word are candidates, so the time does not grow
with the namespace. Texts are read some megabytes at a time and not kept: the values of the hits are read again at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from itertools import chain, islice
from typing import Any, TypeAlias, TypeVar

import msgspec

from ...plans import Plans
from ...queries import Search
from ...records import Entry, Hit, Message
from ...search.ranking import FADING, bm25, fuse, idf, ranked, recency
from ...search.terms import question_of, snippet_of, terms_of, text_of_entry, text_of_message
from ...values import Stored, decode
from .filters import filters_of, holds
from .retention import Liveness, limits_in, may_end
from .stop import Stop
from .tables import FIRST_MESSAGE, SEQ_BITS, NamespaceId, NamespaceState, ReadTables, place_of
from .word_index import pending_of

BUDGET = 10_000
"""Ids that a search reads from the index, in some 5 ms."""
SOME = 1_000
"""Ids that a search reads for a word that is in more texts than `BUDGET` allows."""
MAX_TERMS = 32
"""Terms of a question that find candidates: the rarest."""
MAX_ASKED = 1_000
"""Terms of a question that are counted."""
MAX_COMMON = 3
"""Frequent words that find some candidates. Others only count toward the score of a text that is read."""
READ = 96
"""Texts that are read and scored, at least."""
NEAREST = 1_000
"""Nearest texts that a search by meaning considers, as most experiments with rankings of passages do."""
PASSING = 64
"""The best messages, which share their score with their neighbours."""
FEW_ENTRIES = 2_000
"""Up to this many entries with a prefix, the search filters by it before it reads entries."""
READ_BYTES = 1 << 22
"""Bytes of values that one statement reads, and one value at least."""
HIT_BYTES = 1 << 24
"""Bytes of values that the hits have in all, and one hit at least."""

_ENTRIES = 1, FIRST_MESSAGE - 1
_MESSAGES = FIRST_MESSAGE, 2**63 - 1
R = TypeVar("R")
N = TypeVar("N", int, str)
_Id: TypeAlias = int
"""The id of a text in the index; for an entry that is not in it, a negative number."""


@dataclass(slots=True)
class _Text:
    """What is kept of an entry or message that was read: how often each word of the question is in it, and of how many words."""

    key: str | None
    changed: int
    bytes: int
    counts: Counter[str]
    length: int
    score: float = 0.0


@dataclass
class _Searching:
    """One search in one namespace, on one snapshot of it."""

    tables: ReadTables
    query: Search
    now: int
    state: NamespaceState
    namespace: NamespaceId
    stop: Stop
    live: Liveness | None
    """Which sessions have not expired; None: none has."""
    filters: list[tuple[list[str], Any]] = field(default_factory=list)
    asked: frozenset[str] = frozenset()
    """The words that are counted in texts."""
    weights: dict[str, float] = field(default_factory=dict)
    read: dict[_Id, _Text] = field(default_factory=dict)
    seen: set[_Id] = field(default_factory=set)
    pending_keys: set[str] = field(default_factory=set)
    unindexed: int = 0

    @property
    def average(self) -> float:
        """The average number of terms of a text."""
        if self.state.texts:
            return self.state.words / self.state.texts
        return sum(text.length for text in self.read.values()) / max(len(self.read), 1)

    def hits(self) -> list[Hit]:
        """Return the hits."""
        self.filters = filters_of(self.query.where)
        scores = self._by_words() if self.query.words else {}
        if self.query.vector is not None:
            scores = fuse(scores, self._by_meaning(self.query.vector))
        best: list[_Id] = []
        room = HIT_BYTES
        for id_ in islice(self._passing(ranked(scores)), self.query.limit):
            room -= self.read[id_].bytes
            if room < 0 and best:
                break
            best.append(id_)
        return [self._hit(hit, scores[id_]) for id_, hit in self._values(best)]

    def _by_words(self) -> dict[_Id, float]:
        """Return ids and scores."""
        terms = question_of(self.query.text)[:MAX_ASKED]
        self.asked = frozenset(terms)
        found = self._candidates(terms)
        for id_ in islice(self._passing(_best_first(found)), self._wanted):
            text = self.read[id_]
            text.score = bm25(text.counts, text.length, self.weights, self.average) * self._fresh(text)
        self.asked = frozenset()
        own = {id_: text.score for id_, text in self.read.items() if text.score}
        return self._passed_on(own, found)

    def _by_meaning(self, vector: bytes) -> dict[_Id, float]:
        """Return ids of the nearest texts, and the cosine of the angle between each vector and the question's."""
        near: dict[_Id, float] = {}
        query = self.query
        for low, high in self._ranges():
            if high >= FIRST_MESSAGE:
                first, last = low >> SEQ_BITS, high >> SEQ_BITS
                near |= _cosines(
                    self.tables.nearest_messages(self.namespace, first, last, query.model, vector, NEAREST)
                )
            if low < FIRST_MESSAGE:
                rows = _cosines(
                    self.tables.nearest_entries(self.namespace, query.prefix, query.model, vector, NEAREST, self.now)
                )
                near |= {id_: rows[key] for id_, key in self._ids_of(list(rows)).items()}
        if query.half_life is None:
            return near
        passing = islice(self._passing(ranked(near)), self._wanted)
        return {id_: near[id_] * self._fresh(self.read[id_]) for id_ in passing}

    @property
    def _wanted(self) -> int:
        """How many texts are read and scored."""
        return max(READ, 3 * self.query.limit)

    def _ids_of(self, keys: list[str]) -> dict[_Id, str]:
        """Return ids of entries by their keys, reading those that were not read."""
        known = {text.key: id_ for id_, text in self.read.items() if text.key is not None}
        unknown = [key for key in keys if key not in known]
        known |= self._read_entries(unknown)
        self.seen.update(known.values())
        return {known[key]: key for key in keys if key in known}

    # Words → candidates

    def _candidates(self, terms: list[str]) -> dict[_Id, float]:
        """Return ids of texts that have words of the question, with the sum of the weights of these words."""
        ranges = self._ranges()
        self._read_pending(ranges)
        counted = self._counted(terms)
        scores: dict[_Id, float] = {}
        names = [term for term, _ in counted]
        weights = [self.weights[term] for term, _ in counted]
        short, budget = 0, BUDGET
        while short < len(counted) and counted[short][1] <= budget:
            budget -= counted[short][1]
            short += 1
        for low, high in ranges:
            for index, id_ in self.tables.texts_with_each(self.namespace, names[:short], low, high):
                scores[id_] = scores.get(id_, 0.0) + weights[index]
            for index in range(short, min(short + MAX_COMMON, len(names))):
                least = weights[index - 1] if index > short else 0.0
                for id_ in self._common(names[: index + 1], low, high, alone=len(scores) < READ):
                    scores[id_] = scores.get(id_, least) + weights[index]
        for id_, text in self.read.items():
            score = sum(self.weights.get(term, 0.0) for term in text.counts)
            if score:
                scores[id_] = score
        return self._with_prefix(scores)

    def _with_prefix(self, scores: dict[_Id, float]) -> dict[_Id, float]:
        """Leave out entries without the prefix, if few have it. Otherwise each entry is checked when it is read."""
        if not self.query.entries or not self.query.prefix:
            return scores
        few = set(self.tables.texts_of_entries(self.namespace, self.query.prefix, FEW_ENTRIES + 1))
        if len(few) > FEW_ENTRIES:
            return scores
        return {id_: score for id_, score in scores.items() if id_ < 0 or id_ >= FIRST_MESSAGE or id_ in few}

    def _counted(self, terms: list[str]) -> list[tuple[str, int]]:
        """Return the terms that find candidates, and how many texts have each, the rarest first. Sets the weights of all terms."""
        indexed = {terms[index]: count for index, count in self.tables.count_texts(self.namespace, terms)}
        pending = Counter(term for text in self.read.values() for term in text.counts)
        texts = self.state.texts + len(self.read)
        counts = {term: indexed.get(term, 0) + pending[term] for term in terms}
        self.weights = {term: idf(count, texts) for term, count in counts.items() if count}
        return sorted(indexed.items(), key=lambda item: item[1])[:MAX_TERMS]

    def _common(self, names: list[str], low: int, high: int, *, alone: bool) -> set[_Id]:
        """Return ids of texts with the last term and one of the others. `alone`: also the newest with the last term only."""
        *rarer, common = names
        found: set[_Id] = set()
        if rarer:
            found.update(self.tables.newest_texts_with_both(self.namespace, common, rarer, low, high, SOME))
        if alone:
            found.update(self.tables.newest_texts_with(self.namespace, common, low, high, SOME))
        return found

    def _ranges(self) -> list[tuple[int, int]]:
        """Return the ranges of ids to search."""
        query = self.query
        if query.messages and query.entries and query.session is None:
            return [(_ENTRIES[0], _MESSAGES[1])]
        ranges = [_ENTRIES] if query.entries else []
        if query.messages and query.session is None:
            ranges.append(_MESSAGES)
        elif query.messages and query.session is not None:
            head = self.tables.peek_session(self.namespace, query.session)
            if head is not None:
                ranges.append((place_of(head[0], 1), place_of(head[0], head[1])))
        return ranges

    def _read_pending(self, ranges: list[tuple[int, int]]) -> None:
        """Read what is not indexed yet."""
        keys, runs = pending_of(self.state.pending)
        self.pending_keys.update(keys)
        places = chain.from_iterable(runs)
        self._read([place for place in places if any(low <= place <= high for low, high in ranges)])
        if keys and self.query.entries:
            self._read_entries(keys)
        self.seen.update(self.read)

    # Candidates → hits

    def _passing(self, ids: Iterable[_Id]) -> Iterator[_Id]:
        """Read the texts of ids, and return the ids that exist and match the filters."""
        remaining = iter(ids)
        while batch := list(islice(remaining, READ)):
            self._read([id_ for id_ in batch if id_ not in self.seen])
            yield from (id_ for id_ in batch if id_ in self.read)

    def _read(self, ids: list[_Id]) -> None:
        self.seen.update(ids)
        for place, _, message in self._messages(_messages_of(ids)):
            if self._fits(message.stored, message.created):
                self.read[place] = self._text(None, message.created, message.stored, text_of_message)
        for id_, entry in self._entries([id_ for id_ in ids if 0 < id_ < FIRST_MESSAGE]):
            if entry.key not in self.pending_keys:
                self._keep_entry(id_, entry)

    def _read_entries(self, keys: list[str]) -> dict[str, _Id]:
        """Read entries that are not in the index; return the ids that they get."""
        ids = {}
        for entry in self._entries_named(keys):
            self.unindexed += 1
            self._keep_entry(-self.unindexed, entry)
            ids[entry.key] = -self.unindexed
        return ids

    def _keep_entry(self, id_: _Id, entry: Entry) -> None:
        if entry.key.startswith(self.query.prefix) and self._fits(entry.stored, entry.updated):
            self.read[id_] = self._text(entry.key, entry.updated, entry.stored, partial(text_of_entry, entry.key))

    def _fits(self, stored: Stored, changed: int) -> bool:
        """Whether a value passes the filters."""
        self.stop.check()
        since, until = self.query.since, self.query.until
        in_time = (since is None or since <= changed) and (until is None or changed < until)
        return in_time and (not self.filters or holds(decode(stored), self.filters))

    def _text(self, key: str | None, changed: int, stored: Stored, text_of: Callable[[Any], str]) -> _Text:
        terms = terms_of(text_of(stored)) if self.asked else []
        return _Text(key, changed, len(stored), Counter(filter(self.asked.__contains__, terms)), len(terms))

    # Rows, some megabytes at a time

    def _messages(self, places: Sequence[_Id]) -> Iterator[tuple[_Id, str, Message]]:
        """Return place, session and message of those that exist, in order."""
        rows = _in_parts(
            places, lambda row: row[0], lambda rest: self.tables.messages_at(self.namespace, rest, READ_BYTES)
        )
        live = self.live
        return rows if live is None else (row for row in rows if live.is_live(row[1]))

    def _entries(self, texts: Sequence[_Id]) -> Iterator[tuple[_Id, Entry]]:
        """Return text id and entry of those that are indexed as they are now, in order."""
        return _in_parts(
            texts, lambda row: row[0], lambda rest: self.tables.entries_at(self.namespace, rest, self.now, READ_BYTES)
        )

    def _entries_named(self, keys: Sequence[str]) -> Iterator[Entry]:
        return _in_parts(
            keys,
            lambda row: row.key,
            lambda rest: self.tables.entries_named(self.namespace, rest, self.now, READ_BYTES),
        )

    def _values(self, ids: Sequence[_Id]) -> list[tuple[_Id, Hit]]:
        """Return hits for texts that were read, in their order."""
        names = {self.read[id_].key: id_ for id_ in ids if id_ < 0}
        hits = {
            place: Hit(0, "", None, message, session) for place, session, message in self._messages(_messages_of(ids))
        }
        hits |= {
            id_: Hit(0, "", entry) for id_, entry in self._entries([id_ for id_ in ids if 0 < id_ < FIRST_MESSAGE])
        }
        hits |= {names[entry.key]: Hit(0, "", entry) for entry in self._entries_named([str(key) for key in names])}
        return [(id_, hits[id_]) for id_ in ids]

    def _fresh(self, text: _Text) -> float:
        return recency((self.now - text.changed) / 1_000_000, self.query.half_life)

    def _passed_on(self, own: dict[_Id, float], found: dict[_Id, float]) -> dict[_Id, float]:
        """Return ids and scores after the best messages have shared theirs with their neighbours.

        `own` are the scores of texts that were read, `found` approximate scores of others.
        """
        final = dict(own)
        if self.query.messages and self.query.neighbours:
            messages = ((score, id_) for id_, score in own.items() if id_ >= FIRST_MESSAGE)
            for score, id_ in nlargest(PASSING, messages):
                for near, share in self._around(id_):
                    final[near] = final.get(near, found.get(near, 0.0)) + share * score
        return final

    def _around(self, id_: _Id) -> Iterator[tuple[_Id, float]]:
        for distance in range(1, self.query.neighbours + 1):
            for near in (id_ - distance, id_ + distance):
                if near >> SEQ_BITS == id_ >> SEQ_BITS:
                    yield near, FADING**distance

    def _hit(self, hit: Hit, score: float) -> Hit:
        self.stop.check()
        entry, message = hit.entry, hit.message
        text = text_of_message(message.stored) if message else text_of_entry(entry.key, entry.stored) if entry else ""
        return msgspec.structs.replace(hit, score=score, snippet=snippet_of(text, self.weights))


def search(tables: ReadTables, plans: Plans, namespace: str, query: Search, now: int, stop: Stop) -> list[Hit]:
    """Answer a question from the index, or raise `Timeout` when it must stop. All reads must see one snapshot."""
    state = tables.get_state(namespace)
    if state is None or state.id is None:
        return []
    state.refuse_if_off(namespace)
    limits = limits_in(state, plans)
    live = Liveness(tables, namespace, limits, now) if may_end(state, limits) else None
    return _Searching(tables, query, now, state, state.id, stop, live).hits()


def _messages_of(ids: Iterable[_Id]) -> list[_Id]:
    return [id_ for id_ in ids if id_ >= FIRST_MESSAGE]


def _in_parts(wanted: Sequence[N], name_of: Callable[[R], N], read: Callable[[Sequence[N]], list[R]]) -> Iterator[R]:
    """Return rows for names, in their order. A read returns the first ones."""
    while wanted:
        rows = read(wanted)
        yield from rows
        wanted = wanted[wanted.index(name_of(rows[-1])) + 1 :] if rows else ()


def _cosines(rows: Iterable[tuple[Any, ...]]) -> dict[Any, float]:
    """Return the cosines for distances. A vector of zeros has none."""
    return {found: 1.0 - distance for found, distance in rows if distance is not None}


def _best_first(scores: dict[_Id, float]) -> Iterator[_Id]:
    """Return ids by score, the newest first among equal ones. Sorts no more than needed: few scores differ, and few ids are used."""
    of_score: dict[float, list[_Id]] = {}
    for id_, score in scores.items():
        of_score.setdefault(score, []).append(id_)
    for score in sorted(of_score, reverse=True):
        yield from sorted(of_score[score], reverse=True)
