"""Idempotency records, on both databases: what differs, what is kept and for how long, and what is erased."""

from __future__ import annotations

import time
from contextlib import closing

import apsw
import pytest

from botwire import InvalidArgument
from botwire.operations import (
    Append,
    Clear,
    Copies,
    Delete,
    Edit,
    Expire,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Pop,
    Put,
    SetVectors,
    Vector,
    Write,
)
from botwire.queries import CountMessages, GetSession, GetUsage, ListKeys, ListMessages, ListNamespaces
from botwire.stores.engine import idempotency
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import new_id


def messages(*texts):
    return tuple(NewMessage(text, f'"{text}"') for text in texts)


def records(run):
    """Return the records of keys that callers chose, and everything else that is kept for repeats."""
    answers = run("SELECT results FROM botwire.answers WHERE results <> ''")
    return answers, run("SELECT messages FROM botwire.popped")


def test_writes_differ_by_all_that_was_written():
    appended = [
        ("s", "i", "1", True), ("s", "i", "2", True), ("s", "j", "1", True), ("t", "i", "1", True), ("s", "i", "1", False),
    ]  # fmt: skip
    different = [
        *((Put("k", stored, **more),) for stored, more in [
            ("1", {}), ("2", {}), ('"1"', {}), (b"1", {}), ("1234", {}), (b"\xd7m\xf8", {}), ("1", {"ttl": 1.0}),
            ("1", {"ttl": 2.0}), ("1", {"if_version": 0}), ("1", {"if_version": 1}), ("1", {"keep_ttl": True}),
        ]),
        (Put("l", "1"),), (Put("k", "1"), Put("l", "1")), (Put("l", "1"), Put("k", "1")),
        (Increment("k", 1),), (Increment("k", 1.0),), (Increment("k", 2**70),), (Increment("k", 2**70 + 1),),
        (Delete("k"),), (Clear("k"),), (Clear(""),), (Forget("k"),), (Pop("k"),), (Pop("k", 2),),
        *((Append(session, (NewMessage(id_, stored, has_own_id=own),)),) for session, id_, stored, own in appended),
        (Append("s", messages("1", "2")),), (Append("s", messages("1")), Append("s", messages("2"))), (), (Expire(),),
        (SetVectors("m", (Vector(b"1234", "k", 1),)),), (SetVectors("m", (Vector(b"1235", "k", 1),)),),
    ]  # fmt: skip
    hashes = {idempotency.hash_of(Write("n", operations)) for operations in different}
    assert len(hashes) == len(different)


def test_ids_that_a_server_chose_may_differ_in_a_repeat(opened):
    store, _ = opened

    def append(stored):
        return [Append("s", (NewMessage(new_id(), stored, has_own_id=False), NewMessage("own", "2")))]

    first = store.write("n", append("1"), idempotency_key="one")
    assert store.write("n", append("1"), idempotency_key="one") == first
    with pytest.raises(InvalidArgument):
        store.write("n", append("3"), idempotency_key="one")
    assert store.read("n", CountMessages("s")) == 2


def test_what_an_encrypted_memory_reads_first_may_differ_in_a_repeat(opened):
    store, _ = opened
    store.write("n", [Append("s", messages("a", "b"))])

    def edit(stored):
        return [Edit("s", 1, stored, if_version=store.read("n", ListMessages("s"))[0].version)]

    def fork(target):
        return [
            Fork("s", target, if_version=store.read("n", GetSession("s")).version, copies=Copies(messages("a", "b")))
        ]

    first = store.write("n", edit("1"), idempotency_key="one")
    assert store.write("n", edit("1"), idempotency_key="one") == first
    forked = store.write("n", fork("t"), idempotency_key="two")
    store.write("n", edit("2"))
    assert store.write("n", fork("t"), idempotency_key="two") == forked
    for key, other in (("one", edit("3")), ("two", fork("u"))):
        with pytest.raises(InvalidArgument, match="used for another write"):
            store.write("n", other, idempotency_key=key)


def test_a_write_that_changes_nothing_is_not_recorded(opened):
    """Nobody fills a database with records, or makes namespaces, by writes that no plan counts."""
    store, run = opened
    nothing = [Delete("k"), Clear(), Forget("s"), Pop("s"), Append("s", ()), Expire()]
    for number, operation in enumerate(nothing):
        store.write("none", [operation], idempotency_key=str(number))
        store.write("none", [operation])
    store.write("some", [Put("k", "1"), Append("s", messages("1"))])
    before = run("SELECT version FROM botwire.namespaces")
    nothing = [Delete("other"), Clear("other"), Forget("other"), Pop("other"), Append("s", messages("1")), Expire()]
    for number, operation in enumerate([*nothing, Pop("s", 0)]):
        store.write("some", [operation], idempotency_key=f"{number}")
    assert store.read("", ListNamespaces()) == ["some"]
    assert run("SELECT version FROM botwire.namespaces") == before
    assert records(run) == ([], [])
    assert store.write("some", [Delete("k")], idempotency_key="0") == [True]


def test_a_delete_of_nothing_succeeds_and_keeps_nothing_when_the_plan_is_used_up(opened):
    store, run = opened
    store.write("n", [Put("k", "1")])
    run("UPDATE botwire.namespaces SET writes = 1000000000, bytes = 1000000000")
    for number in range(3):
        assert store.write("n", [Delete("none")], idempotency_key=f"{number}") == [False]
    assert records(run) == ([], [])


def test_a_repeated_pop_gets_its_messages_which_no_record_holds(opened):
    store, run = opened
    store.write("n", [Append("s", messages("a", "b", "secret")), Append("t", messages("c"))])
    pops = [Pop("s"), Pop("t", 5), Put("k", "1"), Pop("none")]
    first = store.write("n", pops, idempotency_key="one")
    assert [[item.id for item in result] for result in (first[0], first[1])] == [["secret"], ["c"]]
    store.write("n", [Append("s", messages("d"))])
    assert store.write("n", pops, idempotency_key="one") == first
    assert store.read("n", CountMessages("s")) == 3
    answers, popped = records(run)
    assert "secret" not in str(answers)
    assert len(popped) == 2


@pytest.mark.parametrize("gone", [False, True])
def test_forget_erases_what_was_popped_from_the_session(opened, gone):
    """Also when its last message was popped, so that the session does not exist."""
    store, run = opened
    store.write("n", [Append("s", messages("a", "secret")), Append("t", messages("b"))])
    pop = [Pop("s", 2 if gone else 1)]
    store.write("n", pop, idempotency_key="one")
    others = store.write("n", [Pop("t")], idempotency_key="two")
    store.write("n", [Forget("s")])
    assert "secret" not in str(records(run))
    with pytest.raises(InvalidArgument, match="no longer kept"):
        store.write("n", pop, idempotency_key="one")
    assert store.write("n", [Pop("t")], idempotency_key="two") == others
    store.write("n", [Append("s", messages("secret")), Pop("s"), Forget("s")], idempotency_key="three")
    assert "secret" not in str(records(run))


def test_the_newest_popped_messages_are_kept_up_to_a_limit(opened, monkeypatch):
    monkeypatch.setattr(idempotency, "POPPED_BYTES", 1_000)
    store, run = opened
    for number in range(30):
        store.write("n", [Append("s", (NewMessage(f"{number:02}", f'"{"x" * 96}"'),))], idempotency_key=f"a{number}")
        store.write("n", [Pop("s")], idempotency_key=f"{number}")
    assert store.read("n", GetUsage()).bytes == 0
    _, popped = records(run)
    assert len(popped) == 10
    assert [item.id for item in store.write("n", [Pop("s")], idempotency_key="20")[0]] == ["20"]
    with pytest.raises(InvalidArgument, match="no longer kept"):
        store.write("n", [Pop("s")], idempotency_key="19")


def test_a_pop_of_more_than_is_kept_is_refused(opened, monkeypatch):
    monkeypatch.setattr(idempotency, "POPPED_BYTES", 10)
    store, run = opened
    store.write("n", [Append("s", messages("a", "bcd", "efg"))])
    with pytest.raises(InvalidArgument, match="Pop fewer messages"):
        store.write("n", [Put("k", "1"), Pop("s", 2)], idempotency_key="one")
    assert store.read("n", CountMessages("s")) == 3
    assert store.read("n", ListKeys()) == []
    assert records(run) == ([], [])
    assert len(store.write("n", [Pop("s", 1)], idempotency_key="one")[0]) == 1
    assert len(store.write("n", [Pop("s", 2)])[0]) == 2


def test_old_records_are_swept_without_further_writes(opened):
    store, run = opened
    for namespace in ("n", "m"):
        store.write(namespace, [Append("s", messages("a", "b"))], idempotency_key="one")
        for number in range(3):
            store.write(namespace, [Append("s", messages("c")), Pop("s")], idempotency_key=f"{number}")
    store.sweep()
    assert [len(rows) for rows in records(run)] == [8, 6]
    age(run)
    store.write("m", [Append("s", messages("c")), Pop("s")], idempotency_key="new")
    store.sweep()
    assert [len(rows) for rows in records(run)] == [1, 1]


def age(run):
    for table in ("answers", "popped"):
        run(f"UPDATE botwire.{table} SET created = created - {idempotency.RESPONSES_KEPT + 1_000_000}")


def test_writes_without_keys_sweep_a_file(tmp_path):
    """Also those of another namespace, and of a process that has opened the file since."""
    path = tmp_path / "a.db"
    with closing(SqliteStore(path)) as store:
        for number in range(2 * idempotency.AT_ONCE):
            store.write("n", [Append("s", messages("a")), Pop("s")], idempotency_key=f"{number}")
    with closing(apsw.Connection(str(path))) as connection:
        run = lambda sql: connection.execute(sql.replace("botwire.", "")).fetchall()  # noqa: E731
        age(run)
        with closing(SqliteStore(path)) as store:
            for _ in range(40):
                store.write("other", [Put("k", "1")])
        assert records(run) == ([], [])


def test_a_record_of_an_earlier_botwire_is_recognized(opened):
    """It has no hash of the values, and holds popped messages itself."""
    store, run = opened
    store.write("n", [Put("k", "1")])
    (namespace,) = run("SELECT * FROM botwire.namespaces")[0][:1]
    earlier = '["0123456789abcdef",[7,[{"seq":1,"id":"a","stored":"1","created":1}]]]'
    columns = f"(namespace, idempotency_key, created, results) VALUES ('{namespace}', 'one', {time.time_ns() // 1000}"
    run(f"INSERT INTO botwire.answers {columns}, '{earlier}')")
    version, popped = store.write("n", [Put("k", "2"), Pop("s")], idempotency_key="one")
    assert (version, [item.id for item in popped]) == (7, ["a"])
    for other in ([Put("k", "2")], [Pop("s"), Pop("s")], [Delete("k"), Pop("s")], [Put("k", "2"), Forget("s")]):
        with pytest.raises(InvalidArgument):
            store.write("n", other, idempotency_key="one")
