"""What is drawn on a level of the cascade besides the network's detail: the interface between the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from earthgen.detail import join, smooth_detail
from earthgen.pyramid import SCALE, Box

Floats = npt.NDArray[np.float32]

SHOWN = 6
"""Parents at each side of a window's own that a drawing is shown."""
AROUND = 2
"""Those of them whose blocks decide about a block's own: as far as bicubic up-sampling looks."""
_SHARP = 0.08
"""Root mean square of a block's drawn detail, in units of [-1, 1], at which half of the network's is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What is drawn on a window.

    Attributes:
        detail: float32 (3, h, w) in units of [-1, 1] pixels, of mean 0 in each 4x4 block.
        texture: float32 (h / 4, w / 4), share of what the network adds to smooth detail that each block keeps; None
            keeps all.
    """

    detail: Floats
    texture: Floats | None = None


Draw = Callable[[Box, npt.NDArray[np.uint8]], Drawn | None]
"""From a window's box and its parents, with SHOWN more at each side, to what is drawn, if anything."""


def blocks_of(plane: Floats) -> Floats:
    """(h, w, ...) as (h / 4, 4, w / 4, 4, ...)."""
    height, width, *rest = plane.shape
    return plane.reshape(height // SCALE, SCALE, width // SCALE, SCALE, *rest)


def block_means(plane: Floats) -> Floats:
    """Means (h / 4, w / 4, ...) of the blocks of (h, w, ...)."""
    means: Floats = blocks_of(plane).mean(axis=(1, 3))
    return means


def beyond_smooth(light: Floats) -> Floats:
    """What pixels have beyond the bicubic up-sampling of the means of their blocks.

    The cascade makes what its parents have smooth by itself, and so of whatever levels above have drawn.

    Args:
        light: (h, w, 3), with AROUND blocks at each side of those that are asked for.

    Returns:
        (h - 16, w - 16, 3), of mean 0 in each block.
    """
    means = torch.from_numpy(np.moveaxis(block_means(light), -1, 0)[None])
    smooth = np.moveaxis(join(means, smooth_detail(means))[0].numpy(), 0, -1)
    edge = slice(AROUND * SCALE, -AROUND * SCALE)
    return without_means((light - smooth)[edge, edge])


def without_means(plane: Floats) -> Floats:
    """(h, w, ...) less the means of its blocks."""
    blocks = blocks_of(plane)
    rest: Floats = (blocks - blocks.mean(axis=(1, 3), keepdims=True)).reshape(plane.shape)
    return rest


def texture_beside(detail: Floats) -> Floats:
    """Share of the network's texture that blocks keep beside what is drawn on them, (h / 4, w / 4).

    The network sharpens edges that it sees in its parents; where they are drawn as well, once is enough.

    Args:
        detail: that is drawn, (h, w, 3) in units of [-1, 1].
    """
    sharp = np.sqrt(np.square(blocks_of(detail)).mean(axis=(1, 3, 4)))
    kept: Floats = 1 / (1 + np.square(ndimage.uniform_filter(sharp, 3, mode="nearest") / _SHARP))
    return kept
