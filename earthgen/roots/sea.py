"""Colours of water that the Earth's root and every planet share.

Open water varies slowly: clear blue in the subtropical gyres, greener in temperate seas, greyer near the poles,
and a little lighter along coasts and over shallow ground. There is no sea floor in it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]

# |latitude| in degrees, then the colour of the open ocean there.
_DEEP = np.array(
    [(0, 17, 46, 78), (22, 15, 42, 76), (45, 19, 47, 75), (62, 24, 52, 75), (90, 29, 56, 75)],
    dtype=np.float64,
)
_COAST_TROPICAL = np.array((30, 84, 104), dtype=np.float32)
_COAST_POLAR = np.array((42, 74, 84), dtype=np.float32)
_DRIFT = np.array((0.6, 1.0, 0.8), dtype=np.float32)
"""Red, green and blue of one unit of drift: plankton makes water greener more than redder."""


def row_colours(latitude: npt.NDArray[np.float64]) -> tuple[Plane, Plane]:
    """Colours of open and of coastal water.

    Args:
        latitude: (n,) degrees.

    Returns:
        Two arrays (n, 3), 0 .. 255.
    """
    latitude = np.abs(latitude)
    # Cosine steps between the knots, so that no line shows where two latitude bands meet.
    index = np.clip(np.searchsorted(_DEEP[:, 0], latitude, side="right") - 1, 0, len(_DEEP) - 2)
    part = (latitude - _DEEP[index, 0]) / (_DEEP[index + 1, 0] - _DEEP[index, 0])
    part = (0.5 - 0.5 * np.cos(np.pi * part))[:, None]
    deep = _DEEP[index, 1:] * (1 - part) + _DEEP[index + 1, 1:] * part
    polar = np.clip((latitude - 20) / 35, 0, 1)[:, None]
    coast = _COAST_TROPICAL * (1 - polar) + _COAST_POLAR * polar
    return deep.astype(np.float32), coast.astype(np.float32)


def colour(deep: Plane, coast: Plane, coastal: Plane, drift: Plane) -> Plane:
    """Colour of water.

    Args:
        deep: (n, 3) colour of open water in each row.
        coast: (n, 3) colour of coastal water in each row.
        coastal: (n, m) 0 .. 1, how coastal the water is.
        drift: (n, m) slow variation, about a unit.

    Returns:
        (n, m, 3), 0 .. 255.
    """
    weight = np.clip(coastal, 0, 0.6)[..., None]
    return np.asarray(deep[:, None] + weight * (coast - deep)[:, None] + drift[..., None] * _DRIFT)
