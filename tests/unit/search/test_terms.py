"""Text → terms."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botwire.search import terms
from botwire.search.ranking import bm25, fuse, idf, ranked, recency
from botwire.search.terms import (
    MAX_WORDS,
    STOP_WORDS,
    _terms,
    question_of,
    snippet_of,
    terms_of,
    text_of_entry,
    text_of_message,
    words_of,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World! 42x", ["hello", "world", "42x"]),
        ("Ada's don't we'll o'clock l'amour rock'n'roll", ["ada", "do", "we", "oclock", "amour", "rocknroll"]),
        ("ADA’S Café naïve Straße", ["ada", "cafe", "naive", "strasse"]),
        ("snake_case a-b", ["snake", "case", "a", "b"]),
        ("猫が好き", ["猫", "が", "好", "き", "猫が", "が好", "好き"]),
        ("iPhone手机", ["iphone", "手", "机", "手机"]),
        ("한국", ["한", "국", "한국"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("hi 👋🏽!", ["hi", "👋", "🏽"]),
        ("ｆｕｌｌ ﬁne", ["full", "fine"]),
        ("Ёлка йод", ["елка", "иод"]),
        ('"*^(){}:', []),
    ],
)
def test_words(text, words):
    assert list(words_of(text)) == words


def test_terms_are_stems_and_repeat():
    assert terms_of("Bicycles, bicycling, bicycle") == ["bicycl", "bicycl", "bicycl"]
    assert terms_of("x" * 41 + " short") == ["short"]
    assert len(terms_of("a b c " * MAX_WORDS)) == MAX_WORDS


def test_only_the_beginning_of_a_long_text_is_prepared():
    """Folding, splitting and stemming all of 16 MB takes a second or more, in which nobody else can write."""
    beginning = "Café and tea. " * 2_000
    fold, folded = terms.fold, []
    terms.fold = lambda text: folded.append(len(text)) or fold(text)
    try:
        assert terms_of(beginning + "ﷺ" * 5_000_000)[:6_000] == terms_of(beginning)
        assert terms_of("ﷺ" * 5_000_000) == terms_of("ﷺ" * MAX_WORDS)
        assert terms_of("- ́̀" * 1_000_000 + "late") == []
    finally:
        terms.fold = fold
    assert sum(folded) < 3 * terms.MAX_CHARS
    assert max(folded) <= terms.PIECE_CHARS
    assert terms_of("-" * terms.MAX_CHARS + " late") == []
    assert terms_of("so" + " " * (terms.MAX_CHARS - 4) + "cut in two") == ["so"]
    assert len(terms_of("title " + "猫" * terms.MAX_CHARS)) == MAX_WORDS


def test_a_row_of_marks_takes_no_time():
    """Normalization sorts marks in quadratic time: a row of 20,000 takes as long as 400 rows of 1,000."""
    marks = "\u1dc0\u1dc2"
    times = {}
    for length, rows in ((500, 40), (20_000, 1)):
        begun = time.process_time()
        assert terms_of(("a" + marks * length + " ") * rows)
        times[length] = time.process_time() - begun
    assert times[20_000] < 5 * times[500]


def test_pieces_end_between_words():
    """Whatever its length, a text in pieces has the terms of the whole."""
    for text in ("Größe, l’amour d’été ", "ein Wort\n", "私は猫が好きです。", "Ada’s naïve 手机 "):
        long = text * 500
        assert len(long) > 3 * terms.PIECE_CHARS
        assert terms_of(long) == (terms_of(text) * 500)[:MAX_WORDS]


def test_text_in_a_large_value_is_found_early():
    numbers = "1," * 1_000_000
    assert text_of_entry("k", f'[{numbers}"end"]') == "k\nend"
    lines = text_of_message(f'["{"a " * 1_000_000}","later"]')
    assert len(lines) == terms.MAX_CHARS + 1


def test_common_words_of_a_question_are_ignored():
    assert question_of("When did Caroline's dogs, and other dogs, run?") == ["carolin", "dog", "run"]
    assert question_of("Who are you?") == ["who", "are", "you"]
    assert all(list(words_of(word)) == [word] for word in STOP_WORDS)


def test_text_of_values():
    assert text_of_message('{"type":"human","data":{"content":[{"type":"text","text":"Hi"}],"n":1}}') == "Hi"
    assert text_of_message('{"role":"user","name":"Ada","content":"Hi"}') == "Ada\nHi"
    assert text_of_message('{"type":["kept"]}') == "kept"
    assert text_of_entry("user/1", '{"colour":["blue",{"n":null}]}') == "user/1\ncolour\nblue\nn"
    assert text_of_entry("user/1", "17") == text_of_entry("user/1", b"bytes") == ""
    sealed = "a" * 70
    assert text_of_message(f'"{sealed}"') == ""
    assert text_of_message(f'"https://{sealed}"') == f"https://{sealed}"


def test_snippets():
    weights = dict.fromkeys(question_of("blue bicycle"), 1.0)
    assert snippet_of("a  blue\nbicycle", weights) == "a blue bicycle"
    assert snippet_of("", weights) == snippet_of(" ", {}) == ""
    long = "word " * 200 + "my blue bicycle " + "word " * 200
    piece = snippet_of(long, weights)
    assert "blue bicycle" in piece
    assert piece.startswith("… ")
    assert piece.endswith(" …")
    assert snippet_of("x" * 1000, weights) == "x" * 240 + " …"
    assert snippet_of("word " * 200, {}).startswith("word")


@given(st.text(), st.text())
def test_any_text(text, question):
    terms = terms_of(text)
    assert all(term and " " not in term and '"' not in term for term in terms)
    assert len(snippet_of(text, dict.fromkeys(question_of(question), 1.0))) <= 245


@given(st.text())
def test_what_was_said_can_be_asked(text):
    assert set(question_of(text)) <= set(terms_of(text))
    assert bool(question_of(text)) == bool(terms_of(text))


def test_ranking():
    assert idf(1, 1000) > idf(100, 1000) > idf(1000, 1000) > 0
    assert idf(5, 1) > 0
    weights = {"a": 1.0, "b": 2.0}
    assert bm25({"a": 1, "b": 1}, 2, weights, 2) == pytest.approx(3.0)
    more, once, among = bm25({"a": 2}, 2, weights, 2), bm25({"a": 1}, 2, weights, 2), bm25({"a": 1}, 4, weights, 2)
    assert more > once > among
    assert bm25({}, 0, weights, 0) == bm25({"c": 1}, 1, weights, 0) == 0
    assert ranked({1: 3.0, 2: 4.0, 3: 3.0}) == [2, 3, 1]
    assert fuse({1: 4.0, 2: 1.0}, {2: 0.5, 3: 0.9}) == {1: 1, 2: 0.75, 3: 0.9}
    assert fuse({}, {1: 0.5}) == {1: 0.5}
    assert fuse({}, {}) == {}
    assert recency(10, None) == recency(-5, 10) == 1
    assert recency(20, 10) == 0.25


def test_threads_may_stem_at_once():
    """In threads that write, search or serve, on words that none of them has met before."""
    words = [f"{stem}{ending}" for stem in _stems(400) for ending in ("ation", "ingly", "ness", "fully", "ities")]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(terms_of, [" ".join(words[k::4]) for k in range(4)]))
    finally:
        sys.setswitchinterval(interval)
    _terms.clear()
    assert found == [terms_of(" ".join(words[k::4])) for k in range(4)]


def test_words_are_kept_and_what_is_none_is_not():
    """The next time a word is met it need not be stemmed again; a long run of letters would only take room."""
    _terms.clear()
    code = "x" * 1_000
    for text in (f"Running {code}", f"Läuft running {code}"):
        assert terms_of(text)[-1] == "run"
    assert question_of(f"Läuft {code}") == ["lauft"]
    assert sorted(_terms) == ["lauft", "running"]


def test_the_first_word_that_is_stemmed_takes_no_time():
    """It may be in a transaction, while others wait."""
    code = "import time; from botwire.search.terms import terms_of; t = time.perf_counter(); terms_of('running')"
    code += "; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(5)
    ]
    assert min(times) < 0.02


def _stems(count: int) -> list[str]:
    rng = random.Random(1)
    return [
        "".join(rng.choice("bcdfglmnprst") + rng.choice("aeiou") for _ in range(3)) + rng.choice("lnrst")
        for _ in range(count)
    ]
