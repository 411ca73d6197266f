"""Semantic search for clients that have no embedder, such as the console: the server embeds the question."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

import msgspec

from ..errors import InvalidArgument
from ..queries import Search
from ..search.embedding import Embedding

By: TypeAlias = Literal["words", "meaning", "both"]


class QuestionEmbedder:
    """Adds vectors to questions, one at a time on its own thread, so that the event loop is not blocked.

    Args:
        embedding: the model; None: such questions are refused.
    """

    def __init__(self, embedding: Embedding | None) -> None:
        self._embedding = embedding
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="botwire-embedder")

    @property
    def model(self) -> str | None:
        """The name of the model; None: there is none."""
        return None if self._embedding is None else self._embedding.model

    async def with_vector(self, query: Search, by: By) -> Search:
        """Return a search with what it needs to be answered by words, by meaning or by both.

        Raises:
            InvalidArgument: it needs a vector, and this server has no embedder.
        """
        if by == "words" or not query.text.strip():
            return query
        if self._embedding is None:
            raise InvalidArgument(
                "this server has no embedder: search by words, or POST the vector of the question; an operator starts "
                "one with botwire serve --embedder minilm"
            )
        vector = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedding.query, query.text)
        return msgspec.structs.replace(query, vector=vector, model=self._embedding.model, words=by == "both")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
