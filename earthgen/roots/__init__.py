"""Where a world starts: its picture at zoom 4, the real Earth's or a planet's made from the seed alone.

Worlds by prompt start elsewhere, see `earthgen.prompting`. A root fixes the tones of every finer level, because
children average exactly to their parent. How the two pictures are made is told in docs/roots.md.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from PIL import Image

from earthgen.errors import AddressError, WeightsError, WorldError
from earthgen.pyramid import ROOT_ZOOM, Box, world_size
from earthgen.roots import planet
from earthgen.world import World

__all__ = ["RootImage", "open_root"]

Pixels = npt.NDArray[np.uint8]

_SIZE = world_size(ROOT_ZOOM)
EARTH_MARGIN = 64
"""Columns that the file of the Earth repeats from beyond 180 degrees, on either side."""
_RECENT = 2


@dataclass(frozen=True, slots=True)
class RootImage:
    """A world's picture at zoom 4: 4096 x 4096 pixels of Web Mercator, made when first read.

    Attributes:
        id: content id; equal ids mean equal pixels on one build of earthgen.
        make: makes the whole picture, uint8 (4096, 4096, 3).
    """

    id: str
    make: Callable[[], Pixels] = field(repr=False, compare=False)

    def pixels(self, box: Box) -> Pixels:
        """Pixels of a box; columns wrap around the world, rows beyond it repeat its edge rows.

        The first read makes the whole picture, which takes about a second for the Earth and some seconds for a
        planet; the last pictures read stay in memory.

        Returns:
            uint8 (box.height, box.width, 3), the caller's own.

        Raises:
            AddressError: a box of another zoom than 4, or an empty one.
            WeightsError: a file that the picture is made from is missing or damaged.
        """
        if box.zoom != ROOT_ZOOM:
            raise AddressError(f"a root has pixels at zoom {ROOT_ZOOM} only; zoom {box.zoom} was asked for")
        if box.height < 1 or box.width < 1:
            raise AddressError(f"a box of {box.height} x {box.width} pixels is empty; at least 1 x 1 is allowed")
        whole = _recent_pictures.get(self)
        rows = np.clip(np.arange(box.row, box.row + box.height), 0, _SIZE - 1)
        columns = np.arange(box.column, box.column + box.width) % _SIZE
        return whole[rows[:, None], columns[None, :]]


def open_root(world: World) -> RootImage:
    """The root of a world; a prompt and edits do not touch it, and the Earth does not depend on the seed.

    Raises:
        WorldError: a world by prompt, which has no picture of the whole.
    """
    if world.root == "prompt":
        raise WorldError("a world by prompt has no picture of the whole; root 'earth' or 'planet' has one")
    if world.root == "earth":
        return RootImage(_earth_id(), _read_earth)
    seed = world.seed
    return RootImage(f"planet-{planet.version()}-{seed}", lambda: planet.render(seed))


class _RecentPictures:
    """The last pictures read, each made once however many threads ask."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._guard = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def get(self, root: RootImage) -> Pixels:
        with self._guard:
            entry = self._entries.setdefault(root.id, _Entry())
            self._entries.move_to_end(root.id)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        with entry.lock:
            if entry.pixels is None:
                entry.pixels = root.make()
                entry.pixels.setflags(write=False)
            return entry.pixels


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    pixels: Pixels | None = None


_recent_pictures = _RecentPictures(_RECENT)


def _earth_bytes() -> bytes:
    try:
        return (resources.files(__package__) / "earth.jp2").read_bytes()
    except OSError as error:
        raise WeightsError(f"earthgen's picture of the Earth, earth.jp2, cannot be read: {error}") from error


@cache
def _earth_id() -> str:
    return f"earth-{hashlib.sha256(_earth_bytes()).hexdigest()[:12]}"


def _read_earth() -> Pixels:
    try:
        with Image.open(io.BytesIO(_earth_bytes())) as image:
            pixels = np.array(image.convert("RGB"))
    except OSError as error:
        raise WeightsError(f"earthgen's picture of the Earth, earth.jp2, is damaged: {error}") from error
    expected = (_SIZE, _SIZE + 2 * EARTH_MARGIN, 3)
    if pixels.shape != expected:
        raise WeightsError(f"the picture of the Earth is {pixels.shape}; expected {expected}")
    return np.ascontiguousarray(pixels[:, EARTH_MARGIN:-EARTH_MARGIN])
