"""Text → terms, which search compares. Pure functions, the same for stored texts and for queries.

A term is a word in lower case without diacritics; for ASCII words it is the stem. In scripts without spaces between words (Chinese,
Japanese, Thai, …), each character and each pair of neighbours is a term, as in Lucene's CJK analyzer
(https://lucene.apache.org/core/9_0_0/analysis/common/org/apache/lucene/analysis/cjk/).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain, islice, pairwise
from typing import Any

from ..values import Stored, decode

MAX_WORDS = 10_000
"""Words of one text that are indexed; later ones are stored but not found."""
MAX_CHARS = 262_144
"""Characters of one text that are searched for these words: 26 for each, and English needs six. So a text of 16 MB takes no longer
than its beginning."""
PIECE_CHARS = 1_024
"""Characters that are folded at once. Normalization takes quadratic time for a row of combining marks: 1 ms for 1,024, and minutes
for a million (measured)."""
MAX_WORD_CHARS = 40
"""Longer strings are not words: hashes, Base64."""
SNIPPET_CHARS = 240
SNIPPET_FROM = 20_000
"""Characters of a text from which its snippet is taken."""
CACHED_WORDS = 65_536
CODE_CHARS = 64
"""From this length on, a string of one ASCII word is not text."""

_SPACELESS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # Japanese syllables
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"  # Chinese characters
    "\uac00-\ud7a3"  # Korean syllables, because particles are attached to words
)
_MARKS = "\u0610-\u061a\u0900-\u0963\u0966-\u0dff"  # signs of Arabic and Indian scripts that Python's \w excludes
_EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"
_LETTER = rf"(?:(?![{_SPACELESS}])[^\W_]|[{_MARKS}])"
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
_ANY_WORD = re.compile(rf"{_LETTER}+(?:'{_LETTER}+)*|[{_SPACELESS}]+|[{_EMOJI}]")
_PIECE = re.compile(rf".{{1,{PIECE_CHARS}}}(?=[\s。、，！？]|\Z)|.{{1,{PIECE_CHARS}}}", re.DOTALL)
"""Ends between words where it can."""
_LAST_WORD = re.compile(r"\s\S*\Z")
_SPACELESS_WORD = re.compile(f"[{_SPACELESS}]")
_DIACRITIC = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652]")
_LABELS = frozenset({"role", "type"})
"""Names in a message whose values are its kind, not text."""

STOP_WORDS = frozenset(
    """
    i me my myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
    it its itself they them their theirs themselves what which who whom this that these those am is are was were be
    been being have has had having do does did doing would should could ought cannot can will shall may might must a
    an the and but if or because as until while of at by for with about against between into through during before
    after above below to from up down in out on off over under again further then once here there when where why how
    all any both each few more most other some such no nor not only own same so than too very let
    """.split()  # noqa: SIM905 - one string is easier to read
)
"""English stop words: https://snowballstem.org/algorithms/english/stop.txt."""


def words_of(text: str) -> Iterator[str]:
    """Return the words of the beginning of a text in lower case, without diacritics; text without spaces in pieces."""
    text = _beginning(text)
    if text.isascii():
        yield from map(_bare, _ASCII_WORD.findall(text.lower()))
        return
    for piece in _PIECE.finditer(text):
        for word in _ANY_WORD.findall(fold(piece[0])):
            if _SPACELESS_WORD.match(word):
                yield from word
                yield from map("".join, pairwise(word))
            else:
                yield _bare(word)


def _beginning(text: str) -> str:
    """Return the first `MAX_CHARS` characters of a text, without a word that the cut would shorten."""
    if len(text) <= MAX_CHARS:
        return text
    cut = _LAST_WORD.search(text, MAX_CHARS - 2 * MAX_WORD_CHARS, MAX_CHARS)
    return text[: cut.start() + 1 if cut else MAX_CHARS]


def fold(text: str) -> str:
    """Return a text in lower case, without diacritics and typographic variants."""
    text = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    return unicodedata.normalize("NFC", _DIACRITIC.sub("", text))


def terms_of(text: str) -> list[str]:
    """Return the terms of the first 10,000 words of a text, in order, with repetitions."""
    words = _ASCII_WORD.findall(_beginning(text).lower()) if text.isascii() else words_of(text)
    return list(filter(None, map(_terms.__getitem__, islice(words, MAX_WORDS))))


def question_of(text: str) -> list[str]:
    """Return the terms of a query without stop words, each once. A query of stop words alone keeps them."""
    words = list(dict.fromkeys(words_of(text)))
    selective = [word for word in words if word not in STOP_WORDS] or words
    return list(dict.fromkeys(filter(None, map(_terms.__getitem__, selective))))


def text_of_message(stored: str) -> str:
    """Return the text of a message: its strings, except those that name its kind. Little more than `MAX_CHARS` of it."""
    return _joined(_strings(decode(stored), names=False))


def text_of_entry(key: str, stored: Stored) -> str:
    """Return the text of an entry: its key, and the strings and names in its value, as for a message. Bytes are not text."""
    if isinstance(stored, bytes):
        return ""
    strings = _strings(decode(stored), names=True)
    first = next(strings, None)
    return "" if first is None else _joined(chain([key, first], strings))


def _joined(strings: Iterable[str]) -> str:
    """Return strings as lines. They end one character after `MAX_CHARS`, which shows that there were more."""
    lines, room = [], MAX_CHARS + 1
    for string in strings:
        lines.append(string[:room])
        room -= len(string) + 1
        if room <= 0:
            break
    return "\n".join(lines)


def snippet_of(text: str, weights: Mapping[str, float]) -> str:
    """Return the piece of a text that matches the weighted terms of a query best, on one line, with … at its cut ends."""
    words = text[:SNIPPET_FROM].split()
    if not words:
        return ""
    gains = [sum(weights.get(term, 0.0) for term in set(terms_of(word))) if weights else 0.0 for word in words]
    best, begin, total, length = (-1.0, 0, 0), 0, 0.0, 0
    # The window from `begin` to `end` grows by a word at its end, and shrinks at its beginning to `SNIPPET_CHARS`. The first of the best windows
    # wins, but one from the beginning of the text grows to its full length.
    for end, word in enumerate(words):
        total += gains[end]
        length += len(word) + 1
        while length > SNIPPET_CHARS and begin < end:
            total -= gains[begin]
            length -= len(words[begin]) + 1
            begin += 1
        if total > best[0] + 1e-9 or (begin == 0 and total >= best[0] - 1e-9):
            best = total, begin, end + 1
    _, begin, end = best
    piece = " ".join(words[begin:end])[:SNIPPET_CHARS]
    cut = end < len(words) or len(text) > SNIPPET_FROM or len(piece) < len(" ".join(words[begin:end]))
    return ("… " if begin else "") + piece + (" …" if cut else "")


def _strings(value: Any, *, names: bool) -> Iterator[str]:
    if isinstance(value, str):
        if not _is_code(value):
            yield value
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, _HOLDERS):  # a call for each number in a list of millions takes seconds
                yield from _strings(item, names=names)
    elif isinstance(value, dict):
        for name, item in value.items():
            if names:
                yield name
            if isinstance(item, _HOLDERS) and (names or name not in _LABELS or not isinstance(item, str)):
                yield from _strings(item, names=names)


def _is_code(text: str) -> bool:
    """Whether a string is an image, a hash or encrypted data: one long ASCII word that is not a URL."""
    if len(text) < CODE_CHARS or not text.isascii():
        return False
    return text.find("://", 0, MAX_CHARS) < 0 and not _SPACE.search(text, 0, MAX_CHARS)


_HOLDERS = (str, list, dict)
_SPACE = re.compile(r"\s")
_CONTRACTIONS = frozenset({"s", "m", "d", "t", "re", "ve", "ll"})


def _bare(word: str) -> str:
    """Return a word without the part at its apostrophe: Ada's → ada, don't → do, l'amour → amour, o'clock → oclock."""
    if "'" not in word:
        return word
    first, *middle, last = word.split("'")
    if last in _CONTRACTIONS:
        return "".join([first.removesuffix("n") if last == "t" else first, *middle])
    return "".join([*middle, last] if len(first) <= 2 and first not in {"o", "mc"} else [first, *middle, last])


class _Terms(dict[str, str]):
    """A cache from words to terms; ``""`` for none. A lookup takes half the time of `lru_cache`."""

    def __missing__(self, word: str) -> str:
        bare = _bare(word)
        if len(bare) > MAX_WORD_CHARS:
            return ""  # not cached: it may be as long as a text
        if len(self) >= CACHED_WORDS:
            self.clear()
        term = self[word] = str(_stemmer().stemWord(bare)) if bare.isascii() and bare.isalpha() else bare
        return term


_terms = _Terms()


@cache
def _stemmer() -> Any:
    # Porter's second stemmer for English: https://snowballstem.org/algorithms/english/stemmer.html. In C: the Python
    # one loads thirty languages, 150 ms in the first transaction, and is not thread-safe.
    import Stemmer

    return Stemmer.Stemmer("english")
