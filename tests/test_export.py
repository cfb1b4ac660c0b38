"""Exports: the pixels of the world, georeferenced, valid, atomic and resumable to the same bytes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from filelock import FileLock
from rio_cogeo.cogeo import cog_validate

import earthgen
from earthgen.errors import AddressError, ExportError, OverloadedError, RequestTooLargeError
from earthgen.export.cog import export_cog
from earthgen.export.pieces import PIECE_SIZE
from earthgen.pyramid import WINDOW_SIZE, Bounds, Box, bounds_box, box_bounds, box_mercator_bounds
from earthgen.world import World
from tests.conftest import program
from tests.stand_in import CoordinateEngine

WORLD = World("planet", 7)
BOX = Box(9, 40_100, 60_013, 560, 1100)
BOUNDS = box_bounds(BOX)


class FailingEngine(CoordinateEngine):
    """Fails after some pieces."""

    def __init__(self, pieces: int, error: BaseException) -> None:
        super().__init__()
        self.pieces, self.error = pieces, error

    def pixels(self, world: World, box: Box, *, cancelled: Callable[[], bool] | None = None) -> npt.NDArray[np.uint8]:
        if len(self.boxes) == self.pieces:
            raise self.error
        return super().pixels(world, box)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that nothing disturbed."""
    path = tmp_path_factory.mktemp("export") / "out.tif"
    export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, path)
    return path


def test_the_file_holds_the_worlds_pixels_at_their_place(finished: Path) -> None:
    with rasterio.open(finished) as dataset:
        assert dataset.count == 3
        assert dataset.dtypes == ("uint8",) * 3
        assert dataset.crs.to_epsg() == 3857
        assert [band.name for band in dataset.colorinterp] == ["red", "green", "blue"]
        assert tuple(dataset.bounds) == pytest.approx(box_mercator_bounds(BOX), abs=1e-6)
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), CoordinateEngine().pixels(WORLD, BOX))


def test_the_file_is_a_valid_cog_with_mean_overviews(finished: Path) -> None:
    valid, errors, warnings = cog_validate(finished, strict=True)
    assert valid, (errors, warnings)
    with rasterio.open(finished) as dataset:
        assert dataset.overviews(1) == [2, 4]
        assert dataset.compression.name == "deflate"


def test_overviews_of_whole_tiles_are_exact_means(tmp_path: Path) -> None:
    path = tmp_path / "tiles.tif"
    export_cog(CoordinateEngine(), WORLD, box_bounds(Box(9, 256 * 40, 256 * 60, 1024, 1024)), 9, path)
    with rasterio.open(path) as dataset:
        full = dataset.read(3).astype(float)
    means = full.reshape(512, 2, 512, 2).mean(axis=(1, 3))
    with rasterio.open(path, overview_level=0) as overview:
        assert np.abs(overview.read(3) - means).max() <= 0.5


def test_the_file_says_that_it_is_synthetic_and_whence(finished: Path) -> None:
    with rasterio.open(finished) as dataset:
        tags = dataset.tags()
    assert tags["EARTHGEN_SYNTHETIC"] == "YES"
    assert tags["EARTHGEN_WORLD_ID"] == WORLD.id
    assert tags["EARTHGEN_WORLD"] == WORLD.canonical_json
    assert tags["EARTHGEN_WEIGHTS"] == "stand-in"
    assert tags["EARTHGEN_FINGERPRINT"] == "stand-in-1"
    assert tags["EARTHGEN_ZOOM"] == "9"
    assert tags["TIFFTAG_SOFTWARE"] == f"earthgen {earthgen.__version__}"
    assert "ynthetic" in tags["TIFFTAG_IMAGEDESCRIPTION"]


def test_a_gdal_client_reads_it(finished: Path, gdal_translate: str, tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    subprocess.run([gdal_translate, "-q", "-of", "PNG", str(finished), str(picture)], check=True)
    report = subprocess.run([program("gdalinfo"), str(finished)], check=True, capture_output=True, text=True).stdout
    assert "Size is 1100, 560" in report
    assert 'ID["EPSG",3857]' in report
    with rasterio.open(picture) as dataset:
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), CoordinateEngine().pixels(WORLD, BOX))


def test_nothing_but_the_file_is_left(finished: Path) -> None:
    assert os.listdir(finished.parent) == ["out.tif"]


def test_equal_arguments_give_equal_bytes(finished: Path, tmp_path: Path) -> None:
    export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, tmp_path / "again.tif")
    assert (tmp_path / "again.tif").read_bytes() == finished.read_bytes()


def test_pieces_are_small_whole_windows_and_made_once(tmp_path: Path) -> None:
    engine = CoordinateEngine()
    export_cog(engine, WORLD, BOUNDS, BOX.zoom, tmp_path / "out.tif")
    assert sum(box.height * box.width for box in engine.boxes) == BOX.height * BOX.width
    assert len(set(engine.boxes)) == len(engine.boxes)
    for box in engine.boxes:
        assert box.height <= PIECE_SIZE and box.width <= PIECE_SIZE
        for start, length, first, whole in (
            (box.row, box.height, BOX.row, BOX.height),
            (box.column, box.width, BOX.column, BOX.width),
        ):
            assert start == first or start % WINDOW_SIZE == 0
            assert start + length == first + whole or (start + length) % WINDOW_SIZE == 0


def test_a_region_smaller_than_a_block_is_a_valid_cog_too(tmp_path: Path) -> None:
    box = export_cog(CoordinateEngine(), WORLD, (10, 10, 10.001, 10.001), 12, tmp_path / "small.tif")
    assert box.width < 10
    assert cog_validate(tmp_path / "small.tif", strict=True)[0]


@pytest.mark.parametrize(("height", "width", "least"), [(1, 1500, 4), (1500, 1, 4), (513, 3, 2)])
def test_a_sliver_is_a_valid_cog_too(height: int, width: int, least: int, tmp_path: Path) -> None:
    sliver = Box(9, 40_100, 60_013, height, width)
    box = export_cog(CoordinateEngine(), WORLD, box_bounds(sliver), 9, tmp_path / "sliver.tif")
    assert box == Box(9, 40_100, 60_013, max(height, least), max(width, least))
    assert cog_validate(tmp_path / "sliver.tif", strict=True)[0]
    with rasterio.open(tmp_path / "sliver.tif") as dataset:
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), CoordinateEngine().pixels(WORLD, box))


def test_a_sliver_at_the_edge_of_the_world_is_widened_inwards(tmp_path: Path) -> None:
    box = export_cog(CoordinateEngine(), WORLD, (179.9999, -60, 180, 60), 3, tmp_path / "sliver.tif")
    assert box.width == 2
    assert box.column + box.width == 2048


def test_the_whole_world_can_be_exported(tmp_path: Path) -> None:
    box = export_cog(CoordinateEngine(), WORLD, (-180, -90, 180, 90), 1, tmp_path / "world.tif")
    assert box == Box(1, 0, 0, 512, 512)


def test_progress_counts_pieces_up_to_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, tmp_path / "out.tif", lambda *step: seen.append(step))
    total = seen[-1][1]
    assert seen == [(done, total) for done in range(total + 1)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OverloadedError("busy"), SystemExit(1)])
def test_a_stopped_export_leaves_no_file_and_goes_on_to_the_same_bytes(
    error: BaseException, finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.tif"
    with pytest.raises(type(error)):
        export_cog(FailingEngine(4, error), WORLD, BOUNDS, BOX.zoom, path)
    assert os.listdir(tmp_path) == ["out.tif.part"]

    seen: list[tuple[int, int]] = []
    engine = CoordinateEngine()
    export_cog(engine, WORLD, BOUNDS, BOX.zoom, path, lambda *step: seen.append(step))
    assert seen[0][0] == 4
    assert len(engine.boxes) == seen[0][1] - 4
    assert path.read_bytes() == finished.read_bytes()
    assert os.listdir(tmp_path) == ["out.tif"]


KILLED = """
import os, signal, sys
from pathlib import Path
from earthgen.export import cog
from tests.stand_in import CoordinateEngine
from tests.test_export import BOUNDS, BOX, WORLD

count, replace, translate = int(sys.argv[1]), os.replace, cog.cog_translate
def counting(*args):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*args)
def dying(*args, **kwargs):
    translate(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = counting
if count == 0:
    cog.cog_translate = dying
cog.export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, sys.argv[2])
"""


@pytest.mark.parametrize("moment", ["while a piece is written", "after joining"])
def test_a_killed_export_goes_on_to_the_same_bytes(moment: str, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    writes = {"while a piece is written": "4", "after joining": "0"}[moment]
    killed = subprocess.run([sys.executable, "-c", KILLED, writes, str(path)], cwd=Path(__file__).parents[1])
    assert killed.returncode == -9
    assert os.listdir(tmp_path) == ["out.tif.part"]
    engine = CoordinateEngine()
    export_cog(engine, WORLD, BOUNDS, BOX.zoom, path)
    assert len(engine.boxes) == (4 if writes == "4" else 0)
    assert path.read_bytes() == finished.read_bytes()
    assert os.listdir(tmp_path) == ["out.tif"]


@pytest.mark.parametrize("change", ["world", "fingerprint", "zoom", "bounds"])
def test_unfinished_work_of_another_job_is_not_used(change: str, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    with pytest.raises(OverloadedError):
        export_cog(FailingEngine(1, OverloadedError("busy")), WORLD, BOUNDS, BOX.zoom, path)
    engine, world, zoom, bounds = CoordinateEngine(), WORLD, BOX.zoom, BOUNDS
    if change == "world":
        world = World("planet", 8)
    elif change == "fingerprint":
        engine.fingerprint = "stand-in-2"
    elif change == "zoom":
        zoom = 8
    else:
        bounds = box_bounds(Box(9, 40_100, 60_013, 500, 1100))
    box = export_cog(engine, world, bounds, zoom, path)
    with rasterio.open(path) as dataset:
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), CoordinateEngine().pixels(world, box))
    assert box == bounds_box(bounds, zoom)


def test_an_export_that_made_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OverloadedError):
        export_cog(FailingEngine(0, OverloadedError("busy")), WORLD, BOUNDS, BOX.zoom, tmp_path / "out.tif")
    assert os.listdir(tmp_path) == []


def test_an_older_file_stays_until_the_new_one_is_whole(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    path.write_bytes(b"older")
    with pytest.raises(OverloadedError):
        export_cog(FailingEngine(2, OverloadedError("busy")), WORLD, BOUNDS, BOX.zoom, path)
    assert path.read_bytes() == b"older"
    export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, path)
    assert path.read_bytes() == finished.read_bytes()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_a_disk_that_fills_up_is_a_clear_error_and_work_goes_on_later(
    size: int, finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.tif"
    with files_of_at_most(size), pytest.raises(ExportError, match=r"out.tif cannot be written: "):
        export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, path)
    assert not path.exists()
    export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, path)
    assert path.read_bytes() == finished.read_bytes()


def test_two_exports_of_one_file_do_not_mix(tmp_path: Path) -> None:
    part = tmp_path / "out.tif.part"
    part.mkdir()
    with FileLock(part / "lock"), pytest.raises(ExportError, match="another process is writing"):
        export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, tmp_path / "out.tif")


def test_a_foreign_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    part = tmp_path / "out.tif.part"
    part.mkdir()
    (part / "diary.txt").write_text("mine")
    with pytest.raises(ExportError, match="is in the way"):
        export_cog(CoordinateEngine(), WORLD, BOUNDS, BOX.zoom, tmp_path / "out.tif")
    assert (part / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("out.png", "does not end in .tif"), ("missing/out.tif", "does not exist"), ("folder.tif", "is a folder")],
)
def test_a_bad_path_is_refused_before_any_work(name: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    engine = CoordinateEngine()
    with pytest.raises(ExportError, match=complaint):
        export_cog(engine, WORLD, BOUNDS, BOX.zoom, tmp_path / name)
    assert engine.boxes == []
    assert os.listdir(tmp_path) == ["folder.tif"]


@pytest.mark.parametrize(
    ("bounds", "zoom", "error"),
    [
        ((170, 0, -170, 1), 3, AddressError),
        ((0, 0, float("nan"), 1), 3, AddressError),
        (BOUNDS, 19, AddressError),
        ((-180, -85, 180, 85), 10, RequestTooLargeError),
    ],
)
def test_a_bad_region_is_refused_before_any_work(
    bounds: Bounds, zoom: int, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        export_cog(CoordinateEngine(), WORLD, bounds, zoom, tmp_path / "out.tif")
    assert os.listdir(tmp_path) == []


def test_the_bound_on_pixels_is_the_callers(tmp_path: Path) -> None:
    engine, path, pixels = CoordinateEngine(), tmp_path / "out.tif", BOX.width * BOX.height
    with pytest.raises(RequestTooLargeError, match="1100 x 560 = 616000 pixels at zoom 9; at most 615999"):
        export_cog(engine, WORLD, BOUNDS, BOX.zoom, path, max_pixels=pixels - 1)
    assert export_cog(engine, WORLD, BOUNDS, BOX.zoom, path, max_pixels=pixels) == BOX
