"""The arithmetic of the pyramid, against mercantile and against itself."""

from __future__ import annotations

import math

import mercantile
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from earthgen.errors import AddressError
from earthgen.pyramid import (
    EQUATOR_GSD,
    MAX_LATITUDE,
    MAX_ZOOM,
    ROOT_ZOOM,
    SCALE,
    TILE_SIZE,
    WINDOW_SIZE,
    Bounds,
    Box,
    Window,
    bounds_box,
    box_bounds,
    box_mercator_bounds,
    check_bounds,
    ground_sampling_distance,
    level_zoom,
    point_pixel,
    row_latitudes,
    tile_box,
    windows_of,
    world_size,
    zoom_for_gsd,
)
from tests.strategies import bounds, boxes, latitudes, longitudes, tiles, zooms


@given(tiles())
def test_a_tile_lies_where_mercantile_says(tile: tuple[int, int, int]) -> None:
    zoom, x, y = tile
    box = tile_box(zoom, x, y)
    expected = mercantile.bounds(x, y, zoom)
    assert box_bounds(box) == pytest.approx(expected, abs=1e-9)
    assert box_mercator_bounds(box) == pytest.approx(mercantile.xy_bounds(x, y, zoom), abs=1e-6)


@given(tiles())
def test_the_bounds_of_a_tile_give_the_tile_back(tile: tuple[int, int, int]) -> None:
    zoom, x, y = tile
    expected = mercantile.bounds(x, y, zoom)
    assert bounds_box((expected.west, expected.south, expected.east, expected.north), zoom) == tile_box(zoom, x, y)


@given(boxes())
def test_the_bounds_of_a_box_give_the_box_back(box: Box) -> None:
    assert bounds_box(box_bounds(box), box.zoom) == box


@given(bounds(), zooms)
@example((179.9999999999, -1.0, 180.0, 1.0), 18)
@example((179.999999999999, -1.0, 180.0, 1.0), 18)
@example((0.0, -86.0, 1.0, -85.05112877980658), 18)
@example((0.0, 85.05112877980658, 1.0, 86.0), 18)
@example((-180.0, 85.05112877980659, 180.0, 90.0), 0)
@example((0.0, 0.0, 5e-324, 5e-324), 18)
def test_the_box_of_bounds_covers_them_and_no_more(wsen: Bounds, zoom: int) -> None:
    box = bounds_box(wsen, zoom)
    size = world_size(zoom)
    assert box.height >= 1 and box.width >= 1
    assert box.row >= 0 and box.row + box.height <= size
    assert box.column >= 0 and box.column + box.width <= size
    west, south, east, north = box_bounds(box)
    hair = 360 / size * 1e-5
    assert west <= wsen[0] + hair and east >= wsen[2] - hair
    assert south <= max(wsen[1], -MAX_LATITUDE) + hair and north >= min(wsen[3], MAX_LATITUDE) - hair
    # A box one pixel smaller on any side would not cover them.
    if box.width > 1:
        pixel = 360 / size
        assert west + pixel > wsen[0] - hair and east - pixel < wsen[2] + hair


@given(longitudes, latitudes, zooms)
def test_a_place_lies_in_its_pixel_and_its_tile(longitude: float, latitude: float, zoom: int) -> None:
    row, column = point_pixel(longitude, latitude, zoom)
    west, south, east, north = box_bounds(Box(zoom, row, column, 1, 1))
    hair = 360 / world_size(zoom) * 1e-3
    assert west - hair <= longitude <= east + hair
    assert south - hair <= latitude <= north + hair


@pytest.mark.parametrize("zoom", [0, 4, 18])
def test_the_corners_of_the_world_are_pixels(zoom: int) -> None:
    last = world_size(zoom) - 1
    assert point_pixel(-180, MAX_LATITUDE, zoom) == (0, 0)
    assert point_pixel(180, -MAX_LATITUDE, zoom) == (last, last)


@given(zooms, latitudes)
def test_gsd_round_trip(zoom: int, latitude: float) -> None:
    assert zoom_for_gsd(ground_sampling_distance(zoom, latitude), latitude) == zoom


@given(st.floats(0.06, 200_000), latitudes)
def test_the_zoom_for_a_gsd_is_the_coarsest_that_is_fine_enough(gsd: float, latitude: float) -> None:
    assume(gsd >= ground_sampling_distance(MAX_ZOOM, latitude))
    zoom = zoom_for_gsd(gsd, latitude)
    assert ground_sampling_distance(zoom, latitude) <= gsd * (1 + 1e-5)
    assert zoom == 0 or ground_sampling_distance(zoom - 1, latitude) > gsd * (1 - 1e-5)


def test_gsd_at_the_equator_is_the_published_one() -> None:
    assert ground_sampling_distance(0, 0) == EQUATOR_GSD
    assert ground_sampling_distance(0, 0) == pytest.approx(156543.03392804097)
    assert ground_sampling_distance(18, 0) == pytest.approx(0.5971642834779395)


@pytest.mark.parametrize("gsd", [0, -1, math.nan, math.inf, -math.inf])
def test_a_gsd_that_is_no_distance_is_refused(gsd: float) -> None:
    with pytest.raises(AddressError, match="is not a positive number of metres"):
        zoom_for_gsd(gsd, 0)


def test_a_gsd_finer_than_the_pyramid_is_refused_with_the_finest() -> None:
    with pytest.raises(
        AddressError, match=r"GSD 0.1 m is finer than 0.299 m, the finest at latitude 60.00 \(zoom 18\)"
    ):
        zoom_for_gsd(0.1, 60)


@given(boxes())
def test_row_latitudes_are_those_of_pixel_centres(box: Box) -> None:
    computed = row_latitudes(box.zoom, box.row, box.height)
    assert computed.shape == (box.height,)
    assert np.all(np.diff(computed) < 0)
    _, south, _, north = box_bounds(box)
    assert south < computed[-1] <= computed[0] < north
    row, _ = point_pixel(0.0, float(computed[0]), box.zoom)
    assert row == box.row


@given(boxes(), st.integers(-3, 3))
def test_windows_cover_a_box_once_wherever_it_wraps(box: Box, turns: int) -> None:
    turned = Box(box.zoom, box.row, box.column + turns * world_size(box.zoom), box.height, box.width)
    windows = list(windows_of(turned))
    assert len(windows) == len(set(windows))
    assert windows == list(windows_of(box))
    rows = {
        row // WINDOW_SIZE for row in (*range(box.row, box.row + box.height, WINDOW_SIZE), box.row + box.height - 1)
    }
    right = box.column + box.width - 1
    columns = {column // WINDOW_SIZE for column in (*range(box.column, right, WINDOW_SIZE), right)}
    assert set(windows) == {Window(box.zoom, row, column) for row in rows for column in columns}


@pytest.mark.parametrize("zoom", [4, 6, 18])
def test_a_box_across_180_degrees_touches_windows_of_both_edges(zoom: int) -> None:
    across = world_size(zoom) // WINDOW_SIZE
    box = Box(zoom, 0, world_size(zoom) - 10, 1, 20)
    assert list(windows_of(box)) == [Window(zoom, 0, across - 1), Window(zoom, 0, 0)]
    assert list(windows_of(Box(zoom, 0, -10, 1, 20))) == [Window(zoom, 0, across - 1), Window(zoom, 0, 0)]


def test_a_box_wider_than_the_world_lists_each_window_once() -> None:
    windows = list(windows_of(Box(0, -50, -100, 1000, 1000)))
    assert sorted(windows) == [Window(0, row, column) for row in (0, 1) for column in (0, 1)]


@given(boxes())
def test_a_windows_box_lies_on_the_lattice_and_touches_only_itself(box: Box) -> None:
    for window in windows_of(box):
        assert list(windows_of(window.box)) == [window]


@given(boxes(), st.integers(0, 100))
def test_growing_keeps_the_centre(box: Box, margin: int) -> None:
    grown = box.grown(margin)
    assert (grown.row + margin, grown.column + margin) == (box.row, box.column)
    assert (grown.height - 2 * margin, grown.width - 2 * margin) == (box.height, box.width)
    assert grown.grown(-margin) == box


def test_the_parent_of_a_box_is_a_quarter_of_it_two_zooms_up() -> None:
    assert Box(6, 4 * 10, -4 * 3, 4 * 2, 4 * 5).parent() == Box(4, 10, -3, 2, 5)
    with pytest.raises(AddressError, match="whole parent pixels"):
        Box(6, 41, 0, SCALE, SCALE).parent()


@given(zooms)
def test_level_zooms_are_even_and_never_coarser(zoom: int) -> None:
    level = level_zoom(zoom)
    assert level % 2 == 0
    assert ROOT_ZOOM <= level <= MAX_ZOOM
    assert level == zoom or zoom < ROOT_ZOOM or level == zoom + 1


@pytest.mark.parametrize("zoom", [-1, MAX_ZOOM + 1, 10**9])
def test_a_zoom_outside_the_pyramid_is_refused(zoom: int) -> None:
    for call in (lambda: level_zoom(zoom), lambda: tile_box(zoom, 0, 0), lambda: bounds_box((0, 0, 1, 1), zoom)):
        with pytest.raises(AddressError, match=rf"zoom {zoom} is outside 0..18"):
            call()


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (8, 0), (0, 8), (2**70, 0)])
def test_a_tile_outside_the_pyramid_is_refused(x: int, y: int) -> None:
    with pytest.raises(AddressError, match=rf"tile 3/{x}/{y} does not exist: at zoom 3 x and y lie in 0..7"):
        tile_box(3, x, y)


@pytest.mark.parametrize(
    ("wsen", "complaint"),
    [
        ((math.nan, 0, 1, 1), "not finite"),
        ((0, 0, math.inf, 1), "not finite"),
        ((170, 0, -170, 1), "west must be less than east; ask for a box across 180 degrees as two boxes"),
        ((0, 0, 0, 1), "west must be less than east"),
        ((-181, 0, 0, 1), "in -180..180"),
        ((0, 0, 181, 1), "in -180..180"),
        ((0, 1, 1, 1), "south must be less than north"),
        ((0, 2, 1, 1), "south must be less than north"),
        ((0, 0, 1, 91), "in -90..90"),
        ((0, 86, 1, 87), "outside Web Mercator"),
        ((0, -87, 1, -86), "outside Web Mercator"),
    ],
)
def test_bad_bounds_are_refused(wsen: Bounds, complaint: str) -> None:
    with pytest.raises(AddressError, match=complaint):
        check_bounds(wsen)


@pytest.mark.parametrize("place", [(math.nan, 0), (0, math.inf), (181, 0), (0, 86), (0, -90)])
def test_a_place_outside_the_projection_is_refused(place: tuple[float, float]) -> None:
    with pytest.raises(AddressError, match="place"):
        point_pixel(*place, zoom=3)


def test_a_tile_is_whole_windows() -> None:
    assert TILE_SIZE % WINDOW_SIZE == 0
