"""A pool of the network's own children, which become the parents of the next level.

A chain from zoom 4 to zoom 18 has seven steps, each on the output of the one before; each step must know what
the others really make (EarthGen, arXiv 2409.01491, trains on generated parents for the same reason). To run
whole chains in every training step would cost seven networks' work for one lesson. So children are kept,
band by band, and drawn later as parents, whose children are kept in turn: the chains grow as deep as the
product's, for the price of one level a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from earthgen.unet import ALIGNMENT


@dataclass(frozen=True, slots=True)
class Parents:
    """Generated parents: pixels (n, 3, side, side) in [-1, 1] and log2 of the children's GSD (n,)."""

    pixels: torch.Tensor
    log2_gsd: torch.Tensor


class ChildPool:
    """Keeps the last children of each band as bytes.

    Args:
        bands: how many bands there are; children of band 0 are the finest and have no children.
        capacity: pictures kept a band; a new one takes the place of a random old one.
        side: of the pictures, in pixels.
    """

    def __init__(self, bands: int, capacity: int, side: int) -> None:
        self._pixels = torch.zeros(bands, capacity, 3, side, side, dtype=torch.uint8)
        self._log2_gsd = torch.zeros(bands, capacity)
        self._filled = [0] * bands

    def bands(self, at_least: int) -> list[int]:
        """The bands whose parents can be drawn: those with so many pictures in the band above."""
        return [band - 1 for band, count in enumerate(self._filled) if band and count >= at_least]

    def add(
        self,
        bands: list[int],
        children: torch.Tensor,
        log2_gsd: torch.Tensor,
        deep: list[bool],
        random: torch.Generator,
    ) -> None:
        """Keep children (n, 3, side, side) in [-1, 1] of the bands given, one each; band 0 is not kept.

        Those that are not `deep`, whose parents are real, are kept only in the coarsest band and where a band is not
        full yet: a product's chain has no real parent below its root, and the pool's should not have one either.
        """
        pixels = ((children.detach().clamp(-1, 1) + 1) * 127.5).round().byte()
        capacity = self._pixels.shape[1]
        for index, band in enumerate(bands):
            full = self._filled[band] == capacity
            if band == 0 or (full and not deep[index] and band < len(self._filled) - 1):
                continue
            if not full:
                place = self._filled[band]
                self._filled[band] += 1
            else:
                place = int(torch.randint(capacity, (), generator=random))
            self._pixels[band, place] = pixels[index]
            self._log2_gsd[band, place] = log2_gsd[index]

    def draw(self, bands: list[int], side: int, random: torch.Generator) -> Parents:
        """Parents for children of the bands given: random aligned crops of kept pictures, one a band."""
        steps = (self._pixels.shape[-1] - side) // ALIGNMENT + 1
        pixels, log2_gsd = [], []
        for band in bands:
            place = int(torch.randint(self._filled[band + 1], (), generator=random))
            row, column = (int(x) * ALIGNMENT for x in torch.randint(steps, (2,), generator=random))
            pixels.append(self._pixels[band + 1, place, :, row : row + side, column : column + side])
            log2_gsd.append(self._log2_gsd[band + 1, place] - 2)
        return Parents(torch.stack(pixels).float() / 127.5 - 1, torch.stack(log2_gsd))

    def state_dict(self) -> dict[str, Any]:
        """Everything in it, for a checkpoint."""
        return {
            "pixels": self._pixels,
            "log2_gsd": self._log2_gsd,
            "filled": self._filled,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self._pixels, self._log2_gsd = state["pixels"], state["log2_gsd"]
        self._filled = list(state["filled"])
