"""Text → the numbers of BERT's lower-case word pieces, for the model of `botwire.search.minilm`.

Like the tokenizer published with BERT (https://github.com/google-research/bert/blob/master/tokenization.py): words and
signs, then the longest pieces that the vocabulary has.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

MAX_WORD_CHARS = 100
"""Longer words count as unknown, as in BERT."""
_CONTROL = frozenset({"Cc", "Cf", "Co", "Cs"})
_CHINESE = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """The tokenizer.

    Args:
        vocabulary: the pieces, in the order of their numbers; pieces inside a word begin with ``##``.
    """

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
        start = 0
        for index, char in enumerate(word):
            if _is_sign(char):
                if start < index:
                    yield word[start:index]
                yield char
                start = index + 1
        if start < len(word):
            yield word[start:]


@lru_cache(maxsize=4096)
def _clean(char: str) -> str:
    """Return a character: empty for control characters, with spaces around Chinese ones."""
    code = ord(char)
    if char in "\t\n\r" or unicodedata.category(char) == "Zs":
        return " "
    if code == 0xFFFD or unicodedata.category(char) in _CONTROL:
        return ""
    return f" {char} " if any(low <= code <= high for low, high in _CHINESE) else char


@lru_cache(maxsize=4096)
def _is_sign(char: str) -> bool:
    if char.isascii():
        return not char.isalnum() and not char.isspace()
    return unicodedata.category(char)[0] == "P"
