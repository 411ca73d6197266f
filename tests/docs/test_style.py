"""Documents and sources use plain words, and decision records have a limited length."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_examples import DOCUMENTS, ROOT

AVOIDED = re.compile(
    r"\b("
    r"put down|puts down|stands?|told|tell|tells|telling|go on|goes on|going on|went on|gone|anew|behind|so many|as far as"
    r"|at the most|at the least|whoever|whomever|whose turn|nobody|somebody|everybody|anybody|who has|who have|who had"
    r"|lets? in|lets? go of|sees? to it|tak(?:e|es|en|ing) for|know of|knows of|known by|known of|is over|time is up"
    r"|looks?(?! up| like| ahead)|looking(?! up)|looked(?! up)|meanwhile|the accounts?|strangers?|by half"
    r"|all the same|of ours|of its own accord|he|his|him"
    r")\b",
    re.IGNORECASE,
)
"""Words of an older style. Each has a plainer replacement, such as record, deliver, continue, again, after, at most, no one."""
QUOTED = re.compile(r"`[^`\n]*`|\"\w+\"")
"""Names of code in a comment, which are not prose."""
SOURCES = sorted(
    path for kind in ("py", "sql", "js", "html", "css") for path in (ROOT / "src" / "botwire").rglob(f"*.{kind}")
)
CODE = {
    ".js": re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`", re.DOTALL),
    ".sql": re.compile(r"--[^\n]*|'(?:''|[^'])*'"),
    ".css": re.compile(r"/\*.*?\*/", re.DOTALL),
    ".html": re.compile(r".+", re.DOTALL),
}
"""The comments and strings of each language."""


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Return the first line and the text of each comment, docstring and string of a source. A string without a space is a name."""
    text = path.read_text()
    if path.suffix == ".py":
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
        found = (
            (token.start[0], token.string)
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type in kinds
        )
    else:
        found = ((text.count("\n", 0, match.start()) + 1, match[0]) for match in CODE[path.suffix].finditer(text))
    return ((line, piece) for line, piece in found if " " in piece and "i me my myself" not in piece)  # stop words


def avoided(text: str, first_line: int = 1) -> list[tuple[int, str]]:
    """Return the line and the words of each avoided phrase in a text."""
    plain = QUOTED.sub(lambda match: "x" * len(match[0]), text)
    # A phrase may continue on the next line, after the indentation and the mark of a comment.
    joined = re.sub(r"\n[ \t]*(?:#|--|//|\*)?[ \t]*", lambda match: " " + "\0" * (len(match[0]) - 1), plain)
    spaced = AVOIDED.finditer(joined.replace(" \0", "  ").replace("\0", " "))
    return [(first_line + text.count("\n", 0, match.start()), match[0]) for match in spaced]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_use_plain_words(document):
    assert not avoided(document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_sentences_are_short(document):
    """A sentence has at most 25 words, without those in parentheses and tables."""
    text = re.sub(
        r"<!-- begin.*?<!-- end[^>]*>|^```.*?^```|^(?:    |\|).*?$",
        "",
        document.read_text(),
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(r"\]\([^)]*\)|\([^()]*\)|[\[\]*]", "", re.sub(r"`[^`]*`", "Code", text))
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*#!]|\d+\.) ?)", text)
    sentences = [item for paragraph in paragraphs for item in re.split(r"(?<=[.!?:])\s+(?=[A-Z0-9])", paragraph)]
    assert not [item for item in sentences if len(re.findall(r"\w[\w'./%+-]*", item)) > 25]


def test_sources_use_plain_words():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {words}"
        for path in SOURCES
        for start, text in prose(path)
        for line, words in avoided(text, start)
    ]
    assert not found, "\n" + "\n".join(found)


def test_decisions_are_short_records():
    records = re.split(r"^#{2,3} ", (ROOT / "docs" / "decisions.md").read_text(), flags=re.MULTILINE)[1:]
    records = [record for record in records if "**" in record]
    assert len(records) > 30
    for record in records:
        title, _, body = record.partition("\n")
        assert len(body.split()) <= 200, title
        assert all(f"**{part}.**" in body for part in ("Context", "Decision", "Consequences")), title
