"""Colours laid over each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.floating[Any]]
"""Of float32 or, for a while, float64: (h, w), or (h, w, 3) of colours with light in [0, 1]."""

CERTAIN = 0.5
"""Share of a pixel that something has to cover to be what the pixel shows."""


def rgb(red: float, green: float, blue: float) -> Plane:
    """A colour, or the differences of one, (3,)."""
    return np.array([red, green, blue], dtype=np.float32)


def over(below: Plane, share: Plane, colour: Plane) -> Plane:
    """A colour laid over others, where it covers them; where it covers all, nothing is left of those."""
    part = share[..., None]
    painted: Plane = below * (1 - part) + part * colour
    return painted
