"""A COG of several zooms: every level is the world's own, at its place, in one valid file, however it came about."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from earthgen.bands import BANDS
from earthgen.errors import AddressError, ExportError, InvalidRequestError, OverloadedError, RequestTooLargeError
from earthgen.export.cog import BLOCK_SIZE
from earthgen.export.cog_pyramid import check_pyramid, export_cog_pyramid
from earthgen.export.image import ImageFormat
from earthgen.export.work import Limits
from earthgen.pyramid import Box, bounds_box, box_bounds, box_mercator_bounds, world_size
from earthgen.world import World
from tests import strategies
from tests.conftest import program
from tests.stand_in import CoordinateEngine
from tests.test_export import FailingEngine, files_of_at_most

WORLD = World("planet", 7)
ASKED = Box(9, 40_101, 60_013, 560, 1101)
BOUNDS = box_bounds(ASKED)
ZOOMS = (0, 9)
LEVELS = [Box(9, 40_100, 60_012, 564, 1104), Box(8, 20_050, 30_006, 282, 552), Box(7, 10_025, 15_003, 141, 276)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that nothing disturbed."""
    path = tmp_path_factory.mktemp("pyramid") / "out.tif"
    assert export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path) == LEVELS
    return path


def test_every_level_holds_its_zooms_own_pixels_at_their_place(finished: Path) -> None:
    for number, box in enumerate(LEVELS):
        with rasterio.open(finished, **({"overview_level": number - 1} if number else {})) as level:
            assert level.crs.to_epsg() == 3857
            assert tuple(level.bounds) == pytest.approx(box_mercator_bounds(LEVELS[0]), abs=1e-6)
            assert tuple(level.bounds) == pytest.approx(box_mercator_bounds(box), abs=1e-6)
            assert np.array_equal(np.moveaxis(level.read(), 0, -1), CoordinateEngine().pixels(WORLD, box))


def test_the_file_is_a_valid_cog_that_says_what_it_is(finished: Path) -> None:
    valid, errors, warnings = cog_validate(finished, strict=True)
    assert valid, (errors, warnings)
    with rasterio.open(finished) as dataset:
        assert dataset.overviews(1) == [2, 4]
        assert dataset.count == 3
        assert dataset.tags()["EARTHGEN_WORLD"] == WORLD.canonical_json
        assert dataset.tags()["EARTHGEN_SYNTHETIC"] == "YES"


def test_a_gdal_client_reads_a_coarser_zoom(finished: Path, gdal_translate: str, tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    subprocess.run([gdal_translate, "-q", "-of", "PNG", "-oo", "OVERVIEW_LEVEL=1", finished, picture], check=True)
    with rasterio.open(picture) as dataset:
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), CoordinateEngine().pixels(WORLD, LEVELS[2]))
    report = subprocess.run([program("gdalinfo"), finished], check=True, capture_output=True, text=True).stdout
    assert "Overviews: 552x282, 276x141" in report


@pytest.mark.parametrize(("image", "compression"), [("jpg", "jpeg"), ("webp", "webp")])
def test_blocks_can_be_pictures(image: ImageFormat, compression: str, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.tif"
    export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path, image=image, quality=50)
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as small, rasterio.open(finished) as exact:
        assert small.profile["compress"] == compression
        assert small.shape == exact.shape
        assert small.count == 3
        assert small.overviews(1) == [2, 4]


def test_one_zoom_has_no_overviews(tmp_path: Path) -> None:
    path = tmp_path / "one.tif"
    assert export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, (9, 9), path) == [ASKED]
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == []
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), CoordinateEngine().pixels(WORLD, ASKED))


@given(bounds=strategies.bounds(), zooms=st.lists(st.integers(0, 18), min_size=2, max_size=2).map(sorted))
def test_levels_halve_exactly_cover_the_bounds_and_widen_little(
    bounds: tuple[float, float, float, float], zooms: list[int]
) -> None:
    levels = check_pyramid(bounds, (zooms[0], zooms[1]), Path("out.tif"), max_pixels=1 << 60)
    asked, finest, coarsest = bounds_box(bounds, zooms[1]), levels[0], levels[-1]
    assert [box.zoom for box in levels] == list(range(zooms[1], zooms[1] - len(levels), -1))
    assert coarsest.zoom >= zooms[0]
    for above, below in zip(levels[1:], levels, strict=False):
        assert (below.row, below.column) == (2 * above.row, 2 * above.column)
        assert (below.height, below.width) == (2 * above.height, 2 * above.width)
    for start, length, first, whole in (
        (asked.row, asked.height, finest.row, finest.height),
        (asked.column, asked.width, finest.column, finest.width),
    ):
        assert 0 <= first <= start and start + length <= first + whole <= world_size(zooms[1])
        assert whole - length < 2 << len(levels) - 1
    if coarsest.zoom > zooms[0]:
        assert max(coarsest.height, coarsest.width) <= BLOCK_SIZE + 1


def test_a_stopped_export_goes_on_to_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    with pytest.raises(OverloadedError):
        export_cog_pyramid(FailingEngine(4, OverloadedError("busy")), WORLD, BOUNDS, ZOOMS, path)
    assert os.listdir(tmp_path) == ["out.tif.part"]
    engine = CoordinateEngine()
    seen: list[tuple[int, int]] = []
    export_cog_pyramid(engine, WORLD, BOUNDS, ZOOMS, path, lambda *step: seen.append(step))
    assert seen[0][0] == 4
    assert seen == [(done, seen[-1][1]) for done in range(4, seen[-1][1] + 1)]
    assert len(engine.boxes) == seen[-1][1] - 4
    assert path.read_bytes() == finished.read_bytes()
    assert os.listdir(tmp_path) == ["out.tif"]


KILLED = """
import os, signal, sys
import rasterio.shutil
from earthgen.export import cog_pyramid
from tests.stand_in import CoordinateEngine
from tests.test_export_pyramid import BOUNDS, WORLD, ZOOMS

def dying(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
cog_pyramid.cog_validate = dying
cog_pyramid.export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, sys.argv[1])
"""


def test_an_export_that_was_killed_while_it_was_joined_goes_on_to_the_same_bytes(
    finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.tif"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[1])
    assert killed.returncode == -9
    assert os.listdir(tmp_path) == ["out.tif.part"]
    engine = CoordinateEngine()
    export_cog_pyramid(engine, WORLD, BOUNDS, ZOOMS, path)
    assert engine.boxes == []
    assert path.read_bytes() == finished.read_bytes()


@pytest.mark.parametrize("moment", ["while pieces are made", "while they are joined"])
def test_a_disk_that_fills_up_is_a_clear_error_and_work_goes_on_later(
    moment: str, finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.tif"
    size = 20_000 if moment == "while pieces are made" else finished.stat().st_size - 50_000
    with files_of_at_most(size), pytest.raises(ExportError, match=r"out.tif cannot be written: "):
        export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert not path.exists()
    export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert path.read_bytes() == finished.read_bytes()


@pytest.mark.parametrize("limits", [Limits(bytes=150_000), Limits(seconds=0.0)])
def test_a_limit_stops_it_and_a_later_run_goes_on(limits: Limits, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    with pytest.raises(ExportError, match=r"out.tif is not finished: the limit .* \d+ of \d+ pieces wait"):
        export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path, limits=limits)
    assert not path.exists()
    export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert path.read_bytes() == finished.read_bytes()


def test_what_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="coarser zoom comes first"):
        export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, (9, 8), tmp_path / "out.tif")
    with pytest.raises(InvalidRequestError, match="quality is 0"):
        export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, tmp_path / "out.tif", quality=0)
    with pytest.raises(InvalidRequestError, match="holds values; image format png"):
        export_cog_pyramid(
            CoordinateEngine(), WORLD, BOUNDS, ZOOMS, tmp_path / "out.tif", image="jpg", band=BANDS["landcover"]
        )
    with pytest.raises(RequestTooLargeError, match="1104 x 564 = 622656 pixels at zoom 9; at most 1000"):
        export_cog_pyramid(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, tmp_path / "out.tif", max_pixels=1000)
    assert os.listdir(tmp_path) == []
