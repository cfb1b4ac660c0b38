"""What a change detector found, and the files it becomes: a GeoTIFF and GeoJSON polygons."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import Geod
from rasterio import features
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom
from shapely.geometry import shape as shapely_shape

import earthgen
from earthgen.errors import ExportError
from perception.errors import PairError

COORDINATE_DIGITS = 7
"""Decimals of a degree in GeoJSON: about a centimetre."""
WGS84_EARTH = Geod(ellps="WGS84")


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A change map on the grid of its pair.

    Attributes:
        mask: bool (h, w), where something changed.
        logits: float32 (2, h, w), unchanged and changed; their difference is the log odds of change.
        classes: names that `semantics` counts along; empty for a binary detector.
        transform: from (column, row) to coordinates of `crs`.
        crs: reference system, or None if the pair had none.
        semantics: float32 (2, k, h, w), class logits before and after; None for a binary detector.
        model: name of the model that found it.
    """

    mask: npt.NDArray[np.bool_]
    logits: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    transform: Affine
    crs: CRS | None
    semantics: npt.NDArray[np.float32] | None = None
    model: str = ""

    @property
    def probability(self) -> npt.NDArray[np.float32]:
        """Probability of change, float32 (h, w) in [0, 1]."""
        # tanh does not overflow as exp would.
        odds = self.logits[1] - self.logits[0]
        probability: npt.NDArray[np.float32] = 0.5 * (1 + np.tanh(0.5 * odds))
        return probability

    @property
    def labels(self) -> npt.NDArray[np.uint8] | None:
        """uint8 (2, h, w), before and after: 0 where unchanged, else 1 + the index of the likeliest class."""
        if self.semantics is None:
            return None
        likeliest: npt.NDArray[np.uint8] = (self.semantics.argmax(axis=1) + 1).astype(np.uint8)
        return likeliest * self.mask

    def geotiff(self, tags: Mapping[str, str] | None = None) -> bytes:
        """A GeoTIFF of 8-bit bands: change (0 or 1), probability (0 to 255) and, with classes, before and after.

        Args:
            tags: to write beside those that name the model and the classes, code 1 first.
        """
        bands = {
            "change": self.mask.astype(np.uint8),
            "probability of change, 0 to 255": np.rint(self.probability * 255).astype(np.uint8),
        }
        labels = self.labels
        if labels is not None:
            bands |= {"class before": labels[0], "class after": labels[1]}
        return encoded_geotiff(
            bands,
            self.transform,
            self.crs,
            {"EARTHGEN_MODEL": self.model, "EARTHGEN_CLASSES": json.dumps(list(self.classes))} | dict(tags or {}),
        )

    def write_geotiff(self, path: str | Path) -> None:
        """Write `geotiff()` to a file, whole or not at all.

        Raises:
            ExportError: the file cannot be written or its name does not end in .tif or .tiff.
        """
        path = Path(path)
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise ExportError(f"{path} does not end in .tif or .tiff")
        try:
            write_whole(path, self.geotiff())
        except RasterioError as error:
            raise ExportError(f"{path} cannot be written: {error}") from error

    def geojson(self, most: int | None = None) -> dict[str, Any]:
        """Changed areas as a GeoJSON feature collection (RFC 7946, longitude and latitude), the largest first.

        One feature for each connected area (eight neighbours) of one change; its properties are `pixels`, `area_m2`
        (on the ellipsoid), the mean `probability` and, with classes, their names `before` and `after`.

        Args:
            most: keep so many of the largest and say in `left_out` how many others there are; None for all.

        Raises:
            PairError: the pair had no reference system, so no coordinates can be given.
        """
        if self.crs is None:
            raise PairError("the images have no reference system, so the change has no coordinates for GeoJSON")
        labels = self.labels
        codes = self.mask.astype(np.int32)
        if labels is not None:
            codes = (labels[0].astype(np.int32) * 256 + labels[1]) * self.mask
        areas = list(features.shapes(codes, mask=self.mask, connectivity=8, transform=self.transform))
        pixels, probability = self._measured([shape for shape, _ in areas])
        largest = np.argsort(-pixels, kind="stable")[:most]
        shapes = [areas[index][0] for index in largest]
        geometries = transform_geom(self.crs, CRS.from_epsg(4326), shapes, precision=COORDINATE_DIGITS)
        collected = []
        for index, geometry in zip(largest, geometries, strict=True):
            geometry["coordinates"] = by_the_right_hand(geometry["coordinates"])
            square_metres, _ = WGS84_EARTH.geometry_area_perimeter(shapely_shape(geometry))
            properties: dict[str, Any] = {
                "pixels": int(pixels[index]),
                "area_m2": round(abs(square_metres), 2),
                "probability": round(probability[index], 4),
            }
            if labels is not None:
                before, after = divmod(int(areas[index][1]), 256)
                properties |= {"before": self.classes[before - 1], "after": self.classes[after - 1]}
            collected.append({"type": "Feature", "properties": properties, "geometry": geometry})
        collection: dict[str, Any] = {"type": "FeatureCollection", "features": collected}
        return collection if most is None else collection | {"left_out": len(areas) - len(collected)}

    def _measured(self, shapes: list[dict[str, Any]]) -> tuple[npt.NDArray[np.int64], list[float]]:
        """Pixels and mean probability of each shape."""
        if not shapes:
            return np.zeros(0, dtype=np.int64), []
        owner = features.rasterize(
            ((shape, index + 1) for index, shape in enumerate(shapes)),
            out_shape=self.mask.shape,
            transform=self.transform,
            dtype="int32",
        ).ravel()
        pixels = np.bincount(owner, minlength=len(shapes) + 1)[1:]
        sums = np.bincount(owner, weights=self.probability.ravel(), minlength=len(shapes) + 1)[1:]
        return pixels, [float(value) for value in sums / pixels]

    def write_geojson(self, path: str | Path) -> None:
        """Write `geojson()` to a file, whole or not at all.

        Raises:
            PairError: the pair had no reference system.
            ExportError: the file cannot be written.
        """
        write_whole(Path(path), json.dumps(self.geojson()).encode())


def mask_geotiff(
    mask: npt.NDArray[np.bool_], transform: Affine, crs: CRS | None, tags: Mapping[str, str] | None = None
) -> bytes:
    """A GeoTIFF of one 8-bit band: 1 where a mask is set, else 0.

    Args:
        mask: bool (h, w).
        transform: from (column, row) to coordinates of `crs`.
        crs: reference system, or None.
        tags: to write.
    """
    return encoded_geotiff({"selected, 0 or 1": mask.astype(np.uint8)}, transform, crs, tags or {})


def encoded_geotiff(
    bands: Mapping[str, npt.NDArray[np.uint8]], transform: Affine, crs: CRS | None, tags: Mapping[str, str]
) -> bytes:
    """8-bit bands by description as a GeoTIFF."""
    height, width = next(iter(bands.values())).shape
    profile = {"driver": "GTiff", "dtype": "uint8", "count": len(bands), "height": height, "width": width}
    profile |= {"compress": "DEFLATE", "crs": crs, "transform": transform}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**profile) as dataset:
            dataset.write(np.stack(list(bands.values())))
            dataset.descriptions = tuple(bands)
            dataset.update_tags(TIFFTAG_SOFTWARE=f"earthgen {earthgen.__version__}", **tags)
        return bytes(memory.read())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        ExportError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def by_the_right_hand(rings: list[list[Any]]) -> list[list[Any]]:
    """Outer ring counterclockwise, holes clockwise, as RFC 7946 section 3.1.6 asks."""
    turned = []
    for index, ring in enumerate(rings):
        points = np.asarray(ring, dtype=np.float64)
        doubled_area = float(np.sum(points[:-1, 0] * points[1:, 1] - points[1:, 0] * points[:-1, 1]))
        turned.append(list(ring) if (doubled_area > 0) == (index == 0) else list(reversed(ring)))
    return turned
