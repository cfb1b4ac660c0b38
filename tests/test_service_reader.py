"""WorldReader against the engine it translates to: every verb shows the same pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds

from earthgen.errors import AddressError, RequestTooLargeError
from earthgen.pyramid import Box, bounds_box, box_bounds, box_mercator_bounds, tile_box, world_size
from earthgen.world import World
from tests.fake_engine import FakeEngine, colours
from tileserver.reader import WEB_MERCATOR, WorldReader

WORLD = World(root="planet", seed=7)
WGS84 = CRS.from_epsg(4326)
UTM = CRS.from_epsg(32632)


def reader(**options: Any) -> WorldReader:
    return WorldReader(WORLD, engine=FakeEngine(), **options)


def pixels_of(image: Any) -> Any:
    return np.moveaxis(image.array.data, 0, -1)


def bounds_of(image: Any) -> tuple[float, float, float, float]:
    left, bottom, right, top = image.bounds
    return left, bottom, right, top


tiles = st.integers(0, 18).flatmap(lambda z: st.tuples(st.just(z), st.integers(0, 2**z - 1), st.integers(0, 2**z - 1)))


@given(tiles)
def test_a_tile_equals_the_part_with_its_bounds(address: tuple[int, int, int]) -> None:
    z, x, y = address
    tile = reader().tile(x, y, z)
    box = tile_box(z, x, y)
    assert bounds_of(tile) == box_mercator_bounds(box)
    for bounds, crs in ((box_bounds(box), WGS84), (box_mercator_bounds(box), WEB_MERCATOR)):
        part = reader().part(bounds, bounds_crs=crs, zoom=z)
        np.testing.assert_array_equal(pixels_of(part), pixels_of(tile))


@given(
    st.integers(2, 18).flatmap(
        lambda z: st.tuples(
            st.just(z),
            st.integers(0, world_size(z) - 300),
            st.integers(0, world_size(z) - 300),
            st.integers(1, 300),
            st.integers(1, 300),
        )
    )
)
def test_a_part_holds_the_engines_pixels_unresampled(address: tuple[int, int, int, int, int]) -> None:
    box = Box(*address)
    part = reader().part(box_bounds(box), zoom=box.zoom)
    np.testing.assert_array_equal(pixels_of(part), colours(WORLD, box))
    assert not np.ma.getmaskarray(part.array).any()


@given(st.floats(-179, 178), st.floats(-80, 80), st.floats(1e-5, 1), st.integers(1, 700))
def test_max_size_is_the_limit_and_nearly_reached(west: float, south: float, extent: float, size: int) -> None:
    part = reader().part((west, south, west + extent, south + extent), max_size=size)
    longest = max(part.width, part.height)
    finest = bounds_box((west, south, west + extent, south + extent), 18)
    assert longest <= size or part.width * part.height <= 4  # Bounds that touch four pixels at every zoom.
    # One zoom finer would have been too much, or there is none.
    assert 2 * longest + 2 > size or longest == max(finest.width, finest.height)


def test_the_finest_pixels_are_not_invented_further() -> None:
    part = reader().part((7, 46, 7.0001, 46.0001))
    assert max(part.width, part.height) < 40  # Zoom 18, although 1024 would be allowed.


def test_width_and_height_resample_the_exact_bounds() -> None:
    bounds = (7.0, 46.0, 7.5, 46.25)
    part = reader().part(bounds, width=400, height=300)
    assert (part.width, part.height) == (400, 300)
    assert bounds_of(part) == pytest.approx(transform_bounds(WGS84, WEB_MERCATOR, *bounds))
    left, bottom, right, top = bounds_of(part)
    assert reader().part(bounds, width=400).height == pytest.approx(400 * (top - bottom) / (right - left), abs=1)


def test_resampling_to_the_native_grid_changes_nothing() -> None:
    box = Box(9, 90_000, 70_000, 120, 160)
    part = reader().part(box_bounds(box), width=160, height=120)
    np.testing.assert_array_equal(pixels_of(part), colours(WORLD, box))


def test_another_crs_shows_the_same_ground() -> None:
    bounds = (7.0, 46.0, 7.5, 46.25)
    part = reader().part(bounds, dst_crs=UTM, width=300, height=200, reproject_method="nearest")
    assert part.crs == UTM
    assert bounds_of(part) == pytest.approx(transform_bounds(WGS84, UTM, *bounds, densify_pts=21))
    # Its pixels are those of the ground below them, at the first zoom that is fine enough: 364 columns at 10.
    for row, column in ((100, 150), (20, 30), (180, 270)):
        x, y = part.transform * (column + 0.5, row + 0.5)
        (lon,), (lat,) = transform(UTM, WGS84, [x], [y])
        near = reader().part((lon - 0.001, lat - 0.001, lon + 0.001, lat + 0.001), zoom=10)
        candidates = pixels_of(near).reshape(-1, 3).tolist()
        assert pixels_of(part)[row, column].tolist() in candidates


def test_what_lies_outside_the_world_is_masked() -> None:
    part = reader().part((-180, -85, 180, 85), dst_crs=CRS.from_user_input("ESRI:54030"), max_size=200)
    mask = np.ma.getmaskarray(part.array)
    assert mask[:, 0, 0].all()  # The corner of the Robinson projection is not on Earth.
    assert not mask[:, part.height // 2, part.width // 2].any()


def test_a_feature_is_masked_outside_its_outline() -> None:
    shape = {"type": "Polygon", "coordinates": [[[7, 46], [7.2, 46], [7.2, 46.2], [7, 46]]]}
    image = reader().feature(shape, max_size=256)
    mask = np.ma.getmaskarray(image.array)
    assert mask[:, 5, 5].all()  # North-west of the diagonal.
    assert not mask[:, -5, -5].any()
    part = reader().part((7, 46, 7.2, 46.2), max_size=256)
    np.testing.assert_array_equal(pixels_of(image), pixels_of(part))


def test_indexes_and_expressions_select_bands_everywhere() -> None:
    bounds = (7.0, 46.0, 7.2, 46.2)
    whole = reader().part(bounds, max_size=64)
    swapped = reader().part(bounds, max_size=64, indexes=(3, 1))
    np.testing.assert_array_equal(swapped.array.data, whole.array.data[[2, 0]])
    assert (swapped.band_names, swapped.band_descriptions) == (["b3", "b1"], ["blue", "red"])
    total = reader().part(bounds, max_size=64, expression="b1*1.0+b2")
    np.testing.assert_allclose(total.array.data[0], whole.array.data[0].astype(float) + whole.array.data[1])
    assert reader().point(7.1, 46.1, indexes=2).array.tolist() == [reader().point(7.1, 46.1).array[1]]
    assert reader().tile(3, 4, 5, indexes=[1]).count == 1
    assert reader().preview(max_size=64, expression="b1;b2").count == 2


def test_a_point_may_be_given_in_another_crs() -> None:
    (x, y, _, _) = transform_bounds(WGS84, UTM, 7.1, 46.1, 7.1, 46.1)
    assert reader().point(x, y, coord_crs=UTM).array.tolist() == reader().point(7.1, 46.1).array.tolist()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda r: r.part((7, 46, 7, 47)), AddressError),
        (lambda r: r.part((float("nan"), 46, 8, 47)), AddressError),
        (lambda r: r.part((179, 46, -179, 47)), AddressError),
        (lambda r: r.part((8e5, 6e6, 7e5, 7e6), bounds_crs=WEB_MERCATOR), AddressError),
        (lambda r: r.part((float("inf"), 6e6, 7e5, 7e6), bounds_crs=WEB_MERCATOR), AddressError),
        (lambda r: r.part((7, 46, 8, 47), zoom=19), AddressError),
        (lambda r: r.part((7, 46, 8, 47), zoom=14), RequestTooLargeError),
        (lambda r: r.part((7, 46, 8, 47), width=5000, height=5000), RequestTooLargeError),
        (lambda r: r.part((7, 46, 8, 47), width=5000, dst_crs=UTM), RequestTooLargeError),
        (lambda r: r.preview(max_size=2**20), RequestTooLargeError),
        (lambda r: r.feature({"type": "Feature", "geometry": None}), AddressError),
        (lambda r: r.feature({"type": "Polygon"}), AddressError),
        (lambda r: r.feature({"type": "Polygon", "coordinates": []}), AddressError),
        (lambda r: r.tile(0, 0, 18, tilesize=512), AddressError),
        (lambda r: r.tile(0, 0, 3, tilesize=100), AddressError),
    ],
)
def test_what_cannot_be_is_refused_before_the_engine_is_asked(call: Any, error: type[Exception]) -> None:
    engine = FakeEngine()
    with pytest.raises(error):
        call(WorldReader(WORLD, engine=engine))
    assert engine.calls == 0
