"""A pool of the network's own children, which become the parents of the next level, down from the product's root.

A chain from zoom 4 to zoom 18 has seven steps, each on the output of the one before; each step must know what
the others really make (EarthGen, arXiv 2409.01491, trains on generated parents for the same reason). To run
whole chains in every training step would cost seven networks' work for one lesson. So chains begin at the root
that ships, children are kept, band by band, and drawn later as parents, whose children are kept in turn: the
chains grow as deep as the product's, for the price of one level a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from earthgen.detail import to_unit
from earthgen.pyramid import ROOT_ZOOM, SCALE, Box, ground_sampling_distance, point_pixel, row_latitudes, world_size
from earthgen.roots import RootImage
from earthgen.unet import ALIGNMENT

_NORTHERNMOST = 72.0
"""Degrees of latitude beyond which chains do not begin."""
_WATER_BLUENESS = 38
"""Blue minus red, in grey levels, from which on a pixel is open water."""
_MOST_WATER = 0.5
"""Pictures with more of it are no parents: the packs hold too little sea for a discriminator to know it."""
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Parents:
    """Parents without true children: pixels (n, 3, side, side) in [-1, 1] and log2 of the children's GSD (n,)."""

    pixels: torch.Tensor
    log2_gsd: torch.Tensor


def water_share(pixels: npt.NDArray[np.uint8]) -> float:
    """Share of open water in uint8 (h, w, 3)."""
    return float((pixels[..., 2].astype(np.int16) - pixels[..., 0] > _WATER_BLUENESS).mean())


class RootCrops:
    """Crops of a root, anywhere on land or at a coast.

    Args:
        root: the root.
        child_zoom: the level that is made from the root.
    """

    def __init__(self, root: RootImage, child_zoom: int = ROOT_ZOOM + 2) -> None:
        self._root = root
        self._child_zoom = child_zoom
        (self._first, _), (self._last, _) = (point_pixel(0.0, sign * _NORTHERNMOST, ROOT_ZOOM) for sign in (1, -1))

    def draw(self, count: int, side: int, random: torch.Generator) -> Parents:
        """Random crops, each one of its eight symmetries."""
        pixels, log2_gsd = [], []
        for _ in range(count):
            for _ in range(_TRIES):
                row = int(torch.randint(self._first, self._last - side, (), generator=random))
                column = int(torch.randint(world_size(ROOT_ZOOM), (), generator=random))
                crop, finer = self._crop(row, column, side)
                if water_share(crop) < _MOST_WATER:
                    break
            turned = np.rot90(crop, int(torch.randint(4, (), generator=random)))
            if bool(torch.randint(2, (), generator=random)):
                turned = turned[:, ::-1]
            pixels.append(to_unit(turned))
            log2_gsd.append(finer)
        return Parents(torch.cat(pixels), torch.tensor(log2_gsd))

    def around(self, longitude: float, latitude: float, side: int) -> Parents:
        """The crop around a place."""
        row, column = point_pixel(longitude, latitude, ROOT_ZOOM)
        pixels, log2_gsd = self._crop(row - side // 2, column - side // 2, side)
        return Parents(to_unit(pixels), torch.tensor([log2_gsd]))

    def _crop(self, row: int, column: int, side: int) -> tuple[npt.NDArray[np.uint8], float]:
        pixels = self._root.pixels(Box(ROOT_ZOOM, row, column, side, side))
        latitude = float(row_latitudes(ROOT_ZOOM, row + side // 2, 1)[0])
        return pixels, float(np.log2(ground_sampling_distance(self._child_zoom, latitude)))


class ChildPool:
    """Keeps the last children of each band as bytes.

    Args:
        root: where chains begin: parents of the coarsest band.
        bands: how many bands there are; children of band 0 are the finest and have no children.
        capacity: pictures kept a band; a new one takes the place of a random old one.
        side: of the pictures, in pixels.
    """

    def __init__(self, root: RootCrops, bands: int, capacity: int, side: int) -> None:
        self._root = root
        self._pixels = torch.zeros(bands, capacity, 3, side, side, dtype=torch.uint8)
        self._log2_gsd = torch.zeros(bands, capacity)
        self._filled = [0] * bands

    def bands(self, at_least: int) -> list[int]:
        """The bands whose parents can be drawn: those with so many pictures in the band above, and the coarsest."""
        return [band - 1 for band, count in enumerate(self._filled) if band and count >= at_least] + [
            len(self._filled) - 1
        ]

    def add(self, bands: list[int], children: torch.Tensor, log2_gsd: torch.Tensor, random: torch.Generator) -> None:
        """Keep children (n, 3, side, side) in [-1, 1] of parents that were drawn here, n bands.

        Those of band 0 and those that are mostly water are not kept.
        """
        pixels = ((children.detach().clamp(-1, 1) + 1) * 127.5).round().byte()
        capacity = self._pixels.shape[1]
        for index, band in enumerate(bands):
            if band == 0 or water_share(pixels[index].permute(1, 2, 0).numpy()) > _MOST_WATER:
                continue
            if self._filled[band] < capacity:
                place = self._filled[band]
                self._filled[band] += 1
            else:
                place = int(torch.randint(capacity, (), generator=random))
            self._pixels[band, place] = pixels[index]
            self._log2_gsd[band, place] = log2_gsd[index]

    def draw(self, bands: list[int], side: int, random: torch.Generator) -> Parents:
        """Parents for children of the bands given: random aligned crops of kept pictures or of the root, one a band."""
        steps = (self._pixels.shape[-1] - side) // ALIGNMENT + 1
        pixels, log2_gsd = [], []
        for band in bands:
            if band == len(self._filled) - 1:
                parents = self._root.draw(1, side, random)
                pixels.append(parents.pixels[0])
                log2_gsd.append(parents.log2_gsd[0])
                continue
            place = int(torch.randint(self._filled[band + 1], (), generator=random))
            row, column = (int(x) * ALIGNMENT for x in torch.randint(steps, (2,), generator=random))
            crop = self._pixels[band + 1, place, :, row : row + side, column : column + side]
            pixels.append(crop.float() / 127.5 - 1)
            log2_gsd.append(self._log2_gsd[band + 1, place] - math.log2(SCALE))
        return Parents(torch.stack(pixels), torch.stack(log2_gsd))

    def state_dict(self) -> dict[str, Any]:
        """Everything in it, for a checkpoint."""
        return {"pixels": self._pixels, "log2_gsd": self._log2_gsd, "filled": self._filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self._pixels, self._log2_gsd = state["pixels"], state["log2_gsd"]
        self._filled = list(state["filled"])
