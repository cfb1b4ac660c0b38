"""Spans of requests and windows, kept in memory or sent to a collector; none unless somebody asked for them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import earthgen.engine
from earthgen.engine import Engine
from earthgen.world import World
from tests.browser import serve
from tests.tiny import open_tiny, ripple_root, save_tiny_weights
from tileserver import Settings, create_app, tracing

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

TILE = "/worlds/earth/tiles/WebMercatorQuad/6/33/22.png"
PARENT = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def exporter() -> Iterator[Any]:
    """Keeps the spans of this process; a provider can be set once, so it lasts as long as the process does."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)
    with open_tiny(save_tiny_weights(tmp_path)) as engine:
        yield engine


def test_a_request_and_the_windows_made_for_it_are_one_trace(
    exporter: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracing.ENDPOINTS[0], "http://127.0.0.1:9")
    exporter.clear()
    with serve(create_app(Settings(), lambda _: engine)) as base:
        headers = {"traceparent": f"00-{PARENT}-b7ad6b7169203331-01", "X-Request-ID": "mine"}
        answer = httpx.get(f"{base}{TILE}?seed=7&v=secret", headers=headers, timeout=60)
        assert answer.status_code == 200
        assert httpx.get(f"{base}/worlds/nowhere").status_code == 404
    spans = [span for span in exporter.get_finished_spans() if span.instrumentation_scope.name == "earthgen"]
    requests = {span.name: span for span in spans if span.kind.name == "SERVER"}
    route = "/worlds/{world}/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}"
    tile = requests[f"GET {route}"]
    assert f"{tile.context.trace_id:032x}" == PARENT
    assert dict(tile.attributes) == {
        "http.request.method": "GET",
        "http.route": route,
        "http.response.status_code": 200,
        "url.path": TILE,
        "url.scheme": "http",
        "earthgen.request_id": "mine",
        "earthgen.cache": "MISS",
    }
    assert requests["GET /worlds/{world}"].attributes["http.response.status_code"] == 404
    windows = [span for span in spans if span.name == "window"]
    assert windows and {f"{span.context.trace_id:032x}" for span in windows} == {PARENT}
    assert {span.attributes["earthgen.zoom"] for span in windows} == {6}
    # Prompts are in queries, and queries are in no span.
    assert all("secret" not in str(value) for span in spans for value in span.attributes.values())


def test_without_a_collector_no_request_is_traced(
    exporter: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    exporter.clear()
    with serve(create_app(Settings(), lambda _: engine)) as base:
        assert httpx.get(base + TILE, timeout=60).status_code == 200
    assert not [span for span in exporter.get_finished_spans() if span.kind.name == "SERVER"]


def test_a_collector_without_the_extra_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(tracing.ENDPOINTS[0], "http://127.0.0.1:9")
    monkeypatch.setattr(tracing, "INSTALLED", False)
    assert not tracing.wanted()
    assert "install earthgen[otel]" in caplog.text


def test_the_engine_works_without_the_package(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthgen.tracing.trace", None)
    assert engine.tile(World(seed=7), 6, 33, 22).shape == (256, 256, 3)


def test_a_server_sends_its_spans_to_the_collector_before_it_ends() -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.path.encode() + b" " + self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    program = (
        "import httpx; from tests.browser import serve; from tests.fake_engine import FakeEngine\n"
        "from tileserver import Settings, create_app\n"
        "with serve(create_app(Settings(), lambda _: FakeEngine())) as base:\n"
        f"    assert httpx.get(base + {TILE!r}).status_code == 200\n"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = os.environ | {
            tracing.ENDPOINTS[0]: f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "no_proxy": "*",
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
        )
        collector.shutdown()
    assert done.returncode == 0, done.stderr
    assert received and all(message.startswith(b"/v1/traces ") for message in received)
    everything = b"".join(received)
    assert TILE.encode() in everything and b"service.name" in everything and b"earthgen" in everything
