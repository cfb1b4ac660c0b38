"""Pictures as pyramids, and crops drawn from every band of ground sampling distance.

A level of a picture is its 2x2 box mean taken again and again. The bands are the cascade's steps: band
0 holds children of about 0.6 m per pixel, each further band is four times coarser, up to 2.4 km.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasets.blue_marble import read_blue_marble
from datasets.packs import PACKS, Picture, Split, read_pack

BAND_GSDS: tuple[float, ...] = (0.6, 2.4, 9.6, 38.2, 153.0, 611.0, 2446.0)
"""Metres per pixel of the children in the middle of each band: zooms 18, 16, ... 6 at the equator."""
BAND_SHARES: tuple[float, ...] = (0.20, 0.20, 0.20, 0.13, 0.11, 0.08, 0.08)
"""Share of the training crops that each band gets."""
_FINEST_GSD = 0.25
_SMALLEST_SIDE = 64
_FLAT_RANGE = 24
"""Grey levels between the darkest and the brightest value of a crop that shows nothing."""


@dataclass(frozen=True, slots=True)
class Level:
    """One picture at one resolution."""

    pack: str
    name: str
    gsd: float
    pixels: npt.NDArray[np.uint8]

    @property
    def band(self) -> int:
        """Index into BAND_GSDS of the nearest band, by ratio."""
        return min(len(BAND_GSDS) - 1, max(0, round(math.log(self.gsd / BAND_GSDS[0], 4))))


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch: uint8 pixels (n, size, size, 3), metres per pixel (n,), and the levels they are from."""

    pixels: npt.NDArray[np.uint8]
    gsd: npt.NDArray[np.float64]
    levels: tuple[Level, ...]

    @property
    def bands(self) -> list[int]:
        """Index into BAND_GSDS of each crop."""
        return [level.band for level in self.levels]


def halved(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The 2x2 box mean of uint8 (h, w, c), rounded; an odd last row or column is left out."""
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    even = pixels[:height, :width].astype(np.uint16)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def picture_levels(picture: Picture) -> list[Level]:
    """All levels of a picture that are at least 64 pixels on each side and not finer than 0.25 m."""
    levels: list[Level] = []
    gsd, pixels = picture.gsd, picture.pixels
    while min(pixels.shape[:2]) >= _SMALLEST_SIDE:
        if gsd >= _FINEST_GSD:
            levels.append(Level(picture.name.split("/")[0], picture.name, gsd, pixels))
        gsd, pixels = gsd * 2, halved(pixels)
    return levels


def read_levels(folder: Path, split: Split) -> list[Level]:
    """The levels of every picture of every pack, one split."""
    pictures = [picture for pack in PACKS for picture in read_pack(folder, pack, split)]
    pictures.extend(read_blue_marble(folder, split))
    return [level for picture in pictures for level in picture_levels(picture)]


class CropSampler:
    """Draws square crops: first the band, then the pack, then the picture, then the place.

    Within a band a pack weighs by the cube root of its pixels, so that one large orthophoto does not
    drown twenty small places. Of crops that show nothing (open sea, mostly) nine in ten are drawn anew.
    Draws are addressed by a number, so a resumed run goes on where it was.

    Args:
        levels: what to draw from.
        size: side of the crops in pixels.
        seed: chooses all draws.
        largest_side: if given, only levels whose shorter side is below it are used.
    """

    def __init__(self, levels: Sequence[Level], size: int, seed: int, largest_side: int | None = None) -> None:
        self._size = size
        self._seed = seed
        groups: dict[int, dict[str, list[Level]]] = defaultdict(lambda: defaultdict(list))
        for level in levels:
            side = min(level.pixels.shape[:2])
            if side >= size and (largest_side is None or side < largest_side):
                groups[level.band][level.pack].append(level)
        if not groups:
            raise ValueError(f"no level is at least {size} pixels on each side")
        self._bands = sorted(groups)
        self._groups = {band: list(groups[band].values()) for band in self._bands}
        self._pixel_counts = {
            band: [np.array([level.pixels.size / 3 for level in pack], dtype=np.float64) for pack in packs]
            for band, packs in self._groups.items()
        }

    @property
    def bands(self) -> tuple[int, ...]:
        """The bands that have anything to draw."""
        return tuple(self._bands)

    def draw(self, number: int, count: int, band: int | Sequence[int | None] | None = None) -> Crops:
        """Crops of draw `number`: the same for the same arguments, on any machine.

        Args:
            number: address of the draw.
            count: how many crops.
            band: a band to draw from, or one for each crop; None, in either place, follows BAND_SHARES.
        """
        wanted = [band] * count if band is None or isinstance(band, int) else list(band)
        random = np.random.Generator(np.random.Philox(key=[self._seed, number]))
        shares = np.array([BAND_SHARES[index] for index in self._bands])
        pixels = np.empty((count, self._size, self._size, 3), dtype=np.uint8)
        drawn: list[Level] = []
        for index in range(count):
            asked = wanted[index]
            chosen = asked if asked is not None else self._bands[random.choice(len(shares), p=shares / shares.sum())]
            counts = self._pixel_counts[chosen]
            weights = np.cbrt([c.sum() for c in counts])
            pack = random.choice(len(counts), p=weights / weights.sum())
            level = self._groups[chosen][pack][random.choice(len(counts[pack]), p=counts[pack] / counts[pack].sum())]
            crop = self._crop(level.pixels, random)
            if np.ptp(crop) < _FLAT_RANGE and random.random() < 0.9:
                crop = self._crop(level.pixels, random)
            pixels[index] = _symmetry(crop, int(random.integers(8)))
            drawn.append(level)
        return Crops(pixels, np.array([level.gsd for level in drawn]), tuple(drawn))

    def _crop(self, pixels: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
        row = int(random.integers(pixels.shape[0] - self._size + 1))
        column = int(random.integers(pixels.shape[1] - self._size + 1))
        return pixels[row : row + self._size, column : column + self._size]


def _symmetry(crop: npt.NDArray[np.uint8], which: int) -> npt.NDArray[np.uint8]:
    """One of the eight symmetries of the square."""
    turned = np.rot90(crop, which % 4)
    return turned[:, ::-1] if which >= 4 else turned
