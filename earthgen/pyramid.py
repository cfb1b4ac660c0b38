"""Web Mercator arithmetic: zooms, pixels, tiles, windows and ground sampling distance.

Global pixels are the only coordinates of the engine: at zoom z the world is a square of 256 * 2**z
pixels, row 0 at the northern edge, column 0 at 180 degrees west. Columns wrap modulo the world's
width; rows end at the edges of the projection (about 85.05 degrees).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import mercantile
import numpy as np
import numpy.typing as npt

from earthgen.errors import AddressError

TILE_SIZE = 256
"""Pixels along a tile's side."""
ROOT_ZOOM = 4
"""The zoom at which a world's root is given."""
MAX_ZOOM = 18
"""The finest zoom: 0.60 m per pixel at the equator."""
LEVEL_ZOOMS = 2
"""Zooms between one cascade level and the next."""
SCALE = 4
"""Children along a side of their parent pixel, 2 ** LEVEL_ZOOMS."""
WINDOW_SIZE = 128
"""Pixels along the side of a window, the unit of generation and of storage."""
EQUATOR_GSD = 2 * math.pi * 6378137.0 / TILE_SIZE
"""Metres per pixel at zoom 0 on the equator: 156543.03."""
MAX_LATITUDE = 85.0511287798066
"""Degrees: the northern and southern edge of Web Mercator."""

Bounds = tuple[float, float, float, float]
"""West, south, east, north in degrees."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of global pixels at one zoom; columns may leave 0 .. world_size(zoom) - 1 and then wrap."""

    zoom: int
    row: int
    column: int
    height: int
    width: int

    def grown(self, margin: int) -> Box:
        """The box with `margin` pixels more on each side."""
        return Box(
            self.zoom, self.row - margin, self.column - margin, self.height + 2 * margin, self.width + 2 * margin
        )

    def parent(self) -> Box:
        """The box one level up; all four edges must be multiples of SCALE."""
        if any(value % SCALE for value in (self.row, self.column, self.height, self.width)):
            raise AddressError(f"{self} does not consist of whole parent pixels")
        return Box(
            self.zoom - LEVEL_ZOOMS, self.row // SCALE, self.column // SCALE, self.height // SCALE, self.width // SCALE
        )


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One cell of a level's fixed lattice of windows: WINDOW_SIZE pixels square."""

    zoom: int
    row: int
    column: int

    @property
    def box(self) -> Box:
        """The pixels of the window."""
        return Box(self.zoom, self.row * WINDOW_SIZE, self.column * WINDOW_SIZE, WINDOW_SIZE, WINDOW_SIZE)


def world_size(zoom: int) -> int:
    """Pixels along the side of the world at `zoom`."""
    return TILE_SIZE << zoom


def check_zoom(zoom: int) -> None:
    """Raise AddressError unless 0 <= zoom <= MAX_ZOOM."""
    if not 0 <= zoom <= MAX_ZOOM:
        raise AddressError(f"zoom {zoom} is outside 0..{MAX_ZOOM}")


def check_tile(zoom: int, x: int, y: int) -> None:
    """Raise AddressError unless (zoom, x, y) is a tile of the pyramid."""
    check_zoom(zoom)
    last = 2**zoom - 1
    if not 0 <= x <= last or not 0 <= y <= last:
        raise AddressError(f"tile {zoom}/{x}/{y} does not exist: at zoom {zoom} x and y lie in 0..{last}")


def tile_box(zoom: int, x: int, y: int) -> Box:
    """The pixels of a tile at its own zoom."""
    check_tile(zoom, x, y)
    return Box(zoom, y * TILE_SIZE, x * TILE_SIZE, TILE_SIZE, TILE_SIZE)


def level_zoom(zoom: int, root_zoom: int = ROOT_ZOOM) -> int:
    """The cascade level (even zoom >= root_zoom) whose pixels make up `zoom`: coarser zooms are its means."""
    check_zoom(zoom)
    return max(root_zoom, zoom + zoom % LEVEL_ZOOMS)


def ground_sampling_distance(zoom: float, latitude: float) -> float:
    """True metres per pixel at `zoom` and `latitude` (degrees)."""
    return EQUATOR_GSD * math.cos(math.radians(latitude)) / math.pow(2.0, zoom)


def zoom_for_gsd(gsd: float, latitude: float) -> int:
    """The coarsest zoom whose true GSD at `latitude` is at most `gsd` metres.

    Raises:
        AddressError: `gsd` is not a positive number, or is finer than MAX_ZOOM gives there.
    """
    if not math.isfinite(gsd) or gsd <= 0:
        raise AddressError(f"GSD {gsd} is not a positive number of metres per pixel")
    # A hair of tolerance: a GSD that was computed from a zoom must give that zoom back.
    zoom = math.ceil(math.log2(EQUATOR_GSD * math.cos(math.radians(latitude)) / gsd) - 1e-6)
    if zoom > MAX_ZOOM:
        finest = ground_sampling_distance(MAX_ZOOM, latitude)
        raise AddressError(
            f"GSD {gsd} m is finer than {finest:.3f} m, the finest at latitude {latitude:.2f} (zoom {MAX_ZOOM})"
        )
    return max(0, zoom)


def row_latitudes(zoom: int, row: int, height: int) -> npt.NDArray[np.float64]:
    """Latitude (degrees) of the centres of `height` pixel rows from `row` on; shape (height,).

    Rows beyond the projection's edges get the latitude that Mercator's formula goes on to give.
    """
    fraction = (np.arange(row, row + height, dtype=np.float64) + 0.5) / world_size(zoom)
    return np.degrees(np.arctan(np.sinh(math.pi * (1.0 - 2.0 * fraction))))


def check_bounds(bounds: Bounds) -> None:
    """Raise AddressError unless bounds are finite, west < east, south < north and within the projection."""
    west, south, east, north = bounds
    if not all(map(math.isfinite, bounds)):
        raise AddressError(f"bounds {bounds} hold a number that is not finite")
    if not (-180 <= west <= 180 and -180 <= east <= 180):
        raise AddressError(f"bounds {bounds}: west and east must lie in -180..180 degrees")
    if west >= east:
        raise AddressError(
            f"bounds {bounds}: west must be less than east; ask for a box across 180 degrees as two boxes"
        )
    if not (-90 <= south < north <= 90):
        raise AddressError(f"bounds {bounds}: south must be less than north, both in -90..90 degrees")
    if south >= MAX_LATITUDE or north <= -MAX_LATITUDE:
        raise AddressError(f"bounds {bounds} lie outside Web Mercator, which ends at {MAX_LATITUDE:.4f} degrees")


def bounds_box(bounds: Bounds, zoom: int) -> Box:
    """The smallest box of whole pixels at `zoom` that covers `bounds` (clipped to the projection)."""
    check_zoom(zoom)
    check_bounds(bounds)
    west, south, east, north = bounds
    size = world_size(zoom)
    left, top = _global_pixel(west, min(north, MAX_LATITUDE), size)
    right, bottom = _global_pixel(east, max(south, -MAX_LATITUDE), size)
    # Bounds that were computed from pixel edges must give those edges back: snap within 1e-6 pixel. The last
    # pixel of the world is the one for slivers at its eastern and southern edges.
    column = min(max(0, math.floor(left + 1e-6)), size - 1)
    row = min(max(0, math.floor(top + 1e-6)), size - 1)
    width = min(max(1, math.ceil(right - 1e-6) - column), size - column)
    height = min(max(1, math.ceil(bottom - 1e-6) - row), size - row)
    return Box(zoom, row, column, height, width)


def point_pixel(longitude: float, latitude: float, zoom: int) -> tuple[int, int]:
    """The (row, column) of the pixel at `zoom` that holds a place.

    Raises:
        AddressError: the place is not finite or lies outside the projection.
    """
    check_zoom(zoom)
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise AddressError(f"place ({longitude}, {latitude}) holds a number that is not finite")
    if not -180 <= longitude <= 180 or abs(latitude) > MAX_LATITUDE:
        raise AddressError(
            f"place ({longitude}, {latitude}) is outside longitude -180..180"
            f" and latitude -{MAX_LATITUDE:.4f}..{MAX_LATITUDE:.4f}"
        )
    size = world_size(zoom)
    x, y = _global_pixel(longitude, latitude, size)
    return min(int(y), size - 1), min(int(x), size - 1)


def box_bounds(box: Box) -> Bounds:
    """West, south, east, north in degrees of the outer edges of a box."""
    size = world_size(box.zoom)

    def latitude(row: int) -> float:
        return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / size))))

    def longitude(column: int) -> float:
        return 360.0 * column / size - 180.0

    return longitude(box.column), latitude(box.row + box.height), longitude(box.column + box.width), latitude(box.row)


def box_mercator_bounds(box: Box) -> Bounds:
    """Left, bottom, right, top in EPSG:3857 metres of the outer edges of a box."""
    gsd = EQUATOR_GSD / 2.0**box.zoom
    half = EQUATOR_GSD * TILE_SIZE / 2
    left, top = box.column * gsd - half, half - box.row * gsd
    return left, top - box.height * gsd, left + box.width * gsd, top


def windows_of(box: Box) -> Iterator[Window]:
    """The windows that a box touches, row by row; columns are wrapped, rows beyond the world are left out."""
    across = world_size(box.zoom) // WINDOW_SIZE
    first_row = max(0, box.row // WINDOW_SIZE)
    last_row = min(across - 1, (box.row + box.height - 1) // WINDOW_SIZE)
    seen: set[int] = set()
    columns: list[int] = []
    for column in range(box.column // WINDOW_SIZE, (box.column + box.width - 1) // WINDOW_SIZE + 1):
        if column % across not in seen:
            seen.add(column % across)
            columns.append(column % across)
    for row in range(first_row, last_row + 1):
        for column in columns:
            yield Window(box.zoom, row, column)


def _global_pixel(longitude: float, latitude: float, size: int) -> tuple[float, float]:
    """Fractional (x, y) global pixel of a place."""
    x, y = mercantile.xy(longitude, latitude)
    half = EQUATOR_GSD * TILE_SIZE / 2
    return (x / half + 1) / 2 * size, (1 - y / half) / 2 * size
