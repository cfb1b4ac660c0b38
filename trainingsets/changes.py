"""Pairs of dates with what changed between them: the sample, its classes, and the effects that dates have on pictures.

Pairs come from the engine (`datasets.changes_engine`) and from labelled imagery (`datasets.changes_real`). Both are
kept as if both dates had been taken on one day by one sensor, and `dated` makes two days of it. The effects are drawn
apart for each date from the same distribution, so neither date, nor the changed part of one, can be told by its
sharpness, noise or tone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CLASSES = ("low vegetation", "bare ground", "tree", "water", "building", "road")
"""Land cover of all pairs; code 0 means unknown, code 1 the first."""

SHIFT = 0.5
"""Pixels by which a date lies off the grid at most, down and right; two dates differ by up to twice as much."""


@dataclass(frozen=True, slots=True, eq=False)
class ChangeSample:
    """Two dates of one place and what is known of them.

    Attributes:
        source: which set it is from.
        name: unique within the set.
        place: samples of one place are never split between training and test.
        before: uint8 (h, w, 3).
        after: the same, later.
        change: bool (h, w).
        known: bool (h, w), where `change` is known.
        cover_before: uint8 (h, w), 0 unknown or 1 + index in CLASSES, whether it changed or not.
        cover_after: the same, later.
    """

    source: str
    name: str
    place: str
    before: Bytes
    after: Bytes
    change: Mask
    known: Mask
    cover_before: Bytes
    cover_after: Bytes

    def swapped(self) -> ChangeSample:
        """With time running backwards."""
        return replace(
            self,
            before=self.after,
            after=self.before,
            cover_before=self.cover_after,
            cover_after=self.cover_before,
        )

    def turned(self, quarters: int, mirrored: bool) -> ChangeSample:
        """Turned by quarters of a circle, then mirrored."""

        def turn(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            array = np.rot90(array, quarters)
            return np.ascontiguousarray(array[:, ::-1] if mirrored else array)

        return self._each(turn)

    def crop(self, top: int, left: int, side: int) -> ChangeSample:
        """A square of it."""
        return self._each(lambda array: array[top : top + side, left : left + side])

    def _each(self, of: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> ChangeSample:
        return replace(
            self,
            before=of(self.before),
            after=of(self.after),
            change=of(self.change),
            known=of(self.known),
            cover_before=of(self.cover_before),
            cover_after=of(self.cover_after),
        )


def generator(*key: int) -> np.random.Generator:
    """Chance that is addressed by numbers: the same for the same numbers, on any machine."""
    return np.random.default_rng(np.random.SeedSequence(key))


# --- Dates ---


def dated(sample: ChangeSample, random: np.random.Generator, strength: float = 1.0) -> ChangeSample:
    """The sample as two days' pictures; what changed is left as it is. For `strength` see `date_effects`."""
    before, after = (date_effects(pixels, random, strength) for pixels in (sample.before, sample.after))
    return replace(sample, before=before, after=after)


def date_effects(pixels: Bytes, random: np.random.Generator, strength: float = 1.0) -> Bytes:
    """What a day, a season and a sensor make of a picture.

    In the order of the light's way: the season's tint of what is green; the sun's strength, colour and fall-off over
    the picture; haze, thicker to one side; the optics' blur and the grid's offset by up to SHIFT pixels; the sensor's
    noise; and, in a third of the cases, JPEG.

    Args:
        pixels: uint8 (h, w, 3).
        random: source of chance; the same number of draws for any picture of one size.
        strength: of the season's tint and the sun: the factor of their spreads.
    """
    height, width, _ = pixels.shape
    rgb: npt.NDArray[Any] = pixels.astype(np.float32) / 255
    slope = _slope(height, width, random.uniform(0, 2 * np.pi))

    green = np.clip(4 * (rgb[..., 1] - 0.5 * (rgb[..., 0] + rgb[..., 2])) + 0.3, 0, 1)[..., None]
    tint = np.exp(strength * random.normal(0, (0.16, 0.08, 0.10))).astype(np.float32)
    rgb = rgb * (1 + green * (tint - 1))

    cast = np.exp(strength * (random.normal(0, 0.15) + random.normal(0, 0.05, 3))).astype(np.float32)
    rgb = rgb * cast * (1 + random.normal(0, 0.06) * slope)[..., None]
    gamma = np.float32(np.exp(strength * random.normal(0, 0.10)))
    rgb = np.power(np.clip(rgb, 0, None), gamma, dtype=np.float32)

    veil = np.clip(0.25 * random.random() ** 2 * (1 + random.normal(0, 0.5) * slope), 0, 0.6)[..., None]
    rgb = rgb + veil * (np.array([0.62, 0.67, 0.73], dtype=np.float32) - rgb)

    rgb = _resampled(rgb, random.uniform(-SHIFT, SHIFT, 2), random.uniform(0.0, 0.7))
    rgb = rgb + random.uniform(0.0, 0.018) * random.standard_normal(rgb.shape, dtype=np.float32)
    shown = np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)
    compressed, quality = random.random() < 1 / 3, int(random.integers(60, 96))
    return _jpeg(shown, quality) if compressed else shown


def _slope(height: int, width: int, angle: float) -> npt.NDArray[np.float32]:
    """A plane from -1 to 1 across the picture."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return np.asarray((np.sin(angle) * rows + np.cos(angle) * columns) / np.sqrt(2), dtype=np.float32)


def _resampled(rgb: npt.NDArray[np.float32], offset: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float32]:
    """Moved by parts of a pixel and blurred, as one separable filter: a Gaussian around the offset."""
    reach = np.arange(-3, 4)
    # A pixel's own width is never less than what linear interpolation would leave.
    spread = 2 * (sigma**2 + 0.35**2)
    kernels = [np.exp(-((reach - value) ** 2) / spread) for value in offset]
    down, right = (torch.from_numpy((kernel / kernel.sum()).astype(np.float32)) for kernel in kernels)
    image = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[:, None]
    image = F.pad(image, (3, 3, 3, 3), mode="reflect")
    image = F.conv2d(F.conv2d(image, down.view(1, 1, 7, 1)), right.view(1, 1, 1, 7))
    return np.asarray(image[:, 0].permute(1, 2, 0))


def _jpeg(pixels: Bytes, quality: int) -> Bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


# --- Drawing ---


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops for a network.

    Attributes:
        images: float32 (b, t=2, 3, h, w) in [-1, 1].
        change: bool (b, h, w).
        known: bool (b, h, w).
        cover: uint8 (b, t=2, h, w), 0 unknown or 1 + class.
    """

    images: torch.Tensor
    change: torch.Tensor
    known: torch.Tensor
    cover: torch.Tensor


class ChangeSampler:
    """Draws crops: first the source, then the sample, then the place in it, turned and with two dates' effects.

    Draws are addressed by a number, so a resumed run goes on where it was. Half of the crops of a sample with change
    are laid around a pixel that changed. Sources in `own_dates` have dates of their own: they get no more.

    Args:
        samples: all of them.
        size: side of the crops.
        seed: of all draws.
        own_dates: names of such sources.
        shares: how often each source is drawn beside the others; one that is not named counts 1.
        strength: of the effects of dates.
    """

    def __init__(
        self,
        samples: Sequence[ChangeSample],
        size: int,
        seed: int,
        own_dates: Sequence[str] = (),
        shares: Mapping[str, float] | None = None,
        strength: float = 1.0,
    ) -> None:
        sources: dict[str, list[ChangeSample]] = {}
        for sample in samples:
            if min(sample.change.shape) >= size:
                sources.setdefault(sample.source, []).append(sample)
        if not sources:
            raise ValueError(f"no sample has {size} pixels a side; give samples that are as large as the crops")
        self._sources = list(sources.values())
        weights = np.array([(shares or {}).get(name, 1.0) for name in sources])
        self._shares = weights / weights.sum()
        self._size, self._seed, self._own_dates = size, seed, frozenset(own_dates)
        self._strength = strength

    def draw(self, number: int, count: int) -> Batch:
        """Crops of draw `number`: the same for the same arguments."""
        return batch_of([self._one(generator(self._seed, number, index)) for index in range(count)])

    def _one(self, random: np.random.Generator) -> ChangeSample:
        source = self._sources[random.choice(len(self._sources), p=self._shares)]
        sample = source[random.integers(len(source))]
        height, width = sample.change.shape
        size = self._size
        top, left = int(random.integers(height - size + 1)), int(random.integers(width - size + 1))
        if random.random() < 0.5 and sample.change.any():
            rows, columns = np.nonzero(sample.change)
            at = random.integers(len(rows))
            near = random.integers(size, size=2)
            top = int(np.clip(rows[at] - near[0], 0, height - size))
            left = int(np.clip(columns[at] - near[1], 0, width - size))
        sample = sample.crop(top, left, size).turned(int(random.integers(4)), bool(random.integers(2)))
        sample = sample.swapped() if random.integers(2) else sample
        return sample if sample.source in self._own_dates else dated(sample, random, self._strength)


def batch_of(samples: Sequence[ChangeSample]) -> Batch:
    """Samples of one size as tensors."""
    images = np.stack([np.stack([sample.before, sample.after]) for sample in samples])
    return Batch(
        torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 127.5 - 1,
        torch.from_numpy(np.stack([sample.change for sample in samples])),
        torch.from_numpy(np.stack([sample.known for sample in samples])),
        torch.from_numpy(np.stack([np.stack([sample.cover_before, sample.cover_after]) for sample in samples])),
    )
