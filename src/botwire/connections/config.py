"""uvicorn's configuration for a server of botwire."""

from __future__ import annotations

import ssl
from typing import Any

import uvicorn

HEADERS = [
    # Pages of other sites may not embed an answer, and no browser executes one as a script: https://fetch.spec.whatwg.org/
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
]
"""In every answer."""


class Config(uvicorn.Config):
    """uvicorn's configuration with the connections of this package, as HTTP/1.1 and without WebSockets.

    ``tls``: the context of a server with TLS. `protocol.Protocol` shakes hands itself, after it has counted the connection.
    """

    tls: ssl.SSLContext | None = None

    def __init__(self, app: Any, **options: Any) -> None:
        chosen = {"http": f"{__package__}.protocol:Protocol", "headers": HEADERS, **options}
        super().__init__(app, server_header=False, ws="none", **chosen)

    def load(self) -> None:
        super().load()
        self.tls, self.ssl = self.ssl, None
