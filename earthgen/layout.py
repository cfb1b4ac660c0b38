"""Layouts: what lies where, as GeoJSON, turned into edits by prompt.

A layout says for each feature which class it is; the class says what the ground inside is to look like and which of
four layers it is painted in: land cover, water, roads, buildings. Within a layer the order of the file holds, later
features on top. What comes out are ordinary edits, so a world from a layout is a value like any other.

An edit enters at the level at which its bounds span some pixels (see `earthgen.editing`), at which a long thin shape
may be thinner than a pixel. So lines are cut into pieces that enter where their width can be seen, and polygons of
one prompt that touch become one edit only while they fill their bounds.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import shapely
from shapely.ops import substring

from earthgen.editing import COARSEST_ENTRY, LEAST_SPAN, layers_of
from earthgen.errors import WorldError
from earthgen.pyramid import EQUATOR_GSD, LEVEL_ZOOMS, MAX_LATITUDE, MAX_ZOOM, TILE_SIZE
from earthgen.world import MAX_EDITS, MAX_POLYGON_VERTICES, Edit, World

Stratum = Literal["land cover", "water", "road", "building"]
STRATA: tuple[Stratum, ...] = get_args(Stratum)
"""The layers of a layout from the lowest to the topmost."""
Position = tuple[float, float]
Points = npt.NDArray[np.float64]

MAX_FEATURES = 2048
MAX_POSITIONS = 1 << 16
"""Vertices of all features together."""
MIN_WIDTH, MAX_WIDTH = 2.0, 5000.0
"""Metres; a line of 2 m is three pixels wide at the finest zoom on the equator."""

_GEOMETRIES = ("Polygon", "MultiPolygon", "LineString", "MultiLineString")
_RADIUS = EQUATOR_GSD * TILE_SIZE / (2 * math.pi)
"""Metres: of the sphere that Web Mercator projects."""
_LINE_PIXELS = 12
"""Pixels that a line's width spans where a piece of it enters, if any level has as many: what fades, and some more."""
_RUN_VERTICES = 32
"""Vertices of a line that are looked at together; their square is simplified together."""
_MOST_WINDING = 4
"""Length of a piece of a line by the diagonal of its bounds."""
_PIECE_PIXELS = 1 << 20
"""Pixels of the bounds of a piece of a line where it enters, so that masks of slanting lines stay small."""
_SAME_SCALE = 1.05
"""Greatest ratio of Mercator's scales at the two ends of a piece, so that its width is nearly the same in metres."""
_LEAST_FULL = 0.5
"""Share of its narrowest bounds that a union of polygons fills."""
_GRID = 0.01
"""Metres at the equator that vertices of unions are rounded to, so that neighbours meet whose vertices nearly do."""
_DECIMALS = 7
"""Of degrees that are computed here, about 1 cm: coarser than what other builds of GEOS could give."""


@dataclass(frozen=True, slots=True)
class LayoutClass:
    """What a class means.

    Attributes:
        stratum: which layer it is painted in.
        prompt: what the ground looks like, in words that the training's captions have.
        width: metres of a line without a width; None if the class has polygons only.
    """

    stratum: Stratum
    prompt: str
    width: float | None = None


CLASSES: dict[str, LayoutClass] = {
    "forest": LayoutClass("land cover", "dense forest"),
    "trees": LayoutClass("land cover", "trees"),
    "woodland": LayoutClass("land cover", "woodland"),
    "orchard": LayoutClass("land cover", "orchard"),
    "vineyard": LayoutClass("land cover", "vineyard"),
    "meadow": LayoutClass("land cover", "meadow"),
    "pasture": LayoutClass("land cover", "pasture"),
    "grass": LayoutClass("land cover", "grass field"),
    "low vegetation": LayoutClass("land cover", "grass field"),
    "park": LayoutClass("land cover", "park"),
    "farmland": LayoutClass("land cover", "farmland with fields"),
    "crops": LayoutClass("land cover", "crop fields"),
    "scrub": LayoutClass("land cover", "scrubland"),
    "heath": LayoutClass("land cover", "heath"),
    "bare ground": LayoutClass("land cover", "bare ground"),
    "sand": LayoutClass("land cover", "sand dunes"),
    "desert": LayoutClass("land cover", "desert"),
    "rock": LayoutClass("land cover", "rock"),
    "scree": LayoutClass("land cover", "scree"),
    "snow": LayoutClass("land cover", "snow"),
    "residential": LayoutClass("land cover", "residential area"),
    "suburb": LayoutClass("land cover", "suburb with streets and houses"),
    "city": LayoutClass("land cover", "dense city"),
    "village": LayoutClass("land cover", "village"),
    "industrial": LayoutClass("land cover", "industrial area"),
    "commercial": LayoutClass("land cover", "commercial area"),
    "car park": LayoutClass("land cover", "car park"),
    "other paved": LayoutClass("land cover", "car park"),
    "golf course": LayoutClass("land cover", "golf course"),
    "sports field": LayoutClass("land cover", "sports field"),
    "construction": LayoutClass("land cover", "construction site"),
    "airport": LayoutClass("land cover", "airport"),
    "water": LayoutClass("water", "water"),
    "sea": LayoutClass("water", "open sea"),
    "lake": LayoutClass("water", "lake"),
    "reservoir": LayoutClass("water", "reservoir"),
    "harbour": LayoutClass("water", "harbour"),
    "river": LayoutClass("water", "river", 30.0),
    "canal": LayoutClass("water", "canal", 15.0),
    "road": LayoutClass("road", "road", 8.0),
    "highway": LayoutClass("road", "highway", 20.0),
    "motorway": LayoutClass("road", "motorway", 25.0),
    "runway": LayoutClass("road", "airport runway", 45.0),
    "building": LayoutClass("building", "flat roofs"),
    "house": LayoutClass("building", "houses with red roofs"),
    "warehouse": LayoutClass("building", "warehouses"),
    "factory": LayoutClass("building", "industrial buildings"),
}
"""Every class by name. The names of the land cover band's legend are among them."""


def world_from_layout(value: Mapping[str, Any]) -> World:
    """Read a world from JSON types that may have a `layout` beside its `edits`.

    Args:
        value: as of `World.from_dict`, and "layout", see `layout_edits`; its edits come after those of "edits".

    Raises:
        WorldError: values of another type or range, or more edits than a world may have.
    """
    world = World.from_dict({name: item for name, item in value.items() if name != "layout"})
    layout = value.get("layout")
    if layout is None:
        return world
    return replace(world, edits=world.edits + layout_edits(layout, MAX_EDITS - len(world.edits)))


def layout_edits(collection: object, most: int = MAX_EDITS) -> tuple[Edit, ...]:
    """The edits that paint a layout.

    Args:
        collection: a GeoJSON FeatureCollection (RFC 7946) as JSON types, in degrees. Features are Polygons and
            MultiPolygons without holes, or LineStrings and MultiLineStrings of the classes that have a width.
            Properties: `class`, one of CLASSES; `prompt`, in place of the class's; `width` of a line, in metres
            on the ground, MIN_WIDTH .. MAX_WIDTH. Others mean nothing.
        most: edits that there may be.

    Returns:
        Edits of action "prompt", the lowest first; equal layouts give equal edits.

    Raises:
        WorldError: a layout that cannot be painted; says which feature is to blame and what is allowed.
    """
    edits: list[Edit] = []
    painted = sorted(_features(collection), key=lambda feature: STRATA.index(feature.stratum))
    for (_, prompt, width), run in groupby(painted, key=lambda same: (same.stratum, same.prompt, same.width)):
        for index, polygon in _composed(run) if width is None else _cut(run, width):
            if len(edits) == most:
                taken = f"; {MAX_EDITS - most} are taken by other edits" if most < MAX_EDITS else ""
                raise WorldError(
                    f"layout features[{index}] needs edit {most + 1} of the layout; at most {most} are allowed{taken}"
                )
            edits.append(_edit(index, polygon, prompt))
    return tuple(edits)


@dataclass(frozen=True, slots=True)
class _Feature:
    """A feature that has been checked.

    Attributes:
        index: in the list of features.
        parts: rings of polygons without their closing vertex, or lines: (longitude, latitude) in degrees.
        width: metres of a line; None of polygons.
    """

    index: int
    stratum: Stratum
    prompt: str
    parts: tuple[tuple[Position, ...], ...]
    width: float | None


def _edit(index: int, polygon: tuple[Position, ...], prompt: str) -> Edit:
    try:
        edit = Edit(polygon, prompt)
        layers_of(World(edits=(edit,)))  # Refuses polygons that could never be shown.
    except WorldError as error:
        raise WorldError(f"layout features[{index}]: {error}") from error
    return edit


# Reading


def _features(collection: object) -> list[_Feature]:
    if not isinstance(collection, Mapping) or collection.get("type") != "FeatureCollection":
        raise WorldError(f"layout is {_shown(collection)}; a GeoJSON FeatureCollection is allowed")
    features = collection.get("features")
    if not isinstance(features, list | tuple):
        raise WorldError(f"layout features are {_shown(features)}; a list of GeoJSON Features is allowed")
    if len(features) > MAX_FEATURES:
        raise WorldError(f"layout has {len(features)} features; at most {MAX_FEATURES} are allowed")
    read: list[_Feature] = []
    positions = 0
    for index, value in enumerate(features):
        try:
            feature = _feature(index, value)
        except WorldError as error:
            raise WorldError(f"layout features[{index}]: {error}") from error
        positions += sum(map(len, feature.parts))
        if positions > MAX_POSITIONS:
            raise WorldError(
                f"layout has {positions} vertices up to features[{index}]; at most {MAX_POSITIONS} are allowed"
            )
        read.append(feature)
    return read


def _feature(index: int, value: object) -> _Feature:
    if not isinstance(value, Mapping) or value.get("type") != "Feature":
        raise WorldError(f"it is {_shown(value)}; a GeoJSON Feature is allowed")
    geometry = value.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if not isinstance(geometry, Mapping) or kind not in _GEOMETRIES:
        raise WorldError(f"geometry is {_shown(kind or geometry)}; allowed: {', '.join(_GEOMETRIES)}")
    properties = value.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    name = properties.get("class")
    if not isinstance(name, str) or name not in CLASSES:
        raise WorldError(f"property class is {_shown(name)}; allowed: {', '.join(CLASSES)}")
    prompt = properties.get("prompt")
    prompt = CLASSES[name].prompt if prompt is None else prompt
    if not isinstance(prompt, str):
        raise WorldError(f"property prompt is {_shown(prompt)}; text is allowed")
    lines = kind in ("LineString", "MultiLineString")
    width = _width(name, properties.get("width"), lines)
    coordinates = geometry.get("coordinates")
    parts = _listed(coordinates) if kind.startswith("Multi") else [coordinates]
    read = tuple(_line(part) if lines else _ring(part) for part in parts)
    return _Feature(index, CLASSES[name].stratum, " ".join(prompt.split()), read, width)


def _width(name: str, value: object, lines: bool) -> float | None:
    if not lines:
        if value is not None:
            raise WorldError(f"property width is {_shown(value)}, but the feature has an area; lines have a width")
        return None
    default = CLASSES[name].width
    if default is None:
        having = ", ".join(other for other, meaning in CLASSES.items() if meaning.width is not None)
        raise WorldError(f"class {name!r} has no lines, only Polygon and MultiPolygon; lines are allowed of: {having}")
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not MIN_WIDTH <= value <= MAX_WIDTH:
        raise WorldError(
            f"property width is {_shown(value)}; a number from {MIN_WIDTH:g} to {MAX_WIDTH:g} metres is allowed"
        )
    return float(value)


def _ring(rings: object) -> tuple[Position, ...]:
    """The outer ring of a polygon's coordinates."""
    outer, *holes = _listed(rings)
    if holes:
        raise WorldError(
            f"the polygon has {len(holes)} hole(s), none are allowed; lay another feature over it, or cut it in two"
        )
    ring = _positions(outer)
    ring = ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring
    if not 3 <= len(ring) <= MAX_POLYGON_VERTICES:
        raise WorldError(f"the ring has {len(ring)} vertices; 3 to {MAX_POLYGON_VERTICES} are allowed")
    if not shapely.is_valid(shapely.Polygon(_plane(ring))):
        raise WorldError("the ring crosses itself or has no area; a simple ring is allowed")
    return ring


def _line(coordinates: object) -> tuple[Position, ...]:
    line = _positions(coordinates)
    if not np.ptp(_plane(line), axis=0).any():
        raise WorldError(
            f"the line has no length; two distinct vertices within {MAX_LATITUDE:.4f} degrees of the equator are needed"
        )
    return line


def _positions(values: object) -> tuple[Position, ...]:
    return tuple(map(_position, _listed(values)))


def _position(value: object) -> Position:
    """Longitude and latitude; an altitude behind them means nothing here."""
    if isinstance(value, list | tuple) and 2 <= len(value) <= 3:
        numbers = [number for number in value[:2] if isinstance(number, int | float) and not isinstance(number, bool)]
        # Comparing refuses NaN and whole numbers beyond every float, too.
        if len(numbers) == 2 and -180 <= numbers[0] <= 180 and -90 <= numbers[1] <= 90:
            return float(numbers[0]), float(numbers[1])
    raise WorldError(f"position is {_shown(value)}; [longitude in -180..180, latitude in -90..90] is allowed")


def _listed(value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple) or not value:
        raise WorldError(f"coordinates hold {_shown(value)}; a list that is not empty is allowed there")
    return value


def _shown(value: object) -> str:
    """A value in an error, however large it is."""
    return reprlib.repr(value)


# Web Mercator in metres at the equator; x goes on where a shape crosses 180 degrees, as the edges of an edit do.


def _plane(places: Sequence[Position]) -> Points:
    """Points (n, 2) of places."""
    longitudes, latitudes = np.array(places, dtype=np.float64).T
    steps = (np.diff(longitudes, prepend=longitudes[0]) + 180.0) % 360.0 - 180.0
    x = np.radians(longitudes[0] + np.cumsum(steps))
    y = np.arcsinh(np.tan(np.radians(np.clip(latitudes, -MAX_LATITUDE, MAX_LATITUDE))))
    return _RADIUS * np.stack([x, y], axis=1)


def _places(outline: shapely.Polygon) -> tuple[Position, ...]:
    """The outer ring of a polygon in the plane, without its closing vertex."""
    x, y = shapely.get_coordinates(shapely.normalize(outline).exterior)[:-1].T / _RADIUS
    longitudes = (np.degrees(x) + 180.0) % 360.0 - 180.0
    places = np.round(np.stack([longitudes, np.degrees(np.arctan(np.sinh(y)))], axis=1), _DECIMALS)
    return tuple((float(longitude), float(latitude)) for longitude, latitude in places)


# Polygons: composing


@dataclass(frozen=True, slots=True)
class _Patch:
    """A polygon, or several that became one.

    Attributes:
        index: of the first feature in it.
        places: its vertices in degrees.
        shape: in the plane.
        bounds: of the shape: left, bottom, right, top.
    """

    index: int
    places: tuple[Position, ...]
    shape: shapely.Polygon
    bounds: tuple[float, float, float, float]


def _composed(features: Iterable[_Feature]) -> Iterator[tuple[int, tuple[Position, ...]]]:
    """Polygons of one prompt; those that touch are one where that changes no outline and coarsens no entry."""
    patches: list[_Patch] = []
    for feature in features:
        for ring in feature.parts:
            shape = shapely.Polygon(_plane(ring))
            patch = _Patch(feature.index, ring, shape, shape.bounds)
            others: list[_Patch] = []
            for other in patches:
                union = _union(other, patch)
                if union is None:
                    others.append(other)
                else:
                    patch = union
            patches = [*others, patch]
    for patch in sorted(patches, key=lambda patch: patch.index):
        yield patch.index, patch.places


def _union(one: _Patch, other: _Patch) -> _Patch | None:
    """Two polygons as one, or None if they had better stay two."""
    (left, bottom, right, top), (west, south, east, north) = one.bounds, other.bounds
    if left > east + _GRID or west > right + _GRID or bottom > north + _GRID or south > top + _GRID:
        return None
    shape = shapely.union(one.shape, other.shape, grid_size=_GRID)
    if shape.geom_type != "Polygon" or shape.interiors or len(shape.exterior.coords) - 1 > MAX_POLYGON_VERTICES:
        return None
    if shape.area < _LEAST_FULL * shape.minimum_rotated_rectangle.area:
        return None
    return _Patch(min(one.index, other.index), _places(shape), shape, shape.bounds)


# Lines: cutting


def _cut(features: Iterable[_Feature], width: float) -> Iterator[tuple[int, tuple[Position, ...]]]:
    """Outlines of lines of one prompt and width (metres), in pieces that reach half a width into each other."""
    for feature in features:
        for part in feature.parts:
            waiting = _runs(_plane(part), width)[::-1]
            while waiting:
                piece = waiting.pop()
                outline = _outline(piece, width)
                if outline is None:
                    middle = piece.length / 2
                    waiting += [substring(piece, middle, piece.length), substring(piece, 0.0, middle)]
                else:
                    yield feature.index, _places(outline)


def _runs(points: Points, width: float) -> list[shapely.LineString]:
    """A line in runs of some vertices, without those that matter less than a tenth of the width.

    Runs are short because widening takes time by the square of how often a line crosses itself, and simplifying
    a recursion as deep as it has vertices.
    """
    points = points[np.diff(points, axis=0, prepend=np.inf).any(axis=1)]  # The first one stays: it differs from inf.
    kept: list[Points] = []
    for line in _in_runs(points, _RUN_VERTICES**2):
        simple = line.simplify(width * _scale(line.centroid.y) / 10)
        kept.append(shapely.get_coordinates(simple if simple.length else line)[1 if kept else 0 :])
    return _in_runs(np.concatenate(kept), _RUN_VERTICES)


def _in_runs(points: Points, most: int) -> list[shapely.LineString]:
    """Lines of at most so many vertices, each from where the last one ends."""
    return [shapely.LineString(points[start : start + most]) for start in range(0, len(points) - 1, most - 1)]


def _outline(line: shapely.LineString, width: float) -> shapely.Polygon | None:
    """A line widened, or None if it has to be shorter to be one edit."""
    left, bottom, right, top = line.bounds
    scales = _scale(bottom), _scale(top), _scale(min(max(bottom, 0.0), top))
    if max(scales) > _SAME_SCALE * min(scales):
        return None
    across = width * _scale((bottom + top) / 2)
    # Widening takes long, so first what can be said without it.
    if line.length > _MOST_WINDING * (math.hypot(right - left, top - bottom) + across):
        return None
    if not _shows(line, across, beyond=across):
        return None
    outline = line.buffer(across / 2, quad_segs=4)
    if outline.interiors or len(outline.exterior.coords) - 1 > MAX_POLYGON_VERTICES:
        return None
    return outline if _shows(outline, across) else None


def _shows(shape: shapely.Geometry, across: float, beyond: float = 0.0) -> bool:
    """Whether a shape enters where `across` can be seen, its mask being small; it is `beyond` longer and wider."""
    around = shapely.get_coordinates(shapely.MultiPoint(shapely.get_coordinates(shape)).minimum_rotated_rectangle)
    sides = np.hypot(*np.diff(around[:3], axis=0).T) if len(around) > 2 else [0.0]
    shorter_side = float(min(sides)) + beyond
    levels = range(COARSEST_ENTRY, MAX_ZOOM, LEVEL_ZOOMS)
    # Nearly enough counts: rounding the vertices must not make it enter coarser than was thought here.
    zoom = next((zoom for zoom in levels if 1.01 * shorter_side * 2**zoom > LEAST_SPAN * EQUATOR_GSD), MAX_ZOOM)
    pixel = EQUATOR_GSD / 2**zoom
    left, bottom, right, top = shape.bounds
    small = (right - left + beyond) * (top - bottom + beyond) <= _PIECE_PIXELS * pixel**2
    return small and (zoom == MAX_ZOOM or across >= _LINE_PIXELS * pixel)


def _scale(y: float) -> float:
    """Metres in the plane per metre on the ground: the secant of the latitude."""
    return math.cosh(y / _RADIUS)
