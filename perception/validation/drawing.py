"""Pictures of reports: masks over pixels, values as colours, pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Colour = tuple[int, int, int]

ASKED: Colour = (255, 220, 0)
FOUND: Colour = (230, 0, 200)
MISSED: Colour = (255, 60, 40)
MOST_SIDE = 640
"""Pixels along the longer side of a picture in a report."""
_GAP = 6
_SCALE: tuple[Colour, ...] = ((32, 128, 64), (250, 220, 60), (200, 30, 30), (90, 0, 70))
"""Colours of 0, 1, 2 and 3."""


def outlined(pixels: Pixels, mask: Mask, colour: Colour, width: int = 1) -> Pixels:
    """Pixels (h, w, 3) with the inner edge of a mask (h, w) drawn `width` pixels wide."""
    inner = mask.copy()
    for _ in range(width):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    out = pixels.copy()
    out[mask & ~inner] = colour
    return out


def tinted(pixels: Pixels, mask: Mask, colour: Colour, share: float = 0.45) -> Pixels:
    """Pixels with a mask mixed in."""
    out = pixels.astype(np.float32)
    out[mask] = (1 - share) * out[mask] + share * np.array(colour, dtype=np.float32)
    return np.rint(out).astype(np.uint8)


def heat(pixels: Pixels, places: Sequence[tuple[int, int, int]], values: Sequence[float]) -> Pixels:
    """Squares (top, left, side) framed and tinted by values: 0 is green, 1 yellow, 2 red, 3 and more purple."""
    out = pixels.copy()
    for (top, left, side), value in zip(places, values, strict=True):
        part = (slice(top, top + side), slice(left, left + side))
        colour = scale_colour(value)
        whole = np.ones(out[part].shape[:2], dtype=np.bool_)
        out[part] = outlined(tinted(out[part], whole, colour, 0.25), whole, colour, 2)
    return out


def scale_colour(value: float) -> Colour:
    """The colour of a value of 0 to 3."""
    place = min(max(value, 0.0), len(_SCALE) - 1.001)
    low = int(place)
    share = place - low
    red, green, blue = (
        round((1 - share) * one + share * other) for one, other in zip(_SCALE[low], _SCALE[low + 1], strict=True)
    )
    return red, green, blue


def beside(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures of one height from left to right, white between them."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=1)


def fitted(pixels: Pixels, most: int = MOST_SIDE) -> Pixels:
    """A picture whose longer side has no more than `most` pixels."""
    height, width = pixels.shape[:2]
    if max(height, width) <= most:
        return pixels
    shrink = most / max(height, width)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
