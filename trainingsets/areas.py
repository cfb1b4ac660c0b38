"""Edits that change a part of a tile, and the pixels that they change.

Areas of one tile do not touch, so what happened to a pixel is one thing. Whether an edit is seen is asked of the
pixels: prompts are heard most of the time, not always, and a label of something that cannot be seen would be wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.editing import FEATHER, Layer, layers_of
from earthgen.pyramid import Box, world_size
from earthgen.world import Action, Edit, World
from trainingsets.grounds import COVER, COVER_NAMES
from trainingsets.sample import Bytes, Mask

MAX_AREAS = 3
LEAST_DIFFERENCE = 10.0
"""Grey levels by which an edit must change the mean colour or the contrast of its area to be seen."""

_LEAST = 40
"""Pixels across the smallest area: below 32 an edit enters at a finer zoom than it is looked at."""
_TRIES = 12
_AFTERMATH: dict[Action, str] = {"burn": "bare ground", "flood": "water"}


@dataclass(frozen=True, slots=True)
class Area:
    """A change of one area.

    Attributes:
        edit: without dates.
        before: class of the ground; None if nobody knows.
        after: the class that the edit leaves.
        verb: what happened: "replaced", "burned" or "flooded".
    """

    edit: Edit
    before: str | None
    after: str
    verb: str


def draw_areas(
    box: Box, ground: str | None, gsd: float, count: int, random: np.random.Generator, presets: bool = True
) -> tuple[Area, ...]:
    """Up to `count` changes in areas of a tile that do not touch; fewer if there is no room.

    Args:
        box: the tile.
        ground: class of the ground; None if nobody knows.
        gsd: metres per pixel, which chooses the words.
        count: how many are wanted.
        random: source of chance.
        presets: whether fires and floods are drawn as well.
    """
    areas: list[Area] = []
    for circle in _circles(box, count, random):
        polygon = _polygon(box, circle, random)
        if presets and ground in (None, "low vegetation", "tree") and random.random() < 0.2:
            action: Action = "burn" if random.random() < 0.5 else "flood"
            verb = "burned" if action == "burn" else "flooded"
            areas.append(Area(Edit(polygon, action=action), ground, _AFTERMATH[action], verb))
            continue
        left = str(random.choice([name for name in COVER_NAMES if name != ground]))
        prompt = str(random.choice(COVER[left].prompts(gsd)))
        areas.append(Area(Edit(polygon, prompt, seed=int(random.integers(2**31))), ground, left, "replaced"))
    return tuple(areas)


def share_of(world: World, which: int, box: Box) -> npt.NDArray[np.float64]:
    """How much of each pixel is the edit's with a number, 0..1: (box.height, box.width)."""
    layer = layers_of(world)[which]
    if box.zoom < layer.zoom:
        return layer.within(box).astype(np.float64)
    return _weights(layer, box)


def is_seen(before: Bytes, after: Bytes, mask: Mask) -> bool:
    """Whether the ground of an area looks different."""
    if not mask.any():
        return False
    one, other = (image[mask].astype(np.float64) for image in (before, after))
    colour = np.abs(one.mean(axis=0) - other.mean(axis=0)).max()
    contrast = abs(one.mean(axis=1).std() - other.mean(axis=1).std())
    return bool(max(colour, contrast) >= LEAST_DIFFERENCE)


def around(box: Box, share: float = 0.25) -> tuple[tuple[float, float], ...]:
    """A polygon around a tile, wider by a share of it on each side, as longitude and latitude."""
    down, right = share * box.height, share * box.width
    top, bottom = box.row - down, box.row + box.height + down
    left, end = box.column - right, box.column + box.width + right
    return tuple(
        _place(box.zoom, row, column) for row, column in ((top, left), (top, end), (bottom, end), (bottom, left))
    )


def _weights(layer: Layer, box: Box) -> npt.NDArray[np.float64]:
    shift = box.zoom - layer.zoom
    rows = np.arange(box.row, box.row + box.height) >> shift
    columns = np.arange(box.column, box.column + box.width) >> shift
    at = Box(layer.zoom, int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    weights = layer.weights_in(at)[np.ix_(rows - rows[0], columns - columns[0])]
    return weights.astype(np.float64) / FEATHER


def _circles(box: Box, count: int, random: np.random.Generator) -> list[tuple[float, float, float]]:
    """Row, column and radius of circles in a box that do not touch."""
    side = min(box.height, box.width)
    found: list[tuple[float, float, float]] = []
    for _ in range(count):
        for _ in range(_TRIES):
            radius = math.exp(random.uniform(math.log(0.5 * _LEAST), math.log(max(0.5 * _LEAST + 4, 0.26 * side))))
            row, column = (random.uniform(radius, length - radius) for length in (box.height, box.width))
            if all(math.hypot(row - y, column - x) > radius + other + 2 for y, x, other in found):
                found.append((row, column, radius))
                break
    return found


def _polygon(
    box: Box, circle: tuple[float, float, float], random: np.random.Generator
) -> tuple[tuple[float, float], ...]:
    """A turned rectangle or a lump with five to ten corners that fills its circle, as longitude and latitude."""
    row, column, radius = circle
    turn = random.uniform(0, 2 * np.pi)
    if random.random() < 0.5:
        flat = random.uniform(0.6, 0.9)  # Half the angle between the diagonals: 45 degrees would be a square.
        angles = np.array([flat, np.pi - flat, np.pi + flat, 2 * np.pi - flat])
        radii = np.full(4, radius)
    else:
        corners = int(random.integers(5, 11))
        angles = (np.arange(corners) + random.uniform(-0.25, 0.25, corners)) * 2 * np.pi / corners
        radii = radius * random.uniform(0.75, 1.0, corners)
    rows = box.row + row + radii * np.sin(angles + turn)
    columns = box.column + column + radii * np.cos(angles + turn)
    return tuple(_place(box.zoom, float(y), float(x)) for y, x in zip(rows, columns, strict=True))


def _place(zoom: int, row: float, column: float) -> tuple[float, float]:
    """Longitude and latitude of a point between pixels, to the millimetre or so."""
    size = world_size(zoom)
    latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / size))))
    return round(column / size * 360 - 180, 8), round(latitude, 8)
