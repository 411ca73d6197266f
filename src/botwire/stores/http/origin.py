"""Where requests go: the address, the header fields that all requests share, TLS, and the proxy that the environment names."""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ...errors import InvalidArgument
from ...wire import MEDIA_TYPE
from .connection import is_deadline
from .messages import ConnectionFailed, Request


class Origin:
    """A parsed address, and the header fields that every request carries. The rest as for `HttpStore`; it connects to nothing."""

    def __init__(self, url: str, headers: Mapping[str, str], ca: str | os.PathLike[str] | None = None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidArgument(f"the host or port in the address is wrong: {error}") from error
        if parts.username is not None or parts.password is not None:
            raise InvalidArgument("an address holds no user and password: pass token=… instead")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise InvalidArgument("the address is not http(s)://host[:port][/path]")
        self.host = parts.hostname
        self.is_secure = parts.scheme == "https"
        self.port = port or (443 if self.is_secure else 80)
        self.proxy = proxy_for(parts.scheme, self.host, self.port)
        self.base = parts.path.rstrip("/")
        fields = {"Host": parts.netloc, **headers}
        if self.proxy is not None and not self.is_secure:
            # A proxy forwards plain requests by their full address (RFC 9112, section 3.2.2).
            self.base = f"http://{parts.netloc}{self.base}"
            if self.proxy.authorization:
                fields["Proxy-Authorization"] = self.proxy.authorization
        self.fields = "".join(_field(name, value) for name, value in fields.items())
        self.tls: ssl.SSLContext | None = None
        """The TLS settings, once `load_tls` was called."""
        if self.is_secure and ca is not None:
            self.tls = _trusting(ca)
        elif self.is_secure and (file := os.environ.get("SSL_CERT_FILE")) and not Path(file).is_file():
            raise InvalidArgument(f"SSL_CERT_FILE names {file!r}, which is not a file")

    @property
    def endpoint(self) -> tuple[str, int]:
        """The host and port to connect to: the proxy's if there is one."""
        return (self.host, self.port) if self.proxy is None else (self.proxy.host, self.proxy.port)

    @property
    def is_prepared(self) -> bool:
        """Whether `load_tls` has nothing left to do."""
        return self.tls is not None or not self.is_secure

    def load_tls(self) -> None:
        """Read the trusted certificates of the system, which takes 20 ms: too long for an event loop."""
        if not self.is_prepared:
            self.tls = ssl.create_default_context()

    def encode(self, request: Request) -> bytes:
        """Return a request as bytes. A body is JSON."""
        fields = "".join(_field(name, value) for name, value in request.headers)
        if request.body:
            fields += f"Content-Type: {MEDIA_TYPE}\r\n"
        if request.body or request.method != "GET":
            fields += f"Content-Length: {len(request.body)}\r\n"
        head = f"{request.method} {self.base}{request.target} HTTP/1.1\r\n{self.fields}{fields}\r\n"
        return head.encode("latin-1") + request.body

    def failed(self, what: str, *, was_sent: bool = True, is_final: bool = False) -> ConnectionFailed:
        """Return the error of a connection to this address."""
        return ConnectionFailed(f"{self.host}:{self.port}: {what}", was_sent=was_sent, is_final=is_final)

    def broken(self, error: BaseException) -> ConnectionFailed | None:
        """Return the error of a connection that the system reports as broken; None: it is something else."""
        if not isinstance(error, OSError) or isinstance(error, ConnectionFailed) or is_deadline(error):
            return None
        return self.failed(f"the connection broke: {error.strerror or error}")


def _trusting(ca: str | os.PathLike[str]) -> ssl.SSLContext:
    try:
        if Path(ca).is_dir():
            return ssl.create_default_context(capath=os.fspath(ca))
        return ssl.create_default_context(cafile=os.fspath(ca))
    except (OSError, TypeError) as error:
        raise InvalidArgument(f"ca names {ca!r}, which has no certificates in PEM format: {error}") from error


def _field(name: str, value: str) -> str:
    if any(char in value for char in "\r\n\0") or not value.isascii():
        raise InvalidArgument(f"the header field {name} has characters that HTTP does not allow")
    return f"{name}: {value}\r\n"


class Proxy(NamedTuple):
    """An HTTP proxy. The authorization is the value of ``Proxy-Authorization``."""

    host: str
    port: int
    authorization: str | None


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy for an address, or None for a direct connection, by the rules of curl and requests.

    The scheme of the address selects ``https_proxy`` or ``http_proxy``, else ``all_proxy`` counts. Lower case comes before
    upper case. ``no_proxy`` lists hosts that are reached directly, and local addresses only if they are in the list.
    """
    for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        # In a CGI program HTTP_PROXY is a header that the client sent (CVE-2016-5385).
        if name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ:
            continue
        value = os.environ.get(name, "").strip()
        if value:
            direct = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").lower().split(",")
            is_direct = any(
                _matches(host.lower().rstrip("."), port, entry.strip()) for entry in direct if entry.strip()
            )
            return None if is_direct else _parse(name, value)
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


def _matches(host: str, port: int, entry: str) -> bool:
    """Whether an entry of ``no_proxy`` means a host: by a name, a domain, ``name:port``, an IP address, a network, or ``*``."""
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
