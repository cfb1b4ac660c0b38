"""The detail of an image: what a x4 cascade step adds to its parent, as an orthonormal transform.

Cut an image into blocks of 4x4 children. An orthonormal 4x4 discrete cosine transform (DCT-II, Ahmed
et al. 1974) turns a block into its parent pixel (times 4) and 15 detail coefficients; an orthonormal
rotation of the colours separates lightness from two chroma axes. The cascade generates the 45
coefficients on top of those that a bicubic up-sampling of the parent has already, and `quantise`
rounds so that the 16 stored bytes of a block sum to exactly 16 times the parent's byte. So children
average to their parent by construction, at every level.

Images are (b, 3, h, w) in [-1, 1], h and w counting pixels of the level they are on.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange

from earthgen.pyramid import SCALE

COEFFICIENTS = SCALE * SCALE - 1
"""Detail coefficients a colour axis."""
_ROOM = 0.8
"""Share of a parent's distance to black and to white that a child may use."""
DETAIL_CHANNELS = 3 * COEFFICIENTS
"""Channels of a detail tensor: colour axis major (lightness, red-blue, green-magenta), then DCT order."""


# The constants below are made once, by whoever comes first: outside inference mode, so that training can use them too.
@cache
@torch.inference_mode(False)
def _colour_axes() -> torch.Tensor:
    """Orthonormal rows: lightness, red minus blue, magenta minus green; shape (3, 3)."""
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    unit: torch.Tensor = axes / axes.norm(dim=1, keepdim=True)
    return unit


@cache
@torch.inference_mode(False)
def _block_basis() -> torch.Tensor:
    """Orthonormal 2-D DCT-II basis images; shape (16, 4, 4), the constant one first."""
    n = torch.arange(SCALE, dtype=torch.float64)
    basis = torch.cos(math.pi * (n[None, :] + 0.5) * n[:, None] / SCALE) * math.sqrt(2 / SCALE)
    basis[0] /= math.sqrt(2)
    return torch.einsum("ui,vj->uvij", basis, basis).reshape(SCALE * SCALE, SCALE, SCALE).float()


@cache
@torch.inference_mode(False)
def _smooth_kernel() -> torch.Tensor:
    """Convolution kernel from a parent to the detail of its bicubic up-sampling; shape (15, 1, 5, 5).

    Bicubic interpolation is linear and reaches two parent pixels, so up-sampling the 25 unit impulses
    of a 5x5 neighbourhood and transforming the centre block gives the kernel.
    """
    impulses = torch.eye(25).reshape(25, 1, 5, 5)
    # The border of a 5x5 image is replicated; embed it so that replication never reaches the centre block.
    up = F.interpolate(F.pad(impulses, (2, 2, 2, 2)), scale_factor=SCALE, mode="bicubic", align_corners=False)
    block = up[:, 0, 4 * SCALE : 5 * SCALE, 4 * SCALE : 5 * SCALE]
    return torch.einsum("nij,kij->kn", block, _block_basis()[1:]).reshape(COEFFICIENTS, 1, 5, 5)


def split(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split an image into its parent and its detail.

    Args:
        image: (b, 3, 4h, 4w).

    Returns:
        parent (b, 3, h, w), the mean of each block, and detail (b, 45, h, w).
    """
    axes, basis = _colour_axes().to(image), _block_basis().to(image)
    blocks = rearrange(image, "b c (h i) (w j) -> b c h w i j", i=SCALE, j=SCALE)
    coefficients = torch.einsum("bchwij,kij,ac->bakhw", blocks, basis, axes)
    parent = torch.einsum("bahw,ac->bchw", coefficients[:, :, 0], axes) / SCALE
    return parent, rearrange(coefficients[:, :, 1:], "b a k h w -> b (a k) h w")


def join(parent: torch.Tensor, detail: torch.Tensor) -> torch.Tensor:
    """The inverse of `split`: an image (b, 3, 4h, 4w) from parent (b, 3, h, w) and detail (b, 45, h, w)."""
    axes, basis = _colour_axes().to(detail), _block_basis()[1:].to(detail)
    coefficients = rearrange(detail, "b (a k) h w -> b a k h w", a=3)
    deviation = torch.einsum("bakhw,kij,ac->bchiwj", coefficients, basis, axes)
    return rearrange(parent[:, :, :, None, :, None] + deviation, "b c h i w j -> b c (h i) (w j)")


def to_lightness_chroma(image: torch.Tensor) -> torch.Tensor:
    """Rotate the colours of (b, 3, h, w): lightness, red minus blue, magenta minus green, each orthonormal."""
    return torch.einsum("bchw,ac->bahw", image, _colour_axes().to(image))


def from_lightness_chroma(colours: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_lightness_chroma`."""
    return torch.einsum("bahw,ac->bchw", colours, _colour_axes().to(colours))


def smooth_detail(parent: torch.Tensor) -> torch.Tensor:
    """The detail (b, 45, h, w) of the bicubic up-sampling of a parent (b, 3, h, w); edges replicate."""
    padded = F.pad(to_lightness_chroma(parent), (2, 2, 2, 2), mode="replicate")
    kernel = _smooth_kernel().to(parent).repeat(3, 1, 1, 1)
    return F.conv2d(padded, kernel, groups=3)


def local_contrast(parent: torch.Tensor) -> torch.Tensor:
    """How busy a parent is around each position.

    Args:
        parent: (b, 3, h, w) in [-1, 1].

    Returns:
        (b, 1, h, w): natural logarithm of the root mean square, over 5x5 positions and the colours, of
        the parent minus its 3x3 binomial blur; never below that of a quarter of a grey level.
    """
    kernel = torch.tensor([1.0, 2.0, 1.0]).to(parent) / 4
    blur = (kernel[:, None] * kernel[None, :])[None, None].repeat(3, 1, 1, 1)
    sharp = parent - F.conv2d(F.pad(parent, (1, 1, 1, 1), mode="replicate"), blur, groups=3)
    energy = F.pad(sharp.square().mean(dim=1, keepdim=True), (2, 2, 2, 2), mode="replicate")
    return 0.5 * (F.avg_pool2d(energy, 5, stride=1) + (0.25 / 127.5) ** 2).log()


def to_unit(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (h, w, 3) or (b, h, w, 3) to a float tensor (b, 3, h, w) in [-1, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).float()
    tensor = tensor if tensor.ndim == 4 else tensor[None]
    return rearrange(tensor, "b h w c -> b c h w") / 127.5 - 1.0


def quantise(image: torch.Tensor, parent: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Round an image to bytes whose 4x4 blocks average to exactly the parent's bytes.

    Detail that would go too near the ends of 0..255 is scaled down within its block, which keeps the
    mean: a saturated parent could have no detail at all on any level below. Then every value is rounded
    down, and the largest remainders (ties: first in reading order) are rounded up until the block's sum is
    16 times the parent.

    Args:
        image: (1, 3, 4h, 4w) in [-1, 1], with block means equal to the parent up to float error.
        parent: uint8 (h, w, 3).

    Returns:
        uint8 (4h, 4w, 3).
    """
    height, width, _ = parent.shape
    values = (image[0].double().numpy() + 1.0) * 127.5
    blocks = rearrange(values, "c (h i) (w j) -> h w c (i j)", i=SCALE, j=SCALE)
    mean = parent.astype(np.float64)[..., None]
    deviation = blocks - blocks.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        room_below = np.nan_to_num(_ROOM * mean / -deviation.min(axis=-1, keepdims=True), nan=1.0, posinf=1.0)
        room_above = np.nan_to_num(_ROOM * (255.0 - mean) / deviation.max(axis=-1, keepdims=True), nan=1.0, posinf=1.0)
    blocks = mean + deviation * np.minimum(1.0, np.minimum(room_below, room_above))
    floors = np.clip(np.floor(blocks), 0, 255)
    missing = (SCALE * SCALE * mean - floors.sum(axis=-1, keepdims=True)).astype(np.int64)
    rounded = (floors + _smallest(floors - blocks, missing)).astype(np.uint8)
    return rearrange(rounded, "h w c (i j) -> (h i) (w j) c", i=SCALE, j=SCALE, h=height, w=width)


def _smallest(values: npt.NDArray[np.float64], count: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Marks the `count` (..., 1) smallest of each row of values (..., n), the first in reading order where equal.

    What a stable sort of positions gives, from a sort of values, which is several times faster.
    """
    last = np.take_along_axis(np.sort(values, axis=-1), np.maximum(count, 1) - 1, axis=-1)
    below, ties = values < last, values == last
    room = count - below.sum(axis=-1, keepdims=True)
    crowded = (ties.sum(axis=-1, keepdims=True) > room)[..., 0]
    kept = ties[crowded]
    ties[crowded] = kept & (np.cumsum(kept, axis=-1) <= room[crowded])
    marked: npt.NDArray[np.bool_] = below | ties
    return marked
