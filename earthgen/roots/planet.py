"""A planet nobody has seen, from a seed alone: terrain, then climate, then colours.

Pure NumPy on one thread of Philox words; the same seed gives the same bytes. Docs: docs/roots.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earthgen.roots import sea
from earthgen.roots.climate import Climate, climate_of
from earthgen.roots.colour import COVERS, Ground, features, load_model, slope_to_light
from earthgen.roots.grid import Plane, SphereNoise, double, halve, row_latitude, soften, unit_vectors, white_noise
from earthgen.roots.terrain import COARSE, DOUBLINGS, Terrain, terrain

_CODE_VERSION = 2
"""Raise by one with every change that changes a planet's bytes."""

_BAND = 32
"""Rows coloured at a time; a fixed number, so that sums are taken in the same order on each run."""
_BANDS_BEND, _TEXTURE, _DRIFT, _CHANCE = 100, 110, 140, 160
"""Streams of randomness; terrain uses those below 100."""
_CHANCE_OCTAVES = (0.5, 0.55, 0.6, 0.6, 0.55, 0.45, 0.35)
"""Amplitudes of the noise that chooses covers, from 1 / 32 of the world's width down to half a root's pixel row."""
_QUIET = np.array((0.5, 0.9, 1, 1, 1, 1, 1), dtype=np.float32)
"""Half of what varies from pixel to pixel in Blue Marble is JPEG's doing."""
_COARSE_ONLY = np.array((0, 0, 1, 1, 1, 1, 1), dtype=np.float32)
_SHADING, _SHADING_STEEPNESS = np.float32(0.16), np.float32(25)
_FREEZING = np.float32(-19.0)
"""Annual mean in degrees Celsius below which the sea keeps its ice in this simple climate."""
_SEA_ICE = np.array((226, 234, 240), dtype=np.float32)


def version() -> str:
    """Changes whenever the bytes of a planet may change.

    Raises:
        WeightsError: the shipped colour model is missing or damaged.
    """
    return f"{_CODE_VERSION}{load_model().digest[:11]}"


def render(seed: int, doublings: int = DOUBLINGS) -> npt.NDArray[np.uint8]:
    """The planet of a seed in Web Mercator at zoom 4.

    Args:
        seed: 0 .. 2**63 - 1.
        doublings: fewer than DOUBLINGS make the same continents and climates in less detail, and sooner.

    Returns:
        uint8 (n, n, 3) with n = 512 * 2 ** doublings: 4096 for a root.

    Raises:
        WeightsError: the shipped colour model is missing or damaged.
    """
    model = load_model()
    size = COARSE << doublings
    ground = terrain(seed, model.tensors["hypsometry.land"], doublings)
    climate = _climate(seed, ground)
    surface = Ground.of(ground.land, ground.height)
    octaves = model.tensors["texture"] * _QUIET
    # Brightness varies at every scale; hue, which needs two more fields, only at the coarser ones.
    texture = [_texture(seed, _TEXTURE + 10 * k, octaves if k == 0 else octaves * _COARSE_ONLY, size) for k in range(3)]
    chance = _chance(seed, size // 2)
    water = _Water.of(seed, ground, climate)
    out = np.empty((size, size, 3), dtype=np.uint8)
    for first in range(0, size, _BAND):
        rows = slice(first, first + _BAND)
        share = ground.land[rows]
        picture = water.rows(first, _BAND)
        dry = share > 0
        if dry.any():
            inputs = features(surface, climate, first, _BAND, dry)
            noise = np.stack([plane[rows][dry] for plane in texture], -1)
            luck = np.stack([_doubled_rows(plane, first, _BAND)[dry] for plane in chance], -1)
            land = model.colours(inputs, luck, noise)
            light = np.tanh(slope_to_light(surface.height, first, _BAND)[dry] * _SHADING_STEEPNESS)
            # Snow scatters light into its own shadows.
            land *= 1 + (_SHADING * light * np.clip(1.6 - land[:, 1] / 160, 0.2, 1))[:, None]
            under = picture[dry]
            picture[dry] = under + share[dry][:, None] * (np.clip(land, 0, 255) - under)
        out[rows] = np.clip(np.rint(picture), 0, 255)
    return out


def _climate(seed: int, ground: Terrain) -> Climate:
    factor = (ground.land.shape[0] // COARSE).bit_length() - 1
    land, height = halve(ground.land, factor), halve(ground.height, factor)
    points = unit_vectors(land.shape[0] // 2)
    bend = 5.0 * SphereNoise(seed, _BANDS_BEND)(points, 1.6) + 2.5 * SphereNoise(seed, _BANDS_BEND + 1)(points, 4.5)
    return climate_of(land, height, double(bend))


def _texture(seed: int, stream: int, amplitudes: npt.NDArray[np.float32], size: int) -> Plane:
    """Noise of the root's size with the given amplitude in each octave, finest first; 0 ends an octave's work."""
    plane = np.zeros((size >> len(amplitudes), size >> len(amplitudes)), dtype=np.float32)
    for octave in range(len(amplitudes) - 1, -1, -1):
        plane = double(plane)
        if amplitudes[octave]:
            # Doubling has taken some variance from white noise of the octave above; each octave starts from its own.
            plane += amplitudes[octave] * white_noise(seed, stream + octave, plane.shape[0])
    return plane


def _chance(seed: int, size: int) -> list[Plane]:
    """Gumbel noise for each cover, smooth over some pixels, on a grid of half the root's size."""
    planes = []
    for cover in range(COVERS):
        coarsest = size >> (len(_CHANCE_OCTAVES) - 1)
        plane = np.zeros((coarsest, coarsest), dtype=np.float32)
        for octave, amplitude in enumerate(_CHANCE_OCTAVES):
            plane = double(plane) if octave else plane
            plane += np.float32(amplitude) * white_noise(seed, _CHANCE + 8 * cover + octave, plane.shape[0])
        plane = soften(plane)
        plane *= np.float32(1 / plane.std())
        # The normal deviate's place among normal deviates, as a Gumbel deviate (logistic approximation).
        planes.append(-np.log(np.log1p(np.exp(np.float32(-1.702) * plane))))
    return planes


class _Water:
    """Colours of the sea, made row by row from planes of coarser grids."""

    def __init__(self, coastal: Plane, drift: Plane, ice: Plane) -> None:
        self._coastal, self._drift, self._ice = coastal, drift, ice
        self._deep, self._coast = sea.row_colours(np.degrees(row_latitude(coastal.shape[0])))

    @classmethod
    def of(cls, seed: int, ground: Terrain, climate: Climate) -> _Water:
        """Derive everything the sea's colour depends on."""
        near, wide, shallow = halve(ground.land, 2), halve(ground.land, 5), halve(ground.shelf, 5)
        coastal = 0.30 * _widen(near, 2) + _widen(0.28 * wide + 0.20 * shallow, 5)
        size = climate.moisture.shape[0]
        points = unit_vectors(size // 2)
        drift = np.zeros((size // 2, size // 2), dtype=np.float32)
        for k, (frequency, amplitude) in enumerate(((3, 0.9), (9, 0.6), (25, 0.35))):
            drift += np.float32(amplitude) * SphereNoise(seed, _DRIFT + k)(points, frequency)
        # Pack ice: where the sea is cold enough, with a ragged edge that breaks into floes.
        ragged = np.float32(2.0) * SphereNoise(seed, _DRIFT + 8)(points, 9.0)
        ragged += np.float32(1.2) * SphereNoise(seed, _DRIFT + 9)(points, 27.0)
        cold = climate.sea_level_temperature + double(ragged)
        for octave, amplitude in enumerate((0.6, 0.5, 0.35)):
            # Floes are finer than the climate's grid where the root is.
            cold = double(cold) if octave and cold.shape[0] < ground.land.shape[0] else cold
            cold += np.float32(amplitude) * white_noise(seed, _DRIFT + 10 + octave, cold.shape[0])
        ice = np.clip((_FREEZING - cold) / np.float32(0.9), 0, np.float32(0.97))
        full = ground.land.shape[0]
        return cls(coastal, _to_size(drift, full), _to_size(ice, full))

    def rows(self, first: int, count: int) -> Plane:
        """Colours (count, n, 3) of some rows."""
        part = slice(first, first + count)
        water = sea.colour(self._deep[part], self._coast[part], self._coastal[part], self._drift[part])
        ice = self._ice[part][..., None]
        if ice.any():
            water += ice * (_SEA_ICE - water)
        return water


def _to_size(plane: Plane, size: int) -> Plane:
    while plane.shape[0] < size:
        plane = double(plane)
    return plane


def _widen(plane: Plane, times: int) -> Plane:
    for _ in range(times):
        plane = double(plane)
    return plane


def _doubled_rows(plane: Plane, first: int, rows: int) -> Plane:
    """Some rows of a plane at twice its resolution."""
    inner = np.arange(first // 2 - 1, (first + rows) // 2 + 1)
    return double(plane[np.clip(inner, 0, plane.shape[0] - 1)])[2 : rows + 2]
