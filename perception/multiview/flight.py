"""A flight around a fitted scene as an animated picture: colours, and beside them classes and depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from earthgen.bands import LAND_COVER
from earthgen.cli_options import write_whole
from perception.errors import SceneError
from perception.multiview.cameras import Camera
from perception.multiview.rendering import View

ENDINGS = (".webp", ".gif")
Pixels = npt.NDArray[np.uint8]
_MILLISECONDS = 80


def legend_colours(labels: Pixels) -> Pixels:
    """Codes (h, w) in the colours of the land-cover band, white for nothing: uint8 (h, w, 3)."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    for part in LAND_COVER:
        table[part.code] = part.colour
    found: Pixels = table[labels]
    return found


def depth_colours(depth: npt.NDArray[np.float32], near: float, far: float) -> Pixels:
    """Depths (h, w) in metres as grey, near ones light, black for nothing: uint8 (h, w, 3)."""
    grey = np.where(depth > 0, 255 - 215 * ((depth - near) / max(far - near, 1e-6)).clip(0, 1), 0)
    found: Pixels = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    return found


def write_flight(
    path: Path,
    cameras: Sequence[Camera],
    render: Callable[[Camera], View],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write what cameras see one after another.

    Args:
        path: .webp or .gif.
        cameras: in order.
        render: makes a view.
        progress: told how many frames are done, and of how many.

    Raises:
        SceneError: no cameras, another ending, or a file that cannot be written.
    """
    if path.suffix.lower() not in ENDINGS:
        raise SceneError(f"{path} ends in {path.suffix or 'nothing'!r}; allowed: {', '.join(ENDINGS)}")
    if not cameras:
        raise SceneError("a flight has no cameras; one or more are needed")
    frames = []
    for number, camera in enumerate(cameras):
        view = render(camera)
        known = view.depth[view.depth > 0]
        near, far = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        parts = [view.colours, legend_colours(view.labels), depth_colours(view.depth, near, far)]
        frames.append(Image.fromarray(np.concatenate(parts, axis=1)))
        if progress is not None:
            progress(number + 1, len(cameras))
    kind = path.suffix[1:].upper()
    more = {"quality": 85} if kind == "WEBP" else {}
    try:
        write_whole(
            path,
            lambda file: frames[0].save(
                file, kind, save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0, **more
            ),
        )
    except OSError as error:
        raise SceneError(f"{path} cannot be written: {error.strerror or error}") from error
