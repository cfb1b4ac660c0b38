"""From height and climate to the colours of land, by a small network learned from the Earth.

The Earth does not show one colour under given conditions but one of several: forest or steppe, rock or snow. So
the network gives, for each pixel, a few covers, how likely each is, and its colour there (a mixture density
network, Bishop 1994). One noise field for each cover, smooth over tens of kilometres, decides which cover wins
where, so that covers come in patches with real borders and in the proportions that the Earth shows. Trained by
`training/roots/planet.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from earthgen.errors import WeightsError
from earthgen.roots.climate import LAPSE_RATE, Climate
from earthgen.roots.grid import Plane, double, halve, row_spacing_km

FEATURES = 12
HIDDEN = 40
COVERS = 6
OUTPUTS = 4 * COVERS
"""For each cover the logarithm of its likelihood, up to a constant, then its red, green and blue, 0 .. 1."""
CONTRAST = 2.5
"""How sharply one cover gives way to another."""
_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Ground:
    """What the network looks at, as planes of the root's size.

    Attributes:
        height: kilometres above the sea, 0 over water.
        detail_near: height minus its mean over about 4 pixels.
        detail_far: height minus its mean over about 16 pixels.
        rough: local spread of `detail_near`.
        coast: share of land within about 4 pixels.
    """

    height: Plane
    detail_near: Plane
    detail_far: Plane
    rough: Plane
    coast: Plane

    @classmethod
    def of(cls, land: Plane, height: Plane) -> Ground:
        """Derive all planes from the share of land (n, n) and the height in kilometres (n, n)."""
        detail_near = height - _widen(halve(height, 2), 2)
        rough = np.sqrt(_widen(halve(detail_near * detail_near, 3), 3))
        return cls(height, detail_near, height - _widen(halve(height, 4), 4), rough, _widen(halve(land, 2), 2))


def features(
    ground: Ground, climate: Climate, first: int, rows: int, chosen: npt.NDArray[np.bool_] | None = None
) -> Plane:
    """Inputs of the network for some rows, or for chosen pixels (rows, n) of them; (count, FEATURES)."""
    part = slice(first, first + rows)
    pick = slice(None) if chosen is None else chosen

    def of(plane: Plane) -> Plane:
        return np.asarray(plane[pick]).ravel()

    sea_level, moisture, rain, near, far = (
        of(_rows_of_coarse(plane, ground.height.shape[0] // plane.shape[0], first, rows)) for plane in climate.planes()
    )
    height = of(ground.height[part])
    columns: tuple[npt.NDArray[np.floating[Any]], ...] = (
        sea_level / 15,
        (sea_level - LAPSE_RATE * height) / 15,
        2 * moisture - 1,
        2 * rain - 1,
        2 * near - 1,
        2 * far - 1,
        np.sqrt(np.clip(height, 0, None)) - 0.7,
        np.arcsinh(of(ground.detail_near[part]) * 8),
        np.arcsinh(of(ground.detail_far[part]) * 4),
        np.arcsinh(of(ground.rough[part]) * 8),
        np.arcsinh(of(slope_to_light(ground.height, first, rows)) * 30),
        # The pixels on the very shore are too mixed to learn from: they count as those just behind them.
        np.clip(2 * of(ground.coast[part]) - 1, 0.5, None),
    )
    result = np.empty((height.size, FEATURES), dtype=np.float32)
    for k, column in enumerate(columns):
        result[:, k] = column
    return result


def slope_to_light(height: Plane, first: int, rows: int) -> Plane:
    """Slope of some rows, (rows, n), up towards the south-east: lit by a sun in the north-west where above 0.

    Relief is usually drawn so, and Blue Marble is.
    """
    size = height.shape[0]
    above = height[np.clip(np.arange(first - 1, first + rows - 1), 0, size - 1)]
    below = height[np.clip(np.arange(first + 1, first + rows + 1), 0, size - 1)]
    here = height[first : first + rows]
    slope = below - above
    slope[:, 1:-1] += here[:, 2:] - here[:, :-2]
    slope[:, 0] += here[:, 1] - here[:, -1]
    slope[:, -1] += here[:, 0] - here[:, -2]
    return np.asarray(slope / (2 * row_spacing_km(size)[first : first + rows]))


@dataclass(frozen=True, slots=True)
class ColourModel:
    """Weights of the network and what else is learned from the Earth.

    Attributes:
        tensors: layers.{0,1,2}.{weight,bias}; spread, (COVERS, 3, 3) lower triangular, a cover's own variation;
            texture, (octaves,) share of that variation in each octave, finest first; hypsometry.land, heights in
            kilometres at equal steps of land area. All float32.
        digest: hash of the file they came from.
    """

    tensors: Mapping[str, npt.NDArray[np.float32]]
    digest: str

    def colours(self, inputs: Plane, chance: Plane, noise: Plane) -> Plane:
        """Colours of land.

        Args:
            inputs: (count, FEATURES).
            chance: (count, COVERS), Gumbel noise: the cover with the largest sum of log-likelihood and chance wins.
            noise: (count, 3), standard normal, the variation within covers.

        Returns:
            (count, 3), 0 .. 255 but not clipped.
        """
        count = len(inputs)
        x = np.concatenate([inputs, np.zeros((-count % _BLOCK, FEATURES), dtype=np.float32)])
        for layer in (0, 1, 2):
            x = _product(x, self.tensors[f"layers.{layer}.weight"].T)
            x += self.tensors[f"layers.{layer}.bias"]
            if layer < 2:
                np.maximum(x, 0, out=x)
        chance = np.concatenate([chance, np.zeros((len(x) - count, COVERS), dtype=np.float32)])
        likelihood = x[:, :COVERS]
        score = np.float32(CONTRAST) * (likelihood + chance)
        score -= score.max(1, keepdims=True)
        weight = np.exp(score, out=score)
        weight /= weight.sum(1, keepdims=True)
        # The winners' own variation: one lower triangular matrix for each pixel.
        factor = _product(weight, self.tensors["spread"].reshape(COVERS, 9))[:count]
        weight, x = weight[:count], x[:count]
        result = np.empty((count, 3), dtype=np.float32)
        for k in range(3):
            total = factor[:, 3 * k] * noise[:, 0]
            for j in range(1, k + 1):
                total += factor[:, 3 * k + j] * noise[:, j]
            for cover in range(COVERS):
                total += weight[:, cover] * x[:, COVERS + 3 * cover + k]
            result[:, k] = 255 * total
        return result


def _product(left: Plane, right: Plane) -> Plane:
    """Matrix product (n, k) by (k, m), n a multiple of _BLOCK, in the same bytes on any number of BLAS threads.

    A BLAS library cuts large products among its threads, and the last bits depend on where it cuts. Blocks this
    small it leaves to one thread.
    """
    return np.asarray(np.matmul(left.reshape(-1, _BLOCK, left.shape[1]), right)).reshape(-1, right.shape[1])


@cache
def load_model() -> ColourModel:
    """The model that earthgen ships.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        data = (resources.files(__package__) / "planet.safetensors").read_bytes()
        tensors = load(data)
    except Exception as error:
        raise WeightsError(f"earthgen's planet colours, planet.safetensors, cannot be read: {error}") from error
    return ColourModel(tensors, hashlib.sha256(data).hexdigest())


def _widen(plane: Plane, times: int) -> Plane:
    for _ in range(times):
        plane = double(plane)
    return plane


def _rows_of_coarse(plane: Plane, factor: int, first: int, rows: int) -> Plane:
    """Rows of a coarse plane, linearly interpolated to `factor` times its size."""
    position = (np.arange(first, first + rows) + 0.5) / factor - 0.5
    low = np.floor(position).astype(int)
    part = (position - low).astype(np.float32)[:, None]
    last = plane.shape[0] - 1
    lines = plane[np.clip(low, 0, last)] * (1 - part) + plane[np.clip(low + 1, 0, last)] * part
    shares = ((np.arange(factor) + 0.5) / factor - 0.5).astype(np.float32)
    left, right = np.roll(lines, 1, 1)[..., None], np.roll(lines, -1, 1)[..., None]
    lines = lines[..., None]
    fine = np.where(shares < 0, lines * (1 + shares) - left * shares, lines * (1 - shares) + right * shares)
    return np.asarray(fine.reshape(rows, -1), dtype=np.float32)
