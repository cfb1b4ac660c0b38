"""Pictures have exactly the resolution that was asked for, and say where they lie and what they are."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rasterio.io import MemoryFile

from earthgen.errors import RequestTooLargeError, WorldError
from earthgen.picture import MAX_SIZE, encode_picture, frame_of, make_picture
from earthgen.pyramid import Box, box_mercator_bounds, ground_sampling_distance
from earthgen.world import MAX_GSD, MIN_GSD, World
from tests.stand_in import CoordinateEngine


def world_of(gsd: float) -> World:
    return World("prompt", 7, "a harbour", gsd=gsd)


@given(st.floats(MIN_GSD, MAX_GSD), st.integers(1, MAX_SIZE))
def test_a_picture_has_the_gsd_that_was_asked_for(gsd: float, size: int) -> None:
    frame = frame_of(world_of(gsd), size)
    # A pixel's side on the ground, at the latitude of the picture's centre.
    _, middle = frame.transform * (size / 2, size / 2)
    latitude = math.degrees(math.atan(math.sinh(middle / 6378137.0)))
    assert latitude == pytest.approx(frame.latitude, abs=1.5 * gsd / 111_000 + 1e-9)
    assert frame.transform.a * math.cos(math.radians(frame.latitude)) == pytest.approx(gsd, rel=1e-6)
    assert frame.box.zoom == world_of(gsd).root_zoom + 2
    left, top, right, bottom = frame.view
    assert left >= 0 and top >= 0 and right <= frame.box.width and bottom <= frame.box.height


def test_a_picture_is_the_worlds_own_pixels_where_they_have_the_gsd() -> None:
    world = world_of(0.5)
    frame = frame_of(world, 300)
    assert not frame.is_resampled
    assert ground_sampling_distance(18, frame.latitude) == pytest.approx(0.5)
    pixels = make_picture(CoordinateEngine(), world, frame)
    assert np.array_equal(pixels, CoordinateEngine().pixels(world, frame.box))


def test_a_picture_from_finer_pixels_is_their_mean() -> None:
    class Flat(CoordinateEngine):
        def pixels(
            self, world: World, box: Box, *, cancelled: Callable[[], bool] | None = None
        ) -> npt.NDArray[np.uint8]:
            rows = np.arange(box.row, box.row + box.height) - 2**25
            shade = np.clip(128 + rows // 8, 0, 255).astype(np.uint8)
            return np.broadcast_to(shade[:, None, None], (box.height, box.width, 3))

    world = world_of(2 * ground_sampling_distance(18, 0) - 1e-6)
    frame = frame_of(world, 200)
    assert frame.is_resampled
    pixels = make_picture(Flat(), world, frame)
    # Every row of the picture is two of the world: a shade every four rows, symmetric around the equator.
    steps = pixels[:, 0, 0].astype(int)
    assert steps[0] < steps[-1]
    assert np.abs(steps - (128 + (2 * (np.arange(200) - 100) + 1) / 8)).max() <= 1.5


def test_progress_counts_pieces_to_the_end() -> None:
    world = world_of(0.5)
    seen: list[tuple[int, int]] = []
    make_picture(CoordinateEngine(), world, frame_of(world, 700), lambda done, total: seen.append((done, total)))
    assert seen == [(done, 4) for done in range(5)]


@pytest.mark.parametrize("gsd", [0.5, 1.0])
def test_a_geotiff_lies_where_the_frame_says_and_is_marked(gsd: float) -> None:
    world = World("prompt", 7, 'a "harbour" <b>&é', gsd=gsd)
    frame = frame_of(world, 300)
    pixels = make_picture(CoordinateEngine(), world, frame)
    with MemoryFile(encode_picture(CoordinateEngine(), world, frame, pixels, "tif")) as file, file.open() as dataset:
        assert dataset.crs.to_epsg() == 3857
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), pixels)
        if not frame.is_resampled:
            assert tuple(dataset.bounds) == pytest.approx(box_mercator_bounds(frame.box))
        tags = dataset.tags()
    assert "not an observation" in tags["SYNTHETIC"]
    assert World.from_dict(json.loads(tags["EARTHGEN_WORLD_JSON"])) == world


def test_a_png_is_exact_and_marked() -> None:
    world = world_of(0.5)
    frame = frame_of(world, 64)
    pixels = make_picture(CoordinateEngine(), world, frame)
    with Image.open(io.BytesIO(encode_picture(CoordinateEngine(), world, frame, pixels, "png"))) as picture:
        assert np.array_equal(np.asarray(picture), pixels)
        assert picture.info["EARTHGEN_WORLD"] == world.id
        assert "not an observation" in picture.info["SYNTHETIC"]


def test_only_worlds_by_prompt_have_pictures_and_only_so_large() -> None:
    with pytest.raises(WorldError, match="root 'earth'"):
        frame_of(World())
    for size in (0, MAX_SIZE + 1):
        with pytest.raises(RequestTooLargeError, match=f"size is {size}; 1 to 4096"):
            frame_of(world_of(1), size)
