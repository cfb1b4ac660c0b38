"""Where items lie: scenes of neighbouring tiles, splits that are apart on the ground, no tile twice.

The ground is divided into cells of 8 by 8 degrees. Which split a cell belongs to is fixed for all dumps, so what was
trained on one dump may be tested on another. Tiles keep half a degree from the border of their cell, so tiles of two
splits are at least one degree apart. Within a split, scenes take slots one after another in a mixed order: two scenes
of one root share ground only after all slots have been used, and never a world, because a scene's number is a part of
its world's seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from earthgen.pyramid import TILE_SIZE, Box, point_pixel
from earthgen.world import Root
from trainingsets.errors import DumpSpecError
from trainingsets.spec import SPLITS, DumpSpec, Split, generator

T = TypeVar("T")

CELL = 8.0
"""Degrees along the side of a cell."""
BUFFER = 0.5
"""Degrees that tiles keep from the border of their cell."""
MAX_SCENES = 1 << 24

_PERIOD = 20
"""Scenes after which splits repeat."""
_INSIDE = CELL - 2 * BUFFER
_LATITUDES: dict[Root, int] = {"prompt": 8, "planet": 56, "earth": 56}
"""Degrees up to which worlds are looked at; those by prompt have their GSD at the equator."""
_AROUND = 0.6
"""Degrees around a place of _LAND that is looked at."""
_LAND: tuple[tuple[float, float], ...] = (
    (-100.0, 40.0), (-84.4, 33.8), (-121.5, 38.5), (-97.7, 30.3), (-87.6, 41.8), (-106.6, 35.1), (-80.8, 35.2),
    (-99.1, 19.4), (-74.1, 4.7), (-60.0, -3.1), (-47.9, -15.8), (-58.5, -34.6), (-70.7, -33.5), (-46.6, -23.5),
    (-3.7, 40.4), (2.3, 48.9), (11.5, 48.1), (14.4, 50.1), (21.0, 52.2), (26.1, 44.4), (30.5, 50.5), (37.6, 55.0),
    (9.2, 45.5), (-5.5, 40.3), (-8.0, 31.6), (3.1, 36.5), (7.5, 9.1), (3.4, 7.0), (18.6, 4.4), (31.2, 30.0),
    (36.8, -1.3), (32.6, 0.3), (28.0, -26.2), (25.9, -24.6), (47.5, -18.9), (13.2, -8.8), (44.4, 33.3), (51.4, 35.7),
    (69.2, 41.3), (77.2, 28.6), (73.9, 18.5), (80.3, 13.1), (85.3, 27.7), (90.4, 23.8), (100.5, 13.8), (105.0, 16.0),
    (106.7, 10.8), (112.0, 32.0), (116.4, 39.9), (104.1, 30.7), (121.0, 14.6), (127.0, 37.5), (138.0, 36.0),
    (110.4, -7.0), (145.0, -37.8), (150.9, -33.8), (133.9, -23.7), (82.9, 55.0), (-63.6, 44.7), (-114.1, 51.0),
)  # fmt: skip
"""Longitude and latitude of land of the real Earth."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A world's part that some items are cut from.

    Attributes:
        number: its address.
        split: what its items are for.
        root: where its world starts.
        gsd: metres per pixel at the equator.
        zoom: the level with that GSD.
        seed: of its world, which no other scene of the dump has.
        row: of its first pixel at the zoom.
        column: the same.
    """

    number: int
    split: Split
    root: Root
    gsd: float
    zoom: int
    seed: int
    row: int
    column: int


def scene_number(spec: DumpSpec, index: int) -> int:
    """The scene of an item."""
    return index // spec.tiles_per_scene


def tile_box(spec: DumpSpec, scene: Scene, index: int) -> Box:
    """The pixels of an item."""
    down, right = divmod(index % spec.tiles_per_scene, _across(spec))
    side = spec.ground(scene.gsd)[1]
    return Box(scene.zoom, scene.row + down * side, scene.column + right * side, side, side)


def scene_of(spec: DumpSpec, number: int) -> Scene:
    """A scene by its number; a pure function of the two."""
    split = _split_pattern(spec.splits)[number % _PERIOD]
    root = _in_turns(spec.roots, spec.seed, 1, number)
    gsd = _in_turns(spec.gsds, spec.seed, 2, number)
    zoom, side = spec.ground(gsd)
    base = int(generator(3, spec.seed).integers(1 << 32))
    centres, slot, slots = _slots(root, split, _extent(spec), _across(spec))
    total = len(centres) * slots * slots
    rank = _rank(spec.splits, number)
    step = _coprime(int(generator(4, spec.seed).integers(total)), total)
    place, slot_number = divmod((step * rank + int(generator(5, spec.seed).integers(total))) % total, slots * slots)
    down, right = divmod(slot_number, slots)
    longitude = centres[place][0] + (right - slots / 2) * slot
    latitude = centres[place][1] - (down - slots / 2) * slot
    row, column = point_pixel(longitude, latitude, zoom)
    # Whole tiles of the lattice, the next one to the south-east of the slot's corner.
    row, column = (-(-value // side) * side for value in (row, column))
    return Scene(number, split, root, gsd, zoom, base << 24 | number, row, column)


def low_gsd_of(spec: DumpSpec, number: int) -> float:
    """The GSD of the low picture of a scene's super-resolution pairs: each of `low_gsds` as often."""
    return _in_turns(spec.low_gsds, spec.seed, 7, number)


def class_of(names: tuple[str, ...], spec: DumpSpec, number: int) -> str:
    """The class of a scene: as many of each, in mixed order."""
    return _in_turns(names, spec.seed, 6, number)


def check_places(spec: DumpSpec) -> None:
    """Raise DumpSpecError if tiles do not fit, or are too many."""
    if -(-spec.count // spec.tiles_per_scene) > MAX_SCENES:
        raise DumpSpecError(f"{spec.count} items are more than {MAX_SCENES} scenes; raise the tiles per scene")
    for root in spec.roots:
        for split, share in zip(SPLITS, spec.splits, strict=True):
            if share:
                _slots(root, split, _extent(spec), _across(spec))


def cell_split(longitude: float, latitude: float) -> Split:
    """The split of the cell that holds a place, in degrees."""
    return _cell_split(math.floor(latitude / CELL), math.floor(longitude / CELL))


@cache
def _cell_split(row: int, column: int) -> Split:
    chance = generator(7, row + 100, column + 100).random()
    return "train" if chance < 0.6 else "val" if chance < 0.8 else "test"


def _across(spec: DumpSpec) -> int:
    """Tiles along a side of a scene."""
    return math.isqrt(spec.tiles_per_scene - 1) + 1


def _extent(spec: DumpSpec) -> float:
    """Degrees of longitude that the widest scene spans; it spans fewer of latitude."""
    grounds = map(spec.ground, spec.gsds)
    return max(_across(spec) * side * 360.0 / (TILE_SIZE << zoom) for zoom, side in grounds)


@cache
def _slots(root: Root, split: Split, extent: float, across: int) -> tuple[tuple[tuple[float, float], ...], float, int]:
    """Centres (longitude, latitude) of the places of a split, the side of a slot in degrees, and slots along a side."""
    # Half a tile more than needed on each side: scenes begin at a tile of the lattice.
    slot = extent * (across + 1) / across * 1.01
    room = _AROUND if root == "earth" else _INSIDE
    if slot > _INSIDE:
        raise DumpSpecError(
            f"scenes span {extent:.1f} degrees, at most {_INSIDE * across / (across + 1) / 1.01:.1f} are allowed;"
            " choose a finer GSD, smaller tiles or fewer tiles per scene"
        )
    count = max(1, int(room / slot))
    if root == "earth":
        half = max(slot * count / 2, 0.0) + BUFFER
        places = [(_inside(longitude, half), _inside(latitude, half)) for longitude, latitude in _LAND]
    else:
        lowest, most = -_LATITUDES[root] / CELL, _LATITUDES[root] / CELL
        rows = range(math.ceil(lowest), math.floor(most))
        places = [((column + 0.5) * CELL, (row + 0.5) * CELL) for row in rows for column in range(-22, 22)]
    mine = tuple(dict.fromkeys(place for place in places if cell_split(*place) == split))
    return mine, slot, count


def _inside(value: float, half: float) -> float:
    """The nearest value that keeps `half` from the border of its cell."""
    low = math.floor(value / CELL) * CELL
    return min(max(value, low + half), low + CELL - half)


@cache
def _split_pattern(shares: tuple[float, float, float]) -> tuple[Split, ...]:
    """Splits of _PERIOD scenes, mixed: each scene goes where most is lacking."""
    counts = [0, 0, 0]
    pattern: list[Split] = []
    for number in range(1, _PERIOD + 1):
        lacking = [share * number - count for share, count in zip(shares, counts, strict=True)]
        chosen = int(np.argmax(lacking))
        counts[chosen] += 1
        pattern.append(SPLITS[chosen])
    return tuple(pattern)


def _rank(shares: tuple[float, float, float], number: int) -> int:
    """How many earlier scenes are of the same split."""
    pattern = _split_pattern(shares)
    turns, at = divmod(number, _PERIOD)
    split = pattern[at]
    return turns * pattern.count(split) + pattern[:at].count(split)


def _in_turns(values: tuple[T, ...], seed: int, stream: int, number: int) -> T:
    """Each value once in as many numbers as there are values, in an order that differs from turn to turn."""
    turn, at = divmod(number, len(values))
    return values[int(generator(8, stream, seed, turn).permutation(len(values))[at])]


def _coprime(start: int, total: int) -> int:
    """The first number from `start` on that has no divisor in common with `total`."""
    value = max(1, start)
    while math.gcd(value, total) != 1:
        value += 1
    return value
