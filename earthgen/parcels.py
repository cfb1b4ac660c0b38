"""A plan of farmed land by address: districts, fields, hedges, tracks, roads and villages.

Everything is a function of the seed and the place, so any crop of it at any zoom shows the same land, and nothing is
stored. Districts are the Voronoi cells (Voronoi 1908; as a texture, Worley 1996) of one point in each cell of a lattice
that goes round the world. Each has a direction, along which rows of fields run, and perhaps a village in its middle,
whose streets run the same way.

Lengths are metres on the ground where not said otherwise. A line or a roof that is smaller than a pixel covers a share
of it, so that the plan at a coarse zoom is about the mean of the plan at a finer one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import EQUATOR_GSD, TILE_SIZE, Box, world_size

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]

_AROUND = 1 << 14
"""Cells of the lattice of districts around the world, 2.4 km each at the equator."""
_CIRCUMFERENCE = EQUATOR_GSD * TILE_SIZE
_CELL = _CIRCUMFERENCE / _AROUND
_REACH = 2
"""Cells at each side of a pixel's own in which the two nearest points are."""
_REGION = 16
"""Cells along a side of the lattice that says how much of the land is farmed and lived on."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcels:
    """The plan of a box of pixels; arrays of its shape (h, w).

    Attributes:
        farmed: share that belongs to districts where people are.
        lean: of the district, from woods (-1) to fields (1).
        copse: share that belongs to fields on which trees grow.
        tone: of the field, and of the district, roughly normal: light is positive.
        hue: the same, from green (negative) to brown.
        furrows: lightness along the rows of crops, in [-1, 1], where pixels are fine enough to show them.
        hedge, track, road: share of a pixel that each covers.
        village: share that belongs to a village; the following are of villages alone.
        street, roof, shadow: share of a pixel that each covers.
        roof_tone, roof_hue: of the house, in [0, 1).
        garden: of the plot, in [0, 1); half where pixels are larger than plots, which then have no roofs either.
    """

    farmed: Floats
    lean: Floats
    copse: Floats
    tone: Floats
    hue: Floats
    furrows: Floats
    hedge: Floats
    track: Floats
    road: Floats
    village: Floats
    street: Floats
    roof: Floats
    shadow: Floats
    roof_tone: Floats
    roof_hue: Floats
    garden: Floats


@dataclass(frozen=True, slots=True)
class Settlement:
    """How many districts are lived on, the same everywhere.

    Attributes:
        farmed: share of districts that are farmed, in [0, 1].
        villages: share of districts that have a village, in [0, 1].
    """

    farmed: float
    villages: float


def parcels(seed: int, box: Box, settlement: Settlement | None = None) -> Parcels:
    """The plan of a box.

    Args:
        seed: the world's.
        box: pixels of any zoom; small against a district's distance to the poles.
        settlement: how much of the land is lived on; None lets it differ from region to region.
    """
    land = _districts(address_key(seed), box, settlement)
    fields = _fields(land)
    houses = _houses(land)
    return Parcels(farmed=land.farmed, lean=2 * land.share(3) - 1, road=_roads(land), **fields, **houses)


# --- Numbers by address ---


def _key(value: int) -> Keys:
    return np.array([value & 0xFFFFFFFF], dtype=np.uint32)


def address_key(seed: int) -> Keys:
    """The key (1,) of a seed of up to 64 bits."""
    return mixed(_key(seed), _key(seed >> 32))


def mercator_axes(box: Box) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Middles of the rows and columns of a box and the side of a pixel, in metres of Mercator's plane from its corner.

    They are longer than metres on the ground, by one over the cosine of the latitude.
    """
    pixel = _CIRCUMFERENCE / world_size(box.zoom)
    rows, columns = np.arange(box.height, dtype=np.float64), np.arange(box.width, dtype=np.float64)
    return (rows + box.row + 0.5) * pixel, (columns + box.column + 0.5) * pixel, pixel


def mixed(key: Keys, *others: Keys | Indices) -> Keys:
    """A key made of several: all bits of each matter to all of the result (the finaliser of Wellons' lowbias32)."""
    for other in others:
        key = (key * np.uint32(0x9E3779B1) + np.uint32(0x85EBCA6B)) ^ other.astype(np.uint32)
        # In place: this is what most of the time goes into.
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            key ^= key >> np.uint32(shift)
            key *= np.uint32(factor)
        key ^= key >> np.uint32(16)
    return key


def share_of(key: Keys, which: int) -> Floats:
    """A number in [0, 1) of a key; `which` tells its several numbers apart."""
    # 24 bits are what float32 holds exactly.
    return (mixed(key, _key(which)) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def smooth_step(value: Floats, low: float, high: float) -> Floats:
    """From 0 at `low` to 1 at `high`, smoothly."""
    share = ((value - low) / (high - low)).clip(0, 1)
    smooth: Floats = share * share * (3 - 2 * share)
    return smooth


# --- Districts ---


@dataclass(frozen=True, slots=True, eq=False)
class _Land:
    """Where each pixel is in its district; arrays (h, w), or (1,) where all pixels have one value.

    Attributes:
        keys: of all districts near by, (n,).
        index: which of them each pixel is in.
        pixel: metres along a pixel's side, by the district's scale.
        along, across: metres from the district's point, in its own direction.
        border: metres to the nearest other district.
        border_key: the same from both sides.
        farmed: see `Parcels`.
        settled: chance that the district has a village.
    """

    keys: Keys
    index: Indices
    pixel: Floats
    along: Floats
    across: Floats
    border: Floats
    border_key: Keys
    farmed: Floats
    settled: Floats

    def share(self, which: int) -> Floats:
        """A number in [0, 1) of each pixel's district; drawn once for each district."""
        return share_of(self.keys, which)[self.index]

    def derived(self, which: int) -> Keys:
        """Another key of each pixel's district."""
        return mixed(self.keys, _key(which))[self.index]

    def line(self, distance: Floats, width: float) -> Floats:
        """Share of pixels that a line of a width covers, from the distances of their middles to its own."""
        wide = ((width + self.pixel) / 2 - distance) / self.pixel
        covered: Floats = wide.clip(0, (width / self.pixel).clip(0, 1))
        return covered


def _districts(seed: Keys, box: Box, settlement: Settlement | None) -> _Land:
    y, x, pixel = mercator_axes(box)
    points = list(_points(seed, y, x))
    squared = np.stack(
        [((y - top) ** 2)[:, None].astype(np.float32) + ((x - left) ** 2).astype(np.float32) for _, top, left in points]
    )
    index, nearest = [], []
    for _ in range(2):
        index.append(squared.argmin(axis=0))
        nearest.append(np.take_along_axis(squared, index[-1][None], axis=0)[0])
        np.put_along_axis(squared, index[-1][None], np.inf, axis=0)
    keys = np.array([key for key, _, _ in points], dtype=np.uint32)
    places = np.array([(top, left) for _, top, left in points])
    apart = np.hypot(*np.moveaxis(places[index[1]] - places[index[0]], -1, 0)).astype(np.float32)
    own = keys[index[0]]
    # The cosine of the latitude of its point: a district has one scale, whatever part of it is looked at.
    ground = (1 / np.cosh(np.pi * (1 - 2 * places[:, 0] / _CIRCUMFERENCE))).astype(np.float32)[index[0]]
    turn = (share_of(keys, 1) * np.float32(np.pi))[index[0]]
    down = (y[:, None] - places[index[0], 0]).astype(np.float32) * ground
    right = (x[None, :] - places[index[0], 1]).astype(np.float32) * ground
    if settlement is None:
        region = np.array([_region(seed, top, left) for _, top, left in points], dtype=np.float32)
        farming, villages = smooth_step(region, 0.2, 0.55), smooth_step(region, 0.3, 0.9)
    else:
        farming = np.full(len(keys), settlement.farmed, dtype=np.float32)
        villages = np.full(len(keys), settlement.villages, dtype=np.float32)
    farmed = (share_of(keys, 2) < farming).astype(np.float32)
    other = keys[index[1]]
    return _Land(
        keys=keys,
        index=index[0],
        pixel=np.float32(pixel) * ground,
        along=np.cos(turn) * right + np.sin(turn) * down,
        across=np.cos(turn) * down - np.sin(turn) * right,
        border=(nearest[1] - nearest[0]) / (2 * apart) * ground,
        border_key=mixed(np.minimum(own, other), np.maximum(own, other)),
        farmed=farmed[index[0]],
        settled=villages[index[0]],
    )


def _points(seed: Keys, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> Iterator[tuple[int, float, float]]:
    """Key, top and left of the points that may be nearest or next to nearest to some pixel."""
    rows, columns = (
        np.arange(int(axis[0] // _CELL) - _REACH, int(axis[-1] // _CELL) + _REACH + 1, dtype=np.int64)
        for axis in (y, x)
    )
    key = mixed(seed, rows[:, None], columns[None, :] % _AROUND)
    top = (rows[:, None] + 0.15 + 0.7 * share_of(key, 11).astype(np.float64)) * _CELL
    left = (columns[None, :] + 0.15 + 0.7 * share_of(key, 12).astype(np.float64)) * _CELL
    # The least and the most that a pixel of the box can be away.
    least = np.hypot(top - top.clip(y[0], y[-1]), left - left.clip(x[0], x[-1]))
    most = np.hypot(np.maximum(abs(top - y[0]), abs(top - y[-1])), np.maximum(abs(left - x[0]), abs(left - x[-1])))
    near = least <= np.partition(most, 1, axis=None)[1]
    yield from zip(key[near].tolist(), top[near].tolist(), left[near].tolist(), strict=True)


def _region(seed: Keys, top: float, left: float) -> float:
    """How much of the land is farmed and lived on around a place, in [0, 1]: noise between the points of a lattice."""
    row, column = top / _CELL / _REGION, left / _CELL / _REGION
    rows, columns = int(row // 1) + np.arange(2), (int(column // 1) + np.arange(2)) % (_AROUND // _REGION)
    corners = share_of(mixed(seed, rows[:, None], columns[None, :]), 21).astype(np.float64)
    (down, right) = (t * t * (3 - 2 * t) for t in (row % 1, column % 1))
    return float(np.array([1 - down, down]) @ corners @ np.array([1 - right, right]))


def _roads(land: _Land) -> Floats:
    """Along most borders of districts, wide ones along some."""
    kind = share_of(land.border_key, 31)
    wide, narrow = land.line(land.border, 14.0), land.line(land.border, 7.0)
    return np.where(kind < 0.15, wide, narrow * (kind < 0.75))


# --- Fields ---


@dataclass(frozen=True, slots=True, eq=False)
class _Strips:
    """Cells of uneven width along a coordinate; arrays of its shape.

    Attributes:
        number: of the cell.
        beside: number of the cell beyond the nearer boundary.
        distance: metres to that boundary.
        width: metres from boundary to boundary.
    """

    number: Indices
    beside: Indices
    distance: Floats
    width: Floats

    @property
    def boundary(self) -> Indices:
        """A number of the nearer boundary that is the same from both sides."""
        return np.minimum(self.number, self.beside)


def _strips(position: Floats, width: Floats | float, key: Keys, unevenness: float = 0.6) -> _Strips:
    def boundary(number: Indices) -> Floats:
        moved = number + unevenness * (share_of(mixed(key, number), 41) - 0.5)
        return (moved * width).astype(np.float32)

    number = np.floor(position / width).astype(np.int64)
    number = number - (position < boundary(number)) + (position >= boundary(number + 1))
    before, after = position - boundary(number), boundary(number + 1) - position
    beside = np.where(before < after, number - 1, number + 1)
    return _Strips(number, beside, np.minimum(before, after), before + after)


def _fields(land: _Land) -> dict[str, Floats]:
    width = np.exp(np.log(130.0) + np.log(3.5) * land.share(51) ** 1.3).astype(np.float32)
    rows = _strips(land.across, width * (0.9 + 1.6 * land.share(52)), land.derived(1))
    row_key = mixed(land.derived(2), rows.number)
    cells = _strips(land.along + 7 * width * share_of(row_key, 53), width, row_key)
    own, beside = (mixed(row_key, number) for number in (cells.number, cells.beside))
    # A pixel across a boundary is of both fields.
    share: Floats = (0.5 - cells.distance / land.pixel).clip(0, 0.5)

    def drawn(which: int) -> Floats:
        """About normal: the sum of three."""
        mine, other = (2 * sum(share_of(one, which + k) for k in range(3)) - 3 for one in (own, beside))
        return (1 - share) * mine + share * other

    copse, copse_beside = (share_of(one, 60) < 0.1 for one in (own, beside))
    hedges = share_of(mixed(row_key, cells.boundary), 54) < 0.45
    lanes = share_of(mixed(land.derived(3), rows.boundary), 55)
    hedge = hedges * land.line(cells.distance, 5.0) + (lanes < 0.3) * land.line(rows.distance, 5.0)
    period = 2.5 + 3.0 * share_of(own, 56)
    shown = (share_of(own, 57) < 0.6) & (period > 3 * land.pixel)
    return {
        "tone": drawn(61) + 0.4 * (2 * land.share(58) - 1),
        "copse": (1 - share) * copse + share * copse_beside,
        "hue": drawn(71) + 0.5 * (2 * land.share(59) - 1),
        "furrows": np.where(shown, np.sin(2 * np.pi * land.along / period), 0.0).astype(np.float32),
        "hedge": hedge.clip(0, 1),
        "track": (lanes > 0.5) * land.line(rows.distance, 4.0),
    }


# --- Villages ---

_BLOCK = 66.0
"""Metres from street to street: two rows of plots, back to back."""
_PLOT = 22.0


def _houses(land: _Land) -> dict[str, Floats]:
    radius = 150 + 650 * land.share(81) ** 3
    away, angle = np.hypot(land.along, land.across), np.arctan2(land.along, land.across)
    ragged = 1 + 0.25 * np.sin(3 * angle + 6.28 * land.share(82)) + 0.15 * np.sin(7 * angle + 6.28 * land.share(83))
    village = (land.share(84) < land.settled) * smooth_step(radius * ragged - away, -20, 20)
    nothing = np.zeros_like(village)
    without = dict.fromkeys(("street", "roof", "shadow", "roof_tone", "roof_hue", "garden"), nothing)
    if not village.any():
        return without | {"village": village}

    rows = _strips(land.across, _BLOCK, land.derived(4))
    columns = _strips(land.along, 2.1 * _BLOCK, land.derived(5))
    street = np.maximum(land.line(rows.distance, 6.5), land.line(columns.distance, 6.0))
    # Pixels that are larger than a plot would each show one house of several, and neighbours others.
    shown = smooth_step(_PLOT / land.pixel, 1, 2)
    if not shown.any():
        return without | {"village": village, "street": street, "garden": nothing + np.float32(0.5)}

    # A block has two sides, each with a row of plots along its street.
    further = rows.beside > rows.number
    side_key = mixed(land.derived(6), 2 * rows.number + further)
    plots = _strips(land.along, _PLOT, side_key)
    house = mixed(side_key, plots.number)
    side = np.where(plots.beside > plots.number, np.float32(1), np.float32(-1))
    east: Floats = side * (0.5 * plots.width - plots.distance) - 3 * (share_of(house, 94) - 0.5)
    depth = rows.distance - 13 - 4 * share_of(house, 95)
    built = (share_of(house, 96) < 0.85) * shown
    large = share_of(house, 91) < 0.07
    halves = (
        np.where(large, np.float32(10), 4 + 3 * share_of(house, 92)),
        np.where(large, np.float32(8), 4.5 + 4 * share_of(house, 93)),
    )

    def covered(*distances: Floats) -> Floats:
        """Share of pixels under a rectangle, from distances to its middle along its sides."""
        cover = built
        for half, distance in zip(halves, distances, strict=True):
            inside = ((half - abs(distance)) / land.pixel + 0.5).clip(0, 1)
            cover = cover * inside * (2 * half / land.pixel).clip(0, 1)
        return cover

    # Shadows fall to one side of the village's own directions; ridges part a lit and a dark half.
    towards = np.where(further, -1, 1).astype(np.float32)
    tall = 2.5 + 3 * share_of(house, 97)
    roof = covered(east, depth)
    return {
        "village": village,
        "street": street,
        "roof": roof,
        "shadow": covered(east - 0.6 * tall, depth + 0.6 * tall * towards) * (1 - roof),
        "roof_tone": share_of(house, 98) + np.float32(0.08) * np.sign(depth * towards),
        "roof_hue": share_of(house, 99),
        "garden": 0.5 + shown * (share_of(house, 100) - 0.5),
    }
