"""Routes for administrators: tokens, plans, the list of namespaces and the audit log."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from fastapi import Query, Request
from starlette.responses import Response

from ..errors import InvalidArgument
from ..limits import MAX_PAGE, check_name, check_namespace
from ..operations import Append
from ..plans import Plan, Plans
from ..queries import ListNamespaces, weight
from ..search.embedding import Embedding
from ..wire.responses import Messages, Namespaces
from .access import tokens as access
from .access.rules import EVERYWHERE, Caller, Mode, Token, parse_credentials, rule_of
from .access.tokens import shown
from .budget import LARGE
from .routes import JsonResponse, TooLarge, header, list_page, page_size, read_body, respond
from .telemetry.metrics import ROUTE

B = TypeVar("B")
Page = Annotated[int | None, Query(ge=0, le=MAX_PAGE)]

TokenFacts = msgspec.defstruct(
    "TokenFacts",
    [(field.name, field.type) for field in msgspec.structs.fields(Token) if field.name not in {"hash", "root"}],
    namespace={"__doc__": "A token or a claim without its secret. Times are in microseconds."},
)
CreatedToken = msgspec.defstruct(
    "CreatedToken",
    [("secret", str)],
    bases=(TokenFacts,),
    kw_only=True,
    namespace={"__doc__": "A new token. Only this answer has its secret."},
)


class Tokens(msgspec.Struct):
    """Tokens and claims."""

    tokens: list[TokenFacts]  # type: ignore[valid-type]


class Revoked(msgspec.Struct):
    """The ids of the tokens that the request revoked."""

    revoked: list[str]


class WhoAmI(msgspec.Struct):
    """The caller's token and the settings of the server that concern the caller."""

    mode: Mode
    operator: bool
    token: TokenFacts | None  # type: ignore[valid-type]
    embedder: str | None


class PlanList(msgspec.Struct):
    """The plans of the server."""

    default: str | None
    plans: dict[str, Plan]


class NamespacePlan(msgspec.Struct):
    """The plan of a namespace; null: the default plan."""

    namespace: str
    plan: str | None


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /tokens``."""

    namespaces: list[str]
    can: list[str]
    name: str = ""
    expires_in: float | None = None


class ChosenPlan(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``PUT /plans/{namespace}``."""

    plan: str | None


async def create_token(request: Request) -> Response:
    """Create a token for namespaces that the caller administers. Its secret is in the answer and stored nowhere."""
    asked = msgspec.structs.asdict(await _body(request, NewToken))
    request.app.state.disk.check((Append("", ()),))  # what it stores
    token, secret = await _tokens(request).create(**asked, issuer=request.scope["store"])
    return JsonResponse({"secret": secret, **shown(token)})


async def list_tokens(
    request: Request,
    namespace: Annotated[
        str | None, Query(description="only tokens for this; required for a token you chose yourself")
    ] = None,
) -> Response:
    """List the tokens and claims whose namespaces the caller administers, without their secrets."""
    tokens = await _tokens(request).listed(request.scope["store"], namespace)
    return JsonResponse({"tokens": [shown(token) for token in tokens]})


async def revoke_token(
    request: Request,
    token: str,
    namespace: Annotated[str | None, Query(description="the namespace of your own claim, to revoke it")] = None,
) -> Response:
    """Revoke a token and all tokens that it created. From the answer on, none of them is accepted."""
    if namespace is not None:
        check_namespace(namespace)
    identity = check_name(token, "token id")
    revoked = await _tokens(request).revoke(identity, request.scope["store"], namespace)
    return JsonResponse(Revoked([item.id for item in revoked]))


async def whoami(request: Request) -> Response:
    """Return what the caller's token may do, and the model that the server embeds questions with.

    A token that the caller chose is not described: only its claims are stored.
    """
    caller: Caller = request.scope["store"]
    token = None if caller.token is None else shown(caller.token)
    operator = caller.token is not None and caller.token.administers(EVERYWHERE)
    embedding: Embedding | None = request.app.state.embedding
    model = None if embedding is None else embedding.model
    return JsonResponse(WhoAmI(request.app.state.authorizer.mode, operator, token, model))


async def list_plans(request: Request) -> Response:
    """List the plans and the default one. For operators."""
    plans: Plans = request.scope["store"].plans
    return JsonResponse(PlanList(plans.default, dict(plans.named)))


async def set_plan(request: Request, namespace: str) -> Response:
    """Set the plan of a namespace; null is the default plan. For operators."""
    plan = (await _body(request, ChosenPlan)).plan
    await request.scope["store"].set_plan(check_namespace(namespace), plan)
    operator = parse_credentials([header(request, b"authorization").encode("latin-1")]).issued_id
    await _tokens(request).record("plan.set", operator, namespace=namespace, plan=plan)
    return JsonResponse(NamespacePlan(namespace, plan))


async def list_namespaces(request: Request, after: str = "", limit: Page = None) -> Response:
    """List the namespaces. For operators."""
    return await list_page(request, "", ListNamespaces(after, page_size(limit)), Namespaces)


async def audit(
    request: Request,
    after: Annotated[int, Query(ge=0, lt=2**63, description="only records after this seq")] = 0,
    limit: Page = None,
) -> Response:
    """Return the audit log. For operators."""
    size = page_size(limit)
    messages = await _tokens(request).audit(after=after, limit=size)
    held = sum(map(weight, messages))
    return await respond(request, held, lambda: Messages.of(messages, full=len(messages) == size))


def _tokens(request: Request) -> access.Tokens:
    tokens: access.Tokens = request.app.state.authorizer.tokens
    return tokens


async def _body(request: Request, kind: type[B]) -> B:
    """Return the body, and authorize the caller again: it may have come slowly, and the token may not be valid any more."""
    body = await read_body(request)
    if len(body) > LARGE:
        raise TooLarge(f"the body of this request may have {LARGE:,} bytes")
    scope = request.scope
    scope["store"] = await request.app.state.authorizer.authorize_request(scope, rule_of(request.method, scope[ROUTE]))
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"the body of this request is not valid: {error}") from error
