"""Rivers and towns of worlds that no prompt describes, by address: what `earthgen.countryside` draws beside fields.

Rivers follow the contours of smooth noise, so they wind and never end, of two sizes; towns are ragged discs around the
points of a jittered lattice, a dense core in a ring of houses. Both begin at a coarser zoom than fields, since they are
larger. As `earthgen.parcels`, a function of the seed and the place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.parcels import Floats, Keys, address_key, mixed, smooth_step
from earthgen.pyramid import EQUATOR_GSD, SCALE, TILE_SIZE, Box
from earthgen.scenery.fractal import Sheet, fractal, share, slopes, stream
from earthgen.scenery.paint import Plane, over, rgb
from earthgen.scenery.town import STYLES, Town, built, town

FIRST_ZOOM = 6
"""The coarsest level that shows rivers and towns, 2.4 km a pixel at the equator: larger than most of them, or the
ground beside one would have to make up for it in its parent's mean."""
_ZOOM = 12
"""Whose pixels lengths are counted in, 38.2 m at the equator."""
_RIVERS = ((4096.0, 7.0), (512.0, 1.7))
"""Cells of the noise whose contours they are, and half of their width."""
_FLAT = np.float32(0.6)
"""Slope over a cell that is taken where ground is flatter, so that a plain is not a river everywhere."""
_WATER = rgb(-0.48, -0.35, -0.13)
"""Difference of water to the ground beside it, in proportion to its light."""
_BANKS = rgb(0.05, 0.05, 0.02)
_PAVED = rgb(0.11, 0.08, 0.24)
"""The same of towns as a whole."""
_BUILT = {"suburb": rgb(-0.066, -0.047, -0.091), "city": rgb(-0.011, -0.026, -0.018)}
"""What streets and houses add to that in the mean, measured at zoom 12: all that coarser pixels show of them."""
_TOWNS = 1 << 10
"""Cells of the lattice of towns around the world, 39 km each at the equator."""
_LEAST, _MOST = 0.8, 6.0
"""Kilometres from the middle of a town to its edge."""
_REACH = 1.5
"""Radii from the middle of a town beyond which nothing of it is."""
_SOFT = 0.04
"""Radii over which its edge fades."""
_CORE = 0.4
"""Share of that which is densely built."""
_SMOOTH_ZOOM = 12
"""From which on rivers and edges of towns are so smooth that every fourth pixel tells where they are."""
_BETWEEN = tuple((0.625 + 0.25 * step) % 1 for step in range(SCALE))
"""Where children lie between the middles of their parents."""


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """What is drawn on a box of pixels.

    Attributes:
        rivers: share of each pixel, (h, w).
        towns: the same.
        light: differences to the ground's colours, in proportion to its light, (h, w, 3).
        plans: of the rings and the cores of towns with the share of each; none where there is no town.
    """

    rivers: Floats
    towns: Floats
    light: Floats
    plans: tuple[tuple[Town, Floats], ...]

    def cropped(self, margin: int) -> Landmarks:
        """Without so many pixels at each side."""
        inner = slice(margin, -margin), slice(margin, -margin)
        plans = tuple((plan.cropped(margin), part[inner]) for plan, part in self.plans)
        return Landmarks(self.rivers[inner], self.towns[inner], self.light[inner], plans)


def landmarks(seed: int, box: Box) -> Landmarks | None:
    """The rivers and towns of a box; None where there are none.

    Args:
        seed: the world's.
        box: pixels of any zoom; from zoom 12 on whole blocks of 4x4.
    """
    if box.zoom < FIRST_ZOOM:
        return None
    key = stream(address_key(seed), 200)
    sheet = Sheet.of(box, _ZOOM)
    coarse = box.zoom >= _SMOOTH_ZOOM
    seen = Sheet.of((box.parent() if coarse else box).grown(2), _ZOOM)
    towns, core = _towns(key, seen)
    away = [_from_river(key, which, seen) for which in range(len(_RIVERS))]
    if coarse:
        towns, core, *away = (_finer(plane) for plane in (towns, core, *away))
    else:
        towns, core, *away = (plane[2:-2, 2:-2] for plane in (towns, core, *away))
    water, bank = _covered(away, sheet.pixel)
    if not towns.any() and not bank.any():
        return None
    light: Plane = towns[..., None] * _PAVED
    plans: list[tuple[Town, Floats]] = []
    for name, part in (("suburb", towns * (1 - core)), ("city", towns * core)):
        if not part.any():
            continue
        if not coarse:
            light = light + part[..., None] * _BUILT[name]
            continue
        plan = town(stream(key, 5), sheet, STYLES[name])
        light = light + part[..., None] * built(plan, dense=name == "city")
        plans.append((plan, part))
    light = over(over(light, bank, _BANKS), water, _WATER)
    return Landmarks(water, towns, light.astype(np.float32), tuple(plans))


def _from_river(key: Keys, which: int, sheet: Sheet) -> Plane:
    """Units to the nearest river of a size, about, (h, w)."""
    cell = _RIVERS[which][0]
    wider = Sheet(_grown(sheet.rows), _grown(sheet.columns), sheet.pixel, sheet.around)
    bed = fractal(stream(key, which), wider, cell, 0.45, 16.0)
    down, right = slopes(bed)
    away: Plane = abs(bed[1:-1, 1:-1]) / np.maximum(np.hypot(down, right) / np.float32(sheet.pixel), _FLAT / cell)
    return away


def _covered(away: list[Plane], pixel: float) -> tuple[Floats, Floats]:
    """Shares of pixels that are water, and that are water or its banks."""
    water, banks = (np.zeros(away[0].shape, dtype=np.float32) for _ in range(2))
    for (_, half), distance in zip(_RIVERS, away, strict=True):
        for plane, wide in ((water, half), (banks, 1.5 * half + 0.4)):
            np.maximum(plane, ((wide - distance) / pixel + 0.5).clip(0, min(1.0, 2 * wide / pixel)), out=plane)
    return water, banks


def _finer(plane: Plane) -> Plane:
    """Children (4 h - 16, 4 w - 16) of parents (h, w), linear between their middles; the outer two are left out."""
    for _ in range(2):
        rows = [
            plane[1 + (step > 1) : -3 + (step > 1)] * (1 - share)
            + plane[2 + (step > 1) : len(plane) - 2 + (step > 1)] * share
            for step, share in enumerate(_BETWEEN)
        ]
        plane = np.stack(rows, axis=1).reshape(-1, plane.shape[1]).T
    return plane


def _grown(axis: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A coordinate and one step more at each end."""
    step = axis[1] - axis[0]
    return np.concatenate([[axis[0] - step], axis, [axis[-1] + step]])


def _towns(key: Keys, sheet: Sheet) -> tuple[Floats, Floats]:
    """Shares of pixels that are of a town, and of these that are of its core."""
    cell = sheet.around / _TOWNS
    edge, core = (np.zeros((len(sheet.rows), len(sheet.columns)), dtype=np.float32) for _ in range(2))
    top, left = int(sheet.rows[0] // cell), int(sheet.columns[0] // cell)
    below, beyond = int(sheet.rows[-1] // cell), int(sheet.columns[-1] // cell)
    ragged: Floats | None = None
    for row in range(top - 1, below + 2):
        # Units of a kilometre on the ground, at the town's own latitude.
        scale = np.cosh(np.pi * (1 - 2 * (row + 0.5) / _TOWNS))
        kilometre = 1000 * scale * sheet.around / (EQUATOR_GSD * TILE_SIZE)
        for column in range(left - 1, beyond + 2):
            own = mixed(stream(key, 7), np.array([row]), np.array([column % _TOWNS]))
            size = share(own, 3)
            if size < 0.35:
                continue
            radius = (_LEAST + (_MOST - _LEAST) * ((size - 0.35) / 0.65) ** 3) * kilometre
            middle = (row + 0.2 + 0.6 * share(own, 1)) * cell, (column + 0.2 + 0.6 * share(own, 2)) * cell
            reach = [middle[0] - _REACH * radius, middle[0] + _REACH * radius]
            rows = slice(*np.searchsorted(sheet.rows, reach))
            reach = [middle[1] - _REACH * radius, middle[1] + _REACH * radius]
            columns = slice(*np.searchsorted(sheet.columns, reach))
            if rows.start == rows.stop or columns.start == columns.stop:
                continue
            if ragged is None:
                ragged = fractal(stream(key, 8), sheet, 128.0, 0.6, 2.0)
            down, right = sheet.rows[rows] - middle[0], sheet.columns[columns] - middle[1]
            away = np.hypot(down[:, None], right[None, :]).astype(np.float32) / np.float32(radius)
            inside = 1 + np.float32(0.16) * ragged[rows, columns].clip(-2.5, 2.5) - away
            # As wide as what a pixel of the coarsest zooms spans, for small towns.
            soft = max(_SOFT, 0.7 * sheet.pixel / radius)
            here = edge[rows, columns], core[rows, columns]
            np.maximum(here[0], smooth_step(inside, -soft, soft), out=here[0])
            np.maximum(here[1], smooth_step(inside - np.float32(1 - _CORE), -0.15, 0.15), out=here[1])
    return edge, core
