"""PMTiles archives as other programs read them."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import Compression, TileType, zxy_to_tileid

from earthgen.bands import BANDS
from earthgen.export.image import ImageFormat
from earthgen.export.pmtiles_file import write_pmtiles
from earthgen.export.tiles import export_tiles
from earthgen.export.tileset import TileSet
from earthgen.pyramid import Bounds
from earthgen.world import World
from tests import strategies
from tests.stand_in import CoordinateEngine

WORLD = World("planet", 7)
BOUNDS = (11.3, 47.1, 11.7, 47.4)
ZOOMS = (4, 11)
TILES = TileSet.covering(BOUNDS, *ZOOMS)


class Opened:
    """An archive in pmtiles' own reader."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._get = MmapSource(file)
        self.reader = Reader(self._get)
        self.header = self.reader.header()
        self.metadata = self.reader.metadata()

    def tiles(self) -> dict[tuple[int, int, int], bytes]:
        return {(int(z), int(x), int(y)): data for (z, x, y), data in all_tiles(self._get)}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    path = tmp_path_factory.mktemp("pmtiles") / "tyrol.pmtiles"
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    return Opened(path)


def test_it_holds_the_engines_tiles_and_no_others(opened: Opened) -> None:
    tiles = opened.tiles()
    assert tiles.keys() == set(TILES)
    engine = CoordinateEngine()
    for (z, x, y), data in tiles.items():
        assert opened.reader.get(z, x, y) == data
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.format == "PNG"
            assert np.array_equal(np.asarray(picture), engine.tile(WORLD, z, x, y))
    assert opened.reader.get(11, 0, 0) is None


def test_the_header_says_what_and_where(opened: Opened) -> None:
    header = opened.header
    assert header["version"] == 3
    assert (header["min_zoom"], header["max_zoom"]) == ZOOMS
    assert header["tile_type"] == TileType.PNG
    assert header["tile_compression"] == Compression.NONE
    assert header["clustered"]
    assert header["addressed_tiles_count"] == TILES.total
    west, south, east, north = TILES.bounds
    assert (header["min_lon_e7"] / 1e7, header["max_lon_e7"] / 1e7) == pytest.approx((west, east), abs=1e-7)
    assert (header["min_lat_e7"] / 1e7, header["max_lat_e7"] / 1e7) == pytest.approx((south, north), abs=1e-7)
    assert west <= header["center_lon_e7"] / 1e7 <= east
    assert south <= header["center_lat_e7"] / 1e7 <= north
    assert ZOOMS[0] <= header["center_zoom"] <= ZOOMS[1]


def test_the_metadata_say_that_it_is_synthetic_and_whence(opened: Opened) -> None:
    about = opened.metadata
    assert about["name"] == "tyrol"
    assert "ynthetic" in about["attribution"] and "ynthetic" in about["description"]
    assert about["earthgen:synthetic"] == "YES"
    assert about["earthgen:world_id"] == WORLD.id
    assert about["earthgen:world"] == WORLD.canonical_json
    assert about["earthgen:weights"] == "stand-in"
    assert about["earthgen:fingerprint"] == "stand-in-1"


@pytest.mark.parametrize(
    ("image", "kind", "decoder"), [("jpg", TileType.JPEG, "JPEG"), ("webp", TileType.WEBP, "WEBP")]
)
def test_images_can_be_small(image: ImageFormat, kind: TileType, decoder: str, tmp_path: Path) -> None:
    path = tmp_path / "small.pmtiles"
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, (9, 10), path, image=image, quality=40)
    small = Opened(path)
    assert small.header["tile_type"] == kind
    for data in small.tiles().values():
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.format == decoder
            assert picture.size == (256, 256)


class FlatEngine(CoordinateEngine):
    """One colour a zoom: all tiles of a zoom are equal."""

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Callable[[], bool] | None = None
    ) -> npt.NDArray[np.uint8]:
        return np.full((256, 256, 3), 10 * z, dtype=np.uint8)


def test_equal_tiles_are_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "flat.pmtiles"
    export_tiles(FlatEngine(), WORLD, (-180, -85, 180, 85), (0, 4), path)
    flat = Opened(path)
    assert flat.header["addressed_tiles_count"] == 341
    assert flat.header["tile_contents_count"] == 5
    assert flat.header["tile_entries_count"] == 5
    for (z, _, _), data in flat.tiles().items():
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.getpixel((0, 0)) == (10 * z,) * 3
    assert len(flat.tiles()) == 341


def test_an_archive_with_leaf_directories_is_whole(tmp_path: Path) -> None:
    """More entries than a root directory holds."""
    tiles, path, rng = TileSet(7, 7, 0, 0, 128, 128), tmp_path / "many.pmtiles", np.random.default_rng(0)
    images = {tile: rng.bytes(int(rng.integers(8, 2000))) for tile in tiles}
    with closing(sqlite3.connect(":memory:")) as shelf:
        shelf.execute("CREATE TABLE tiles (z, x, y, digest, size, data)")
        rows = ((*tile, data[:8], len(data), data) for tile, data in images.items())
        shelf.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?, ?, ?)", rows)
        write_pmtiles(path, shelf, tiles, "png", {})
    many = Opened(path)
    assert many.header["leaf_directory_length"] > 0
    assert many.tiles() == images


class FlickeringEngine(CoordinateEngine):
    """Small images that all differ."""

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Callable[[], bool] | None = None
    ) -> npt.NDArray[np.uint8]:
        return np.broadcast_to(np.array([x, y, 0], dtype=np.uint8), (16, 16, 3)).copy()


@settings(max_examples=15)
@given(bounds=strategies.bounds(), zoom=strategies.zooms)
def test_any_area_reads_back(bounds: Bounds, zoom: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    tiles = TileSet.covering(bounds, max(0, zoom - 1), zoom)
    if tiles.total > 60:
        return
    path = tmp_path_factory.mktemp("any") / "any.pmtiles"
    export_tiles(FlickeringEngine(), WORLD, bounds, (tiles.min_zoom, zoom), path)
    found = Opened(path).tiles()
    assert found.keys() == set(tiles)
    assert sorted(found, key=lambda tile: zxy_to_tileid(*tile)) == list(found)


class ClassEngine(CoordinateEngine):
    """Codes of land cover in place of colours."""

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Callable[[], bool] | None = None
    ) -> npt.NDArray[np.uint8]:
        return (super().tile(world, z, x, y)[..., 0] % 8).astype(np.uint8)


def test_a_band_is_shown_in_the_colours_of_its_legend(tmp_path: Path) -> None:
    path, band = tmp_path / "cover.pmtiles", BANDS["landcover"]
    export_tiles(ClassEngine(), WORLD, BOUNDS, (13, 13), path, band=band)
    cover = Opened(path)
    assert cover.metadata["earthgen:band"] == "landcover"
    assert cover.metadata["name"] == "cover: land cover"
    (z, x, y), data = next(iter(cover.tiles().items()))
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(np.asarray(picture), band.render(ClassEngine().tile(WORLD, z, x, y)))
