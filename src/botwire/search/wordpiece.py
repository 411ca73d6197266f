"""Text → the numbers of BERT's lower-case word pieces, for the model of `botwire.search.minilm`.

Like the tokenizer published with BERT (https://github.com/google-research/bert/blob/master/tokenization.py): words and
signs, then the longest pieces that the vocabulary has.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice

MAX_WORD_CHARS = 100
"""Longer words count as unknown, as in BERT."""
_CONTROL = frozenset({"Cc", "Cf", "Co", "Cs"})
_CHINESE = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f]"
)


class WordPiece:
    """The tokenizer. Its vocabulary has the pieces in the order of their numbers; pieces inside a word begin with ``##``."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown, self._first, self._last = (self._numbers[name] for name in ("[UNK]", "[CLS]", "[SEP]"))
        self._pieces = lru_cache(maxsize=65_536)(self._pieces_of)

    def __call__(self, text: str, most: int) -> list[int]:
        """Return the numbers of the pieces of a text, at most `most`, between the start and end markers."""
        pieces = (number for word in words_of(text) for number in self._pieces(word))
        return [self._first, *islice(pieces, most - 2), self._last]

    def _pieces_of(self, word: str) -> tuple[int, ...]:
        if len(word) > MAX_WORD_CHARS:
            return (self._unknown,)
        numbers: list[int] = []
        begin = 0
        while begin < len(word):
            mark = "##" if begin else ""
            for end in range(len(word), begin, -1):
                number = self._numbers.get(mark + word[begin:end])
                if number is not None:
                    numbers.append(number)
                    begin = end
                    break
            else:
                return (self._unknown,)
        return tuple(numbers)


def words_of(text: str) -> Iterator[str]:
    """Return the words of a text, and each sign and each Chinese character by itself."""
    clean = "".join(map(_clean, text))
    folded = (char for char in unicodedata.normalize("NFD", clean) if unicodedata.category(char) != "Mn")
    for word in "".join(folded).lower().split():
        for are_signs, chars in groupby(word, _is_sign):
            piece = "".join(chars)
            yield from piece if are_signs else [piece]


@lru_cache(maxsize=4096)
def _clean(char: str) -> str:
    """Return a character: empty for control characters, with spaces around Chinese ones."""
    if char in "\t\n\r" or unicodedata.category(char) == "Zs":
        return " "
    if char == "\ufffd" or unicodedata.category(char) in _CONTROL:
        return ""
    return f" {char} " if _CHINESE.match(char) else char


@lru_cache(maxsize=4096)
def _is_sign(char: str) -> bool:
    if char.isascii():
        return not char.isalnum() and not char.isspace()
    return unicodedata.category(char)[0] == "P"
