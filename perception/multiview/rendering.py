"""The true views of a scene: colour, depth and class of what each ray meets first, by Intel's Embree.

Ground and roofs have the colours of the engine, walls a colour and windows of their own. All are lit by one sun, with
shadows that the traced rays find, relative to level ground in the light; so what is lit fits the heights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.ndimage import map_coordinates

from perception.multiview.cameras import Camera, check_camera
from perception.multiview.scene import BUILDING, Scene
from perception.optional import require

Points = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

_SUN = np.array([math.cos(0.9) * 0.6, -math.cos(0.9) * 0.8, math.sin(0.9)])
"""Towards the sun, of length 1: high in the south-east."""
_SKY = 0.45
"""Share of the light on level ground that comes from the whole sky."""
_GROUND, _ROOF = -1, -2
"""Kinds of triangles; walls have the numbers of their buildings."""
_BIAS = 0.02
"""Metres that shadow rays start above what they start from."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a camera sees.

    Attributes:
        camera: where from.
        colours: uint8 (h, w, 3), 255 where nothing is seen.
        seen: share of a pixel that shows the scene, 0 to 255, uint8 (h, w).
        depth: along the camera's axis in metres, float32 (h, w); 0 where the middle of the pixel meets nothing.
        labels: codes of land cover of what the middle meets, uint8 (h, w); 0 for nothing.
    """

    camera: Camera
    colours: npt.NDArray[np.uint8]
    seen: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]


def render_views(
    scene: Scene, cameras: Sequence[Camera], *, samples: int = 3, progress: Progress | None = None
) -> tuple[View, ...]:
    """The true views of a scene.

    Args:
        scene: what is there.
        cameras: from where.
        samples: rays along a side of a pixel whose mean is its colour, odd, so that one is its middle.
        progress: told how many views are done, and of how many.

    Raises:
        SceneError: a camera that is under the surface or looks away.
        DependencyError: embreex is not installed.
    """
    for camera in cameras:
        check_camera(scene, camera)
    tracer = Tracer(scene)
    views = []
    for number, camera in enumerate(cameras):
        views.append(tracer.view(camera, samples))
        if progress is not None:
            progress(number + 1, len(cameras))
    return tuple(views)


class Tracer:
    """A scene as triangles that rays can be asked of.

    Raises:
        DependencyError: embreex is not installed.
    """

    def __init__(self, scene: Scene) -> None:
        scenes = require("embreex.rtcore_scene", "views")
        meshes = require("embreex.mesh_construction", "views")
        self.scene = scene
        self._triangles, self._kinds = _triangles(scene)
        one, two = (self._triangles[:, corner] - self._triangles[:, 0] for corner in (1, 2))
        normals = np.cross(one, two)
        self._normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self._embree = scenes.EmbreeScene()
        # Embree refers to the mesh and does not keep it alive.
        self._mesh = meshes.TriangleMesh(self._embree, self._triangles.astype(np.float32))

    def meet(self, origins: Points, directions: Points) -> tuple[npt.NDArray[np.int64], Points]:
        """What rays (n, 3) meet first: numbers of triangles, -1 for none, and places (n, 3)."""
        hits = self._embree.run(origins.astype(np.float32), directions.astype(np.float32)).astype(np.int64)
        # Exactly on the triangle's plane, which is sharper than Embree's own distance in single precision.
        normals, corners = self._normals[hits], self._triangles[hits, 0]
        slope = (directions * normals).sum(axis=1)
        far = ((corners - origins) * normals).sum(axis=1) / np.where(np.abs(slope) < 1e-12, 1e-12, slope)
        return hits, origins + far[:, None] * directions

    def view(self, camera: Camera, samples: int = 3) -> View:
        """See `render_views`."""
        height, width = camera.height, camera.width
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        total, share = np.zeros((height, width, 3)), np.zeros((height, width))
        depth, labels = np.zeros((height, width)), np.zeros((height, width), dtype=np.uint8)
        offsets = (np.arange(samples) + 0.5) / samples - 0.5
        for down in offsets:
            for right in offsets:
                directions = camera.directions(rows + down, columns + right).reshape(-1, 3)
                origins = np.broadcast_to(camera.position, directions.shape)
                hits, places = self.meet(origins, directions)
                met = hits >= 0
                colours = np.zeros((len(hits), 3))
                colours[met] = self._lit(hits[met], places[met])
                total += colours.reshape(height, width, 3)
                share += met.reshape(height, width)
                if abs(down) + abs(right) < 1e-9:
                    # Directions are as long as makes depth count them.
                    along = (places - origins) @ -camera.pose[:3, 2]
                    depth = np.where(met, along, 0.0).reshape(height, width)
                    labels = self._classes(hits, places).reshape(height, width)
        mean = total / np.maximum(share, 1)[..., None]
        part = (share / samples**2)[..., None]
        rounded = np.round(mean * part + 255 * (1 - part)).clip(0, 255).astype(np.uint8)
        seen = np.round(255 * part[..., 0]).astype(np.uint8)
        return View(camera, rounded, seen, depth.astype(np.float32), labels)

    def _classes(self, hits: npt.NDArray[np.int64], places: Points) -> npt.NDArray[np.uint8]:
        found = np.zeros(len(hits), dtype=np.uint8)
        ground = (hits >= 0) & (self._kinds[hits] == _GROUND)
        found[(hits >= 0) & ~ground] = BUILDING
        rows, columns = self.scene.pixel(places[ground, 0], places[ground, 1])
        height, width = self.scene.labels.shape
        found[ground] = self.scene.labels[
            np.clip(np.rint(rows), 0, height - 1).astype(int), np.clip(np.rint(columns), 0, width - 1).astype(int)
        ]
        return found

    def _lit(self, hits: npt.NDArray[np.int64], places: Points) -> Points:
        """Colours 0..255 (n, 3) of places on triangles."""
        colours = self._painted(hits, places)
        normals = self._normals[hits]
        facing = (normals @ _SUN).clip(0)
        towards = np.broadcast_to(_SUN, places.shape).astype(np.float32)
        blocked = self._embree.run((places + _BIAS * normals).astype(np.float32), towards, query="OCCLUDED") >= 0
        # Walls see half of the sky.
        sky = _SKY * (0.5 + 0.5 * normals[:, 2])
        light = (sky + (1 - _SKY) * facing / _SUN[2] * ~blocked)[:, None]
        return np.asarray(colours * light).clip(0, 255)

    def _painted(self, hits: npt.NDArray[np.int64], places: Points) -> Points:
        rows, columns = self.scene.pixel(places[:, 0], places[:, 1])
        picture = self.scene.colours.astype(np.float32)
        channels = [map_coordinates(picture[..., c], (rows, columns), order=1, mode="nearest") for c in range(3)]
        colours = np.stack(channels, axis=1).astype(np.float64)
        kinds = self._kinds[hits]
        walls = kinds >= 0
        if walls.any():
            plain = np.array([building.wall for building in self.scene.buildings], dtype=np.float64)[kinds[walls]]
            tops = np.array([building.top for building in self.scene.buildings])[kinds[walls]]
            normals, spots = self._normals[hits[walls]], places[walls]
            along = spots[:, 1] * normals[:, 0] - spots[:, 0] * normals[:, 1]
            below = tops - spots[:, 2]
            window = (np.mod(along, 3.0) < 1.4) & (np.mod(below, 3.2) > 0.9) & (np.mod(below, 3.2) < 2.3)
            colours[walls] = np.where(window[:, None], np.array([60.0, 70.0, 84.0]), plain)
        return colours


def _triangles(scene: Scene) -> tuple[Points, npt.NDArray[np.int64]]:
    """The scene's triangles (n, 3 corners, 3), anticlockwise from outside, and their kinds (n,)."""
    parts, kinds = [_ground(scene)], []
    kinds.append(np.full(len(parts[0]), _GROUND))
    for number, building in enumerate(scene.buildings):
        outline = building.footprint
        following = np.roll(outline, -1, axis=0)
        low, high = (np.full((len(outline), 1), value) for value in (building.bottom, building.top))
        a, b = np.hstack([outline, low]), np.hstack([following, low])
        c, d = np.hstack([following, high]), np.hstack([outline, high])
        walls = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
        pieces = shapely.get_parts(shapely.constrained_delaunay_triangles(shapely.Polygon(outline)))
        flat = np.array([shapely.orient_polygons(piece).exterior.coords[:3] for piece in pieces])[..., :2]
        roof = np.concatenate([flat, np.full((*flat.shape[:2], 1), building.top)], axis=2)
        parts += [walls, roof]
        kinds += [np.full(len(walls), number), np.full(len(roof), _ROOF)]
    return np.concatenate(parts), np.concatenate(kinds)


def _ground(scene: Scene) -> Points:
    """Two triangles between each four pixels' middles; the outermost reach to the edge."""
    heights = np.pad(scene.surface.astype(np.float64), 1, mode="edge")
    rows, columns = scene.surface.shape
    x = (np.r_[0.0, np.arange(columns) + 0.5, columns] - columns / 2) * scene.metres
    y = (rows / 2 - np.r_[0.0, np.arange(rows) + 0.5, rows]) * scene.metres
    points = np.stack([*np.meshgrid(x, y), heights], axis=-1)
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    pairs: Any = np.stack([np.stack([a, b, c], axis=-2), np.stack([a, c, d], axis=-2)])
    return np.asarray(pairs.reshape(-1, 3, 3))
