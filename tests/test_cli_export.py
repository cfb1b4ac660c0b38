"""`earthgen export`: what it writes, what it says, and how it fails."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from pmtiles.reader import MmapSource, Reader

import earthgen.engine
from earthgen.bands import BANDS
from earthgen.cli import main
from earthgen.cli_export import parsed_size, parsed_time, said_size, said_time
from earthgen.errors import InvalidRequestError
from earthgen.export.estimate import estimate_export
from earthgen.export.tileset import TileAddress, TileSet
from earthgen.registry import WorldRegistry
from earthgen.world import World
from tests.stand_in import CoordinateEngine

PLANET_7 = World("planet", 7)
AREA = ["--bbox", "11.3,47.1,11.7,47.4", "--root", "planet", "--seed", "7"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache folder of its own and no settings from the environment."""
    for name in list(os.environ):
        if name.startswith("EARTHGEN_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "xdg" / "earthgen"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CoordinateEngine:
    """The engine that commands open."""
    stand_in = CoordinateEngine()
    monkeypatch.setattr(earthgen.engine.Engine, "open", lambda *_, **__: stand_in)
    return stand_in


def assert_one_line_error(captured: Any, *parts: str) -> None:
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("earthgen: ")
    for part in parts:
        assert part in captured.err


def test_it_writes_pmtiles(engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *AREA, "--zooms", "0-11", "--format", "webp", "-o", "out.pmtiles", "-q"]) == 0
    said = capsys.readouterr()
    total = TileSet.covering((11.3, 47.1, 11.7, 47.4), 0, 11).total
    assert re.fullmatch(rf"out\.pmtiles: {total} tiles, zooms 0-11, [\d.]+ kB\n", said.out)
    assert said.err == ""
    with (tmp_path / "out.pmtiles").open("rb") as file:
        reader = Reader(MmapSource(file))
        assert reader.metadata()["earthgen:world_id"] == PLANET_7.id
        assert reader.header()["addressed_tiles_count"] == total
    assert os.listdir(tmp_path) == ["out.pmtiles"]
    assert engine.closed


def test_it_writes_mbtiles_of_a_registered_world(
    engine: CoordinateEngine, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WorldRegistry(own_cache).register(PLANET_7)
    command = ["export", "--world", PLANET_7.id, "--bbox", "11.3,47.1,11.7,47.4", "--zooms", "9", "-o", "out.mbtiles"]
    assert main(command) == 0
    assert "out.mbtiles" in capsys.readouterr().err  # The progress bar.
    with closing(sqlite3.connect("out.mbtiles")) as database:
        ((z, x, row, data),) = database.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles")
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(np.asarray(picture), engine.tile(PLANET_7, z, x, 2**z - 1 - row))


def test_it_writes_a_pyramid_of_zooms_as_a_geotiff(
    engine: CoordinateEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *AREA, "--zooms", "0-12", "-o", "out.tif", "-q"]) == 0
    assert re.fullmatch(r"out\.tif: \d+ x \d+ pixels, zooms 10-12, [\d.]+ [kM]B\n", capsys.readouterr().out)
    with rasterio.open("out.tif") as dataset:
        assert dataset.overviews(1) == [2, 4]


def test_a_plan_says_what_it_would_cost_and_writes_nothing(
    engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out.pmtiles", "out.tif"):
        assert main(["export", *AREA, "--zooms", "9-12", "-o", name, "--plan", "-q"]) == 0
        said = capsys.readouterr().out
        assert re.search(r"^  12 +\d+$", said, re.MULTILINE)
        assert re.search(r"^size      about [\d.]+ \wB, .* are free there$", said, re.MULTILINE)
        assert re.search(r"^time      about [\d.e-]+ seconds here, measured on 6 tiles$", said, re.MULTILINE)
    assert os.listdir(tmp_path) == []


def test_an_estimate_counts_exactly_and_measures_size_and_pace() -> None:
    class Steady(CoordinateEngine):
        def tile(self, world: World, z: int, x: int, y: int, **_: Any) -> Any:
            time.sleep(0.01)
            return super().tile(world, z, x, y)

    tiles = TileSet.covering((11.3, 47.1, 11.7, 47.4), 8, 13)
    seen: list[TileAddress] = []

    def encode(tile: TileAddress) -> bytes:
        assert tile in tiles
        seen.append(tile)
        return bytes(1000 * tile.z)

    estimate = estimate_export(Steady(), PLANET_7, tiles, encode)
    assert estimate.tiles == tiles.counts()
    assert estimate.total == tiles.total
    assert estimate.bytes == sum(1000 * zoom * count for zoom, count in tiles.counts().items())
    # Each finest tile takes 10 ms; nothing else takes any to speak of.
    assert estimate.seconds >= 0.011 * tiles.counts()[13]
    assert {tile.z for tile in seen} == set(range(8, 14))


def test_a_limit_is_one_sentence_and_the_command_goes_on(
    engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", *AREA, "--zooms", "0-12", "-o", "out.mbtiles", "-q"]
    assert main([*command, "--limit-bytes", "20k"]) == 2
    assert_one_line_error(capsys.readouterr(), "the limit of 20000 bytes is reached", "out.mbtiles.part")
    assert os.listdir(tmp_path) == ["out.mbtiles.part"]
    assert main(command) == 0
    assert os.listdir(tmp_path) == ["out.mbtiles"]


INTERRUPTED = """
import signal, sys, time
import earthgen.engine
from earthgen.cli import main
from tests.stand_in import CoordinateEngine

class Slow(CoordinateEngine):
    def tile(self, world, z, x, y, **_):
        time.sleep(0.1)
        return super().tile(world, z, x, y)

# A shell that runs tests in the background has its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
earthgen.engine.Engine.open = lambda *_, **__: Slow()
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_ends_it_at_once_and_keeps_what_is_done(engine: CoordinateEngine, tmp_path: Path) -> None:
    command = ["export", *AREA, "--zooms", "0-12", "-o", str(tmp_path / "out.pmtiles")]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *command, "--no-cache"],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    shelf = tmp_path / "out.pmtiles.part" / "tiles.sqlite"
    deadline = time.monotonic() + 240
    # The journal has a length while tiles lie on the shelf that are not committed yet.
    journal = shelf.with_name("tiles.sqlite-journal")
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("earthgen: interrupted\n")
    assert "Traceback" not in said
    assert os.listdir(tmp_path) == ["out.pmtiles.part"]
    with closing(sqlite3.connect(shelf)) as database:
        (kept,) = database.execute("SELECT count(*) FROM tiles").fetchone()
    assert kept > 0
    assert main([*command, "-q", "--no-cache"]) == 0
    assert len(engine.boxes) == TileSet.covering((11.3, 47.1, 11.7, 47.4), 0, 12).total - kept


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--zooms", "0-19", "-o", "a.pmtiles"], ["zoom 19 is outside 0..18"]),
        (["--zooms", "5-3", "-o", "a.pmtiles"], ["the coarser zoom comes first"]),
        (["--zooms", "x", "-o", "a.pmtiles"], ["zooms are 'x'", "0-14"]),
        (["--zooms", "0-3", "-o", "a.zip"], ["'.zip'", ".pmtiles, .mbtiles, .tif"]),
        (["--zooms", "0-3", "-o", "missing/a.tif"], ["folder missing does not exist"]),
        (["--zooms", "0-3", "-o", "a.tif", "--format", "gif"], ["'gif'", "png, jpg, webp"]),
        (["--zooms", "0-3", "-o", "a.tif", "--image-quality", "0"], ["quality is 0"]),
        (["--zooms", "0-18", "-o", "a.pmtiles", "--bbox", "5,45,16,48"], ["tiles; at most 1048576 are allowed"]),
        (["--zooms", "0-14", "-o", "a.pmtiles", "--max-tiles", "50"], ["tiles; at most 50 are allowed"]),
        (["--zooms", "0-17", "-o", "a.tif"], ["pixels at zoom 17; at most 268435456 are allowed"]),
        (["--zooms", "0-3", "-o", "a.pmtiles", "--band", "landcover"], ["band landcover has zooms 13..18"]),
        (["--zooms", "0-3", "-o", "a.pmtiles", "--limit-bytes", "much"], ["limit of bytes is 'much'"]),
        (["--zooms", "0-3", "-o", "a.pmtiles", "--limit-time", "-1"], ["limit of time is '-1'"]),
        (["--zooms", "0-3", "-o", "a.pmtiles", "--world", "moon"], ["give either --world"]),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    words: list[str], parts: list[str], engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *AREA, *words]) == 2
    assert_one_line_error(capsys.readouterr(), *parts)
    assert engine.boxes == []
    assert os.listdir(tmp_path) == []


def test_a_band_is_exported_in_the_colours_of_its_legend(
    engine: CoordinateEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class View:
        band = BANDS["landcover"]
        weights_id = "view"
        fingerprint = "view-1"

        def __init__(self, *_: object) -> None:
            pass

        def tile(self, world: World, z: int, x: int, y: int, **_: object) -> Any:
            return np.full((256, 256), 6, dtype=np.uint8)

    monkeypatch.setattr("earthgen.bands.BandView", View)
    assert main(["export", *AREA, "--zooms", "13", "--band", "landcover", "-o", "cover.mbtiles", "-q"]) == 0
    with closing(sqlite3.connect("cover.mbtiles")) as database:
        (data,) = database.execute("SELECT tile_data FROM tiles").fetchone()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.getpixel((0, 0)) == (198, 66, 52)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("500M", 500_000_000), ("2.5g", 2_500_000_000), ("20 kB", 20_000), (None, None)]
)
def test_sizes_are_read(text: str | None, size: int | None) -> None:
    assert parsed_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), ("8h", 28800), (None, None)])
def test_times_are_read(text: str | None, seconds: float | None) -> None:
    assert parsed_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "M", "1e9", "nan", "5 weeks"])
def test_other_sizes_and_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="limit of bytes is"):
        parsed_size(text)
    with pytest.raises(InvalidRequestError, match="limit of time is"):
        parsed_time(text)


def test_sizes_and_times_are_said_for_people() -> None:
    assert [said_size(size) for size in (7, 999, 1000, 45_678_901, 3 * 10**13)] == [
        "7 bytes",
        "999 bytes",
        "1 kB",
        "45.7 MB",
        "30 TB",
    ]
    assert [said_time(seconds) for seconds in (0.5, 90, 600, 86400, 10**6)] == [
        "0.5 seconds",
        "90 seconds",
        "10 minutes",
        "24 hours",
        "11.6 days",
    ]
