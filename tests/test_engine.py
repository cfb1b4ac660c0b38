"""The engine's promises: pixels are a function of the address, children average to parents, work is shared."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import earthgen.engine
from earthgen.engine import Engine, region_box
from earthgen.errors import AddressError, RequestCancelledError, RequestTooLargeError, WeightsError, WorldError
from earthgen.prompting import open_prompt_root
from earthgen.pyramid import MAX_ZOOM, ROOT_ZOOM, TILE_SIZE, Box, Window, box_bounds, windows_of, world_size
from earthgen.world import STANDARD, Edit, World
from tests.tiny import no_prompts, open_tiny, ripple_prompts, ripple_root, save_tiny_weights

WORLD = World(seed=7)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module", autouse=True)
def ripples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", ripple_root)
        patch.setattr(earthgen.engine, "open_prompt_root", ripple_prompts)
        yield


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[Engine]:
    with open_tiny(weights) as engine:
        yield engine


@st.composite
def boxes(draw: st.DrawFn, largest: int = 140) -> Box:
    zoom = draw(st.integers(0, 9))
    size = world_size(zoom)
    height, width = draw(st.integers(1, min(largest, size))), draw(st.integers(1, min(largest, size)))
    return Box(zoom, draw(st.integers(0, size - height)), draw(st.integers(-size, size)), height, width)


@settings(max_examples=25)
@given(box=boxes(), data=st.data())
def test_any_crop_is_the_crop_of_the_whole(engine: Engine, box: Box, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, box.height - 1)), data.draw(st.integers(0, box.width - 1))
    inner = Box(box.zoom, box.row + top, box.column + left, box.height - top, box.width - left)
    assert np.array_equal(engine.pixels(WORLD, box)[top:, left:], engine.pixels(WORLD, inner))


@settings(max_examples=12)
@given(box=boxes())
def test_columns_wrap_at_180_degrees(engine: Engine, box: Box) -> None:
    around = Box(box.zoom, box.row, box.column + world_size(box.zoom), box.height, box.width)
    assert np.array_equal(engine.pixels(WORLD, box), engine.pixels(WORLD, around))


def test_the_world_has_no_edge_at_180_degrees(engine: Engine) -> None:
    size = world_size(8)
    strip = engine.pixels(WORLD, Box(8, size // 2, size - 256, 512, 512)).astype(float)
    steps = np.abs(np.diff(strip, axis=1)).mean(axis=(0, 2))
    # Every 128 columns a window ends; the one at 180 degrees is in the middle and must not stand out.
    assert steps[255] < 1.3 * steps[127::128].max()
    assert steps[255] < 1.3 * np.quantile(steps, 0.99)


def children_mean(pixels: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.float64]:
    height, width, channels = pixels.shape
    mean: npt.NDArray[np.float64] = pixels.reshape(height // factor, factor, width // factor, factor, channels).mean(
        axis=(1, 3)
    )
    return mean


@pytest.mark.parametrize(("latitude_share", "longitude_share"), [(0.3, 0.1), (0.52, 0.999), (0.0, 0.5), (0.97, 0.37)])
def test_a_chain_from_zoom_4_to_18_averages_to_each_parent(
    engine: Engine, latitude_share: float, longitude_share: float
) -> None:
    for zoom in range(MAX_ZOOM, 0, -1):
        size = world_size(zoom - 1)
        row = min(size - 16, int(latitude_share * size))
        column = int(longitude_share * size)
        parents = engine.pixels(WORLD, Box(zoom - 1, row, column, 16, 16)).astype(float)
        children = engine.pixels(WORLD, Box(zoom, 2 * row, 2 * column, 32, 32))
        assert np.abs(children_mean(children, 2) - parents).max() <= 1.0, f"zoom {zoom}"
        if zoom > ROOT_ZOOM and zoom % 2 == 0:
            size = world_size(zoom - 2)
            row, column = min(size - 8, int(latitude_share * size)), int(longitude_share * size)
            exact = engine.pixels(WORLD, Box(zoom - 2, row, column, 8, 8)).astype(float)
            whole = engine.pixels(WORLD, Box(zoom, 4 * row, 4 * column, 32, 32))
            assert np.array_equal(children_mean(whole, 4), exact), f"zoom {zoom}"


ADDRESSES = [
    (18, 137_000, 91_000),
    (18, 137_001, 91_000),
    (11, 2047, 700),
    (6, 0, 33),
    (9, 17, 3),
    (5, 30, 0),
    (2, 1, 1),
]


def digests(engine: Engine, order: list[tuple[int, int, int]]) -> dict[tuple[int, int, int], str]:
    return {(z, x, y): hashlib.sha256(engine.tile(WORLD, z, x, y).tobytes()).hexdigest() for z, x, y in order}


def digests_in_new_process(
    weights: Path, cache: Path | None, order: list[tuple[int, int, int]]
) -> dict[tuple[int, int, int], str]:
    setattr(earthgen.engine, "open_root", ripple_root)  # noqa: B010
    with open_tiny(weights, cache, threads=3) as engine:
        return digests(engine, order)


def test_order_threads_processes_cache_and_restart_do_not_change_a_byte(weights: Path, tmp_path: Path) -> None:
    with open_tiny(weights, threads=1) as engine:
        expected = digests(engine, ADDRESSES)
    shuffled = ADDRESSES.copy()
    random.Random(1).shuffle(shuffled)
    with open_tiny(weights, tmp_path, threads=4, memory_bytes=1 << 16) as engine:
        assert digests(engine, shuffled) == expected
        assert digests(engine, ADDRESSES) == expected
        assert engine.counts.disk_hits > 0
    context = multiprocessing.get_context("spawn")
    # One other process: to begin it takes longer than both jobs.
    with context.Pool(1) as pool:
        jobs = [
            pool.apply_async(digests_in_new_process, (weights, cache, order))
            for cache, order in ((None, shuffled), (tmp_path, ADDRESSES))
        ]
        assert [job.get(600) for job in jobs] == [expected, expected]
    with open_tiny(weights, tmp_path) as engine:
        assert digests(engine, ADDRESSES) == expected
        assert engine.counts.computed == 0


def test_a_tile_is_its_pixels_and_512_is_the_next_zoom(engine: Engine) -> None:
    assert np.array_equal(engine.tile(WORLD, 7, 3, 40), engine.pixels(WORLD, Box(7, 40 * 256, 3 * 256, 256, 256)))
    double = engine.tile(WORLD, 7, 3, 40, size=512)
    quarters = [[engine.tile(WORLD, 8, 6 + dx, 80 + dy) for dx in (0, 1)] for dy in (0, 1)]
    assert np.array_equal(double, np.concatenate([np.concatenate(row, axis=1) for row in quarters], axis=0))


def test_seeds_make_other_pixels(engine: Engine) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", lambda world: ripple_root(World(seed=0)))
        one, other = (engine.tile(World(seed=seed), 8, 5, 90) for seed in (101, 102))
    assert np.abs(one.astype(int) - other).mean() > 1
    assert np.array_equal(children_mean(one, 16), children_mean(other, 16)), "same root, hence the same means at z4"


def test_parallel_requests_compute_each_window_once(weights: Path) -> None:
    with open_tiny(weights, threads=2) as engine:
        barrier = threading.Barrier(64)

        def request(_: int) -> bytes:
            barrier.wait()
            return engine.tile(WORLD, 12, 2000, 1500).tobytes()

        with ThreadPoolExecutor(64) as clients:
            answers = set(clients.map(request, range(64)))
        assert len(answers) == 1
        with open_tiny(weights) as alone:
            alone.tile(WORLD, 12, 2000, 1500)
            assert engine.counts.computed == alone.counts.computed


def test_region_is_georeferenced_pixels(engine: Engine) -> None:
    bounds = box_bounds(Box(9, 40_000, 50_000, 70, 90))
    region = engine.region(WORLD, bounds, zoom=9)
    assert region.box == Box(9, 40_000, 50_000, 70, 90)
    assert np.array_equal(region.pixels, engine.pixels(WORLD, region.box))
    assert region.crs.to_epsg() == 3857
    left, top = region.transform * (0, 0)
    x, y = region.transform * (90, 70)
    gsd = 2 * np.pi * 6378137.0 / world_size(9)
    assert (x - left, top - y) == pytest.approx((90 * gsd, 70 * gsd))


def test_point_is_the_pixel_at_the_place(engine: Engine) -> None:
    west, south, east, north = box_bounds(Box(10, 100_001, 5_000, 1, 1))
    expected = engine.pixels(WORLD, Box(10, 100_001, 5_000, 1, 1))[0, 0]
    assert engine.point(WORLD, (west + east) / 2, (south + north) / 2, zoom=10) == tuple(expected)


def test_is_ready_tells_whether_anything_is_left_to_generate(weights: Path) -> None:
    box = Box(9, 1000, 1000, 100, 100)
    with open_tiny(weights) as engine:
        assert not engine.is_ready(WORLD, box)
        engine.pixels(WORLD, box)
        assert engine.is_ready(WORLD, box)
        assert engine.is_ready(WORLD, Box(3, 0, 0, 10, 10))
        assert not engine.is_ready(World(seed=8), Box(3, 0, 0, 10, 10)), "another root, not made yet"


def test_activity_counts_windows(weights: Path) -> None:
    with open_tiny(weights) as engine:
        assert engine.activity().done == 0
        engine.tile(WORLD, 6, 20, 20)
        activity = engine.activity()
        assert activity.done == len(list(windows_of(Box(6, 20 * 256, 20 * 256, 256, 256))))
        assert activity.running == ()
        assert activity.queued == 0
        assert activity.seconds_per_window > 0


def test_withdrawn_work_is_dropped_from_the_queue(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_tiny(weights, threads=1) as engine:
        begun, go_on, gone = threading.Event(), threading.Event(), threading.Event()
        compute = engine._kits[STANDARD].step.window

        def slow(seed: int, window: Window, parents: npt.NDArray[np.uint8], *told: Any) -> npt.NDArray[np.uint8]:
            begun.set()
            go_on.wait(30)
            return compute(seed, window, parents, *told)

        monkeypatch.setattr(engine._kits[STANDARD].step, "window", slow)
        with ThreadPoolExecutor(2) as clients:
            kept = clients.submit(engine.tile, WORLD, 6, 1, 20)
            assert begun.wait(30)
            left = clients.submit(engine.tile, WORLD, 6, 50, 20, cancelled=gone.is_set)
            while engine.activity().queued < 7:
                pass
            gone.set()
            with pytest.raises(RequestCancelledError):
                left.result(30)
            assert engine.activity().queued == 3
            go_on.set()
            kept.result(60)
        assert engine.activity().done == 4
        assert engine.activity().queued == 0


def test_a_failed_window_fails_its_request_and_not_the_engine(weights: Path) -> None:
    with open_tiny(weights) as engine:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine._kits[STANDARD].step, "window", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                engine.tile(WORLD, 6, 1, 20)
            # Its other windows may still be failing; who asks now would share that.
            while engine.activity().running or engine.activity().queued:
                time.sleep(0.01)
        assert engine.tile(WORLD, 6, 1, 20).shape == (TILE_SIZE, TILE_SIZE, 3)


@pytest.mark.parametrize(
    ("box", "error", "words"),
    [
        (Box(19, 0, 0, 1, 1), AddressError, "0..18"),
        (Box(-1, 0, 0, 1, 1), AddressError, "0..18"),
        (Box(4, -1, 0, 2, 2), AddressError, "4096"),
        (Box(4, 4095, 0, 2, 2), AddressError, "4096"),
        (Box(4, 0, 0, 0, 2), AddressError, "empty"),
        (Box(4, 0, 0, 1, 4097), AddressError, "4096"),
        (Box(18, 0, 0, 8192, 8193), RequestTooLargeError, str(1 << 26)),
    ],
)
def test_wrong_boxes_are_refused(engine: Engine, box: Box, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace(".", r"\.")):
        engine.pixels(WORLD, box)


def test_worlds_that_the_weights_cannot_make_are_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earthgen.engine, "open_prompt_root", no_prompts)
    triangle = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    with open_tiny(weights) as engine:
        for world, words in (
            (World(prompt="a harbour"), "know no text: prompt must be empty"),
            (World(negative="blurry"), "know no text: negative must be empty"),
            (World("prompt", 0, "a harbour", gsd=10), "no weights for prompts"),
            (World(edits=(Edit(triangle, "a lake"),)), "no weights for prompts"),
        ):
            with pytest.raises(WorldError, match=words):
                engine.tile(world, 14, 0, 0)


def test_prompt_weights_that_were_named_must_be_there(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earthgen.engine, "open_prompt_root", open_prompt_root)
    with pytest.raises(WeightsError, match=r"config\.json"):
        Engine.open(weights, device="cpu", prompt_weights=tmp_path)


def test_tile_sizes(engine: Engine) -> None:
    with pytest.raises(AddressError, match="256 and 512"):
        engine.tile(WORLD, 3, 0, 0, size=300)
    with pytest.raises(AddressError, match="end at 18"):
        engine.tile(WORLD, 18, 0, 0, size=512)


def test_region_wants_one_resolution() -> None:
    with pytest.raises(AddressError, match="exactly one"):
        region_box((0, 0, 1, 1))
    with pytest.raises(AddressError, match="exactly one"):
        region_box((0, 0, 1, 1), zoom=4, gsd=10.0)


def test_a_closed_engine_refuses(weights: Path) -> None:
    engine = open_tiny(weights)
    engine.close()
    with pytest.raises(RequestCancelledError):
        engine.tile(WORLD, 6, 1, 1)
