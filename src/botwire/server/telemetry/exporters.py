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
from ...stores.wrappers import is_disabled, is_wanted
from ...version import __version__

if TYPE_CHECKING:
    from ...stores.wrappers.tracing import Tracing

log = logging.getLogger("botwire.server")

_PROTOCOLS = {"": "otlp_proto_http", "http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def exporters_of(option: str | None) -> list[str] | None:
    """Return the installed names of the exporters that an operator asks for; None: the operator asks for none.

    The option has the values of ``OTEL_TRACES_EXPORTER``. It must not name an exporter that is not installed.
    """
    if is_disabled():
        return []
    endpoint = _variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    given = option or _variable("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "")
    if not given:
        return None
    names = [_known(name.strip()) for name in given.split(",") if name.strip() not in {"", "none"}]
    missing = [name for name in names if not _found(name)]
    if option and missing:
        raise InvalidArgument(
            f"--traces {option}: no exporter {missing[0]!r} is installed: pip install 'botwire[otel]' brings otlp, by HTTP, and console"
        )
    return names


def begin(exporters: Sequence[str] | None) -> Tracing | None:
    """Set up OpenTelemetry for this process unless that is done; return None when nothing is traced."""
    if exporters is not None and not exporters:
        return None
    points = [point for name in exporters or () for point in _found(name)]
    if exporters and len(points) < len(exporters):
        log.warning("not traced", extra={"reason": "the environment asks for it: pip install 'botwire[otel]'"})
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    from ...stores.wrappers.tracing import Tracing

    has_no_provider = isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if not is_wanted() or (has_no_provider and not points):
        return None
    if has_no_provider:
        _set_provider(points)
    log.info("traced", extra={"exporters": list(exporters or ())})
    return Tracing()


def _set_provider(points: list[EntryPoint]) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    given = Resource.create()
    ours = {SERVICE_VERSION: __version__}
    if str(given.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        ours[SERVICE_NAME] = "botwire"
    provider = TracerProvider(resource=given.merge(Resource(ours)))
    for point in points:
        provider.add_span_processor(BatchSpanProcessor(point.load()()))
    trace.set_tracer_provider(provider)


def _known(name: str) -> str:
    """Return the name under which an exporter is installed."""
    if name != "otlp":
        return name
    protocol = _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    return _PROTOCOLS.get(protocol, f"otlp of {protocol}")


def _found(name: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group="opentelemetry_traces_exporter", name=name))[:1]


def _variable(*names: str) -> str:
    """Return the first of these environment variables that has a value."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")
