"""How well a text answers a question: BM25, what stands beside it, how old it is. Pure.

Every number here is from the literature or a plain choice made beforehand; none was fitted to the questions of `make recall`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

K1, B = 0.9, 0.4
"""How soon repeating a word stops helping, and how much long texts are held back: the values of Anserini, which proved good
for texts of many kinds (Trotman, Puurula, Burgess: "Improvements to BM25 and Language Models Examined", ADCS 2014)."""
FADING = 0.5
"""What a message passes on of its score with each step to the next: half."""


def idf(holders: int, texts: int) -> float:
    """Return what a term says that so many of so many texts hold (Robertson and Zaragoza 2009, as Lucene has it)."""
    texts = max(texts, holders)
    return math.log(1 + (texts - holders + 0.5) / (holders + 0.5))


def bm25(terms: Sequence[str], weights: Mapping[str, float], average: float) -> float:
    """Return the score of a text.

    Args:
        terms: those of the text.
        weights: the terms of the question and their idf.
        average: how many terms a text has on the average.
    """
    counts = Counter(term for term in terms if term in weights)
    base = K1 * (1 - B + B * len(terms) / max(average, 1.0))
    return sum(weights[term] * count * (K1 + 1) / (count + base) for term, count in counts.items())


def ranked(scores: Mapping[int, float]) -> list[int]:
    """Return what has scores, the best first; of those with the same, the one with the greatest id."""
    return sorted(scores, key=lambda item: (-scores[item], -item))


def fuse(words: Mapping[int, float], meaning: Mapping[int, float]) -> dict[int, float]:
    """Return the sums of scores by words, of which the best is made 1, and by meaning; what has none has 0.

    A convex combination with equal weights. Unlike a fusion of ranks it knows how much better one text is than the next:
    Bruch, Gai, Ingber: "An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 42 (2023).

    Args:
        words: scores by words, from 0.
        meaning: cosines.
    """
    best = max(words.values(), default=1.0)
    fused = dict(meaning)
    for item, score in words.items():
        fused[item] = fused.get(item, 0.0) + score / best
    return fused


def recency(age: float, half_life: float | None) -> float:
    """Return what a score is multiplied with at an age, both in seconds: 1/2 after each half-life; 1 without one."""
    return 1.0 if half_life is None else 0.5 ** (max(age, 0.0) / half_life)
