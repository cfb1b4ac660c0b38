"""The ground of a scene: colours of the engine, classes, heights, and buildings that stand on it.

Colours come from the engine. Classes are known by construction where the engine was asked for them in words of a
layout: the prompt of a world, and its edits, whose polygons of buildings are footprints. Where it was not, they come
from the land-cover and building bands, tidied. From these the ground is built: buildings become prisms, trees become
crowns, water is level. Heights are drawn by address (`relief`); the engine has no elevation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import rasterize, shapes
from scipy.ndimage import binary_opening, distance_transform_edt, gaussian_filter

from earthgen.bands import LAND_COVER, BandView, PixelSource
from earthgen.layout import CLASSES
from earthgen.pyramid import (
    MAX_ZOOM,
    Bounds,
    Box,
    bounds_box,
    box_bounds,
    check_bounds,
    ground_sampling_distance,
    world_size,
)
from earthgen.world import World
from perception.errors import SceneError
from perception.multiview.relief import Heights, chances, crowns, relief

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

MIN_SIDE, MAX_SIDE = 96, 512
"""Pixels along the sides of a scene's ground."""
MIN_ZOOM = 17
"""The coarsest zoom of a scene: single houses have to be seen."""
WATER, TREES, LOW_VEGETATION, BARE, ROAD, BUILDING, PAVED = (part.code for part in LAND_COVER)

_TIDY = 2.0
"""Standard deviation, in pixels, of the vote that takes specks out of classes."""
_LEAST_FOOTPRINT = 25.0
"""Square metres of the smallest building."""
_RECTANGULAR = 0.72
"""Share of its narrowest rectangle that a footprint fills if it is taken for one."""
_FOUNDATION = 3.0
"""Metres that walls go on below the lowest ground of a footprint."""
_STOREY = 3.2
"""Metres."""
_STRATA = {"water": WATER, "road": ROAD, "building": BUILDING}
_COVERS = {
    "forest": TREES, "trees": TREES, "woodland": TREES, "orchard": TREES,
    "meadow": LOW_VEGETATION, "pasture": LOW_VEGETATION, "grass": LOW_VEGETATION, "low vegetation": LOW_VEGETATION,
    "park": LOW_VEGETATION, "farmland": LOW_VEGETATION, "crops": LOW_VEGETATION, "scrub": LOW_VEGETATION,
    "heath": LOW_VEGETATION, "golf course": LOW_VEGETATION, "sports field": LOW_VEGETATION,
    "bare ground": BARE, "sand": BARE, "desert": BARE, "rock": BARE, "scree": BARE,
    "car park": PAVED, "other paved": PAVED,
}  # fmt: skip
"""Codes of a layout's land cover, where it is one class of LAND_COVER; a suburb is not."""
_MEANINGS = {item.prompt: _STRATA.get(item.stratum, _COVERS.get(name, 0)) for name, item in CLASSES.items()}
"""Codes by prompt; 0 if what it asks for is more than one class."""


@dataclass(frozen=True, slots=True, eq=False)
class Building:
    """A prism with a flat roof.

    Attributes:
        footprint: its outline, float64 (n, 2): metres to the east and north, without the closing vertex.
        top: height of the roof above the scene's lowest ground, metres.
        bottom: where its walls end below the ground.
        wall: colour of the walls, 0..255.
    """

    footprint: npt.NDArray[np.float64]
    top: float
    bottom: float
    wall: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Ground in local metres: x to the east, y to the north, z up; the origin is its middle at its lowest ground.

    Attributes:
        world: whose colours it has.
        box: its pixels; the first row is the northernmost.
        metres: true metres per pixel in the middle, taken for the whole.
        colours: uint8 (h, w, 3).
        labels: codes of LAND_COVER, uint8 (h, w); under buildings their ground.
        surface: height of ground and tree crowns at the middles of pixels in metres, float32 (h, w).
        buildings: what stands on it.
    """

    world: World
    box: Box
    metres: float
    colours: Codes
    labels: Codes
    surface: Heights
    buildings: tuple[Building, ...]

    @property
    def extent(self) -> tuple[float, float]:
        """Metres from west to east and from south to north."""
        return self.box.width * self.metres, self.box.height * self.metres

    @property
    def top(self) -> float:
        """Height of the highest point in metres."""
        return max([float(self.surface.max()), *(building.top for building in self.buildings)])

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in degrees."""
        return box_bounds(self.box)

    def pixel(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Places in metres as (row, column) where whole numbers are middles of pixels."""
        height, width = self.surface.shape
        return height / 2 - y / self.metres - 0.5, x / self.metres + width / 2 - 0.5

    def height(self, x: float, y: float) -> float:
        """The highest thing at a place, in metres; -inf outside."""
        row, column = (round(float(value)) for value in self.pixel(np.array(x), np.array(y)))
        if not (0 <= row < self.surface.shape[0] and 0 <= column < self.surface.shape[1]):
            return -math.inf
        point = shapely.Point(x, y)
        roofs = [b.top for b in self.buildings if shapely.intersects(shapely.Polygon(b.footprint), point)]
        return max([float(self.surface[row, column]), *roofs])


def scene_box(bounds: Bounds, zoom: int = MAX_ZOOM) -> Box:
    """The pixels of a scene.

    Raises:
        AddressError: bounds that make no sense.
        SceneError: a zoom, or a region, that makes no scene.
    """
    check_bounds(bounds)
    if not MIN_ZOOM <= zoom <= MAX_ZOOM:
        raise SceneError(f"zoom is {zoom}; a scene has {MIN_ZOOM} or {MAX_ZOOM}")
    box = bounds_box(bounds, zoom)
    return checked_box(box)


def checked_box(box: Box) -> Box:
    """The box, unless it is too small or too large for a scene.

    Raises:
        SceneError: it is; says by how much.
    """
    sides = box.width, box.height
    if not MIN_SIDE <= min(sides) <= max(sides) <= MAX_SIDE:
        middle = box_bounds(box)
        metres = ground_sampling_distance(box.zoom, (middle[1] + middle[3]) / 2)
        raise SceneError(
            f"the region has {box.width} x {box.height} pixels at zoom {box.zoom}; {MIN_SIDE} to {MAX_SIDE} a side are"
            f" allowed, that is {MIN_SIDE * metres:.0f} to {MAX_SIDE * metres:.0f} metres there"
        )
    return box


def scene_of(engine: PixelSource, world: World, box: Box, band_weights: Path | None = None) -> Scene:
    """Build the ground of a region.

    Args:
        engine: makes the colours.
        world: which world; of one with dates, the edits that never end.
        box: its pixels, see `scene_box`.
        band_weights: folder of weights of bands that are preferred to the package's.

    Raises:
        SceneError: a box that makes no scene.
        EarthgenError: what the engine and its bands raise.
    """
    checked_box(box)
    colours = engine.pixels(world, box)
    base = _MEANINGS.get(world.prompt, 0) if world.root == "prompt" else 0
    if base not in (0, BUILDING):
        return build_scene(world, box, colours, np.full(colours.shape[:2], base, dtype=np.uint8))
    cover = BandView(engine, "landcover", band_weights).pixels(world, box)
    built = BandView(engine, "buildings", band_weights).pixels(world, box) == 1
    return build_scene(world, box, colours, _tidied(np.where(built, np.uint8(BUILDING), cover)))


def build_scene(world: World, box: Box, colours: Codes, cover: Codes) -> Scene:
    """Build the ground.

    Args:
        world: its edits in words of a layout are laid over `cover`.
        box: the pixels.
        colours: uint8 (h, w, 3).
        cover: codes of LAND_COVER, uint8 (h, w); areas of buildings become footprints.
    """
    south, north = box_bounds(box)[1], box_bounds(box)[3]
    metres = ground_sampling_distance(box.zoom, (south + north) / 2)
    footprints = _footprints(cover == BUILDING, metres)
    labels, asked = _with_edits(world, box, _without_buildings(cover))
    # What an edit put elsewhere is no building any more, and an asked-for building stands where it was asked for.
    changed = labels != _without_buildings(cover)
    footprints = [shape for shape in footprints if not changed[_inside(shape, changed.shape)].any()]
    footprints = _apart([*asked, *footprints], metres)
    ground = relief(box, world.seed, labels == WATER)
    buildings = tuple(_building(shape, box, ground, metres, world.seed) for shape in footprints)
    trees = labels == TREES
    # Crowns rise within two pixels of their wood's edge, and never through a roof.
    edge = np.clip(distance_transform_edt(trees) / 2, 0, 1) if trees.any() else np.zeros(trees.shape)
    under = _raster(footprints, box, grown=2.5)
    labels = np.where(trees & under, np.uint8(LOW_VEGETATION), labels)
    surface = ground + np.where(under, 0, edge * crowns(box, world.seed))
    return Scene(world, box, metres, colours, labels, surface.astype(np.float32), buildings)


def _with_edits(world: World, box: Box, cover: Codes) -> tuple[Codes, list[shapely.Polygon]]:
    """Classes with the edits laid over them that speak as a layout does, and the footprints among these, in pixels."""
    cover, footprints = cover.copy(), []
    for edit in world.at(None).edits:
        code = _MEANINGS.get(edit.prompt, 0) if edit.action == "prompt" else 0
        if not code:
            continue
        corners = [_global_pixel(longitude, latitude, box) for longitude, latitude in edit.polygon]
        shape = shapely.Polygon(corners)
        if code == BUILDING:
            clipped = shapely.intersection(shape, shapely.box(0, 0, box.width, box.height))
            footprints += [part for part in shapely.get_parts(clipped) if part.geom_type == "Polygon" and part.area]
        else:
            cover[_inside(shape, cover.shape)] = code
            footprints = [part for part in footprints if not shapely.contains(shape, part)]
    return cover, footprints


def _global_pixel(longitude: float, latitude: float, box: Box) -> tuple[float, float]:
    """A place as (column, row) of a box; a pixel's middle is half a pixel on."""
    size = world_size(box.zoom)
    column = (longitude + 180.0) / 360.0 * size - box.column
    row = (1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2 * size - box.row
    # Of the turns around the world, the one that is nearest to the box.
    return (column - box.width / 2 + size / 2) % size - size / 2 + box.width / 2, row


def _inside(shape: shapely.Polygon, size: tuple[int, ...]) -> Mask:
    found: Mask = rasterize([(shape, 1)], out_shape=size, dtype="uint8").astype(np.bool_)
    return found


def _tidied(cover: Codes) -> Codes:
    """Each pixel's class by the vote of its surroundings: what bands read has specks."""
    codes: Codes = np.array([part.code for part in LAND_COVER], dtype=np.uint8)
    votes = [gaussian_filter((cover == code).astype(np.float32), _TIDY, mode="nearest") for code in codes]
    found: Codes = codes[np.argmax(votes, axis=0)]
    return found


def _without_buildings(cover: Codes) -> Codes:
    """Classes where buildings have that of the nearest ground."""
    built = cover == BUILDING
    if built.all():
        return np.full_like(cover, PAVED)
    if not built.any():
        return cover
    nearest = distance_transform_edt(built, return_distances=False, return_indices=True)
    found: Codes = cover[tuple(nearest)]
    return found


def _footprints(built: Mask, metres: float) -> list[shapely.Polygon]:
    """Outlines in pixels (column, row) of what may be buildings."""
    opened = binary_opening(built, np.ones((3, 3)), iterations=2)
    found = []
    for shape, _ in shapes(opened.astype(np.uint8), mask=opened, connectivity=4):
        outline = shapely.Polygon(shape["coordinates"][0])
        frame = shapely.oriented_envelope(outline)
        plain = frame if outline.area > _RECTANGULAR * frame.area else outline.simplify(1.6)
        inside = shapely.intersection(plain, shapely.box(0, 0, built.shape[1], built.shape[0]))
        found += [
            shapely.Polygon(part.exterior)
            for part in shapely.get_parts(inside)
            if part.geom_type == "Polygon" and part.area * metres**2 >= _LEAST_FOOTPRINT
        ]
    return sorted(found, key=lambda one: (-one.area, one.centroid.x, one.centroid.y))


def _apart(footprints: list[shapely.Polygon], metres: float) -> list[shapely.Polygon]:
    """Footprints that neither overlap nor are slivers: the first ones stay."""
    kept: list[shapely.Polygon] = []
    for shape in footprints:
        if shape.area * metres**2 >= 1 and not any(shapely.intersects(shape, other) for other in kept):
            kept.append(shape)
    return kept


def _building(shape: shapely.Polygon, box: Box, ground: Heights, metres: float, seed: int) -> Building:
    middle = shape.representative_point()
    size, shade, tint = chances(box.row + math.floor(middle.y), box.column + math.floor(middle.x), seed)
    # Houses of one to three storeys, halls of two to five.
    storeys = 1 + 2 * size if shape.area * metres**2 < 200 else 2 + 3 * size
    inside = _inside(shape, ground.shape)
    below = ground[inside] if inside.any() else ground[math.floor(middle.y), math.floor(middle.x)][None]
    outline = np.asarray(shapely.orient_polygons(shape).exterior.coords, dtype=np.float64)[:-1, :2]
    height, width = ground.shape
    # Rows go down and north is up, so the outline is turned round to stay anticlockwise.
    metric = np.stack([(outline[:, 0] - width / 2) * metres, (height / 2 - outline[:, 1]) * metres], axis=1)[::-1]
    light, warm = 120 + 100 * shade, 26 * tint
    wall = (round(min(255, light + warm)), round(light), round(light - warm))
    top, bottom = float(below.max()) + _STOREY * storeys, float(below.min()) - _FOUNDATION
    return Building(np.ascontiguousarray(metric), top, bottom, wall)


def _raster(footprints: list[shapely.Polygon], box: Box, grown: float) -> Mask:
    """Pixels that footprints touch when they are grown by some pixels."""
    shape = (box.height, box.width)
    if not footprints:
        return np.zeros(shape, dtype=np.bool_)
    parts = [(one.buffer(grown), 1) for one in footprints]
    found: Mask = rasterize(parts, out_shape=shape, dtype="uint8", all_touched=True).astype(np.bool_)
    return found
