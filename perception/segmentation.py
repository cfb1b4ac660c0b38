"""A mask of what was named, clicked or boxed in one picture, and the files it becomes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from PIL import Image
from rasterio import features
from rasterio.crs import CRS
from rasterio.warp import transform_geom
from scipy import ndimage
from shapely.geometry import shape as shapely_shape

from earthgen.errors import ExportError
from perception.detection import COORDINATE_DIGITS, WGS84_EARTH, by_the_right_hand, encoded_geotiff, write_whole
from perception.errors import PromptError

COLOUR = (178, 75, 243)
"""Of a mask over a picture: nothing on the ground is of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What was found in a picture.

    Attributes:
        mask: bool (h, w), where it is.
        probability: float32 (h, w) in [0, 1], how likely it is there.
        asked: the phrase, or what was clicked or boxed, in words.
        quality: the model's own guess of the mask's IoU, of clicks and boxes; None of a phrase.
        transform: from (column, row) to coordinates of `crs`; None for pixels.
        crs: reference system, or None.
        model: name of the model that found it.
    """

    mask: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float32]
    asked: str
    quality: float | None = None
    transform: Affine | None = None
    crs: CRS | None = None
    model: str = ""

    def geotiff(self, tags: Mapping[str, str] | None = None) -> bytes:
        """A GeoTIFF of two 8-bit bands: the mask (0 or 1) and its probability (0 to 255).

        Args:
            tags: to write beside those that name the model and the question.
        """
        bands = {
            "mask": self.mask.astype(np.uint8),
            "probability, 0 to 255": np.rint(self.probability * 255).astype(np.uint8),
        }
        named = {"EARTHGEN_MODEL": self.model, "EARTHGEN_ASKED": self.asked}
        return encoded_geotiff(bands, self.transform or Affine.identity(), self.crs, named | dict(tags or {}))

    def png(self) -> bytes:
        """A picture (h, w) that is see-through but for the mask, to be laid over the one that was looked at."""
        shown = np.zeros((*self.mask.shape, 4), dtype=np.uint8)
        shown[self.mask] = (*COLOUR, 150)
        edge = self.mask & ~ndimage.binary_erosion(self.mask)
        shown[edge, 3] = 255
        buffer = io.BytesIO()
        Image.fromarray(shown).save(buffer, "PNG")
        return buffer.getvalue()

    def geojson(self, most: int | None = None) -> dict[str, Any]:
        """Its connected areas (eight neighbours) as a GeoJSON feature collection (RFC 7946), the largest first.

        Properties of an area are `pixels`, `area_m2` (on the ellipsoid) and its mean `probability`.

        Args:
            most: keep so many of the largest and say in `left_out` how many others there are; None for all.

        Raises:
            PromptError: the picture had no reference system, so no coordinates can be given.
        """
        if self.crs is None or self.transform is None:
            raise PromptError("the picture has no reference system, so its areas have no coordinates for GeoJSON")
        numbers, count = ndimage.label(self.mask, structure=np.ones((3, 3), dtype=bool))
        pixels = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
        sums = np.bincount(numbers.ravel(), weights=self.probability.ravel(), minlength=count + 1)[1:]
        kept = np.argsort(-pixels, kind="stable")[:most] + 1
        chosen = np.isin(numbers, kept)
        shapes = features.shapes(numbers.astype(np.int32), mask=chosen, connectivity=8, transform=self.transform)
        outlines = {int(number): outline for outline, number in shapes}
        found = []
        for number in kept:
            geometry = transform_geom(self.crs, CRS.from_epsg(4326), outlines[int(number)], precision=COORDINATE_DIGITS)
            geometry["coordinates"] = by_the_right_hand(geometry["coordinates"])
            square_metres, _ = WGS84_EARTH.geometry_area_perimeter(shapely_shape(geometry))
            properties = {
                "pixels": int(pixels[number - 1]),
                "area_m2": round(abs(square_metres), 2),
                "probability": round(float(sums[number - 1] / pixels[number - 1]), 4),
            }
            found.append({"type": "Feature", "properties": properties, "geometry": geometry})
        collection: dict[str, Any] = {"type": "FeatureCollection", "features": found}
        return collection if most is None else collection | {"left_out": count - len(found)}

    def write(self, path: str | Path) -> None:
        """Write a file, whole or not at all: GeoTIFF, PNG or GeoJSON by its ending.

        Raises:
            PromptError: the picture had no reference system, and GeoJSON is asked for.
            ExportError: the file cannot be written, or its name ends otherwise.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending in (".tif", ".tiff"):
            content = self.geotiff()
        elif ending == ".png":
            content = self.png()
        elif ending in (".geojson", ".json"):
            content = json.dumps(self.geojson()).encode()
        else:
            raise ExportError(f"{path} does not end in .tif, .png or .geojson")
        write_whole(path, content)
