"""Seams as a number: how strong the gradient across window borders is, beside the gradient elsewhere.

    python -m benchmarks.seams

The network halves its resolution twice, on a lattice of 16 pixels that window borders are part of, so the fair
comparison for a window border is with the other lines of every 32 pixels. Two more columns tell whether that
lattice shows, beside the other borders of 4x4 blocks, and whether the blocks show, beside their insides.
All should be 1.00.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from earthgen import Engine, World
from earthgen.pyramid import MAX_ZOOM, ROOT_ZOOM, SCALE, WINDOW_SIZE, Box, point_pixel

LATTICE = 32
"""Pixels between the lines that window borders are compared with."""

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


def gradients(engine: Engine, world: World, longitude: float, latitude: float, zoom: int) -> npt.NDArray[np.float64]:
    """Mean gradient across window borders, lattice lines, other block borders, and inside blocks; (4,)."""
    row, column = (
        value // WINDOW_SIZE * WINDOW_SIZE - WINDOW_SIZE // 2 for value in point_pixel(longitude, latitude, zoom)
    )
    side = 4 * WINDOW_SIZE
    pixels = engine.pixels(world, Box(zoom, row, column, side, side)).astype(np.float64)
    across = np.abs(np.diff(pixels, axis=1)).mean(axis=(0, 2)) + np.abs(np.diff(pixels, axis=0)).mean(axis=(1, 2))
    position = np.arange(1, side) - WINDOW_SIZE // 2
    kinds = [position % size == 0 for size in (WINDOW_SIZE, LATTICE, SCALE, 1)]
    return np.array(
        [across[kind & ~coarser].mean() for coarser, kind in zip([kinds[0] & False, *kinds], kinds, strict=False)]
    )


def main(
    weights: Annotated[str | None, typer.Option(help="weights folder; default: the shipped ones")] = None,
    cache: Annotated[Path | None, typer.Option(help="cache folder")] = None,
    root: Annotated[str, typer.Option(help="earth or planet")] = "earth",
) -> None:
    """Print the ratios for each level, summed over ten places."""
    world = World.from_dict({"root": root, "seed": 7})
    typer.echo(
        "| zoom | window border / inside | window border / lattice | lattice / block border | block border / inside |"
    )
    typer.echo("|---|---|---|---|---|")
    with Engine.open(weights, cache) as engine:
        for zoom in range(ROOT_ZOOM + 2, MAX_ZOOM + 1, 2):
            table = np.array([gradients(engine, world, *place[1:], zoom) for place in PLACES])
            window, lattice, block, inside = table.sum(axis=0)
            ratios = (window / inside, window / lattice, lattice / block, block / inside)
            typer.echo(f"| {zoom} | " + " | ".join(f"{ratio:.3f}" for ratio in ratios) + " |")


if __name__ == "__main__":
    typer.run(main)
