"""Which tiles an archive holds, and in which order they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from earthgen.errors import AddressError
from earthgen.pyramid import TILE_SIZE, Bounds, Box, bounds_box, box_bounds, check_zoom


class TileAddress(NamedTuple):
    """A tile: zoom, column from 180 degrees west, row from the north."""

    z: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class TileSet:
    """The tiles of some zooms that cover one area.

    Iterating gives a tile before the tiles below it and all of these before its neighbour, so that what tiles are made
    from is still in memory when the next one needs it. The order is a matter of the set alone.

    Attributes:
        min_zoom: the coarsest zoom.
        max_zoom: the finest zoom.
        left: the first column at the finest zoom.
        top: the first row at the finest zoom.
        right: one past the last column.
        bottom: one past the last row.
    """

    min_zoom: int
    max_zoom: int
    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def covering(cls, bounds: Bounds, min_zoom: int, max_zoom: int) -> TileSet:
        """The tiles that cover west, south, east, north (degrees).

        Raises:
            AddressError: bounds or zooms outside the pyramid, or the coarser zoom after the finer one.
        """
        check_zoom(min_zoom)
        check_zoom(max_zoom)
        if min_zoom > max_zoom:
            raise AddressError(f"zooms {min_zoom}-{max_zoom}: the coarser zoom comes first")
        box = bounds_box(bounds, max_zoom)
        last_row, last_column = box.row + box.height - 1, box.column + box.width - 1
        return cls(
            min_zoom,
            max_zoom,
            box.column // TILE_SIZE,
            box.row // TILE_SIZE,
            last_column // TILE_SIZE + 1,
            last_row // TILE_SIZE + 1,
        )

    def range_at(self, zoom: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom at a zoom: whatever the finest tiles lie in."""
        up = self.max_zoom - zoom
        return self.left >> up, self.top >> up, ((self.right - 1) >> up) + 1, ((self.bottom - 1) >> up) + 1

    def counts(self) -> dict[int, int]:
        """How many tiles each zoom has."""
        ranges = {zoom: self.range_at(zoom) for zoom in range(self.min_zoom, self.max_zoom + 1)}
        return {zoom: (right - left) * (bottom - top) for zoom, (left, top, right, bottom) in ranges.items()}

    @property
    def total(self) -> int:
        """How many tiles there are."""
        return sum(self.counts().values())

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in degrees of the finest tiles."""
        height, width = self.bottom - self.top, self.right - self.left
        return box_bounds(
            Box(
                self.max_zoom,
                self.top * TILE_SIZE,
                self.left * TILE_SIZE,
                height * TILE_SIZE,
                width * TILE_SIZE,
            )
        )

    @property
    def center_zoom(self) -> int:
        """A zoom at which a map may begin: the finest at which the area is at most two tiles across."""
        across = max(self.right - self.left, self.bottom - self.top)
        return max(self.min_zoom, self.max_zoom - max(0, (across - 1).bit_length() - 1))

    def __contains__(self, tile: object) -> bool:
        if not isinstance(tile, tuple) or len(tile) != 3 or not self.min_zoom <= tile[0] <= self.max_zoom:
            return False
        left, top, right, bottom = self.range_at(tile[0])
        return bool(left <= tile[1] < right and top <= tile[2] < bottom)

    def __iter__(self) -> Iterator[TileAddress]:
        return self._below(0, 0, 0)

    def _below(self, z: int, x: int, y: int) -> Iterator[TileAddress]:
        left, top, right, bottom = self.range_at(z)
        if not (left <= x < right and top <= y < bottom):
            return
        if z >= self.min_zoom:
            yield TileAddress(z, x, y)
        if z < self.max_zoom:
            for down in (0, 1):
                for along in (0, 1):
                    yield from self._below(z + 1, 2 * x + along, 2 * y + down)


def parsed_zooms(text: str) -> tuple[int, int]:
    """The zooms of an option like 0-14 or 12.

    Raises:
        AddressError: the text is something else, or such zooms do not exist.
    """
    first, dash, last = text.partition("-")
    try:
        coarse = int(first)
        fine = int(last) if dash else coarse
    except ValueError as error:
        raise AddressError(f"zooms are {text!r}; a range such as 0-14, or one zoom, is allowed") from error
    check_zoom(coarse)
    check_zoom(fine)
    if coarse > fine:
        raise AddressError(f"zooms {text}: the coarser zoom comes first")
    return coarse, fine
