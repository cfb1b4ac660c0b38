"""The ground of a generated planet: plates, continents, mountain belts, islands, valleys.

Everything large is made on a coarse Mercator grid from noise in the space around the sphere, so that it has no
seam and no pole; everything small is added while the grid is doubled to the root's size. Heights are then mapped
to the Earth's hypsometry, area by area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.roots.grid import (
    EARTH_RADIUS_KM,
    Plane,
    SphereNoise,
    double,
    row_area,
    row_spacing_km,
    soften,
    uniform,
    unit_vectors,
    white_noise,
)

COARSE = 512
DOUBLINGS = 3
LAND_SHARES = (0.25, 0.40)
"""The share of the sphere that is land lies between these, as the seed wills."""

_ROUGHNESS = 0.75
"""Amplitude of an octave of relief grows with its wavelength to this power."""
_FOLD_RADIANS = 0.020
"""Distance between parallel chains of a mountain belt, 130 km."""
# Streams of randomness, one for each use.
_PLATES, _WARP, _CONTINENT, _BELTS, _OLD_BELTS, _ARCS, _FINE = 1, 10, 20, 30, 40, 50, 60


@dataclass(frozen=True, slots=True)
class Terrain:
    """Planes of the root's size.

    Attributes:
        land: share of land, 0 .. 1.
        height: kilometres above the sea, 0 over water.
        shelf: 0 .. 1, where the sea is shallow.
    """

    land: Plane
    height: Plane
    shelf: Plane


@dataclass(frozen=True, slots=True)
class _Crust:
    """Large forms on the coarse grid.

    Attributes:
        level: -1 deep sea .. 0 about the shore .. 1 inland, and highlands above that.
        mountain: 0 .. about 1.5.
        border: radians to the nearest border of plates.
    """

    level: Plane
    mountain: Plane
    border: Plane


def terrain(seed: int, land_hypsometry: npt.NDArray[np.float32], doublings: int = DOUBLINGS) -> Terrain:
    """The ground of a seed.

    Args:
        seed: the world's.
        land_hypsometry: heights in kilometres at equal steps of land area, lowest first.
        doublings: fewer than DOUBLINGS make the same continents in less detail.

    Returns:
        Planes of COARSE * 2 ** doublings pixels along a side.
    """
    share = LAND_SHARES[0] + (LAND_SHARES[1] - LAND_SHARES[0]) * float(uniform(seed, _PLATES + 1, 1)[0])
    level, mountain = _carve(_crust(seed, share), seed, doublings)
    size = level.shape[0]
    sample = slice(2, None, 4)
    levels = level[sample, sample]
    area = np.broadcast_to(row_area(size)[sample], levels.shape)
    shore = np.float32(_quantile(levels.ravel(), area.ravel(), np.array([1 - share]))[0])
    level -= shore
    # The share of land in a coast pixel goes from 0 to 1 over about one pixel.
    slope = np.float32(size / COARSE / 0.06)
    land = np.clip(level * slope + np.float32(0.5), 0, 1)

    dry = levels > shore
    sampled = (levels - shore + mountain[sample, sample])[dry]
    knots = _quantile(sampled, area[dry], np.linspace(0, 1, len(land_hypsometry)))
    knots = np.maximum.accumulate(knots + np.arange(len(knots)) * 1e-7)
    height = np.zeros_like(level)
    wet = land > 0
    height[wet] = np.interp((level + mountain)[wet], knots, land_hypsometry)
    height *= land
    return Terrain(land, height, np.clip(1 + level / np.float32(0.35), 0, 1))


def _crust(seed: int, share: float) -> _Crust:
    half = COARSE // 2
    points = unit_vectors(half)
    bends = [[SphereNoise(seed, _WARP + axis)(points, 1.5 * 2.0**octave) for octave in range(5)] for axis in range(3)]

    def warped(scale: float, octaves: int, gain: float) -> Plane:
        shift = np.stack([sum(gain**octave * bend[octave] for octave in range(octaves)) for bend in bends])
        shifted = np.stack([double(axis) for axis in points + np.float32(scale) * shift])
        return np.asarray(shifted / np.sqrt((shifted**2).sum(0)), dtype=np.float32)

    distances, convergence, grounds = _plates(warped(0.13, 4, 0.5), seed)
    crooked = warped(0.20, 5, 0.55)
    continent = 0.62 * _fractal(SphereNoise(seed, _CONTINENT), crooked, 1.2, 4, 0.5) + 0.55 * grounds[0]
    area = np.broadcast_to(row_area(COARSE), continent.shape)
    shore = _quantile(continent.ravel(), area.ravel(), np.array([1 - share]))[0]
    # Continents stand on steep edges: most ground is either well above or well below the sea.
    level = np.tanh(3.2 * (continent - np.float32(shore)))

    base, mountain, rift = level, np.zeros_like(level), np.zeros_like(level)
    along = _fractal(SphereNoise(seed, _BELTS), crooked, 3.0, 3, 0.6)
    arcs = SphereNoise(seed, _ARCS)(crooked, 18.0)
    for neighbour in range(distances.shape[0]):
        distance, push, side = distances[neighbour], convergence[neighbour], grounds[neighbour + 1]
        # Two continents that meet raise broad highlands, an ocean floor that dives raises a narrow chain.
        collision = _step(side, -0.2, 0.4) * _step(level, 0.0, 0.6)
        width = 0.026 + 0.050 * collision
        belt = np.exp(-((np.maximum(distance - 0.3 * width, 0) / width) ** 2)) * np.clip(push, 0, 1.2)
        mountain += belt * np.clip(0.8 + 0.5 * along, 0.1, 1.5)
        # Where plates meet in the sea, chains of islands stand on the upper one.
        chain = np.exp(-(((distance - 0.028) / 0.011) ** 2)) * np.clip(1.5 * push, 0, 1) * _upper(side, grounds[0])
        level = level + chain * (1 - _step(level, -0.5, 0.2)) * np.clip(0.5 + 0.6 * arcs - 0.35 * level, 0, 1.5)
        rift += np.exp(-((distance / 0.020) ** 2)) * np.clip(-1.2 * push - 0.2, 0, 1)
    level = level - 1.3 * rift * _step(level, -0.2, 0.6)

    # Belts of earlier ages, long and low, with no plate edge to explain them; swells and basins.
    old = SphereNoise(seed, _OLD_BELTS)(crooked, 1.7)
    old_belt = np.exp(-((old / 0.07) ** 2)) * np.clip(0.1 + 0.7 * along, 0, 0.8)
    # Mountains need a continent under them; islands of the chains get a share.
    mountain = (mountain + 0.40 * old_belt) * np.maximum(_step(base, -0.3, 0.5), 0.25 * _step(level, -0.3, 0.3))
    swell = _fractal(SphereNoise(seed, _OLD_BELTS + 1), crooked, 2.6, 3, 0.55)
    level = level + 0.22 * swell * _step(level, 0.0, 0.8) + 0.25 * mountain
    return _Crust(level.astype(np.float32), mountain.astype(np.float32), distances[0])


def _plates(points: Plane, seed: int) -> tuple[Plane, Plane, Plane]:
    """Plates of a sphere.

    Returns:
        For the three plates nearest to each point's own one: distance to the border with it (3, n, n) in radians, and
        how fast the two close in on each other (3, n, n), below 0 where they part; and how continental the own plate
        and these three are (4, n, n), -1 .. 1; the own one runs smoothly across borders.
    """
    draws = uniform(seed, _PLATES, 4096)
    count = 11 + int(draws[0] * 8)
    centres = np.empty((0, 3))
    # The best of some candidates each time: plates of uneven but not of vanishing size.
    for index in range(count):
        u = draws[16 + index * 12 : 28 + index * 12].reshape(2, 6)
        z, angle = 2 * u[0] - 1, 2 * np.pi * u[1]
        ring = np.sqrt(1 - z * z)
        candidates = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], -1)
        nearness = (candidates @ centres.T).max(1) if len(centres) else np.zeros(6)
        centres = np.concatenate([centres, candidates[nearness.argmin()][None]])
    spins = 2 * draws[1024 : 1024 + 3 * count].reshape(count, 3) - 1
    # Half of the plates carry continents, half do not, in random order.
    rank = np.argsort(np.argsort(draws[2048 : 2048 + count]))
    continental = np.where(rank < 0.5 * count, 1.0, -1.0) * (0.5 + 0.5 * draws[3072 : 3072 + count])

    flat = points.reshape(3, -1)
    # Written out: a BLAS product's last bits would depend on its number of threads.
    closeness = np.stack([sum(np.float32(centre[k]) * flat[k] for k in range(3)) for centre in centres])
    weights = np.exp((closeness - closeness.max(0)) * np.float32(9))
    smooth_ground = (continental.astype(np.float32)[:, None] * weights).sum(0) / weights.sum(0)
    nearest = []
    every = np.arange(flat.shape[1])
    for _ in range(4):
        nearest.append(closeness.argmax(0))
        closeness[nearest[-1], every] = -9
    own = nearest[0]
    distances, convergence, grounds = [], [], [smooth_ground]
    for other in nearest[1:]:
        normal = (centres[own] - centres[other]).astype(np.float32).T
        normal /= np.sqrt((normal**2).sum(0))
        distances.append(np.arcsin(np.clip((normal * flat).sum(0), 0, 1)))
        spin = (spins[own] - spins[other]).astype(np.float32).T
        velocity = [spin[(k + 1) % 3] * flat[(k + 2) % 3] - spin[(k + 2) % 3] * flat[(k + 1) % 3] for k in range(3)]
        convergence.append(-sum(velocity[k] * normal[k] for k in range(3)))
        grounds.append(continental[other])
    distance, push, ground = (
        np.stack(planes).astype(np.float32).reshape(-1, *points.shape[1:])
        for planes in (distances, convergence, grounds)
    )
    return distance, push, ground


def _upper(other: Plane, own: Plane) -> Plane:
    """1 where the own plate is the lighter one and so rides over the other."""
    return _step(own - other, -0.15, 0.15)


def _carve(crust: _Crust, seed: int, doublings: int) -> tuple[Plane, Plane]:
    """Add everything smaller, octave by octave, while the grid is doubled to the root's size.

    Returns:
        Level and mountain of the root's size. Mountains come as chains, ridges and valleys; plains stay calm.
    """
    level, mountain, border = crust.level, crust.mountain, crust.border
    points = unit_vectors(COARSE)
    spacing = row_spacing_km(COARSE)
    relief, ridges = np.zeros_like(level), np.zeros_like(level)
    for octave in range(8):
        frequency = 9.0 * 2.0**octave
        wavelength = np.full((1, 1), EARTH_RADIUS_KM / frequency, dtype=np.float32)
        # Octaves too fine for the grid's pixels at a latitude are left to the doublings below.
        visible = _step(wavelength / spacing, 3.0, 6.0)[:, 0]
        rows = np.flatnonzero(visible > 0)
        if not rows.size:
            break
        noise = SphereNoise(seed, _FINE + octave)(points[:, rows], frequency) * visible[rows, None]
        relief[rows] += (wavelength / 700.0) ** _ROUGHNESS * noise
        ridges[rows] += _ridge_amplitude(wavelength) * _ridge(noise) * visible[rows, None]
    for doubling in range(doublings + 1):
        if doubling:
            level, mountain, border, relief, ridges = map(double, (level, mountain, border, relief, ridges))
            spacing = row_spacing_km(level.shape[0])
        if doubling == 2:
            # Chains run along the border that raised them, bent by the relief.
            chains = np.cos(border * np.float32(2 * np.pi / _FOLD_RADIANS) + 5 * relief)
            mountain = mountain * (1 + np.float32(0.28) * chains)
        noise = soften(white_noise(seed, _FINE + 20 + doubling, level.shape[0]))
        wavelength = 4 * spacing
        relief += (wavelength / 700.0) ** _ROUGHNESS * noise
        ridges += _ridge_amplitude(wavelength) * _ridge(noise)
    level += np.float32(0.27) * relief * _step(level, -1.3, -0.5)
    np.clip(mountain, 0, 1.6, out=mountain)
    mountain *= 1 + ridges
    return level, mountain


def _ridge(noise: Plane) -> Plane:
    return np.float32(0.75) - np.abs(noise)


def _ridge_amplitude(wavelength: Plane) -> Plane:
    """Ridges belong to mountains: none are wider than some 250 km."""
    return np.asarray(np.minimum(0.55 * (wavelength / 250.0) ** 0.8, 0.55) * np.exp(-((wavelength / 400.0) ** 2)))


def _fractal(noise: SphereNoise, points: Plane, frequency: float, octaves: int, gain: float) -> Plane:
    total = np.zeros(points.shape[1:], dtype=np.float32)
    for octave in range(octaves):
        total += np.float32(gain**octave) * noise(points, frequency * 2.0**octave)
    return total


def _quantile(
    values: npt.NDArray[np.float32], weights: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return np.asarray(np.interp(shares, total / total[-1], values[order]))


def _step(x: Plane, start: float, end: float) -> Plane:
    """0 below start, 1 above end, smooth between."""
    t = np.clip((x - start) / (end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)
