"""Spans of requests for OpenTelemetry, where the extra `otel` is installed and a collector is named.

OpenTelemetry's own environment variables say where they go, OTEL_EXPORTER_OTLP_ENDPOINT first of all.
A span has its request's route and never its query, which may hold a person's prompt.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earthgen import __version__
from earthgen.tracing import TRACER
from tileserver.metrics import route_of

try:
    from opentelemetry import propagate, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    INSTALLED = True
except ImportError:
    INSTALLED = False

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Environment variables, either of which names a collector."""
_logger = logging.getLogger(__name__)


def wanted() -> bool:
    """Whether spans are to be made: a collector is named, and what sends to it is installed."""
    named = [name for name in ENDPOINTS if os.environ.get(name)]
    if named and not INSTALLED:
        _logger.warning("%s is set and no spans are sent: install earthgen[otel]", named[0])
    return bool(named) and INSTALLED


def start() -> Callable[[], None]:
    """Send this process's spans to the collector; returns what sends the last ones and ends that.

    A program that has set a tracer provider of its own keeps it, and gets the spans.
    """
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return lambda: None
    resource = Resource.create({SERVICE_VERSION: __version__})
    if "OTEL_SERVICE_NAME" not in os.environ:
        resource = resource.merge(Resource({SERVICE_NAME: TRACER}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


class Traced:
    """A span around every request, within the client's own where its `traceparent` names one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch the answer go by."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        tracer = trace.get_tracer(TRACER, __version__)
        attributes: dict[str, Any] = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "earthgen.request_id": scope.get("state", {}).get("request_id", ""),
        }
        with tracer.start_as_current_span(
            scope["method"],
            propagate.extract(dict(Headers(scope=scope))),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
        ) as span:

            async def send_watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if cache := Headers(raw=message["headers"]).get("x-cache"):
                        span.set_attribute("earthgen.cache", cache)
                    if message["status"] >= 500:
                        span.set_status(trace.StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_watched)
            finally:
                # Only now is it known.
                route = route_of(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
