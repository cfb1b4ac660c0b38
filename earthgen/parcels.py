"""A plan of farmed land by address: districts, fields, hedges, tracks, roads and villages.

Everything is a function of the seed and the place, so any crop of it at any zoom shows the same land, and nothing is
stored. Districts are the Voronoi cells (Voronoi 1908; as a texture, Worley 1996) of one point in each cell of a lattice
that goes round the world. Each has a direction, along which rows of fields run, and perhaps a village in its middle,
whose streets run the same way.

Lengths are metres on the ground where not said otherwise. A line or a roof that is smaller than a pixel covers a share
of it, so that the plan at a coarse zoom is about the mean of the plan at a finer one.

How all this is drawn is in `earthgen.land_kernels`; `tests/plain_land.py` says the same in numpy, array by array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.land_kernels import CIRCUMFERENCE, Plan, fill_parcels, planes, work_for
from earthgen.pyramid import Box, world_size

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]


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
        village: share that belongs to a village; the following are 0 outside of villages.
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
    pixel = _pixel(box.zoom)
    farmed, villages = (-1.0, -1.0) if settlement is None else (settlement.farmed, settlement.villages)
    plan = Plan(*planes(len(Plan._fields), box.height, box.width))
    work = work_for(box.height, box.width, pixel)
    fill_parcels(address_key(seed)[0], where_of(box), pixel, float(farmed), float(villages), work, plan)
    return Parcels(*plan)


def where_of(box: Box) -> tuple[int, int, int, int]:
    """Row, column, height and width of a box in the form that loops take."""
    return int(box.row), int(box.column), int(box.height), int(box.width)


def arrays_of(plan: Parcels) -> Plan:
    """The arrays of a plan in the form that loops take, whoever made it."""
    return Plan(*(np.require(getattr(plan, name), np.float32, ("C", "W")) for name in Plan._fields))


# --- Numbers by address ---


def _key(value: int) -> Keys:
    return np.array([value & 0xFFFFFFFF], dtype=np.uint32)


def address_key(seed: int) -> Keys:
    """The key (1,) of a seed of up to 64 bits."""
    return mixed(_key(seed), _key(seed >> 32))


def _pixel(zoom: int) -> float:
    return CIRCUMFERENCE / world_size(zoom)


def mercator_axes(box: Box) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Middles of the rows and columns of a box and the side of a pixel, in metres of Mercator's plane from its corner.

    They are longer than metres on the ground, by one over the cosine of the latitude.
    """
    pixel = _pixel(box.zoom)
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
