"""Rivers and towns by address: the same at every crop and around the world, at each zoom the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen.bands import CODES
from earthgen.countryside import cover_of, ground_of
from earthgen.drawn import AROUND, SHOWN
from earthgen.landmarks import FIRST_ZOOM, landmarks
from earthgen.pyramid import SCALE, Box, world_size

SEEDS = st.integers(0, 2**63 - 1)
TOWN = (8, 22_868, 36_657)
"""Zoom, row and column of a town of seed 3."""


def town_box(zoom: int, side: int = 128) -> Box:
    """Pixels around the town's middle."""
    _, row, column = TOWN
    scale = 2.0 ** (zoom - TOWN[0])
    return Box(
        zoom,
        int((row + 0.5) * scale) // 4 * 4 - side // 2,
        int((column + 0.5) * scale) // 4 * 4 - side // 2,
        side,
        side,
    )


@settings(max_examples=20, deadline=None)
@given(
    seed=SEEDS,
    zoom=st.sampled_from([6, 8, 10, 12, 14, 16, 18]),
    place=st.tuples(st.floats(0.15, 0.8), st.floats(0, 0.999)),
    crop=st.tuples(st.integers(0, 10), st.integers(0, 10)),
    around=st.integers(-1, 1),
)
def test_any_crop_shows_the_same(
    seed: int, zoom: int, place: tuple[float, float], crop: tuple[int, int], around: int
) -> None:
    size = world_size(zoom)
    box = Box(zoom, int(place[0] * size) // 4 * 4, int(place[1] * size) // 4 * 4, 96, 96)
    top, left = (4 * value for value in crop)
    whole = landmarks(seed, box)
    part = landmarks(seed, Box(zoom, box.row + top, box.column + left + around * size, 48, 48))
    if whole is None:
        assert part is None
        return
    at = slice(top, top + 48), slice(left, left + 48)
    if part is None:
        assert not whole.light[at].any()
    else:
        # To the last bits: arrays of another length are vectorised otherwise, and longitude counts from elsewhere.
        for name in ("rivers", "towns", "light"):
            same = abs(getattr(part, name) - getattr(whole, name)[at]) < 1e-3
            assert same.mean() > (0.999 if around == 0 else 0.98), name


@pytest.mark.parametrize("zoom", [6, 8, 10, 12, 14])
def test_a_coarse_zoom_has_the_rivers_and_towns_of_a_finer_one(zoom: int) -> None:
    box = town_box(zoom)
    coarse, fine = (
        landmarks(3, box),
        landmarks(3, Box(zoom + 2, 4 * box.row, 4 * box.column, 512, 512)),
    )
    assert coarse is not None and fine is not None

    def means(plane: np.ndarray) -> np.ndarray:
        return np.asarray(plane.reshape(128, 4, 128, 4).mean(axis=(1, 3)))

    assert abs(coarse.towns - means(fine.towns)).mean() < 0.01
    assert abs(coarse.rivers - means(fine.rivers)).mean() < 0.02
    assert coarse.rivers.mean() == pytest.approx(means(fine.rivers).mean(), rel=0.4, abs=0.003)


def test_coarser_than_its_first_zoom_there_is_nothing() -> None:
    assert landmarks(3, Box(FIRST_ZOOM - 2, 1000, 1000, 64, 64)) is None


def test_a_town_has_streets_and_roofs_and_a_river_water() -> None:
    green = (110, 115, 75)
    box = town_box(16, 256)
    parents = np.full((64 + 2 * SHOWN, 64 + 2 * SHOWN, 3), green, dtype=np.uint8)
    ground = ground_of(3, box, parents)
    assert ground is not None and ground.landmarks is not None
    codes = cover_of(ground)
    assert (codes == CODES["building"]).mean() > 0.1
    assert (codes == CODES["road"]).mean() > 0.1
    # On sand and at sea there are none.
    assert ground_of(3, box, np.full_like(parents, (205, 175, 130))) is None
    wide = landmarks(3, Box(12, 320_000, 545_000, 1024, 1024))
    assert wide is not None
    row, column = np.unravel_index(int(wide.rivers.argmax()), wide.rivers.shape)
    place = Box(16, (320_000 + int(row)) * 16 - 64, (545_000 + int(column)) * 16 - 64, 128, 128)
    beside = ground_of(3, place, np.full((32 + 2 * SHOWN, 32 + 2 * SHOWN, 3), green, dtype=np.uint8))
    assert beside is not None
    wet = cover_of(beside) == CODES["water"]
    assert 0.05 < wet.mean() < 1
    known = beside.landmarks
    assert known is not None
    light = known.cropped(AROUND * SCALE).light
    assert light[wet].mean() < -0.2 < light[~wet].mean()
