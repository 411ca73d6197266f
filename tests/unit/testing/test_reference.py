"""The reference of the contracts has every operation and query, and notices a store that differs."""

from __future__ import annotations

import typing
from contextlib import closing

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from botwire.operations import Operation, Pop
from botwire.queries import (
    GetProgress,
    GetUsage,
    ListChanges,
    ListNamespaces,
    ListTexts,
    Query,
    Search,
)
from botwire.stores.sqlite.store import SqliteStore
from botwire.testing.reference import Reference, machine_of
from botwire.testing.strategies import operations_on

IN_TESTS = {GetProgress, GetUsage, ListChanges, ListNamespaces, ListTexts, Search}
"""Queries with answers that a reference of one namespace cannot know; the contracts have tests for each."""


def test_every_operation_and_query_is_in_the_reference():
    assert set(Reference.APPLY) == set(typing.get_args(Operation))
    assert set(Reference.ANSWER) | IN_TESTS == set(Query.__subclasses__())
    assert set(Reference.ANSWER).isdisjoint(IN_TESTS)


def test_a_store_that_differs_is_noticed():
    class Wrong(SqliteStore):
        def write(self, namespace, operations, **options):
            return super().write(
                namespace, [Pop(op.session) if isinstance(op, Pop) else op for op in operations], **options
            )

    some = st.sampled_from(["a", "b"])
    with closing(Wrong(":memory:")) as store, pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine_of(store, operations_on(some, some)),
            settings=settings(
                max_examples=200, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
            ),
        )
