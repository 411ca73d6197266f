"""Errors as problem documents (RFC 9457), and the errors that only HTTP has."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from .. import wire
from ..errors import BotWireError, InvalidArgument, QuotaExceeded, Unavailable
from .access.rules import Forbidden, Unauthorized

log = logging.getLogger("botwire.server")


class TooLarge(InvalidArgument):
    """The request is larger than any legal one; nothing was written."""

    code = "too_large"
    status = 413


class UrlTooLong(TooLarge):
    """The path and query are longer than any legal request needs; nothing was done."""

    status = 414


class HeaderTooLarge(TooLarge):
    """The header has more fields, or more bytes, than any legal request needs; nothing was done."""

    status = 431


class UnsupportedMediaType(InvalidArgument):
    """A body needs the media type of JSON; nothing was written."""

    code = "unsupported_media_type"
    status = 415


def failure() -> BotWireError:
    """Return the error for a bug in the server. The log has the details."""
    return BotWireError("the server failed to answer this request; its log says why")


def refusal(error: BotWireError) -> Response:
    """Return an error as a problem document, and log it if the operator should know about it."""
    if error.status >= 500 and not isinstance(error, Unavailable):
        log.error("request failed", extra={"code": error.code, "reason": error.message})
    return problem(error)


def problem(error: BotWireError) -> Response:
    """Return an error as a problem document with its header fields."""
    headers: dict[str, str] = {}
    if isinstance(error, QuotaExceeded):
        wait = str(error.details.get("retry_after", 60))
        # https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
        headers["RateLimit-Policy"] = f'"writes";q={error.details.get("limit", 0)};w=86400'
        headers["RateLimit"] = f'"writes";r=0;t={wait}'
        headers["Retry-After"] = wait
    elif isinstance(error, Unauthorized | Forbidden):
        headers["WWW-Authenticate"] = error.challenge
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = "1"
    return _problem(wire.encode_problem(error), error.status, headers)


def _problem(body: bytes, status: int, headers: dict[str, Any]) -> Response:
    return Response(body, status, headers=headers, media_type=wire.PROBLEM_MEDIA_TYPE)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""

    @app.exception_handler(BotWireError)
    async def refused(_: Request, error: BotWireError) -> Response:
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        where = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
        return problem(InvalidArgument(where))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
        headers = dict(error.headers or {})
        if "Allow" in headers:  # Starlette names the methods of the first route with this path only
            headers["Allow"] = ", ".join(_methods(request.app, request.scope))
        return _problem(wire.encode(document), error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client has disconnected and does not receive it

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return problem(failure())  # Starlette logs the traceback


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods that the routes with this path accept."""
    found = [route for route in app.routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE]
    return sorted({method for route in found for method in route.methods or ()})
