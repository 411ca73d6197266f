"""Answers to requests that a server refuses before its app gets them, as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from starlette.responses import Response

from .. import wire
from ..errors import BotWireError, InvalidArgument


class BadRequest(InvalidArgument):
    """The request is not HTTP as RFC 9112 defines it; nothing was done."""

    status = 400


class UrlTooLong(InvalidArgument):
    """The path and query are longer than any legal request needs; nothing was done."""

    code = "too_large"
    status = 414


class HeaderTooLarge(InvalidArgument):
    """A request has more bytes outside of its body than any legal one needs; nothing was done."""

    code = "too_large"
    status = 431


def refusal(error: BotWireError, **fields: str) -> Response:
    """Return the answer for an error. The server closes the connection after it."""
    headers = {"Connection": "close", **fields}
    return Response(wire.encode_problem(error), error.status, headers=headers, media_type=wire.PROBLEM_MEDIA_TYPE)


def encoded(answer: Response, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return an answer with some more header fields as bytes, for a request that is never finished."""
    head = b"".join(b"%b: %b\r\n" % field for field in (*fields, *answer.raw_headers))
    status = f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}\r\n".encode()
    return status + head + b"\r\n" + bytes(answer.body)
