"""Pixels as ground: square metres, the grid of three by three that people name places by, coordinates."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

Mask = npt.NDArray[np.bool_]
Place = Literal[
    "top left", "top center", "top right", "center left", "center", "center right", "bottom left", "bottom center",
    "bottom right", "top", "bottom", "left", "right", "upper half", "lower half", "left half", "right half",
]  # fmt: skip
"""A cell of the grid of three by three, a row or column of cells at an edge, or a half. Top is where row 0 is."""
PLACES: tuple[Place, ...] = get_args(Place)
CELLS: tuple[Place, ...] = PLACES[:9]
"""The cells, row by row."""

_EARTH = Geod(ellps="WGS84")
_BLOCKS = 8
"""Blocks along a side in which pixels count as equally large."""


def pixel_areas(
    shape: tuple[int, int], transform: Affine, crs: CRS | None, gsd: float | None = None
) -> npt.NDArray[np.float64] | None:
    """Square metres on the ground of each pixel.

    With a reference system they are those of the WGS84 ellipsoid, of eight by eight blocks of pixels whose pixels count
    as equally large; the sum is that of the whole picture.

    Args:
        shape: height and width.
        transform: from (column, row) to coordinates of `crs`.
        crs: the reference system, or None.
        gsd: metres per pixel of a picture without one.

    Returns:
        float64 (h, w), or None if neither is known.
    """
    if crs is None:
        return None if gsd is None else np.full(shape, gsd * gsd)
    height, width = shape
    rows = np.unique(np.linspace(0, height, min(_BLOCKS, height) + 1).astype(int))
    columns = np.unique(np.linspace(0, width, min(_BLOCKS, width) + 1).astype(int))
    grid_columns, grid_rows = np.meshgrid(columns, rows)
    longitudes, latitudes = coordinates(grid_rows.ravel(), grid_columns.ravel(), transform, crs)
    east, north = longitudes.reshape(grid_rows.shape), latitudes.reshape(grid_rows.shape)
    areas = np.empty(shape)
    for i in range(len(rows) - 1):
        for j in range(len(columns) - 1):
            ring = ((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j))
            # A parallel is no geodesic, but over a block of a picture the two differ by less than the digits shown.
            block, _ = _EARTH.polygon_area_perimeter([east[corner] for corner in ring], [north[c] for c in ring])
            pixels = (rows[i + 1] - rows[i]) * (columns[j + 1] - columns[j])
            areas[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = abs(block) / pixels
    return areas


def coordinates(
    rows: npt.NDArray[Any], columns: npt.NDArray[Any], transform: Affine, crs: CRS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Longitudes and latitudes in degrees of places in a picture, counted in pixels from its upper left corner."""
    x = transform.c + transform.a * columns + transform.b * rows
    y = transform.f + transform.d * columns + transform.e * rows
    longitudes, latitudes = transform_points(crs, CRS.from_epsg(4326), list(x), list(y))[:2]
    return np.asarray(longitudes), np.asarray(latitudes)


def cell_of(row: float, column: float, shape: tuple[int, int]) -> Place:
    """The cell of the grid of three by three that a place lies in."""
    height, width = shape
    return CELLS[3 * min(2, int(3 * row / height)) + min(2, int(3 * column / width))]


def inside(place: Place, shape: tuple[int, int]) -> Mask:
    """The pixels of a place: bool (h, w)."""
    height, width = shape
    rows, columns = np.ogrid[:height, :width]
    words = place.split()
    everything: Mask = np.ones(shape, dtype=np.bool_)
    if words[-1] == "half":
        lower, right = 2 * rows >= height, 2 * columns >= width
        halves = {"upper": ~lower, "lower": lower, "left": ~right, "right": right}
        return everything & halves[words[0]]
    row, column = 3 * rows // height, 3 * columns // width
    if words[0] in ("top", "center", "bottom"):
        # "center" alone is the middle cell; "top" and "bottom" alone are rows.
        everything &= row == ("top", "center", "bottom").index(words[0])
    if words[-1] in ("left", "center", "right"):
        everything &= column == ("left", "center", "right").index(words[-1])
    return everything
