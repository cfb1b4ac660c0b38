"""Archives of tiles: which tiles, in which order, and that no interruption shows in the file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mercantile
import numpy as np
import numpy.typing as npt
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from earthgen.errors import (
    AddressError,
    ExportError,
    InvalidRequestError,
    OverloadedError,
    RequestCancelledError,
    RequestTooLargeError,
)
from earthgen.export.tiles import export_tiles
from earthgen.export.tileset import TileAddress, TileSet, parsed_zooms
from earthgen.export.work import Limits
from earthgen.pyramid import MAX_LATITUDE, Bounds, bounds_box
from earthgen.world import World
from tests import strategies
from tests.stand_in import CoordinateEngine
from tests.test_export import files_of_at_most

WORLD = World("planet", 7)
BOUNDS = (11.3, 47.1, 11.7, 47.4)
ZOOMS = (4, 11)
TILES = TileSet.covering(BOUNDS, *ZOOMS)
ENDINGS = (".pmtiles", ".mbtiles")


class CountingEngine(CoordinateEngine):
    """Remembers which tiles it was asked for, and fails at one of them."""

    def __init__(self, fails_at: TileAddress | None = None, error: BaseException | None = None) -> None:
        super().__init__()
        self.asked: list[TileAddress] = []
        self.fails_at, self.error = fails_at, error

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Callable[[], bool] | None = None
    ) -> npt.NDArray[np.uint8]:
        self.asked.append(TileAddress(z, x, y))
        if self.error is not None and self.fails_at == (z, x, y):
            raise self.error
        return super().tile(world, z, x, y)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archives that nothing disturbed, by ending."""
    folder = tmp_path_factory.mktemp("tiles")
    paths = {ending: folder / f"out{ending}" for ending in ENDINGS}
    for path in paths.values():
        assert export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path) == TILES
    assert sorted(os.listdir(folder)) == ["out.mbtiles", "out.pmtiles"]
    return paths


@pytest.fixture(params=ENDINGS)
def whole(request: pytest.FixtureRequest, finished: dict[str, Path]) -> Path:
    """One of them."""
    return finished[request.param]


small_sets = st.tuples(strategies.bounds(), st.integers(0, 5), st.integers(0, 4)).map(
    lambda drawn: TileSet.covering(drawn[0], drawn[1], drawn[1] + drawn[2])
)


@given(tiles=small_sets)
def test_a_set_is_listed_once_parents_first(tiles: TileSet) -> None:
    listed = list(tiles)
    assert len(set(listed)) == len(listed) == tiles.total == sum(tiles.counts().values())
    seen: set[TileAddress] = set()
    for tile in listed:
        assert tile in tiles
        if tile.z > tiles.min_zoom:
            assert (tile.z - 1, tile.x // 2, tile.y // 2) in seen
        seen.add(tile)
    # What lies below a tile comes before its neighbour: quadkeys are sorted.
    keys = [mercantile.quadkey(tile.x, tile.y, tile.z) for tile in listed]
    assert keys == sorted(keys)


@given(bounds=strategies.bounds(), zooms=st.lists(strategies.zooms, min_size=2, max_size=2).map(sorted))
def test_a_set_covers_its_bounds_with_no_tile_too_many(bounds: Bounds, zooms: list[int]) -> None:
    tiles = TileSet.covering(bounds, *zooms)
    west, south, east, north = tiles.bounds
    assert west <= bounds[0] + 1e-6 and bounds[2] - 1e-6 <= east
    assert south <= max(bounds[1], -MAX_LATITUDE) + 1e-6 and min(bounds[3], MAX_LATITUDE) - 1e-6 <= north
    for zoom in {tiles.min_zoom, tiles.max_zoom}:
        box = bounds_box(bounds, zoom)
        left, top, right, bottom = tiles.range_at(zoom)
        assert (left, top) == (box.column // 256, box.row // 256)
        assert (right, bottom) == ((box.column + box.width + 255) // 256, (box.row + box.height + 255) // 256)
    assert tiles.min_zoom <= tiles.center_zoom <= tiles.max_zoom


@pytest.mark.parametrize(("text", "zooms"), [("0-14", (0, 14)), ("7", (7, 7)), ("18-18", (18, 18))])
def test_zooms_are_read(text: str, zooms: tuple[int, int]) -> None:
    assert parsed_zooms(text) == zooms


@pytest.mark.parametrize("text", ["", "-", "a", "3-", "-3", "5-3", "0-19", "1-2-3", "1.5"])
def test_other_zooms_are_refused(text: str) -> None:
    with pytest.raises(AddressError, match="zoom"):
        parsed_zooms(text)


def test_equal_arguments_give_equal_bytes(whole: Path, tmp_path: Path) -> None:
    again = tmp_path / whole.name
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, again, workers=1)
    assert again.read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == [whole.name]


def test_progress_counts_tiles_up_to_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    engine = CountingEngine()
    export_tiles(engine, WORLD, BOUNDS, ZOOMS, tmp_path / "out.mbtiles", lambda *step: seen.append(step))
    assert seen == [(done, TILES.total) for done in range(TILES.total + 1)]
    assert sorted(engine.asked) == sorted(TILES)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OverloadedError("busy"), SystemExit(1)])
def test_a_stopped_export_leaves_no_file_and_goes_on_to_the_same_bytes(
    error: BaseException, whole: Path, tmp_path: Path
) -> None:
    path, stopped_at = tmp_path / whole.name, 9
    engine = CountingEngine(list(TILES)[stopped_at], error)
    with pytest.raises(type(error)):
        export_tiles(engine, WORLD, BOUNDS, ZOOMS, path)
    assert os.listdir(tmp_path) == [f"{whole.name}.part"]

    seen: list[tuple[int, int]] = []
    engine = CountingEngine()
    export_tiles(engine, WORLD, BOUNDS, ZOOMS, path, lambda *step: seen.append(step))
    assert seen[0] == (stopped_at, TILES.total)
    assert sorted(engine.asked) == sorted(list(TILES)[stopped_at:])
    assert path.read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == [whole.name]


KILLED = f"""
import os, signal, sys
import earthgen.export.tiles as tiles
from earthgen import World
from tests.stand_in import CoordinateEngine

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

tiles.COMMIT_SECONDS = 0
path, moment = sys.argv[1:]
if moment == "while the archive is written":
    tiles.publish = die
die_at = int(moment) if moment.isdigit() else -1
tiles.export_tiles(
    CoordinateEngine(), World("planet", 7), {BOUNDS}, {ZOOMS}, path, lambda done, total: done == die_at and die()
)
"""


@pytest.mark.parametrize("moment", ["1", "13", "while the archive is written"])
def test_a_killed_export_goes_on_to_the_same_bytes(moment: str, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / whole.name
    command = [sys.executable, "-c", KILLED, str(path), moment]
    assert subprocess.run(command, cwd=Path(__file__).parents[1]).returncode == -9
    assert os.listdir(tmp_path) == [f"{whole.name}.part"]
    engine = CountingEngine()
    export_tiles(engine, WORLD, BOUNDS, ZOOMS, path)
    assert len(engine.asked) == (TILES.total - int(moment) if moment.isdigit() else 0)
    assert path.read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == [whole.name]


OFTEN_KILLED = f"""
import sys, time
import earthgen.export.tiles as tiles
from earthgen import World
from tests.stand_in import CoordinateEngine

tiles.COMMIT_SECONDS = 0.01
print("begun", flush=True)
tiles.export_tiles(
    CoordinateEngine(), World("planet", 7), {BOUNDS}, {ZOOMS}, sys.argv[1], lambda *_: time.sleep(0.01)
)
"""


def test_an_export_that_is_killed_at_any_moment_goes_on_to_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / whole.name
    for attempt in range(4):
        command = [sys.executable, "-c", OFTEN_KILLED, str(path)]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.06 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if path.exists():
            break
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert path.read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == [whole.name]


@pytest.mark.parametrize("change", ["world", "fingerprint", "zooms", "bounds", "image"])
def test_unfinished_work_of_another_job_is_not_used(change: str, tmp_path: Path) -> None:
    path = tmp_path / "out.pmtiles"
    with pytest.raises(OverloadedError):
        export_tiles(CountingEngine(list(TILES)[5], OverloadedError("busy")), WORLD, BOUNDS, ZOOMS, path)
    engine = CountingEngine()
    if change == "fingerprint":
        engine.fingerprint = "stand-in-2"
    tiles = export_tiles(
        engine,
        World("planet", 8) if change == "world" else WORLD,
        (11.3, 47.1, 11.8, 47.4) if change == "bounds" else BOUNDS,
        (5, 11) if change == "zooms" else ZOOMS,
        path,
        image="webp" if change == "image" else "png",
    )
    assert sorted(engine.asked) == sorted(tiles)


def test_an_export_that_made_nothing_leaves_nothing(tmp_path: Path) -> None:
    engine = CountingEngine(next(iter(TILES)), OverloadedError("busy"))
    with pytest.raises(OverloadedError):
        export_tiles(engine, WORLD, BOUNDS, ZOOMS, tmp_path / "out.pmtiles")
    assert os.listdir(tmp_path) == []


def test_work_ahead_is_dropped_when_the_export_stops(tmp_path: Path) -> None:
    class Waiting(CountingEngine):
        withdrawn = 0

        def tile(
            self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Callable[[], bool] | None = None
        ) -> npt.NDArray[np.uint8]:
            if TileAddress(z, x, y) in list(TILES)[:3]:
                return super().tile(world, z, x, y)
            assert cancelled is not None
            while not cancelled():
                time.sleep(0.005)
            self.withdrawn += 1
            raise RequestCancelledError("nobody waits for it any more")

    engine = Waiting(list(TILES)[2], KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        export_tiles(engine, WORLD, BOUNDS, ZOOMS, tmp_path / "out.pmtiles", workers=4)
    assert engine.withdrawn >= 1


@pytest.mark.parametrize("moment", ["while tiles are made", "while the archive is written"])
def test_a_disk_that_fills_up_is_a_clear_error_and_work_goes_on_later(moment: str, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / whole.name
    size = whole.stat().st_size // 3
    if moment == "while the archive is written":
        with pytest.raises(OverloadedError):
            export_tiles(CountingEngine(list(TILES)[-1], OverloadedError("busy")), WORLD, BOUNDS, ZOOMS, path)
    with files_of_at_most(size), pytest.raises(ExportError, match=rf"{whole.name} cannot be written: ") as raised:
        export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert "\n" not in str(raised.value)
    assert not path.exists()
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert path.read_bytes() == whole.read_bytes()


def test_a_limit_on_bytes_stops_it_and_a_later_run_goes_on(whole: Path, tmp_path: Path) -> None:
    path, most = tmp_path / whole.name, 20_000
    sentence = (
        rf"{whole.name} is not finished: the limit of {most} bytes is reached; \d+ of {TILES.total} tiles wait in"
    )
    with pytest.raises(ExportError, match=sentence):
        export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path, limits=Limits(bytes=most))
    assert not path.exists()
    with pytest.raises(ExportError, match=sentence):
        export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path, limits=Limits(bytes=most))
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert path.read_bytes() == whole.read_bytes()


def test_a_limit_on_time_stops_it_and_later_runs_get_further(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / whole.name
    done = []
    for _ in range(2):
        with pytest.raises(ExportError, match=r"the limit of 0\.05 seconds is reached") as raised:
            export_tiles(
                CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path, lambda *_: time.sleep(0.02), limits=Limits(seconds=0.05)
            )
        done.append(int(re.findall(r"(\d+) of \d+ tiles", str(raised.value))[0]))
    assert 0 < done[0] < done[1]
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    assert path.read_bytes() == whole.read_bytes()


def test_two_exports_of_one_file_do_not_mix(tmp_path: Path) -> None:
    part = tmp_path / "out.pmtiles.part"
    part.mkdir()
    with FileLock(part / "lock"), pytest.raises(ExportError, match="another process is writing"):
        export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, tmp_path / "out.pmtiles")


def test_what_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder.pmtiles").mkdir()
    engine = CountingEngine()
    for name, complaint in [
        ("out.zip", "does not end in .pmtiles or .mbtiles"),
        ("missing/out.pmtiles", "does not exist"),
        ("folder.pmtiles", "is a folder"),
    ]:
        with pytest.raises(ExportError, match=complaint):
            export_tiles(engine, WORLD, BOUNDS, ZOOMS, tmp_path / name)
    with pytest.raises(RequestTooLargeError, match=f"the archive has {TILES.total} tiles; at most 3 are allowed"):
        export_tiles(engine, WORLD, BOUNDS, ZOOMS, tmp_path / "out.pmtiles", max_tiles=3)
    with pytest.raises(AddressError):
        export_tiles(engine, WORLD, (170, 0, -170, 1), ZOOMS, tmp_path / "out.pmtiles")
    with pytest.raises(InvalidRequestError, match="image format is 'gif'; allowed: png, jpg, webp"):
        export_tiles(engine, WORLD, BOUNDS, ZOOMS, tmp_path / "out.pmtiles", image="gif")  # type: ignore[arg-type]
    assert engine.asked == []
    assert os.listdir(tmp_path) == ["folder.pmtiles"]


def test_without_the_library_pmtiles_are_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pmtiles.writer", None)
    with pytest.raises(ExportError, match=r"pip install 'earthgen\[export\]'"):
        export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, tmp_path / "out.pmtiles")
