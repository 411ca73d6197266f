"""The score of a text for a query: BM25, neighbouring messages, age. Pure functions.

Every parameter is from the literature or was chosen in advance; none is fitted to the questions of `make recall`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

K1, B = 0.9, 0.4
"""BM25's saturation of repeated words and its penalty for long texts: the values of Anserini, which work well for many
kinds of texts (Trotman, Puurula, Burgess: "Improvements to BM25 and Language Models Examined", ADCS 2014)."""
FADING = 0.5
"""The share of its score that a message adds to the next message, at each step."""


def idf(holders: int, texts: int) -> float:
    """Return the inverse document frequency of a term in `holders` of `texts` (Robertson and Zaragoza 2009, as in Lucene)."""
    texts = max(texts, holders)
    return math.log(1 + (texts - holders + 0.5) / (holders + 0.5))


def bm25(counts: Mapping[str, int], length: int, weights: Mapping[str, float], average: float) -> float:
    """Return the score of a text: `counts` of the query's terms in it, of all its terms, `weights` their idf, `average` of lengths."""
    base = K1 * (1 - B + B * length / max(average, 1.0))
    return sum(weights[term] * count * (K1 + 1) / (count + base) for term, count in counts.items() if term in weights)


def ranked(scores: Mapping[int, float]) -> list[int]:
    """Return the ids by descending score; equal scores by descending id."""
    return sorted(scores, key=lambda item: (-scores[item], -item))


def fuse(words: Mapping[int, float], meaning: Mapping[int, float]) -> dict[int, float]:
    """Return the sum of the score by words and the cosine of each text. The best score by words counts as 1, a missing score as 0.

    A convex combination with equal weights. Unlike a fusion of ranks, it keeps the distance between scores: Bruch, Gai, Ingber: "An
    Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 42 (2023).
    """
    best = max(words.values(), default=1.0)
    fused = dict(meaning)
    for item, score in words.items():
        fused[item] = fused.get(item, 0.0) + score / best
    return fused


def recency(age: float, half_life: float | None) -> float:
    """Return the factor for a score at an age, both in seconds: 1/2 after each half-life; 1 without a half-life."""
    return 1.0 if half_life is None else 0.5 ** (max(age, 0.0) / half_life)
