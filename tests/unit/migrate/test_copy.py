"""Copying between any two addresses: all of it, again, on after a stop, while the source is in use, and never over other data."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
import time
from contextlib import closing

import psycopg
import pytest

from botwire import Conflict, Memory, StoreError
from botwire.limits import ACCESS
from botwire.migrate.checksums import checksum_of
from botwire.migrate.copy import copy
from botwire.migrate.walk import PAGE
from botwire.operations import Append, Delete, Forget, NewMessage, Pop, Put
from botwire.plans import Plan, Plans
from botwire.queries import (
    CountEntries,
    CountMessages,
    GetEntry,
    GetUsage,
    ListEntries,
    ListKeys,
    ListMessages,
    ListSessions,
)
from botwire.server.operator import OnStore
from botwire.store import OperatedStore
from botwire.stores.http.store import HttpStore
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import new_id
from tests.cutter import Cutter

THROW_OUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'botwire'"
PLANS = Plans("unlimited", {"unlimited": Plan(), "tight": Plan(writes_per_day=10_000)})


class Part(OperatedStore):
    """A store of which a copy needs only some methods."""

    address = read = write = changes = close = None


def operator(server):
    with closing(OnStore(f"sqlite:///{server.db}")) as file:
        return file.create(namespaces=["*"], can=["admin"], name="", expires_in=None)["secret"]


def opened(kind, request, name):
    if kind == "sqlite":
        return SqliteStore(request.getfixturevalue("tmp_path") / f"{name}.db", plans=PLANS)
    if kind == "postgres":
        return PostgresStore(request.getfixturevalue("postgres"), plans=PLANS)
    server = request.getfixturevalue("server")
    return HttpStore(server.url, token=operator(server))


@pytest.fixture
def source(tmp_path):
    store = SqliteStore(tmp_path / "source.db", plans=PLANS)
    yield store
    store.close()


@pytest.fixture
def target(tmp_path):
    store = SqliteStore(tmp_path / "target.db", plans=PLANS)
    yield store
    store.close()


def message(data):
    return NewMessage(new_id(), str(data))


def fill(store):
    store.write("n", [Put(f"key/{number:04}", f'"{number}"') for number in range(PAGE + 7)])
    store.write("n", [Put("bytes", b"\x00\xff"), Put("é🤖", '{"b":1.0,"a":10000000000000000000000}')])
    store.write("n", [Put("short", "1", ttl=0.01), Put("long", "1", ttl=3600.0)])
    for name in "zuerst", "dann", "a":
        store.write("n", [Append(name, (message(1), message(2)))])
    store.write("n", [Append("many", tuple(message(number) for number in range(PAGE + 3)))])
    store.write("other n", [Append("s", (message(f'"{"x" * 3_000_000}"'),)), Put("big", b"x" * 6_000_000)])
    store.write("third", [Put("gone", "1")])
    store.write("third", [Delete("gone")])
    time.sleep(0.02)


def content(store, namespace):
    sessions = store.read(namespace, ListSessions())
    return (
        [(entry.key, entry.stored) for entry in store.read(namespace, ListEntries())],
        [session.name for session in sessions],
        [[(item.seq, item.id, item.stored) for item in store.read(namespace, ListMessages(s.name))] for s in sessions],
    )


def times(store, namespace):
    sessions = store.read(namespace, ListSessions())
    return (
        [(entry.key, entry.created, entry.updated, entry.expires) for entry in store.read(namespace, ListEntries())],
        [(session.name, session.created, session.updated) for session in sessions],
        [[item.created for item in store.read(namespace, ListMessages(s.name))] for s in sessions],
    )


@pytest.mark.parametrize(
    ("one", "other"), [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "http"), ("http", "postgres")]
)
def test_between_all_kinds(request, one, other):
    source, target = opened(one, request, "source"), opened(other, request, "target")
    fill(source)
    if one != "http" and other != "http":
        source.set_plan("n", "tight")
    steps = []
    report = copy(source, target, progress=lambda done, total: steps.append((done, total)))
    assert report.entries == PAGE + 7 + 3 + 1
    assert report.messages == 6 + PAGE + 3 + 1
    assert report.written == report.entries + report.messages
    assert steps == sorted(steps)
    assert len(steps) > 5
    assert steps[-1][0] == steps[-1][1]
    for namespace in "n", "other n", "third":
        assert content(target, namespace) == content(source, namespace)
        if other != "http":
            assert times(target, namespace) == times(source, namespace)
        assert target.read(namespace, GetUsage()).bytes == sum(
            len(key.encode()) + len(stored if isinstance(stored, bytes) else stored.encode())
            for key, stored in content(target, namespace)[0]
        ) + sum(len(i) + len(s) for log in content(target, namespace)[2] for _, i, s in log)
    if one != "http" and other != "http":
        usage = target.read("n", GetUsage())
        assert (usage.plan, usage.writes_today) == ("tight", 0)
    again = copy(source, target)
    assert (again.written, again.checksum) == (0, report.checksum)
    source.close()
    target.close()


def test_tokens_are_copied_and_not_counted(source, target):
    fill(source)
    administration = OnStore(source.address)
    administration.create(namespaces=["n"], can=["read"], name="a token", expires_in=None)
    administration.close()
    report = copy(source, target)
    assert report.namespaces == 3
    assert (report.entries, report.messages) == (PAGE + 7 + 3 + 1, 6 + PAGE + 3 + 1)
    assert report.written == report.entries + report.messages
    tokens = source.read(ACCESS, ListEntries())
    assert tokens
    assert [item.stored for item in target.read(ACCESS, ListEntries())] == [item.stored for item in tokens]


def test_what_has_changed_since(source, target):
    fill(source)
    copy(source, target)
    source.write("n", [Put("key/0003", '"new"'), Put("new", "1"), Append("many", (message(9),)), Put("long", "1")])
    report = copy(source, target)
    assert report.written == 4
    assert content(target, "n") == content(source, "n")
    assert target.read("n", GetEntry("long")).expires is None


def test_what_is_there_is_not_lost_unasked(source, target):
    fill(source)
    copy(source, target)
    source.write("n", [Delete("key/0004"), Forget("dann"), Pop("many", 2)])
    before = content(target, "n")
    for change in [], [Put("key/0004", '"4"')], [Append("dann", (message(1),))]:
        source.write("n", change)
        with pytest.raises(Conflict, match="replace"):
            copy(source, target)
        assert content(target, "n")[1:] == before[1:]
    target.write("n", [Put("zz", "1")])
    with pytest.raises(Conflict, match="replace"):
        copy(source, target)
    copy(source, target, replace=True)
    assert content(target, "n")[0] == content(source, "n")[0]
    assert sorted(content(target, "n")[1]) == sorted(content(source, "n")[1])
    for session in content(source, "n")[1]:
        assert target.read("n", ListMessages(session)) == source.read("n", ListMessages(session))
    target.write("not in the source", [Put("k", "1")])
    copy(source, target, replace=True)
    assert target.read("not in the source", ListKeys()) == ["k"]


def test_on_after_a_stop(source, target, monkeypatch):
    """Wherever it is stopped, the next one does the rest."""
    monkeypatch.setattr("botwire.migrate.walk.OPERATIONS", 100)
    fill(source)
    written = 0

    class Stopped(Exception):
        pass

    class Stopping(Part):
        address, read, set_plan = target.address, target.read, target.set_plan

        def __init__(self, after):
            self.left = after

        def write(self, namespace, operations):
            if not self.left:
                raise Stopped
            self.left -= 1
            return target.write(namespace, operations)

    for _ in range(50):
        try:
            report = copy(source, Stopping(1))
        except Stopped:
            written += 1
        else:
            break
    assert written >= 10
    assert report.written <= 100
    assert content(target, "n") == content(source, "n")


def test_entries_that_expire_during_a_copy_are_not_compared(source, target):
    """It is in no checksum, since it may be gone from one side only; nor is it taken for something that is not ours."""
    source.write("n", [Put("k", "1"), Put("short", "1", ttl=0.3), Put("long", "1", ttl=3600.0)])
    report = copy(source, target)
    assert report.entries == 3
    assert times(target, "n") == times(source, "n")
    time.sleep(0.3)
    source.write("n", [Delete("long")])
    again = copy(source, target)
    assert (again.entries, again.checksum) == (1, report.checksum)
    assert target.read("n", ListKeys()) == ["k"]
    source.write("n", [Put("k", "1", ttl=60.0)])
    copy(source, target)
    source.write("n", [Put("k", "1", ttl=3600.0)])
    assert copy(source, target).written == 1
    assert target.read("n", GetEntry("k")).expires == source.read("n", GetEntry("k")).expires


def test_only_some_namespaces(source, target):
    for namespace in "a", "b", "c":
        source.write(namespace, [Put("k", "1")])
    assert copy(source, target, namespaces=["a", "c"]).namespaces == 2
    assert [len(target.read(namespace, ListKeys())) for namespace in ("a", "b", "c")] == [1, 0, 1]


def test_few_large_values_are_read_at_once(source, target):
    source.write("n", [Put(f"a{number:03}", b"x" * 40_000) for number in range(PAGE)])
    source.write("n", [Put(f"b{number:03}", b"x" * 40_000) for number in range(PAGE)])
    pages = []

    class Watched(Part):
        address, set_plan = source.address, source.set_plan

        @staticmethod
        def read(namespace, query):
            answer = source.read(namespace, query)
            if isinstance(query, ListEntries):
                pages.append(len(answer))
            return answer

    copy(Watched(), target)
    assert pages[0] == 0  # the rules of access
    assert max(pages) == 105  # 4 MiB
    assert sum(pages) == 2 * PAGE


def test_while_the_source_is_in_use(source, target):
    fill(source)
    done = threading.Event()
    writes = []

    def work():
        while not done.is_set():
            writes.append(
                source.write("n", [Put(f"key/{len(writes) % 900:04}", str(len(writes))), Append("a", (message(1),))])
            )

    writer = threading.Thread(target=work)
    writer.start()
    try:
        copies_in_use = 0
        while copies_in_use < 5:  # on a busy machine, the thread may not write during each copy
            before = len(writes)
            copy(source, target)
            copies_in_use += len(writes) > before
    finally:
        done.set()
        writer.join()
    copy(source, target)
    assert content(target, "n") == content(source, "n")


def separate(operations):
    """Return the operations with one append for each message."""
    for operation in operations:
        if isinstance(operation, Append):
            yield from (Append(operation.session, (one,)) for one in operation.messages)
        else:
            yield operation


def dropped(operation):
    return None


def flipped(operation):
    """One bit."""
    if isinstance(operation, Put):
        return Put(operation.key, bytes([operation.stored[0] ^ 1]) + operation.stored[1:])
    (one,) = operation.messages
    return Append(operation.session, (NewMessage(one.id, one.stored.replace("1", "0")),))


def renamed(operation):
    if isinstance(operation, Put):
        return Put(operation.key + "'", operation.stored)
    (one,) = operation.messages
    return Append(operation.session, (NewMessage(one.id + "'", one.stored),))


@pytest.mark.parametrize("change", [dropped, flipped, renamed])
@pytest.mark.parametrize("kind", [Put, Append])
def test_data_that_differs_from_the_source_is_detected(source, target, change, kind):
    """One value or one message of many, changed on its way."""
    source.write("n", [Put(f"k{number}", b"1" * 9) for number in range(20)])
    source.write("n", [Append("s", tuple(message(1) for _ in range(20)))])
    kinds = []

    class Lying(Part):
        address, read, set_plan = target.address, target.read, target.set_plan

        @staticmethod
        def write(namespace, operations):
            done = []
            for operation in separate(operations):
                kinds.append(type(operation))
                done.append(change(operation) if kinds.count(kind) == 7 and kinds[-1] is kind else operation)
            target.write(namespace, [operation for operation in done if operation is not None])

    with pytest.raises(StoreError, match="does not hold the data copied"):
        copy(source, Lying())
    assert len(kinds) == 40


@pytest.mark.parametrize(
    "theirs",
    [Put("k0", "2"), Put("zz", "1"), Delete("k0"), Append("s", (message(2),)), Append("t", (message(2),)), Pop("s")],
)
def test_another_writer_at_the_target_is_detected(source, target, theirs):
    """Between what is written there and the look whether it is there."""
    source.write("n", [Put(f"k{number}", "1") for number in range(5)])
    source.write("n", [Append("s", (message(1), message(2)))])

    class InUse(Part):
        address, read, set_plan = target.address, target.read, target.set_plan

        @staticmethod
        def write(namespace, operations):
            target.write(namespace, operations)
            target.write(namespace, [theirs])

    with pytest.raises(StoreError, match="another client may be writing there"):
        copy(source, InUse())
    again = copy(source, target, replace=True)
    assert content(target, "n") == content(source, "n")
    assert again.checksum == copy(source, target).checksum


def test_a_copy_through_a_cut_network_is_complete(postgres, source, target, monkeypatch):
    """Wherever a commit or its answer is lost, and whoever is thrown out: all of it arrives, once."""
    monkeypatch.setattr("botwire.migrate.walk.OPERATIONS", 100)
    monkeypatch.setattr("botwire.migrate.walk.PAGE", 20)
    source.write("n", [Put(f"k{number:03}", str(number)) for number in range(300)])
    source.write("n", [Append(f"s{number % 7}", (message(number),)) for number in range(200)])
    with closing(Cutter(postgres)) as cutter, closing(PostgresStore(cutter.address(postgres))) as there:
        cutter.plan = ["cut before", "cut after", "pass", "cut after", "cut before", "cut after", "pass", "cut after"]
        report = copy(source, there)
        assert cutter.plan == []
        assert (report.entries, report.messages, report.written) == (300, 200, 500)
        assert content(there, "n") == content(source, "n")
        steps, thrown = itertools.count(), []
        with psycopg.connect(postgres, autocommit=True) as admin:

            def throw_out(*_):
                if next(steps) % 20 == 0:
                    thrown.extend(admin.execute(THROW_OUT).fetchall())

            back = copy(there, target, progress=throw_out)
        assert len(thrown) > 5
        assert (back.checksum, back.written) == (report.checksum, 500)
        assert content(target, "n") == content(source, "n")


def test_different_data_has_different_checksums(source):
    seen = set()
    for operations in (
        [], [Put("a", "1")], [Put("a", b"1")], [Put("b", "1")], [Put("a", "1"), Append("s", (NewMessage("i", "1"),))],
        [Put("a", "1"), Append("t", (NewMessage("i", "1"),))], [Put("a", "1"), Append("s", (NewMessage("j", "1"),))],
        [Put("a1", "1")], [Put("a", "11")],
    ):  # fmt: skip
        namespace = f"n{len(seen)}"
        source.write(namespace, operations)
        seen.add(checksum_of(source, namespace))
    assert len(seen) == 9


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "http"])
def test_killed_halfway_while_the_source_is_in_use(request, source, tmp_path, kind):
    """By SIGKILL; whoever goes on finds what is there already."""
    target = opened(kind, request, "target")
    place = getattr(target, "address" if kind != "postgres" else "_url")
    token = ["--to-token", operator(request.getfixturevalue("server"))] if kind == "http" else []
    for number in range(24):
        source.write("n", [Put(f"key/{number:04}", b"x" * 1_000_000)])
    source.write("n", [Append(f"s{number % 50}", (message(number),)) for number in range(500)])
    command = [sys.executable, "-m", "botwire", "copy", f"{tmp_path}/source.db", place, "--namespace", "n", *token]
    done = threading.Event()

    def work():
        number = 0
        while not done.is_set():
            number += 1
            source.write("n", [Put(f"live/{number % 50}", str(number)), Append("s7", (message(number),))])
            time.sleep(0.005)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        copying = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while target.read("n", CountEntries("key/")) == 0:
            assert copying.poll() is None, copying.communicate()
            time.sleep(0.005)
        copying.kill()
        copying.communicate()
        there = target.read("n", CountEntries("key/"))
        assert 0 < there < 24
        resumed = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert resumed.returncode == 0, resumed.stderr
    finally:
        done.set()
        writer.join()
    entries, new = re.search(r"([\d,]+) entries and .* checksums, ([\d,]+) of them new", resumed.stdout).groups()
    assert int(new.replace(",", "")) <= int(entries) + target.read("n", CountMessages("s7")) + 490 - there
    assert target.read("n", CountEntries("key/")) == 24
    copy(source, target, namespaces=["n"])
    assert content(target, "n") == content(source, "n")
    target.close()


def test_the_command(tmp_path, postgres):
    Memory("n", f"sqlite:///{tmp_path}/a.db").set("k", {"a": 1})

    def botwire(*arguments):
        command = [sys.executable, "-m", "botwire", "copy", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert botwire(str(tmp_path / "none.db"), postgres).returncode == 1
    assert not (tmp_path / "none.db").exists()
    done = botwire(str(tmp_path / "a.db"), postgres)
    assert done.returncode == 0, done.stderr
    assert "1 entry and 0 messages with matching checksums, 1 of them new; SHA-256 " in done.stdout
    assert Memory("n", postgres).get("k") == {"a": 1}
    Memory("n", postgres).set("other", 1)
    done = botwire(str(tmp_path / "a.db"), postgres)
    assert done.returncode == 1
    assert "--replace" in done.stderr
    assert botwire(str(tmp_path / "a.db"), postgres, "--replace").returncode == 0
    assert Memory("n", postgres).list_keys() == ["k"]
