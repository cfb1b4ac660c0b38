"""Plans: a small place drawn by address, as a layout. A world painted from it has classes that nobody had to read off.

A road with a street off it, houses along both, a hall with its yard, a wood, a pond and a field. What is drawn depends
on the seed and on the pixels of the box alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.affinity import rotate, translate

from earthgen.layout import world_from_layout
from earthgen.pyramid import Box, box_bounds, ground_sampling_distance
from earthgen.world import World
from perception.errors import SceneError

GROUNDS = ("meadow", "grass field", "bare ground", "pasture")
"""Prompts of the ground of a planned world: words of a layout."""
_HOUSES = ("houses with red roofs", "flat roofs")
_HALLS = ("warehouses", "industrial buildings")

Points = npt.NDArray[np.float64]


def planned_world(box: Box, seed: int, ground: str | None = None) -> World:
    """A world by prompt whose edits paint a plan.

    Args:
        box: the pixels that it is drawn for.
        seed: of the world and of the plan.
        ground: one of GROUNDS; None draws one.

    Raises:
        SceneError: another ground.
    """
    random = _random(box, seed)
    ground = str(random.choice(GROUNDS)) if ground is None else ground
    if ground not in GROUNDS:
        raise SceneError(f"the ground of a plan is {ground!r}; allowed: {', '.join(GROUNDS)}")
    metres = ground_sampling_distance(box.zoom, 0.0)
    return world_from_layout(
        {"root": "prompt", "seed": seed, "prompt": ground, "gsd": round(metres, 3), "layout": plan(box, seed, ground)}
    )


def plan(box: Box, seed: int, ground: str = "meadow") -> dict[str, Any]:
    """The layout of a box, as a GeoJSON FeatureCollection; see `earthgen.layout`."""
    random = _random(box, seed, 1)
    west, south, east, north = box_bounds(box)
    metres = ground_sampling_distance(box.zoom, (south + north) / 2)
    extent = np.array([box.width, box.height]) * metres
    turn = math.pi / 2 * int(random.integers(4)) + random.uniform(-0.3, 0.3)
    drawn = _drawn(float(extent.min()), random, ground)

    def degrees(points: Points) -> list[list[float]]:
        cosine, sine = math.cos(turn), math.sin(turn)
        across, up = points[:, 0] * cosine - points[:, 1] * sine, points[:, 0] * sine + points[:, 1] * cosine
        # Small enough for Mercator to be taken for flat.
        longitudes = (west + east) / 2 + across / extent[0] * (east - west)
        latitudes = (south + north) / 2 + up / extent[1] * (north - south)
        return [[round(float(x), 9), round(float(y), 9)] for x, y in zip(longitudes, latitudes, strict=True)]

    features = []
    for name, shape, more in drawn:
        line = shape.geom_type == "LineString"
        points = degrees(np.asarray(shape.coords if line else shape.exterior.coords))
        geometry = {"type": shape.geom_type, "coordinates": points if line else [points]}
        features.append({"type": "Feature", "properties": {"class": name, **more}, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


Drawn = tuple[str, Any, dict[str, Any]]


def _drawn(side: float, random: np.random.Generator, ground: str) -> list[Drawn]:
    """Classes, shapes in metres around the middle, and other properties, the lowest first."""
    half = side / 2
    road_at = float(random.uniform(-0.12, 0.12)) * side
    bend = float(random.uniform(-0.08, 0.08)) * side
    road = shapely.LineString([(-1.5 * side, road_at - 2 * bend), (0, road_at), (1.5 * side, road_at + bend)])
    street_at = float(random.uniform(-0.15, 0.15)) * side
    street = shapely.LineString([(street_at, road_at), (street_at + bend, -1.5 * side)])
    found: list[Drawn] = []
    # Behind the road: a wood on one side, a pond on the other. Beyond it: a yard with a hall, and a field.
    flip = 1 if random.random() < 0.5 else -1
    free = shapely.union(road.buffer(18), street.buffer(18))
    places = {
        "forest": (-0.3 * flip * side, road_at + 0.36 * side, 0.27 * side),
        "lake": (0.28 * flip * side, road_at + 0.33 * side, 0.15 * side),
        "bare ground": (-0.36 * side, road_at - 0.36 * side, 0.17 * side),
    }
    for name, (x, y, radius) in places.items():
        shape = _blob(x, y, radius, random).difference(free)
        parts = [part for part in shapely.get_parts(shape) if part.area > 60]
        # A field of the ground itself would be none.
        found += [("grass" if name == ground else name, part, {}) for part in parts]
    taken = shapely.union_all([road.buffer(6), street.buffer(5)] + [shape for _, shape, _ in found])
    hall_x, hall_y = street_at + 0.26 * side, road_at - 0.3 * side
    angle = float(random.uniform(-12, 12))
    yard = rotate(shapely.box(-0.16 * side, -0.14 * side, 0.16 * side, 0.14 * side), angle)
    yard = translate(yard, hall_x, hall_y).difference(taken.buffer(2))
    yards = [part for part in shapely.get_parts(yard) if part.geom_type == "Polygon" and part.area > 150]
    found += [("car park", shapely.Polygon(part.exterior), {}) for part in yards]
    found += [("road", road, {"width": 8.0}), ("road", street, {"width": 6.0})]
    hall = translate(rotate(shapely.box(-0.12 * side, -0.07 * side, 0.06 * side, 0.08 * side), angle), hall_x, hall_y)
    taken = shapely.union(taken, hall.buffer(4))
    found.append(("warehouse", hall, {"prompt": str(random.choice(_HALLS))}))
    for line, step in ((road, 17.0), (street, 16.0)):
        for at in np.arange(0.0, line.length, step):
            for hand in (1, -1):
                if random.random() < 0.35:
                    continue
                house = _house(line, float(at), hand, random)
                x, y = house.centroid.x, house.centroid.y
                # Beyond the box, too, where a corner shows after the plan is turned.
                if max(abs(x), abs(y)) > 1.1 * half or shapely.intersects(house.buffer(2), taken):
                    continue
                taken = shapely.union(taken, house.buffer(2))
                found.append(("house", house, {"prompt": str(random.choice(_HOUSES))}))
    return found


def _blob(x: float, y: float, radius: float, random: np.random.Generator) -> shapely.Polygon:
    """A round shape with seven to ten uneven corners."""
    corners = int(random.integers(7, 11))
    angles = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    radii = radius * random.uniform(0.75, 1.2, corners)
    return shapely.Polygon(np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1))


def _house(line: shapely.LineString, at: float, hand: int, random: np.random.Generator) -> shapely.Polygon:
    """A house that stands along a line, so many metres on."""
    one, other = line.interpolate(at), line.interpolate(min(at + 1, line.length))
    angle = math.atan2(other.y - one.y, other.x - one.x)
    width, depth = random.uniform(9, 13), random.uniform(7.5, 10)
    away = hand * (random.uniform(7, 9) + depth / 2)
    shape = rotate(shapely.box(-width / 2, -depth / 2, width / 2, depth / 2), angle, origin=(0, 0), use_radians=True)
    return translate(shape, one.x - away * math.sin(angle), one.y + away * math.cos(angle))


def _random(box: Box, seed: int, *key: int) -> np.random.Generator:
    address = (seed, box.zoom, box.row, box.column, box.height, box.width, *key)
    return np.random.default_rng(np.random.SeedSequence(address))
