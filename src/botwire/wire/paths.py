"""URL paths and query strings."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode


def query(**parameters: Any) -> str:
    """Return ``?name=value&…`` of those parameters that are not None; nothing when there are none."""
    given = [(name, value) for name, value in parameters.items() if value is not None]
    return "?" + urlencode(given, doseq=True, quote_via=quote) if given else ""


def namespace_path(root: str, namespace: str, **parameters: Any) -> str:
    """Return ``/{root}/{namespace}`` and a query."""
    return f"/{root}/{quote(namespace, safe='')}{query(**parameters)}"


def name_path(root: str, namespace: str, name: str) -> str | None:
    """Return ``/{root}/{namespace}/{name}``, or None for a name that a path cannot carry.

    On their way, clients and proxies remove segments of dots, merge slashes and decode ``%2F`` (RFC 3986, sections
    5.2.4 and 6.2.2); such a name goes into the query instead.
    """
    if name.startswith(".") or "/" in name or "\\" in name or "%" in name:
        return None
    return f"/{root}/{quote(namespace, safe='')}/{quote(name, safe='')}"
