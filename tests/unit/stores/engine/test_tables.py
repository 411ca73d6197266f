"""Numbers at the end of their range, on both databases: of sessions, messages and indexed entries, and those of callers."""

from __future__ import annotations

import pytest

from botwire import InvalidArgument, StoreError
from botwire.operations import Append, Forget, NewMessage, Pop, Put, SetVectors, Vector
from botwire.queries import (
    CountMessages,
    ListChanges,
    ListEntries,
    ListKeys,
    ListMessages,
    ListSessions,
    ListTexts,
    Search,
)
from botwire.stores.engine.tables import FIRST_MESSAGE, LAST_SEQ, LAST_SESSION, MOST, place_of
from botwire.stores.sqlite.store import SqliteStore


def append(store, namespace, session, *texts):
    return store.write(namespace, [Append(session, tuple(NewMessage(text, f'"{text}"') for text in texts))])


def data(store, namespace, session):
    return [message.data for message in store.read(namespace, ListMessages(session))]


def numbers(store, namespace):
    return {session.name: session.place for session in store.read(namespace, ListSessions())}


def set_last_session(store, run, number):
    if isinstance(store, SqliteStore):
        run(f"UPDATE sqlite_sequence SET seq = {number} WHERE name = 'sessions'")
    else:
        run(f"UPDATE botwire.namespaces SET sessions = {number}")


def test_places_are_numbers_of_the_database():
    assert place_of(LAST_SESSION, LAST_SEQ) == MOST
    assert place_of(1, 0) == FIRST_MESSAGE == LAST_SEQ + 1


def test_sessions_begin_after_all_numbers_were_used(opened):
    """Free numbers are used again, the next ones first. Nothing of another session is changed or shown."""
    store, run = opened
    for name in ("kept", "forgotten", "kept too"):
        append(store, "n", name, "old")
    store.write("n", [Forget("forgotten")])
    set_last_session(store, run, LAST_SESSION - 1)
    for number in range(4):
        append(store, "n", f"new {number}", f"unusual{number}", "second")
    assert numbers(store, "n") == {
        "kept": 1, "kept too": 3, "new 0": LAST_SESSION, "new 1": 2, "new 2": 4, "new 3": 5,
    }  # fmt: skip
    for number in range(4):
        assert data(store, "n", f"new {number}") == [f"unusual{number}", "second"]
    assert data(store, "n", "kept") == data(store, "n", "kept too") == ["old"]
    for number in range(4):
        hits = store.read("n", Search(text=f"unusual{number}", neighbours=0))
        assert [hit.session for hit in hits] == [f"new {number}"]
    # A number that was just given up is not the next one.
    append(store, "n", "gone", "gone")
    store.write("n", [Forget("gone")])
    append(store, "n", "last", "last")
    assert numbers(store, "n")["last"] == 7


def test_a_number_used_again_shows_no_watcher_another_namespace(opened):
    store, run = opened
    append(store, "a", "s", "mine")
    store.write("a", [Forget("s")])
    set_last_session(store, run, LAST_SESSION)
    append(store, "b", "t", "secret")
    assert numbers(store, "b") == {"t": 1}
    changes = store.read("a", ListChanges(after=0)).changes
    assert [change.kind for change in changes] == ["pop"]


def test_no_number_is_left(opened, monkeypatch):
    store, _ = opened
    for module in ("sqlite.tables", "postgres.session_work"):
        monkeypatch.setattr(f"botwire.stores.{module}.LAST_SESSION", 3)
    for number in range(3):
        append(store, "n", f"{number}", "1")
    for _ in range(2):
        with pytest.raises(StoreError, match="nothing was written"):
            append(store, "n", "one more", "1")
    store.write("n", [Pop("1")])
    append(store, "n", "one more", "1")
    assert numbers(store, "n") == {"0": 1, "one more": 2, "2": 3}


def test_entries_are_indexed_after_all_text_ids_were_used(opened):
    store, run = opened
    store.write("n", [Put("k", '"first"'), Append("s", (NewMessage("m", '"message"'),))])
    assert len(store.read("n", Search(text="first"))) == 1
    if isinstance(store, SqliteStore):
        run(f"INSERT INTO entry_texts VALUES ({LAST_SEQ}, 99, 'other', 1)")
    else:
        run(f"UPDATE botwire.namespaces SET entry_texts = {LAST_SEQ}")
    for start in range(0, 300, 100):  # each more than the list of what is not indexed yet
        store.write("n", [Put(f"{number}", f'"word{number}"') for number in range(start, start + 100)])
    table = "entry_texts" if isinstance(store, SqliteStore) else "botwire.texts"
    ((most, least, count),) = run(f"SELECT max(id), min(id), count(*) FROM {table} WHERE id <= {LAST_SEQ}")
    assert count >= 200
    assert 1 <= least <= most <= LAST_SEQ
    assert run(f"SELECT count(*) FROM {table} WHERE id > {FIRST_MESSAGE + 1}") == [(0,)]
    for number in (0, 150, 299):
        assert [hit.entry.key for hit in store.read("n", Search(text=f"word{number}"))] == [f"{number}"]
    assert [hit.session for hit in store.read("n", Search(text="message"))] == ["s"]


def test_a_full_session_is_refused(opened):
    store, run = opened
    append(store, "n", "s", "1")
    run(f"UPDATE botwire.sessions SET last_seq = {LAST_SEQ - 1}")
    with pytest.raises(InvalidArgument, match="messages of at most"):
        append(store, "n", "s", "2", "3")
    assert append(store, "n", "s", "2") == [[LAST_SEQ]]
    with pytest.raises(InvalidArgument):
        append(store, "n", "s", "3")
    assert store.read("n", CountMessages("s")) == LAST_SEQ


BIG = 2**70


@pytest.mark.parametrize(
    "operation",
    [
        Put("l", "1", times=(1, BIG, None)), Put("l", "1", times=(1, 1, BIG)), Put("l", "1", ttl=1e300),
        Put("l", "1", ttl=float("nan")), Append("t", (NewMessage("a", "1", created=BIG),)),
        SetVectors("m", (Vector(b"1234", "k", BIG),)),
    ],
)  # fmt: skip
def test_a_number_that_no_database_stores_is_refused(opened, operation):
    store, _ = opened
    if isinstance(operation, SetVectors) and not isinstance(store, SqliteStore):
        store.create_vectors()
    store.write("n", [Put("k", "1")])
    with pytest.raises(InvalidArgument):
        store.write("n", [Put("l", "1"), operation])
    assert store.read("n", ListKeys()) == ["k"]


@pytest.mark.parametrize(
    "query",
    [
        ListKeys(limit=BIG), ListEntries(limit=BIG),
        ListMessages("s", after=-BIG), ListTexts("m", after=f"m{BIG}"),
    ],
)  # fmt: skip
def test_a_query_with_such_a_number_is_refused(opened, query):
    store, _ = opened
    if isinstance(query, ListTexts) and not isinstance(store, SqliteStore):
        store.create_vectors()
    append(store, "n", "s", "1")
    with pytest.raises(InvalidArgument, match="64 bits"):
        store.read("n", query)
