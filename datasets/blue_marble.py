"""NASA Blue Marble as training pictures: land as photographed, sea without its floor.

The mosaic is equirectangular; it is cut into bands of latitude, each narrowed by the cosine of its
middle so that a pixel is about as wide as high. The shaded sea floor is not something that an overhead
picture shows, so water (by the land mask) becomes an even blue that brightens towards the coast.
Longitudes 110..146 E are held out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from scipy import ndimage

from datasets.packs import DatasetNotFoundError, Picture, Split

LICENCE = "public domain; NASA Earth Observatory, Blue Marble Next Generation"
HELD_OUT_DEGREES = (110.0, 146.0)
_DEEP_WATER = np.array([20.0, 46.0, 74.0])
_COAST_WATER = np.array([38.0, 84.0, 104.0])
_BAND_DEGREES = 15.0
_LAST_LATITUDE = 75.0


def read_blue_marble(folder: Path, split: Split) -> Iterator[Picture]:
    """Bands of latitude of the mosaic, for one split.

    Args:
        folder: the folder of the packs.
        split: "val" gives the held-out longitudes, "train" all others.

    Raises:
        DatasetNotFoundError: the mosaic or the mask is missing.
    """
    mosaic_path = folder / "global" / "bluemarble_topo_bathy_8192x4096.jpg"
    mask_path = folder / "global" / "landmask_36000x18000.tif"
    for path in (mosaic_path, mask_path):
        if not path.is_file():
            raise DatasetNotFoundError(f"{path} is missing")
    mosaic = np.asarray(Image.open(mosaic_path).convert("RGB"))
    height, width, _ = mosaic.shape
    with rasterio.open(mask_path) as mask:
        land = mask.read(1, out_shape=(height, width), resampling=Resampling.average, out_dtype="float32")
    land = np.clip(land / max(1.0, float(land.max())), 0.0, 1.0)
    pixels = _without_sea_floor(mosaic, land)
    gsd = 40_075_017.0 / width
    west, east = (round((degrees + 180.0) / 360.0 * width) for degrees in HELD_OUT_DEGREES)
    parts = [("", 0, west), ("", east, width)] if split == "train" else [("", west, east)]
    north = _LAST_LATITUDE
    while north > -_LAST_LATITUDE:
        top = round((90.0 - north) / 180.0 * height)
        bottom = round((90.0 - north + _BAND_DEGREES) / 180.0 * height)
        narrowing = math.cos(math.radians(north - _BAND_DEGREES / 2))
        for _, left, right in parts:
            band = Image.fromarray(pixels[top:bottom, left:right])
            band = band.resize((round(band.width * narrowing), band.height), Image.Resampling.BOX)
            yield Picture(f"global/blue_marble_{north:+.0f}_{left}", gsd, np.asarray(band))
        north -= _BAND_DEGREES


def _without_sea_floor(mosaic: npt.NDArray[np.uint8], land: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    near_coast = np.clip(2.0 * ndimage.gaussian_filter(land, 5.0, mode=("nearest", "wrap")), 0.0, 1.0)[..., None]
    water = _DEEP_WATER + (_COAST_WATER - _DEEP_WATER) * near_coast
    ice = mosaic.min(axis=-1) > 150
    keep = np.where(ice, 1.0, land)[..., None]
    blended = keep * mosaic + (1.0 - keep) * water
    return np.asarray(np.clip(np.rint(blended), 0, 255), dtype=np.uint8)
