"""Crowns of trees by address: domes around the points of a jittered lattice, lit from one side.

As `earthgen.parcels`, a function of the seed and the place, so that any crop at any zoom shows the same trees.
"""

from __future__ import annotations

import numpy as np

from earthgen.parcels import Floats, address_key, mercator_axes, mixed, share_of
from earthgen.pyramid import EQUATOR_GSD, TILE_SIZE, Box

_AROUND = 1 << 22
"""Trees around the world, 9.6 m apart at the equator, and nearer where Mercator's metres are shorter on the ground."""
_CELL = EQUATOR_GSD * TILE_SIZE / _AROUND
COARSEST = 0.45
"""Pixels of more than this share of the distance from tree to tree show none."""


def crowns(seed: int, box: Box) -> Floats | None:
    """How light trees make each pixel, float32 (h, w) about in [-1, 1]; None where pixels are too coarse for them."""
    y, x, pixel = mercator_axes(box)
    if pixel > COARSEST * _CELL:
        return None
    key = address_key(seed)
    y, x = y / _CELL, x / _CELL
    rows, columns = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    # The lattice's own points first: each is near to many pixels.
    lattice_rows = np.arange(rows[0] - 1, rows[-1] + 2)
    lattice_columns = np.arange(columns[0] - 1, columns[-1] + 2)
    trees = mixed(key, lattice_rows[:, None], lattice_columns[None, :] % _AROUND)
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
