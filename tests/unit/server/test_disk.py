"""Which writes a server refuses when its disk is nearly full."""

from __future__ import annotations

import typing

import pytest

from botwire.errors import Unavailable
from botwire.operations import (
    Append,
    Clear,
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
)
from botwire.server.disk import Disk

STORING = (
    Put("k", "1"),
    Increment("k"),
    Append("s", (NewMessage("i", "1"),)),
    Replace("s", (NewMessage("i", "1"),)),
    Fork("s", "t"),
    Edit("s", 1, "1"),
    Summarize("s", 1, "[1]"),
    SetAbout("s", "{}"),
    SetVectors("m", ()),
)
OTHERS = (
    Delete("k"),
    Require("k", 0),
    Clear(),
    Forget("s"),
    Pop("s"),
    Expire(),
    SetExpiry("s"),
    Retain(),
    Destroy(),
)


@pytest.fixture
def full(tmp_path):
    """A disk that keeps more free than it has."""
    (tmp_path / "a.db").touch()
    return Disk(f"sqlite:///{tmp_path}/a.db", keep=2**62)


def test_every_operation_is_known():
    assert {type(op) for op in (*STORING, *OTHERS)} == set(typing.get_args(Operation))


@pytest.mark.parametrize("operation", STORING, ids=lambda op: type(op).__name__)
def test_what_stores_something_is_refused(full, operation):
    with pytest.raises(Unavailable, match="nothing was written"):
        full.check([Delete("k"), operation])


def test_what_deletes_is_not_refused(full):
    full.check(OTHERS)
    full.check([Replace("s", ()), Summarize("s", 0, "[]")])
