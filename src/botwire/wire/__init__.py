"""The HTTP interface as values: paths, request and response bodies, problems and events."""

from .paths import name_path, namespace_path, query
from .problems import PROBLEM_MEDIA_TYPE, decode_problem, encode_problem
from .requests import decode_append, decode_put, decode_search, decode_where, decode_write, encode_search, encode_write
from .responses import (
    Answer,
    decode_answer,
    decode_entry,
    decode_results,
    decode_usage,
    encode,
    encode_entry,
    encode_record,
    encode_usage,
)
from .values import MEDIA_TYPE

__all__ = [
    "MEDIA_TYPE",
    "PROBLEM_MEDIA_TYPE",
    "Answer",
    "decode_answer",
    "decode_append",
    "decode_entry",
    "decode_problem",
    "decode_put",
    "decode_results",
    "decode_search",
    "decode_usage",
    "decode_where",
    "decode_write",
    "encode",
    "encode_entry",
    "encode_problem",
    "encode_record",
    "encode_search",
    "encode_usage",
    "encode_write",
    "name_path",
    "namespace_path",
    "query",
]
