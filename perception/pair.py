"""Two pictures of the same ground at two dates.

A `Pair` is what every model of this package looks at: 8-bit colour, one grid, one reference system. Pictures
without a reference system are allowed (most public samples are plain PNG), as long as neither has one.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from perception.errors import ImageError, PairError, first_line

FORMATS = ("GTiff", "PNG", "JPEG", "WEBP", "JP2OpenJPEG")
"""GDAL drivers that read an image. Virtual formats are left out: they can name other files and addresses."""
MAX_SIDE = 32_768
"""Most pixels along a side of an image."""
MAX_PIXELS = 1 << 27
"""Most pixels of an image."""
GRID_TOLERANCE = 0.1
"""How far the corners of two images may lie apart, in pixels, before they count as different ground."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What is known to have changed.

    Attributes:
        change: bool (h, w).
        before: uint8 (h, w), 0 where unchanged or unknown and otherwise 1 + the index of a class; or None.
        after: the same at the later date; or None.
        classes: names of the classes.
    """

    change: npt.NDArray[np.bool_]
    before: npt.NDArray[np.uint8] | None = None
    after: npt.NDArray[np.uint8] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.before is None) != (self.after is None):
            raise PairError("labels name the classes of one date only; give both or neither")
        for name, array in (("before", self.before), ("after", self.after)):
            if array is None:
                continue
            if array.shape != self.change.shape:
                raise PairError(f"labels {name} have shape {array.shape}; the change mask has {self.change.shape}")
            if array.size and int(array.max()) > len(self.classes):
                raise PairError(
                    f"labels {name} hold code {int(array.max())}; {len(self.classes)} classes allow 0 to"
                    f" {len(self.classes)}"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two images on one grid.

    Attributes:
        before: uint8 (h, w, 3), red, green, blue.
        after: the same, later.
        transform: from (column, row) to the reference system's coordinates; the identity without one.
        crs: the reference system, or None.
        before_date: when the first was taken, if known.
        after_date: when the second was taken, if known.
        valid: bool (h, w), where both images have data; None means everywhere.
        labels: what is known to have changed.

    Raises:
        PairError: shapes, types or dates do not go together.
    """

    before: npt.NDArray[np.uint8]
    after: npt.NDArray[np.uint8]
    transform: Affine = dataclasses.field(default_factory=Affine.identity)
    crs: CRS | None = None
    before_date: date | None = None
    after_date: date | None = None
    valid: npt.NDArray[np.bool_] | None = None
    labels: Labels | None = None

    def __post_init__(self) -> None:
        for name, image in (("before", self.before), ("after", self.after)):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
                raise PairError(f"image {name} is {image.dtype} {image.shape}; uint8 (height, width, 3) is needed")
        if self.before.shape != self.after.shape:
            raise PairError(
                f"the images differ in size: before has {_size(self.before)} pixels, after has {_size(self.after)}"
            )
        known = None if self.labels is None else self.labels.change
        for name, mask in (("valid mask", self.valid), ("change labels", known)):
            if mask is not None and mask.shape != self.shape:
                raise PairError(f"the {name} have shape {mask.shape}; the images have {self.shape}")
        if self.before_date and self.after_date and self.before_date > self.after_date:
            raise PairError(f"before is dated {self.before_date}, later than after, {self.after_date}; swap them")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.before.shape[0], self.before.shape[1]

    def swapped(self) -> Pair:
        """The same ground with time running backwards; dates are dropped, since they would contradict the order."""
        labels = self.labels and dataclasses.replace(self.labels, before=self.labels.after, after=self.labels.before)
        return dataclasses.replace(
            self, before=self.after, after=self.before, before_date=None, after_date=None, labels=labels
        )

    def tensor(self) -> torch.Tensor:
        """Both images as float32 (t=2, 3, h, w) in [-1, 1]."""
        both = np.stack([self.before, self.after])
        return torch.from_numpy(np.ascontiguousarray(both.transpose(0, 3, 1, 2))).float() / 127.5 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image as it was read: uint8 (h, w, 3), its grid, and bool (h, w) where it has data."""

    pixels: npt.NDArray[np.uint8]
    transform: Affine
    crs: CRS | None
    valid: npt.NDArray[np.bool_]


def read_image(path: str | Path, bands: Sequence[int] = (1, 2, 3)) -> Image:
    """Read three bands of an image file.

    Args:
        path: a GeoTIFF, PNG, JPEG, WebP or JPEG 2000 file.
        bands: red, green and blue, counted from 1.

    Raises:
        ImageError: nothing is there, it is no image, it is damaged or too large, or its bands, types or values
            are not 8-bit colour or floats from 0 to 1.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; an image file is needed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.Env(), DatasetReader(str(path), driver=list(FORMATS)) as dataset:
                _check_layout(path, dataset, bands)
                pixels = dataset.read(list(bands))
                valid = dataset.dataset_mask() > 0
                transform, crs = dataset.transform, dataset.crs
        except RasterioError as error:
            raise ImageError(f"{path} cannot be read as an image: {first_line(error)}") from error
    return Image(np.ascontiguousarray(np.moveaxis(_bytes(path, pixels, valid), 0, -1)), transform, crs, valid)


def read_mask(path: str | Path) -> npt.NDArray[np.bool_]:
    """Read the first band of a label image: bool (h, w), true where it is not 0.

    Raises:
        ImageError: nothing is there or it is no image.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path} does not exist; a label image is needed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.Env(), DatasetReader(str(path), driver=list(FORMATS)) as dataset:
                return np.asarray(dataset.read(1) != 0)
        except RasterioError as error:
            raise ImageError(f"{path} cannot be read as an image: {first_line(error)}") from error


def read_pair(
    before: str | Path,
    after: str | Path,
    *,
    change: str | Path | None = None,
    before_date: date | None = None,
    after_date: date | None = None,
    bands: Sequence[int] = (1, 2, 3),
) -> Pair:
    """Read two image files of the same ground.

    Args:
        before: the earlier image.
        after: the later image, of the same size and on the same grid.
        change: an image of labels, not 0 where something changed.
        before_date: when the first was taken.
        after_date: when the second was taken.
        bands: red, green and blue, counted from 1.

    Raises:
        ImageError: one of the files cannot be used.
        PairError: the two differ in size, reference system or place.
    """
    first, second = read_image(before, bands), read_image(after, bands)
    if first.pixels.shape != second.pixels.shape:
        raise PairError(
            f"the images differ in size: {before} has {_size(first.pixels)} pixels, {after} has {_size(second.pixels)}"
        )
    if first.crs != second.crs:
        raise PairError(
            f"the images differ in reference system: {before} is in {_crs_name(first.crs)}, "
            f"{after} is in {_crs_name(second.crs)}; reproject one onto the other's grid"
        )
    apart = _corners_apart(first, second)
    if apart > GRID_TOLERANCE:
        raise PairError(
            f"the images show different ground: corners of {before} and {after} lie up to {apart:.4g} pixels apart; "
            f"{GRID_TOLERANCE} is allowed, so resample one onto the other's grid"
        )
    return Pair(
        first.pixels,
        second.pixels,
        first.transform,
        first.crs,
        before_date,
        after_date,
        None if first.valid.all() and second.valid.all() else first.valid & second.valid,
        None if change is None else Labels(read_mask(change)),
    )


def _check_layout(path: Path, dataset: Any, bands: Sequence[int]) -> None:
    if len(bands) != 3 or not all(1 <= band <= dataset.count for band in bands):
        raise ImageError(
            f"{path} has {dataset.count} band{'s' * (dataset.count != 1)};"
            f" three of them are needed and {tuple(bands)} were asked for"
        )
    if max(dataset.shape) > MAX_SIDE or dataset.height * dataset.width > MAX_PIXELS:
        raise ImageError(
            f"{path} has {dataset.width} x {dataset.height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS}"
            " in all are allowed"
        )
    kinds = {dataset.dtypes[band - 1] for band in bands}
    if not kinds <= {"uint8", "float32", "float64"}:
        raise ImageError(
            f"{path} holds {' and '.join(sorted(kinds))} pixels; 8-bit colour, or floats from 0 to 1, is needed"
        )


def _bytes(path: Path, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Pixels (3, h, w) as bytes; what is not valid becomes 0."""
    if pixels.dtype == np.uint8:
        return pixels
    known = np.where(valid, pixels, 0)
    if not np.isfinite(known).all():
        raise ImageError(f"{path} holds values that are not numbers (NaN or infinite); fill or mask them first")
    if known.min() < 0 or known.max() > 1:
        raise ImageError(f"{path} holds floats from {known.min():.4g} to {known.max():.4g}; 0 to 1 is needed")
    scaled: npt.NDArray[np.uint8] = np.rint(known * 255).astype(np.uint8)
    return scaled


def _corners_apart(first: Image, second: Image) -> float:
    """The largest distance between equal corners, in pixels of the first image."""
    height, width, _ = first.pixels.shape
    to_pixel = ~first.transform
    apart = 0.0
    for corner in ((0, 0), (width, 0), (0, height), (width, height)):
        column, row = to_pixel * (second.transform * corner)
        apart = max(apart, abs(column - corner[0]), abs(row - corner[1]))
    return apart


def _crs_name(crs: CRS | None) -> str:
    return "none" if crs is None else str(crs)


def _size(pixels: npt.NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
