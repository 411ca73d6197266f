"""Limits that need more than a comparison."""

from __future__ import annotations

import contextlib
import time

import pytest

from botwire import InvalidArgument
from botwire.errors import InvalidName
from botwire.limits import _PIECE as PIECE
from botwire.limits import (
    MAX_ABOUT_BYTES,
    MAX_NODES,
    MAX_TAGS,
    check_about,
    check_count,
    check_name,
    check_nodes,
    check_reason,
    check_ttl,
)

ENOUGH = MAX_NODES - 10


@pytest.mark.parametrize(
    "text",
    [
        b"," * (MAX_NODES - 1),
        b'"' + b"1,2;3:[{" * 500_000 + b'"',
        b'"' + rb"\"," * 1_000_000 + b'"',
        b'"' + rb"\\" * 600_000 + b'",' + b"1," * 1_000 + rb'"\"[[["' + b" " * MAX_NODES,
        b"[" + b"1234567," * ENOUGH + b"1]",
        b"[" + b"{}," * (ENOUGH // 2) + b"{}]",
        b"[" + b'"","a,b",' * (ENOUGH // 2) + b"0]",
        b'["' + b"," * 2 * MAX_NODES + b'"]',
    ],
    ids=[
        "short",
        "a string",
        "escaped quotes",
        "escaped backslashes",
        "numbers",
        "dicts",
        "strings",
        "commas in a string",
    ],
)
def test_what_a_body_may_hold(text):
    check_nodes(text)
    check_nodes(bytearray(text))


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"1," * MAX_NODES + b"1]",
        b"[" + b"{}," * (MAX_NODES // 2) + b"{}]",
        b"[" * (MAX_NODES + 1),
        b'{"a":{"b":[' + b'"","a,b",' * MAX_NODES + b"0]}}",
        b'"' * (2 * MAX_NODES + 10) + b"," * MAX_NODES,
        b'"\\\\",' * (MAX_NODES + 1),
        b'"\\\\\\"",' * (MAX_NODES + 1),
    ],
    ids=["numbers", "dicts", "depth", "strings", "quotes", "backslashes", "backslashes and quotes"],
)
def test_what_a_body_may_not_hold(text):
    with pytest.raises(InvalidArgument, match="1,000,000 commas"):
        check_nodes(text)


@pytest.mark.parametrize("number", [b"1.7976931348623157e308", b"1.23456789E-300", b"5e-0324"])
def test_numbers_that_take_long_to_decode_count_more(number):
    check_nodes(b"[" + b",".join([number] * 45_000) + b"]")
    with pytest.raises(InvalidArgument, match="1e-300 count as 20"):
        check_nodes(b"[" + b",".join([number] * 60_000) + b"]")
    check_nodes(b'["' + b"e-300" * 100_000 + b'"]')  # it is a text


def test_long_numbers_count_more():
    check_nodes(b"[" + b",".join([b"9" * 4_299] * 1_000) + b"]")
    check_nodes(b'["' + b"9" * 15_000_000 + b'"]')
    for digits in (600, 4_299):
        with pytest.raises(InvalidArgument, match="500 digits as 120"):
            check_nodes(b"[" + b",".join([b"1" * digits] * (13_000_000 // digits)) + b"]")


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_pieces_do_not_change_what_is_counted(length):
    """Quotes and backslashes at the end of a piece, and runs of them."""
    filler = b"x" * (PIECE - 20 + length)
    for run in range(18):
        end = b"\\" * run
        inside = b'["' + filler + end + end + b'",' + b"1," * (MAX_NODES // 2) + b'"' + b"," * MAX_NODES + b'"]'
        check_nodes(inside)
        outside = b'["' + filler + end + end + b'\\"",' + b"1," * MAX_NODES + b"1]"
        with pytest.raises(InvalidArgument):
            check_nodes(outside)


@pytest.mark.parametrize(
    "text",
    [
        b"p" * 15_000_000,
        b'"it is the time, see: " ' * 650_000,
        b" " * 15_000_000,
        b"{}," * 5_000_000,
        b"1.25e17," * 1_900_000,
    ],
    ids=["letters", "sentences", "spaces", "dicts", "numbers"],
)
def test_a_check_takes_little_time(text):
    """An event loop waits for Python's lock meanwhile. The time is compared with that of a few searches in the text."""

    def seconds(work):
        found = []
        for _ in range(3):
            begun = time.thread_time()
            with contextlib.suppress(InvalidArgument):
                work()
            found.append(time.thread_time() - begun)
        return min(found)

    assert seconds(lambda: check_nodes(text)) < 8 * seconds(lambda: text.count(b"e-"))


def test_tags():
    assert check_about("", None, ["b", "a", "b"]) == (None, ("b", "a"))
    assert check_about("", "ada", ()) == ("ada", ())
    assert len(check_about("", None, map(str, range(MAX_TAGS)))[1]) == MAX_TAGS
    for wrong in ("work", None, 3, [f"{number}" for number in range(MAX_TAGS + 1)]):
        with pytest.raises(InvalidArgument, match="tags"):
            check_about("", None, wrong)
    for wrong in ([""], [1], ["\0"], ["x" * 513]):
        with pytest.raises(InvalidName, match="tag"):
            check_about("", None, wrong)


def test_what_is_known_about_a_session():
    check_about("x" * (MAX_ABOUT_BYTES - 6), "ada", ["é", "b"])
    for stored, owner, tags in (("x" * MAX_ABOUT_BYTES, "a", []), ("x" * (MAX_ABOUT_BYTES - 1), None, ["é"])):
        with pytest.raises(InvalidArgument, match="at most 16,384 bytes as JSON, these have 16,385"):
            check_about(stored, owner, tags)
    check_about('"' + "x" * (MAX_ABOUT_BYTES * 4 // 3 + 199), None, ())  # encrypted
    with pytest.raises(InvalidArgument, match="at most 22,045 bytes"):
        check_about('"' + "x" * (MAX_ABOUT_BYTES * 4 // 3 + 200), None, ())


def test_reasons():
    assert [check_reason(reason) for reason in (None, "", "asked by the user")] == [None, "", "asked by the user"]
    for wrong in ("\n", "x" * 513, 3):
        with pytest.raises(InvalidName, match="reason"):
            check_reason(wrong)


def test_a_time_to_live_is_at_least_what_stores_keep():
    assert check_ttl(1e-9) == 1e-6


def test_an_error_names_the_most_when_a_number_is_too_large():
    with pytest.raises(InvalidArgument, match=r"limit is an int from 0 to 2\*\*63 - 1"):
        check_count(10**30, "limit")
    with pytest.raises(InvalidName, match="an owner is a str"):
        check_name(5, "owner")
