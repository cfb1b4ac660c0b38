"""Seams as a number: how strong the gradient across window borders is, beside the gradient elsewhere.

    python -m benchmarks.seams

Window borders lie between 4x4 blocks of children, so the fair comparison is with the other borders
between blocks. A second column tells whether the blocks themselves show: the gradient between blocks
over the gradient inside them. Both should be 1.00.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from earthgen import Engine, World
from earthgen.pyramid import MAX_ZOOM, ROOT_ZOOM, SCALE, WINDOW_SIZE, Box, point_pixel

PLACES: tuple[tuple[str, float, float], ...] = (
    ("Lisbon coast", -9.2, 38.7),
    ("Iowa", -93.5, 42.0),
    ("Alps", 8.0, 46.5),
    ("Sahara", 5.0, 24.0),
    ("Amazon", -62.0, -4.0),
    ("Tokyo", 139.7, 35.7),
    ("Mid-Atlantic", -35.0, 30.0),
    ("Himalaya", 86.9, 27.9),
    ("Siberia", 95.0, 62.0),
    ("Kenya", 37.0, -1.0),
)


def gradients(engine: Engine, world: World, longitude: float, latitude: float, zoom: int) -> tuple[float, float, float]:
    """Mean absolute difference of neighbours across window borders, across other block borders, inside blocks."""
    row, column = point_pixel(longitude, latitude, zoom)
    side = 2 * WINDOW_SIZE
    box = Box(
        zoom,
        row // WINDOW_SIZE * WINDOW_SIZE - WINDOW_SIZE // 2,
        column // WINDOW_SIZE * WINDOW_SIZE - WINDOW_SIZE // 2,
        side,
        side,
    )
    pixels = engine.pixels(world, box).astype(np.float64)
    across = np.abs(np.diff(pixels, axis=1)).mean(axis=(0, 2)) + np.abs(np.diff(pixels, axis=0)).mean(axis=(1, 2))
    after = np.arange(1, side)
    window = (after + box.column) % WINDOW_SIZE == 0
    block = ((after + box.column) % SCALE == 0) & ~window
    return float(across[window].mean()), float(across[block].mean()), float(across[~window & ~block].mean())


def main(
    weights: Annotated[str | None, typer.Option(help="weights folder; default: the shipped ones")] = None,
    cache: Annotated[Path | None, typer.Option(help="cache folder")] = None,
    root: Annotated[str, typer.Option(help="earth or planet")] = "earth",
) -> None:
    """Print both ratios for each level, over ten places."""
    world = World.from_dict({"root": root, "seed": 7})
    typer.echo("| zoom | window border / other block border | block border / inside a block |\n|---|---|---|")
    with Engine.open(weights, cache) as engine:
        for zoom in range(ROOT_ZOOM + 2, MAX_ZOOM + 1, 2):
            sums = np.sum([gradients(engine, world, *place[1:], zoom) for place in PLACES], axis=0)
            typer.echo(f"| {zoom} | {sums[0] / sums[1]:.3f} | {sums[1] / sums[2]:.3f} |")


if __name__ == "__main__":
    typer.run(main)
