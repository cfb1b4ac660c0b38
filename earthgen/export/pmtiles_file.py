"""PMTiles 3: tiles in one file that a browser reads by ranges, without a tile server (https://docs.protomaps.com/pmtiles).

Header, metadata and directories are the pmtiles package's; its `Writer` is not used, because it takes tiles for equal
whose 64-bit hashes are, and keeps a second copy of the archive in the folder for temporary files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthgen.errors import ExportError
from earthgen.export.image import ImageFormat
from earthgen.export.tileset import TileSet

if TYPE_CHECKING:
    from pmtiles.tile import Entry


def check_pmtiles() -> None:
    """Raise ExportError unless the pmtiles package is installed."""
    try:
        import pmtiles.writer  # noqa: F401
    except ImportError as error:
        raise ExportError("PMTiles need a library that is not installed: pip install 'earthgen[export]'") from error


def write_pmtiles(
    path: Path, shelf: sqlite3.Connection, tiles: TileSet, image: ImageFormat, about: Mapping[str, str]
) -> None:
    """Write finished tiles as a PMTiles file, clustered: in the order of its directory, equal tiles once.

    Args:
        path: where.
        shelf: a database with a table `tiles (z, x, y, digest, size, data)`.
        tiles: what is in it.
        image: how tiles are packed.
        about: further metadata.

    Raises:
        ExportError: tiles are missing.
        OSError: the file cannot be written.
    """
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import finalize_header

    shelf.execute("PRAGMA temp_store = MEMORY")
    shelf.create_function("tile_id", 3, zxy_to_tileid, deterministic=True)
    # Addresses and digests are sorted without the images, which are fetched one by one.
    shelf.execute("CREATE TEMP TABLE ordered (id INTEGER PRIMARY KEY, source INTEGER, digest BLOB, size INTEGER)")
    shelf.execute("INSERT INTO ordered SELECT tile_id(z, x, y), rowid, digest, size FROM tiles")
    entries, sources, length = _directory(shelf)
    (count,) = shelf.execute("SELECT count(*) FROM ordered").fetchone()
    if count != tiles.total:
        raise ExportError(f"{count} of {tiles.total} tiles are there")
    west, south, east, north = (round(degrees * 1e7) for degrees in tiles.bounds)
    header: dict[str, Any] = {
        "tile_type": {"png": TileType.PNG, "jpg": TileType.JPEG, "webp": TileType.WEBP}[image],
        "tile_compression": Compression.NONE,
        "min_lon_e7": west,
        "min_lat_e7": south,
        "max_lon_e7": east,
        "max_lat_e7": north,
        "center_zoom": tiles.center_zoom,
        "center_lon_e7": (west + east) // 2,
        "center_lat_e7": (south + north) // 2,
    }
    parts = finalize_header(header, count, entries, len(sources), dict(about), True, length)
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        for source in sources:
            (data,) = shelf.execute("SELECT data FROM tiles WHERE rowid = ?", (source,)).fetchone()
            file.write(data)
    if path.stat().st_size != sum(map(len, parts)) + length:
        raise ExportError("the finished file is shorter than its tiles")


def _directory(shelf: sqlite3.Connection) -> tuple[list[Entry], list[int], int]:
    """The entries of the archive, the rows of `tiles` whose images it holds in this order, and their bytes in all."""
    from pmtiles.tile import Entry

    entries: list[Entry] = []
    sources: list[int] = []
    places: dict[bytes, int] = {}
    length = 0
    rows = shelf.execute("SELECT id, source, digest, size FROM ordered ORDER BY id")
    for tile_id, source, digest, size in rows:
        offset = places.get(digest)
        if offset is None:
            offset = places[digest] = length
            sources.append(source)
            length += size
        last = entries[-1] if entries else None
        if last is not None and last.offset == offset and tile_id == last.tile_id + last.run_length:
            last.run_length += 1
        else:
            entries.append(Entry(tile_id, offset, size, 1))
    return entries, sources, length
