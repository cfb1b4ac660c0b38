"""Squares of a picture that lie inside a mask, and others that lie outside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

SIDES = (128, 64, 32)
"""Sides of squares in pixels, in the order of preference; the tower has seen crops from 64 pixels on."""
WANTED = 4
"""Squares inside from which on larger ones are preferred to more of them."""
MOST = 64
"""Squares of one kind that are looked at, spread over the mask."""
_INSIDE = 0.9
"""Part of a square that a mask has to cover."""


def inside(mask: Mask, side: int) -> list[tuple[int, int]]:
    """Top and left of the squares of a grid that a mask (h, w) covers, at most MOST of them, evenly chosen."""
    height, width = (size // side for size in mask.shape)
    if not height or not width:
        return []
    whole = mask[: height * side, : width * side].reshape(height, side, width, side)
    covered = np.argwhere(whole.mean(axis=(1, 3)) >= _INSIDE) * side
    chosen = np.unique(np.linspace(0, len(covered) - 1, min(len(covered), MOST)).astype(int))
    return [(int(top), int(left)) for top, left in covered[chosen]]


def best_side(mask: Mask) -> int | None:
    """The side of which enough squares lie inside a mask, else the smallest of which any does; None if none does."""
    counts = {side: len(inside(mask, side)) for side in SIDES}
    for side in SIDES:
        if counts[side] >= WANTED:
            return side
    return next((side for side in reversed(SIDES) if counts[side]), None)


def cut(pixels: Pixels, places: list[tuple[int, int]], side: int) -> list[Pixels]:
    """The squares (side, side, 3) of a picture (h, w, 3)."""
    return [pixels[top : top + side, left : left + side] for top, left in places]
