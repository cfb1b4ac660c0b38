"""What an export will cost, measured on a few of its own tiles before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from earthgen.export.tiles import TileSource
from earthgen.export.tileset import TileAddress, TileSet
from earthgen.world import World

_PLACES = ((1, 1), (0, 2), (2, 0))
"""Where samples lie: quarters of the area's width and height."""
_ANCESTORS = 9 / 8
"""Levels above the finest have a sixteenth of its windows, and theirs again; margins add as much (docs/cost.md)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an export will cost.

    Attributes:
        tiles: how many, by zoom.
        bytes: of their images.
        seconds: to make them here, with what the cache holds now.
        samples: tiles that this was measured on.
    """

    tiles: dict[int, int]
    bytes: int
    seconds: float
    samples: int

    @property
    def total(self) -> int:
        """Tiles in all."""
        return sum(self.tiles.values())


def estimate_export(
    engine: TileSource,
    world: World,
    tiles: TileSet,
    encode: Callable[[TileAddress], bytes],
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Measure some tiles of an export: at three places a finest tile, its neighbour and what lies above it.

    The neighbour tells the pace of a long export, whose tiles find their ancestors ready; the first tile does not.
    What is made stays in the engine's cache.

    Args:
        engine: makes tiles.
        world: the world.
        tiles: of the export.
        encode: makes a tile and packs it as the export will.
        progress: called with (places done, places in all).
    """
    counts = tiles.counts()
    sizes: dict[int, list[int]] = {zoom: [] for zoom in counts}
    packing: list[float] = []
    paces: list[float] = []
    places = _sampled(tiles)
    for number, (x, y) in enumerate(places):
        if progress is not None:
            progress(number, len(places))
        finest, neighbour = TileAddress(tiles.max_zoom, x, y), TileAddress(tiles.max_zoom, x ^ 1, y)
        first = _seconds(engine, world, finest)
        paces.append(_seconds(engine, world, neighbour) if neighbour in tiles else first)
        for zoom in counts:
            up = tiles.max_zoom - zoom
            begun = time.perf_counter()
            sizes[zoom].append(len(encode(TileAddress(zoom, x >> up, y >> up))))
            packing.append(time.perf_counter() - begun)
    if progress is not None:
        progress(len(places), len(places))
    total = sum(counts.values())
    seconds = counts[tiles.max_zoom] * fmean(paces) * _ANCESTORS + total * fmean(packing)
    return Estimate(
        counts, round(sum(count * fmean(sizes[zoom]) for zoom, count in counts.items())), seconds, len(places) * 2
    )


def _sampled(tiles: TileSet) -> list[tuple[int, int]]:
    """Columns and rows of the finest tiles that are measured."""
    width, height = tiles.right - tiles.left, tiles.bottom - tiles.top
    found = [(tiles.left + (width - 1) * along // 2, tiles.top + (height - 1) * down // 2) for along, down in _PLACES]
    return list(dict.fromkeys(found))


def _seconds(engine: TileSource, world: World, tile: TileAddress) -> float:
    begun = time.perf_counter()
    engine.tile(world, *tile)
    return time.perf_counter() - begun
