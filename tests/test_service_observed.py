"""What the service tells about itself: metrics, timings, request ids, logs, readiness and the page for people."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.browser import serve
from tests.fake_engine import FakeEngine
from tileserver import Settings, create_app
from tileserver.logs import JsonFormatter, TextFormatter, accepted_id, request_id
from tileserver.metrics import Metrics
from tileserver.service import STUCK_S, Service

TILE = "/worlds/planet/tiles/WebMercatorQuad/9/261/180.png?seed=7"


@contextmanager
def running(engine: FakeEngine | None = None, **settings: Any) -> Iterator[str]:
    engine = engine or FakeEngine()
    with serve(create_app(Settings(**settings), lambda _: engine)) as base:
        yield base
        engine.gate.set()


def scraped(base: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample: its name and sorted labels, and its value."""
    answer = httpx.get(f"{base}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels among theirs."""
    return sum(
        number for (found, own), number in samples.items() if found == name and labels.items() <= dict(own).items()
    )


def eventually(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_tiles_are_counted_by_zoom_and_cache_state() -> None:
    with running() as base:
        for _ in range(3):
            assert httpx.get(base + TILE).status_code == 200
        samples = scraped(base)
    tile = {"zoom": "9", "route": "/worlds/{world}/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}", "status": "200"}
    assert value(samples, "earthgen_request_seconds_count", cache="miss", **tile) == 1
    assert value(samples, "earthgen_request_seconds_count", cache="hit", **tile) == 2
    assert value(samples, "earthgen_request_seconds_sum", **tile) > 0
    assert value(samples, "earthgen_windows_computed_total") == 1
    assert value(samples, "earthgen_cache_bytes", kind="windows") == 3 * 256 * 256
    assert value(samples, "earthgen_cache_bytes", kind="encoded") > 1000


def test_labels_come_from_closed_lists_whatever_clients_ask_for() -> None:
    with running() as base:
        paths = ["/nonsense/{}", "/worlds/planet/tiles/WebMercatorQuad/{}/0/0.png", "/worlds/{}", "/static/{}.js"]
        for path in paths:
            for word in ("alpha", "beta", "99", "-1"):
                assert httpx.get(base + path.format(word)).status_code in (404, 422)
        samples = scraped(base)
    labels = [dict(own) for name, own in samples if name == "earthgen_request_seconds_count"]
    assert {entry["zoom"] for entry in labels} == {""}
    assert {entry["route"] for entry in labels} == {
        "none",
        "/static",
        "/worlds/{world}",
        "/worlds/{world}/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}",
    }


def test_queues_and_refusals_are_seen() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, tile_threads=1, tile_queue=1) as base, ThreadPoolExecutor(2) as clients:
        address = f"{base}/worlds/planet/tiles/WebMercatorQuad/12/{{}}/1500.png"
        held = [clients.submit(httpx.get, address.format(1), timeout=60)]
        # Else the second could find the first still in the queue, and be refused.
        eventually(lambda: httpx.get(f"{base}/activity").json()["running"])
        held.append(clients.submit(httpx.get, address.format(2), timeout=60))
        eventually(lambda: httpx.get(f"{base}/activity").json()["waiting_tiles"] == 1)
        assert httpx.get(address.format(3)).status_code == 503
        large = httpx.post(f"{base}/worlds", content=b" " * (1 << 21), headers={"Content-Type": "application/json"})
        assert large.status_code == 413
        samples = scraped(base)
        engine.gate.set()
        assert [answer.result().status_code for answer in held] == [200, 200]
    assert value(samples, "earthgen_queue_length", queue="tiles") == 1
    assert value(samples, "earthgen_windows_running") == 1
    assert value(samples, "earthgen_refused_requests_total", status="503") == 1
    assert value(samples, "earthgen_refused_requests_total", status="413") == 1


def test_a_generated_tile_says_how_long_it_waited_and_was_made() -> None:
    with running(FakeEngine(delay=0.05)) as base:
        answer = httpx.get(base + TILE)
        parts = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
        again = httpx.get(base + TILE)
    assert set(parts) == {"tile", "queue", "make", "total"}
    assert float(parts["make"]) >= 50
    assert float(parts["total"]) >= float(parts["tile"]) >= float(parts["make"])
    assert set(part.strip().split(";")[0] for part in again.headers["server-timing"].split(",")) == {"tile", "total"}


@pytest.mark.parametrize("path", ["/healthz", TILE, "/", "/static/js/main.js", "/nowhere", "/worlds/earth?seed=x"])
def test_every_answer_carries_the_clients_request_id_or_one_of_its_own(path: str) -> None:
    with running() as base:
        assert httpx.get(base + path, headers={"X-Request-ID": "trace-1.a_b"}).headers["x-request-id"] == "trace-1.a_b"
        own = {httpx.get(base + path).headers["x-request-id"] for _ in range(2)}
    assert len(own) == 2 and all(len(each) == 32 for each in own)


@pytest.mark.parametrize("proposed", ["", "a b", "x" * 65, 'quote"', "line\nbreak", "ä", "<b>"])
def test_ids_that_could_harm_a_log_are_replaced(proposed: str) -> None:
    assert accepted_id(proposed) != proposed


def test_an_unforeseen_failure_names_its_request_id() -> None:
    class Broken(FakeEngine):
        def pixels(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("broken on purpose")

    with running(Broken()) as base:
        answer = httpx.get(base + TILE, headers={"X-Request-ID": "unlucky"})
        samples = scraped(base)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "unlucky")
    assert value(samples, "earthgen_request_seconds_count", status="500") == 1


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("tileserver.test").makeRecord(
        "tileserver.test", logging.INFO, "file", 1, message, args, None, extra=extra or None
    )


def test_json_lines_carry_id_and_fields() -> None:
    token = request_id.set("abc")
    try:
        line = JsonFormatter().format(record("made %d\n", 3, fields={"status": 200}))
    finally:
        request_id.reset(token)
    assert "\n" not in line
    entry = json.loads(line)
    assert entry.items() >= {"level": "info", "message": "made 3\n", "request_id": "abc", "status": 200}.items()


def test_a_client_cannot_begin_a_line_of_the_text_log() -> None:
    line = TextFormatter("%(levelprefix)s %(message)s", use_colors=False).format(
        record("asked for %s", "a\nINFO: b\x1b")
    )
    assert line.endswith("asked for a\\nINFO: b\\x1b")


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_servers_log_names_requests(log_format: str, tmp_path: Path) -> None:
    script = (
        "from tests.fake_engine import FakeEngine; from tileserver import Settings, serve;"
        "serve(Settings(), port=0, engine_factory=lambda _: FakeEngine())"
    )
    log = tmp_path / "log"
    environment = os.environ | {"EARTHGEN_LOG_FORMAT": log_format, "EARTHGEN_ACCESS_LOG": "true"}
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=file, text=True
        )
        assert server.stdout is not None
        base = server.stdout.readline().split()[-1].rstrip("/")
        try:
            httpx.get(base + TILE, headers={"X-Request-ID": "look-for-me"}, timeout=60)
            httpx.get(base + "/a%0Ab?prompt=private", timeout=60)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=30)
    lines = log.read_text().splitlines()
    assert not any("private" in line for line in lines)
    if log_format == "text":
        assert sum("look-for-me" in line and "WebMercatorQuad" in line for line in lines) == 1
        assert any("GET /a%0Ab 404" in line for line in lines)
        return
    entries = [json.loads(line) for line in lines]
    (entry,) = (entry for entry in entries if entry.get("request_id") == "look-for-me")
    assert entry["logger"] == "tileserver.access"
    assert entry["path"] == TILE.split("?")[0]
    assert (entry["status"], entry["cache"]) == (200, "MISS")


def test_ready_means_that_worlds_can_be_read(tmp_path: Path) -> None:
    with running(cache=tmp_path) as base:
        assert httpx.get(f"{base}/readyz").json()["status"] == "ready"
        (tmp_path / "worlds").write_text("a file where a folder should be")
        answer = httpx.get(f"{base}/readyz")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the registered worlds cannot be read"
        assert int(answer.headers["retry-after"]) > 0
        assert "Not ready: the registered worlds cannot be read" in httpx.get(f"{base}/status").text
        assert httpx.get(f"{base}/healthz").status_code == 200


def test_ready_means_that_the_engine_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    app = create_app(Settings(), lambda _: engine)
    with serve(app) as base, ThreadPoolExecutor(1) as clients:
        held = clients.submit(httpx.get, base + TILE, timeout=60)
        eventually(lambda: httpx.get(f"{base}/activity").json()["running"])
        # Idle before, however long: what is at work now has only just begun.
        service: Service = app.state.service
        service._last_seen = (service._last_seen[0], time.monotonic() - 2 * STUCK_S)
        assert httpx.get(f"{base}/readyz").status_code == 200
        service._last_seen = (service._last_seen[0], time.monotonic() - 2 * STUCK_S)
        answer = httpx.get(f"{base}/readyz")
        assert answer.status_code == 503 and "at work for" in answer.json()["detail"]
        engine.gate.set()
        assert held.result().status_code == 200
        assert httpx.get(f"{base}/readyz").status_code == 200


def test_the_status_page_shows_what_was_answered_and_needs_no_script() -> None:
    with running() as base:
        httpx.get(base + TILE)
        page = httpx.get(f"{base}/status")
    assert page.headers["content-type"].startswith("text/html")
    assert "script" not in page.text and "script" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert "<tr><td>9<td>miss<td>1<td>" in page.text and "Ready." in page.text


@pytest.mark.browser
def test_the_status_page_is_shown_without_complaints(running_browser: Any) -> None:
    with running() as base:
        page = running_browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{base}/status")
        # Its own style was let through by the policy.
        assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
        page.close()
    assert complaints == []


def test_whichever_worker_is_asked_answers_for_all(tmp_path: Path) -> None:
    """Two processes count into one folder; the second is asked when the first has died."""
    script = """
import sys
from tests.fake_engine import FakeEngine
from tileserver.metrics import Metrics
from tileserver.service import Service
from tileserver.settings import Settings
service = Service(Settings(), FakeEngine())
scope = {"method": "GET", "path": "/healthz", "path_params": {"z": "3"}}
service.metrics.answered(scope, 503, "HIT", 0.25)
service.engine.generated = 5
service.metrics.refresh(service)
print(service.metrics.exposition().decode() if sys.argv[1:] else "")
"""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for arguments in ([], ["tell"])
    ]
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(outputs[-1].lstrip())
        for sample in family.samples
    }
    assert value(samples, "earthgen_windows_computed_total") == 10
    assert value(samples, "earthgen_request_seconds_count", zoom="3") == 2
    # Of the living one only.
    assert len(list(tmp_path.glob("gauge_livesum_*.db"))) == 1


def test_two_apps_in_a_process_do_not_mix_their_counts() -> None:
    one, other = Metrics(), Metrics()
    one.answered({"method": "GET", "path": "/healthz", "path_params": {}}, 200, "", 0.1)
    assert b'route="none"' in one.exposition()
    assert b'route="none"' not in other.exposition()
