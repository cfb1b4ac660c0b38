"""A folder of posed views in NeRF's layout, and reading it again.

DIR/transforms.json          poses (camera to world, OpenGL's axes), intrinsics, splits; nerfstudio's keys
DIR/images/000.png           colours and, as alpha, how much of a pixel shows the scene
DIR/depth/000.png            16 bits, centimetres along the camera's axis; 0 for nothing
DIR/labels/000.png           codes of land cover; 0 for nothing
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from earthgen.bands import LAND_COVER
from earthgen.cli_options import write_whole
from perception.errors import SceneError, first_line
from perception.multiview.cameras import MAX_VIEWS, Camera, bounds_of
from perception.multiview.rendering import View
from perception.multiview.scene import Scene

TRANSFORMS = "transforms.json"
DEPTH_UNIT = 0.01
"""Metres of 1 in a depth picture."""
MIN_LABELLED, MAX_LABELLED = 3, 5
HELD_OUT_EVERY = 4
"""One view of so many is held out."""


@dataclass(frozen=True, slots=True, eq=False)
class PosedSet:
    """Views of one scene.

    Attributes:
        views: what cameras saw.
        box: the lowest and the highest corner of the scene in metres, float64 (2, 3).
        held_out: numbers of the views that nothing may learn from.
        labelled: numbers of those whose labels may be learned from, MIN_LABELLED to MAX_LABELLED of the others.
        about: what else is known of the scene, as JSON types.
    """

    views: tuple[View, ...]
    box: npt.NDArray[np.float64]
    held_out: tuple[int, ...]
    labelled: tuple[int, ...]
    about: dict[str, Any]

    def __post_init__(self) -> None:
        numbers = set(range(len(self.views)))
        if not set(self.held_out) <= numbers or not set(self.labelled) <= numbers - set(self.held_out):
            raise SceneError("held-out and labelled views have to be different ones of the set's own views")
        if len(set(self.labelled)) < MIN_LABELLED:
            raise SceneError(
                f"{len(set(self.labelled))} views are labelled; {MIN_LABELLED} to {MAX_LABELLED} are needed, none of"
                " them held out"
            )
        if len(set(self.labelled)) > MAX_LABELLED:
            raise SceneError(f"{len(self.labelled)} views are labelled; at most {MAX_LABELLED} are allowed")
        sizes = {(view.camera.height, view.camera.width) for view in self.views}
        if len(sizes) > 1:
            raise SceneError(f"views have {len(sizes)} different sizes; one is allowed")

    @property
    def seen(self) -> tuple[int, ...]:
        """Numbers of the views that colours are learned from."""
        return tuple(number for number in range(len(self.views)) if number not in self.held_out)


def posed_set(scene: Scene, views: Sequence[View], labelled: int = 4, about: dict[str, Any] | None = None) -> PosedSet:
    """Split views of a scene: each fourth is held out, labelled ones are spread around the others.

    Args:
        scene: what they show.
        views: of it; at least 6.
        labelled: how many are labelled, MIN_LABELLED to MAX_LABELLED.
        about: more to write down.

    Raises:
        SceneError: too few views, or a number of labelled ones that is not allowed.
    """
    check_counts(len(views), labelled)
    held_out = tuple(range(HELD_OUT_EVERY - 1, len(views), HELD_OUT_EVERY))
    rest = [number for number in range(len(views)) if number not in held_out]
    legend = [{"code": part.code, "name": part.name, "colour": list(part.colour)} for part in LAND_COVER]
    known = {
        "world": scene.world.to_dict(),
        "world_id": scene.world.id,
        "bounds": list(scene.bounds),
        "zoom": scene.box.zoom,
        "metres": scene.metres,
        "legend": legend,
    }
    chosen = _spread([views[number].camera for number in rest], labelled)
    numbers = tuple(sorted(rest[index] for index in chosen))
    return PosedSet(tuple(views), bounds_of(scene), held_out, numbers, known | (about or {}))


def check_counts(count: int, labelled: int) -> None:
    """Refuse numbers of views and of labelled ones that make no set.

    Raises:
        SceneError: they do not.
    """
    rest = count - count // HELD_OUT_EVERY
    if not MIN_LABELLED <= labelled <= MAX_LABELLED or labelled > rest or count > MAX_VIEWS:
        raise SceneError(
            f"{labelled} labelled of {count} views are asked for; {MIN_LABELLED} to {MAX_LABELLED} are allowed, of at"
            f" most {MAX_VIEWS} views, of which each fourth is held out"
        )


def _spread(cameras: Sequence[Camera], count: int) -> list[int]:
    """Cameras that stand far from each other: each next one is the farthest from those that are chosen."""
    places = np.array([camera.position for camera in cameras])
    chosen = [0]
    while len(chosen) < count:
        gaps = np.linalg.norm(places[:, None] - places[None, chosen], axis=2).min(axis=1)
        chosen.append(int(gaps.argmax()))
    return chosen


def write_views(folder: Path, posed: PosedSet) -> Path:
    """Write a set of views; returns its transforms.json, which is written last.

    Raises:
        SceneError: the folder cannot be written.
    """
    try:
        for name, content in files_of(posed).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
    except OSError as error:
        raise SceneError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder / TRANSFORMS


def files_of(posed: PosedSet) -> dict[str, bytes]:
    """The files of a set by name, transforms.json last."""
    files: dict[str, bytes] = {}
    for number, view in enumerate(posed.views):
        alpha = np.concatenate([view.colours, view.seen[..., None]], axis=2)
        for name, pixels in (("images", alpha), ("depth", depth_codes(view)), ("labels", view.labels)):
            files[f"{name}/{number:03d}.png"] = _png(pixels)
    files[TRANSFORMS] = (json.dumps(transforms(posed), indent=1) + "\n").encode()
    return files


def depth_codes(view: View) -> npt.NDArray[np.uint16]:
    """Depths in DEPTH_UNIT, (h, w)."""
    return np.round(view.depth / DEPTH_UNIT).clip(0, 65535).astype(np.uint16)


def transforms(posed: PosedSet) -> dict[str, Any]:
    """The contents of transforms.json."""
    camera = posed.views[0].camera
    names = [f"images/{number:03d}.png" for number in range(len(posed.views))]
    frames = [
        {
            "file_path": name,
            "depth_file_path": name.replace("images", "depth"),
            "label_file_path": name.replace("images", "labels"),
            "split": "test" if number in posed.held_out else "train",
            "labelled": number in posed.labelled,
            "transform_matrix": view.camera.pose.tolist(),
        }
        for number, (name, view) in enumerate(zip(names, posed.views, strict=True))
    ]
    return {
        "camera_model": "OPENCV",
        "camera_angle_x": camera.angle_x,
        "camera_angle_y": 2 * math.atan(camera.height / (2 * camera.focal)),
        "fl_x": camera.focal,
        "fl_y": camera.focal,
        "cx": camera.width / 2,
        "cy": camera.height / 2,
        "w": camera.width,
        "h": camera.height,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "depth_unit_scale_factor": DEPTH_UNIT,
        "scene_box": posed.box.tolist(),
        "train_filenames": [names[number] for number in posed.seen],
        "val_filenames": [names[number] for number in posed.held_out],
        "test_filenames": [names[number] for number in posed.held_out],
        "frames": frames,
        "earthgen": posed.about,
    }


def read_views(folder: Path, labelled: Sequence[int] | None = None) -> PosedSet:
    """Read a set of views.

    Args:
        folder: with transforms.json.
        labelled: numbers of the views whose labels may be learned from; None for those that the file names.

    Raises:
        SceneError: it is missing or damaged, or has too few labelled views.
    """
    path = folder / TRANSFORMS
    try:
        value = json.loads(path.read_bytes())
        frames = value["frames"]
        if not 1 <= len(frames) <= MAX_VIEWS:
            raise SceneError(f"{path} has {len(frames)} frames; 1 to {MAX_VIEWS} are allowed")
        views = tuple(_read_view(folder, value, frame) for frame in frames)
        held_out = tuple(number for number, frame in enumerate(frames) if frame["split"] == "test")
        if labelled is None:
            labelled = [number for number, frame in enumerate(frames) if frame["labelled"]]
        box = np.array(value["scene_box"], dtype=np.float64).reshape(2, 3)
        return PosedSet(views, box, held_out, tuple(labelled), dict(value["earthgen"]))
    except FileNotFoundError as error:
        raise SceneError(f"{folder} is no set of views: {error.filename} is missing") from error
    except (OSError, UnidentifiedImageError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SceneError):
            raise
        raise SceneError(f"{path} cannot be read as a set of views: {first_line(error)}") from error


def _read_view(folder: Path, value: dict[str, Any], frame: dict[str, Any]) -> View:
    camera = Camera(
        np.array(frame["transform_matrix"], dtype=np.float64), int(value["w"]), int(value["h"]), float(value["fl_x"])
    )
    pictures = []
    for key in ("file_path", "depth_file_path", "label_file_path"):
        with Image.open(folder / frame[key]) as file:
            pixels = np.asarray(file)
        if pixels.shape[:2] != (camera.height, camera.width):
            raise SceneError(
                f"{folder / frame[key]} has {pixels.shape[1]} x {pixels.shape[0]} pixels; {camera.width} x"
                f" {camera.height} are needed"
            )
        pictures.append(pixels)
    image, depth, labels = pictures
    if image.ndim != 3 or image.shape[2] != 4:
        raise SceneError(f"{folder / frame['file_path']} is no picture with alpha; RGBA is needed")
    unit = float(value["depth_unit_scale_factor"])
    return View(
        camera,
        np.ascontiguousarray(image[..., :3]),
        np.ascontiguousarray(image[..., 3]),
        (depth.astype(np.float32) * np.float32(unit)),
        labels.astype(np.uint8),
    )


def _png(pixels: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
