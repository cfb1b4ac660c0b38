"""A plan of built ground by address: quarters, streets, plots and what stands on them.

As `earthgen.parcels`, a function of the seed and the place. Quarters are the Voronoi cells of a jittered lattice, each
with a direction of its own and streets along its borders; inside, streets cut it into blocks, and blocks into plots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.parcels import Floats, Indices, Keys, mixed, share_of, smooth_step
from earthgen.pyramid import EQUATOR_GSD, TILE_SIZE
from earthgen.scenery.fractal import Sheet
from earthgen.scenery.paint import Plane, over, rgb

_CIRCUMFERENCE = EQUATOR_GSD * TILE_SIZE


@dataclass(frozen=True, slots=True)
class Style:
    """How ground is built on; lengths are metres.

    Attributes:
        quarters: that go round the world, a power of 2; 4 << 14 are 610 m each at the equator.
        block: across and along a quarter's direction, from street to street.
        street: width.
        plot: along its street.
        setback: from the street to the house.
        size: half of a house's depth and half of its width, least and most.
        built: share of plots with a house.
        tall: length of shadows.
        roofs, shadows: mean share of ground off the streets that each covers, measured on a million pixels of 0.6 m.
    """

    quarters: int
    block: tuple[float, float]
    street: float
    plot: float
    setback: float
    size: tuple[tuple[float, float], tuple[float, float]]
    built: float
    tall: float
    roofs: float
    shadows: float


SUBURB = Style(1 << 16, (68, 150), 7, 22, 11, ((3.8, 6.5), (4.2, 7.5)), 0.9, 3.5, 0.137, 0.054)
VILLAGE = Style(1 << 16, (90, 170), 5.5, 34, 13, ((3.8, 6.0), (4.5, 8.0)), 0.75, 3.5, 0.054, 0.022)
CITY = Style(1 << 15, (78, 130), 13, 21, 15, ((6.5, 12.0), (8.5, 10.3)), 0.93, 11, 0.386, 0.073)
INDUSTRY = Style(1 << 15, (210, 330), 14, 95, 45, ((18, 36), (22, 42)), 0.85, 7, 0.331, 0.054)
STYLES = {"suburb": SUBURB, "village": VILLAGE, "city": CITY, "industry": INDUSTRY}


@dataclass(frozen=True, slots=True, eq=False)
class Town:
    """Arrays (h, w).

    Attributes:
        street, roof, shadow: share of a pixel that each covers.
        tone, hue: of the house, in [0, 1).
        garden: of the plot, in [0, 1).
        shown: how far single houses are told apart; where they are not, the rest is as in the mean.
    """

    street: Floats
    roof: Floats
    shadow: Floats
    tone: Floats
    hue: Floats
    garden: Floats
    shown: Floats

    def cropped(self, margin: int) -> Town:
        """Without so many pixels at each side."""
        inner = slice(margin, -margin), slice(margin, -margin)
        planes = (self.street, self.roof, self.shadow, self.tone, self.hue, self.garden, self.shown)
        return Town(*(plane[inner] for plane in planes))


def town(seed: Keys, sheet: Sheet, style: Style) -> Town:
    """The plan of some pixels.

    Args:
        seed: key of the seed, (1,).
        sheet: where, in units of any zoom.
        style: how it is built.
    """
    quarter = _quarters(seed, sheet, style.quarters)
    pixel = quarter.pixel
    rows = _strips(quarter.across, style.block[0], mixed(quarter.key, _one(1)))
    columns = _strips(quarter.along, style.block[1], mixed(quarter.key, _one(2)))
    street = _line(rows.distance, style.street, pixel)
    np.maximum(street, _line(columns.distance, style.street * 0.9, pixel), out=street)
    np.maximum(street, _line(quarter.border, 1.3 * style.street, pixel), out=street)
    # A block has two rows of plots, each along its own street.
    side = mixed(quarter.key, _one(3), 2 * rows.number + rows.upper)
    plots = _strips(quarter.along, style.plot, side, 0.3)
    key = mixed(side, plots.number)
    # Pixels that are larger than a plot would each show one house of several.
    shown = smooth_step(style.plot / pixel, 0.8, 1.8)
    east = np.where(plots.upper, 1, -1).astype(np.float32) * (0.5 * plots.width - plots.distance)
    depth = rows.distance - style.setback - np.float32(0.15 * style.setback) * share_of(key, 5)
    (low, high), (narrow, wide) = style.size
    halves = low + (high - low) * share_of(key, 6), narrow + (wide - narrow) * share_of(key, 7)
    stands = (share_of(key, 8) < style.built) * smooth_step(columns.distance, style.street, style.street + 4)

    def covered(across: Floats, along: Floats) -> Floats:
        cover = stands
        for half, distance in zip(halves, (across, along), strict=True):
            cover = cover * _slab(abs(distance), half, pixel)
        return cover.astype(np.float32)

    roof = covered(depth, east)
    tall = np.float32(style.tall) * (0.6 + 0.8 * share_of(key, 9))
    away = np.where(rows.upper, -1, 1).astype(np.float32)
    shadow = covered(depth + 0.7 * tall * away, east - 0.7 * tall) * (1 - roof)
    tone = share_of(key, 10) + np.float32(0.1) * np.sign(depth * away)

    def seen(plane: Plane, mean: float) -> Floats:
        """As it is where single houses are told apart, and its mean where they are not."""
        return (mean + shown * (plane - mean)).astype(np.float32)

    return Town(
        street,
        seen(roof, style.roofs),
        seen(shadow, style.shadows),
        seen(tone, 0.5),
        share_of(key, 11),
        seen(share_of(key, 12), 0.5),
        shown.astype(np.float32),
    )


def built(plan: Town, dense: bool) -> Plane:
    """Light of built ground, less that of its mean."""
    garden = (plan.garden - 0.5)[..., None]
    tone = plan.tone[..., None]

    def red(part: float) -> Plane:
        """Which roofs are red, if so large a part of them is."""
        return (part + plan.shown * ((plan.hue < part) - part))[..., None]

    if dense:
        ground = 0.3 * garden * rgb(1, 0.9, 1) - 0.22
        tiles = 0.75 * tone * rgb(1, 1, 1) + 0.06 + red(0.2) * rgb(0.18, -0.1, -0.18)
        street = rgb(-0.14, -0.14, -0.1)
    else:
        ground = (0.3 * garden - 0.16) * rgb(1.2, 0.7, 1.2)
        grey = rgb(0.25, 0.22, 0.28)
        tiles = grey + red(0.55) * (rgb(0.55, 0.02, -0.08) - grey) + 0.5 * tone - 0.2
        street = rgb(0.22, 0.2, 0.27)
    out = over(ground, plan.shadow, rgb(-0.55, -0.5, -0.42))
    return over(over(out, plan.roof, tiles), plan.street, street)


# --- Car parks and orchards ---

_AISLE, _STALL = 16.0, 2.6
"""Metres from aisle to aisle, a row of cars at each side, and of a car."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Things that stand in rows; arrays (h, w).

    Attributes:
        there: share of a pixel that one of them covers, where pixels are fine enough to tell them apart.
        tone: of each, in [0, 1).
        lane: share of a pixel that belongs to the lanes between plots.
    """

    there: Floats
    tone: Floats
    lane: Floats


def parked_cars(seed: Keys, sheet: Sheet) -> Rows:
    """Cars in two rows at each side of aisles; two stalls in three are taken."""
    quarter = _quarters(seed, sheet, INDUSTRY.quarters)
    aisle, stall = np.floor(quarter.across / _AISLE), np.floor(quarter.along / _STALL)
    key = mixed(quarter.key, aisle.astype(np.int64), stall.astype(np.int64))
    # Two cars nose to nose in the middle between aisles.
    deep = abs(quarter.across - (aisle + 0.5) * _AISLE)
    beside = abs(quarter.along - (stall + 0.5) * _STALL)
    car = _slab(abs(deep - 2.6), 2.2, quarter.pixel) * _slab(beside, 0.95, quarter.pixel)
    taken = share_of(mixed(key, (quarter.across > (aisle + 0.5) * _AISLE).astype(np.uint32)), 31)
    seen = smooth_step(_STALL / quarter.pixel, 1.5, 3.0)
    lane = _line(quarter.border, 14.0, quarter.pixel)
    return Rows((car * (taken < 0.66) * seen * (1 - lane)).astype(np.float32), share_of(mixed(key, _one(5)), 32), lane)


def planted_trees(seed: Keys, sheet: Sheet, apart: float = 6.0) -> Rows:
    """Round crowns in straight rows, metres apart, in plots between lanes."""
    quarter = _quarters(seed, sheet, 4 * SUBURB.quarters)
    across, along = quarter.across / np.float32(apart), quarter.along / np.float32(0.9 * apart)
    away = np.hypot(across - np.floor(across) - 0.5, along - np.floor(along) - 0.5)
    key = mixed(quarter.key, np.floor(across).astype(np.int64), np.floor(along).astype(np.int64))
    size = 0.3 + 0.16 * share_of(key, 33)
    seen = smooth_step(apart / quarter.pixel, 2.0, 4.0)
    lane = _line(quarter.border, 6.0, quarter.pixel)
    one = ((size - away) * apart / quarter.pixel + 0.5).clip(0, 1) * (share_of(key, 34) < 0.95)
    # Pixels that are larger than trees show how much of the ground they cover.
    there = seen * one + (1 - seen) * 0.43
    return Rows((there * (1 - lane)).astype(np.float32), share_of(key, 35), lane)


def _slab(distance: Floats, half: Floats | float, pixel: Floats) -> Floats:
    covered: Floats = ((half - distance) / pixel + 0.5).clip(0, 1) * (2 * half / pixel).clip(0, 1)
    return covered


# --- Quarters and strips ---


@dataclass(frozen=True, slots=True, eq=False)
class _Quarter:
    """Where pixels are in their quarters; metres on the ground, arrays (h, w)."""

    key: Keys
    along: Floats
    across: Floats
    border: Floats
    pixel: Floats


def _quarters(seed: Keys, sheet: Sheet, around: int) -> _Quarter:
    cell = sheet.around / around
    y, x = sheet.rows / cell, sheet.columns / cell
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    rows, columns = np.arange(top[0] - 1, top[-1] + 2), np.arange(left[0] - 1, left[-1] + 2)
    keys = mixed(seed, rows[:, None], columns[None, :] % around)
    jitter_down, jitter_right = (0.15 + 0.7 * share_of(keys, which) for which in (1, 2))
    shape = (len(y), len(x))
    nearest, second = np.full(shape, np.inf, np.float32), np.full(shape, np.inf, np.float32)
    down, right = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    key = np.zeros(shape, np.uint32)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            at = np.ix_(top - top[0] + 1 + row, left - left[0] + 1 + column)
            south = ((y - top)[:, None] - row).astype(np.float32) - jitter_down[at]
            east = ((x - left)[None, :] - column).astype(np.float32) - jitter_right[at]
            squared = south * south + east * east
            closer = squared < nearest
            second = np.where(closer, nearest, np.minimum(second, squared))
            nearest = np.where(closer, squared, nearest)
            down, right, key = (
                np.where(closer, south, down),
                np.where(closer, east, right),
                np.where(closer, keys[at], key),
            )
    # One scale for a quarter: the cosine of a latitude near it.
    latitude = np.round(sheet.rows[:, None] / cell - down)
    metres = (_CIRCUMFERENCE / around / np.cosh(np.pi * (1 - 2 * latitude / around))).astype(np.float32)
    turn = share_of(key, 3) * np.float32(np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    border: Floats = (np.sqrt(second) - np.sqrt(nearest)) * np.float32(0.5) * metres
    along: Floats = (cos * right + sin * down) * metres
    across: Floats = (cos * down - sin * right) * metres
    return _Quarter(key, along, across, border, np.float32(sheet.pixel / cell) * metres)


@dataclass(frozen=True, slots=True, eq=False)
class _Strips:
    """Cells of uneven width along a coordinate; arrays of its shape.

    Attributes:
        number: of the cell.
        upper: whether the nearer boundary is the upper one.
        distance: metres to it.
        width: metres from boundary to boundary.
    """

    number: Indices
    upper: npt.NDArray[np.bool_]
    distance: Floats
    width: Floats


def _strips(position: Floats, width: float, key: Keys, unevenness: float = 0.4) -> _Strips:
    def boundary(number: Indices) -> Floats:
        moved = number + unevenness * (share_of(mixed(key, number), 21) - 0.5)
        return (moved * width).astype(np.float32)

    number = np.floor(position / width).astype(np.int64)
    number = number - (position < boundary(number)) + (position >= boundary(number + 1))
    before, after = position - boundary(number), boundary(number + 1) - position
    return _Strips(number, after < before, np.minimum(before, after), before + after)


def _line(distance: Floats, width: float, pixel: Floats) -> Floats:
    """Share of pixels that a line of a width covers, from the distances of their middles to its own."""
    covered: Floats = (((width + pixel) / 2 - distance) / pixel).clip(0, (width / pixel).clip(0, 1))
    return covered


def _one(value: int) -> Keys:
    return np.array([value], dtype=np.uint32)
