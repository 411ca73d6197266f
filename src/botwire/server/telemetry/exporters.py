"""Where a server sends its traces: by its option, or by the environment variables of OpenTelemetry, or nowhere.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/: the default of the specification, an
exporter to port 4317 of this machine, does not apply here. A server sends traces only where its operator asks for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from ...errors import InvalidArgument
from ...stores.wrappers.traced import is_disabled, is_wanted
from ...version import __version__

if TYPE_CHECKING:
    from ...stores.wrappers.tracing import Tracing

log = logging.getLogger("botwire.server")

_GROUP = "opentelemetry_traces_exporter"
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def exporters_of(option: str | None) -> list[str] | None:
    """Return the installed names of the exporters that an operator asks for; None: the operator asks for none.

    Args:
        option: of this server, with the values of ``OTEL_TRACES_EXPORTER``; None: not given.

    Raises:
        InvalidArgument: the option names an exporter that is not installed.
    """
    if is_disabled():
        return []
    given = option or _variable("OTEL_TRACES_EXPORTER")
    if not given and (_variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or _variable("OTEL_EXPORTER_OTLP_ENDPOINT")):
        given = "otlp"
    if not given:
        return None
    names = [_known(name.strip()) for name in given.split(",") if name.strip() not in {"", "none"}]
    missing = [name for name in names if _found(name) is None]
    if option and missing:
        raise InvalidArgument(
            f"--traces {option}: no exporter {missing[0]!r} is installed: pip install 'botwire[otel]' brings otlp, by HTTP, and console"
        )
    return names


def begin(exporters: Sequence[str] | None) -> Tracing | None:
    """Set up OpenTelemetry for this process unless that is done; return None when nothing is traced."""
    if exporters is not None and not exporters:
        return None
    exporters = exporters or []
    points = [point for point in map(_found, exporters) if point is not None]
    if len(points) < len(exporters):
        log.warning("not traced", extra={"reason": "the environment asks for it: pip install 'botwire[otel]'"})
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    from ...stores.wrappers.tracing import Tracing

    if not is_wanted():
        return None
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        if not exporters:
            return None
        _set_provider(points)
    log.info("traced", extra={"exporters": list(exporters)})
    return Tracing()


def _set_provider(points: list[EntryPoint]) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    said = Resource.create()
    ours = {SERVICE_VERSION: __version__}
    if str(said.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        ours[SERVICE_NAME] = "botwire"
    provider = TracerProvider(resource=said.merge(Resource(ours)))
    for point in points:
        provider.add_span_processor(BatchSpanProcessor(point.load()()))
    trace.set_tracer_provider(provider)


def _known(name: str) -> str:
    """Return the name under which an exporter is installed."""
    if name != "otlp":
        return name
    protocol = _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or _variable("OTEL_EXPORTER_OTLP_PROTOCOL")
    return _PROTOCOLS.get(protocol or "http/protobuf", f"otlp of {protocol}")


def _found(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=_GROUP, name=name)), None)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
