"""Images of any size through a network that wants tiles.

Tiles overlap and are blended with weights that fall linearly to the tile's edge. A network that normalises over its
whole tile (CDMamba's group norm) or scans it (its state) still sees each tile alone: overlap hides that, it does
not undo it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from earthgen.errors import InvalidRequestError


@torch.inference_mode()
def tiled(
    run: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    *,
    tile: int = 256,
    overlap: int = 64,
    multiple: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Run a network over every tile of a pair and blend what comes out.

    Args:
        run: from (1, t, c, th, tw) to (1, k, th, tw).
        images: (t, c, h, w).
        tile: pixels along the side of a tile; a smaller image is one tile of its own size.
        overlap: pixels that neighbouring tiles share.
        multiple: heights and widths that the network takes are multiples of this; images are padded with their edge.
        progress: called with (tiles done, tiles in all).

    Returns:
        (k, h, w), on the device of `images`.

    Raises:
        InvalidRequestError: the tile is no multiple of `multiple`, or the overlap leaves it no room.
    """
    if tile < multiple or tile % multiple:
        raise InvalidRequestError(f"tile is {tile}; a positive multiple of {multiple} is needed")
    if not 0 <= overlap < tile:
        raise InvalidRequestError(f"overlap is {overlap}; 0 to {tile - 1} is allowed for tiles of {tile}")
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    full_height, full_width = padded.shape[-2:]
    tile_height, tile_width = min(tile, full_height), min(tile, full_width)
    corners = [
        (top, left)
        for top in _starts(full_height, tile_height, tile - overlap)
        for left in _starts(full_width, tile_width, tile - overlap)
    ]
    weight = _ramp(tile_height, overlap)[:, None] * _ramp(tile_width, overlap)[None, :]
    weight = weight.to(images)

    total: torch.Tensor | None = None
    weights = torch.zeros(full_height, full_width, device=images.device)
    for done, (top, left) in enumerate(corners):
        part = (..., slice(top, top + tile_height), slice(left, left + tile_width))
        out = run(padded[part][None])[0]
        if total is None:
            total = torch.zeros(len(out), full_height, full_width, device=images.device)
        total[part] += out.float() * weight
        weights[part] += weight
        if progress is not None:
            progress(done + 1, len(corners))
    assert total is not None  # An image has at least one pixel, hence one tile.
    return (total / weights)[..., :height, :width]


def _starts(length: int, tile: int, stride: int) -> list[int]:
    """Where tiles begin; the last ends where the image does."""
    return sorted({*range(0, length - tile, stride), length - tile})


def _ramp(length: int, overlap: int) -> torch.Tensor:
    """(length,), 1 in the middle, falling towards both ends over `overlap` pixels and never 0."""
    from_edge = torch.arange(length, dtype=torch.float32) + 1
    nearest = torch.minimum(from_edge, from_edge.flip(0))
    return (nearest / (overlap + 1)).clamp(max=1.0)
