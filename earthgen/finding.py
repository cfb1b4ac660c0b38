"""Find places in a world by what they look like: "a river mouth", "dense forest", "a harbour".

Tiles of one zoom are generated one by one and compared with the text in the space of an image tower. They come
in an order that covers the area evenly from the first on, coarse to fine, with a look at the neighbours of the best
place in between; so a search can be stopped at any time, and what it has found by then is spread over the area. The
order depends on what is asked alone: the same search finds the same places.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import mercantile
import numpy as np
import numpy.typing as npt

from earthgen.errors import InvalidRequestError, RequestCancelledError
from earthgen.picture import frame_of
from earthgen.pyramid import (
    MAX_LATITUDE,
    MAX_ZOOM,
    TILE_SIZE,
    Bounds,
    Box,
    bounds_box,
    box_bounds,
    box_mercator_bounds,
    check_bounds,
    check_zoom,
    ground_sampling_distance,
    tile_box,
    zoom_for_gsd,
)
from earthgen.tower import ImageTower, image_tower
from earthgen.world import World

WHOLE_WORLD: Bounds = (-180.0, -MAX_LATITUDE, 180.0, MAX_LATITUDE)
MAX_PLACES = 100
MAX_TILES = 4096
ALTERNATIVES: tuple[str, ...] = (
    "satellite image",
    "the ground seen from above",
    "open sea",
    "coast",
    "lake",
    "river",
    "snow and ice",
    "clouds",
    "desert",
    "bare rock",
    "mountains",
    "dense forest",
    "rain forest",
    "tundra",
    "savanna",
    "meadow",
    "farmland with fields",
    "village",
    "city",
    "industrial area",
    "road",
    "airport",
)
"""What else a picture may be: one that looks more like another of these is no find. Those that mean nearly what is
looked for are left out."""
_ALIKE = 0.6
"""Cosine of an alternative to the text from which on they mean nearly the same."""
_SOFTNESS = 0.05
"""Of the maximum over the alternatives, as a cosine."""
_MOST_TILES = 256
"""Tiles of an area at the zoom that a search takes if none is asked for: as many as fit below this."""
_NEIGHBOUR_TURN = 4
"""Each fourth tile is a neighbour of the best place so far."""


class TileSource(Protocol):
    """What a search needs of an `earthgen.Engine`."""

    def tile(
        self, world: World, z: int, x: int, y: int, *, cancelled: Callable[[], bool] | None = None
    ) -> npt.NDArray[np.uint8]:
        """The tile's pixels, uint8 (256, 256, 3)."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A tile that looks like the text.

    Attributes:
        longitude: of its middle, degrees.
        latitude: of its middle, degrees.
        zoom: of the tile.
        x: column of the tile.
        y: row of the tile.
        score: cosine to the text less a soft maximum of those to `ALTERNATIVES`, about -0.5 .. 0.5; higher is nearer.
    """

    longitude: float
    latitude: float
    zoom: int
    x: int
    y: int
    score: float


@dataclass(frozen=True, slots=True)
class Findings:
    """How far a search is.

    Attributes:
        done: tiles looked at.
        total: tiles that will be looked at.
        places: the best so far, best first; of tiles that touch each other only the best.
    """

    done: int
    total: int
    places: tuple[Place, ...]


def find(
    engine: TileSource,
    world: World,
    text: str,
    bounds: Bounds | None = None,
    zoom: int | None = None,
    *,
    gsd: float | None = None,
    count: int = 8,
    limit: int = 256,
    tower: ImageTower | None = None,
    progress: Callable[[Findings], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Place]:
    """The places of a world that look most like a text; `search` with its last word alone.

    Args:
        engine: makes the tiles.
        world: which world.
        text: what to look for.
        bounds: west, south, east, north in degrees; None is the whole world, or the picture of a world by prompt.
        zoom: of the tiles, 0..18; None takes the finest at which the area has at most 256 tiles, or the world's first.
        gsd: metres per pixel in place of a zoom, at the area's middle latitude.
        count: most places.
        limit: most tiles that are looked at.
        tower: None takes the shipped one.
        progress: told after each tile.
        cancelled: asked before each tile and, by the engine, while one is made.

    Raises:
        InvalidRequestError: no text, or a count, limit, zoom, GSD or bounds out of range.
        RequestCancelledError: `cancelled` said so.
        WeightsError: the tower or its text encoder cannot be loaded.
    """
    found = Findings(0, 0, ())
    steps = search(
        engine, world, text, bounds, zoom, gsd=gsd, count=count, limit=limit, tower=tower, cancelled=cancelled
    )
    for found in steps:
        if progress is not None:
            progress(found)
    return list(found.places)


def search(
    engine: TileSource,
    world: World,
    text: str,
    bounds: Bounds | None = None,
    zoom: int | None = None,
    *,
    gsd: float | None = None,
    count: int = 8,
    limit: int = 256,
    tower: ImageTower | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Findings]:
    """Look for places and yield the findings after each tile; arguments as for `find`.

    Arguments are checked, and the tower is loaded, before the first tile is asked for. Closing the iterator ends
    the search.
    """
    area = bounds or whole_area(world)
    check_bounds(area)
    for name, value, most in (("count", count, MAX_PLACES), ("limit", limit, MAX_TILES)):
        if not 1 <= value <= most:
            raise InvalidRequestError(f"{name} is {value}; 1 to {most} is allowed")
    if zoom is not None and gsd is not None:
        raise InvalidRequestError("both a zoom and a GSD are given; at most one of them is allowed")
    if gsd is not None:
        zoom = zoom_for_gsd(gsd, (area[1] + area[3]) / 2)
    if zoom is None:
        zoom = max(search_zoom(area), world.min_zoom)
    world.check_zoom(zoom)
    box = tiles_of(area, zoom)
    tower = tower or image_tower()
    return _search(engine, world, _Scale.of(tower, text), box, count, limit, cancelled)


def whole_area(world: World) -> Bounds:
    """What of a world is searched if nothing else is said: all of it, or the picture of a world by prompt."""
    return WHOLE_WORLD if world.gsd is None else box_bounds(frame_of(world).box)


def search_zoom(bounds: Bounds) -> int:
    """The finest zoom at which bounds touch no more than 256 tiles."""
    for zoom in range(MAX_ZOOM, 0, -1):
        box = tiles_of(bounds, zoom)
        if box.height * box.width <= _MOST_TILES:
            return zoom
    return 0


def tiles_of(bounds: Bounds, zoom: int) -> Box:
    """The tiles that bounds touch, as a box whose units are tiles."""
    check_zoom(zoom)
    box = bounds_box(bounds, zoom)
    row, column = box.row // TILE_SIZE, box.column // TILE_SIZE
    height = (box.row + box.height - 1) // TILE_SIZE - row + 1
    width = (box.column + box.width - 1) // TILE_SIZE - column + 1
    return Box(zoom, row, column, height, width)


def spread_order(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Every (row, column) of a grid once, lazily, such that the first ones are spread over it.

    The bits of a counter are dealt out to row and column in turn, the last bit being the most significant (the
    van der Corput sequence in two dimensions): after 4**n steps each cell of a 2**n x 2**n division has had its turn.
    """
    row_bits, column_bits = (height - 1).bit_length(), (width - 1).bit_length()
    for number in range(1 << (row_bits + column_bits)):
        row = column = 0
        rows_left, columns_left = row_bits, column_bits
        while rows_left or columns_left:
            # The longer side is divided first.
            if columns_left >= rows_left:
                columns_left -= 1
                column |= (number & 1) << columns_left
            else:
                rows_left -= 1
                row |= (number & 1) << rows_left
            number >>= 1
        if row < height and column < width:
            yield row, column


@dataclass(frozen=True, slots=True)
class _Scale:
    """Scores pictures against a text: its cosine less a soft maximum of those to the alternatives."""

    tower: ImageTower
    wanted: npt.NDArray[np.float32]
    others: npt.NDArray[np.float32]

    @classmethod
    def of(cls, tower: ImageTower, text: str) -> _Scale:
        wanted, others = tower.text.encode(text), tower.text.encode_batch(ALTERNATIVES)
        return cls(tower, wanted, others[others @ wanted < _ALIKE])

    def score(self, pixels: npt.NDArray[np.uint8], gsd: float) -> float:
        picture = self.tower.embed([pixels], gsd)[0]
        rivals = np.exp((self.others @ picture).astype(np.float64) / _SOFTNESS)
        return round(float(picture @ self.wanted) - _SOFTNESS * float(np.log(rivals.mean())), 4)


def _search(
    engine: TileSource,
    world: World,
    scale: _Scale,
    box: Box,
    count: int,
    limit: int,
    cancelled: Callable[[], bool] | None,
) -> Iterator[Findings]:
    total = min(limit, box.height * box.width)
    order = spread_order(box.height, box.width)
    scores: dict[tuple[int, int], float] = {}
    best: list[tuple[float, tuple[int, int]]] = []
    places: tuple[Place, ...] = ()
    while len(scores) < total:
        if cancelled is not None and cancelled():
            raise RequestCancelledError("the search was withdrawn before it was done")
        cell = None
        if len(scores) % _NEIGHBOUR_TURN == _NEIGHBOUR_TURN - 1:
            cell = _next_neighbour([cell for _, cell in best], scores, box)
        if cell is None:
            cell = next(cell for cell in order if cell not in scores)
        row, column = box.row + cell[0], box.column + cell[1]
        place = _middle(box.zoom, column, row)
        pixels = engine.tile(world, box.zoom, column, row, cancelled=cancelled)
        scores[cell] = scale.score(pixels, ground_sampling_distance(box.zoom, place[1]))
        best = _apart(scores, count)
        places = tuple(
            Place(
                *_middle(box.zoom, box.column + right, box.row + down), box.zoom, box.column + right, box.row + down, s
            )
            for s, (down, right) in best
        )
        yield Findings(len(scores), total, places)


def _next_neighbour(
    best: Sequence[tuple[int, int]], scores: dict[tuple[int, int], float], box: Box
) -> tuple[int, int] | None:
    """A cell beside one of the best that nobody looked at yet; the best one's first."""
    for row, column in best:
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            cell = (row + down, column + right)
            if 0 <= cell[0] < box.height and 0 <= cell[1] < box.width and cell not in scores:
                return cell
    return None


def _apart(scores: dict[tuple[int, int], float], count: int) -> list[tuple[float, tuple[int, int]]]:
    """The best cells, best first, none of which touches a better one; equal scores in the order of the grid."""
    heap = [(-score, cell) for cell, score in scores.items()]
    heapq.heapify(heap)
    kept: list[tuple[float, tuple[int, int]]] = []
    while heap and len(kept) < count:
        score, (row, column) = heapq.heappop(heap)
        if all(max(abs(row - r), abs(column - c)) > 1 for _, (r, c) in kept):
            kept.append((-score, (row, column)))
    return kept


def _middle(zoom: int, x: int, y: int) -> tuple[float, float]:
    """Longitude and latitude of the middle of a tile, rounded to what a zoom of 18 can tell apart."""
    left, bottom, right, top = box_mercator_bounds(tile_box(zoom, x, y))
    longitude, latitude = mercantile.lnglat((left + right) / 2, (bottom + top) / 2)
    return round(longitude, 6), round(latitude, 6)
