"""Compiled loops that draw the land: the picture of the plain version, the same bits for any crop and any threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen import countryside as drawing
from earthgen import land_kernels
from earthgen.countryside import compile_drawing, countryside, painted, tilled
from earthgen.crowns import crowns
from earthgen.drawn import AROUND, SHOWN, Drawn
from earthgen.parcels import Parcels, Settlement, mixed, parcels, share_of, smooth_step
from earthgen.pyramid import Box, point_pixel
from tests.plain_land import plain_countryside, plain_crowns, plain_painted, plain_parcels
from tests.test_countryside import LEVELS, SEEDS, arrays, boxes

VILLAGES_ALONE = ("street", "roof", "shadow", "roof_tone", "roof_hue", "garden")


def parents_of(box: Box, seed: int) -> np.ndarray:
    """Busy ground: fields and woods by turns."""
    chance = np.random.default_rng(seed)
    shape = box.height // 4 + 2 * SHOWN, box.width // 4 + 2 * SHOWN, 1
    colours = np.where(chance.random(shape) < 0.5, (110, 115, 75), (70, 88, 55))
    return (colours + chance.integers(-8, 9, (*shape[:2], 3))).astype(np.uint8)


def busy_box(zoom: int) -> Box:
    """128 x 128 pixels in a village of seed 7."""
    row, column = point_pixel(2.0, 48.5, 14)
    wide = Box(14, row // 4 * 4 - 1024, column // 4 * 4 - 1024, 2048, 2048)
    plan = parcels(7, wide)
    rows, columns = np.nonzero(plan.village * plan.farmed == 1)
    factor = 2.0 ** (zoom - 14)
    middle = int((wide.row + rows[0]) * factor), int((wide.column + columns[0]) * factor)
    return Box(zoom, middle[0] // 4 * 4 - 64, middle[1] // 4 * 4 - 64, 128, 128)


# --- The picture of the plain version ---


@given(st.integers(0, 2**32 - 1), st.integers(-(2**40), 2**40))
def test_numbers_by_address_are_the_same(key: int, other: int) -> None:
    keys, others = np.array([key], dtype=np.uint32), np.array([other])
    assert land_kernels._mixed(keys[0], other) == mixed(keys, others)[0]
    assert land_kernels._share(keys[0], other % 128) == share_of(keys, other % 128)[0]


@given(st.floats(-100, 100, width=32))
def test_smooth_steps_are_the_same(value: float) -> None:
    wanted = smooth_step(np.array([value], dtype=np.float32), -20, 30)[0]
    assert land_kernels._smooth(value, -20, 30) == pytest.approx(wanted, abs=1e-6)


def assert_same_plan(plan: Parcels, plain: Parcels) -> None:
    """To 1e-3, but for one pixel of 1024: what lies on a line may fall to either side of it, by float32's last bit."""
    for name, values in arrays(plan).items():
        assert values.dtype == np.float32 and values.flags.c_contiguous
        same = abs(values - arrays(plain)[name]) < 1e-3
        if name in VILLAGES_ALONE:
            assert not values[plan.village == 0].any(), name
            same |= plan.village == 0
        assert same.mean() >= 1 - 1 / 1024, name


@settings(max_examples=40, deadline=None)
@given(SEEDS, boxes(), st.none() | st.builds(Settlement, st.floats(0, 1), st.floats(0, 1)))
def test_the_plan_is_that_of_the_plain_version(seed: int, box: Box, settlement: Settlement | None) -> None:
    # Wide enough that one edge of a field that rounding moves is few of the pixels.
    wide = Box(box.zoom, box.row, box.column, 256, 256)
    assert_same_plan(parcels(seed, wide, settlement), plain_parcels(seed, wide, settlement))


@pytest.mark.parametrize("zoom", [12, 14, 16, 18])
def test_a_village_is_that_of_the_plain_version(zoom: int) -> None:
    box = busy_box(zoom)
    plan = parcels(7, box)
    assert plan.village.any()
    assert_same_plan(plan, plain_parcels(7, box))
    np.testing.assert_allclose(painted(plan), plain_painted(plan), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(SEEDS, boxes().filter(lambda box: box.zoom >= 16))
def test_trees_are_those_of_the_plain_version(seed: int, box: Box) -> None:
    trees = crowns(seed, box)
    assert trees is not None
    assert (abs(trees - plain_crowns(seed, box)) < 1e-3).mean() >= 1 - 1 / 1024


@pytest.mark.parametrize("zoom", [12, 14, 16, 18])
def test_what_is_added_is_that_of_the_plain_version(zoom: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a hundredth of a grey level, but for one value of 1024; rivers and towns, which have no loops, left out."""
    monkeypatch.setattr(drawing, "landmarks", lambda seed, box: None)
    box = busy_box(zoom)
    parents, near = parents_of(box, zoom), slice(SHOWN - AROUND, AROUND - SHOWN)
    drawn, plain = countryside(7, box, parents), plain_countryside(7, box, parents[near, near])
    assert isinstance(drawn, Drawn) and isinstance(plain, np.ndarray)
    assert plain.std() * 127.5 > 1
    assert (abs(drawn.detail - plain) * 127.5 < 0.01).mean() >= 1 - 1 / 1024


# --- The same bits, however it is called ---


@settings(max_examples=25, deadline=None)
@given(SEEDS, boxes(), st.integers(0, 47), st.integers(0, 47))
def test_a_crop_has_the_bits_of_the_whole(seed: int, box: Box, top: int, left: int) -> None:
    part = Box(box.zoom, box.row + top, box.column + left, 16, 16)
    crop = (slice(top, top + 16), slice(left, left + 16))
    for name, values in arrays(parcels(seed, part)).items():
        np.testing.assert_array_equal(values, arrays(parcels(seed, box))[name][crop], err_msg=name)
    trees, all_trees = crowns(seed, part), crowns(seed, box)
    assert (trees is None) == (all_trees is None)
    if trees is not None and all_trees is not None:
        np.testing.assert_array_equal(trees, all_trees[crop])


@settings(max_examples=15, deadline=None)
@given(SEEDS, LEVELS, st.integers(0, 8), st.integers(0, 8))
def test_a_window_adds_the_bits_of_a_larger_one(seed: int, zoom: int, down: int, right: int) -> None:
    box = Box(zoom, 5_000 * 4, 7_000 * 4, 64, 64)
    part = Box(zoom, box.row + 4 * down, box.column + 4 * right, 32, 32)
    parents = parents_of(box, seed)
    whole = countryside(seed, box, parents)
    cropped = countryside(seed, part, parents[down : down + 8 + 2 * SHOWN, right : right + 8 + 2 * SHOWN])
    assert whole is not None and cropped is not None
    inside = whole.detail[:, 4 * down : 4 * down + 32, 4 * right : 4 * right + 32]
    np.testing.assert_array_equal(cropped.detail, inside, err_msg=str(part))


def test_threads_at_once_get_the_same_bytes() -> None:
    box = busy_box(18)
    parts = [Box(18, box.row + 32 * i, box.column + 32 * j, 64, 64) for i in range(4) for j in range(4)]

    def drawn(part: Box) -> bytes:
        drawn = countryside(7, part, parents_of(part, 1))
        assert drawn is not None
        return drawn.detail.tobytes()

    alone = [drawn(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, parts * 3)) == alone * 3


def test_what_is_compiled_at_the_start_serves_every_window() -> None:
    """Numba compiles anew for arrays of another layout, and for those that may not be written."""
    compile_drawing()
    loops: Any = land_kernels.LOOPS
    before = [list(loop.signatures) for loop in loops]
    assert all(len(kinds) == 1 for kinds in before)
    for zoom in (12, 18):
        box = busy_box(zoom)
        parents = parents_of(box, 1)
        wide = np.pad(parents, ((3, 3), (3, 3), (0, 0)))[3:-3, 3:-3]
        wide.flags.writeable = False
        drawn, same = countryside(7, box, parents), countryside(7, box, wide)
        assert drawn is not None and same is not None
        np.testing.assert_array_equal(drawn.detail, same.detail)
        numbers: list[Any] = [np.int32(value) for value in (box.row, box.column, box.height, box.width)]
        here = Box(zoom, *numbers)
        frozen = parcels(7, here, Settlement(1, 1))
        for values in arrays(frozen).values():
            values.flags.writeable = False
        painted(frozen)
        tilled(np.zeros((4, 4, 3), dtype=np.float32)[::2, ::2], frozen.lean[:4:2, :4:2])
    assert [list(loop.signatures) for loop in loops] == before


# --- Keeping what was compiled ---


def test_without_a_place_to_keep_it_a_loop_is_compiled_all_the_same() -> None:
    space: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x\n", space)  # No file, so numba has nowhere to keep it.
    loop: Any = land_kernels.loop(space["double"])
    assert loop(4) == 8
    assert loop.nopython_signatures and loop.stats.cache_path is None


def test_a_full_disk_does_not_stop_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba raises what it gets on writing, after it has compiled; then the next loop is still to be compiled."""
    calls = 0

    def full(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawing, "countryside", full)
    compile_drawing()
    assert calls == 4


SCRIPT = """
import hashlib, sys
import numpy as np
from earthgen.countryside import compile_drawing, countryside
from earthgen.pyramid import Box
compile_drawing()
drawn = countryside(7, Box(18, 20_000_000, 30_000_000, 64, 64), np.full((28, 28, 3), (110, 115, 75), dtype=np.uint8))
print(hashlib.sha256(drawn.detail.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_processes_that_compile_at_once_draw_the_same(tmp_path: Path) -> None:
    """Two fill an empty cache together, and a third finds it there."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT]
    root = Path(__file__).parents[1]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root) for _ in range(2)]
    digests = [process.communicate()[0] for process in both]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    digests.append(subprocess.run(command, stdout=subprocess.PIPE, env=environment, cwd=root, check=True).stdout)
    box, parents = Box(18, 20_000_000, 30_000_000, 64, 64), np.full((28, 28, 3), (110, 115, 75), dtype=np.uint8)
    drawn = countryside(7, box, parents)
    assert drawn is not None
    assert {digest.decode().strip() for digest in digests} == {hashlib.sha256(drawn.detail.tobytes()).hexdigest()}
    assert len(kept) >= len(land_kernels.LOOPS)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == kept
