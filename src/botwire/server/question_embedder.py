"""Questions by meaning, for those who have no embedder of their own, such as the console: by a local model of the server's."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

import msgspec

from ..errors import InvalidArgument
from ..queries import Search
from ..search.embedding import Embedding

By: TypeAlias = Literal["words", "meaning", "both"]


class Meaning:
    """Gives questions their vectors, one after the other in a thread of its own, so that the event loop goes on meanwhile.

    Args:
        embedding: with what; None: such questions are refused.
    """

    def __init__(self, embedding: Embedding | None) -> None:
        self._embedding = embedding
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="botwire-embedder")

    @property
    def model(self) -> str | None:
        """What its vectors are known by; None: there are none."""
        return None if self._embedding is None else self._embedding.model

    async def given(self, asked: Search, by: By) -> Search:
        """Return a question as it is to be asked.

        Raises:
            InvalidArgument: it is to be asked by meaning, and this server has no embedder.
        """
        if by == "words" or not asked.text.strip():
            return asked
        if self._embedding is None:
            raise InvalidArgument(
                "this server has no embedder: ask by words, or POST the question's vector; its operator can say "
                "botwire serve --embedder minilm"
            )
        vector = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedding.query, asked.text)
        return msgspec.structs.replace(asked, vector=vector, model=self._embedding.model, words=by == "both")

    def close(self) -> None:
        """Let its thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
