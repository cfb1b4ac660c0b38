"""Approximate elevation of the Earth, read back from the colours of NOAA's ETOPO1 picture.

The picture is a colour table of height times a shading of the slopes. So a pixel's height is the one whose
colour, under some shading, comes nearest; ice sheets are drawn in white and get a dome in its place.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.roots.sources import Floats

# Height in metres -> colour of the table. Land heights are set so that plateaus of known height (Kalahari, Deccan,
# High Plains, Colorado, Yunnan, Altiplano, Tibet) come out right.
COLOUR_TABLE: tuple[tuple[float, tuple[int, int, int]], ...] = (
    (-8000, (0, 14, 203)),
    (-7000, (0, 30, 216)),
    (-6000, (12, 68, 231)),
    (-5500, (26, 102, 240)),
    (-5000, (19, 117, 244)),
    (-4500, (14, 133, 249)),
    (-4000, (21, 158, 252)),
    (-3500, (30, 178, 255)),
    (-3000, (43, 186, 255)),
    (-2000, (65, 200, 255)),
    (-1500, (79, 210, 255)),
    (-1000, (94, 223, 255)),
    (-500, (138, 227, 255)),
    (-1, (188, 230, 255)),
    (1, (51, 102, 0)),
    (40, (51, 153, 51)),
    (80, (51, 204, 102)),
    (150, (187, 228, 146)),
    (370, (255, 220, 185)),
    (700, (243, 202, 137)),
    (1050, (230, 184, 88)),
    (1400, (217, 166, 39)),
    (1800, (168, 154, 31)),
    (2150, (164, 144, 25)),
    (2600, (162, 134, 19)),
    (3300, (159, 123, 13)),
    (4000, (156, 113, 7)),
    (4500, (153, 102, 0)),
    (5000, (162, 89, 89)),
    (5400, (178, 118, 118)),
    (6000, (183, 147, 147)),
)
ICE_DOME_METRES = 3200.0


def elevation(relief: Floats, land: npt.NDArray[np.bool_]) -> Floats:
    """Height in metres of each pixel.

    Args:
        relief: (h, w, 3) the ETOPO1 picture.
        land: (h, w) where Blue Marble shows land; heights there are kept above 0, elsewhere below.

    Returns:
        float32 (h, w).
    """
    heights = np.array([height for height, _ in COLOUR_TABLE], dtype=np.float32)
    colours = np.array([colour for _, colour in COLOUR_TABLE], dtype=np.float32)
    fine = np.concatenate([np.linspace(a, b, 9)[:-1] for a, b in pairwise(heights)])
    table = np.stack([np.interp(fine, heights, colours[:, k]) for k in range(3)], -1).astype(np.float32)
    # One look-up on a 64^3 grid of colours in place of 15 million searches.
    axis = np.arange(2, 256, 4, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    best = np.zeros((2, len(grid)), dtype=np.float32)
    for index, side in enumerate((fine < 0, fine > 0)):
        candidates = table[side]
        shade = np.clip(grid @ candidates.T / (candidates**2).sum(1), 0.55, 1.05)
        error = (grid**2).sum(1)[:, None] - 2 * shade * (grid @ candidates.T) + shade**2 * (candidates**2).sum(1)
        error += 150 * (shade - 0.9) ** 2
        best[index] = fine[side][error.argmin(1)]
    cell = np.clip(relief / 4, 0, 63).astype(int)
    look = best[:, (cell[..., 0] * 64 + cell[..., 1]) * 64 + cell[..., 2]]
    is_sea = relief[..., 2] > relief[..., 0] + 12
    height = np.where(land, np.where(is_sea, 1.0, look[1]), np.where(is_sea, look[0], -1.0)).astype(np.float32)

    spread = relief.max(-1) - relief.min(-1)
    latitude = 90 - (np.arange(relief.shape[0]) + 0.5) * 180 / relief.shape[0]
    ice = land & (ndimage.uniform_filter(spread, 5) < 16) & (np.abs(latitude) > 58)[:, None]
    ice = ndimage.binary_opening(ice, np.ones((3, 3)))
    # An ice sheet rises with the square root of the distance to its edge.
    kilometres = ndimage.distance_transform_edt(ice) * 7.4 * np.sqrt(np.cos(np.radians(latitude)))[:, None]
    dome = ICE_DOME_METRES * np.sqrt(np.clip(kilometres / 700, 0, 1))
    height = np.where(ice, np.maximum(dome, 50), height)
    return np.asarray(ndimage.median_filter(height, 3, mode="wrap"), dtype=np.float32)
