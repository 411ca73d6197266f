"""Exports and imports of sessions: what a line says of them, and where an interrupted one continues."""

from __future__ import annotations

import json
import time
from io import BytesIO

import pytest

from botwire import InvalidArgument, InvalidName, generate_key
from botwire.limits import MAX_ABOUT_BYTES
from botwire.migrate.jsonl import Position, export, export_file, import_file, import_lines
from botwire.operations import Append, Forget, NewMessage, Pop, Put, Retain, SetAbout, SetExpiry, Summarize
from botwire.queries import GetContext, GetRetention, GetSession, ListMessages, ListSessions
from botwire.server.operator import OnStore
from botwire.stores.http.store import HttpStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.cipher import Cipher
from botwire.stores.wrappers.encrypted import EncryptedStore
from tests.unit.migrate.test_sessions import activity, content, fill, message


def nothing(_, __):
    pass


@pytest.fixture
def source(tmp_path):
    store = SqliteStore(tmp_path / "source.db")
    fill(store)
    yield store
    store.close()


@pytest.fixture
def target(tmp_path):
    store = SqliteStore(tmp_path / "target.db")
    yield store
    store.close()


def exported(store, namespace="n"):
    out = BytesIO()
    export(store, namespace, out, progress=nothing)
    return out.getvalue()


def parsed(lines):
    return [json.loads(line) for line in lines.splitlines()]


def test_the_lines_of_a_session(source):
    lines = parsed(exported(source))
    assert lines[0] == {"format": "botwire", "version": 2, "namespace": "n"}
    assert lines[1:3] == [
        {"retain": "", "idle": 2_592_000.0},
        {"retain": "temporary/", "idle": 3600.0, "age": 7200.5},
    ]
    first = [line for line in lines if line.get("session") == "first"]
    assert [(line["id"], line["data"], "edited_at" in line) for line in first[:-1]] == [
        ("a", "again", True), ("b", "b", False), ("c", "gone", True), ("d", "edited", True),
    ]  # fmt: skip
    assert [line.get("redacted") for line in first] == [None, None, "why", None, None]
    assert first[-1] == {
        "session": "first", "about": {"title": "Titles", "data": {"b": 1.0, "a": [True, None]}}, "owner": "ada", "tags": ["red", "blue"],
        "summarized": 2, "summarized_id": "b", "summary": ["a and b"],
    }  # fmt: skip
    fork = next(line for line in lines if line.get("session") == "fork" and "id" not in line)
    assert (fork["origin"], fork["summarized"], fork["summarized_id"], fork["summary"]) == (
        ["first", 3],
        2,
        "b",
        ["a and b"],
    )
    second = [line for line in lines if line.get("session") == "second"]
    assert len({line["expires_at"] for line in second}) == 1
    assert "id" not in second[-1]
    assert [line for line in lines if line.get("session") == "empty"] == [{"session": "empty", "owner": "grace"}]
    assert [line for line in lines if line.get("session") == "third"][-1]["id"] == "a"  # there is no more to say


def test_all_of_a_session_is_imported(source, target):
    lines = exported(source)
    import_lines(target, BytesIO(lines))
    assert content(target, times=True) == content(source, times=True)
    ours, theirs = (store.read("n", GetSession("second")).expires for store in (source, target))
    assert abs(ours - theirs) < 5_000_000
    import_lines(target, BytesIO(lines))  # a second time changes nothing
    assert content(target, times=True) == content(source, times=True)
    again = parsed(exported(target))
    assert [without_expiry(line) for line in again] == [without_expiry(line) for line in parsed(lines)]


def test_the_order_by_activity_is_imported(source, target):
    source.write("n", [Pop("second", 1)])
    lines = exported(source)
    later = {
        line["session"]: line["updated_at"] for line in parsed(lines) if "session" in line and "updated_at" in line
    }
    assert later.keys() == {"fork", "second"}
    for _ in range(2):
        import_lines(target, BytesIO(lines))
        assert activity(target) == activity(source)
    # An import into a session that is in use does not move its activity back.
    target.write("n", [Append("fork", (message("new"),))])
    active = activity(target)
    import_lines(target, BytesIO(lines))
    assert activity(target) == active
    line = b'{"session":"fork","updated_at":"2026-01-01T00:00:00+25:00"}\n{"end":true}\n'
    with pytest.raises(InvalidArgument, match="line 2"):
        import_lines(target, BytesIO(lines.split(b"\n")[0] + b"\n" + line))
    assert activity(target) == active


def without_expiry(line):
    return {name: value for name, value in line.items() if name != "expires_at"}


def test_over_a_server(source, target, server):
    operator = OnStore(f"sqlite:///{server.db}")
    token = operator.create(namespaces=["*"], can=["admin"], name="", expires_in=None)["secret"]
    operator.close()
    store = HttpStore(server.url, token=token)
    try:
        for _ in range(2):
            import_lines(store, BytesIO(exported(source)))
            assert content(store) == content(source)
        import_lines(target, BytesIO(exported(store)))
        assert content(target) == content(source)
    finally:
        store.close()


def test_encrypted(source, target):
    encrypted = EncryptedStore(source, Cipher(key := generate_key()))
    source.write("n", [Forget(session.name) for session in source.read("n", ListSessions())])
    fill(encrypted)
    lines = exported(source)
    assert b"Titles" not in lines
    import_lines(target, BytesIO(lines))
    assert content(EncryptedStore(target, Cipher(key)), times=True) == content(encrypted, times=True)


def test_what_has_expired_since_is_not_imported(source, target):
    source.write("n", [Append("brief", (message("a"), message("b")), ttl=0.4), Summarize("brief", 1, '["a"]')])
    source.write("n", [SetAbout("brief too", "", "ada"), SetExpiry("brief too", 0.4)])
    lines = exported(source)
    target.write("n", [Append("brief", (message("kept"),))])
    time.sleep(0.5)
    report = import_lines(target, BytesIO(lines))
    assert report.messages == 10
    assert [item.id for item in target.read("n", ListMessages("brief"))] == ["kept"]
    assert target.read("n", GetSession("brief too")) is None


def test_rules_delete_no_session_of_the_target(source, target):
    source.write("n", [Retain("", None, 60.0)])
    old = NewMessage("a", "1", 1_000_000)
    target.write("n", [Append("theirs", (old,))])
    import_lines(target, BytesIO(exported(source)))
    assert target.read("n", GetSession("theirs")) is not None
    assert target.read("n", GetRetention()) == []


def test_a_summary_of_other_messages_is_not_imported(source, target):
    lines = exported(source)
    target.write("n", [Append("fork", (message("x"),)), Append("first", tuple(map(message, "abcd")))])
    import_lines(target, BytesIO(lines))
    assert [item.id for item in target.read("n", ListMessages("fork"))] == ["x", "a", "b", "c"]
    assert target.read("n", GetContext("fork", 0)).summary is None


def test_a_later_summary_stays(source, target):
    lines = exported(source)
    import_lines(target, BytesIO(lines))
    target.write("n", [Summarize("fork", 3, '["later"]')])
    import_lines(target, BytesIO(lines))
    assert target.read("n", GetContext("fork", 0)).summary == '["later"]'


def test_title_and_tags_of_an_existing_session_are_replaced_only_by_others(source, target):
    target.write("n", [Append("third", (message("x"),)), SetAbout("third", "", "kept")])
    target.write("n", [SetAbout("first", "", "replaced", ("gone",))])
    import_lines(target, BytesIO(exported(source)))
    assert target.read("n", GetSession("third")).about.owner == "kept"
    assert target.read("n", GetSession("first")).about.owner == "ada"


VERSION_1 = b"""{"format":"botwire","version":1,"namespace":"n"}
{"key":"k","value":1,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-02T00:00:00Z"}
{"session":"s","seq":1,"id":"i","data":"one","created_at":"2026-01-01T00:00:00Z"}
{"end":true}
"""


def test_an_export_of_an_earlier_botwire(target):
    report = import_lines(target, BytesIO(VERSION_1))
    assert (report.entries, report.messages) == (1, 1)
    (found,) = target.read("n", ListMessages("s"))
    assert (found.id, found.data, found.created_at.year, found.edited) == ("i", "one", 2026, None)
    assert target.read("n", GetRetention()) == []
    with pytest.raises(InvalidArgument, match="names no supported format"):
        import_lines(target, BytesIO(VERSION_1.replace(b'"version":1', b'"version":3')))


def test_progress_that_an_earlier_botwire_has_kept(target, tmp_path):
    path = tmp_path / "n.jsonl"
    path.write_bytes(VERSION_1)
    offset = VERSION_1.index(b'{"session"')
    kept = {"address": target.address, "namespace": "n", "offset": offset, "lines": 2}
    (tmp_path / "n.jsonl.imported").write_text(json.dumps(kept))
    assert import_file(target, path, None, progress=nothing).entries == 0


def test_an_unfinished_export_of_an_earlier_botwire_continues(source, target, tmp_path):
    path = tmp_path / "n.jsonl"
    path.write_bytes(b'{"format":"botwire","version":1,"namespace":"n"}\n')
    export_file(source, "n", path, force=False, progress=nothing)
    assert path.read_bytes().splitlines()[1:] == exported(source).splitlines()[1:]
    import_file(target, path, None, progress=nothing)
    assert content(target) == content(source)


def test_an_export_cut_after_any_line_continues(source, tmp_path):
    source.write("n", [Put("a", "1"), Put("b", "2")])
    wanted = exported(source)
    ends = [index + 1 for index, byte in enumerate(wanted) if byte == ord("\n")]
    assert len(ends) > 20
    path = tmp_path / "n.jsonl"
    for end in ends[:-1]:
        for length in end, end + 5:
            path.write_bytes(wanted[:length])
            export_file(source, "n", path, force=False, progress=nothing)
            assert path.read_bytes() == wanted, length


def test_an_import_cut_at_any_line_continues(source, tmp_path, monkeypatch):
    """After each write, its progress is on disk. All that is imported again changes nothing."""
    monkeypatch.setattr("botwire.migrate.walk.OPERATIONS", 1)
    lines = exported(source)
    positions = []
    whole = SqliteStore(tmp_path / "whole.db")
    import_lines(whole, BytesIO(lines), keep=lambda found: positions.append((found.offset, found.lines)))
    assert len(positions) > 10
    for number, (offset, count) in enumerate(positions):
        store = SqliteStore(tmp_path / f"{number}.db")
        with pytest.raises(InvalidArgument, match="unfinished"):
            import_lines(store, BytesIO(lines[:offset]))
        begun = Position(store.address, "n", offset, count)
        import_lines(store, BytesIO(lines), begun=begun)
        assert content(store, times=True) == content(source, times=True)
        store.close()
    whole.close()


def test_a_session_that_expires_during_an_export(source):
    source.write("n", [Append("brief", (message("a"),), ttl=0.3)])

    class Slow(SqliteStore):
        def read(self, namespace, query, **options):
            found = super().read(namespace, query, **options)
            if isinstance(query, ListSessions):
                time.sleep(0.4)
            return found

    slow = Slow(source.address.removeprefix("sqlite:///"))
    lines = parsed(exported(slow))
    slow.close()
    assert lines[-1] == {"end": True}
    assert not [line for line in lines if line.get("session") == "brief"]


def test_lines_with_wrong_parts_of_a_session(target):
    head = b'{"format":"botwire","version":2,"namespace":"n"}\n'
    for line, error, said in (
        ({"session": "s", "owner": ""}, InvalidArgument, "line 2: owner '' is not allowed"),
        ({"session": "s", "tags": ["a", "b\n"]}, InvalidArgument, "line 2: tag"),
        (
            {"session": "s", "tags": [f"{n}" for n in range(33)]},
            InvalidArgument,
            "line 2: a session has at most 32 tags",
        ),
        (
            {"session": "s", "about": {"title": "x" * MAX_ABOUT_BYTES}},
            InvalidArgument,
            "line 2: title, owner, tags and data",
        ),
        ({"session": "s", "about": {"title": 5}}, InvalidArgument, "line 2: a title is a str"),
        ({"session": "s", "about": {"data": [1]}}, InvalidArgument, "line 2: a title is a str and data an object"),
        ({"session": "s", "about": 7}, InvalidArgument, "line 2: a title is a str"),
        ({"session": "", "owner": "a"}, InvalidArgument, "line 2: session name '' is not allowed"),
        ({"session": "s", "origin": ["", 1]}, InvalidArgument, "line 2: session name"),
        ({"session": "s", "origin": ["s", -1]}, InvalidArgument, "line 2: seq is an int"),
        ({"session": "s", "summary": ["x"]}, InvalidArgument, "line 2: summarized is an int of at least 1"),
        ({"session": "s", "id": "i", "data": 1, "redacted": "x\n"}, InvalidArgument, "line 2: reason"),
        ({"session": "s", "id": "i"}, InvalidArgument, "line 2 is neither"),
        ({"session": "s", "data": 1}, InvalidArgument, "line 2 is neither"),
        ({"retain": "\n", "idle": 1}, InvalidArgument, "line 2: prefix"),
        ({"retain": "", "idle": 0}, InvalidArgument, "line 2: idle is seconds"),
        ({"retain": "", "age": -1}, InvalidArgument, "line 2: age is seconds"),
        ({"idle": 1}, InvalidArgument, "line 2 is neither"),
    ):
        with pytest.raises(error, match=said):
            import_lines(target, BytesIO(head + json.dumps(line).encode() + b"\n"))
    assert target.read("n", ListSessions()) == []
    assert target.read("n", GetRetention()) == []
    assert issubclass(InvalidName, InvalidArgument | ValueError)
