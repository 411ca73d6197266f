"""How much memory the rows of an answer take."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from botwire.queries import ListSessions, weight, within
from botwire.records import About, Context, Entry, Message, Session, Text

LONG = "x" * 100_000
MESSAGE = Message(1, "i", LONG, 0)
SESSION = Session("s", 1, 1, 0, 0)


@pytest.mark.parametrize(
    "row",
    [
        LONG,
        Entry("k", LONG, 1, 0, 0),
        Entry("k", LONG.encode(), 1, 0, 0),
        MESSAGE,
        Text(LONG, "e"),
        replace(SESSION, name=LONG),
        replace(SESSION, about=About(stored=LONG)),
        replace(SESSION, about=About(owner=LONG)),
        replace(SESSION, about=About(tags=("a", LONG))),
        replace(SESSION, preview=MESSAGE),
        Context(summary=LONG),
        Context(head=[MESSAGE]),
        Context(messages=[MESSAGE]),
    ],
)
def test_the_weight_of_a_row_counts_its_texts(row):
    assert 100_000 < weight(row) < 101_500


def test_a_page_of_sessions_ends_with_the_one_that_fills_it():
    rows = [replace(SESSION, place=place, preview=MESSAGE) for place in range(10)]
    assert len(within(rows, 250_000)) == 3
    assert len(within(iter(rows), None)) == 10


def test_every_query_can_be_remembered_by_a_server():
    query = ListSessions(limit=50, where={"owner": "ada"})
    assert (
        len({query, ListSessions(limit=50, where={"owner": "ada"}), replace(query, where={}), replace(query, limit=9)})
        == 3
    )
