"""The OpenAPI document. msgspec generates its schemas from the types that encode and decode the bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import FastAPI

from ..plans import Plan
from ..wire import PROBLEM_MEDIA_TYPE, documents, requests
from .access.rules import Mode, Token
from .admin import ChosenPlan, NewToken

TokenFacts = msgspec.defstruct(
    "TokenFacts",
    [(field.name, field.type) for field in msgspec.structs.fields(Token) if field.name != "hash"],
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


class Health(msgspec.Struct):
    """The store can be read."""

    status: str
    version: str


_ANSWERS: dict[tuple[str, str], Any] = {
    ("get", "/memory/{namespace}"): documents.Keys | documents.Entries | documents.Count,
    ("post", "/memory/{namespace}"): documents.Results,
    ("get", "/memory/{namespace}/{key}"): documents.NamedEntry,
    ("put", "/memory/{namespace}/{key}"): documents.Written,
    ("delete", "/memory/{namespace}/{key}"): documents.Results,
    ("get", "/sessions/{namespace}"): documents.Sessions | documents.Messages | documents.Count,
    ("get", "/sessions/{namespace}/{session}"): documents.Messages | documents.Count,
    ("post", "/sessions/{namespace}/{session}"): documents.Seqs,
    ("delete", "/sessions/{namespace}/{session}"): documents.Count | documents.Messages,
    ("get", "/search/{namespace}"): documents.Hits,
    ("post", "/search/{namespace}"): documents.Hits,
    ("get", "/texts/{namespace}"): documents.Texts,
    ("get", "/usage/{namespace}"): documents.Usage,
    ("get", "/usage/{namespace}/history"): documents.UsageHistory,
    ("get", "/namespaces"): documents.Namespaces,
    ("get", "/plans"): PlanList,
    ("put", "/plans/{namespace}"): NamespacePlan,
    ("get", "/whoami"): WhoAmI,
    ("get", "/tokens"): Tokens,
    ("post", "/tokens"): CreatedToken,
    ("delete", "/tokens/{token}"): Revoked,
    ("get", "/audit"): documents.Messages,
    ("get", "/health"): Health,
}
"""The type of each JSON answer. The routes that are not in it answer with text or events."""

_BODIES: dict[tuple[str, str], type] = {
    ("post", "/memory/{namespace}"): requests.WriteBody,
    ("put", "/memory/{namespace}/{key}"): requests.PutBody,
    ("post", "/sessions/{namespace}/{session}"): requests.AppendBody,
    ("post", "/search/{namespace}"): requests.SearchBody,
    ("post", "/tokens"): NewToken,
    ("put", "/plans/{namespace}"): ChosenPlan,
}
"""The type of each request body."""

_PLAIN = {
    ("get", "/memory/{namespace}/{key}"): ("get_entry", "Get an entry."),
    ("put", "/memory/{namespace}/{key}"): ("put_entry", "Set a key."),
    ("delete", "/memory/{namespace}/{key}"): ("delete_entry", "Delete a key."),
    ("post", "/memory/{namespace}"): ("write", "Apply operations, all or none."),
    ("get", "/sessions/{namespace}/{session}"): ("get_messages", "Get the messages of a session in order."),
    ("post", "/sessions/{namespace}/{session}"): ("append", "Append messages to a session."),
}
"""Names and summaries of the routes in `routes`, which FastAPI does not describe."""

_PAGE = ("last", "after", "limit")


def describe(app: FastAPI) -> None:
    """Complete the OpenAPI document that FastAPI generates for the app: plain routes, bodies, answers and errors."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        paths = {path.replace(":path}", "}"): methods for path, methods in document["paths"].items()}
        for (method, path), (name, summary) in _PLAIN.items():
            paths.setdefault(path, {}).setdefault(method, _plain(method, path, name, summary))
        schemas = _schemas()
        for method, path, operation in _operations(paths):
            _complete(operation, schemas, method, path)
        document["paths"] = paths
        document["components"] = {"schemas": schemas["components"]}
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(paths: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield method, path, operation


def _schemas() -> dict[Any, Any]:
    """Return the schema of each body, answer and error, and the components that they refer to."""
    keys = [*(("body", *key) for key in _BODIES), *(("answer", *key) for key in _ANSWERS), "problem", "change"]
    types = [*_BODIES.values(), *_ANSWERS.values(), documents.Problem, documents.Change]
    # msgspec decodes no union of two structs without tags. A schema for one is only a list of references.
    members = [getattr(kind, "__args__", (kind,)) for kind in types]
    flat = [member for group in members for member in group]
    found, components = msgspec.json.schema_components(flat, ref_template="#/components/schemas/{name}")
    references = iter(found)
    by_key: dict[Any, Any] = {}
    for key, group in zip(keys, members, strict=True):
        several = [next(references) for _ in group]
        by_key[key] = several[0] if len(several) == 1 else {"oneOf": several}
    for component in components.values():
        _say_one_of(component)
    return {**by_key, "components": components}


def _say_one_of(schema: Any) -> None:
    """Replace anyOf by oneOf where a discriminator selects the schema."""
    if isinstance(schema, dict):
        if "discriminator" in schema and "anyOf" in schema:
            schema["oneOf"] = schema.pop("anyOf")
        for part in schema.values():
            _say_one_of(part)
    elif isinstance(schema, list):
        for part in schema:
            _say_one_of(part)


def _complete(operation: dict[str, Any], schemas: dict[Any, Any], method: str, path: str) -> None:
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's own form, which this server never sends
    answer = schemas.get(("answer", method, path))
    if answer is not None:
        responses["200"] = {"description": "Done.", "content": _json(answer)}
    stream = responses["200"]["content"] if "200" in responses else {}
    if "text/event-stream" in stream:
        stream["text/event-stream"] = {}  # OpenAPI 3.1 cannot describe an event; a schema would be for the whole stream
    responses["default"] = {
        "description": "An error.",
        "content": {PROBLEM_MEDIA_TYPE: {"schema": schemas["problem"]}},
    }
    body = schemas.get(("body", method, path))
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}


def _plain(method: str, path: str, name: str, summary: str) -> dict[str, Any]:
    """Return a route without its bodies."""
    parameters = [_parameter(item.strip("{}"), "path") for item in path.split("/") if item.startswith("{")]
    if name == "get_messages":
        parameters += [_parameter(item, "query", type="integer", minimum=0) for item in _PAGE]
        parameters.append(_parameter("count", "query", type="boolean", description="only their number"))
    if method != "get":
        parameters.append(_parameter("Idempotency-Key", "header", maxLength=512))
    tag = path.split("/")[1]
    return {"operationId": name, "summary": summary, "tags": [tag], "parameters": parameters, "responses": {}}


def _parameter(name: str, where: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": "string", **schema}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
