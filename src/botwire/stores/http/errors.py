"""Responses that report a failure → errors."""

from __future__ import annotations

from ... import wire
from ...errors import AuthError, BotWireError, InvalidValue, StoreError, Unavailable
from .messages import Response


def error_of(response: Response) -> BotWireError:
    """Return the error that the server raised, or the nearest one."""
    error = wire.decode_problem(response.status, response.body)
    if error is not None:
        return error
    match response.status:
        case 401 | 403:
            return AuthError(f"the server answered {response.status}: is the token right?")
        case 407:
            return Unavailable("the proxy asks for a login: name it as http://user:password@host:port in HTTP_PROXY")
        case 413 | 414 | 431:
            return InvalidValue(f"the server answered {response.status}: the request is too large for it")
        case 502 | 503 | 504:
            return Unavailable(f"the server answered {response.status}; try again later")
    return StoreError(
        f"the server answered {response.status} without a reason that botwire knows: is it a botwire server?"
    )
