"""Every record comes back from its JSON form as it was."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botwire import records, wire
from botwire.errors import StoreError
from botwire.testing import json_values, names
from botwire.values import encode_json
from botwire.wire.documents import Change, Context, Message, Rule, Session
from botwire.wire.events import Parser, encode_changes
from botwire.wire.responses import Rules, Sessions, decode_change

COUNTS = st.integers(0, 2**62)
TIMES = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
"""The years 1 to 9999."""
TEXTS = json_values.map(encode_json)
MESSAGES = st.builds(records.Message, COUNTS, names, TEXTS, TIMES, st.none() | TIMES, st.none() | st.just("") | names)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.none() | st.text('aé"\\'),
        "data": st.none() | st.dictionaries(names, json_values, max_size=3),
    },
)
STORED = OBJECTS.map(
    lambda parts: encode_json(dict(sorted(parts.items(), reverse=True))) if parts else ""
) | st.binary().map(lambda text: f'"{text.hex()}"')
"""Title and data, or their encrypted form."""
ABOUTS = st.builds(records.About, COUNTS, st.none() | names, st.lists(names, max_size=3).map(tuple), STORED)
SESSIONS = st.builds(
    records.Session,
    name=names,
    place=COUNTS,
    messages=COUNTS,
    created=TIMES,
    updated=TIMES,
    version=COUNTS,
    bytes=COUNTS,
    expires=st.none() | TIMES,
    about=ABOUTS,
    origin=st.none() | st.tuples(names, COUNTS),
    summarized=COUNTS,
    preview=st.none() | MESSAGES,
)
SOME = st.lists(MESSAGES, max_size=3)
CONTEXTS = st.builds(
    records.Context, COUNTS, COUNTS, COUNTS, st.none() | st.lists(json_values, max_size=3).map(encode_json), SOME, SOME
)
SECONDS = st.none() | st.floats(0.001, 1e9)
RULES = st.builds(records.Rule, st.just("") | names, SECONDS, SECONDS)
CHANGES = st.builds(
    records.Change,
    version=COUNTS,
    kind=st.sampled_from(["append", "edit", "about", "summary", "expire", "pop"]),
    session=names,
    message=st.none() | MESSAGES,
    left=st.none() | COUNTS,
)


@given(st.lists(SESSIONS, max_size=3), st.booleans())
def test_sessions(sessions, full):
    answer = wire.decode_answer(wire.encode(Sessions.of(sessions, full=full)))
    assert answer.rows("sessions") == sessions
    assert answer.next == (sessions[-1].cursor if full and sessions else None)
    for session in sessions:
        assert wire.decode_session(wire.encode(Session.of(session))) == session


@given(CONTEXTS, st.none() | COUNTS)
def test_a_context(context, older):
    assert wire.decode_context(wire.encode(Context.of(context, older))) == (context, older)


@given(st.lists(RULES, max_size=3))
def test_rules(rules):
    assert wire.decode_answer(wire.encode(Rules.of(rules))).rows("rules") == rules


@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_changes(changes):
    sent = encode_changes(records.Changes(changes, changes[-1].version))
    assert [decode_change(event.data) for event in Parser().feed(sent)] == changes


def test_what_readers_see():
    message = records.Message(1, "i", '"x"', 0, 1_000_000, "")
    assert msgspec.json.decode(wire.encode(Message.of(message))) == {
        "seq": 1,
        "id": "i",
        "data": "x",
        "created_at": "1970-01-01T00:00:00Z",
        "edited_at": "1970-01-01T00:00:01Z",
        "redacted": "",
    }
    about = records.About(3, "ada", ("x",), '{"title":"Trip","data":{"a":1}}')
    session = records.Session("s", 1, 2, 0, 0, 5, 70, 1_000_000, about, ("t", 2), 1)
    assert msgspec.json.decode(wire.encode(Session.of(session))) == {
        "session": "s",
        "place": 1,
        "messages": 2,
        "created_at": "1970-01-01T00:00:00Z",
        "updated_at": "1970-01-01T00:00:00Z",
        "version": 5,
        "bytes": 70,
        "expires_at": "1970-01-01T00:00:01Z",
        "about": {"version": 3, "owner": "ada", "tags": ["x"], "title": "Trip", "data": {"a": 1}},
        "origin": {"session": "t", "seq": 2},
        "summarized": 1,
        "preview": None,
    }
    context = records.Context(5, 2, 1, '["short"]', [], [message])
    assert msgspec.json.decode(wire.encode(Context.of(context)))["summary"] == ["short"]
    assert "edited_at" not in msgspec.json.decode(
        wire.encode(Message.of(msgspec.structs.replace(message, edited=None)))
    )
    assert set(msgspec.json.decode(wire.encode(Rule.of(records.Rule("p", 1.0, None))))) == {"prefix", "idle", "age"}
    change = records.Change(version=1, kind="about", session="s")
    assert msgspec.json.decode(wire.encode(Change.of(change))) == {"version": 1, "kind": "about", "session": "s"}


def test_a_session_of_an_older_server():
    old = b'{"session":"s","place":1,"messages":2,"created_at":"1970-01-01T00:00:00Z","updated_at":"1970-01-01T00:00:00Z"}'
    assert wire.decode_session(old) == records.Session("s", 1, 2, 0, 0)


@pytest.mark.parametrize(
    "about", ['{"title":1}', '{"title":[]}', '{"data":[]}', '{"data":"x"}', '{"encrypted":1}', '{"tags":["a",1]}']
)
def test_a_session_of_no_botwire_server(about):
    sent = wire.encode(Session.of(records.Session("s", 1, 2, 0, 0))).replace(
        b'"about":{', b'"about":{%b,' % about[1:-1].encode()
    )
    with pytest.raises(StoreError, match="not one of a botwire server"):
        wire.decode_session(sent)


@pytest.mark.parametrize("summary", ["1", "{}", "true"])
def test_a_context_of_no_botwire_server(summary):
    sent = wire.encode(Context.of(records.Context())).replace(b'"summary":null', b'"summary":%b' % summary.encode())
    with pytest.raises(StoreError, match="not one of a botwire server"):
        wire.decode_context(sent)


def test_what_is_encrypted_has_no_title():
    about = records.About(1, "ada", (), '"c2VjcmV0"')
    assert (about.title, about.data) == (None, {})
    assert "ada" in repr(about)
