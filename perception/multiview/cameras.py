"""Pinhole cameras in the convention of NeRF: poses from camera to world, with OpenGL's axes.

A camera looks along its own -z; x is to the right of the picture, y up. Pixels are addressed by their middles, the
first row is the uppermost. World axes are those of a scene: x to the east, y to the north, z up, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception.errors import SceneError
from perception.multiview.scene import Scene

Points = npt.NDArray[np.float64]

MIN_SIZE, MAX_SIZE = 32, 1024
"""Pixels along the sides of a view."""
MAX_VIEWS = 512
FIELD_OF_VIEW = 42.0
"""Degrees between the left and the right edge of views that nobody asks otherwise for."""
_GOLDEN = math.pi * (3 - math.sqrt(5))
_LOWEST, _HIGHEST = 38.0, 78.0
"""Degrees above the horizon that views of an orbit look down from."""
_NEAREST, _FARTHEST = 0.68, 0.92
"""Distance of cameras of an orbit from what they look at, by the shorter side of the ground."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole camera whose axis meets the middle of the picture.

    Attributes:
        pose: from camera to world, float64 (4, 4).
        width: pixels.
        height: pixels.
        focal: length in pixels, the same along both sides.
    """

    pose: Points
    width: int
    height: int
    focal: float

    def __post_init__(self) -> None:
        for side in (self.width, self.height):
            if not MIN_SIZE <= side <= MAX_SIZE:
                raise SceneError(f"a view has {side} pixels along a side; {MIN_SIZE} to {MAX_SIZE} are allowed")
        if not (math.isfinite(self.focal) and self.focal > 0):
            raise SceneError(f"focal length is {self.focal}; a positive number of pixels is allowed")
        if self.pose.shape != (4, 4) or not np.isfinite(self.pose).all():
            raise SceneError("a pose is no 4 x 4 matrix of finite numbers")
        turn = self.pose[:3, :3]
        if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) or np.linalg.det(turn) < 0:
            raise SceneError("a pose holds no rotation: its axes have to be orthogonal, of length 1 and right-handed")

    @property
    def position(self) -> Points:
        """Where it is: (3,)."""
        return self.pose[:3, 3]

    @property
    def angle_x(self) -> float:
        """Angle between the left and the right edge, in radians."""
        return 2 * math.atan(self.width / (2 * self.focal))

    def directions(self, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> Points:
        """Directions in the world of pixels (...,): (..., 3), of length 1 along the axis, so that depth counts them."""
        x = (np.asarray(columns, dtype=np.float64) + 0.5 - self.width / 2) / self.focal
        y = (self.height / 2 - np.asarray(rows, dtype=np.float64) - 0.5) / self.focal
        local = np.stack([x, y, np.full_like(x, -1.0)], axis=-1)
        found: Points = local @ self.pose[:3, :3].T
        return found

    def project(self, points: npt.NDArray[Any]) -> tuple[Points, Points, Points]:
        """Points (..., 3) of the world as rows, columns and depths (...,); depths are negative behind the camera."""
        local = (np.asarray(points, dtype=np.float64) - self.position) @ self.pose[:3, :3]
        depths = -local[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = self.width / 2 + self.focal * local[..., 0] / depths - 0.5
            rows = self.height / 2 - self.focal * local[..., 1] / depths - 0.5
        return rows, columns, depths


def camera_at(
    position: npt.ArrayLike, target: npt.ArrayLike, size: int, field_of_view: float = FIELD_OF_VIEW
) -> Camera:
    """A camera with a square picture that looks from one place at another, its top upwards.

    Args:
        position: (3,) in metres.
        target: (3,).
        size: pixels along a side.
        field_of_view: degrees between two opposite edges, 5 to 120.

    Raises:
        SceneError: the two are the same, or a value is out of range.
    """
    if not 5 <= field_of_view <= 120:
        raise SceneError(f"field of view is {field_of_view}; 5 to 120 degrees are allowed")
    start = np.asarray(position, dtype=np.float64)
    back = start - np.asarray(target, dtype=np.float64)
    distance = float(np.linalg.norm(back))
    if not (np.isfinite(back).all() and distance > 1e-6):
        raise SceneError("a camera looks at the place where it is; another target is needed")
    back = back / distance
    # Straight down, north is up.
    up = np.array([0.0, 0.0, 1.0]) if abs(back[2]) < 1 - 1e-9 else np.array([0.0, 1.0, 0.0])
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, start
    return Camera(pose, size, size, size / (2 * math.tan(math.radians(field_of_view) / 2)))


def orbit(scene: Scene, count: int, size: int, seed: int = 0) -> tuple[Camera, ...]:
    """Cameras around a scene that look down at it obliquely from all sides, each at another part of it.

    Args:
        scene: what they look at.
        count: 1 to MAX_VIEWS.
        size: pixels along a side.
        seed: chooses them.

    Raises:
        SceneError: a value out of range.
    """
    if not 1 <= count <= MAX_VIEWS:
        raise SceneError(f"{count} views are asked for; 1 to {MAX_VIEWS} are allowed")
    random = np.random.default_rng(np.random.SeedSequence((seed, 77)))
    side = min(scene.extent)
    begin = random.uniform(0, 2 * math.pi)
    # Heights take turns in an order that is not that of the angles around.
    steps = (random.permutation(count) + random.uniform(0.2, 0.8, count)) / count
    cameras = []
    for number in range(count):
        around = begin + number * _GOLDEN
        down = math.radians(_LOWEST + (_HIGHEST - _LOWEST) * steps[number])
        target = np.append(random.uniform(-0.2, 0.2, 2) * side, 0.2 * scene.top)
        away = np.array([math.cos(around) * math.cos(down), math.sin(around) * math.cos(down), math.sin(down)])
        camera = camera_at(target + random.uniform(_NEAREST, _FARTHEST) * side * away, target, size)
        check_camera(scene, camera)
        cameras.append(camera)
    return tuple(cameras)


def around(box: Points, count: int, size: int) -> tuple[Camera, ...]:
    """Cameras of a flight once around a box (2, 3) in metres, in order."""
    side = float((box[1] - box[0])[:2].min())
    down = math.radians(48.0)
    angles = np.linspace(0, 2 * math.pi, count, endpoint=False)
    target = np.array([0.0, 0.0, 0.2 * box[1, 2]])
    ways = np.stack([np.cos(angles) * math.cos(down), np.sin(angles) * math.cos(down), np.full(count, math.sin(down))])
    return tuple(camera_at(target + 0.85 * side * way, target, size) for way in ways.T)


def check_camera(scene: Scene, camera: Camera) -> None:
    """Refuse a camera that stands under the ground or in a building, or sees nothing of the scene.

    Raises:
        SceneError: it does; says where it is and what is allowed.
    """
    x, y, z = (float(value) for value in camera.position)
    at = f"({x:.1f}, {y:.1f}, {z:.1f})"
    under = scene.height(x, y)
    if math.isinf(under):
        under = 0.0
    if z <= under:
        raise SceneError(f"the camera at {at} is under the surface, which is {under:.1f} m high there; go above it")
    rows, columns = np.meshgrid(np.arange(0, camera.height, 4), np.arange(0, camera.width, 4), indexing="ij")
    near, far = crossings(np.array([x, y, z]), camera.directions(rows, columns), bounds_of(scene))
    if not (far > near).any():
        raise SceneError(f"the camera at {at} looks away from the scene; none of its rays meets the scene's box")


def bounds_of(scene: Scene) -> Points:
    """The lowest and the highest corner of what can be seen: (2, 3) in metres."""
    east, north = scene.extent
    return np.array([[-east / 2, -north / 2, -0.5], [east / 2, north / 2, scene.top + 0.5]])


def crossings(origins: npt.NDArray[Any], directions: npt.NDArray[Any], box: npt.NDArray[Any]) -> tuple[Points, Points]:
    """Where rays (..., 3) enter and leave a box (2, 3): depths; a ray that misses it leaves before it enters."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (box[:, None] - origins.reshape(1, -1, 3)) / directions.reshape(1, -1, 3)
    shape = directions.shape[:-1]
    near = np.nanmax(ends.min(axis=0), axis=-1).reshape(shape)
    far = np.nanmin(ends.max(axis=0), axis=-1).reshape(shape)
    return np.maximum(near, 0.0), far
