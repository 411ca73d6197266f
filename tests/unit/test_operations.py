"""Every member of the union `Operation` is in every table that needs one, and its JSON form keeps it."""

from __future__ import annotations

import typing

from hypothesis import given
from hypothesis import strategies as st

from botwire.operations import (
    Append,
    Clear,
    Delete,
    Expire,
    Forget,
    Increment,
    NewMessage,
    Operation,
    Pop,
    Put,
    Require,
    SetVectors,
    Vector,
    Write,
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
    Append: st.builds(Append, NAMES, st.lists(st.builds(NewMessage, NAMES, st.just('"x"'))).map(tuple)),
    Clear: st.builds(Clear, st.just("") | NAMES),
    Forget: st.builds(Forget, NAMES),
    Pop: st.builds(Pop, NAMES, st.integers(0, 9), st.none() | st.lists(NAMES, max_size=3).map(tuple)),
    SetVectors: st.builds(SetVectors, NAMES, st.lists(VECTORS, max_size=3).map(tuple)),
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


def test_every_query_is_answered():
    assert set(_ANSWER) == set(Query.__subclasses__())


@given(st.lists(st.one_of(*MADE.values()), max_size=5))
def test_json_keeps_every_operation(operations):
    assert decode_write(encode_write(operations)) == tuple(operations)
