from __future__ import annotations

import pytest

from botwire.conversations.tokens import estimate_tokens

PNG = "iVBORw0KGgo" * 1000


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        ({"role": "user", "content": ""}, 4),
        ({"role": "user", "content": "abcd"}, 5),
        ({"role": "user", "content": "abcde"}, 6),
        ({"role": "user", "content": "é" * 4}, 6),
        ("abcd", 5),
        (None, 4),
        (12345, 6),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "x" * 40, "function": {"arguments": "{}", "name": "f"}}],
            },
            5,
        ),
        ({"role": "user", "content": [{"type": "text", "text": "abcd"}, {"type": "text", "text": "abcd"}]}, 6),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Rome"}}]},
            5,
        ),
        ({"type": "function_call_output", "call_id": "c" * 50, "output": "abcd"}, 5),
    ],
)
def test_it_is_four_and_a_quarter_of_the_bytes(data, tokens):
    assert estimate_tokens(data) == tokens


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "input_file", "file_data": f"data:application/pdf;base64,{PNG}"},
        {"kind": "binary", "data": PNG, "media_type": "image/png"},
        {"data": PNG, "mime_type": "image/png"},
        {"block_type": "image", "image": PNG},
        {"type": "data", "uri": f"data:image/png;base64,{PNG}"},
    ],
)
def test_images_and_files_count_a_fixed_number(part):
    assert estimate_tokens({"role": "user", "content": [part]}) == 1_604


def test_a_document_that_is_text_counts_its_text():
    block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abcd" * 1000}}
    assert 1_004 <= estimate_tokens({"role": "user", "content": [block]}) < 1_010


def test_a_lone_surrogate_is_counted():
    assert estimate_tokens({"role": "user", "content": "\ud800"}) == 5
