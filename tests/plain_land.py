"""Fields, villages, trees and colours in plain numpy, array by array; `earthgen.land_kernels` is compared with it.

They were drawn like this at first, in float32, with hashes for every pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from earthgen.countryside import SMOOTH
from earthgen.drawn import AROUND
from earthgen.parcels import (
    Floats,
    Indices,
    Keys,
    Parcels,
    Settlement,
    address_key,
    mercator_axes,
    mixed,
    share_of,
    smooth_step,
)
from earthgen.pyramid import EQUATOR_GSD, SCALE, TILE_SIZE, Box

_AROUND = 1 << 14
_CIRCUMFERENCE = EQUATOR_GSD * TILE_SIZE
_CELL = _CIRCUMFERENCE / _AROUND
_REACH = 2
_REGION = 16


def plain_parcels(seed: int, box: Box, settlement: Settlement | None = None) -> Parcels:
    """As `earthgen.parcels.parcels`."""
    land = _districts(address_key(seed), box, settlement)
    fields = _fields(land)
    houses = _houses(land)
    return Parcels(farmed=land.farmed, lean=2 * land.share(3) - 1, road=_roads(land), **fields, **houses)


def _key(value: int) -> Keys:
    return np.array([value], dtype=np.uint32)


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


# --- Crowns ---

_TREES_AROUND = 1 << 22
_TREE_CELL = _CIRCUMFERENCE / _TREES_AROUND


def plain_crowns(seed: int, box: Box) -> Floats:
    """As `earthgen.crowns.crowns`, where pixels are fine enough."""
    y, x, _ = mercator_axes(box)
    key = address_key(seed)
    y, x = y / _TREE_CELL, x / _TREE_CELL
    rows, columns = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    # The lattice's own points first: each is near to many pixels.
    lattice_rows = np.arange(rows[0] - 1, rows[-1] + 2)
    lattice_columns = np.arange(columns[0] - 1, columns[-1] + 2)
    trees = mixed(key, lattice_rows[:, None], lattice_columns[None, :] % _TREES_AROUND)
    down, right, width, tone, gap = (share_of(trees, which) for which in (101, 102, 103, 104, 105))
    # Many small trees and few large ones; where one is missing, its neighbours' shade is seen.
    radius = np.where(gap < 0.12, 0.01, 0.4 + 0.55 * width * width).astype(np.float32)
    best = np.full((box.height, box.width), -1, dtype=np.float32)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            at = np.ix_(rows - rows[0] + 1 + row, columns - columns[0] + 1 + column)
            south = (((y - rows)[:, None] - row).astype(np.float32) - down[at]) / radius[at]
            east = (((x - columns)[None, :] - column).astype(np.float32) - right[at]) / radius[at]
            squared = south * south + east * east
            # A dome, lighter towards the north-west, whose light is the tree's own.
            dome = 0.25 + 1.4 * (tone[at] - 0.5) + 0.55 * (1 - squared) - 0.45 * (south + east)
            best = np.where(squared < 1, np.maximum(best, dome), best)
    return best


# --- Colours ---

_TONE, _HUE, _COPSE, _LEAN = 0.08, 0.028, -2.2, 10.0


def plain_countryside(seed: int, box: Box, parents: npt.NDArray[np.uint8]) -> Floats:
    """As `earthgen.countryside.countryside`, where there is something."""
    inner = slice(AROUND, -AROUND)
    colours = ndimage.uniform_filter(parents.astype(np.float32), (SMOOTH, SMOOTH, 1))[inner, inner]
    colours = colours.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    plan = plain_parcels(seed, box)
    fields = _tilled(colours, plan.lean)
    woods = _wooded(colours, plan.lean) * (1 - fields)
    drawn = fields[..., None] * plain_painted(plan)
    drawn += (0.7 * _TONE * woods * plan.tone)[..., None]
    if box.zoom >= 16:
        trees = woods + fields * plan.farmed * plan.copse * (1 - plan.village)
        drawn += (0.22 * trees * plain_crowns(seed, box))[..., None] * _colour(0.9, 1.0, 0.7)
    # In proportion to the light that the ground sends back.
    drawn *= colours.mean(axis=-1, keepdims=True) / 127.5
    blocks = np.moveaxis(drawn, -1, 0).reshape(3, box.height // SCALE, SCALE, box.width // SCALE, SCALE)
    detail: Floats = (blocks - blocks.mean(axis=(2, 4), keepdims=True)).reshape(3, box.height, box.width)
    return detail


def _tilled(colours: Floats, lean: Floats) -> Floats:
    red, green, blue = np.moveaxis(colours, -1, 0)
    light = _light(colours)
    open_land = smooth_step(light + _LEAN * lean, 60, 80) * (1 - smooth_step(light, 140, 170))
    grows = smooth_step(np.minimum(red, green) - blue, 8, 22) * (1 - smooth_step(red - green, 14, 34))
    share: Floats = open_land * grows
    return share


def _wooded(colours: Floats, lean: Floats) -> Floats:
    red, green, blue = np.moveaxis(colours, -1, 0)
    dark = 1 - smooth_step(_light(colours) + _LEAN * lean, 66, 86)
    share: Floats = dark * smooth_step(green - np.maximum(red, blue), 4, 14)
    return share


def _light(colours: Floats) -> Floats:
    light: Floats = colours @ _colour(0.3, 0.59, 0.11)
    return light


def plain_painted(plan: Parcels) -> Floats:
    """Colours of a plan, (h, w, 3), as differences to the ground's that are in proportion to its lightness."""
    tone, hue = (values + plan.copse * (_COPSE - values) for values in (plan.tone, plan.hue))
    light: Floats = _TONE * tone + 0.02 * plan.furrows * (1 - plan.copse)
    hue *= _HUE
    out: Floats = np.stack([light + hue, light - 0.35 * hue, 0.9 * light + 0.1 * hue], axis=-1)
    out = _over(out, plan.hedge, _colour(-0.22, -0.15, -0.16))
    out = _over(out, plan.track, _colour(0.20, 0.17, 0.18))
    if plan.village.any():
        out = _over(out, plan.village, _village(plan))
    return _over(out * plan.farmed[..., None], plan.road, _colour(0.24, 0.23, 0.32))


def _village(plan: Parcels) -> Floats:
    """Colours of gardens, roofs with their shadows, and streets."""
    garden = (plan.garden - 0.5)[..., None] * _colour(0.16, 0.10, 0.12) + _colour(0.03, 0.02, 0.05)
    tiles = np.where((plan.roof_hue < 0.5)[..., None], _colour(0.42, 0.0, -0.05), _colour(0.25, 0.22, 0.34))
    built = _over(garden, plan.shadow, _colour(-0.30, -0.26, -0.20))
    built = _over(built, plan.roof, tiles + (0.5 * plan.roof_tone - 0.2)[..., None])
    return _over(built, plan.street, _colour(0.26, 0.26, 0.36))


def _colour(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue], dtype=np.float32)


def _over(below: Floats, share: Floats, colour: Floats) -> Floats:
    """A colour laid over others, where it covers them."""
    return below + share[..., None] * (colour - below)
