"""Spans of OpenTelemetry, where a program has set it up; nothing otherwise.

Whoever runs the engine decides where spans go. Without a tracer provider, or without the package, they
cost microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

try:
    from opentelemetry import trace
except ImportError:
    trace = None  # type: ignore[assignment]

TRACER = "earthgen"


@contextmanager
def span(name: str, **attributes: int | float | str) -> Iterator[None]:
    """A span around a piece of work, within the current one.

    Args:
        name: of the work.
        attributes: what it works on; their names get the prefix `earthgen.`.
    """
    if trace is None:
        yield
        return
    named = {f"{TRACER}.{key}": value for key, value in attributes.items()}
    with trace.get_tracer(TRACER).start_as_current_span(name, attributes=named):
        yield
