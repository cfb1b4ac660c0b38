"""What the map will need next is made when nobody waits, and only then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import earthgen.engine
from earthgen.pyramid import MAX_ZOOM, Box, tile_box, world_size
from earthgen.world import World
from tests.browser import serve
from tests.fake_engine import FakeEngine
from tests.tiny import open_tiny, ripple_root, save_tiny_weights
from tileserver import Settings, create_app
from tileserver.warmup import MOST_TILES, View

PLANET = World(root="planet", seed=7)


def tile(x: int, y: int = 1500, z: int = 12) -> str:
    return f"/worlds/planet/tiles/WebMercatorQuad/{z}/{x}/{y}.png?seed=7"


@contextmanager
def running(engine: FakeEngine, **settings: Any) -> Iterator[httpx.Client]:
    with serve(create_app(Settings(**settings), lambda _: engine)) as base:
        with httpx.Client(base_url=base, timeout=60) as client:
            yield client
        engine.gate.set()


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_what_a_map_shows_next_is_there_when_it_asks() -> None:
    engine = FakeEngine()
    with running(engine, warm_up=True) as http:
        assert http.get(tile(100)).headers["x-cache"] == "MISS"
        beside, below = tile_box(12, 101, 1501), tile_box(13, 201, 3001)
        eventually(lambda: engine.is_ready(PLANET, beside) and engine.is_ready(PLANET, below))
        assert http.get(tile(101, 1501)).headers["x-cache"] == "HIT"
        assert http.get(tile(201, 3001, 13)).headers["x-cache"] == "HIT"
        assert engine.generated <= 3 * (1 + MOST_TILES)
        eventually(lambda: "earthgen_tiles_warmed_total 0.0" not in http.get("/metrics").text)


def test_nothing_is_made_ahead_unless_it_is_switched_on() -> None:
    engine = FakeEngine()
    with running(engine) as http:
        assert http.get(tile(100)).status_code == 200
        time.sleep(1.0)
        assert engine.generated == 1


def test_nothing_is_made_ahead_while_somebody_waits_and_it_stops_when_somebody_comes() -> None:
    engine = FakeEngine()
    with running(engine, warm_up=True, tile_threads=1) as http, ThreadPoolExecutor(4) as pool:
        engine.gate.clear()
        first = pool.submit(http.get, tile(100))
        eventually(lambda: engine.calls == 1)
        time.sleep(0.8)
        assert engine.calls == 1
        engine.gate.set()
        assert first.result().status_code == 200
        engine.gate.clear()
        # Now it works ahead, and is held where it is.
        eventually(lambda: len(engine.activity().running) == 1)
        calls = engine.calls
        wanted = pool.submit(http.get, tile(3000))
        # The request begins though there is one thread for tiles; what nobody asked for is given up.
        eventually(lambda: tile_box(12, 3000, 1500) in engine.order and engine.cancelled == 1)
        assert engine.calls == calls + 1
        engine.gate.set()
        assert wanted.result().status_code == 200


def test_a_server_that_works_ahead_stops_at_once() -> None:
    engine = FakeEngine()
    with serve(create_app(Settings(warm_up=True), lambda _: engine)) as base:
        assert httpx.get(base + tile(100), timeout=60).status_code == 200
        engine.gate.clear()
        eventually(lambda: len(engine.activity().running) == 1)
    # Nobody let it go on: it has given up what it was making.
    eventually(lambda: engine.closed)
    assert engine.cancelled == 1


@given(
    zoom=st.integers(0, MAX_ZOOM),
    columns=st.integers(1, 6),
    rows=st.integers(1, 5),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    large=st.booleans(),
)
def test_what_comes_next_exists_is_not_in_view_and_is_bounded(
    zoom: int, columns: int, rows: int, place: tuple[float, float], large: bool
) -> None:
    side = 512 if large else 256
    per_side = max(1, world_size(zoom) // side)
    top, left = (min(per_side - 1, int(share * per_side)) for share in place)
    tiles = {
        Box(zoom, row * side, (column % per_side) * side, side, side)
        for row in range(top, min(per_side, top + rows))
        for column in range(left, min(per_side, left + columns))
    }
    view = View(PLANET, deque(sorted(tiles, key=lambda box: (box.row, box.column))), 0.0)
    wanted = view.next_tiles()
    assert len(wanted) <= MOST_TILES
    for box in wanted:
        assert box not in tiles
        assert box.zoom in (zoom, zoom + 1) and box.zoom <= MAX_ZOOM
        assert 0 <= box.row < world_size(box.zoom) and 0 <= box.column < world_size(box.zoom)
        assert box.row % side == 0 == box.column % side
        assert box.height == box.width == side
    if zoom < MAX_ZOOM and world_size(zoom) >= side:
        # Of the next zoom it is what lies under the view, the middle first.
        assert any(box.zoom == zoom + 1 for box in wanted)


def test_what_lies_ahead_of_a_movement_comes_first() -> None:
    tiles = deque(tile_box(10, x, 500) for x in (500, 501, 502))
    east = View(PLANET, tiles, 0.0, heading=(0.0, 900.0)).next_tiles()[0]
    west = View(PLANET, tiles, 0.0, heading=(0.0, -900.0)).next_tiles()[0]
    assert (east.column // 256, west.column // 256) == (503, 499)


def test_the_engine_prepares_one_window_at_a_time_and_the_pixels_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)
    weights = save_tiny_weights(tmp_path)
    world, box = World(seed=7), tile_box(9, 200, 300)
    at_once: list[int] = []
    with open_tiny(weights, threads=3) as engine, open_tiny(weights, threads=3) as alone:
        make = engine._run

        def watched(*args: Any) -> Any:
            at_once.append(len(engine.activity().running) + 1)
            return make(*args)

        monkeypatch.setattr(engine, "_run", watched)
        engine.prepare(world, box)
        assert engine.is_ready(world, box)
        assert len(at_once) > 3 and max(at_once) == 1
        done = engine.activity().done
        assert (engine.pixels(world, box) == alone.pixels(world, box)).all()
        assert engine.activity().done == done
