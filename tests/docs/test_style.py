"""The documents keep to their form: plain words, and decision records of limited length."""

from __future__ import annotations

import re

import pytest

from tests.docs.test_examples import DOCUMENTS, ROOT

AVOIDED = re.compile(
    r"\b(put down|told|tells?|telling|go(es)? on|going on|went on|gone|anew|behind|at the (most|least)|so many|whoever|whomever|nobody"
    r"|somebody|everybody|anybody|lets? in|lets? go of|sees? to it|meanwhile|stands|is over|time is up|know of|known by|"
    r"he|his|him)\b",
    re.IGNORECASE,
)
"""Words of an older style. Each has a plainer replacement, such as record, deliver, continue, again, after, at most, no one."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_use_plain_words(document):
    lines = enumerate(document.read_text().splitlines(), 1)
    found = [(number, match.group()) for number, line in lines for match in AVOIDED.finditer(line)]
    assert not found


def test_decisions_are_short_records():
    records = re.split(r"^#{2,3} ", (ROOT / "docs" / "decisions.md").read_text(), flags=re.MULTILINE)[1:]
    records = [record for record in records if "**" in record]
    assert len(records) > 30
    for record in records:
        title, _, body = record.partition("\n")
        assert len(body.split()) <= 200, title
        assert all(f"**{part}.**" in body for part in ("Context", "Decision", "Consequences")), title
