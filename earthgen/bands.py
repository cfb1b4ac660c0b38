"""A world in other bands: near infrared, land cover, buildings, as a small network reads them off its colours.

A band is a pure function of the generated colours, the ground sampling distance and a weight file. It is computed in
windows of a fixed lattice, each with a margin that is thrown away, so any crop of a band equals the crop of the whole.
The networks (earthgen.bandnet) are loaded when a band is first asked for; this module loads no torch.

What ships is what real, redistributable pairs exist for. The other bands are known by name, can be trained by the same
recipe and shown from a folder of one's own, and say so when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from earthgen.errors import AddressError, InvalidRequestError, WeightsError
from earthgen.pyramid import (
    MAX_ZOOM,
    TILE_SIZE,
    Box,
    ground_sampling_distance,
    row_latitudes,
    tile_box,
    world_size,
)
from earthgen.world import World

if TYPE_CHECKING:
    from earthgen.bandnet import BandNet

Pixels = npt.NDArray[np.uint8]
Cancelled = Callable[[], bool]
Kind = Literal["values", "classes"]

SHIPPED = Path(__file__).parent / "weights" / "bands"
"""The weights that come with the package, one folder a band."""
BAND_WINDOW = 256
"""Pixels along a side of the windows in which a band is computed; their lattice is that of the tiles."""
_ALIGNMENT = 8
"""Pixels to which the network's windows are aligned."""
BANDS_VERSION = 1
"""Counts changes of this package that change a band's values."""

_NO_PAIRS = "no redistributable pairs of it with colour pictures were at hand to train on"


@dataclass(frozen=True, slots=True)
class BandClass:
    """A value of a band of classes: its code, its name and the colour it is drawn in."""

    code: int
    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Band:
    """What a band says.

    Attributes:
        name: in addresses and options, and of the weights' folder.
        title: for people.
        kind: "values" (brightness, 0..255) or "classes" (codes).
        min_zoom: the coarsest zoom at which it means anything; finer ones go on to 18.
        classes: of a band of classes, in the order of the network's outputs.
        absent: why no weights come with the package; empty if they do.
    """

    name: str
    title: str
    kind: Kind
    min_zoom: int
    classes: tuple[BandClass, ...] = ()
    absent: str = ""

    def colours(self) -> Pixels:
        """The colour table, uint8 (256, 3): of codes without a class, black; of values, grey."""
        if self.kind == "values":
            return np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
        table = np.zeros((256, 3), dtype=np.uint8)
        for item in self.classes:
            table[item.code] = item.colour
        return table

    def render(self, values: Pixels) -> Pixels:
        """Values (h, w) as a picture (h, w, 3)."""
        return self.colours()[values]

    def check_zoom(self, zoom: int) -> None:
        """Raise AddressError unless the band has values at a zoom."""
        if not self.min_zoom <= zoom <= MAX_ZOOM:
            raise AddressError(f"zoom {zoom}: band {self.name} has zooms {self.min_zoom}..{MAX_ZOOM}")


LAND_COVER: tuple[BandClass, ...] = (
    BandClass(1, "water", (40, 104, 178)),
    BandClass(2, "trees", (30, 98, 48)),
    BandClass(3, "low vegetation", (152, 190, 98)),
    BandClass(4, "bare ground", (204, 176, 130)),
    BandClass(5, "road", (72, 72, 80)),
    BandClass(6, "building", (198, 66, 52)),
    BandClass(7, "other paved", (156, 152, 156)),
)
CODES = {part.name: part.code for part in LAND_COVER}
"""Codes of land cover by name."""
BUILDINGS: tuple[BandClass, ...] = (
    BandClass(0, "no building", (24, 26, 32)),
    BandClass(1, "building", (244, 196, 92)),
)
BANDS: dict[str, Band] = {
    band.name: band
    for band in (
        Band("nir", "Near infrared", "values", 12),
        Band("landcover", "Land cover", "classes", 13, LAND_COVER),
        Band("buildings", "Buildings", "classes", 16, BUILDINGS),
        Band("pan", "Panchromatic", "values", 12, absent=_NO_PAIRS),
        Band("elevation", "Elevation", "values", 8, absent=_NO_PAIRS),
        Band("sar", "Radar backscatter", "values", 12, absent=_NO_PAIRS),
    )
}
"""Every band by name; those with `absent` set need a folder of weights of one's own."""


class PixelSource(Protocol):
    """What a band needs of an `earthgen.Engine`."""

    @property
    def weights_id(self) -> str:
        """Content id of the weights."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever pixels could change."""
        ...

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> Pixels:
        """uint8 (h, w, 3) of a box."""
        ...


def band_of(name: str) -> Band:
    """A band by name.

    Raises:
        InvalidRequestError: there is none of that name.
    """
    if name not in BANDS:
        raise InvalidRequestError(f"band is {name!r}; allowed: {', '.join(BANDS)}")
    return BANDS[name]


def available_band(name: str, folder: Path | None = None) -> Band:
    """A band by name, which has weights in `folder` or in the package.

    Raises:
        InvalidRequestError: there is none of that name, or it has no weights.
    """
    band = band_of(name)
    if band_folder(name, folder) is None:
        reason = band.absent or "they are not in this installation"
        having = [other for other in BANDS if band_folder(other, folder) is not None]
        raise InvalidRequestError(
            f"band {name} has no weights: {reason}; bands that have: {', '.join(having) or '(none)'}"
        )
    return band


def band_folder(name: str, folder: Path | None = None) -> Path | None:
    """Where a band's weights lie: in `folder`, or in the package; None if in neither."""
    for base in (folder, SHIPPED):
        if base is not None and (base / name / "config.json").is_file():
            return base / name
    return None


class BandView:
    """One band of the worlds of an engine; safe to call from many threads.

    Args:
        engine: makes the colours.
        name: of the band.
        folder: of weights that are preferred to the package's, one folder a band.

    Attributes:
        band: what it says.
        weights_id: of the engine's weights and the band's.
        fingerprint: changes whenever values could change.

    Raises:
        InvalidRequestError: no such band, or one without weights.
        WeightsError: its weights are damaged.
    """

    def __init__(self, engine: PixelSource, name: str, folder: Path | None = None) -> None:
        self.band = available_band(name, folder)
        where = band_folder(name, folder)
        assert where is not None
        self._engine = engine
        self._folder = where
        # Known without the network, which is loaded where the first window is made.
        self._margin = int(_config(where)["margin"])
        self._own_id = own_id = weights_digest(where)
        self.weights_id = f"{engine.weights_id}+{name}-{own_id}"
        self.fingerprint = hashlib.sha256(f"{engine.fingerprint}|{BANDS_VERSION}|{own_id}".encode()).hexdigest()[:20]

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = TILE_SIZE, cancelled: Cancelled | None = None
    ) -> Pixels:
        """A tile's values, uint8 (size, size); see `band_tile_box` and `pixels`."""
        return self.pixels(world, band_tile_box(z, x, y, size), cancelled=cancelled)

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> Pixels:
        """The values of a box, uint8 (height, width): brightness or codes. Columns wrap at 180 degrees.

        Raises:
            AddressError: zoom, rows or columns that the band does not have.
            WeightsError: the band's weights cannot be loaded.
            RequestCancelledError: `cancelled` said so.
        """
        self.band.check_zoom(box.zoom)
        world.check_zoom(box.zoom)
        size = world_size(box.zoom)
        if not (box.height > 0 and box.width > 0 and box.row >= 0 and box.row + box.height <= size >= box.width):
            raise AddressError(
                f"{box.height} x {box.width} pixels from row {box.row} on: zoom {box.zoom} has {size} of each"
            )
        net = _loaded_net(self._folder, self._own_id, self.band)
        values = np.empty((box.height, box.width), dtype=np.uint8)
        side = BAND_WINDOW
        for top in range(box.row // side * side, box.row + box.height, side):
            for left in range(box.column // side * side, box.column + box.width, side):
                window = self._window(net, world, Box(box.zoom, top, left % size, side, side), cancelled)
                down, right = max(top, box.row), max(left, box.column)
                bottom, end = min(top + side, box.row + box.height), min(left + side, box.column + box.width)
                values[down - box.row : bottom - box.row, right - box.column : end - box.column] = window[
                    down - top : bottom - top, right - left : end - left
                ]
        return values

    def source_box(self, box: Box) -> Box:
        """The engine's pixels that a box of the band is made from."""
        margin, side = self._margin, BAND_WINDOW
        top, left = box.row // side * side - margin, box.column // side * side - margin
        bottom = -(-(box.row + box.height) // side) * side + margin
        right = -(-(box.column + box.width) // side) * side + margin
        top, bottom = max(0, top), min(world_size(box.zoom), bottom)
        return Box(box.zoom, top, left, bottom - top, min(world_size(box.zoom), right - left))

    def _window(self, net: BandNet, world: World, window: Box, cancelled: Cancelled | None) -> Pixels:
        margin = self._margin
        box = window.grown(margin)
        gsd = ground_sampling_distance(box.zoom, 0.0) * np.cos(np.radians(row_latitudes(box.zoom, box.row, box.height)))
        values = net.read(self._colours(world, box, cancelled), gsd)
        return values[margin : margin + BAND_WINDOW, margin : margin + BAND_WINDOW]

    def _colours(self, world: World, box: Box, cancelled: Cancelled | None) -> Pixels:
        """The engine's pixels of a box; beyond the poles the last row goes on."""
        size = world_size(box.zoom)
        top, bottom = max(0, box.row), min(size, box.row + box.height)
        if box.width <= size:
            inside = self._engine.pixels(
                world, Box(box.zoom, top, box.column, bottom - top, box.width), cancelled=cancelled
            )
        else:
            whole = self._engine.pixels(world, Box(box.zoom, top, 0, bottom - top, size), cancelled=cancelled)
            inside = whole[:, np.arange(box.column, box.column + box.width) % size]
        return np.pad(inside, ((top - box.row, box.row + box.height - bottom), (0, 0), (0, 0)), mode="edge")


def band_tile_box(z: int, x: int, y: int, size: int = TILE_SIZE) -> Box:
    """The pixels of a tile: 512-pixel tiles show the next zoom, as those of the engine do.

    Raises:
        AddressError: no such tile or size.
    """
    box = tile_box(z, x, y)
    if size == TILE_SIZE:
        return box
    if size != 2 * TILE_SIZE:
        raise AddressError(f"tile size {size}; {TILE_SIZE} and {2 * TILE_SIZE} are allowed")
    return Box(z + 1, 2 * box.row, 2 * box.column, size, size)


def weights_digest(folder: Path) -> str:
    """Content id of a band's weights: 12 hexadecimal characters, as `earthgen.weights.weights_id` has it."""
    digest = hashlib.sha256()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise WeightsError(f"{folder / name} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:12]


def bands_digest(folder: Path | None = None) -> str:
    """What all bands' weights are: changes whenever the values of one could."""
    folders = {name: band_folder(name, folder) for name in BANDS}
    return ",".join(f"{name}-{weights_digest(where)}" for name, where in folders.items() if where is not None)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
        if int(config["margin"]) not in range(0, BAND_WINDOW + 1, _ALIGNMENT):
            raise ValueError(f"margin is {config['margin']}; multiples of {_ALIGNMENT} up to {BAND_WINDOW} are allowed")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / 'config.json'} describes no band: {error}") from error
    return config


_loading = threading.Lock()
_loaded: dict[tuple[Path, str], BandNet] = {}


def _loaded_net(folder: Path, own_id: str, band: Band) -> BandNet:
    """A band's network, loaded once in a process for each content of its folder."""
    key = (folder, own_id)
    with _loading:
        if key not in _loaded:
            from earthgen.bandnet import load_band_net

            net = load_band_net(folder, band)
            if weights_digest(folder) != own_id:
                raise WeightsError(f"the weights at {folder} have changed since they were first looked at")
            _loaded[key] = net
        return _loaded[key]
