"""The contract of messages as a test class: appending, reading and popping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest

from ..errors import Conflict
from ..operations import Append, Forget, Operation, Pop
from ..queries import CountMessages, GetUsage, ListMessages, ListSessions
from ..records import Message
from ..store import Store
from ..timestamps import now
from .reference import seen
from .strategies import WRITERS, Counted, data_of, exact, messages_of, popped, put, race


class MessageContract(Counted):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    def test_append_and_read(self, store: Store) -> None:
        data = [{"role": "user", "content": "hi"}, ["x"], None]
        new = messages_of(*data)
        assert store.write("n", [Append("s", new)]) == [[1, 2, 3]]
        found = store.read("n", ListMessages("s"))
        pairs = zip(new, data, strict=True)
        assert seen(found) == [(seq, item.id, exact(raw), None) for seq, (item, raw) in enumerate(pairs, 1)]
        assert all(item.edited is None for item in found)
        assert all(abs(item.created - now()) < 60_000_000 for item in found)
        assert store.write("n", [Append("s", ())]) == [[]]

    def test_pages_of_messages(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*range(1, 21)))])
        pages: list[tuple[dict[str, int], Sequence[int]]] = [
            ({}, range(1, 21)),
            ({"last": 3}, [18, 19, 20]),
            ({"last": 0}, []),
            ({"last": 100}, range(1, 21)),
            ({"after": 5, "limit": 3}, [6, 7, 8]),
            ({"after": 18}, [19, 20]),
            ({"after": 20}, []),
            ({"after": 10**12}, []),
            ({"limit": 0}, []),
            ({"after": 18, "last": 5}, [19, 20]),
        ]
        for options, seqs in pages:
            found = store.read("n", ListMessages("s", **options))
            assert [item.data for item in found] == [item.seq for item in found] == list(seqs)

    def test_appending_an_id_again_changes_nothing(self, store: Store) -> None:
        new = messages_of("a", "b")
        assert store.write("n", [Append("s", new)]) == [[1, 2]]
        usage = store.read("n", GetUsage())
        assert store.write("n", [Append("s", new)]) == [[1, 2]]
        assert store.read("n", GetUsage()) == usage
        assert store.write("n", [Append("s", (new[1], *messages_of("c"), new[0]))]) == [[2, 3, 1]]
        assert data_of(store) == ["a", "b", "c"]
        assert store.write("n", [Append("s", messages_of("d") * 3)]) == [[4, 4, 4]]
        assert store.write("n", [Append("other", new)]) == [[1, 2]]

    def test_forget(self, store: Store) -> None:
        new = messages_of("a", "b")
        store.write("n", [Append("s", new), Append("t", new)])
        assert store.write("n", [Forget("s")]) == [2]
        assert (data_of(store), data_of(store, "t")) == ([], ["a", "b"])
        assert store.write("n", [Append("s", new[1:])]) == [[1]]

    def test_pop(self, store: Store) -> None:
        new = messages_of("a", {"b": 2}, "ç")
        store.write("n", [Append("s", new), Append("t", new)])
        found = store.read("n", ListMessages("s"))
        assert store.write("n", [Pop("s")]) == [found[2:]]
        assert store.write("n", [Append("s", new[2:])]) == [[3]]
        assert [item.id for item in popped(store, Pop("s", 2))] == [new[1].id, new[2].id]
        assert data_of(store) == ["a"]
        assert store.write("n", [Append("s", messages_of("d"))]) == [[2]]
        assert data_of(store, last=1) == ["d"]
        assert [item.data for item in popped(store, Pop("s", 10))] == ["a", "d"]
        assert [item.name for item in store.read("n", ListSessions())] == ["t"]
        assert store.write("n", [Pop("s"), Pop("t", 0)]) == [[], []]
        assert store.read("n", CountMessages("t")) == 3
        assert store.read("n", GetUsage()).bytes == self.counted_messages(new)
        assert store.write("never", [Pop("s")]) == [[]]
        assert store.write("n", [Append("s", new)]) == [[1, 2, 3]]

    def test_pop_only_what_is_expected(self, store: Store) -> None:
        new = messages_of("a", "b", "c")
        ids = tuple(item.id for item in new)
        store.write("n", [Append("s", new)])
        usage = store.read("n", GetUsage())
        wrong = (Pop("s", 2, ids), Pop("s", 1, ids[:1]), Pop("s", 2, ids[:0:-1]), Pop("s", 1, ()), Pop("u", 1, ids))
        for pop in wrong:
            attempts: tuple[Sequence[Operation], ...] = ([pop], [pop, Append("s", messages_of("d"))])
            for operations in attempts:
                with pytest.raises(Conflict):
                    store.write("n", operations)
        assert store.read("n", GetUsage()) == usage
        last, seqs = store.write("n", [Pop("s", 2, ids[1:]), Append("s", new[2:])])
        assert [item.data for item in cast("list[Message]", last)] == ["b", "c"]
        assert seqs == [2]
        assert data_of(store) == ["a", "c"]
        assert store.write("n", [Pop("u", 1, ())]) == [[]]

    def test_a_pop_under_a_known_key_pops_once(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("a", 2**70, {"c": [None]}))])
        write: Sequence[Operation] = [Pop("s", 2), Pop("s", 0), put("k", 1)]
        first = store.write("n", write, idempotency_key="one")
        assert [item.data for item in cast("list[Message]", first[0])] == [2**70, {"c": [None]}]
        assert exact(store.write("n", write, idempotency_key="one")) == exact(first)
        assert data_of(store) == ["a"]

    def test_appends_at_once(self, store: Store) -> None:
        def append(writer: int) -> list[int]:
            seqs: list[int] = []
            for index in range(25):
                (got,) = store.write("n", [Append("s", messages_of([writer, index], [writer, index, "b"]))])
                seqs += cast("list[int]", got)
            return seqs

        seqs = sorted(seq for mine in race(append) for seq in mine)
        found = store.read("n", ListMessages("s"))
        assert [item.seq for item in found] == seqs == list(range(1, 50 * WRITERS + 1))
        for writer in range(WRITERS):
            mine = [item.data[1] for item in found if item.data[0] == writer and len(item.data) == 2]
            assert mine == list(range(25))

    def test_one_message_of_many_appends_of_an_id(self, store: Store) -> None:
        for round_ in range(10):
            append = Append("s", messages_of(round_))
            results = race(lambda _, append=append: store.write("n", [append]))  # type: ignore[misc]
            assert results == [[[round_ + 1]]] * WRITERS
        assert store.read("n", CountMessages("s")) == 10

    def test_pops_and_appends_at_once(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*range(50)))])

        def work(writer: int) -> list[Message]:
            if writer % 2:
                return [item for _ in range(25) for item in popped(store, Pop("s", 2))]
            for index in range(25):
                store.write("n", [Append("s", messages_of([writer, index]))])
            return []

        taken = [exact(item.data) for mine in race(work) for item in mine]
        left = store.read("n", ListMessages("s"))
        assert [item.seq for item in left] == list(range(1, len(left) + 1))
        appended = [[writer, index] for writer in range(0, WRITERS, 2) for index in range(25)]
        wanted = map(exact, [*range(50), *appended])
        assert Counter(taken + [exact(item.data) for item in left]) == Counter(wanted)
