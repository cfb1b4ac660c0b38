"""What the paper model of bulk runs is computed from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bulk import block_at, places, print_indexes, print_windows
from earthgen.pyramid import TILE_SIZE, point_pixel


def test_places_are_the_same_every_time_and_on_the_map() -> None:
    spots = places(50)
    assert spots == places(50) != places(50, seed=1)
    assert all(-180 <= longitude < 180 and -60 <= latitude <= 60 for longitude, latitude in spots)


@given(st.floats(-179.9, 179.9), st.floats(-60, 60), st.sampled_from([1, 4, 16]))
def test_a_block_is_aligned_and_holds_its_place(longitude: float, latitude: float, tiles: int) -> None:
    box = block_at(longitude, latitude, tiles)
    row, column = point_pixel(longitude, latitude, box.zoom)
    assert box.row <= row < box.row + box.height and box.column <= column < box.column + box.width
    assert box.row % (tiles * TILE_SIZE) == box.column % (tiles * TILE_SIZE) == 0
    assert box.height == box.width == tiles * TILE_SIZE


def test_larger_items_need_fewer_windows_a_tile_but_never_fewer_than_four(capsys: pytest.CaptureFixture[str]) -> None:
    print_windows(8, places(3))
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "x" in line]
    each = [float(row[2]) for row in rows]
    assert each == sorted(each, reverse=True)
    assert 4 * 16 / 15 < each[-1] < 4.4


def test_indexes_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    print_indexes([900, 5000, 20_000], 10_000)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "SQLite" in line or "PMTiles" in line]
    pmtiles, sqlite = (float(row[2]) for row in rows)
    assert 1 < pmtiles < 8
    assert 20 < sqlite < 80
