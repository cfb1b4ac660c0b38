"""MBTiles 1.3: tiles in one SQLite database (https://github.com/mapbox/mbtiles-spec)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from earthgen.errors import ExportError
from earthgen.export.image import ImageFormat
from earthgen.export.tileset import TileSet

APPLICATION_ID = 0x4D504258
""""MPBX", by which programs tell an MBTiles file from other databases."""


def check_mbtiles() -> None:
    """Nothing is needed that Python does not have."""


def write_mbtiles(
    path: Path, shelf: sqlite3.Connection, tiles: TileSet, image: ImageFormat, about: Mapping[str, str]
) -> None:
    """Write finished tiles as an MBTiles file.

    Args:
        path: where; nothing is there yet.
        shelf: a database with a table `tiles (z, x, y, digest, size, data)`.
        tiles: what is in it.
        image: how tiles are packed.
        about: further metadata.

    Raises:
        ExportError: the file reads back differently.
        sqlite3.Error: it cannot be written.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # Nobody reads it before it is whole, so it needs no journal.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("BEGIN")
        database.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        database.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)"
        )
        database.executemany("INSERT INTO metadata VALUES (?, ?)", _metadata(tiles, image, about).items())
        # MBTiles counts rows from the south.
        rows = shelf.execute("SELECT z, x, (1 << z) - 1 - y AS row, data FROM tiles ORDER BY z, x, row")
        database.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
        database.execute("CREATE UNIQUE INDEX metadata_index ON metadata (name)")
        database.execute("CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row)")
        database.execute("COMMIT")
        (count,) = database.execute("SELECT count(*) FROM tiles").fetchone()
        (verdict,) = database.execute("PRAGMA quick_check").fetchone()
    if count != tiles.total or verdict != "ok":
        raise ExportError(f"the finished file reads back differently: {count} of {tiles.total} tiles, {verdict}")


def _metadata(tiles: TileSet, image: ImageFormat, about: Mapping[str, str]) -> dict[str, str]:
    west, south, east, north = tiles.bounds
    return {
        **about,
        "format": image,
        "bounds": f"{west:.8f},{south:.8f},{east:.8f},{north:.8f}",
        "center": f"{(west + east) / 2:.8f},{(south + north) / 2:.8f},{tiles.center_zoom}",
        "minzoom": str(tiles.min_zoom),
        "maxzoom": str(tiles.max_zoom),
    }
