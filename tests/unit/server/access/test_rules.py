"""The rules of access alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botwire import AuthError, InvalidArgument, InvalidName
from botwire.server.access.rules import (
    SCOPES,
    Caller,
    Forbidden,
    Token,
    Unauthorized,
    authorize,
    check_grant,
    check_pattern,
    covers,
    hash_of,
    new_secret,
    parse_credentials,
    proven,
    rule_of,
)

names = st.text("ab-*", min_size=1, max_size=6)
patterns = st.builds(str.__add__, st.text("ab-", max_size=4), st.sampled_from(["", "*"])).filter(bool)


def token(*namespaces, can=("read", "write"), secret="x" * 40, **options):
    return Token("id", "", hash_of(secret), namespaces, can, 0, **options)


@pytest.mark.parametrize(
    ("pattern", "namespace", "covered"),
    [
        ("support-*", "support-1", True),
        ("support-*", "support-", True),
        ("support-*", "support", False),
        ("support-*", "xsupport-1", False),
        ("support-*", "Support-1", False),
        ("support", "support", True),
        ("support", "support-1", False),
        ("*", "anything", True),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("a?", "ab", False),
    ],
)
def test_patterns(pattern, namespace, covered):
    assert covers(pattern, namespace) is covered


@given(own=patterns, asked=patterns, namespace=names)
def test_a_token_cannot_issue_more_permissions_than_it_has(own, asked, namespace):
    maker, minted = token(own, can=("admin",)), token(asked)
    if maker.administers(asked) and minted.allows("read", namespace):
        assert maker.allows("read", namespace)


@given(claimed=names, asked=patterns, namespace=names)
def test_a_claim_is_for_one_namespace(claimed, asked, namespace):
    maker, minted = token(claimed, can=("admin",), claim=True), token(asked)
    if maker.administers(asked) and minted.allows("read", namespace):
        assert namespace == claimed


def test_scopes():
    for can in (("read",), ("write",), ("read", "write"), ("admin",)):
        allowed = [scope for scope in SCOPES if token("n", can=can).allows(scope, "n")]
        assert allowed == (list(SCOPES) if can == ("admin",) else list(can))
        assert not any(token("n", can=can).allows(scope, "other") for scope in SCOPES)
        assert token("n", can=can).administers("n") is (can == ("admin",))


@pytest.mark.parametrize("wrong", ["", "a*b", "**", "*a", "a/b", "a\x01*", "\x01access", ".", "n" * 129, None, 7])
def test_what_is_not_a_pattern(wrong):
    with pytest.raises((InvalidArgument, InvalidName)):
        check_pattern(wrong)


@pytest.mark.parametrize(
    ("namespaces", "can"), [([], ["read"]), (["n"], []), (["n"], ["reed"]), (["n"] * 101, ["read"])]
)
def test_what_is_not_a_grant(namespaces, can):
    with pytest.raises(InvalidArgument):
        check_grant("", namespaces, can)


def test_secrets():
    identity, secret = new_secret()
    assert secret.startswith(f"bw_{identity}_")
    assert len(secret) >= 16 + 43
    assert Caller(secret).issued_id == identity
    assert Caller("my own token of some length").issued_id == ""
    assert secret != new_secret()[1]
    known = token("n", secret=secret)
    assert proven(secret, known, 0) is known
    assert proven(secret + "x", known, 0) is None
    assert proven(secret, None, 0) is None
    assert proven(secret, token("n", secret=secret, expires=5), 5) is None
    assert proven(secret, token("n", secret=secret, expires=5), 4) is not None
    assert proven(secret, token("n", secret=secret, revoked=1), 0) is None


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"bw_1_2", b"Bearer a b", b"Bearer \xff"]
)
def test_what_is_not_a_credential(header):
    with pytest.raises(Unauthorized, match="not accepted"):
        parse_credentials([header])


def test_credentials():
    assert parse_credentials([]) == Caller("")
    assert parse_credentials([b"Bearer abc"]) == parse_credentials([b"bearer  abc"]) == Caller("abc")
    with pytest.raises(Unauthorized):
        parse_credentials([b"Bearer abc", b"Bearer abc"])


def authorized(caller, scope, claim, mode):
    try:
        authorize(caller, scope, "n", claim, mode=mode, now=0)
    except AuthError as error:
        return type(error).__name__, getattr(error, "challenge", None)
    return "let in"


NEEDED = "Unauthorized", 'Bearer realm="botwire"'
INVALID = "Unauthorized", 'Bearer realm="botwire", error="invalid_token"'


def test_authorize():
    own, mine = Caller("o" * 20), token("n", can=SCOPES, secret="o" * 20, claim=True)
    theirs = token("n", can=SCOPES, secret="t" * 20, claim=True)
    minted = Caller("bw_1_x", token("n"))
    for scope in ("read", "write"):
        assert authorized(Caller(""), scope, None, "open") == "let in"
        assert authorized(own, scope, None, "open") == "let in"
    for scope in SCOPES:
        assert authorized(Caller(""), scope, theirs, "open") == NEEDED
        assert authorized(Caller(""), scope, None, "required") == NEEDED
        assert authorized(own, scope, None, "required") == INVALID
        for mode in ("open", "required"):
            assert authorized(own, scope, mine, mode) == "let in"
            assert authorized(own, scope, theirs, mode) == INVALID
            assert authorized(Caller("bw_1_x"), scope, None, mode) == INVALID
            wanted = (
                "let in"
                if scope != "admin"
                else ("Forbidden", f'{NEEDED[1]}, error="insufficient_scope", scope="admin"')
            )
            assert authorized(minted, scope, theirs, mode) == wanted
    assert authorized(Caller(""), "admin", None, "open") == NEEDED


def test_a_route_without_a_row():
    with pytest.raises(Forbidden, match="no access rule"):
        rule_of("GET", "/nothing")
    assert rule_of("HEAD", "/memory/{namespace}") is rule_of("GET", "/memory/{namespace}")
