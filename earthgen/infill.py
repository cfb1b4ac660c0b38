"""Filling a hole in a picture from its surroundings, as smoothly as can be.

The membrane is the solution of Laplace's equation with the surroundings as its border (Pérez et al. 2003, "Poisson
image editing", section 2, with a guidance field of zero), found coarse to fine. A membrane is smoother than any
ground, so it gets the surroundings' own roughness, which tells the cascade what kind of detail belongs there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float64]

_SWEEPS = 24
"""Jacobi sweeps at each size of the picture."""


def fill_hole(pixels: Pixels, hole: Mask, noise: npt.NDArray[np.float32]) -> Pixels:
    """Fill a hole.

    Args:
        pixels: uint8 (h, w, 3); what lies in the hole is not looked at.
        hole: (h, w), where to fill.
        noise: (h, w), standard normal, chooses the roughness.

    Returns:
        uint8 (h, w, 3), the same bytes outside the hole.
    """
    values = pixels.astype(np.float64)
    filled = _membrane(values, hole) + (_roughness(values, hole) * noise)[..., None]
    rounded = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
    return np.where(hole[..., None], rounded, pixels)


def _membrane(values: Field, hole: Mask) -> Field:
    """The membrane over a hole, (h, w, 3)."""
    if not hole.any():
        return values
    if hole.all():
        return np.broadcast_to(values.mean(axis=(0, 1)), values.shape).copy()
    filled = np.where(hole[..., None], _doubled(_membrane(*_halved(values, hole)), hole.shape), values)
    for _ in range(_SWEEPS):
        around = np.pad(filled, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]) / 4
        filled = np.where(hole[..., None], mean, filled)
    return filled


def _halved(values: Field, hole: Mask) -> tuple[Field, Mask]:
    """Means of what is known in blocks of 2x2, and the blocks in which nothing is."""
    height, width = (side + side % 2 for side in hole.shape)
    known = np.zeros((height, width, 1))
    known[: hole.shape[0], : hole.shape[1], 0] = ~hole
    padded = np.zeros((height, width, 3))
    padded[: hole.shape[0], : hole.shape[1]] = values
    total = (padded * known).reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3))
    count = known.reshape(height // 2, 2, width // 2, 2, 1).sum(axis=(1, 3))
    return total / np.maximum(count, 1.0), count[..., 0] == 0


def _doubled(values: Field, shape: tuple[int, ...]) -> Field:
    return values.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]


def _roughness(values: Field, hole: Mask) -> float:
    """Root mean square of the lightness of the surroundings minus its own 3x3 mean, in grey levels."""
    if min(hole.shape) < 3:
        return 0.0
    light = np.lib.stride_tricks.sliding_window_view(values.mean(axis=-1), (3, 3))
    usable = ~np.lib.stride_tricks.sliding_window_view(hole, (3, 3)).any(axis=(2, 3))
    if not usable.any():
        return 0.0
    sharp = light[..., 1, 1] - light.mean(axis=(2, 3))
    return float(np.sqrt(np.square(sharp[usable]).mean()))
