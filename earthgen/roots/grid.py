"""Square Web Mercator grids: randomness from a seed, blurs, doublings and noise on the sphere.

Planes are float32 (n, n): row 0 at the northern edge, columns wrap. Mercator is conformal, so noise that is
isotropic in a small part of the plane is isotropic on the ground there; only its scale changes with latitude.

All randomness is raw words of NumPy's Philox generator keyed by (seed, stream): NumPy promises that the raw
stream of a bit generator never changes, which it does not promise for its distributions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import EQUATOR_GSD, TILE_SIZE

Plane = npt.NDArray[np.float32]

EARTH_RADIUS_KM = 6371.0
_STRIP, _POINTS = 32, 32768
"""Rows and points worked on at a time."""
_EQUATOR_KM = EQUATOR_GSD * TILE_SIZE / 1000


def uniform(seed: int, stream: int, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers in 0 .. 1 that depend on seed and stream alone."""
    words = _raw(seed, stream, count)
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


def white_noise(seed: int, stream: int, size: int) -> Plane:
    """Near-normal white noise of mean 0 and variance 1, (size, size): sums of four 16-bit uniforms."""
    words = _raw(seed, stream, size * size).view(np.uint16).reshape(size, size, 4)
    total = words[..., 0].astype(np.float32)
    for k in (1, 2, 3):
        total += words[..., k]
    total -= np.float32(2 * 65535)
    total *= np.float32(1 / (65536 * np.sqrt(4 / 12)))
    return total


def row_latitude(size: int) -> npt.NDArray[np.float64]:
    """Latitudes of a grid's rows in radians, (size,)."""
    return np.asarray(np.arctan(np.sinh(np.pi * (1 - 2 * (np.arange(size) + 0.5) / size))))


def row_spacing_km(size: int) -> Plane:
    """True kilometres between a grid's pixels in each row, (size, 1)."""
    return (np.cos(row_latitude(size))[:, None] * (_EQUATOR_KM / size)).astype(np.float32)


def row_area(size: int) -> npt.NDArray[np.float64]:
    """Share of the sphere's area that one pixel of each row has, up to a factor, (size, 1)."""
    return np.asarray(np.cos(row_latitude(size))[:, None] ** 2)


def unit_vectors(size: int) -> Plane:
    """Points of the unit sphere, (3, size, size)."""
    latitude = row_latitude(size)[:, None]
    longitude = (2 * np.pi * (np.arange(size) + 0.5) / size - np.pi)[None]
    return np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.broadcast_to(np.sin(latitude), (size, size)),
        ]
    ).astype(np.float32)


def double(plane: Plane) -> Plane:
    """A plane at twice the resolution: one step of quadratic B-spline subdivision, (2 n, 2 n)."""
    height, width = plane.shape
    out = np.empty((2 * height, 2 * width), dtype=np.float32)
    # Some rows at a time, so that what is in work stays in the processor's cache.
    for first in range(0, height, _STRIP):
        last = min(first + _STRIP, height)
        strip = plane[max(first - 1, 0) : min(last + 1, height)]
        tall = np.empty((2 * (last - first), width), dtype=np.float32)
        near, far = strip * np.float32(0.75), strip * np.float32(0.25)
        offset = first - max(first - 1, 0)
        middle = near[offset : offset + last - first]
        above = far[max(offset - 1, 0) : offset + last - first - 1]
        below = far[offset + 1 : offset + last - first + 1]
        np.add(middle[len(middle) - len(above) :], above, out=tall[2 * (len(middle) - len(above)) :: 2])
        np.add(middle[: len(below)], below, out=tall[1 : 2 * len(below) : 2])
        # The world's first and last rows have no neighbour.
        if len(above) < len(middle):
            tall[0] = strip[0]
        if len(below) < len(middle):
            tall[-1] = strip[-1]
        _double_columns(tall, out[2 * first : 2 * last])
    return out


def soften(plane: Plane) -> Plane:
    """White noise (n, n) made smooth over some three pixels, its variance kept: a 1-2-1 kernel both ways.

    Unlike a doubling, this leaves every column and row alike, so the finest octaves should come from here.
    """
    out = np.empty_like(plane)
    size = plane.shape[0]
    for first in range(0, size, _STRIP):
        last = min(first + _STRIP, size)
        strip = plane[np.clip(np.arange(first - 1, last + 1), 0, size - 1)]
        tall = strip[1:-1] * np.float32(2) + strip[:-2] + strip[2:]
        wide = tall * np.float32(2)
        wide[:, 1:] += tall[:, :-1]
        wide[:, 0] += tall[:, -1]
        wide[:, :-1] += tall[:, 1:]
        wide[:, -1] += tall[:, 0]
        # The kernel's squares sum to 36 / 256.
        np.multiply(wide, np.float32(1 / 6), out=out[first:last])
    return out


def halve(plane: Plane, times: int = 1) -> Plane:
    """Means over squares of 2**times pixels."""
    side = 2**times
    return np.asarray(plane.reshape(plane.shape[0] // side, side, plane.shape[1] // side, side).mean((1, 3)))


def blur_km(plane: Plane, kilometres: float, rounds: int = 2) -> Plane:
    """Repeated box blur whose half-width is the same number of kilometres at each latitude, at least half a pixel."""
    size = plane.shape[0]
    half = np.clip(kilometres / row_spacing_km(size), 0.5, size / 4).astype(np.float64)
    for _ in range(rounds):
        plane = _box_variable(plane, half)
    return plane


class SphereNoise:
    """Perlin's gradient noise in the space around the unit sphere.

    Args:
        seed: the world's.
        stream: which field.
    """

    def __init__(self, seed: int, stream: int) -> None:
        draws = uniform(seed, stream, 4 * 256)
        self._permutation = np.argsort(draws[:256], kind="stable").astype(np.int32)
        height, angle = 2 * draws[256:512] - 1, 2 * np.pi * draws[512:768]
        ring = np.sqrt(1 - height * height)
        self._gradients = np.stack([ring * np.cos(angle), ring * np.sin(angle), height]).astype(np.float32)

    def __call__(self, points: Plane, frequency: float) -> Plane:
        """Noise of about unit variance at points (3, ...), with cells of 1 / frequency."""
        flat = points.reshape(3, -1)
        result = np.empty(flat.shape[1], dtype=np.float32)
        for first in range(0, flat.shape[1], _POINTS):
            part = slice(first, first + _POINTS)
            result[part] = self._at(flat[:, part] * np.float32(frequency) + np.float32(100.5))
        return result.reshape(points.shape[1:])

    def _at(self, scaled: Plane) -> Plane:
        cell = np.floor(scaled).astype(np.int32)
        offset = scaled - cell
        fade = offset * offset * offset * (offset * (offset * 6 - 15) + 10)
        total = np.zeros(scaled.shape[1], dtype=np.float32)
        for x in (0, 1):
            across = self._permutation[(cell[0] + x) & 255]
            for y in (0, 1):
                along = self._permutation[(across + cell[1] + y) & 255]
                plane_weight = (fade[0] if x else 1 - fade[0]) * (fade[1] if y else 1 - fade[1])
                for z in (0, 1):
                    index = self._permutation[(along + cell[2] + z) & 255]
                    dot = self._gradients[0][index] * (offset[0] - x)
                    dot += self._gradients[1][index] * (offset[1] - y)
                    dot += self._gradients[2][index] * (offset[2] - z)
                    dot *= fade[2] if z else 1 - fade[2]
                    dot *= plane_weight
                    total += dot
        total *= np.float32(3.9)
        return total


def _raw(seed: int, stream: int, count: int) -> npt.NDArray[np.uint64]:
    generator = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    return np.asarray(generator.random_raw(count), dtype=np.uint64)


def _double_columns(plane: Plane, out: Plane) -> None:
    near, far = plane * np.float32(0.75), plane * np.float32(0.25)
    np.add(near[:, 1:], far[:, :-1], out=out[:, 2::2])
    np.add(near[:, 0], far[:, -1], out=out[:, 0])
    np.add(near[:, :-1], far[:, 1:], out=out[:, 1:-1:2])
    np.add(near[:, -1], far[:, 0], out=out[:, -1])


def _box_variable(plane: Plane, half: npt.NDArray[np.float64]) -> Plane:
    """Box blur of half-width half[row, 0] pixels, fractional, along rows and columns."""
    size = plane.shape[0]
    pad = int(np.ceil(half.max())) + 2
    total = np.cumsum(np.pad(plane, ((0, 0), (pad, pad)), mode="wrap"), axis=1, dtype=np.float64)
    total = np.concatenate([np.zeros((size, 1)), total], axis=1)
    centre = np.arange(size)[None] + 0.5 + pad
    across = (_at(total, centre + half) - _at(total, centre - half)) / (2 * half)

    padded = np.pad(across, ((pad, pad), (0, 0)), mode="edge")
    total = np.concatenate([np.zeros((1, size)), np.cumsum(padded, axis=0)]).T
    centre = np.arange(size)[None] + 0.5 + pad
    return ((_at(total, centre + half.T) - _at(total, centre - half.T)) / (2 * half.T)).T.astype(np.float32)


def _at(total: npt.NDArray[np.float64], position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Columns of `total` at fractional positions: (rows, n) from positions (rows or 1, n)."""
    low = np.floor(position).astype(int)
    part = position - low
    rows = np.arange(total.shape[0])[:, None]
    return np.asarray(total[rows, low] * (1 - part) + total[rows, low + 1] * part)
