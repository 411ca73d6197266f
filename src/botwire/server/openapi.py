"""What the OpenAPI document says about the routes that FastAPI does not know."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_ANY: dict[str, Any] = {"description": "any JSON value"}
_TIME = {"type": "string", "format": "date-time"}
_TIME_OR_NULL = {"anyOf": [_TIME, {"type": "null"}]}
_INT = {"type": "integer"}
_STR = {"type": "string"}

_SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457. The type is urn:botwire:error: and a stable code.",
        "required": ["type", "title", "status"],
        "properties": {"type": _STR, "title": _STR, "status": _INT, "detail": _STR},
    },
    "Entry": {
        "type": "object",
        "description": "Either value or value_base64 (for bytes) is there.",
        "required": ["namespace", "key", "version", "created_at", "updated_at"],
        "properties": {
            "namespace": _STR,
            "key": _STR,
            "value": _ANY,
            "value_base64": {"type": "string", "contentEncoding": "base64"},
            "version": _INT,
            "created_at": _TIME,
            "updated_at": _TIME,
            "expires_at": _TIME_OR_NULL,
        },
    },
    "Put": {
        "type": "object",
        "description": "Either value or value_base64 (for bytes).",
        "additionalProperties": False,
        "properties": {
            "value": _ANY,
            "value_base64": {"type": "string", "contentEncoding": "base64"},
            "ttl": {"type": ["number", "null"], "exclusiveMinimum": 0, "description": "seconds"},
            "if_version": {"type": ["integer", "null"], "minimum": 0, "description": "0: only if there is no entry"},
        },
    },
    "Append": {
        "type": "object",
        "required": ["messages"],
        "additionalProperties": False,
        "properties": {
            "messages": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["data"],
                    "additionalProperties": False,
                    "properties": {"id": {"type": "string", "minLength": 1}, "data": _ANY},
                },
            }
        },
    },
    "Write": {
        "type": "object",
        "required": ["operations"],
        "additionalProperties": False,
        "properties": {
            "operations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "description": "put (key, value or value_base64, ttl, if_version, keep_ttl), delete (key), increment (key, "
                    "by), append (session, messages), clear (prefix), forget (session), pop (session, count, if_ids)",
                    "required": ["op"],
                    "properties": {"op": {"enum": ["put", "delete", "increment", "append", "clear", "forget", "pop"]}},
                },
            }
        },
    },
    "Messages": {
        "type": "object",
        "required": ["messages"],
        "properties": {
            "messages": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["seq", "id", "data", "created_at"],
                    "properties": {"seq": _INT, "id": _STR, "data": _ANY, "created_at": _TIME},
                },
            },
            "next": {"type": ["integer", "null"], "description": "pass it as after for the next page"},
        },
    },
}


SEARCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["q"],
                    "additionalProperties": False,
                    "properties": {
                        "q": _STR,
                        "limit": _INT,
                        "kinds": {"type": ["array", "null"], "items": {"enum": ["messages", "entries"]}},
                        "session": {"type": ["string", "null"]},
                        "prefix": _STR,
                        "where": {"type": ["object", "null"], "description": "paths into the data, and values"},
                        "since": _TIME_OR_NULL,
                        "until": _TIME_OR_NULL,
                        "neighbours": _INT,
                        "half_life": {"type": ["number", "null"], "description": "seconds"},
                    },
                }
            }
        },
    }
}
"""What a POST to search takes."""


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_REFUSED = {"description": "refused", "content": {"application/problem+json": {"schema": _ref("Problem")}}}


def _parameter(name: str, where: str = "path", **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema or _STR}


def _operation(
    name: str, summary: str, tag: str, answer: dict[str, Any], *, body: str | None = None, queries: tuple[str, ...] = ()
) -> dict[str, Any]:
    path = {"memory": ["namespace", "key"], "sessions": ["namespace", "session"], "namespace": ["namespace"]}[tag]
    parameters = [_parameter(item) for item in path]
    parameters += [_parameter(item, "query", type="integer", minimum=0) for item in queries]
    if body or name == "delete_entry":
        parameters.append(_parameter("Idempotency-Key", "header", type="string", maxLength=512))
    operation = {
        "operationId": name,
        "summary": summary,
        "tags": ["sessions" if tag == "sessions" else "memory"],
        "parameters": parameters,
        "responses": {
            "200": {"description": "done", "content": _json(answer)},
            "default": _REFUSED,
        },
    }
    if body:
        operation["requestBody"] = {"required": True, "content": _json(_ref(body))}
    return operation


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_LIST_OF_INT = {"type": "array", "items": _INT}

_PATHS: dict[str, dict[str, Any]] = {
    "/memory/{namespace}/{key}": {
        "get": _operation("get_entry", "Get an entry", "memory", _ref("Entry")),
        "put": _operation(
            "put_entry", "Set a key", "memory", _object(namespace=_STR, key=_STR, version=_INT), body="Put"
        ),
        "delete": _operation(
            "delete_entry", "Remove a key", "memory", _object(results={"type": "array", "items": _ANY})
        ),
    },
    "/memory/{namespace}": {
        "post": _operation(
            "write",
            "Apply a list of operations, all or none",
            "namespace",
            _object(results={"type": "array", "items": _ANY}),
            body="Write",
        ),
    },
    "/sessions/{namespace}/{session}": {
        "get": _operation(
            "get_messages", "Get messages in order", "sessions", _ref("Messages"), queries=("last", "after", "limit")
        ),
        "post": _operation("append", "Append messages", "sessions", _object(seqs=_LIST_OF_INT), body="Append"),
    },
}


def describe(app: FastAPI) -> None:
    """Add the plain routes to the app's OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for path, operations in _PATHS.items():
            for known in (path, path.replace("}/{key}", "}/{key:path}"), path.replace("{session}", "{session:path}")):
                if known in document["paths"] and known != path:
                    document["paths"].setdefault(path, {}).update(document["paths"].pop(known))
            document["paths"].setdefault(path, {}).update(operations)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(_SCHEMAS)
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            operation["responses"].pop("422", None)  # which FastAPI describes as it would answer itself
            operation["responses"].setdefault("default", _REFUSED)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
