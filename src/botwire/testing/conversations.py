"""The contract of conversations as a test class: conditional appends, edits, replacements, forks, summaries and contexts."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from ..errors import Conflict, InvalidArgument
from ..operations import (
    Append,
    Clear,
    Copies,
    Destroy,
    Edit,
    Forget,
    Fork,
    NewMessage,
    Operation,
    Pop,
    Replace,
    Retain,
    SetExpiry,
    Summarize,
)
from ..queries import GetContext, GetUsage, ListMessages, ListSessions
from ..records import About, Context, Message
from ..store import Store
from ..timestamps import now
from ..values import decode
from .strategies import (
    AWKWARD_NAMES,
    Counted,
    about_of,
    data_of,
    message_of,
    messages_of,
    popped,
    put,
    refused,
    session_of,
    snapshot,
)

_MESSAGES = messages_of("a", "b", "c", "d", "e")
_ABOUT = about_of("s", "A title", "ada", ("red", "blue"), {"plan": "pro"})
_READY: list[Operation] = [Append("s", _MESSAGES), _ABOUT, Summarize("s", 2, '["a and b"]')]
"""A session with everything."""
_NEW = messages_of("new")


def _varied(operation: Operation, *changes: dict[str, Any]) -> list[Operation]:
    """Return an operation, and others that differ from it in one field."""
    return [operation, *(replace(operation, **change) for change in changes)]


_KEYED: dict[str, list[Operation]] = {
    "append": _varied(Append("s", _NEW, 5, ttl=60.0), {"if_last": None}, {"ttl": 61.0}, {"if_version": 1}),
    "replace": _varied(
        Replace("s", _NEW, 2, 5), {"after": 3}, {"messages": messages_of("new")}, {"ttl": 61.0}, {"if_last": None}
    ),
    "fork": _varied(Fork("s", "t", 3), {"upto": None}, {"upto": 2}, {"target": "u"}),
    "edit": _varied(Edit("s", 1, '"new"'), {"seq": 2}, {"stored": '"newer"'}, {"redacted": ""}),
    "redact": _varied(Edit("s", 1, '"new"', redacted="law"), {"redacted": ""}, {"redacted": None}),
    "summarize": _varied(
        Summarize("s", 3, '["new"]', 5), {"upto": 4}, {"stored": '["newer"]'}, {"if_last": None}, {"if_version": 1}
    ),
    "about": _varied(
        about_of("s", "new", "bob", ("green",), {"plan": "free"}),
        {"owner": None},
        {"tags": ("green", "red")},
        {"stored": '{"title":"newer"}'},
        {"if_version": 1},
    ),
    "expiry": _varied(SetExpiry("s", 60.0), {"ttl": None}, {"session": "t"}),
    "retain": _varied(Retain("", 60.0), {"prefix": "s"}, {"idle": None, "age": 60.0}),
    "destroy": [Destroy(), Clear()],
}
"""An operation of each kind that a session with everything allows, and others that differ from it."""


class ConversationContract(Counted):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    unrepeatable: frozenset[str] = frozenset()
    """Kinds of operations that a store may refuse to repeat under their key, when what they changed was deleted."""

    # Conditional appends

    def test_append_if_nothing_was_appended_since(self, store: Store) -> None:
        new = messages_of("a", "b")
        assert store.write("n", [Append("s", new, if_last=0)]) == [[1, 2]]
        for last in (0, 1, 3):
            refused(store, Conflict, Append("s", messages_of("c"), if_last=last), last=2)
        refused(store, Conflict, Append("s", (new[0], *messages_of("c")), if_last=0), last=2)
        refused(store, Conflict, Append("t", messages_of("c"), if_last=1), last=0)
        assert store.write("n", [Append("s", messages_of("c"), if_last=2)]) == [[3]]
        usage = store.read("n", GetUsage())
        assert store.write("n", [Append("s", new, if_last=0)]) == [[1, 2]]  # a repeat
        assert store.read("n", GetUsage()) == usage
        store.write("n", [Pop("s", 2)])
        assert store.write("n", [Append("s", messages_of("d"), if_last=1)]) == [[2]]
        assert data_of(store) == ["a", "d"]

    def test_append_if_nothing_else_changed(self, store: Store) -> None:
        new = messages_of("a", "b", "c")
        store.write("n", [Append("s", new)])
        version = session_of(store).version
        assert store.write("n", [Append("s", messages_of("d"), if_version=version)]) == [[4]]
        changes: list[Operation] = [
            Edit("s", 1, '"A"'),
            Pop("s", 1),
            Replace("s", messages_of("x"), 2),
            Summarize("s", 1, '["A"]'),
        ]
        for change in changes:
            store.write("n", [change])
            changed = session_of(store).version
            assert changed > version
            refused(store, Conflict, Append("s", messages_of("e"), if_version=version), version=changed)
            assert store.write("n", [Append("s", new[:2], if_version=version)]) == [[1, 2]]  # a repeat
            version = changed
        refused(store, Conflict, Append("never", messages_of("e"), if_version=version), version=0)
        last = session_of(store).messages
        assert store.write("n", [Append("s", messages_of("e"), last, version)]) == [[last + 1]]
        assert session_of(store).version == version

    # Edits

    def test_edit(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES), Append("t", _MESSAGES)])
        before = store.read("n", ListMessages("s"))
        session = session_of(store)
        assert [item.version for item in before] == [item.created for item in before]
        (version,) = store.write("n", [Edit("s", 2, '{"b":[2]}')])
        after = store.read("n", ListMessages("s"))
        assert after == [before[0], replace(before[1], stored='{"b":[2]}', edited=version), *before[2:]]
        assert after[1].version == version
        assert before[1].version < after[1].version <= now()
        assert session_of(store).version > session.version
        assert session_of(store).updated >= session.updated
        assert data_of(store, "t") == list("abcde")
        (again,) = store.write("n", [Edit("s", 2, '{"b":[2]}')])  # the same data is a write too
        assert cast("int", again) > cast("int", version)
        assert store.write("n", [Append("s", _MESSAGES)]) == [[1, 2, 3, 4, 5]]
        assert data_of(store) == ["a", {"b": [2]}, "c", "d", "e"]
        assert [item.data for item in popped(store, Pop("s", 4))] == [{"b": [2]}, "c", "d", "e"]

    def test_edit_only_what_is_expected(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        old = message_of(store, 3)
        for wrong in (0, old.version - 1, old.version + 1):
            refused(store, Conflict, Edit("s", 3, '"C"', wrong), version=old.version)
        (version,) = store.write("n", [Edit("s", 3, '"C"', old.version)])
        refused(store, Conflict, Edit("s", 3, '"D"', old.version), version=version)
        store.write("n", [Edit("s", 3, '"D"', cast("int", version))])
        assert data_of(store) == ["a", "b", "D", "d", "e"]

    def test_edit_only_the_message_that_was_read(self, store: Store) -> None:
        """Messages of one append have the same version, so only the id says that another one has the seq by now."""
        store.write("n", [Append("s", _MESSAGES)])
        old = message_of(store, 3)
        kept = tuple(NewMessage(item.id, item.stored) for item in (message_of(store, 4), message_of(store, 5)))
        store.write("n", [Replace("s", kept, 2)])
        version = message_of(
            store, 3
        ).version  # in an encrypted memory, a message that is written again counts as edited
        for expected in (version, None):
            refused(store, Conflict, Edit("s", 3, '"C"', expected, if_id=old.id), version=version)
        assert data_of(store) == ["a", "b", "d", "e"]
        store.write("n", [Edit("s", 3, '"D"', version, if_id=kept[0].id)])
        assert data_of(store) == ["a", "b", "D", "e"]

    def test_edits_of_one_write(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        versions = store.write("n", [Edit("s", 1, str(number)) for number in range(20)])
        assert versions == sorted(set(cast("list[int]", versions)))
        assert message_of(store, 1).version == versions[-1]
        assert data_of(store) == [19, "b", "c", "d", "e"]

    def test_redact(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        before = message_of(store, 2)
        for reason in ("asked by the user", "", "é" * 100):
            (version,) = store.write("n", [Edit("s", 2, '"[redacted]"', redacted=reason)])
            wanted = replace(before, stored='"[redacted]"', edited=version, redacted=reason)
            assert message_of(store, 2) == wanted
        assert [item.redacted for item in store.read("n", ListMessages("s"))] == [None, "é" * 100, None, None, None]
        store.write("n", [Edit("s", 2, '"new"')])
        assert message_of(store, 2).redacted is None

    def test_a_message_that_does_not_exist(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        for seq in (6, 7, 10**9):
            for op in (
                Edit("s", seq, "1"),
                Fork("s", "t", seq),
                Summarize("s", seq, '["x"]'),
                Replace("s", messages_of("x"), seq),
            ):
                error = refused(store, InvalidArgument, op)
                assert str(seq) in error.message.replace(",", "")
                assert "5" in error.message
        for op in (Edit("never", 1, "1"), Fork("never", "t", 1), Fork("never", "t"), Summarize("never", 1, '["x"]')):
            assert "'never'" in refused(store, InvalidArgument, op).message
        refused(store, InvalidArgument, Replace("never", messages_of("x"), 1))
        refused(store, InvalidArgument, Fork("s", "t", 0))
        store.write("n", [about_of("empty", "no messages")])
        refused(store, InvalidArgument, Fork("empty", "t"))

    # Replacements

    def test_replace(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        before = store.read("n", ListMessages("s"))
        session = session_of(store)
        new = messages_of("x", "y")
        assert store.write("n", [Replace("s", new, 3, if_last=5)]) == [[4, 5]]
        after = store.read("n", ListMessages("s"))
        assert after[:3] == before[:3]
        assert [(item.seq, item.id, item.data) for item in after[3:]] == [(4, new[0].id, "x"), (5, new[1].id, "y")]
        assert session_of(store).version > session.version
        assert session_of(store).created == session.created
        assert store.write("n", [Replace("s", messages_of("z"))]) == [[1]]
        assert data_of(store) == ["z"]
        assert (session_of(store).created, session_of(store).place) == (session.created, session.place)
        assert store.write("n", [Replace("s", messages_of("first", "second"), 1)]) == [[2, 3]]
        assert store.write("n", [Append("s", messages_of("third"))]) == [[4]]
        assert data_of(store) == ["z", "first", "second", "third"]
        assert store.write("n", [Replace("s", (), 1)]) == [[]]
        assert data_of(store) == ["z"]
        assert store.write("n", [Replace("new", messages_of(1, 2))]) == [[1, 2]]

    def test_replace_by_messages_with_the_same_ids(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        before = {item.id: item for item in store.read("n", ListMessages("s"))}
        a, b, c, d, e = _MESSAGES
        (new,) = messages_of("new")
        changed = replace(d, stored='"D"')
        assert store.write("n", [Replace("s", (new, e, changed, c, e, a), 1)]) == [[2, 3, 4, 5, 3, 1]]
        found = store.read("n", ListMessages("s"))
        assert [(item.id, item.data) for item in found] == [
            (a.id, "a"), (new.id, "new"), (e.id, "e"), (d.id, "D"), (c.id, "c"),
        ]  # fmt: skip
        assert all(item.created == before[item.id].created for item in found if item.id != new.id)
        assert found[2] == replace(before[e.id], seq=3, edited=self.edited_by_a_replacement(found[2]))
        assert found[3].version > before[d.id].version
        assert store.write("n", [Append("s", (b, e))]) == [[6, 3]]

    def test_replace_only_what_is_expected(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        version = session_of(store).version
        for last in (0, 4, 6):
            refused(store, Conflict, Replace("s", messages_of("x"), 2, last), last=5)
            refused(store, Conflict, Replace("s", _MESSAGES[2:], 2, last), last=5)  # it counts always
        refused(store, Conflict, Replace("s", messages_of("x"), 2, 5, version + 1), version=version)
        assert store.write("n", [Replace("s", messages_of("x"), 2, 5, version)]) == [[3]]
        refused(store, Conflict, Replace("s", messages_of("y"), 2, 3, version), version=session_of(store).version)
        refused(store, Conflict, Replace("never", messages_of("x"), if_last=1), last=0)
        assert store.write("n", [Replace("never", messages_of("x"), if_last=0)]) == [[1]]

    def test_a_session_without_messages(self, store: Store) -> None:
        store.write("n", [Append(name, _MESSAGES) for name in ("s", "t", "u", "v")])
        store.write("n", [about_of("t", "a title"), SetExpiry("u", 600.0), Fork("s", "w", 1)])
        store.write("n", [Replace("s", ()), Replace("t", ()), Pop("u", 9), Pop("v", 9), Pop("w", 1)])
        assert {session.name for session in store.read("n", ListSessions())} == {"t", "u", "w"}
        for name in ("t", "u", "w"):
            assert session_of(store, name, preview=True).preview is None
            assert (session_of(store, name).messages, data_of(store, name)) == (0, [])
            assert store.write("n", [Append(name, messages_of(1), if_last=0)]) == [[1]]
        assert session_of(store, "t").about.title == "a title"
        assert session_of(store, "u").expires is not None
        assert session_of(store, "w").origin == ("s", 1)
        store.write("n", [Forget(name) for name in ("t", "u", "w")])
        assert store.read("n", ListSessions()) == []
        store.write("n", [Append(name, messages_of(1)) for name in ("t", "u", "w")])
        for session in store.read("n", ListSessions()):
            assert (session.about, session.expires, session.origin) == (About(), None, None)

    def edited_by_a_replacement(self, message: Message) -> int | None:
        """Return the time of the last edit of a message that was replaced by the same data: there was none.

        Override it for a store that cannot compare data.
        """
        del message
        return None

    # Forks

    def test_fork(self, store: Store) -> None:
        store.write("n", _READY)
        store.write("n", [Edit("s", 4, '"D"'), Edit("s", 5, '"[redacted]"', redacted="law"), SetExpiry("s", 600.0)])
        original, messages = session_of(store, preview=True), store.read("n", ListMessages("s"))
        context = store.read("n", GetContext("s", 10))
        assert store.write("n", [Fork("s", "all")]) == [5]
        assert store.write("n", [Fork("s", "some", 3)]) == [3]
        assert store.write("n", [Fork("s", "one", 1)]) == [1]
        assert session_of(store, preview=True) == original
        assert store.read("n", ListMessages("s")) == messages
        for name, upto in (("all", 5), ("some", 3), ("one", 1)):
            fork = session_of(store, name, preview=True)
            assert store.read("n", ListMessages(name)) == messages[:upto]
            assert (fork.messages, fork.origin, fork.expires) == (upto, ("s", upto), None)
            assert fork.preview == messages[upto - 1]
            known = fork.about.title, fork.about.owner, fork.about.tags, fork.about.data
            assert known == ("A title", "ada", ("red", "blue"), {"plan": "pro"})
            assert fork.about.version > 0
            copied = store.read("n", GetContext(name, 10))
            assert copied.summarized == fork.summarized == (2 if upto > 1 else 0)
            assert copied.summary == (context.summary if upto > 1 else None)
        for query in (ListSessions(), ListSessions(order="created")):
            assert [session.name for session in store.read("n", query)] == ["one", "some", "all", "s"]

    def test_a_fork_and_its_original_are_apart(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        store.write("n", [Fork("s", "t", 3)])
        assert store.write("n", [Append("t", _MESSAGES), Append("s", messages_of("f"))]) == [[1, 2, 3, 4, 5], [6]]
        store.write("n", [Edit("t", 1, '"A"'), Edit("s", 2, '"B"'), Pop("t", 1), about_of("t", "of the fork")])
        assert data_of(store) == ["a", "B", "c", "d", "e", "f"]
        assert data_of(store, "t") == ["A", "b", "c", "d"]
        assert session_of(store).about == About()
        store.write("n", [Fork("t", "u"), Forget("s")])
        assert data_of(store, "t") == data_of(store, "u") == ["A", "b", "c", "d"]
        assert session_of(store, "u").origin == ("t", 4)
        assert session_of(store, "t").origin == ("s", 3)
        assert store.write("n", [Forget("t")]) == [4]
        assert data_of(store, "u") == ["A", "b", "c", "d"]

    def test_fork_onto_a_session_that_exists(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES), Append("t", messages_of(1)), about_of("u", "no messages")])
        for target in ("s", "t", "u"):
            assert repr(target) in refused(store, Conflict, Fork("s", target)).message
        store.write("n", [Forget("t")])
        assert store.write("n", [Fork("s", "t")]) == [5]

    def test_fork_only_what_is_expected(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        version = session_of(store).version
        store.write("n", [Edit("s", 1, '"A"')])
        changed = session_of(store).version
        refused(store, Conflict, Fork("s", "t", if_version=version), version=changed)
        assert store.write("n", [Fork("s", "t", if_version=changed)]) == [5]

    def test_forks_of_awkward_names(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(1))])
        names = [name for name in AWKWARD_NAMES if name != "s"]
        for name in names:
            assert store.write("n", [Fork("s", name)]) == [1]
            store.write("n", [Edit(name, 1, '"x"'), Summarize(name, 1, '["x"]'), SetExpiry(name, 600.0)])
            assert session_of(store, name).origin == ("s", 1)
            assert (data_of(store, name), store.read("n", GetContext(name, 1)).summarized) == (["x"], 1)
        assert {session.name for session in store.read("n", ListSessions())} == {"s", *names}

    def test_a_fork_with_copies(self, store: Store) -> None:
        """As an encrypted store makes it."""
        store.write("n", _READY)
        before = store.read("n", ListMessages("s"))
        copies = tuple(NewMessage(item.id, f'"copy of {item.data}"') for item in before[:3])
        version = session_of(store).version
        for wrong in (copies[:2], copies[::-1], (*copies, NewMessage("x", '"x"'))):
            refused(store, Conflict, Fork("s", "t", 3, version, Copies(wrong, '["copy"]', '{"title":"copy"}')))
        assert store.write("n", [Fork("s", "t", 3, version, Copies(copies, '["copy"]', '{"title":"copy"}'))]) == [3]
        wanted = [replace(item, stored=copy.stored) for item, copy in zip(before, copies, strict=False)]
        assert store.read("n", ListMessages("t")) == wanted
        assert session_of(store, "t").about.title == "copy"
        assert session_of(store, "t").about.tags == ("red", "blue")
        assert store.read("n", GetContext("t", 9)).summary == '["copy"]'

    # Summaries and contexts

    def test_summarize(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*range(1, 11)))])
        before = session_of(store)
        (version,) = store.write("n", [Summarize("s", 4, '[{"role":"system","content":"1 to 4"}]', if_last=10)])
        context = store.read("n", GetContext("s", 100))
        assert (context.version, context.last, context.summarized) == (version, 10, 4)
        assert decode(str(context.summary)) == [{"role": "system", "content": "1 to 4"}]
        assert [item.seq for item in context.messages] == [5, 6, 7, 8, 9, 10]
        assert data_of(store) == list(range(1, 11))
        session = session_of(store)
        assert (session.version, session.summarized) == (version, 4)
        assert session.version > before.version
        store.write("n", [Summarize("s", 4, '["again"]'), Append("s", messages_of(11))])
        assert decode(str(store.read("n", GetContext("s", 1)).summary)) == ["again"]
        store.write("n", [Summarize("s", 11, '["all", 11]')])
        context = store.read("n", GetContext("s", 100))
        assert (context.summarized, decode(str(context.summary)), context.messages) == (11, ["all", 11], [])
        store.write("n", [Summarize("s", 0, "[]")])
        context = store.read("n", GetContext("s", 100))
        assert (context.summarized, context.summary, len(context.messages)) == (0, None, 11)
        assert session_of(store).summarized == 0

    def test_summarize_only_what_is_expected(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        version = session_of(store).version
        refused(store, Conflict, Summarize("s", 3, '["x"]', if_last=4), last=5)
        refused(store, Conflict, Summarize("s", 3, '["x"]', if_version=version + 1), version=version)
        store.write("n", [Summarize("s", 3, '["x"]', 5, version)])
        refused(store, Conflict, Summarize("s", 2, '["y"]'))
        refused(store, Conflict, Summarize("s", 4, '["y"]', if_version=version), version=session_of(store).version)
        refused(store, Conflict, Summarize("s", 0, "[]", if_last=4), last=5)
        refused(store, InvalidArgument, Summarize("s", 0, '["y"]'))
        refused(store, InvalidArgument, Summarize("s", 4, "[]"))
        assert store.read("n", GetContext("s", 9)).summary is not None

    def test_what_deletes_a_summary(self, store: Store) -> None:
        deletes: list[Operation] = [
            Pop("s", 4),
            Replace("s", messages_of("x"), 1),
            Replace("s", ()),
            Edit("s", 2, '"[redacted]"', redacted=""),
        ]
        keeps: list[Operation] = [
            Pop("s", 3),
            Replace("s", messages_of("x"), 2),
            Edit("s", 2, '"edited"'),
            Edit("s", 3, '"[redacted]"', redacted=""),
            Append("s", messages_of("x")),
            about_of("s", "other"),
        ]
        for operations, summarized in ((deletes, 0), (keeps, 2)):
            for operation in operations:
                store.write("n", [Forget("s"), *_READY])
                store.write("n", [operation])
                context = store.read("n", GetContext("s", 9))
                assert (context.summarized, context.summary is None) == (summarized, not summarized), operation
                assert session_of(store).summarized == summarized
                assert self.bytes_of(store) == store.read("n", GetUsage()).bytes

    def test_contexts(self, store: Store) -> None:
        assert store.read("n", GetContext("s", 5, head=2)) == Context()
        store.write("n", [Append("s", messages_of(*range(1, 11)))])

        def seqs(last: int, before: int | None = None, head: int = 0) -> list[int]:
            context = store.read("n", GetContext("s", last, before, head))
            assert [item.seq for item in context.head] == list(range(1, head + 1))
            assert [item.data for item in context.messages] == [item.seq for item in context.messages]
            assert (context.last, context.version) == (10, session_of(store).version)
            return [item.seq for item in context.messages]

        assert seqs(3) == [8, 9, 10]
        assert seqs(0) == seqs(5, 1) == []
        assert seqs(99, head=2) == seqs(99, 11) == seqs(99, 10**9) == list(range(1, 11))
        assert seqs(3, 8) == [5, 6, 7]
        assert seqs(3, 2, 3) == [1]
        store.write("n", [Summarize("s", 6, '["1 to 6"]')])
        assert seqs(99) == seqs(99, 11) == [7, 8, 9, 10]
        assert seqs(2, head=4) == [9, 10]
        assert seqs(99, 9) == [7, 8]
        assert seqs(99, 8) == [7]
        # Nothing after the summary is left: what it covers is older.
        assert seqs(99, 7) == [1, 2, 3, 4, 5, 6]
        assert seqs(2, 7) == [5, 6]
        assert seqs(2, 5) == [3, 4]

    def test_a_context_ends_when_its_room_is_full(self, store: Store) -> None:
        """It has the newest messages, without a gap."""
        store.write("n", [Append("s", messages_of(*(letter * 10_000 for letter in "abcdef")))])
        for before in (None, 5):
            newest = 6 if before is None else before - 1
            for room, least, most in ((0, 1, 1), (15_000, 1, 2), (1_000_000, newest, newest)):
                found = [item.seq for item in store.read("n", GetContext("s", 9, before, room=room)).messages]
                assert least <= len(found) <= most
                assert found == list(range(newest - len(found) + 1, newest + 1))

    # All together

    def test_operations_on_sessions_see_those_before(self, store: Store) -> None:
        store.write("n", [Append("s", _MESSAGES)])
        results = store.write(
            "n",
            [
                Edit("s", 1, '"A"'),
                Append("s", (*_MESSAGES, *messages_of("f", "g")), if_last=5),
                Pop("s", 3),
                Replace("s", messages_of("x"), 2, if_last=4),
                Summarize("s", 3, '["sum"]', if_last=3),
                _ABOUT,
                SetExpiry("s", 600.0),
                SetExpiry("t", 600.0),
                Append("s", messages_of("y"), if_last=3),
                put("k", 1),
            ],
        )
        assert (results[1], results[3], results[6:9]) == ([1, 2, 3, 4, 5, 6, 7], [3], [True, False, [4]])
        assert data_of(store) == ["A", "b", "x", "y"]
        session = session_of(store)
        assert (session.summarized, session.about.title, session.messages) == (3, "A title", 4)
        assert session.expires is not None

    def test_edits_and_forks_see_operations_before_them(self, store: Store) -> None:
        results = store.write("n", [*_READY, Edit("s", 1, '"A"'), Fork("s", "t", 3), Append("t", messages_of("x"))])
        assert results[-2:] == [3, [4]]
        assert data_of(store, "t") == ["A", "b", "c", "x"]
        assert session_of(store, "t").summarized == 2

    def test_all_or_nothing_of_sessions(self, store: Store) -> None:
        store.write("n", _READY)
        before = snapshot(store)
        write: list[Operation] = [
            Append("s", messages_of("f")),
            Edit("s", 1, '"A"'),
            Replace("s", messages_of("x"), 3),
            Summarize("s", 3, '["y"]'),
            about_of("s", "other"),
            SetExpiry("s", 0.001),
            Retain("", 0.001),
            Forget("s"),
            Append("s", messages_of("z")),
            put("k", 1),
        ]
        for last in (put("k", 1, if_version=9), Edit("s", 9, "1"), Append("s", messages_of(1), if_last=9)):
            with pytest.raises((Conflict, InvalidArgument)):
                store.write("n", [*write, last])
            assert snapshot(store) == before
        with pytest.raises(Conflict):
            store.write("never", [about_of("s", "x"), Retain("", 60.0), put("k", 1, if_version=9)])
        assert snapshot(store, "never") == snapshot(store, "another")

    def bytes_of(self, store: Store, namespace: str = "n") -> int:
        """Return the bytes of all sessions."""
        return sum(session.bytes for session in store.read(namespace, ListSessions()))

    def test_usage_of_conversations(self, store: Store) -> None:
        new = messages_of("one", "twö", "three")
        about = about_of("s", "A títle", "ädä", ("réd", "blue"), {"plan": "pro"})
        summary, edited = '["one, two"]', '"a longer text"'
        one = self.counted_message
        steps: list[tuple[Operation, int, int | None]] = [
            (Append("s", new), 3, self.counted_messages(new)),
            (Edit("s", 2, edited), 1, one(edited) - one(new[1].stored)),
            (about, 1, self.counted_about(about)),
            (Summarize("s", 2, summary), 1, one(summary)),
            (SetExpiry("s", 600.0), 0, 0),
            (Retain("", 6_000.0), 0, 0),
            (Fork("s", "t"), 1, None),
            (Replace("t", new[:1], 2), 0, -self.counted_messages(new[2:])),
            (Forget("t"), 0, None),
            (Replace("s", messages_of("four"), 3, 3), 1, one('"four"') + 36),
            (Summarize("s", 0, "[]"), 1, -one(summary)),
            (Edit("s", 2, new[1].stored), 1, one(new[1].stored) - one(edited)),
            (Pop("s", 1), 0, -one('"four"') - 36),
        ]
        for operation, writes, added in steps:
            before, held = store.read("n", GetUsage()), self.bytes_of(store)
            store.write("n", [operation])
            usage = store.read("n", GetUsage())
            assert usage.bytes == self.bytes_of(store)
            assert usage.writes_today == before.writes_today + writes, operation
            assert added in {None, usage.bytes - before.bytes}, operation
            if isinstance(operation, Fork):
                assert session_of(store, "t").bytes == session_of(store).bytes == held
        assert usage.bytes == self.counted_messages(new) + self.counted_about(about)
        store.write("n", [Forget("s")])
        assert store.read("n", GetUsage()).bytes == 0

    # Idempotency keys

    @pytest.mark.parametrize("kind", _KEYED)
    def test_an_operation_under_a_known_key_is_applied_once(self, store: Store, kind: str) -> None:
        store.write("n", _READY)
        write = _KEYED[kind][:1]
        first = store.write("n", write, idempotency_key="one")
        later: list[Operation] = [
            Append("s", messages_of("later")),
            Edit("s", 1, '"edited later"'),
            about_of("s", "later"),
        ]
        for operation in (put("k", 1), *later):
            store.write("n", [operation])
        before = snapshot(store)
        assert store.write("n", write, idempotency_key="one") == first
        assert snapshot(store) == before

    @pytest.mark.parametrize("kind", _KEYED)
    def test_an_operation_under_a_known_key_restores_nothing(self, store: Store, kind: str) -> None:
        store.write("n", _READY)
        write = _KEYED[kind][:1]
        first = store.write("n", write, idempotency_key="one")
        store.write("n", [Forget("s"), Forget("t"), Retain(""), put("k", 1), Append("s", messages_of("later"))])
        before = snapshot(store)
        if kind in self.unrepeatable:
            with pytest.raises(InvalidArgument):
                store.write("n", write, idempotency_key="one")
        else:
            assert store.write("n", write, idempotency_key="one") == first
        assert snapshot(store) == before
        assert data_of(store) == ["later"]

    @pytest.mark.parametrize("kind", _KEYED)
    def test_a_key_is_refused_for_a_different_operation(self, store: Store, kind: str) -> None:
        store.write("n", _READY)
        write, *others = _KEYED[kind]
        first = store.write("n", [write], idempotency_key="one")
        before = snapshot(store)
        for other in others:
            with pytest.raises(InvalidArgument):
                store.write("n", [other], idempotency_key="one")
        assert store.write("n", [write], idempotency_key="one") == first
        assert snapshot(store) == before

    def test_a_key_of_a_fork_does_not_depend_on_what_was_read_for_it(self, store: Store) -> None:
        store.write("n", _READY)
        version = session_of(store).version
        assert store.write("n", [Fork("s", "t", 3, version)], idempotency_key="one") == [3]
        store.write("n", [Edit("s", 1, '"A"')])
        changed = session_of(store).version
        assert store.write("n", [Fork("s", "t", 3, changed)], idempotency_key="one") == [3]
        assert data_of(store, "t") == ["a", "b", "c"]
