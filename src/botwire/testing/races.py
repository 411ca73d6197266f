"""The contract of conversations that several writers change at once, as a test class."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import Conflict, InvalidArgument
from ..operations import Append, Edit, Forget, Fork, NewMessage, Operation, Pop, Replace, Summarize
from ..queries import CountMessages, GetContext, GetSession, ListMessages, ListSessions
from ..records import Message
from ..store import Store
from ..values import decode
from .strategies import WRITERS, Counted, about_of, data_of, message_of, messages_of, race, repeating, session_of


class RaceContract(Counted):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    def test_one_winner_of_appends_with_if_last(self, store: Store) -> None:
        for last in range(10):
            won = race(
                lambda writer, last=last: self.wins(store, Append("s", messages_of([last, writer]), if_last=last))  # type: ignore[misc]
            )
            assert Counter(won)[True] == 1
            assert data_of(store)[last:] == [[last, won.index(True)]]

    def test_one_winner_of_edits_summaries_and_abouts(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*"abcde"))])
        for _ in range(4):
            message, version, about = message_of(store, 1).version, session_of(store).version, session_of(store).about
            for make in (
                lambda writer, message=message: Edit("s", 1, str(writer), message),
                lambda writer, about=about: about_of("s", str(writer), if_version=about.version),
            ):
                won = race(lambda writer, make=make: self.wins(store, make(writer)))  # type: ignore[misc]
                assert Counter(won)[True] == 1
                winner = won.index(True)
                assert winner in {message_of(store, 1).data, int(session_of(store).about.title or -1)}
            version = session_of(store).version
            won = race(
                lambda writer, version=version: self.wins(store, Summarize("s", 5, f"[{writer}]", None, version))  # type: ignore[misc]
            )
            assert Counter(won)[True] == 1
            assert decode(str(store.read("n", GetContext("s", 1)).summary)) == [won.index(True)]

    def test_one_winner_of_forks_onto_a_name(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*"abcde"))])
        for number in range(8):
            won = race(
                lambda writer, number=number: self.wins(store, Fork("s", f"t{number}", 1 + writer % 5))  # type: ignore[misc]
            )
            assert Counter(won)[True] == 1
            upto = 1 + won.index(True) % 5
            assert data_of(store, f"t{number}") == list("abcde")[:upto]
            assert session_of(store, f"t{number}").origin == ("s", upto)

    def wins(self, store: Store, operation: Operation) -> bool:
        """Write an operation; returns whether it was applied."""
        try:
            store.write("n", [operation])
        except Conflict:
            return False
        return True

    def test_no_edit_is_lost(self, store: Store) -> None:
        """Writers that add to the same message, each to what it read."""
        store.write("n", [Append("s", messages_of(0, 0))])

        def add(writer: int) -> None:
            for _ in range(10):
                while True:
                    message = message_of(store, 1 + writer % 2)
                    if self.wins(store, Edit("s", message.seq, str(message.data + 1), message.version)):
                        break

        race(add)
        assert data_of(store) == [10 * WRITERS // 2] * 2

    def test_forks_while_others_append(self, store: Store) -> None:
        """A fork has the first messages, and complete writes."""
        store.write("n", [Append("s", messages_of("begin", "begin"))])

        def work(writer: int) -> list[str]:
            for number in range(12):
                if writer % 2:
                    store.write("n", [Append("s", messages_of([writer, number], [writer, number]))])
                else:
                    self.retried(store, lambda number=number: Fork("s", f"{writer} {number}"))
            return [f"{writer} {number}" for number in range(12)] if writer % 2 == 0 else []

        forks = [name for names in race(work) for name in names]
        log = store.read("n", ListMessages("s"))
        assert len(log) == 2 + 24 * WRITERS // 2
        for name in forks:
            messages = store.read("n", ListMessages(name))
            assert len(messages) % 2 == 0
            assert messages == log[: len(messages)]
            assert session_of(store, name).origin == ("s", len(messages))

    def retried(self, store: Store, make: Any) -> None:
        """Write an operation until it is applied: an encrypted store forks what it has read."""
        while not self.wins(store, make()):
            pass

    def test_replacing_while_others_append(self, store: Store) -> None:
        """Every message that was acknowledged is there once, as itself or in the one that replaced it."""
        store.write("n", [Append("s", messages_of(["begin"]))])

        def work(writer: int) -> None:
            for number in range(15):
                if writer:
                    store.write("n", [Append("s", messages_of([f"{writer} {number}"]))])
                    continue
                while True:
                    found = store.read("n", ListMessages("s"))
                    joined = [text for item in found[:-1] for text in item.data]
                    new = (*messages_of(joined), *(NewMessage(item.id, item.stored) for item in found[-1:]))
                    if self.wins(store, Replace("s", new, 0, found[-1].seq)):
                        break

        race(work)
        found = store.read("n", ListMessages("s"))
        assert [item.seq for item in found] == list(range(1, len(found) + 1))
        held = Counter(text for item in found for text in item.data)
        wanted = Counter(f"{writer} {number}" for writer in range(1, WRITERS) for number in range(15))
        assert held == wanted + Counter(["begin"])

    def test_repeats_while_others_pop_redact_and_replace(self, store: Store) -> None:
        """Each message is stored, or a pop has deleted it. So is each of a write that is repeated while others erase what it returned."""

        def twice(key: str, operation: Operation) -> Any:
            """Write an operation under a key, and again, as after a lost answer; returns its result, or None if it was refused."""
            try:
                (first,) = store.write("n", [operation], idempotency_key=key)
            except (Conflict, InvalidArgument):  # others have changed what it expects
                return None
            try:
                (again,) = store.write("n", [operation], idempotency_key=key)
            except InvalidArgument as error:
                assert isinstance(operation, Pop)
                assert "was applied" in error.message
            else:
                assert isinstance(operation, Edit) or again == first
            return first

        def work(writer: int) -> tuple[list[str], list[str]]:
            appended, gone = [], []
            for number in range(8):
                key = f"{writer} {number}"
                new = messages_of("new", "new")
                if twice(f"{key} append", Append("s", new)) is not None:
                    appended += [item.id for item in new]
                known, found = store.read("n", GetSession("s")), store.read("n", ListMessages("s", last=3))
                if found and number % 2:
                    redaction = Edit("s", found[0].seq, '"gone"', redacted="", if_id=found[0].id)
                    twice(f"{key} redact", redaction)
                kept = tuple(NewMessage(item.id, item.stored) for item in found[1:])
                if known is not None and kept:
                    twice(f"{key} replace", Replace("s", kept, found[0].seq, found[-1].seq, known.version))
                gone += [item.id for item in twice(f"{key} pop", Pop("s", 1)) or []]
            return appended, gone

        done = race(work)
        appended, gone = ([id_ for ids in both for id_ in ids] for both in zip(*done, strict=True))
        held = store.read("n", ListMessages("s"))
        assert [item.seq for item in held] == list(range(1, len(held) + 1))
        assert len(appended) == 16 * WRITERS
        assert Counter(appended) == Counter(gone) + Counter(item.id for item in held)

    def test_summarizing_while_others_append(self, store: Store) -> None:
        """Every context has every message once: in the summary, or after it."""
        store.write("n", [Append("s", messages_of(0))])
        numbers = itertools.count(1)

        def check() -> None:
            context = store.read("n", GetContext("s", 10_000))
            held = decode(context.summary or "[]") + [item.seq for item in context.messages]
            assert held == list(range(1, context.last + 1))

        def work(writer: int) -> None:
            for _ in range(15):
                if writer:
                    store.write("n", [Append("s", messages_of(next(numbers)))])
                    continue
                while True:
                    last = store.read("n", CountMessages("s"))
                    text = str(list(range(1, last + 1)))
                    if self.wins(store, Summarize("s", last, text, if_last=last)):
                        break

        with repeating(check, 1):
            race(work)
        check()
        assert store.read("n", CountMessages("s")) == 1 + 15 * (WRITERS - 1)

    def test_a_reader_sees_complete_replacements(self, store: Store) -> None:
        """A session of n messages that all are n, by each query. Nor does one that another replaces seem to be missing."""
        longest = 40
        store.write("n", [Append("s", messages_of(*[longest] * longest))])

        def check(messages: list[Message], most: int) -> None:
            (many,) = {item.data for item in messages}
            assert [item.seq for item in messages] == list(range(1, many + 1))[-most:]

        def read() -> None:
            check(store.read("n", ListMessages("s")), longest)
            check(store.read("n", ListMessages("s", last=5)), 5)
            context = store.read("n", GetContext("s", 5, head=2))
            check(context.messages, 5)
            assert [item.data for item in context.head] == [context.last] * 2
            session = session_of(store, preview=True)
            (listed,) = store.read("n", ListSessions(preview=True))
            for found in (session, listed):
                assert found.preview is not None
                assert found.preview.data == found.preview.seq == found.messages

        with repeating(read):
            for number in range(60):
                many = longest - 35 * (number % 2)
                new = messages_of(*[many] * many)
                store.write("n", [Forget("s"), Append("s", new)] if number % 3 else [Replace("s", new)])

    def test_editing_while_others_read_and_append(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*range(20)))])

        def read() -> None:
            found = store.read("n", ListMessages("s", limit=20))
            assert [item.seq for item in found] == list(range(1, 21))
            assert all(item.data % 100 == item.seq - 1 for item in found)

        def work(writer: int) -> Sequence[Any]:
            seqs: list[Any] = []
            for number in range(10):
                if writer % 2:
                    seqs += store.write("n", [Append("s", messages_of(1_000))])
                else:
                    store.write("n", [Edit("s", number + 1, str(100 * writer + number))])
            return seqs

        with repeating(read, 1):
            seqs = sorted(seq for mine in race(work) for (seq,) in mine)
        assert seqs == list(range(21, 21 + 10 * WRITERS // 2))
        assert store.read("n", GetSession("s")) is not None
