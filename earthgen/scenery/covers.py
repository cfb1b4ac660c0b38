"""Covers of scenes: ground of one kind, in its colour, as rough as that ground is on real pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earthgen.bands import CODES
from earthgen.countryside import painted
from earthgen.crowns import crowns
from earthgen.parcels import Keys, Settlement, parcels, smooth_step
from earthgen.pyramid import Box
from earthgen.scenery.fractal import Sheet, fractal, stream
from earthgen.scenery.paint import CERTAIN, Codes, Plane, over, rgb
from earthgen.scenery.palette import Colour
from earthgen.scenery.town import STYLES, Rows, built, parked_cars, planted_trees, town

_MOSTLY = {
    "forest": CODES["trees"],
    "conifers": CODES["trees"],
    "rain forest": CODES["trees"],
    "meadow": CODES["low vegetation"],
    "orchard": CODES["low vegetation"],
    "suburb": CODES["low vegetation"],
    "village": CODES["low vegetation"],
    "city": CODES["other paved"],
    "industry": CODES["other paved"],
    "parking": CODES["other paved"],
    "desert": CODES["bare ground"],
    "sand": CODES["bare ground"],
    "rock": CODES["bare ground"],
}
"""What most of a cover is; of fields, scrub and snow that is not said."""
_WIND = 1.93
"""Radians: the direction of dunes."""
_DUNES = 9.0
"""Units from dune to dune."""
_STEEP = 0.345
"""Mean share of dunes in shade."""
_VILLAGES = 0.35
"""Share of districts of farmland that have a village."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Ground of one kind.

    Attributes:
        light: red, green and blue, (h, w, 3), about in [0, 1].
        codes: what covers most of each pixel, uint8 (h, w): codes of `earthgen.bands.LAND_COVER`, 0 where that is not
            said.
    """

    light: Plane
    codes: Codes


def cover(name: str, colour: Colour, seed: int, key: Keys, box: Box, zoom: int) -> Ground:
    """Ground of one kind.

    Args:
        name: a cover of `meaning.THINGS`.
        colour: of it.
        seed: the world's, and
        key: the same as a key.
        box: pixels of any zoom.
        zoom: at which the scene begins.
    """
    sheet = Sheet.of(box, zoom)
    regional = fractal(stream(key, 1), sheet, 128.0, 0.6)[..., None]
    hue = fractal(stream(key, 2), sheet, 64.0, 0.6)[..., None]
    # Nearly as much at every scale, as ground is.
    mottled = fractal(stream(key, 3), sheet, 16.0, 0.85)[..., None]
    base = (colour.mean + 0.5 * regional * colour.among) * (1 + 0.05 * hue * rgb(1, 0, -0.6))
    light = base.mean(axis=-1, keepdims=True).clip(0.05, 1)
    rough = np.float32(colour.inside) / light * mottled
    things = stream(key, 4)
    codes = np.full((box.height, box.width), _MOSTLY.get(name, 0), dtype=np.uint8)
    match name:
        case "suburb" | "village" | "city" | "industry":
            dense = name in ("city", "industry")
            plan = town(things, sheet, STYLES[name])
            shown = built(plan, dense)
            _mark(codes, plan.roof, "building")
            _mark(codes, plan.street, "road")
        case "parking":
            shown = _parked(parked_cars(things, sheet)) + 0.1 * rough
        case "orchard":
            trees_in_rows = planted_trees(things, sheet)
            plots = painted(parcels(seed, box, Settlement(farmed=1.0, villages=0.0)))
            shown = _planted(trees_in_rows) + 0.8 * plots + 0.3 * rough
            _mark(codes, trees_in_rows.there, "trees")
        case "farmland":
            farms = parcels(seed, box, Settlement(1.0, _VILLAGES))
            shown = 1.5 * painted(farms) + 0.2 * rough
            _mark(codes, farms.hedge * (1 - farms.village), "trees")
            _mark(codes, farms.village * farms.roof, "building")
            _mark(codes, np.maximum(farms.road, farms.track * (1 - farms.village)), "road")
            _mark(codes, farms.village * farms.street, "road")
        case "forest" | "conifers" | "rain forest":
            trees = crowns(seed, box)
            shown = rough if trees is None else 0.34 * trees[..., None] * rgb(0.9, 1.0, 0.7) + 0.4 * rough
        case "sand":
            shown = _dunes(key, sheet)[..., None] * rgb(0.8, 1.0, 1.2)
        case "scrub":
            bushes = smooth_step(fractal(stream(key, 5), sheet, 4.0, 0.8), 0.9, 1.5)
            shown = rough - 0.45 * bushes[..., None] * rgb(1.2, 0.8, 1.0)
        case _:
            shown = rough
    return Ground(base * (1 + shown), codes)


def _mark(codes: Codes, share: Plane, name: str) -> None:
    """Say what covers the pixels of which something has the larger part."""
    codes[share > CERTAIN] = CODES[name]


def _parked(cars: Rows) -> Plane:
    """Light of a car park, less that of its mean."""
    asphalt = cars.lane[..., None] * rgb(0.1, 0.1, 0.08)
    red = (cars.tone % 0.1 > 0.08)[..., None] * rgb(0.3, -0.2, -0.2)
    return over(asphalt, cars.there, (1.5 * cars.tone - 0.7)[..., None] * rgb(1, 1, 1) + red)


def _planted(trees: Rows) -> Plane:
    """Light of rows of trees, less that of their mean."""
    ground = trees.lane[..., None] * rgb(0.25, 0.2, 0.2) + 0.1
    return over(ground, trees.there, rgb(-0.42, -0.22, -0.42) + (0.2 * (trees.tone - 0.5))[..., None])


def _dunes(key: Keys, sheet: Sheet) -> Plane:
    """Light of rows of dunes: long slopes towards the wind, short ones away from it."""
    bent = 5.0 * fractal(stream(key, 6), sheet, 32.0, 0.5)
    share = ((sheet.turned(_WIND, _DUNES) + bent / _DUNES) % 1).astype(np.float32)
    height = fractal(stream(key, 7), sheet, 64.0, 0.5)
    steep = smooth_step(share, 0.0, 0.06) * (1 - smooth_step(share, 0.2, 0.55))
    # Where pixels are as large as dunes, as dark as they are in the mean.
    visible = float(np.clip((_DUNES / sheet.pixel - 3) / 5, 0, 1))
    steep = visible * steep + (1 - visible) * np.float32(_STEEP)
    ripples = fractal(stream(key, 8), sheet, 2.0, 0.7)
    light: Plane = -0.16 * (steep - _STEEP) * (0.7 + 0.4 * height).clip(0, 1.5) + 0.03 * height + 0.02 * ripples
    return light
