"""The service over real sockets: load, disconnects, GDAL, several processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
import rasterio
import uvicorn

from earthgen.pyramid import Box
from earthgen.world import World
from tests.fake_engine import FakeEngine, colours
from tileserver import Settings, create_app
from tileserver.reader import WorldEngine
from tileserver.serve import AddressInUseError, listen, serve

PLANET = World(root="planet", seed=7)


@contextlib.contextmanager
def running(engine: WorldEngine, **settings: Any) -> Iterator[str]:
    """A server in a thread; yields its address. A gated engine is let go before the server stops."""
    app = create_app(Settings(**settings), lambda _: engine)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            if isinstance(engine, FakeEngine):
                engine.gate.set()
            server.should_exit = True
            thread.join()


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition that must come true; generous, because machines can be busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def tile(base: str, x: int, query: str = "seed=7") -> str:
    return f"{base}/worlds/planet/tiles/WebMercatorQuad/12/{x}/1500.png?{query}"


def waiting(base: str, what: str = "tiles") -> int:
    count: int = httpx.get(f"{base}/activity", timeout=60).json()[f"waiting_{what}"]
    return count


def test_64_clients_of_one_cold_tile_cause_one_generation_and_get_equal_bytes() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine) as base, ThreadPoolExecutor(64) as clients:
        answers = [clients.submit(httpx.get, tile(base, 5), timeout=60) for _ in range(64)]
        eventually(lambda: engine.calls == 1)
        engine.gate.set()
        results = [answer.result() for answer in answers]
        assert {result.status_code for result in results} == {200}
        assert len({result.content for result in results}) == 1
        assert engine.generated == 1
        assert {result.headers["x-cache"] for result in results} <= {"MISS", "DEDUP", "HIT"}
        assert sum(result.headers["x-cache"] == "MISS" for result in results) == 1


def test_overload_is_refused_at_once_while_health_and_ready_tiles_are_answered() -> None:
    engine = FakeEngine()
    with running(engine, tile_threads=2, tile_queue=4) as base, ThreadPoolExecutor(8) as clients:
        assert httpx.get(tile(base, 0)).status_code == 200
        engine.gate.clear()
        held = [clients.submit(httpx.get, tile(base, x), timeout=60) for x in (1, 2)]
        eventually(lambda: engine.calls == 3)
        held += [clients.submit(httpx.get, tile(base, x), timeout=60) for x in (3, 4, 5, 6)]
        eventually(lambda: waiting(base) == 4)
        calls = engine.calls
        refused = httpx.get(tile(base, 7))
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["cache-control"] == "no-store"
        assert "4" in refused.json()["detail"]
        assert engine.calls == calls
        assert httpx.get(f"{base}/healthz").json() == {"status": "ok"}
        assert httpx.get(tile(base, 0)).headers["x-cache"] == "HIT"  # Finished tiles do not wait behind cold ones.
        activity = httpx.get(f"{base}/activity").json()
        assert len(activity["running"]) == 2
        assert activity["running"][0].keys() == {"zoom", "row", "column"}
        engine.gate.set()
        assert [answer.result().status_code for answer in held] == [200] * 6


def test_areas_have_a_bounded_queue_of_their_own() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, region_threads=1, region_queue=1) as base, ThreadPoolExecutor(2) as clients:
        held = [clients.submit(httpx.get, f"{base}/worlds/planet/point/7,46", timeout=60)]
        eventually(lambda: engine.calls == 1)
        held.append(clients.submit(httpx.get, f"{base}/worlds/planet/point/8,46", timeout=60))
        eventually(lambda: waiting(base, "areas") == 1)
        answer = httpx.get(f"{base}/worlds/planet/bbox/7,46,8,47.png")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert httpx.get(f"{base}/worlds/planet/info").status_code == 200
        engine.gate.set()
        assert [answer.result().status_code for answer in held] == [200, 200]


def abandon(address: str) -> http.client.HTTPConnection:
    """Send a request and return its open connection, to be closed before the answer."""
    url = httpx.URL(address)
    connection = http.client.HTTPConnection(url.host, url.port)
    connection.request("GET", url.raw_path.decode())
    return connection


def test_a_client_that_leaves_gives_its_place_in_the_queue_up() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, tile_threads=1, tile_queue=2) as base:
        first = abandon(tile(base, 1))
        eventually(lambda: engine.calls == 1)
        queued = [abandon(tile(base, x)) for x in (2, 3)]
        eventually(lambda: waiting(base) == 2)
        for connection in queued:
            connection.close()
        eventually(lambda: waiting(base) == 0)
        first.close()
        eventually(lambda: engine.cancelled == 1)
        assert engine.calls == 1  # The tiles nobody waited for were never begun.
        engine.gate.set()
        assert httpx.get(tile(base, 4)).status_code == 200


def test_an_area_whose_client_left_is_cancelled() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, region_threads=1, region_queue=1) as base:
        connection = abandon(f"{base}/worlds/planet/bbox/7,46,8,47.png")
        eventually(lambda: engine.calls == 1)
        connection.close()
        eventually(lambda: engine.cancelled == 1)
        engine.gate.set()
        assert httpx.get(f"{base}/worlds/planet/bbox/7,46,8,47.png", timeout=60).status_code == 200


def test_the_newest_tiles_come_first_and_the_oldest_are_not_forgotten() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, tile_threads=1) as base, ThreadPoolExecutor(8) as clients:
        answers = []
        for x in range(8):
            answers.append(clients.submit(httpx.get, tile(base, x), timeout=60))
            eventually(lambda: engine.calls == 1 and waiting(base) == len(answers) - 1)
        engine.gate.set()
        assert all(answer.result().status_code == 200 for answer in answers)
        order = [box.column // 256 for box in engine.order]
        # The first began at once; every fourth that is taken is the oldest waiting.
        assert order == [0, 7, 6, 1, 5, 4, 3, 2]


def test_stopping_answers_those_who_wait_and_closes_the_engine() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with ThreadPoolExecutor(2) as clients:
        with running(engine, tile_threads=1) as base:
            answers = [clients.submit(httpx.get, tile(base, x), timeout=60) for x in (1, 2)]
            eventually(lambda: engine.calls == 1)
        assert engine.closed
        assert all(answer.result().status_code in (200, 503) for answer in answers)


def test_gdal_reads_the_wmts(gdal_translate: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    with running(engine) as base:
        document = httpx.get(f"{base}/worlds/planet/WMTSCapabilities.xml?seed=7")
        layer = ElementTree.fromstring(document.text).find(
            ".//{http://www.opengis.net/wmts/1.0}Layer/{http://www.opengis.net/ows/1.1}Identifier"
        )
        assert layer is not None
        assert PLANET.id in str(layer.text)
        output = tmp_path / "wmts.tif"
        translate(
            gdal_translate,
            f"WMTS:{base}/worlds/planet/WMTSCapabilities.xml?seed=7,layer={layer.text}",
            output,
            *("-projwin", "779236", "5857453", "801496", "5835192", "-outsize", "292", "292"),
        )
        with rasterio.open(output) as dataset:
            assert dataset.crs.to_epsg() == 3857
            assert dataset.read().shape[1:] == (292, 292)
            assert dataset.read(1).std() > 10


def test_gdal_reads_an_xyz_description_pixel_for_pixel(gdal_translate: str, tmp_path: Path) -> None:
    description = tmp_path / "xyz.xml"
    output = tmp_path / "xyz.tif"
    box = Box(11, 183_000, 272_100, 300, 400)
    half = 20037508.342789244
    pixel = 2 * half / (256 << 11)
    window = [box.column * pixel - half, half - box.row * pixel]
    window += [window[0] + box.width * pixel, window[1] - box.height * pixel]
    with running(FakeEngine()) as base:
        # As docs/service.md shows it.
        description.write_text(
            f"""<GDAL_WMS>
              <Service name="TMS">
                <ServerUrl>{base}/worlds/planet/tiles/WebMercatorQuad/${{z}}/${{x}}/${{y}}.png?seed=7</ServerUrl>
              </Service>
              <DataWindow>
                <UpperLeftX>-20037508.34</UpperLeftX><UpperLeftY>20037508.34</UpperLeftY>
                <LowerRightX>20037508.34</LowerRightX><LowerRightY>-20037508.34</LowerRightY>
                <TileLevel>11</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>
                <YOrigin>top</YOrigin>
              </DataWindow>
              <Projection>EPSG:3857</Projection>
              <BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY><BandsCount>3</BandsCount>
            </GDAL_WMS>"""
        )
        translate(gdal_translate, str(description), output, "-projwin", *map(str, window))
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, -1), colours(PLANET, box))


def translate(program: str, source: str, output: Path, *options: str) -> None:
    environment = os.environ | {"no_proxy": "*", "GDAL_HTTP_PROXY": "", "GDAL_PAM_ENABLED": "NO"}
    done = subprocess.run(
        [program, "-q", *options, source, str(output)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUseError, match=rf"127.0.0.1 port {port}: .*--port"):
            serve(Settings(), port=port, engine_factory=lambda _: FakeEngine())


@pytest.mark.parametrize(("option", "value"), [("workers", 0), ("port", 70000)])
def test_serve_refuses_what_cannot_be(option: str, value: int) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ValueError, match=str(value)):
        serve(Settings(), engine_factory=lambda _: FakeEngine(), **options)


def test_a_server_process_announces_itself_and_stops_on_sigterm() -> None:
    program = (
        "from tests.fake_engine import FakeEngine; from tileserver import Settings, serve;"
        "serve(Settings(), port=0, engine_factory=lambda _: FakeEngine(),"
        " announce=lambda address: print(address, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{address}healthz").status_code == 200
            return False

        eventually(answers)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()
