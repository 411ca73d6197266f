"""Routes for administrators: tokens, plans, the list of namespaces and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from .. import wire
from ..errors import InvalidArgument
from ..limits import MAX_PAGE, check_name, check_namespace
from ..plans import Plans
from ..queries import ListNamespaces
from .access.gate import Gate
from .access.rules import NOT_ALLOWED, Caller, Forbidden, caller_of
from .access.tokens import Maker, is_operator, shown
from .routes import JsonResponse, header, page_size, read_body

B = TypeVar("B")
Page = Annotated[int | None, Query(ge=0, le=MAX_PAGE)]


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /tokens``."""

    namespaces: list[str]
    can: list[str]
    name: str = ""
    expires_in: float | None = None


class ChosenPlan(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``PUT /plans/{namespace}``."""

    plan: str | None


_NEW_TOKEN = msgspec.json.Decoder(NewToken)
_CHOSEN_PLAN = msgspec.json.Decoder(ChosenPlan)


async def create_token(request: Request) -> Response:
    """Create a token for namespaces that the caller administers. Its secret is in the answer and stored nowhere."""
    asked = await _body(request, _NEW_TOKEN)
    token, secret = await _gate(request).tokens.create(
        namespaces=asked.namespaces, can=asked.can, name=asked.name, expires_in=asked.expires_in, maker=_maker(request)
    )
    return _json({"secret": secret, **shown(token)})


async def list_tokens(
    request: Request,
    namespace: Annotated[
        str | None, Query(description="only tokens for this; required for a token you chose yourself")
    ] = None,
) -> Response:
    """List the tokens and claims whose namespaces the caller administers, without their secrets."""
    maker = _maker(request)
    if namespace is not None or not maker.minted:
        await maker.check([check_namespace(namespace)] if namespace else [""])
    elif not maker.is_admin:
        raise Forbidden(NOT_ALLOWED, "admin")
    tokens = await _gate(request).tokens.listed(maker, namespace)
    return _json({"tokens": [shown(token) for token in tokens]})


async def revoke_token(
    request: Request,
    token: str,
    namespace: Annotated[str | None, Query(description="the namespace of your own claim, to revoke it")] = None,
) -> Response:
    """Revoke a token and all tokens that it created. From the answer on, none of them is accepted."""
    if namespace is not None:
        check_namespace(namespace)
    gone = await _gate(request).tokens.revoke(check_name(token, "token id"), _maker(request), namespace)
    return _json({"revoked": [item.id for item in gone]})


async def whoami(request: Request) -> Response:
    """Return what the caller's token may do, and the model that the server embeds questions with.

    A token that the caller chose is not described: only its claims are stored.
    """
    caller: Caller = request.scope["store"]
    token = None if caller.token is None else shown(caller.token)
    facts = {"mode": _gate(request).mode, "operator": is_operator(caller.token), "token": token}
    return _json({**facts, "embedder": request.app.state.embedder.model})


async def list_plans(request: Request) -> Response:
    """List the plans and the default one. For operators."""
    plans: Plans = request.scope["store"].plans
    named = {name: msgspec.structs.asdict(plan) for name, plan in plans.named.items()}
    return _json({"default": plans.default, "plans": named})


async def set_plan(request: Request, namespace: str) -> Response:
    """Set the plan of a namespace; null is the default plan. For operators."""
    plan = (await _body(request, _CHOSEN_PLAN)).plan
    await request.scope["store"].set_plan(check_namespace(namespace), plan)
    operator = caller_of([header(request, b"authorization").encode("latin-1")]).minted_id
    await _gate(request).tokens.record("plan.set", operator, namespace=namespace, plan=plan)
    return _json({"namespace": namespace, "plan": plan})


async def list_namespaces(request: Request, after: str = "", limit: Page = None) -> Response:
    """List the namespaces. For operators."""
    size = page_size(limit)
    names = await request.scope["store"].read("", ListNamespaces(after, size))
    return JsonResponse(wire.encode_namespaces(names, full=len(names) == size))


async def audit(
    request: Request,
    after: Annotated[int, Query(ge=0, lt=2**63, description="only records after this seq")] = 0,
    limit: Page = None,
) -> Response:
    """Return the audit log. For operators."""
    size = page_size(limit)
    messages = await _gate(request).tokens.audit(after=after, limit=size)
    return JsonResponse(wire.encode_messages(messages, full=len(messages) == size))


def add_administration(app: FastAPI) -> None:
    """Add these routes to the app, not to a router inside it: the table of access rules has no rows for routers."""
    for method, path, endpoint in (
        ("POST", "/tokens", create_token),
        ("GET", "/tokens", list_tokens),
        ("DELETE", "/tokens/{token}", revoke_token),
        ("GET", "/whoami", whoami),
        ("GET", "/plans", list_plans),
        ("PUT", "/plans/{namespace}", set_plan),
        ("GET", "/namespaces", list_namespaces),
        ("GET", "/audit", audit),
    ):
        app.add_api_route(path, endpoint, methods=[method], tags=["operations"])


def _gate(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


def _maker(request: Request) -> Maker:
    maker: Maker = request.scope["store"]
    return maker


async def _body(request: Request, decoder: msgspec.json.Decoder[B]) -> B:
    try:
        return decoder.decode(await read_body(request))
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"the body of this request is wrong: {error}") from error


def _json(document: dict[str, Any]) -> Response:
    return JsonResponse(wire.encode_document(document))
