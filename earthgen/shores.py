"""Shores where parents have water beside land: a line in place of a gradient.

The network has never seen a shore from near by, and what it makes of one dissolves at each level. So each level of the
cascade divides the blocks of its mixed parents along the line at which the up-sampled share of land is a half, made
ragged by noise by address. A block keeps its mean: what that leaves over is a shallow, or a beach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from earthgen.detail import join, smooth_detail
from earthgen.drawn import AROUND, SHOWN, blocks_of
from earthgen.parcels import Floats, address_key, smooth_step
from earthgen.pyramid import SCALE, Box
from earthgen.scenery.fractal import Sheet, fractal, stream

_NEAR = SHOWN - AROUND + 1
"""Parents along the side of the square in which the colours of water, and then of land, are looked for."""
_BLUE = 6.0, 20.0
"""Grey levels by which ground is bluer than red and green where it begins to be, and is, water."""
_SOME = 0.04
"""Share of the square that has to be water for a shore."""
_WHOLE = 0.03
"""Share of land or water of a parent below which it is all of the other."""
_APART = 18.0, 36.0
"""Grey levels between the colours of water and of land where a shore begins to be drawn, and is."""
_LINE = 0.4, 0.6
"""Share of land, up-sampled and ragged, at which a child begins to be, and is, land."""
_RAGGED = 0.16
"""Standard deviation of the noise, in shares of water."""


def shore(seed: int, box: Box, parents: npt.NDArray[np.uint8]) -> Floats | None:
    """What pixels beside a shore add to their parents.

    Args:
        seed: the world's.
        box: the pixels, whole blocks of 4x4, of a cascade level.
        parents: uint8 (h / 4 + 2 * SHOWN, w / 4 + 2 * SHOWN, 3), those of the box and around it.

    Returns:
        float32 (h, w, 3) in units of [-1, 1] pixels, of mean 0 in each 4x4 block; None where there is no shore.
    """
    colours = parents.astype(np.float32)
    wet = smooth_step(colours[..., 2] - colours[..., :2].max(axis=-1) * 0.6 - colours[..., 0] * 0.4, *_BLUE)
    if not wet.any() or wet.all():
        return None
    water, amount = _mean(colours, wet)
    # Of what is not water, what is farthest from it counts most: the rest is mixed.
    far = np.square(colours - water).sum(axis=-1)
    land, _ = _mean(colours, np.square(far) * (1 - wet) + 1e-6)
    difference = land - water
    apart = np.sqrt(np.square(difference).sum(axis=-1))
    drawn = smooth_step(apart, *_APART) * smooth_step(amount, _SOME, 2 * _SOME)
    # How much of each parent is land: where its colour lies between the two.
    share = ((colours - water) * difference).sum(axis=-1) / np.maximum(np.square(apart), 1.0)
    edge = slice(SHOWN - AROUND, AROUND - SHOWN)
    share, drawn, difference = share[edge, edge].clip(0, 1), drawn[edge, edge], difference[edge, edge]
    inner = slice(AROUND, -AROUND)
    mixed = (share > _WHOLE) & (share < 1 - _WHOLE) & (drawn > 0)
    if not mixed[inner, inner].any():
        return None
    planes = torch.from_numpy(np.repeat(share[None, None], 3, axis=1))
    smooth = join(planes, smooth_detail(planes))[0, 0].numpy()
    around = slice(AROUND * SCALE, -AROUND * SCALE)
    smooth = smooth[around, around]
    ragged = fractal(stream(address_key(seed), 210 + box.zoom), Sheet.of(box, box.zoom), 16.0, 0.7, 4.0)
    lines = smooth_step(smooth + _RAGGED * ragged * (4 * smooth * (1 - smooth)).clip(0, 1), *_LINE)
    weight = drawn[inner, inner, None] * difference[inner, inner] / 127.5
    # The cascade adds the smooth part by itself.
    part = blocks_of(lines - smooth)
    part = part - part.mean(axis=(1, 3), keepdims=True)
    part = np.where(mixed[inner, inner][:, None, :, None], part, 0)
    detail: Floats = (part[..., None] * weight[:, None, :, None]).reshape(box.height, box.width, 3).astype(np.float32)
    return detail


def _mean(colours: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Weighted means (h, w, 3) of the squares around parents, and the means of their weights."""
    # The filter keeps running sums, whose rounding would depend on where a row begins.
    exact = weight.astype(np.float64)
    total = ndimage.uniform_filter(exact, _NEAR, mode="nearest")
    means = ndimage.uniform_filter(colours * exact[..., None], (_NEAR, _NEAR, 1), mode="nearest")
    return (means / np.maximum(total, 1e-9)[..., None]).astype(np.float32), total.astype(np.float32)
