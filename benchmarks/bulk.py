"""A thousand million tiles on paper: core-hours, bytes and index, from rates measured on this machine.

    python -m benchmarks.bulk [--places 24] [--backend torch]

Windows are counted; seconds of CPU, bytes of images and bytes of indexes are measured here, on blocks of 4x4 tiles at
zoom 18 at random places of the Earth. The rest is multiplication. `docs/bulk.md` names what is assumed.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.cost import needed_windows, print_heads
from earthgen import Box, Engine, World
from earthgen.entries import encode_entry
from earthgen.export.image import IMAGE_FORMATS, encode_image
from earthgen.pyramid import MAX_ZOOM, TILE_SIZE, WINDOW_SIZE, point_pixel
from earthgen.weights import load_weights

Pixels = npt.NDArray[np.uint8]

TILES = 1_000_000_000
BLOCK = 4
"""Tiles along the side of a measured block."""
WORLD = World("earth", 7)
FINEST_SHARE = 3 / 4
"""Of the tiles of a deep pyramid those at its finest zoom: 1 / (1 + 1/4 + 1/16 + ...)."""


def places(count: int, seed: int = 0) -> list[tuple[float, float]]:
    """Longitudes and latitudes, spread evenly over the sphere between 60 degrees south and north."""
    random = np.random.default_rng(seed)
    heights = random.uniform(-np.sin(np.pi / 3), np.sin(np.pi / 3), count)
    return list(zip(random.uniform(-180, 180, count).tolist(), np.degrees(np.arcsin(heights)).tolist(), strict=True))


def block_at(longitude: float, latitude: float, tiles: int, zoom: int = MAX_ZOOM) -> Box:
    """The block of tiles, aligned to its own size, in which a place lies."""
    side = tiles * TILE_SIZE
    row, column = (pixel // side * side for pixel in point_pixel(longitude, latitude, zoom))
    return Box(zoom, row, column, side, side)


def print_windows(margin: int, spots: Iterable[tuple[float, float]]) -> None:
    """Windows for each tile of a block at zoom 18 with an empty store: counted, not run."""
    spots = list(spots)
    print_heads("tiles of a work item", "windows a tile", "of these at the finest level")
    for tiles in (1, 4, 16, 64):
        counts = [needed_windows(block_at(*spot, tiles), margin) for spot in spots[: 16 if tiles < 64 else 3]]
        each = np.mean([sum(count.values()) for count in counts]) / tiles**2
        finest = np.mean([count[MAX_ZOOM] / sum(count.values()) for count in counts])
        typer.echo(f"| {tiles}x{tiles} | {each:.3f} | {finest:.1%} |")


def measured_blocks(spots: Iterable[tuple[float, float]], backend: str) -> tuple[float, list[Pixels]]:
    """CPU seconds a window, all that is done for it included, and the tiles of the blocks."""
    tiles: list[Pixels] = []
    seconds, windows = 0.0, 0
    with Engine.open(threads=1, backend=backend) as engine:
        engine.tile(WORLD, 6, 0, 0)  # The root, and the first call's preparations.
        for spot in spots:
            box = block_at(*spot, BLOCK)
            before, begun = engine.counts.computed, time.process_time()
            pixels = engine.pixels(WORLD, box)
            seconds += time.process_time() - begun
            windows += engine.counts.computed - before
            tiles += [
                np.ascontiguousarray(pixels[row : row + TILE_SIZE, column : column + TILE_SIZE])
                for row, column in product(range(0, BLOCK * TILE_SIZE, TILE_SIZE), repeat=2)
            ]
    return seconds / windows, tiles


def print_images(tiles: list[Pixels]) -> dict[str, list[int]]:
    """Bytes and CPU seconds of tiles as images; returns the bytes of each."""
    typer.echo(f"{len(tiles)} tiles of more than one colour")
    sizes: dict[str, list[int]] = {}
    print_heads("image", "bytes a tile", "smallest and largest tenth", "CPU ms a tile", f"TB of {TILES:.0e} tiles")
    for image in IMAGE_FORMATS:
        begun = time.process_time()
        sizes[image] = [len(encode_image(tile, image)) for tile in tiles]
        seconds = (time.process_time() - begun) / len(tiles)
        low, high = np.quantile(sizes[image], (0.1, 0.9))
        mean = float(np.mean(sizes[image]))
        typer.echo(
            f"| {image} | {mean:,.0f} | {low:,.0f}, {high:,.0f} | {seconds * 1e3:.1f} | {mean * TILES / 1e12:.1f} |"
        )
    return sizes


def print_indexes(sizes: list[int], entries: int) -> None:
    """Bytes an entry of the index of archives of as many tiles as may be by default."""
    from pmtiles.tile import Entry, serialize_directory

    random = np.random.default_rng(1)
    # A few hundred sizes that come back would be packed too well.
    drawn = (random.choice(sizes, entries) * random.uniform(0.9, 1.1, entries)).astype(int)
    offsets = np.concatenate([[0], np.cumsum(drawn)[:-1]])
    ids = range(1 << 34, (1 << 34) + entries)
    rows = [Entry(*row, 1) for row in zip(ids, offsets.tolist(), drawn.tolist(), strict=True)]
    leaves = sum(len(serialize_directory(rows[at : at + 4096])) for at in range(0, entries, 4096))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.mbtiles"
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE tiles (z INTEGER, x INTEGER, y INTEGER, size INTEGER)")
            database.execute("CREATE UNIQUE INDEX place ON tiles (z, x, y)")
            side = int(entries**0.5)
            database.executemany(
                "INSERT INTO tiles VALUES (18, ?, ?, 0)",
                ((100_000 + index // side, 100_000 + index % side) for index in range(side * side)),
            )
        database.close()
        rows_and_index = path.stat().st_size
    print_heads("index", f"bytes an entry, {entries:,} entries", f"GB of {TILES:.0e}")
    for name, size in (
        ("PMTiles directories", leaves),
        ("SQLite: rows without images, and their index", rows_and_index),
    ):
        typer.echo(f"| {name} | {size / entries:.1f} | {size / entries * TILES / 1e9:.1f} |")


def main(
    count: Annotated[int, typer.Option("--places", min=1, help="Blocks that are made.")] = 24,
    backend: Annotated[str, typer.Option(help="torch or openvino.")] = "torch",
    entries: Annotated[int, typer.Option(min=4, help="Entries of the measured indexes.")] = 1 << 20,
) -> None:
    """Print the tables of docs/bulk.md."""
    spots = places(count)
    print_windows(load_weights().net.config["margin"], spots)
    seconds, tiles = measured_blocks(spots, backend)
    entry = len(encode_entry(np.zeros((WINDOW_SIZE, WINDOW_SIZE, 3), dtype=np.uint8), "window"))
    typer.echo(
        f"\n{backend}: {seconds * 1e3:.1f} CPU ms a window, over {count} blocks; {entry:,} bytes of it in a store"
    )
    # Calm sea is one colour, costs an image nothing, and would hide what land costs.
    busy = [tile for tile in tiles if (tile != tile[0, 0]).any()]
    if not busy:
        raise typer.BadParameter(f"all {len(tiles)} tiles are of one colour; more --places are needed")
    sizes = print_images(busy)
    print_indexes(sizes["webp"], entries)


if __name__ == "__main__":
    typer.run(main)
