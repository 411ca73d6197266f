"""What a copy carries of sessions beside their messages, and what it leaves as it is."""

from __future__ import annotations

import time

import pytest

from botwire import Conflict, StoreError, generate_key
from botwire.migrate.copy import copy
from botwire.operations import (
    Append,
    Edit,
    Forget,
    Fork,
    NewMessage,
    Pop,
    Put,
    Retain,
    SetAbout,
    SetExpiry,
    Summarize,
)
from botwire.queries import GetContext, GetProgress, GetRetention, GetSession, ListMessages, ListSessions
from botwire.server.operator import OnStore
from botwire.stores.http.store import HttpStore
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.cipher import Cipher
from botwire.stores.wrappers.encrypted import EncryptedStore
from tests.unit.migrate.stores import InUse

ABOUT = '{"title":"Titles","data":{"b":1.0,"a":[true,null]}}'


@pytest.fixture
def source(tmp_path):
    store = SqliteStore(tmp_path / "source.db")
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgres", "http"])
def target(request, tmp_path):
    if request.param == "sqlite":
        store = SqliteStore(tmp_path / "target.db")
    elif request.param == "postgres":
        store = PostgresStore(request.getfixturevalue("postgres"))
    else:
        server = request.getfixturevalue("server")
        operator = OnStore(f"sqlite:///{server.db}")
        token = operator.create(namespaces=["*"], can=["admin"], name="", expires_in=None)["secret"]
        operator.close()
        store = HttpStore(server.url, token=token)
    yield store
    store.close()


@pytest.fixture
def there(tmp_path):
    store = SqliteStore(tmp_path / "there.db")
    yield store
    store.close()


def message(name):
    return NewMessage(name, f'"{name}"')


def fill(store):
    store.write("n", [Append("first", tuple(map(message, "abcd")))])
    store.write("n", [Append("second", tuple(map(message, "ab")), ttl=3600.0)])
    store.write("n", [SetAbout("first", ABOUT, "ada", ("red", "blue")), Summarize("first", 2, '["a and b"]')])
    store.write("n", [Fork("first", "fork", upto=3)])
    store.write("n", [Edit("first", 4, '"edited"'), Edit("first", 3, '"gone"', redacted="why")])
    store.write("n", [SetAbout("empty", "", "grace"), SetAbout("titled", '{"title":"T"}')])
    store.write("n", [Append("third", (message("a"),)), Edit("first", 1, '"again"')])
    store.write("n", [Retain("", 86_400.0 * 30), Retain("temporary/", 3600.0, 7200.5)])


def content(store, *, times=False):
    """Return all that a store has of its sessions, in the order of their creation."""
    found = []
    for session in store.read("n", ListSessions(order="created")):
        about = session.about.owner, session.about.tags, session.about.title, session.about.data
        messages = [
            (item.seq, item.id, item.stored, item.redacted, (item.created, item.edited) if times else None)
            for item in store.read("n", ListMessages(session.name))
        ]
        summary = store.read("n", GetContext(session.name, 0))
        origin = session.origin if times else None
        expires = session.expires is not None
        found.append((session.name, about, messages, summary.summarized, summary.summary, origin, expires))
    return found, store.read("n", GetRetention())


def test_all_of_a_session_is_copied(source, target):
    fill(source)
    keeps_times = not isinstance(target, HttpStore)
    report = copy(source, target)
    assert report.messages == 10
    assert content(target, times=keeps_times) == content(source, times=keeps_times)
    ours, theirs = (store.read("n", GetSession("second")).expires for store in (source, target))
    assert abs(ours - theirs) < 5_000_000
    if keeps_times:
        # The copy of a fork is as active as its messages. Sessions without messages are created when they are copied.
        for store in source, target:
            active = [item.name for item in store.read("n", ListSessions()) if item.messages and item.origin is None]
            assert active == ["third", "first", "second"]
        assert activity(target) == activity(source)
    again = copy(source, target)
    assert (again.written, again.checksum) == (0, report.checksum)


def test_the_order_by_activity_is_copied(source, there):
    """That of forks, and of sessions whose last message was deleted."""
    fill(source)
    source.write("n", [Append(f"other {number}", (message("a"),)) for number in range(300)])
    source.write("n", [Pop("second", 1)])
    for step in range(3):
        copy(source, there)
        assert activity(there) == activity(source), step
        source.write("n", [Fork("third", f"again {step}"), Append("third", (message(f"b{step}"),))])
    copy(source, there)
    again = copy(source, there)
    assert (again.written, activity(there)) == (0, activity(source))
    version = there.read("n", GetProgress()).version
    copy(source, there)
    assert there.read("n", GetProgress()).version == version


def activity(store):
    """Return the sessions with messages and the times of their last activity, the most active first."""
    found = [(item.name, item.updated) for item in store.read("n", ListSessions()) if item.messages]
    pages, after = [], ""
    while page := store.read("n", ListSessions(limit=3, after=after)):
        pages += [(item.name, item.updated) for item in page if item.messages]
        after = page[-1].cursor
    assert pages == found
    assert [updated for _, updated in found] == sorted((updated for _, updated in found), reverse=True)
    return found


def test_a_copy_back_is_the_same(source, target, there):
    fill(source)
    report = copy(source, target)
    assert copy(target, there).checksum == report.checksum
    assert content(there) == content(source)


def test_a_copy_of_an_encrypted_memory_can_be_read(source, target):
    key = generate_key()
    fill(EncryptedStore(source, Cipher(key)))
    report = copy(source, target)
    assert content(EncryptedStore(target, Cipher(key))) == content(EncryptedStore(source, Cipher(key)))
    assert copy(source, target).checksum == report.checksum


CHANGES = {
    "an edit": [Edit("first", 1, '"new"')],
    "edits": [Edit("first", 1, '"new"'), Edit("first", 4, '"newer"')],
    "a redaction": [Edit("first", 2, '"gone"', redacted="")],
    "an edit of a redacted message": [Edit("first", 3, '"back"')],
    "messages": [Append("first", (message("e"),)), Append("new", (message("a"),))],
    "a title": [SetAbout("first", '{"title":"other"}', "grace", ("red",))],
    "the first title": [SetAbout("third", ABOUT)],
    "a summary": [Summarize("first", 3, '["all"]')],
    "the first summary": [Summarize("third", 1, '["all"]')],
    "a later expiry": [SetExpiry("second", 7200.0)],
    "no expiry": [SetExpiry("second", None)],
    "an expiry": [SetExpiry("third", 60.0)],
    "a rule": [Retain("temporary/", 60.0), Retain("x/", None, 1e6)],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_copied_again(source, target, change):
    fill(source)
    copy(source, target)
    source.write("n", CHANGES[change])
    before = content(source)
    copy(source, target)
    assert content(target) == before == content(source)
    ours, theirs = (
        [item.expires or 0 for item in store.read("n", ListSessions(order="created"))] for store in (source, target)
    )
    assert all(abs(our - their) < 5_000_000 for our, their in zip(ours, theirs, strict=True))
    assert copy(source, target).written == 0


DELETIONS = {
    "a title": ([SetAbout("first", "")], "title, owner, tags or data of session 'first'"),
    "a summary": ([Summarize("first", 0, "[]")], "a summary of session 'first'"),
    "an earlier summary": (
        [Summarize("first", 0, "[]"), Summarize("first", 1, '["a"]')],
        "a summary of session 'first'",
    ),
    "messages": ([Pop("first", 2)], "session 'first' with different messages"),
    "a session": ([Forget("third")], "session 'third'"),
    "a rule": ([Retain("")], "a rule of retention for sessions with the prefix ''"),
}


@pytest.mark.parametrize("deletion", DELETIONS)
def test_what_the_source_has_no_longer_is_deleted_only_if_asked(source, there, deletion):
    fill(source)
    if deletion == "a session":
        source.write("n", [Retain("")])
    copy(source, there)
    before = content(there)
    operations, said = DELETIONS[deletion]
    source.write("n", operations)
    with pytest.raises(Conflict, match=f"data that the source does not have: {said}. Use --replace"):
        copy(source, there)
    assert content(there) == before
    copy(source, there, replace=True)
    assert sorted(content(there)[0]) == sorted(content(source)[0])
    assert content(there)[1] == content(source)[1]


def test_a_redaction_deletes_the_summary_in_the_target_too(source, target):
    """The source has no summary then. The one in the target may have the text that was removed."""
    fill(source)
    copy(source, target)
    source.write("n", [Edit("first", 1, '"gone"', redacted="why")])
    assert source.read("n", GetContext("first", 0)).summary is None
    copy(source, target)
    assert content(target) == content(source)


def test_a_summary_that_covers_a_redacted_message(source, target):
    source.write("n", [Append("s", tuple(map(message, "abc"))), Edit("s", 1, '"gone"', redacted="")])
    source.write("n", [Summarize("s", 2, '["b"]')])
    copy(source, target)
    assert content(target) == content(source)


def test_a_summary_that_is_deleted_during_a_copy(source, there):
    """With the messages that it covers, after it was read and before they are."""
    fill(source)

    class Shortened(InUse):
        def read(self, namespace, query):
            found = super().read(namespace, query)
            if isinstance(query, GetContext) and query.session == "first":
                source.write("n", [Pop("first", 3)])
            return found

    copy(Shortened(source), there)
    assert [item.id for item in there.read("n", ListMessages("first"))] == ["a"]
    assert content(there) == content(source)


def test_an_edit_in_the_target_is_not_lost(source, there):
    fill(source)
    copy(source, there)
    there.write("n", [Edit("first", 1, '"theirs"')])
    with pytest.raises(Conflict, match="session 'first' with different messages"):
        copy(source, there)
    assert there.read("n", ListMessages("first"))[0].data == "theirs"
    source.write("n", [Edit("first", 1, '"later"')])
    copy(source, there)
    assert there.read("n", ListMessages("first"))[0].data == "later"
    there.write("n", [Edit("first", 1, '"theirs"')])
    copy(source, there, replace=True)
    assert content(there) == content(source)


def test_sessions_that_may_have_expired_are_left_to_expire(source, there):
    """Only one side may have removed them yet. They are no data that the source never had."""
    fill(source)
    source.write("n", [Append("temporary/a", (message("a"),)), Append("brief", (message("a"),), ttl=3600.0)])
    copy(source, there)
    source.write("n", [Forget("temporary/a"), Forget("brief")])
    copy(source, there)
    assert there.read("n", GetSession("temporary/a")) is not None
    assert there.read("n", GetSession("brief")) is not None
    copy(source, there, replace=True)
    assert content(there) == content(source)


def test_a_rule_of_the_source_deletes_no_session_of_the_target(source, there, monkeypatch):
    monkeypatch.setattr("botwire.migrate.walk.OPERATIONS", 1)
    fill(source)
    source.write("n", [Put("k", "1"), Retain("", None, 60.0)])
    there.write("n", [Append("theirs", (NewMessage("a", "1", 1_000_000),))])
    with pytest.raises(Conflict, match="session 'theirs'"):
        copy(source, there)
    assert there.read("n", GetSession("theirs")) is not None
    assert there.read("n", GetRetention()) == []
    copy(source, there, replace=True)
    assert content(there) == content(source)


def test_a_session_that_expires_during_a_copy(source, there):
    source.write("n", [Append("brief", (message("a"),), ttl=0.5), Append("s", (message("a"),))])

    class Slow(InUse):
        def read(self, namespace, query):
            if isinstance(query, ListMessages) and query.session == "brief":
                time.sleep(0.6)
            return super().read(namespace, query)

    report = copy(Slow(source), there)
    assert [session.name for session in there.read("n", ListSessions())] == ["s"]
    assert copy(source, there).checksum == report.checksum


def test_a_session_that_is_deleted_during_a_copy(source, there):
    fill(source)
    source.write("n", [Retain("")])
    copy(source, there)

    class Deleting(InUse):
        def read(self, namespace, query):
            found = super().read(namespace, query)
            if isinstance(query, ListSessions) and namespace == "n" and not query.after:
                source.write("n", [Forget("third")])
            return found

    copy(Deleting(source), there)  # there, it stays until the next copy
    with pytest.raises(Conflict, match="session 'third'"):
        copy(source, there)


@pytest.mark.parametrize(
    "theirs",
    [
        Edit("first", 1, '"theirs"'),
        SetAbout("first", ABOUT, "theirs"),
        Summarize("first", 3, '["theirs"]'),
        Retain("theirs", 60.0),
        Edit("first", 3, '"gone"', redacted="theirs"),
        SetAbout("theirs", "", "x"),
    ],
)
def test_another_writer_at_the_target_is_detected(source, there, theirs):
    fill(source)

    class Shared(InUse):
        def write(self, namespace, operations):
            results = super().write(namespace, operations)
            there.write("n", [theirs])
            return results

    with pytest.raises(StoreError, match="another client may be writing there"):
        copy(source, Shared(there))


def test_a_copy_that_is_stopped_continues(source, there, monkeypatch):
    monkeypatch.setattr("botwire.migrate.walk.OPERATIONS", 1)
    fill(source)

    class Stopped(Exception):
        pass

    class Stopping(InUse):
        left = 1

        def write(self, namespace, operations):
            if not self.left:
                raise Stopped
            self.left -= 1
            return super().write(namespace, operations)

    stops = 0
    while True:
        try:
            copy(source, Stopping(there))
        except Stopped:
            stops += 1
        else:
            break
    assert stops > 10
    assert content(there, times=True) == content(source, times=True)


def test_a_summary_that_was_made_since_is_not_beyond_the_copied_messages(source, there):
    source.write("n", [Append("s", tuple(map(message, "ab")))])

    class Busy(InUse):
        count = 0

        def read(self, namespace, query):
            found = super().read(namespace, query)
            if isinstance(query, ListMessages) and self.count < 6:
                self.count += 1
                source.write("n", [Append("s", (message(f"{self.count}"),)), Summarize("s", self.count + 2, '["all"]')])
            return found

    busy = Busy(source)
    for _ in range(3):
        copy(busy, there)
    copy(source, there)
    assert content(there) == content(source)
