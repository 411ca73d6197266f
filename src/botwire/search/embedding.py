"""Embedders: texts → vectors, in the form that stores keep."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..errors import InvalidArgument
from ..limits import MAX_DIMENSIONS, check_text

Embedder: TypeAlias = Callable[[list[str]], Any] | Any
"""A callable that takes a list of texts and returns a vector for each, or an object with LangChain's `embed_documents` and
`embed_query`."""

TEXT_CHARS = 8_000
"""Characters of a text that an embedder receives; most models read less."""


class Embedding:
    """An `Embedder` of either kind, with one interface. Raises `InvalidArgument` for another object.

    Without a `model`, its name is the embedder's ``model``, ``model_name`` or ``model_id``, or that of its class or function.
    """

    def __init__(self, embedder: Embedder, model: str | None = None) -> None:
        self._documents: Callable[[list[str]], Any] = getattr(embedder, "embed_documents", embedder)
        self._query: Callable[[str], Any] | None = getattr(embedder, "embed_query", None)
        if not callable(self._documents):
            raise InvalidArgument(
                "an embedder is a callable that takes a list of texts and returns a vector for each, or has embed_documents "
                f"and embed_query, not {type(embedder).__name__}"
            )
        self.model = _model_of(embedder) if model is None else model
        if not isinstance(self.model, str) or not 0 < len(check_text(self.model, "embedding_model").encode()) <= 512:
            raise InvalidArgument(f"embedding_model is a str of 1 to 512 bytes, not {self.model!r:.60}")

    def documents(self, texts: Sequence[str]) -> list[bytes]:
        """Return a vector for each text."""
        return vectors_of(self._documents([text[:TEXT_CHARS] for text in texts]), len(texts))

    def query(self, text: str) -> bytes:
        """Return the vector of a question."""
        if self._query is not None:
            return vectors_of([self._query(text[:TEXT_CHARS])], 1)[0]
        return self.documents([text])[0]


def local_embedder(name: str) -> Embedder:
    """Return the local model ``minilm``, or the one in a folder, or raise `InvalidArgument` with what to install."""
    try:
        from .minilm import MiniLM

        return MiniLM(None if name == "minilm" else name)
    except ImportError as error:
        raise InvalidArgument(str(error)) from None
    except (OSError, ValueError, KeyError) as error:
        reason = f"a local embedder is minilm, or the folder of such a model, not {name!r}: {error}"
        raise InvalidArgument(reason) from None


def vectors_of(made: Any, count: int) -> list[bytes]:
    """Return the result of an embedder as vectors of little-endian float32, or raise `InvalidArgument`."""
    try:
        vectors = [array("f", [float(number) for number in vector]) for vector in made]
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"the embedder did not return a list of vectors of numbers: {error}") from error
    lengths = {len(vector) for vector in vectors}
    if len(vectors) != count or len(lengths) > 1 or not 0 < max(lengths, default=1) <= MAX_DIMENSIONS:
        raise InvalidArgument(
            f"the embedder returned {len(vectors)} vectors of {sorted(lengths)[:3]} numbers for {count} texts: each text "
            f"needs one, all of one length, of at most {MAX_DIMENSIONS:,}"
        )
    for vector in vectors:
        if not all(map(math.isfinite, vector)):
            raise InvalidArgument("the embedder returned a number that is not finite")
        if sys.byteorder == "big":
            vector.byteswap()
    return [vector.tobytes() for vector in vectors]


def numbers_of(vector: bytes) -> str:
    """Return the numbers of a vector, comma-separated, with enough digits to identify each float32."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return ",".join(["%.9g"] * len(numbers)) % tuple(numbers)


def _model_of(embedder: Any) -> str:
    for name in ("model", "model_name", "model_id"):
        value = getattr(embedder, name, None)
        if isinstance(value, str) and value:
            return value
    named = embedder if hasattr(embedder, "__qualname__") else type(embedder)
    return f"{named.__module__}.{named.__qualname__}"
