"""A small local model for the tests, without the 90 MB of real weights."""

from __future__ import annotations

import json

import numpy as np


def make_small_model(folder):
    """Write a model like MiniLM with random weights and a vocabulary of ten letters into a folder. Return the folder."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    size, wide = 8, 16
    shapes = {
        "embeddings.word_embeddings.weight": (len(pieces), size),
        "embeddings.position_embeddings.weight": (256, size),
        "embeddings.token_type_embeddings.weight": (2, size),
        "embeddings.LayerNorm.weight": (size,),
        "embeddings.LayerNorm.bias": (size,),
    }
    for layer in range(2):
        name = f"encoder.layer.{layer}."
        linear = {f"attention.self.{part}": (size, size) for part in ("query", "key", "value")}
        linear |= {"attention.output.dense": (size, size), "intermediate.dense": (wide, size)}
        linear |= {"output.dense": (size, wide), "attention.output.LayerNorm": (size,), "output.LayerNorm": (size,)}
        for part, shape in linear.items():
            shapes[f"{name}{part}.weight"] = shape
            shapes[f"{name}{part}.bias"] = shape[:1]
    random = np.random.default_rng(1)
    header, data = {}, b""
    for name, shape in shapes.items():
        numbers = random.normal(size=shape).astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    return folder
