"""Crowns of trees by address: domes around the points of a jittered lattice, lit from one side.

As `earthgen.parcels`, a function of the seed and the place, so that any crop at any zoom shows the same trees.
"""

from __future__ import annotations

import numpy as np

from earthgen.land_kernels import TREES_AROUND, fill_crowns
from earthgen.parcels import Floats, address_key, where_of
from earthgen.pyramid import Box, world_size

COARSEST = 0.45
"""Pixels of more than this share of the distance from tree to tree show none."""


def crowns(seed: int, box: Box) -> Floats | None:
    """How light trees make each pixel, float32 (h, w) about in [-1, 1]; None where pixels are too coarse for them."""
    pixel = TREES_AROUND / world_size(box.zoom)
    if pixel > COARSEST:
        return None
    light: Floats = np.empty((box.height, box.width), dtype=np.float32)
    fill_crowns(address_key(seed)[0], where_of(box), pixel, light)
    return light
