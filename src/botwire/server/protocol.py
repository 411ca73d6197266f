"""The connections of the service, which its metrics count."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from ..connections import protocol
from .large import ABORT
from .routes import Dispatcher


class Protocol(protocol.Protocol):
    """A connection that the metrics count from when it is accepted until it is closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._metrics = cast("Dispatcher", self.config.loaded_app).metrics

    def enter(self, transport: asyncio.Transport) -> bool:
        self._metrics.connections.inc()
        return super().enter(transport)

    def leave(self) -> None:
        self._metrics.connections.dec()
        super().leave()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)[ABORT] = self.transport.abort
