"""The routes of the app, the OpenAPI document, and a page that shows it. msgspec generates its schemas from the types of the bodies and answers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from ..wire import PROBLEM_MEDIA_TYPE, documents, requests, responses, sessions
from . import admin, memory_routes, problems, routes, watch


class Health(msgspec.Struct):
    """The store can be read."""

    status: str
    version: str


class Operation(NamedTuple):
    """What a method of a path does.

    ``answer``: the type of its JSON answer; None: it answers with text or events. ``options``: for FastAPI.
    """

    endpoint: Callable[..., Any]
    answer: Any = None
    body: type | None = None
    options: Mapping[str, Any] = {}


_ENTRY, _SESSION = "/memory/{namespace}/{key}", "/sessions/{namespace}/{session}"
_OF_SESSION = responses.Messages | responses.Count | documents.Session | documents.Context
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("get", _ENTRY): Operation(routes.get_entry, documents.NamedEntry),
    ("put", _ENTRY): Operation(routes.put_entry, responses.Written, requests.PutBody),
    ("delete", _ENTRY): Operation(routes.delete_entry, responses.Results),
    ("post", "/memory/{namespace}"): Operation(routes.write, responses.Results, requests.WriteBody),
    ("get", "/memory/{namespace}"): Operation(
        memory_routes.list_entries, responses.Keys | responses.Entries | responses.Count
    ),
    ("get", _SESSION): Operation(routes.get_messages, _OF_SESSION),
    ("post", _SESSION): Operation(routes.append, responses.Seqs, sessions.AppendBody),
    ("delete", _SESSION): Operation(memory_routes.forget_session, responses.Count | responses.Messages),
    ("get", "/sessions/{namespace}"): Operation(memory_routes.list_sessions, responses.Sessions | _OF_SESSION),
    ("get", "/problems/{namespace}"): Operation(problems.problems, responses.SessionProblems),
    ("post", "/problems/{namespace}"): Operation(problems.mend, responses.SessionProblems, requests.MendBody),
    ("get", "/retention/{namespace}"): Operation(memory_routes.retention, responses.Rules),
    ("get", "/search/{namespace}"): Operation(memory_routes.search, responses.Hits),
    ("post", "/search/{namespace}"): Operation(memory_routes.search_long, responses.Hits, requests.SearchBody),
    ("get", "/texts/{namespace}"): Operation(memory_routes.texts_without_vectors, responses.Texts),
    ("get", "/usage/{namespace}"): Operation(memory_routes.usage, documents.Usage),
    ("get", "/usage/{namespace}/history"): Operation(memory_routes.usage_history, responses.UsageHistory),
    ("get", "/watch/{namespace}"): Operation(
        watch.watch, options={"response_class": Response, "responses": watch.RESPONSES}
    ),
    ("get", "/metrics"): Operation(memory_routes.metrics, options={"response_class": PlainTextResponse}),
    ("get", "/health"): Operation(memory_routes.health, Health),
    ("post", "/tokens"): Operation(admin.create_token, admin.CreatedToken, admin.NewToken),
    ("get", "/tokens"): Operation(admin.list_tokens, admin.Tokens),
    ("delete", "/tokens/{token}"): Operation(admin.revoke_token, admin.Revoked),
    ("get", "/whoami"): Operation(admin.whoami, admin.WhoAmI),
    ("get", "/plans"): Operation(admin.list_plans, admin.PlanList),
    ("put", "/plans/{namespace}"): Operation(admin.set_plan, admin.NamespacePlan, admin.ChosenPlan),
    ("get", "/namespaces"): Operation(admin.list_namespaces, responses.Namespaces),
    ("delete", "/namespaces/{namespace}"): Operation(memory_routes.destroy, responses.Count),
    ("get", "/audit"): Operation(admin.audit, responses.Messages),
}
_TAGS = {name: name for name in ("memory", "sessions", "search", "usage", "watch")} | {
    "texts": "search",
    "problems": "sessions",
    "retention": "sessions",
}
_HOT = {route.endpoint for route in routes.HOT_ROUTES}


def add_routes(app: FastAPI) -> None:
    """Add the routes to the app, not to a router inside it: the table of access rules has no rows for routers."""
    app.router.routes.extend(routes.HOT_ROUTES)
    for (method, path), operation in OPERATIONS.items():
        if operation.endpoint not in _HOT:
            path_of_route = path.replace("{session}", "{session:path}")
            options = {
                "methods": [method.upper()],
                "tags": [_TAGS.get(path.split("/")[1], "operations")],
                **operation.options,
            }
            app.add_api_route(path_of_route, operation.endpoint, **options)
    generate = app.openapi
    app.openapi = lambda: _complete(generate())  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs(_: Request) -> Response:
        return HTMLResponse(_page(app.openapi()), headers=_HEADERS)


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    """Complete the document that FastAPI generates: hot routes, bodies, answers and errors."""
    paths = {path.replace(":path}", "}"): methods for path, methods in document["paths"].items()}
    schemas, components = _schemas()
    for (method, path), operation in OPERATIONS.items():
        found = paths.setdefault(path, {}).setdefault(method, _hot_operation(method, path, operation))
        if operation.endpoint is memory_routes.list_sessions:  # it also answers for one session
            named = {parameter["name"] for parameter in found["parameters"]}
            found["parameters"] += [item for item in _parameters_of_session() if item["name"] not in named]
        found["responses"].pop("422", None)  # FastAPI's own form, which this server never sends
        if operation.answer is not None:
            found["responses"]["200"] = {"description": "Done.", "content": _json(_any_of(schemas, operation.answer))}
        problem = {PROBLEM_MEDIA_TYPE: {"schema": schemas[responses.Problem]}}
        found["responses"]["default"] = {"description": "An error.", "content": problem}
        if operation.body is not None:
            found["requestBody"] = {"required": True, "content": _json(schemas[operation.body])}
    return {**document, "paths": paths, "components": {"schemas": components}}


def _schemas() -> tuple[dict[type, Any], dict[str, Any]]:
    """Return the reference to each type of a body, an answer, an error or an event, and the schemas that these refer to."""
    types = [responses.Problem, documents.Change]
    for operation in OPERATIONS.values():
        types += [kind for kind in (operation.body, *_members(operation.answer)) if kind is not None]
    found, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for component in components.values():
        _say_one_of(component)
    return dict(zip(types, found, strict=True)), components


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union. msgspec makes no schema for a union of structs without tags."""
    return getattr(kind, "__args__", (kind,))


def _any_of(schemas: dict[type, Any], kind: Any) -> dict[str, Any]:
    several = [schemas[member] for member in _members(kind)]
    return several[0] if len(several) == 1 else {"anyOf": several}


def _say_one_of(schema: Any) -> None:
    """Replace anyOf by oneOf where a discriminator selects the schema."""
    if isinstance(schema, dict) and "discriminator" in schema and "anyOf" in schema:
        schema["oneOf"] = schema.pop("anyOf")
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _say_one_of(part)


def _hot_operation(method: str, path: str, operation: Operation) -> dict[str, Any]:
    """Return the description of a hot route, which FastAPI does not know."""
    name = operation.endpoint.__name__
    parameters = [_parameter(item.strip("{}"), "path") for item in path.split("/") if item.startswith("{")]
    if operation.endpoint is routes.get_messages:
        parameters += [*_parameters_of_session(), _parameter("after", "query", **_POSITION)]
    if method != "get":
        parameters.append(_parameter("Idempotency-Key", "header", maxLength=512))
    summary = operation.endpoint.__doc__
    return {
        "operationId": name,
        "summary": summary,
        "tags": [_TAGS.get(path.split("/")[1], "operations")],
        "parameters": parameters,
        "responses": {},
    }


_POSITION: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_FLAGS = {
    "count": "only the number of messages",
    "about": "the session instead of its messages",
    "preview": "with about: with its last message",
    "context": "its summary and the newest messages that the summary does not cover",
}
_POSITIONS = {
    "last": "only this many of the newest messages",
    "limit": "only this many messages",
    "before": "with context: only messages before this seq",
    "head": "with context: also this many of the first messages",
}


def _parameters_of_session() -> list[dict[str, Any]]:
    """Return the parameters of a request for one session, without ``after``."""
    flags = [_parameter(name, "query", type="boolean", description=text) for name, text in _FLAGS.items()]
    positions = [_parameter(name, "query", **_POSITION, description=text) for name, text in _POSITIONS.items()]
    return flags + positions


def _parameter(name: str, where: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": "string", **schema}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


# The page at /docs: the document as one plain page. Swagger UI would add 1.5 MB of scripts, and a policy that lets them run.

_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}summary{cursor:pointer}"
    "pre{font:14px/1.4 monospace;overflow:auto}b{display:inline-block;min-width:4.5rem}:root{color-scheme:light dark}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    # Nothing on it can run, and nothing is fetched (https://www.w3.org/TR/CSP3/).
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


def _page(document: dict[str, Any]) -> str:
    routes = [
        _details(
            f"<b>{method.upper()}</b> <code>{escape(path)}</code> — {escape(operation.get('description') or operation['summary'])}",
            {name: operation[name] for name in ("parameters", "requestBody", "responses") if name in operation},
        )
        for path, operations in sorted(document["paths"].items())
        for method, operation in operations.items()
    ]
    schemas = [
        _details(f"<code>{escape(name)}</code>", schema)
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    info = document["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>botwire</title><style>{_STYLE}</style><h1>botwire {escape(info['version'])}</h1>"
        f"<p>{escape(info['summary'])} For programs: <a href='openapi.json'>openapi.json</a>.</p>"
        f"<h2>Routes</h2>{''.join(routes)}<h2>Schemas</h2>{''.join(schemas)}"
    )


def _details(summary: str, value: Any) -> str:
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    return f"<details><summary>{summary}</summary><pre>{text}</pre></details>"
