"""One picture from a prompt: a square of exactly the resolution that was asked for.

A world by prompt goes on without an end, so a picture has to choose a place. Web Mercator's pixels shrink with the
cosine of the latitude, and the level zooms are a factor of 4 apart. Where the level below the root is coarser than
the request, the picture lies at the latitude at which its pixels have just the right size, and is those pixels. Where
it is finer (by up to 2), the picture lies on the equator and is resampled.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rasterio.io import MemoryFile

from earthgen.errors import RequestTooLargeError, WorldError
from earthgen.pyramid import EQUATOR_GSD, LEVEL_ZOOMS, WINDOW_SIZE, Box, ground_sampling_distance, world_size
from earthgen.world import World

Pixels = npt.NDArray[np.uint8]
PictureFormat = Literal["png", "tif"]

DEFAULT_SIZE = 1024
MAX_SIZE = 4096
"""Pixels along the side of the largest picture."""

_PIECE = 4 * WINDOW_SIZE
_REACH = 3
"""Pixels of a picture that resampling looks at on each side of one."""


class PixelSource(Protocol):
    """What a picture needs of an engine."""

    @property
    def weights_id(self) -> str:
        """Content id of the weights."""
        ...

    def pixels(self, world: World, box: Box, *, cancelled: Callable[[], bool] | None = None) -> Pixels:
        """uint8 (h, w, 3) of a box."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a picture lies.

    Attributes:
        size: pixels along its side.
        box: the pixels that it is made from.
        view: its left, top, right and bottom edge in pixels of the box, from the box's corner.
        longitude: degrees, of its centre.
        latitude: degrees, of its centre.
    """

    size: int
    box: Box
    view: tuple[float, float, float, float]
    longitude: float
    latitude: float

    @property
    def is_resampled(self) -> bool:
        """Whether its pixels are not those of the box."""
        return self.box.width != self.size

    @property
    def transform(self) -> Affine:
        """From (column, row) of the picture to EPSG:3857 metres."""
        metres, half = EQUATOR_GSD / 2.0**self.box.zoom, world_size(self.box.zoom) / 2
        left, top, right, _ = self.view
        side = (right - left) / self.size * metres
        return Affine(
            side, 0.0, (self.box.column + left - half) * metres, 0.0, -side, (half - self.box.row - top) * metres
        )


def frame_of(world: World, size: int = DEFAULT_SIZE) -> Frame:
    """The frame of a world's picture.

    Args:
        world: of root "prompt".
        size: pixels along its side, 1 .. MAX_SIZE.

    Raises:
        WorldError: a world of another root.
        RequestTooLargeError: a size out of range.
    """
    if world.gsd is None:
        raise WorldError(f"a picture is made of a world with root 'prompt'; this one has root {world.root!r}")
    if not 1 <= size <= MAX_SIZE:
        raise RequestTooLargeError(f"size is {size}; 1 to {MAX_SIZE} pixels are allowed")
    zoom = world.root_zoom + LEVEL_ZOOMS
    scale = world.gsd / ground_sampling_distance(zoom, 0.0)
    middle = world_size(zoom) // 2
    if scale <= 1.0 + 1e-9:
        latitude = math.acos(min(1.0, scale))
        row = middle - round(math.asinh(math.tan(latitude)) / math.pi * middle)
        box = Box(zoom, row - size // 2, middle - size // 2, size, size)
        return Frame(size, box, (0.0, 0.0, float(size), float(size)), 0.0, math.degrees(latitude))
    half = size * scale / 2
    reach = math.ceil(half + _REACH * scale)
    view = (reach - half, reach - half, reach + half, reach + half)
    return Frame(size, Box(zoom, middle - reach, middle - reach, 2 * reach, 2 * reach), view, 0.0, 0.0)


def make_picture(
    engine: PixelSource,
    world: World,
    frame: Frame,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Pixels:
    """Make a picture.

    Args:
        engine: where pixels come from.
        world: of root "prompt".
        frame: from `frame_of`.
        progress: called with pieces done and pieces in all.
        cancelled: asked now and then; when it says True, the work is dropped.

    Returns:
        uint8 (size, size, 3).

    Raises:
        WorldError: the engine cannot make this world.
        RequestCancelledError: `cancelled` said so.
    """
    box = frame.box
    pieces = [
        (top, left, min(_PIECE, box.height - top), min(_PIECE, box.width - left))
        for top in range(0, box.height, _PIECE)
        for left in range(0, box.width, _PIECE)
    ]
    source = np.empty((box.height, box.width, 3), dtype=np.uint8)
    for done, (top, left, height, width) in enumerate(pieces):
        if progress is not None:
            progress(done, len(pieces))
        piece = Box(box.zoom, box.row + top, box.column + left, height, width)
        source[top : top + height, left : left + width] = engine.pixels(world, piece, cancelled=cancelled)
    if progress is not None:
        progress(len(pieces), len(pieces))
    if not frame.is_resampled:
        return source
    sides = (frame.size, frame.size)
    return np.asarray(Image.fromarray(source).resize(sides, Image.Resampling.LANCZOS, box=frame.view))


def encode_picture(
    engine: PixelSource, world: World, frame: Frame, pixels: Pixels, picture_format: PictureFormat
) -> bytes:
    """A picture as a PNG, or as a GeoTIFF in EPSG:3857; both say inside that they are synthetic and from what.

    Args:
        engine: what made it.
        world: of the picture.
        frame: of the picture.
        pixels: uint8 (size, size, 3).
        picture_format: which file.
    """
    tags = {
        "SYNTHETIC": "yes: generated imagery, not an observation",
        "EARTHGEN_WORLD": world.id,
        "EARTHGEN_WORLD_JSON": world.canonical_json,
        "EARTHGEN_WEIGHTS": engine.weights_id,
        "EARTHGEN_GSD": f"{world.gsd:g} metres per pixel",
    }
    if picture_format == "png":
        text = PngInfo()
        for name, value in tags.items():
            text.add_text(name, value)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", pnginfo=text)
        return stream.getvalue()
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "photometric": "RGB", "interleave": "pixel"}
    profile |= {"compress": "deflate", "predictor": 2, "crs": "EPSG:3857", "transform": frame.transform}
    if frame.size >= 256:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with MemoryFile() as memory:
        with memory.open(height=frame.size, width=frame.size, **profile) as dataset:
            dataset.write(np.moveaxis(pixels, -1, 0))
            dataset.update_tags(**tags)
        return bytes(memory.read())
