"""Smooth noise on an unbounded plane, as a function of the place alone: gradient noise and its octaves.

Perlin's noise (1985, improved 2002) with gradients by hash: as `earthgen.parcels`, the same at any crop and any zoom,
going round the world without a seam. Octaves that a pixel cannot show are left out, softly, so that a coarse zoom is
about the mean of a fine one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from earthgen.land_kernels import loop
from earthgen.parcels import Floats, Keys, mixed, share_of, smooth_step
from earthgen.pyramid import Box, world_size

_UNIT = 1 / 0.268
"""One over the standard deviation of gradient noise with unit gradients, measured on 4 million positions."""
_SEEN = 2.5, 5.0
"""Pixels that a cell spans where an octave begins to be seen, and is."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Where pixels are, in units of the pixels that a scene is planned in.

    Attributes:
        rows: of their middles, float64 (h,).
        columns: the same, (w,).
        pixel: side of a pixel.
        around: units around the world.
    """

    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]
    pixel: float
    around: int

    @classmethod
    def of(cls, box: Box, zoom: int) -> Sheet:
        """The pixels of a box of any zoom, in pixels of a zoom."""
        pixel = 2.0 ** (zoom - box.zoom)
        rows, columns = np.arange(box.height, dtype=np.float64), np.arange(box.width, dtype=np.float64)
        left = box.column % world_size(box.zoom)
        return cls((rows + box.row + 0.5) * pixel, (columns + left + 0.5) * pixel, pixel, world_size(zoom))

    def turned(self, angle: float, apart: float) -> npt.NDArray[np.float64]:
        """Where pixels are between parallel lines, counted in them: float64 (h, w).

        Args:
            angle: of the lines to the east, clockwise, in radians.
            apart: units from line to line; nearly, since a whole number of them goes round the world.
        """
        east = round(-np.sin(angle) * self.around / apart) / self.around
        return np.asarray(np.cos(angle) / apart * self.rows[:, None] + east * self.columns[None, :])

    def moved(self, down: float, right: float) -> Sheet:
        """The same pixels of ground that lies so many units further up and to the left."""
        return Sheet(self.rows + down, self.columns + right, self.pixel, self.around)


def gradient_noise(key: Keys, sheet: Sheet, cell: float) -> Floats:
    """Noise of mean 0 and standard deviation 1, float32 (h, w).

    Args:
        key: which noise, (1,).
        sheet: where.
        cell: units from one point of its lattice to the next: a power of 2 that goes into the world.
    """
    total = np.zeros((len(sheet.rows), len(sheet.columns)), dtype=np.float32)
    _add_noise(total, 1.0, key, sheet, cell)
    return total


def fractal(key: Keys, sheet: Sheet, cell: float, gain: float = 0.5, finest: float = 0.0) -> Floats:
    """Octaves of noise, each twice as fine as the last; mean 0 and, all of them together, standard deviation 1.

    Args:
        key: which noise, (1,).
        sheet: where.
        cell: of the first octave, see `gradient_noise`.
        gain: standard deviation of an octave over that of the last, in (0, 1).
        finest: cell of the last octave; those that pixels cannot show are left out anyway.
    """
    total = np.zeros((len(sheet.rows), len(sheet.columns)), dtype=np.float32)
    scale, octave = math.sqrt(1 - gain * gain), 0
    while cell >= finest:
        seen = float(smooth_step(np.array([cell / sheet.pixel], dtype=np.float32), *_SEEN)[0])
        if not seen:
            break
        own = mixed(key, np.array([octave]))
        # Lattices of octaves that lay on each other would show.
        down, right = (cell * share(own, which) for which in (2, 3))
        _add_noise(total, scale * seen, own, sheet.moved(down, right), cell)
        scale, cell, octave = scale * gain, cell / 2, octave + 1
    return total


def share(key: Keys, which: int) -> float:
    """One number in [0, 1) of one key, (1,)."""
    return float(share_of(key, which)[0])


def stream(key: Keys, which: int) -> Keys:
    """Another key (1,) of a key, for another use."""
    return mixed(key, np.array([which]))


def _add_noise(total: Floats, scale: float, key: Keys, sheet: Sheet, cell: float) -> None:
    y, x = sheet.rows / cell, sheet.columns / cell
    top, left = math.floor(y[0]), math.floor(x[0])
    rows = np.arange(top, math.floor(y[-1]) + 2)
    columns = np.arange(left, math.floor(x[-1]) + 2)
    keys = mixed(key, rows[:, None], columns[None, :] % round(sheet.around / cell))
    angle = np.float32(2 * np.pi) * share_of(keys, 1)
    _interpolate(total, scale * _UNIT, np.sin(angle), np.cos(angle), y - top, x - left)


@loop
def _interpolate(total: Any, scale: float, south: Any, east: Any, y: Any, x: Any) -> None:
    """Add noise to (h, w), from the gradients at the points of its lattice."""
    for i in range(len(y)):
        row = int(y[i])
        down = y[i] - row
        lower = down * down * down * (down * (6 * down - 15) + 10)
        for j in range(len(x)):
            column = int(x[j])
            right = x[j] - column
            further = right * right * right * (right * (6 * right - 15) + 10)
            above = (south[row, column] * down + east[row, column] * right) * (1 - further)
            above += (south[row, column + 1] * down + east[row, column + 1] * (right - 1)) * further
            below = (south[row + 1, column] * (down - 1) + east[row + 1, column] * right) * (1 - further)
            below += (south[row + 1, column + 1] * (down - 1) + east[row + 1, column + 1] * (right - 1)) * further
            total[i, j] += scale * (above * (1 - lower) + below * lower)


def slopes(height: Floats) -> tuple[Floats, Floats]:
    """Change from pixel to pixel downwards and to the right, (h - 2, w - 2) each, of heights (h, w)."""
    down: Floats = (height[2:, 1:-1] - height[:-2, 1:-1]) * np.float32(0.5)
    right: Floats = (height[1:-1, 2:] - height[1:-1, :-2]) * np.float32(0.5)
    return down, right
