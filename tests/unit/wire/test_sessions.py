"""Operations on sessions in the body of a write, as others write them, and what is refused."""

from __future__ import annotations

import json

import pytest

from botwire.errors import InvalidArgument, InvalidName, InvalidValue
from botwire.limits import MAX_ABOUT_BYTES, MAX_COPIED, MAX_TAGS
from botwire.operations import Append, Copies, Edit, Fork, Replace, Retain, SetAbout, SetExpiry, Summarize
from botwire.wire import decode_append, decode_write


def decoded(**operation):
    (found,) = decode_write(json.dumps({"operations": [operation]}).encode())
    return found


def test_bodies_as_others_write_them():
    assert decoded(op="append", session="s", messages=[], if_last=3, ttl=60) == Append("s", (), if_last=3, ttl=60.0)
    assert decoded(op="replace", session="s", messages=[], after=2) == Replace("s", (), after=2)
    assert decoded(op="fork", session="s", target="t") == Fork("s", "t")
    assert decoded(op="edit", session="s", seq=1, data={"a": 1}) == Edit("s", 1, '{"a":1}')
    assert decoded(op="summarize", session="s", upto=0, summary=[]) == Summarize("s", 0, "[]")
    assert decoded(op="set_expiry", session="s") == SetExpiry("s")
    assert decoded(op="retain", idle=3600) == Retain("", 3600.0)
    assert decode_append("s", b'{"messages":[],"if_version":4,"if_last":0}') == Append("s", (), 0, 4)


def test_title_and_data_are_stored_as_one_object():
    def stored(**fields):
        return decoded(op="set_about", session="s", **fields).stored

    assert stored(title="Trip", data={"b": 1, "a": 2}) == '{"title":"Trip","data":{"b":1,"a":2}}'
    assert stored(data={}) == '{"data":{}}'
    assert stored(title=None) == stored() == stored(title=None, data=None) == ""
    assert stored(about={"title": "Trip"}) == '{"title":"Trip"}'
    assert stored(about="c2VjcmV0") == '"c2VjcmV0"'
    assert decoded(op="set_about", session="s", owner="ada", tags=["a", "b", "a"]) == SetAbout(
        "s", "", "ada", ("a", "b")
    )


def test_what_an_encrypted_client_copies():
    copies = {"messages": [{"data": "eA==", "id": "i"}], "summary": "eQ==", "about": "eg=="}
    found = decoded(op="fork", session="s", target="t", copies=copies).copies
    assert (found.messages[0].stored, found.summary, found.about) == ('"eA=="', '"eQ=="', '"eg=="')
    copies = {"messages": [{"data": 1, "id": "i"}] * 20_000}
    assert len(decoded(op="fork", session="s", target="t", copies=copies).copies.messages) == 20_000
    assert Copies(()) == decoded(op="fork", session="s", target="t", copies={"messages": []}).copies


LONG = "x" * MAX_ABOUT_BYTES
REFUSED = [
    ({"op": "append", "messages": [], "if_last": -1}, InvalidArgument, "if_last is an int of at least 0, not -1"),
    ({"op": "append", "messages": [], "if_last": "1"}, InvalidArgument, "if_last"),
    ({"op": "append", "messages": [], "if_version": 2**63}, InvalidArgument, "if_version"),
    ({"op": "append", "messages": [], "ttl": 0}, InvalidArgument, "ttl is seconds"),
    ({"op": "append", "messages": [{"data": 1}] * 10_001}, InvalidArgument, "at most 10,000"),
    ({"op": "replace", "messages": [], "after": -1}, InvalidArgument, "after is an int of at least 0"),
    ({"op": "replace", "messages": [], "after": None}, InvalidArgument, "after"),
    ({"op": "replace", "messages": [{"data": 1}] * 10_001}, InvalidArgument, "at most 10,000"),
    ({"op": "replace", "messages": [{"data": 1, "created": 1}]}, InvalidArgument, "unknown field"),
    ({"op": "fork"}, InvalidArgument, "target"),
    ({"op": "fork", "target": ""}, InvalidName, "session name"),
    ({"op": "fork", "target": "t", "upto": -1}, InvalidArgument, "upto is an int"),
    ({"op": "fork", "target": "t", "copies": {"messages": [], "summary": 1}}, InvalidArgument, "list of messages"),
    ({"op": "fork", "target": "t", "copies": {"messages": [], "about": [1]}}, InvalidArgument, "a title is a str"),
    (
        {"op": "fork", "target": "t", "copies": {"messages": [{"data": 1}] * (MAX_COPIED + 1)}},
        InvalidArgument,
        "100,000",
    ),
    ({"op": "edit", "seq": 1}, InvalidArgument, "data"),
    ({"op": "edit", "seq": -1, "data": 1}, InvalidArgument, "seq is an int of at least 0, not -1"),
    ({"op": "edit", "seq": 1.5, "data": 1}, InvalidArgument, "seq"),
    ({"op": "edit", "seq": True, "data": 1}, InvalidArgument, "seq"),
    ({"op": "edit", "seq": 1, "data": 1, "redacted": "x" * 513}, InvalidName, "reason"),
    ({"op": "edit", "seq": 1, "data": 1, "redacted": "\0"}, InvalidName, "reason"),
    ({"op": "summarize", "upto": 1}, InvalidArgument, "summary"),
    ({"op": "summarize", "upto": -1, "summary": []}, InvalidArgument, "upto is an int"),
    ({"op": "summarize", "upto": 1, "summary": {"a": 1}}, InvalidArgument, "a summary is a list of messages"),
    ({"op": "set_about", "title": 1}, InvalidArgument, "a title is a str"),
    ({"op": "set_about", "data": [1]}, InvalidArgument, "data an object"),
    ({"op": "set_about", "about": {"title": "x", "owner": "ada"}}, InvalidArgument, "owner"),
    ({"op": "set_about", "about": {}, "title": "x"}, InvalidArgument, "give either"),
    ({"op": "set_about", "title": LONG}, InvalidArgument, "at most 16,384 bytes"),
    ({"op": "set_about", "owner": ""}, InvalidName, "owner"),
    ({"op": "set_about", "owner": "x" * 513}, InvalidName, "owner"),
    ({"op": "set_about", "tags": "work"}, InvalidArgument, "tags"),
    ({"op": "set_about", "tags": [""]}, InvalidName, "tag"),
    ({"op": "set_about", "tags": [str(tag) for tag in range(MAX_TAGS + 1)]}, InvalidArgument, "at most 32 tags"),
    ({"op": "set_about", "if_version": -1}, InvalidArgument, "if_version"),
    ({"op": "set_about", "origin": ["t", 1]}, InvalidArgument, "unknown field"),
    ({"op": "set_expiry", "ttl": -1}, InvalidArgument, "ttl is seconds"),
    ({"op": "set_expiry", "ttl": 1e12}, InvalidArgument, "at most 100 years"),
]


@pytest.mark.parametrize(("operation", "error", "message"), REFUSED)
def test_what_is_refused(operation, error, message):
    with pytest.raises(error, match=message):
        decoded(session="s", **operation)


@pytest.mark.parametrize(("field", "value"), [("idle", 0), ("age", -1), ("age", 1e12), ("prefix", "\0")])
def test_rules_that_are_refused(field, value):
    with pytest.raises((InvalidArgument, InvalidName), match=f"{field}"):
        decoded(op="retain", **{field: value})


def test_text_that_is_no_unicode():
    for body in (
        b'{"op":"set_about","session":"s","title":"\\ud800"}',
        b'{"op":"set_about","session":"s","title":"\xff"}',
    ):
        with pytest.raises((InvalidArgument, InvalidValue)):
            decode_write(b'{"operations":[%b]}' % body)


def test_the_limit_of_what_is_known_about_a_session():
    """The names count, and an encrypted title may be longer."""
    room = MAX_ABOUT_BYTES - len('{"title":""}')
    decoded(op="set_about", session="s", title="x" * room)
    with pytest.raises(InvalidArgument, match="these have 16,385"):
        decoded(op="set_about", session="s", title="x" * room, owner="a")
    decoded(op="set_about", session="s", about="x" * (MAX_ABOUT_BYTES * 4 // 3 + 198))
    with pytest.raises(InvalidArgument, match="at most 22,045 bytes"):
        decoded(op="set_about", session="s", about="x" * (MAX_ABOUT_BYTES * 4 // 3 + 199))
