"""Pictures with other pixels: means over the area of each, by GDAL."""

from __future__ import annotations

import numpy as np
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject

from trainingsets.sample import Bytes

_FLAT = "EPSG:3857"
"""Any system will do in which rows and columns are straight."""


def area_mean(pixels: Bytes, side: int) -> Bytes:
    """The same ground with `side` x `side` pixels; each is the mean of what it covers, parts of pixels by their share.

    Args:
        pixels: uint8 (h, w, 3).
        side: at most h and w.

    Returns:
        uint8 (side, side, 3).
    """
    height, width, bands = pixels.shape
    if (height, width) == (side, side):
        return pixels
    means = np.zeros((bands, side, side), dtype=np.float32)
    # Means of bytes as numbers, to round once, and halves the same way everywhere.
    reproject(
        np.moveaxis(pixels, -1, 0).astype(np.float32),
        means,
        src_transform=from_bounds(0, 0, side, side, width, height),
        dst_transform=from_bounds(0, 0, side, side, side, side),
        src_crs=_FLAT,
        dst_crs=_FLAT,
        resampling=Resampling.average,
        num_threads=1,
    )
    return np.ascontiguousarray(np.moveaxis(np.floor(means + 0.5), 0, -1).clip(0, 255).astype(np.uint8))
