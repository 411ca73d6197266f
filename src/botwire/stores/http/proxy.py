"""The HTTP proxy that the environment names for an address."""

from __future__ import annotations

import base64
import ipaddress
import os
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ...errors import InvalidArgument


class Proxy(NamedTuple):
    """An HTTP proxy. The authorization is the value of ``Proxy-Authorization``."""

    host: str
    port: int
    authorization: str | None


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy for an address, or None for a direct connection.

    The rules are those of curl and requests: ``https_proxy`` or ``http_proxy`` by the scheme of the address, else
    ``all_proxy``. Lower case comes before upper case. ``no_proxy`` lists hosts that are reached directly. Local addresses
    are no exception: list ``localhost,127.0.0.1,::1`` there.

    Raises:
        InvalidArgument: the variable holds something else than ``http://[user:password@]host[:port]``.
    """
    for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        # In a CGI program HTTP_PROXY is a header that the client sent (CVE-2016-5385).
        if name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ:
            continue
        value = os.environ.get(name, "").strip()
        if value:
            excluded = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
            return None if _is_excluded(host, port, excluded) else _parse(name, value)
    return None


def _parse(name: str, value: str) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    # The value may hold a password, so no message repeats it.
    error = InvalidArgument(f"the environment variable {name} is not http://[user:password@]host[:port]")
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise error from None
    if parts.scheme != "http":
        raise InvalidArgument(f"the proxy in {name} has the scheme {parts.scheme}; only http:// is supported")
    if not parts.hostname:
        raise error
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = f"Basic {base64.b64encode(credentials).decode()}"
    return Proxy(parts.hostname, port, authorization)


def _is_excluded(host: str, port: int, excluded: str) -> bool:
    """Whether ``no_proxy`` lists a host: as a name, a domain, ``name:port``, an IP address, a network, or ``*``."""
    host = host.lower().rstrip(".")
    return any(_matches(host, port, entry.strip().lower()) for entry in excluded.split(",") if entry.strip())


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        entry = entry.removesuffix(f":{port}").removeprefix("*").removeprefix(".")
        return host == entry or host.endswith(f".{entry}")
    entry = entry if entry.count(":") > 1 and "]:" not in entry else entry.removesuffix(f":{port}")
    try:
        return address in ipaddress.ip_network(entry.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return False
