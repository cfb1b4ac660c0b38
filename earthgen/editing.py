"""Where an edit changes a world: its entry level, and the feathered mask of its polygon there.

An edit enters at the coarsest level zoom at which its polygon spans enough pixels to hold something. There its
**support** is a set of pixels, found from the polygon alone, so that any part of a mask is the part of the whole
mask. Finer levels inherit it block by block; a coarser pixel is touched if it holds a part of it. What happens to
the pixels is told in `earthgen.plan`.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from cachetools import LRUCache
from rasterio.features import rasterize

from earthgen.errors import WorldError
from earthgen.packed_mask import PackedMask
from earthgen.pyramid import LEVEL_ZOOMS, MAX_LATITUDE, MAX_ZOOM, Box, Window, windows_of, world_size
from earthgen.world import Edit, World

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

FEATHER = 4
"""Pixels at the entry level, inside the polygon, over which an edit fades in."""
LEAST_SPAN = 32
"""Pixels that the polygon's shorter side spans at the entry level, if any level has as many."""
MAX_EDIT_PIXELS = 1 << 24
"""Pixels of the polygon's bounds at the entry level, 4096 x 4096; a longer polygon enters at a coarser level."""
COARSEST_ENTRY = 6
"""The coarsest zoom at which an edit of the Earth or a planet enters."""

_MASK_BYTES = 64 << 20
_ENTRY_BYTES = 4096
"""What a kept mask costs besides its pixels, its polygon above all: a run over many small edits keeps few of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """An edit and its mask.

    Attributes:
        edit: what changes.
        box: the bounds of the support at the entry level; its columns may reach beyond 180 degrees.
        mask: (box.height, box.width), the share of the edit in FEATHER-ths; the support is where it is not 0.
    """

    edit: Edit
    box: Box
    mask: PackedMask

    @property
    def zoom(self) -> int:
        """The entry level."""
        return self.box.zoom

    @property
    def weights(self) -> Pixels:
        """The whole mask, unpacked: uint8 (box.height, box.width)."""
        return self.mask.cut(range(self.box.height), range(self.box.width))

    def weights_in(self, box: Box) -> Pixels:
        """The mask's values in a box at the entry level, 0 outside: uint8 (box.height, box.width)."""
        part, at = self._part(box)
        return placed(part, at, box)

    def within(self, box: Box) -> Mask:
        """Which pixels of a box at any zoom lie in the support, or hold a part of it: (box.height, box.width)."""
        if box.zoom < self.zoom:
            part, at = self._part(_ancestors(box, self.zoom))
            if part.size == 0:
                return np.zeros((box.height, box.width), dtype=np.bool_)
            return placed(gather(part > 0, at, box.zoom, np.logical_or), _ancestors(at, box.zoom), box)
        shift = box.zoom - self.zoom
        rows = np.arange(box.row, box.row + box.height) >> shift
        columns = np.arange(box.column, box.column + box.width) >> shift
        inside = self.weights_in(_ancestors(box, self.zoom)) > 0
        return inside[np.ix_(rows - rows[0], columns - columns[0])]

    def touches(self, box: Box) -> bool:
        """Whether any pixel of a box at any zoom lies in the support or holds a part of it."""
        if box.zoom < self.zoom:
            return _meet(self.box_at(box.zoom), box) and bool(self.within(box).any())
        at_entry = _ancestors(box, self.zoom)
        return _meet(self.box, at_entry) and bool(self.weights_in(at_entry).any())

    def covers(self, box: Box) -> bool:
        """Whether every pixel of a box at the entry level or a finer one lies in the support."""
        return bool((self.weights_in(_ancestors(box, self.zoom)) > 0).all())

    def windows(self) -> tuple[Window, ...]:
        """The windows of the entry level that hold a part of the support."""
        return tuple(window for window in windows_of(self.box) if self.touches(window.box))

    def box_at(self, zoom: int) -> Box:
        """The pixels of a zoom that hold the bounds of the support, or that they consist of at a finer zoom."""
        return _ancestors(self.box, zoom)

    def _part(self, box: Box) -> tuple[Pixels, Box]:
        """The part of the mask that lies in a box at the entry level, or a little more, and where it is."""
        rows = np.arange(self.box.height) + (self.box.row - box.row)
        columns = (np.arange(self.box.width) + (self.box.column - box.column)) % world_size(self.zoom)
        down, across = _span((rows >= 0) & (rows < box.height)), _span(columns < box.width)
        at = Box(self.zoom, self.box.row + down.start, self.box.column + across.start, len(down), len(across))
        return self.mask.cut(down, across), at


def layers_of(world: World) -> tuple[Layer, ...]:
    """The edits of a world with their masks, in order.

    Raises:
        WorldError: a polygon without an area, around a pole, outside the projection, smaller than a pixel of the
            finest zoom, or too large to enter at the coarsest level.
    """
    coarsest = max(COARSEST_ENTRY, world.root_zoom)
    return tuple(Layer(edit, *_masks.get(edit.polygon, coarsest)) for edit in world.edits)


def placed(values: npt.NDArray[Any], at: Box, box: Box) -> npt.NDArray[Any]:
    """Values of one box as seen from another of the same zoom, 0 where there are none.

    Args:
        values: (at.height, at.width, ...).
        at: where they are.
        box: what to show of them; columns of both wrap at 180 degrees.

    Returns:
        (box.height, box.width, ...).
    """
    out = np.zeros((box.height, box.width, *values.shape[2:]), dtype=values.dtype)
    rows = np.arange(box.row, box.row + box.height) - at.row
    columns = (np.arange(box.column, box.column + box.width) - at.column) % world_size(box.zoom)
    here, there = np.flatnonzero((rows >= 0) & (rows < at.height)), np.flatnonzero(columns < at.width)
    out[np.ix_(here, there)] = values[np.ix_(rows[here], columns[there])]
    return out


def gather(values: npt.NDArray[Any], at: Box, zoom: int, how: np.ufunc) -> npt.NDArray[Any]:
    """Values of a box put together by the pixels of a coarser zoom that hold them.

    Args:
        values: (at.height, at.width, ...).
        at: where they are.
        zoom: the coarser zoom.
        how: np.add or np.logical_or.

    Returns:
        (height, width, ...) of the pixels of `zoom` that hold `at`.
    """
    shift = at.zoom - zoom
    for axis, (start, length) in enumerate(((at.row, at.height), (at.column, at.width))):
        parents = np.arange(start >> shift, (start + length - 1 >> shift) + 1)
        values = how.reduceat(values, np.maximum((parents << shift) - start, 0), axis=axis)
    return values


def _ancestors(box: Box, zoom: int) -> Box:
    """The pixels of `zoom` that hold a box, or that a box of a coarser zoom consists of."""
    shift = box.zoom - zoom
    if shift <= 0:
        return Box(zoom, *(value << -shift for value in (box.row, box.column, box.height, box.width)))
    row, column = box.row >> shift, box.column >> shift
    bottom, right = box.row + box.height - 1 >> shift, box.column + box.width - 1 >> shift
    return Box(zoom, row, column, bottom - row + 1, right - column + 1)


def _span(wanted: Mask) -> range:
    """From the first to the last place of a row that is wanted."""
    places = np.flatnonzero(wanted)
    return range(int(places[0]), int(places[-1]) + 1) if places.size else range(0)


def _meet(one: Box, other: Box) -> bool:
    """Whether two boxes of one zoom share pixels; columns wrap."""
    if one.row >= other.row + other.height or other.row >= one.row + one.height:
        return False
    size = world_size(one.zoom)
    return (other.column - one.column) % size < one.width or (one.column - other.column) % size < other.width


class _Masks:
    """The masks of the last polygons, so that requests of one world make them once."""

    def __init__(self, capacity: int) -> None:
        self._lock = threading.Lock()
        self._recent: LRUCache[Any, tuple[Box, PackedMask]] = LRUCache(capacity, getsizeof=_size)

    def get(self, polygon: tuple[tuple[float, float], ...], coarsest: int) -> tuple[Box, PackedMask]:
        key = (polygon, coarsest)
        with self._lock:
            mask = self._recent.get(key)
        if mask is None:
            box, weights = _mask(polygon, coarsest)
            # A world may have 256 of them, of 16 MB each.
            mask = box, PackedMask(weights)
            with self._lock:
                if _size(mask) <= self._recent.maxsize:
                    self._recent[key] = mask
        return mask


def _size(mask: tuple[Box, PackedMask]) -> int:
    return mask[1].nbytes + _ENTRY_BYTES


_masks = _Masks(_MASK_BYTES)


def _mask(polygon: tuple[tuple[float, float], ...], coarsest: int) -> tuple[Box, Pixels]:
    """Bounds and weights of a polygon's support at its entry level."""
    ring = _ring(polygon)
    zoom = _entry_zoom(ring, coarsest)
    pixels = ring * world_size(zoom)
    # One pixel around, so that the fading sees the outside.
    left, top = np.floor(pixels.min(axis=0)).astype(int) - 1
    right, bottom = np.ceil(pixels.max(axis=0)).astype(int) + 1
    shape = {"type": "Polygon", "coordinates": [[*map(tuple, pixels - (left, top)), tuple(pixels[0] - (left, top))]]}
    inside = rasterize([(shape, 1)], out_shape=(bottom - top, right - left), dtype="uint8")
    if not inside.any():
        raise WorldError(
            f"edit polygon at {polygon[0]} holds no pixel of zoom {zoom}, where it enters; a wider one is needed"
        )
    weights = inside.copy()
    for _ in range(FEATHER - 1):
        inside = _eroded(inside)
        weights += inside
    rows, columns = np.flatnonzero(weights.any(axis=1)), np.flatnonzero(weights.any(axis=0))
    weights = np.ascontiguousarray(weights[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    box = Box(zoom, int(top + rows[0]), int(left + columns[0]) % world_size(zoom), *weights.shape)
    return box, weights


def _ring(polygon: tuple[tuple[float, float], ...]) -> Points:
    """Vertices (n, 2) as shares of the world's width: column, row; columns go on where the ring crosses 180 degrees."""
    longitudes, latitudes = np.array(polygon, dtype=np.float64).T
    steps = np.diff(longitudes, append=longitudes[0])
    shorter = (steps + 180.0) % 360.0 - 180.0
    if abs(shorter.sum()) > 180:
        raise WorldError(f"edit polygon at {polygon[0]} goes around a pole; cut it in two")
    x = (longitudes[0] + np.concatenate([[0.0], np.cumsum(shorter[:-1])]) + 180.0) / 360.0
    if latitudes.min() > MAX_LATITUDE or latitudes.max() < -MAX_LATITUDE:
        raise WorldError(
            f"edit polygon at {polygon[0]} lies outside Web Mercator, which ends at {MAX_LATITUDE:.4f} degrees"
        )
    y = np.radians(np.clip(latitudes, -MAX_LATITUDE, MAX_LATITUDE))
    return np.stack([x, (1.0 - np.arcsinh(np.tan(y)) / math.pi) / 2.0], axis=1)


def _entry_zoom(ring: Points, coarsest: int) -> int:
    """The entry level of a ring."""
    around = shapely.MultiPoint(ring).minimum_rotated_rectangle
    if around.geom_type != "Polygon" or around.area == 0.0:
        raise WorldError("edit polygon has no area: its vertices lie on a line")
    corners = shapely.get_coordinates(around)
    shorter_side = min(np.hypot(*(corners[1] - corners[0])), np.hypot(*(corners[2] - corners[1])))
    width, height = np.ptp(ring, axis=0)
    zoom = coarsest
    while zoom < MAX_ZOOM and shorter_side * world_size(zoom) < LEAST_SPAN:
        zoom += LEVEL_ZOOMS
    while width * height * world_size(zoom) ** 2 > MAX_EDIT_PIXELS:
        if zoom == coarsest:
            wide, high = math.ceil(width * world_size(zoom)), math.ceil(height * world_size(zoom))
            raise WorldError(
                f"edit polygon spans {wide} x {high} pixels at zoom {zoom}, the coarsest where edits of this world"
                f" enter; at most {MAX_EDIT_PIXELS} pixels are allowed"
            )
        zoom -= LEVEL_ZOOMS
    return zoom


def _eroded(inside: Pixels) -> Pixels:
    """Pixels whose eight neighbours are inside too; the border of the array is outside."""
    shrunk = np.zeros_like(inside)
    rows = np.minimum(np.minimum(inside[:-2], inside[1:-1]), inside[2:])
    shrunk[1:-1, 1:-1] = np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return shrunk
