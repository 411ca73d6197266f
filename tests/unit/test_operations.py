"""Every member of the union `Operation` is in every table that needs one, and its JSON form keeps it."""

from __future__ import annotations

import typing

from hypothesis import given
from hypothesis import strategies as st

from botwire.operations import (
    Append,
    Clear,
    Copies,
    Delete,
    Destroy,
    Edit,
    Expire,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Operation,
    Pop,
    Put,
    Replace,
    Require,
    Retain,
    SetAbout,
    SetExpiry,
    SetVectors,
    Summarize,
    Vector,
    Write,
    memory_of,
    weight_of,
)
from botwire.queries import Query
from botwire.stores.engine import transaction
from botwire.stores.engine.answer import _ANSWER
from botwire.stores.wrappers.tracing import operation_name
from botwire.wire import decode_write, encode_write
from botwire.wire.requests import _WIRE, WireOperation

ALL = set(typing.get_args(Operation))
NAMES = st.text("abcdé/", min_size=1, max_size=5)
VECTORS = st.builds(Vector, st.just(b"\0\0\x80\x3f" * 4), key=NAMES, version=st.integers(0, 9))
COUNTS = st.none() | st.integers(0, 9)
SECONDS = st.none() | st.floats(0.5, 99)
MESSAGES = st.lists(st.builds(NewMessage, NAMES, st.just('"x"')), max_size=3).map(tuple)
ABOUTS = st.sampled_from(['{"title":"é","data":{"a":[1]}}', '{"data":{}}', '{"title":null}', '"ZW5jcnlwdGVk"', ""])
SUMMARIES = st.sampled_from(["[]", '[{"role":"user"},2]', '"ZW5jcnlwdGVk"'])
COPIES = st.builds(Copies, MESSAGES, st.none() | SUMMARIES, ABOUTS)
TAGS = st.lists(NAMES, max_size=3, unique=True).map(tuple)
MADE = {
    Put: st.builds(
        Put,
        NAMES,
        st.binary(max_size=9) | st.sampled_from(['{"a":1}', "null"]),
        ttl=st.none() | st.floats(0.5, 99),
        if_version=st.none() | st.integers(0, 9),
        keep_ttl=st.booleans(),
    ),
    Delete: st.builds(Delete, NAMES),
    Require: st.builds(Require, NAMES, st.integers(0, 9)),
    Increment: st.builds(Increment, NAMES, st.integers(-9, 9) | st.floats(-9.5, 9.5)),
    Append: st.builds(Append, NAMES, MESSAGES, COUNTS, COUNTS, SECONDS),
    Replace: st.builds(Replace, NAMES, MESSAGES, st.integers(0, 9), COUNTS, COUNTS, SECONDS),
    Fork: st.builds(Fork, NAMES, NAMES, COUNTS, COUNTS, st.none() | COPIES),
    Edit: st.builds(Edit, NAMES, st.integers(0, 9), st.just('{"a":1}'), COUNTS, st.none() | st.just("") | NAMES),
    Summarize: st.builds(Summarize, NAMES, st.integers(0, 9), SUMMARIES, COUNTS, COUNTS),
    SetAbout: st.builds(SetAbout, NAMES, ABOUTS, st.none() | NAMES, TAGS, COUNTS),
    SetExpiry: st.builds(SetExpiry, NAMES, SECONDS),
    Retain: st.builds(Retain, st.just("") | NAMES, SECONDS, SECONDS),
    Clear: st.builds(Clear, st.just("") | NAMES),
    Forget: st.builds(Forget, NAMES),
    Pop: st.builds(Pop, NAMES, st.integers(0, 9), st.none() | st.lists(NAMES, max_size=3).map(tuple)),
    SetVectors: st.builds(SetVectors, NAMES, st.lists(VECTORS, max_size=3).map(tuple)),
    Destroy: st.builds(Destroy),
}


def test_every_operation_is_in_every_table():
    assert set(transaction._APPLY) == ALL
    assert set(_WIRE) == set(MADE) == ALL - {Expire}
    assert len(typing.get_args(WireOperation)) == len(_WIRE)
    for kind in ALL:
        assert isinstance(kind.reveals, bool)
        assert kind.values in {"none", "sealed", "computed", "returned", "plain"}
    assert len({operation_name(kind) for kind in ALL}) == len(ALL)


def test_a_large_value_weighs_as_much_as_many_rows():
    row = "x" * 16_384
    assert weight_of(Write("n", (Put("k", row * 100),))) > 100
    assert weight_of(Write("n", (Append("s", (NewMessage("i", row * 100),)),))) > 100
    vectors = (Vector(bytes(16_384), key="k", version=1),) * 100
    assert weight_of(Write("n", (SetVectors("m", vectors),))) > 600


def test_the_memory_of_an_operation_counts_its_texts():
    text = "x" * 100_000
    message = (NewMessage("i", text),)
    for operation in (
        Put("k", text),
        Append("s", message),
        Replace("s", message),
        Edit("s", 1, text),
        Summarize("s", 1, text),
        SetAbout("s", text),
        Fork("s", "t", copies=Copies(message)),
        Fork("s", "t", copies=Copies((), summary=text)),
        Fork("s", "t", copies=Copies((), about=text)),
    ):
        assert 100_000 < memory_of((operation, Delete("k"))) < 101_000, operation


def test_every_query_is_answered():
    assert set(_ANSWER) == set(Query.__subclasses__())


@given(st.lists(st.one_of(*MADE.values()), max_size=5))
def test_json_keeps_every_operation(operations):
    assert decode_write(encode_write(operations)) == tuple(operations)
