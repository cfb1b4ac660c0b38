"""Loops behind `earthgen.parcels`, `earthgen.crowns` and `earthgen.countryside`, compiled by numba.

A pixel of the plan is a walk: its district, the row of fields in that, the field in the row; perhaps the block of a
village, the plot in that. Neighbours nearly always share all of them, so a loop keeps what it has drawn for the last
ones and draws anew only where a walk goes another way. What is kept is a function of the address like all else, so no
value depends on where a loop began: any crop has the same bits. Loops hold no lock, and compute in float64.

All of it is one file, since numba's cache of compiled loops notices changes of a loop's own file and of no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from earthgen.pyramid import EQUATOR_GSD, SCALE, TILE_SIZE

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
Loop = TypeVar("Loop", bound=Callable[..., Any])

CIRCUMFERENCE = EQUATOR_GSD * TILE_SIZE
"""Metres around the equator."""

# Without Python's tests of every division for 0, which is never one here. Nothing may be reordered or contracted
# ("fastmath"): the same bytes on every call and machine are promised.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def loop(function: Loop, signature: str | None = None) -> Loop:
    """A loop, kept by numba between runs where it may write: beside this file, or in the user's cache folder."""
    compiled: Any
    try:
        compiled = numba.njit(signature, cache=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):
        # Nowhere, or no space is left: every process compiles for itself.
        compiled = numba.njit(signature, **_OPTIONS)(function)
    kept: Loop = compiled
    return kept


def _part(function: Loop) -> Loop:
    """A step that loops are made of."""
    compiled: Any = numba.njit(**_OPTIONS)(function)
    part: Loop = compiled
    return part


def _number(signature: str) -> Callable[[Loop], Loop]:
    """A step whose types are said, or numba would compile it again for every constant that it is called with."""
    return lambda function: loop(function, signature)


# --- Numbers by address: as `earthgen.parcels.mixed`, `share_of` and `smooth_step` ---

_TIMES, _PLUS = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B)
_FACTORS = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_SHIFTS = np.uint32(16), np.uint32(15), np.uint32(8)


@_number("uint32(uint32, int64)")
def _mixed(key: Any, other: Any) -> Any:
    key = np.uint32(np.uint32(key * _TIMES + _PLUS) ^ np.uint32(other))
    key = np.uint32((key ^ (key >> _SHIFTS[0])) * _FACTORS[0])
    key = np.uint32((key ^ (key >> _SHIFTS[1])) * _FACTORS[1])
    return np.uint32(key ^ (key >> _SHIFTS[0]))


@_number("float64(uint32, int64)")
def _share(key: Any, which: int) -> float:
    share: float = (_mixed(key, which) >> _SHIFTS[2]) * 2.0**-24
    return share


@_number("float64(uint32, int64)")
def _normal(key: Any, which: int) -> float:
    """About normal: the sum of three."""
    return 2 * (_share(key, which) + _share(key, which + 1) + _share(key, which + 2)) - 3


@_number("float64(float64, float64, float64)")
def _smooth(value: float, low: float, high: float) -> float:
    if value <= low:
        return 0.0
    if value >= high:
        return 1.0
    share = (value - low) / (high - low)
    return share * share * (3 - 2 * share)


# --- Districts ---

_AROUND = 1 << 14
"""Cells of the lattice of districts around the world, 2.4 km each at the equator."""
_CELL = CIRCUMFERENCE / _AROUND
_REACH = 2
"""Cells at each side of a pixel's own in which the two nearest points are."""
_REGION = 16
"""Cells along a side of the lattice that says how much of the land is farmed and lived on."""

_DISTRICT = np.dtype(
    [
        ("key", np.uint32),
        # Of rows of fields, fields in a row, lanes between rows; streets, streets across, and sides of blocks.
        ("rows", np.uint32),
        ("fields", np.uint32),
        ("lanes", np.uint32),
        ("streets", np.uint32),
        ("cross_streets", np.uint32),
        ("sides", np.uint32),
        # Its point and, from there, the squared distance of the row of pixels that is at work, in Mercator's plane.
        ("top", np.float64),
        ("left", np.float64),
        ("down_squared", np.float64),
        # Metres on the ground of one of Mercator's, at its point; of a pixel's side; and its direction.
        ("ground", np.float64),
        ("pixel", np.float64),
        ("cosine", np.float64),
        ("sine", np.float64),
        ("farmed", np.float64),
        ("lean", np.float64),
        ("tone", np.float64),
        ("hue", np.float64),
        # Of fields and of rows of them, metres.
        ("width", np.float64),
        ("row_width", np.float64),
        ("village", np.bool_),
        # Of the village: metres, and by how much its outline is turned.
        ("radius", np.float64),
        ("turn_3", np.float64),
        ("turn_7", np.float64),
        # Pixels that are larger than a plot would each show one house of several, and neighbours others.
        ("shown", np.float64),
    ],
    align=True,
)


class Plan(NamedTuple):
    """The arrays of `earthgen.parcels.Parcels`, float32 (h, w) in C order."""

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


@_part
def _cell_point(seed: Any, row: int, column: int) -> Any:
    """Key, top and left of the point in a cell of the lattice."""
    key = _mixed(_mixed(seed, row), column % _AROUND)
    return key, (row + 0.15 + 0.7 * _share(key, 11)) * _CELL, (column + 0.15 + 0.7 * _share(key, 12)) * _CELL


@_part
def _least_and_most(at: float, first: float, last: float) -> Any:
    """How far a coordinate is from the nearest and from the farthest of an interval."""
    return max(first - at, 0.0, at - last), max(abs(at - first), abs(at - last))


@_part
def _region(seed: Any, top: float, left: float) -> float:
    """How much of the land is farmed and lived on around a place, in [0, 1]: noise between the points of a lattice."""
    row, column = top / _CELL / _REGION, left / _CELL / _REGION
    first, west = math.floor(row), math.floor(column)
    down, right = row - first, column - west
    down, right = down * down * (3 - 2 * down), right * right * (3 - 2 * right)
    total = 0.0
    for south in range(2):
        for east in range(2):
            share = _share(_mixed(_mixed(seed, first + south), (west + east) % (_AROUND // _REGION)), 21)
            total += share * (down if south else 1 - down) * (right if east else 1 - right)
    return total


@_part
def _describe(district: Any, seed: Any, pixel: float, farmed: float, villages: float) -> None:
    """Draw what a district is; `farmed` and `villages` are negative where its region decides."""
    key = district.key
    if farmed < 0:
        region = _region(seed, district.top, district.left)
        farmed, villages = _smooth(region, 0.2, 0.55), _smooth(region, 0.3, 0.9)
    # The cosine of the latitude of its point: a district has one scale, whatever part of it is looked at.
    district.ground = 1 / math.cosh(math.pi * (1 - 2 * district.top / CIRCUMFERENCE))
    district.pixel = pixel * district.ground
    turn = _share(key, 1) * math.pi
    district.cosine, district.sine = math.cos(turn), math.sin(turn)
    district.farmed = 1.0 if _share(key, 2) < farmed else 0.0
    district.lean = 2 * _share(key, 3) - 1
    district.rows, district.fields, district.lanes = _mixed(key, 1), _mixed(key, 2), _mixed(key, 3)
    district.width = 130.0 * 3.5 ** (_share(key, 51) ** 1.3)
    district.row_width = district.width * (0.9 + 1.6 * _share(key, 52))
    district.tone, district.hue = 0.4 * (2 * _share(key, 58) - 1), 0.5 * (2 * _share(key, 59) - 1)
    district.streets, district.cross_streets, district.sides = _mixed(key, 4), _mixed(key, 5), _mixed(key, 6)
    district.village = _share(key, 84) < villages
    district.radius = 150 + 650 * _share(key, 81) ** 3
    district.turn_3, district.turn_7 = 6.28 * _share(key, 82), 6.28 * _share(key, 83)
    district.shown = _smooth(_PLOT / district.pixel, 1, 2)


@_part
def _find_districts(seed: Any, box: Any, pixel: float, farmed: float, villages: float, districts: Any) -> Any:
    """Fill in those whose points may be nearest or next to nearest to some pixel of a box; how many they are."""
    row, column, height, width = box
    north, south = (row + 0.5) * pixel, (row + height - 0.5) * pixel
    west, east = (column + 0.5) * pixel, (column + width - 0.5) * pixel
    rows = range(math.floor(north / _CELL) - _REACH, math.floor(south / _CELL) + _REACH + 1)
    columns = range(math.floor(west / _CELL) - _REACH, math.floor(east / _CELL) + _REACH + 1)
    # Two points are nearer to all pixels than `second`.
    first = second = math.inf
    for lattice_row in rows:
        for lattice_column in columns:
            _, top, left = _cell_point(seed, lattice_row, lattice_column)
            most = _least_and_most(top, north, south)[1] ** 2 + _least_and_most(left, west, east)[1] ** 2
            if most < first:
                first, second = most, first
            elif most < second:
                second = most
    count = 0
    for lattice_row in rows:
        for lattice_column in columns:
            key, top, left = _cell_point(seed, lattice_row, lattice_column)
            least = _least_and_most(top, north, south)[0] ** 2 + _least_and_most(left, west, east)[0] ** 2
            if least <= second:
                districts[count].key, districts[count].top, districts[count].left = key, top, left
                _describe(districts[count], seed, pixel, farmed, villages)
                count += 1
    return count


@_part
def _line(distance: float, width: float, pixel: float) -> float:
    """Share of a pixel that a line of a width covers, from the distance of its middle to the pixel's."""
    within = (width + pixel) / 2 - distance
    return min(within, width, pixel) / pixel if within > 0 else 0.0


@_part
def _road(border: float, key: Any, other: Any, pixel: float) -> float:
    """Along most borders of districts, wide ones along some."""
    if _line(border, 14.0, pixel) == 0:
        return 0.0
    # The same from both sides.
    kind = _share(_mixed(min(key, other), max(key, other)), 31)
    if kind < 0.15:
        return _line(border, 14.0, pixel)
    return _line(border, 7.0, pixel) if kind < 0.75 else 0.0


# --- Rows of cells of uneven width: rows of fields, fields, blocks, plots ---

_STRIP = np.dtype(
    [("key", np.uint32), ("number", np.int64), ("low", np.float64), ("high", np.float64)],
    align=True,
)
"""The cell of a row of them where a loop is; metres from boundary to boundary. None if they are the same."""
_UNEVENNESS = 0.6


@_part
def _boundary(key: Any, number: int, width: float) -> float:
    return (number + _UNEVENNESS * (_share(_mixed(key, number), 41) - 0.5)) * width


@_part
def _moves(strip: Any, key: Any, position: float, width: float) -> bool:
    """Go to the cell at a position; whether it is another than the last."""
    if strip.key == key and strip.low <= position < strip.high:
        return False
    number = math.floor(position / width)
    low, high = _boundary(key, number, width), _boundary(key, number + 1, width)
    if position < low:
        number, low, high = number - 1, _boundary(key, number - 1, width), low
    elif position >= high:
        number, low, high = number + 1, high, _boundary(key, number + 2, width)
    strip.key, strip.number, strip.low, strip.high = key, number, low, high
    return True


@_part
def _aside(strip: Any, position: float) -> Any:
    """Metres to the nearer boundary, and whether that is the higher one."""
    before, after = position - strip.low, strip.high - position
    return (before, False) if before < after else (after, True)


# --- Fields ---

_FIELD = np.dtype(
    [
        ("row_key", np.uint32),
        ("offset", np.float64),
        ("tone", np.float64),
        ("hue", np.float64),
        ("copse", np.float64),
        ("period", np.float64),
        ("furrowed", np.bool_),
    ],
    align=True,
)


@_part
def _is_copse(key: Any) -> float:
    return 1.0 if _share(key, 60) < 0.1 else 0.0


@_part
def _draw_field(here: Any, district: Any, along: float, across: float, row: Any, cell: Any, field: Any) -> None:
    pixel = district.pixel
    moved = _moves(row, district.rows, across, district.row_width)
    if moved:
        field.row_key = _mixed(district.fields, row.number)
        field.offset = 7 * district.width * _share(field.row_key, 53)
    position = along + field.offset
    if _moves(cell, field.row_key, position, district.width) or moved:
        own = _mixed(field.row_key, cell.number)
        field.tone, field.hue, field.copse = _normal(own, 61), _normal(own, 71), _is_copse(own)
        field.period, field.furrowed = 2.5 + 3.0 * _share(own, 56), _share(own, 57) < 0.6
    tone, hue, copse, hedge, track = field.tone, field.hue, field.copse, 0.0, 0.0

    to_field, higher = _aside(cell, position)
    if to_field < pixel / 2:
        share = 0.5 - to_field / pixel
        # A pixel across a boundary is of both fields.
        other = _mixed(field.row_key, cell.number + (1 if higher else -1))
        tone = (1 - share) * tone + share * _normal(other, 61)
        hue = (1 - share) * hue + share * _normal(other, 71)
        copse = (1 - share) * copse + share * _is_copse(other)
    line = _line(to_field, 5.0, pixel)
    # Boundaries have the number of the cell before them, from both sides.
    if line > 0 and _share(_mixed(field.row_key, cell.number - (0 if higher else 1)), 54) < 0.45:
        hedge = line

    to_row, higher = _aside(row, across)
    line = _line(to_row, 5.0, pixel)
    if line > 0:
        lane = _share(_mixed(district.lanes, row.number - (0 if higher else 1)), 55)
        if lane < 0.3:
            hedge = min(hedge + line, 1.0)
        if lane > 0.5:
            track = _line(to_row, 4.0, pixel)

    here.tone = tone + district.tone
    here.hue = hue + district.hue
    here.copse = copse
    here.hedge = hedge
    here.track = track
    furrowed = field.furrowed and field.period > 3 * pixel
    here.furrows = math.sin(2 * math.pi * along / field.period) if furrowed else 0.0


# --- Villages ---

_BLOCK = 66.0
"""Metres from street to street: two rows of plots, back to back."""
_PLOT = 22.0

_HOUSE = np.dtype(
    [
        # Of the two sides of a block; of the house: metres from the plot's middle and from the street.
        ("lower_side", np.uint32),
        ("higher_side", np.uint32),
        ("east", np.float64),
        ("back", np.float64),
        ("half_width", np.float64),
        ("half_depth", np.float64),
        ("height", np.float64),
        ("built", np.bool_),
        ("tone", np.float64),
        ("hue", np.float64),
        ("garden", np.float64),
    ],
    align=True,
)


@_part
def _village(district: Any, along: float, across: float) -> float:
    """Share of a pixel that belongs to the district's village."""
    if not district.village:
        return 0.0
    away = math.sqrt(along * along + across * across)
    # The outline is at 0.6 to 1.4 radii.
    if away >= 1.4 * district.radius + 20:
        return 0.0
    if away <= 0.6 * district.radius - 20:
        return 1.0
    angle = math.atan2(along, across)
    ragged = 1 + 0.25 * math.sin(3 * angle + district.turn_3) + 0.15 * math.sin(7 * angle + district.turn_7)
    return _smooth(district.radius * ragged - away, -20, 20)


@_part
def _draw_house(house: Any, key: Any) -> None:
    house.east, house.back = 3 * (_share(key, 94) - 0.5), 13 + 4 * _share(key, 95)
    house.built = _share(key, 96) < 0.85
    if _share(key, 91) < 0.07:
        house.half_width, house.half_depth = 10, 8
    else:
        house.half_width, house.half_depth = 4 + 3 * _share(key, 92), 4.5 + 4 * _share(key, 93)
    house.height = 2.5 + 3 * _share(key, 97)
    house.tone, house.hue, house.garden = _share(key, 98), _share(key, 99), _share(key, 100)


@_part
def _covered(distance: float, half: float, pixel: float) -> float:
    """Share of a pixel between two lines, from the distance of its middle to the one between them."""
    inside = half + pixel / 2 - abs(distance)
    if inside <= 0:
        return 0.0
    return min(inside / pixel, 1.0) * min(2 * half / pixel, 1.0)


@_part
def _draw_village(
    here: Any, district: Any, along: float, across: float, block: Any, column: Any, plot: Any, house: Any
) -> None:
    pixel, shown = district.pixel, district.shown
    moved = _moves(block, district.streets, across, _BLOCK)
    if moved:
        house.lower_side = _mixed(district.sides, 2 * block.number)
        house.higher_side = _mixed(district.sides, 2 * block.number + 1)
    _moves(column, district.cross_streets, along, 2.1 * _BLOCK)
    to_street, higher = _aside(block, across)
    here.street = max(_line(to_street, 6.5, pixel), _line(_aside(column, along)[0], 6.0, pixel))
    here.garden = 0.5
    if shown == 0:
        return

    # A block has two sides, each with a row of plots along its street.
    side = house.higher_side if higher else house.lower_side
    if _moves(plot, side, along, _PLOT):
        _draw_house(house, _mixed(side, plot.number))
    # Shadows fall to one side of the village's own directions; ridges part a lit and a dark half.
    towards = -1.0 if higher else 1.0
    east, depth = along - (plot.low + plot.high) / 2 - house.east, to_street - house.back
    if house.built:
        roof = _covered(east, house.half_width, pixel) * _covered(depth, house.half_depth, pixel) * shown
        east_of_shadow, depth_of_shadow = east - 0.6 * house.height, depth + 0.6 * house.height * towards
        shadow = _covered(east_of_shadow, house.half_width, pixel) * _covered(depth_of_shadow, house.half_depth, pixel)
        here.roof, here.shadow = roof, shadow * shown * (1 - roof)
    here.roof_tone = house.tone + 0.08 * np.sign(depth * towards)
    here.roof_hue = house.hue
    here.garden = 0.5 + shown * (house.garden - 0.5)


# --- The plan of a box ---

_HERE = np.dtype([(name, np.float64) for name in Plan._fields], align=True)


def planes(count: int, height: int, width: int) -> list[Floats]:
    """Empty arrays (h, w) for loops that walk along all of them at a time.

    Arrays of 128 x 128 one after the other begin a multiple of 4096 bytes apart, so that a pixel of all of them falls
    into the same few lines of a processor's cache; these do not.
    """
    apart: Floats = np.empty((count, height * width + 80), dtype=np.float32)
    return [one[: height * width].reshape(height, width) for one in apart]


class Work(NamedTuple):
    """Where `fill_parcels` keeps what it has drawn; of no use afterwards."""

    districts: Array
    strips: Array
    field: Array
    house: Array
    here: Array


def work_for(height: int, width: int, pixel: float) -> Work:
    """For a box of pixels of a side in Mercator's metres: room for as many districts as may be near it."""
    down, right = (int(size * pixel // _CELL) + 2 * _REACH + 2 for size in (height, width))
    sizes = (down * right, _DISTRICT), (5, _STRIP), (1, _FIELD), (1, _HOUSE), (1, _HERE)
    return Work(*(np.zeros(size, kind) for size, kind in sizes))


@loop
def fill_parcels(seed: Any, box: Any, pixel: float, farmed: float, villages: float, work: Work, plan: Plan) -> None:
    """The plan of a box of pixels.

    Args:
        seed: uint32, see `earthgen.parcels.address_key`.
        box: row, column, height and width.
        pixel: metres of its side in Mercator's plane.
        farmed: share of districts, or negative to let it differ from region to region.
        villages: the same.
        work: of `work_for`.
        plan: to be filled.
    """
    row, column, height, width = box
    districts, strips = work.districts, work.strips
    field_row, field_cell, block, cross_block, plot = strips[0], strips[1], strips[2], strips[3], strips[4]
    field, house, here = work.field[0], work.house[0], work.here[0]
    count = _find_districts(seed, box, pixel, farmed, villages, districts)
    last = -1
    for i in range(height):
        y = (row + i + 0.5) * pixel
        for k in range(count):
            districts[k].down_squared = (y - districts[k].top) ** 2
        for j in range(width):
            x = (column + j + 0.5) * pixel
            own, other, nearest, next_nearest = 0, 0, math.inf, math.inf
            for k in range(count):
                squared = districts[k].down_squared + (x - districts[k].left) ** 2
                if squared < next_nearest:
                    if squared < nearest:
                        own, other, nearest, next_nearest = k, own, squared, nearest
                    else:
                        other, next_nearest = k, squared
            district, beyond = districts[own], districts[other]
            if own != last:
                last = own
                for strip in range(len(strips)):
                    strips[strip].low = strips[strip].high = 0.0

            apart = math.sqrt((beyond.top - district.top) ** 2 + (beyond.left - district.left) ** 2)
            border = (next_nearest - nearest) / (2 * apart) * district.ground
            down, right = (y - district.top) * district.ground, (x - district.left) * district.ground
            along = district.cosine * right + district.sine * down
            across = district.cosine * down - district.sine * right
            here.road = _road(border, district.key, beyond.key, district.pixel)
            _draw_field(here, district, along, across, field_row, field_cell, field)
            here.village = _village(district, along, across)
            here.street = here.roof = here.shadow = here.roof_tone = here.roof_hue = here.garden = 0.0
            if here.village > 0:
                _draw_village(here, district, along, across, block, cross_block, plot, house)

            at = i, j
            plan.farmed[at], plan.lean[at] = district.farmed, district.lean
            plan.copse[at], plan.tone[at], plan.hue[at] = here.copse, here.tone, here.hue
            plan.furrows[at], plan.hedge[at] = here.furrows, here.hedge
            plan.track[at], plan.road[at] = here.track, here.road
            plan.village[at], plan.street[at] = here.village, here.street
            plan.roof[at], plan.shadow[at] = here.roof, here.shadow
            plan.roof_tone[at], plan.roof_hue[at], plan.garden[at] = here.roof_tone, here.roof_hue, here.garden


# --- Crowns ---

TREES_AROUND = 1 << 22
"""Trees around the world, 9.6 m apart at the equator, and nearer where Mercator's metres are shorter on the ground."""
_LARGEST = 0.95
"""Radius of a crown at the most, in distances from tree to tree."""


@loop
def fill_crowns(seed: Any, box: Any, pixel: float, light: Floats) -> None:
    """How light trees make each pixel.

    Args:
        seed: uint32, see `earthgen.parcels.address_key`.
        box: row, column, height and width.
        pixel: its side, in distances from tree to tree.
        light: (h, w), to be filled.
    """
    row, column, height, width = box
    light[:] = -1
    first, last = math.floor((row + 0.5) * pixel) - 1, math.floor((row + height - 0.5) * pixel) + 1
    west, east = math.floor((column + 0.5) * pixel) - 1, math.floor((column + width - 0.5) * pixel) + 1
    for lattice_row in range(first, last + 1):
        for lattice_column in range(west, east + 1):
            tree = _mixed(_mixed(seed, lattice_row), lattice_column % TREES_AROUND)
            # Many small trees and few large ones; where one is missing, its neighbours' shade is seen.
            if _share(tree, 105) < 0.12:
                continue
            radius = 0.4 + (_LARGEST - 0.4) * _share(tree, 103) ** 2
            top, left = lattice_row + _share(tree, 101), lattice_column + _share(tree, 102)
            own = 0.25 + 1.4 * (_share(tree, 104) - 0.5)
            # One pixel more on each side: what is under the crown is said below, and not by how this rounds.
            i_first = max(math.floor((top - radius) / pixel - 0.5) - row, 0)
            i_last = min(math.ceil((top + radius) / pixel - 0.5) - row, height - 1)
            j_first = max(math.floor((left - radius) / pixel - 0.5) - column, 0)
            j_last = min(math.ceil((left + radius) / pixel - 0.5) - column, width - 1)
            for i in range(i_first, i_last + 1):
                south = ((row + i + 0.5) * pixel - top) / radius
                for j in range(j_first, j_last + 1):
                    eastwards = ((column + j + 0.5) * pixel - left) / radius
                    squared = south * south + eastwards * eastwards
                    if squared < 1:
                        # A dome, lighter towards the north-west, whose light is the tree's own.
                        dome = own + 0.55 * (1 - squared) - 0.45 * (south + eastwards)
                        light[i, j] = max(light[i, j], dome)


# --- Where the ground has them ---

_LEAN = 10.0
"""Grey levels by which a district's ground may be darker or lighter and still be what the district leans to."""


@_part
def _light(red: float, green: float, blue: float) -> float:
    return 0.3 * red + 0.59 * green + 0.11 * blue


@_part
def _tilled(red: float, green: float, blue: float, lean: float) -> float:
    light = _light(red, green, blue)
    open_land = _smooth(light + _LEAN * lean, 60, 80) * (1 - _smooth(light, 140, 170))
    return open_land * _smooth(min(red, green) - blue, 8, 22) * (1 - _smooth(red - green, 14, 34))


@_part
def _wooded(red: float, green: float, blue: float, lean: float) -> float:
    dark = 1 - _smooth(_light(red, green, blue) + _LEAN * lean, 66, 86)
    return dark * _smooth(green - max(red, blue), 4, 14)


@loop
def fill_means(parents: npt.NDArray[np.uint8], reach: int, means: Floats) -> None:
    """Mean colours of squares of parents.

    Args:
        parents: (h + 2 * reach, w + 2 * reach, 3).
        reach: parents at each side of a square's middle.
        means: (h, w, 3), to be filled.
    """
    height, width, channels = means.shape
    side = 2 * reach + 1
    for i in range(height):
        for j in range(width):
            for channel in range(channels):
                total = 0
                for down in range(side):
                    for right in range(side):
                        total += parents[i + down, j + right, channel]
                means[i, j, channel] = total / (side * side)


@loop
def fill_looks(colours: Floats, lean: Floats, tilled: Floats, wooded: Floats) -> None:
    """How much ground looks tilled and how much wooded; see `earthgen.countryside.tilled`.

    Args:
        colours: (h, w, 3).
        lean: (h, w).
        tilled: (h, w), to be filled.
        wooded: (h, w), to be filled.
    """
    for i in range(lean.shape[0]):
        for j in range(lean.shape[1]):
            red, green, blue = colours[i, j, 0], colours[i, j, 1], colours[i, j, 2]
            tilled[i, j] = _tilled(red, green, blue, lean[i, j])
            wooded[i, j] = _wooded(red, green, blue, lean[i, j])


@loop
def fill_ground(colours: Floats, plan: Plan, light: Floats, fields: Floats, trees_share: Floats, woods: Floats) -> None:
    """How much of a plan the ground has; see `earthgen.countryside.Ground`.

    Args:
        colours: (h / 4, w / 4, 3), mean colours around parents.
        plan: arrays (h, w).
        light: (h, w), to be filled.
        fields: (h, w), to be filled.
        trees_share: (h, w), to be filled.
        woods: (h, w), to be filled.
    """
    for i in range(light.shape[0]):
        for j in range(light.shape[1]):
            at = i, j
            up, west = i // SCALE, j // SCALE
            red, green, blue = colours[up, west, 0], colours[up, west, 1], colours[up, west, 2]
            field = _tilled(red, green, blue, plan.lean[at])
            wood = _wooded(red, green, blue, plan.lean[at]) * (1 - field)
            light[at] = (red + green + blue) / (3 * 127.5)
            fields[at], woods[at] = field, wood
            trees_share[at] = wood + field * plan.farmed[at] * plan.copse[at] * (1 - plan.village[at])


# --- Colours, as differences to the ground's in proportion to its lightness ---

_TONE = 0.08
"""Of a field that is lighter than others by one standard deviation."""
_HUE = 0.028
"""Of a field that is browner by one."""
_COPSE = -2.2
"""Tone and hue of fields with trees, in standard deviations."""


@_part
def _over(below: Any, share: float, red: float, green: float, blue: float) -> Any:
    """A colour laid over another, where it covers that."""
    return (
        below[0] + share * (red - below[0]),
        below[1] + share * (green - below[1]),
        below[2] + share * (blue - below[2]),
    )


@_part
def _paint_field(plan: Any, at: Any) -> Any:
    copse = plan.copse[at]
    tone, hue = plan.tone[at] * 1.0, plan.hue[at] * 1.0
    tone, hue = tone + copse * (_COPSE - tone), (hue + copse * (_COPSE - hue)) * _HUE
    light = _TONE * tone + 0.02 * plan.furrows[at] * (1 - copse)
    out = light + hue, light - 0.35 * hue, 0.9 * light + 0.1 * hue
    out = _over(out, plan.hedge[at], -0.22, -0.15, -0.16)
    return _over(out, plan.track[at], 0.20, 0.17, 0.18)


@_part
def _paint_village(plan: Any, at: Any) -> Any:
    """Gardens, roofs with their shadows, and streets."""
    garden = plan.garden[at] - 0.5
    out = garden * 0.16 + 0.03, garden * 0.10 + 0.02, garden * 0.12 + 0.05
    out = _over(out, plan.shadow[at], -0.30, -0.26, -0.20)
    red, green, blue = (0.42, 0.0, -0.05) if plan.roof_hue[at] < 0.5 else (0.25, 0.22, 0.34)
    lit = 0.5 * plan.roof_tone[at] - 0.2
    out = _over(out, plan.roof[at], red + lit, green + lit, blue + lit)
    return _over(out, plan.street[at], 0.26, 0.26, 0.36)


@loop
def fill_painted(plan: Plan, colours: Floats) -> None:
    """Colours of a plan.

    Args:
        plan: arrays (h, w).
        colours: (h, w, 3), to be filled.
    """
    for i in range(colours.shape[0]):
        for j in range(colours.shape[1]):
            at = i, j
            out = 0.0, 0.0, 0.0
            if plan.farmed[at] > 0:
                red, green, blue = _paint_field(plan, at)
                out = red, green, blue
                if plan.village[at] > 0:
                    red, green, blue = _paint_village(plan, at)
                    out = _over(out, plan.village[at], red, green, blue)
                farmed = plan.farmed[at]
                out = farmed * out[0], farmed * out[1], farmed * out[2]
            red, green, blue = _over(out, plan.road[at], 0.24, 0.23, 0.32)
            colours[i, j, 0], colours[i, j, 1], colours[i, j, 2] = red, green, blue


@loop
def fill_detail(
    painted: Floats,
    tone: Floats,
    trees: Floats,
    light: Floats,
    fields: Floats,
    trees_share: Floats,
    woods: Floats,
    detail: Floats,
) -> None:
    """What a drawing adds to its parents: itself less its means over blocks, in proportion to the light of the ground.

    Args:
        painted: (h, w, 3), colours of the plan.
        tone: (h, w), of the plan.
        trees: (h, w), or (0, 0) for none.
        light: (h, w), as the next three of `earthgen.countryside.Ground`.
        fields: (h, w).
        trees_share: (h, w).
        woods: (h, w).
        detail: (3, h, w), to be filled.
    """
    channels, height, width = detail.shape
    # Of a crown; what is green of it is lightest.
    crown = 0.9, 1.0, 0.7
    for top in range(0, height, SCALE):
        for left in range(0, width, SCALE):
            for channel in range(channels):
                total = 0.0
                for i in range(top, top + SCALE):
                    for j in range(left, left + SCALE):
                        drawn = fields[i, j] * painted[i, j, channel] + 0.7 * _TONE * woods[i, j] * tone[i, j]
                        if trees.size:
                            drawn += 0.22 * trees_share[i, j] * trees[i, j] * crown[channel]
                        drawn *= light[i, j]
                        total += drawn
                        detail[channel, i, j] = drawn
                for i in range(top, top + SCALE):
                    for j in range(left, left + SCALE):
                        detail[channel, i, j] -= total / SCALE**2


LOOPS = (fill_parcels, fill_crowns, fill_means, fill_looks, fill_ground, fill_painted, fill_detail)
