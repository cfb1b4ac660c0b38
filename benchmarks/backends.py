"""The same world through each backend and each quality, turn about: cold tiles, neighbours, and how far pixels differ.

    python -m benchmarks.backends [--backend torch --backend openvino] [--places 6]

Every engine has one thread and an empty cache, and takes its turn at each place, so that a noisy machine is noisy for
all; ratios are to the first row. PSNR is that of zoom-18 tiles to torch's of the same quality.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from tqdm import tqdm

from benchmarks.speed import far_places
from earthgen import Engine, World
from earthgen.errors import BackendError
from earthgen.pyramid import MAX_ZOOM, TILE_SIZE, point_pixel
from earthgen.world import STANDARD

Pixels = npt.NDArray[np.uint8]


@dataclass
class Runner:
    """An engine, what it is asked in, and what was measured."""

    backend: str
    world: World
    engine: Engine
    cold: list[float] = field(default_factory=list)
    near: list[float] = field(default_factory=list)
    tiles: list[Pixels] = field(default_factory=list)

    def take(self, x: int, y: int) -> None:
        """A cold tile of the finest zoom, then its neighbour."""
        begun = time.perf_counter()
        self.tiles.append(self.engine.tile(self.world, MAX_ZOOM, x, y))
        middle = time.perf_counter()
        self.engine.tile(self.world, MAX_ZOOM, x + 1, y)
        self.cold.append(middle - begun)
        self.near.append(time.perf_counter() - middle)


def psnr(tiles: list[Pixels], others: list[Pixels]) -> float:
    """Of all pixels together, in dB; infinite where they are equal."""
    squares = [np.square(a.astype(np.float64) - b).mean() for a, b in zip(tiles, others, strict=True)]
    error = statistics.fmean(squares)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def runners(backends: list[str], weights: str | None) -> list[Runner]:
    """Every backend that is here with every quality that differs."""
    found = []
    for backend in backends:
        try:
            engine = Engine.open(weights, backend=backend, threads=1)
        except BackendError as error:
            typer.echo(f"{backend}: left out, {error}")
            continue
        names = sorted(engine.qualities, key=lambda name: name != STANDARD)
        found += [Runner(backend, World(seed=11, quality=name), engine) for name in names]
    return found


def main(
    backend: Annotated[list[str] | None, typer.Option(help="may be given several times; default: all")] = None,
    weights: Annotated[str | None, typer.Option(help="weights folder; default: the shipped ones")] = None,
    places: Annotated[int, typer.Option(min=1, help="far apart")] = 6,
) -> None:
    """Print one table."""
    rows = runners(backend or ["torch", "openvino", "openvino-bf16"], weights)
    for row in rows:  # What a first call compiles is not what a tile costs.
        row.take(1000, 1000)
        for measured in (row.cold, row.near, row.tiles):
            measured.clear()
    for longitude, latitude in tqdm(far_places(places), leave=False):
        pixel_row, column = point_pixel(longitude, latitude, MAX_ZOOM)
        for row in rows:
            row.take(column // TILE_SIZE, pixel_row // TILE_SIZE)
    typer.echo(
        "| backend | quality | cold z18 tile, p50 (s) | ratio | neighbour, p50 (s) | ratio | PSNR to torch (dB) |"
    )
    typer.echo("|---|---|---|---|---|---|---|")
    first = rows[0]
    for row in rows:
        own = next((other for other in rows if other.backend == "torch" and other.world == row.world), row)
        cold, near = statistics.median(row.cold), statistics.median(row.near)
        ratios = [
            statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            for ours, theirs in ((first.cold, row.cold), (first.near, row.near))
        ]
        typer.echo(
            f"| {row.backend} | {row.world.quality} | {cold:.2f} | {ratios[0]:.2f} | {near:.2f} | {ratios[1]:.2f} |"
            f" {psnr(row.tiles, own.tiles):.1f} |"
        )
    for row in rows:
        row.engine.close()


if __name__ == "__main__":
    typer.run(main)
