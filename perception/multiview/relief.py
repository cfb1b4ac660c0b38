"""Heights and chances by address: relief, tree crowns, and what a building is drawn from.

Nothing here is measured: a world is made of colours and has no elevation. The relief is smooth noise on lattices that
are fixed to the ground, so two scenes that share ground share its heights, and it is level where there is water.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import ndtr

from earthgen.noise import NoiseField
from earthgen.pyramid import Box

Heights = npt.NDArray[np.float32]

_OCTAVES = ((256, 3.0), (96, 1.0), (40, 0.3))
"""Distance of lattice points in pixels, and standard deviation in metres."""
_RELIEF, _CROWNS, _BUILDINGS = 201, 211, 212
"""Streams of noise that generation does not use."""
CROWN_PIXELS = 8
"""Distance of the lattice points of tree crowns, in pixels."""


def relief(box: Box, seed: int, water: npt.NDArray[np.bool_]) -> Heights:
    """Heights of the bare ground in metres, float32 (h, w), with 0 at the lowest.

    Args:
        box: the pixels.
        seed: of the world.
        water: bool (h, w), where the ground is level.
    """
    heights = sum(
        metres * _smooth_noise(box, spacing, seed, _RELIEF + number)
        for number, (spacing, metres) in enumerate(_OCTAVES)
    )
    assert isinstance(heights, np.ndarray)
    if water.any():
        # The banks slope towards one water level, a little below the lowest of what it covers.
        share = np.clip(2.5 * gaussian_filter(water.astype(np.float32), 5.0, mode="nearest"), 0, 1)
        share = np.maximum(share, water)
        heights = heights * (1 - share) + (heights[water].min() - 0.5) * share
    return np.asarray(heights - heights.min(), dtype=np.float32)


def crowns(box: Box, seed: int) -> Heights:
    """Heights of tree crowns above the ground in metres, float32 (h, w), as if trees stood everywhere: 3.5 to 11."""
    bumps = _smooth_noise(box, CROWN_PIXELS, seed, _CROWNS)
    return np.asarray(3.5 + 7.5 * ndtr(bumps), dtype=np.float32)


def chances(row: int, column: int, seed: int) -> tuple[float, float, float]:
    """Three numbers in 0..1 that belong to the pixel of a building's middle."""
    drawn = ndtr(NoiseField(seed, 18, _BUILDINGS).normal(row, column, 1, 1, 3)).ravel()
    return float(drawn[0]), float(drawn[1]), float(drawn[2])


def _smooth_noise(box: Box, spacing: int, seed: int, stream: int) -> npt.NDArray[np.float32]:
    """Noise of about unit deviation, float32 (h, w): cubic B-splines over a lattice that is fixed to the ground."""
    top, left = box.row // spacing - 2, box.column // spacing - 2
    bottom, right = (box.row + box.height) // spacing + 3, (box.column + box.width) // spacing + 3
    points = NoiseField(seed, box.zoom, stream).normal(top, left, bottom - top, right - left, 1)[0]
    rows = (np.arange(box.row, box.row + box.height) + 0.5) / spacing - top
    columns = (np.arange(box.column, box.column + box.width) + 0.5) / spacing - left
    grid = np.meshgrid(rows, columns, indexing="ij")
    # Without the prefilter that would make it pass through the points, the spline depends on four of them a side only,
    # so a scene's edge does not change its heights; it is smoother, which the factor makes up for.
    found: npt.NDArray[np.float32] = 2.0 * map_coordinates(points, grid, order=3, prefilter=False, mode="nearest")
    return found
