"""MBTiles archives as the specification has them, and as GDAL reads them."""

from __future__ import annotations

import io
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image

from earthgen.export.image import ImageFormat
from earthgen.export.tiles import export_tiles
from earthgen.export.tileset import TileSet
from earthgen.pyramid import TILE_SIZE, Box, box_mercator_bounds
from earthgen.world import World
from tests.conftest import program
from tests.stand_in import CoordinateEngine

WORLD = World("planet", 7)
BOUNDS = (11.3, 47.1, 11.7, 47.4)
ZOOMS = (4, 11)
TILES = TileSet.covering(BOUNDS, *ZOOMS)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mbtiles") / "tyrol.mbtiles"
    export_tiles(CoordinateEngine(), WORLD, BOUNDS, ZOOMS, path)
    return path


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection


def box_at(zoom: int) -> Box:
    left, top, right, bottom = TILES.range_at(zoom)
    return Box(zoom, *(TILE_SIZE * value for value in (top, left, bottom - top, right - left)))


def pixels(box: Box) -> npt.NDArray[np.uint8]:
    return CoordinateEngine().pixels(WORLD, box)


def test_it_holds_the_engines_tiles_with_rows_from_the_south(database: sqlite3.Connection) -> None:
    found = set()
    for z, x, row, data in database.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles"):
        y = 2**z - 1 - row
        found.add((z, x, y))
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.format == "PNG"
            assert np.array_equal(np.asarray(picture), CoordinateEngine().tile(WORLD, z, x, y))
    assert found == set(TILES)


def test_it_is_laid_out_as_the_specification_says(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA application_id").fetchone() == (0x4D504258,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    columns = {
        table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")] for table in ("metadata", "tiles")
    }
    assert columns == {
        "metadata": ["name", "value"],
        "tiles": ["zoom_level", "tile_column", "tile_row", "tile_data"],
    }
    with pytest.raises(sqlite3.OperationalError):
        database.execute("DELETE FROM tiles")
    unique = [row for row in database.execute("PRAGMA index_list(tiles)") if row[2] == 1]
    assert len(unique) == 1


def test_the_metadata_say_what_where_and_whence(database: sqlite3.Connection) -> None:
    about = dict(database.execute("SELECT name, value FROM metadata"))
    assert about["name"] == "tyrol"
    assert about["format"] == "png"
    assert about["type"] == "baselayer"
    assert (about["minzoom"], about["maxzoom"]) == ("4", "11")
    assert tuple(map(float, about["bounds"].split(","))) == pytest.approx(TILES.bounds, abs=1e-7)
    longitude, latitude, zoom = about["center"].split(",")
    assert TILES.bounds[0] < float(longitude) < TILES.bounds[2]
    assert TILES.bounds[1] < float(latitude) < TILES.bounds[3]
    assert 4 <= int(zoom) <= 11
    assert "ynthetic" in about["attribution"] and "ynthetic" in about["description"]
    assert about["earthgen:world_id"] == WORLD.id
    assert about["earthgen:world"] == WORLD.canonical_json
    assert about["earthgen:weights"] == "stand-in"


def test_rasterio_reads_it_at_its_place_with_the_coarser_zooms_as_overviews(path: Path) -> None:
    box = box_at(11)
    with rasterio.open(path) as dataset:
        assert dataset.driver == "MBTiles"
        assert dataset.crs.to_epsg() == 3857
        assert dataset.shape == (box.height, box.width)
        assert tuple(dataset.bounds) == pytest.approx(box_mercator_bounds(box), abs=0.01)
        assert np.array_equal(np.moveaxis(dataset.read((1, 2, 3)), 0, -1), pixels(box))
        assert (dataset.read(4) == 255).all()
        assert dataset.overviews(1)[:2] == [2, 4]
        ground = dataset.bounds
    with rasterio.open(path, overview_level=0) as overview:
        coarse = np.moveaxis(overview.read((1, 2, 3)), 0, -1)
        metres = (ground.right - ground.left) / overview.width
    whole = box_at(10)
    left, _, _, top = box_mercator_bounds(whole)
    row, column = round((top - ground.top) / metres), round((ground.left - left) / metres)
    expected = pixels(whole)[row : row + coarse.shape[0], column : column + coarse.shape[1]]
    assert np.array_equal(coarse, expected)


@pytest.mark.parametrize("image", ["png", "jpg", "webp"])
def test_gdal_reads_every_image_format(image: ImageFormat, gdal_translate: str, tmp_path: Path) -> None:
    source, picture = tmp_path / "in.mbtiles", tmp_path / "out.tif"
    export_tiles(SmoothEngine(), WORLD, BOUNDS, (10, 11), source, image=image)
    report = subprocess.run([program("gdalinfo"), source], check=True, capture_output=True, text=True).stdout
    assert "Driver: MBTiles/MBTiles" in report
    assert 'ID["EPSG",3857]' in report
    subprocess.run([gdal_translate, "-q", "-b", "1", "-b", "2", "-b", "3", source, picture], check=True)
    with rasterio.open(picture) as dataset:
        back = np.moveaxis(dataset.read(), 0, -1).astype(int)
    difference = np.abs(back - SmoothEngine().pixels(WORLD, box_at(11)))
    assert difference.max() == 0 if image == "png" else difference.mean() < 6


class SmoothEngine(CoordinateEngine):
    """Colours that a lossy format keeps."""

    def tile(self, world: World, z: int, x: int, y: int, **_: object) -> npt.NDArray[np.uint8]:
        return self.pixels(world, Box(z, y * TILE_SIZE, x * TILE_SIZE, TILE_SIZE, TILE_SIZE))

    def pixels(self, world: World, box: Box, **_: object) -> npt.NDArray[np.uint8]:
        rows = 128 + 100 * np.sin(np.arange(box.row, box.row + box.height) / 97)[:, None]
        columns = 128 + 100 * np.sin(np.arange(box.column, box.column + box.width) / 61)[None, :]
        return np.stack([rows + 0 * columns, columns + 0 * rows, (rows + columns) / 2], axis=-1).astype(np.uint8)
