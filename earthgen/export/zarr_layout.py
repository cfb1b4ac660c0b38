"""Where everything lies in a world's Zarr hierarchy, and the documents that describe it; this module makes no pixels.

/                     a group: what the world is, and its zooms (the multiscales convention)
/12                   a group: one zoom
/12/rgb               colours: band, y, x; a chunk is a tile
/12/nir, ...          bands, if they are asked for: y, x; a chunk is a tile
/12/band, /12/x, /12/y, /12/spatial_ref     coordinates: centres of pixels in EPSG:3857
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS

import earthgen
from earthgen.bands import Band
from earthgen.export.tiles import ATTRIBUTION, DESCRIPTION
from earthgen.export.tileset import TileSet
from earthgen.pyramid import EQUATOR_GSD, TILE_SIZE, Box, box_mercator_bounds
from earthgen.world import World

MAX_COORDINATES = 1 << 23
"""Most values of a coordinate: readers load all of them. Finer zooms of a whole planet go without."""
_COORDINATE_CHUNK = 1 << 16

_CONVENTIONS = [
    {
        "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v1/schema.json",
        "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v1/README.md",
        "uuid": uuid,
        "name": title,
        "description": description,
    }
    for name, title, uuid, description in (
        ("multiscales", "multiscales", "d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"),
        ("proj", "proj:", "f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information"),
        ("spatial", "spatial:", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    )
]


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array of the hierarchy.

    Attributes:
        zoom: of its group.
        name: of itself.
        dimensions: their names.
        shape: values along them.
        chunk_shape: values of a chunk along them.
        dtype: as Zarr spells it.
        attributes: its own.
    """

    zoom: int
    name: str
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    attributes: dict[str, Any]

    @property
    def path(self) -> str:
        """Where it lies."""
        return f"{self.zoom}/{self.name}"

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks along the dimensions."""
        return tuple(-(-length // chunk) for length, chunk in zip(self.shape, self.chunk_shape, strict=True))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk."""
        return math.prod(self.chunk_shape) * np.dtype(self.dtype).itemsize

    def chunk_keys(self) -> Iterator[str]:
        """The keys of all chunks, without the array's path."""
        for index in product(*map(range, self.grid)):
            yield "/".join(map(str, ("c", *index)))

    def index(self, key: str) -> tuple[int, ...] | None:
        """The chunk that a key names, in its one spelling; None if there is none."""
        first, *rest = key.split("/")
        if first != "c" or len(rest) != len(self.grid):
            return None
        found = []
        for word, count in zip(rest, self.grid, strict=True):
            if not (word.isascii() and word.isdigit() and len(word) < 10 and str(int(word)) == word):
                return None
            if int(word) >= count:
                return None
            found.append(int(word))
        return tuple(found)

    def names_below(self, key: str) -> Iterator[str]:
        """The next words of the keys of chunks below an incomplete one such as `c/0`; none if there is no such key."""
        first, *rest = key.split("/")
        grid = self.grid
        if first != "c" or len(rest) >= len(grid):
            return
        for word, count in zip(rest, grid, strict=False):
            if not (word.isascii() and word.isdigit() and str(int(word)) == word and int(word) < count):
                return
        yield from map(str, range(grid[len(rest)]))

    def document(self) -> dict[str, Any]:
        """Its zarr.json."""
        codecs: list[dict[str, Any]] = []
        if len(self.dimensions) == 3:
            # A chunk is stored as the engine gives a tile: row, column, colour.
            codecs.append({"name": "transpose", "configuration": {"order": [1, 2, 0]}})
        one_byte = np.dtype(self.dtype).itemsize == 1
        codecs.append({"name": "bytes"} if one_byte else {"name": "bytes", "configuration": {"endian": "little"}})
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": codecs,
            "attributes": self.attributes,
            "dimension_names": list(self.dimensions),
            "storage_transformers": [],
        }


@dataclass(frozen=True)
class WorldLayout:
    """The hierarchy of a world.

    Attributes:
        world: what is shown.
        tiles: which zooms, and of each which tiles.
        bands: shown beside the colours, each from the zoom on from which it means anything.
        weights_id: what pixels are made with.
        fingerprint: changes whenever pixels could change.
    """

    world: World
    tiles: TileSet
    bands: tuple[Band, ...]
    weights_id: str
    fingerprint: str

    @property
    def zooms(self) -> range:
        """The groups, coarse to fine."""
        return range(self.tiles.min_zoom, self.tiles.max_zoom + 1)

    @cached_property
    def arrays(self) -> dict[str, ArrayLayout]:
        """Every array by its path."""
        return {array.path: array for zoom in self.zooms for array in self._arrays_at(zoom)}

    @cached_property
    def groups(self) -> dict[str, dict[str, Any]]:
        """The documents of the groups by their paths."""
        below = {str(zoom): {"attributes": self._zoom_attributes(zoom)} for zoom in self.zooms}
        groups = {"": {"attributes": self._root_attributes()}, **below}
        return {path: {"zarr_format": 3, "node_type": "group", **group} for path, group in groups.items()}

    def box(self, zoom: int) -> Box:
        """The global pixels of a zoom's arrays."""
        left, top, right, bottom = self.tiles.range_at(zoom)
        return Box(zoom, *(TILE_SIZE * value for value in (top, left, bottom - top, right - left)))

    def coordinates(self, array: ArrayLayout, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """The values of a chunk of an array that holds no pixels."""
        if array.name == "spatial_ref":
            return np.zeros((), dtype="<i4")
        if array.name == "band":
            return np.arange(1, 4, dtype="<i4")
        box = self.box(array.zoom)
        metres = EQUATOR_GSD / 2.0**array.zoom
        left, _, _, top = box_mercator_bounds(box)
        places = index[0] * array.chunk_shape[0] + np.arange(array.chunk_shape[0], dtype=np.float64) + 0.5
        return (left + places * metres if array.name == "x" else top - places * metres).astype("<f8")

    def _arrays_at(self, zoom: int) -> Iterator[ArrayLayout]:
        box = self.box(zoom)
        size = {"band": 3, "y": box.height, "x": box.width}

        def pixels(name: str, dimensions: tuple[str, ...], attributes: dict[str, Any]) -> ArrayLayout:
            chunks = tuple(3 if dimension == "band" else TILE_SIZE for dimension in dimensions)
            shape = tuple(size[dimension] for dimension in dimensions)
            where = {"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"}
            return ArrayLayout(zoom, name, dimensions, shape, chunks, "uint8", {**attributes, **where})

        yield pixels("rgb", ("band", "y", "x"), {"long_name": ["red", "green", "blue"]})
        for band in self.bands:
            if zoom >= band.min_zoom:
                yield pixels(band.name, ("y", "x"), _band_attributes(band))
        yield ArrayLayout(zoom, "band", ("band",), (3,), (3,), "int32", {"long_name": "red, green, blue"})
        yield ArrayLayout(zoom, "spatial_ref", (), (), (), "int32", self._spatial_ref())
        for axis, compass in (("y", "northing"), ("x", "easting")):
            length = size[axis]
            if length <= MAX_COORDINATES:
                attributes = {
                    "axis": axis.upper(),
                    "standard_name": f"projection_{axis}_coordinate",
                    "long_name": f"{compass} of the centres of pixels",
                    "units": "metre",
                }
                chunk = (min(length, _COORDINATE_CHUNK),)
                yield ArrayLayout(zoom, axis, (axis,), (length,), chunk, "float64", attributes)

    def _spatial_ref(self) -> dict[str, Any]:
        text = CRS.from_epsg(3857).to_wkt()
        return {"crs_wkt": text, "spatial_ref": text}

    def _transform(self, zoom: int) -> list[float]:
        left, _, _, top = box_mercator_bounds(self.box(zoom))
        metres = EQUATOR_GSD / 2.0**zoom
        return [metres, 0.0, left, 0.0, -metres, top]

    def _zoom_attributes(self, zoom: int) -> dict[str, Any]:
        box = self.box(zoom)
        return {
            "zoom": zoom,
            "metres_per_pixel_at_equator": EQUATOR_GSD / 2.0**zoom,
            "proj:code": "EPSG:3857",
            "spatial:dimensions": ["y", "x"],
            "spatial:shape": [box.height, box.width],
            "spatial:transform": self._transform(zoom),
            "spatial:bbox": list(box_mercator_bounds(box)),
            "attribution": ATTRIBUTION,
            "earthgen:world_id": self.world.id,
        }

    def _root_attributes(self) -> dict[str, Any]:
        finest = self.tiles.max_zoom
        layout = []
        for zoom in reversed(self.zooms):
            box = self.box(zoom)
            level: dict[str, Any] = {"asset": str(zoom)}
            if zoom < finest:
                # Levels that are cut to an area begin at different places: their own transforms say where.
                level |= {"derived_from": str(zoom + 1), "transform": {"scale": [2.0, 2.0]}}
            level |= {"spatial:shape": [box.height, box.width], "spatial:transform": self._transform(zoom)}
            layout.append(level)
        return {
            "title": f"earthgen world {self.world.id}",
            "description": DESCRIPTION,
            "attribution": ATTRIBUTION,
            "earthgen:synthetic": "YES",
            "earthgen:world": self.world.canonical_json,
            "earthgen:world_id": self.world.id,
            "earthgen:weights": self.weights_id,
            "earthgen:fingerprint": self.fingerprint,
            "earthgen:version": earthgen.__version__,
            "zarr_conventions": _CONVENTIONS,
            "multiscales": {"layout": layout, "resampling_method": "average"},
            "proj:code": "EPSG:3857",
            "spatial:dimensions": ["y", "x"],
            "spatial:bbox": list(box_mercator_bounds(self.box(finest))),
        }


def _band_attributes(band: Band) -> dict[str, Any]:
    attributes: dict[str, Any] = {"long_name": band.title}
    if band.classes:
        attributes |= {
            "flag_values": [item.code for item in band.classes],
            "flag_meanings": " ".join(item.name.replace(" ", "_") for item in band.classes),
        }
    return attributes
