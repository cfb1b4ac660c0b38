"""A band's values as a GeoTIFF: one 8-bit band with its place, its legend and where it is from."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.io import MemoryFile

from earthgen.bands import Band
from earthgen.pyramid import Box, box_mercator_bounds
from earthgen.world import World


class BandSource(Protocol):
    """What is told of a band's making; see `earthgen.bands.BandView`."""

    @property
    def band(self) -> Band:
        """What it says."""
        ...

    @property
    def weights_id(self) -> str:
        """Content id of the weights."""
        ...


def colour_table(band: Band) -> dict[int, tuple[int, int, int, int]] | None:
    """The legend as GDAL has it: red, green, blue, alpha of each code; None for a band of values."""
    if band.kind == "values":
        return None
    return {code: (int(r), int(g), int(b), 255) for code, (r, g, b) in enumerate(band.colours())}


def band_tags(band: Band) -> dict[str, str]:
    """What a file says of its band: name, and the classes as `code=name`, separated by semicolons."""
    tags = {"EARTHGEN_BAND": band.name}
    if band.classes:
        tags["EARTHGEN_CLASSES"] = "; ".join(f"{item.code}={item.name}" for item in band.classes)
    return tags


def encode_band(source: BandSource, world: World, box: Box, values: npt.NDArray[np.uint8]) -> bytes:
    """A GeoTIFF in EPSG:3857 of the values of a box, uint8 (h, w)."""
    left, _, right, top = box_mercator_bounds(box)
    metres = (right - left) / box.width
    profile = {
        "driver": "GTiff",
        "height": box.height,
        "width": box.width,
        "count": 1,
        "dtype": "uint8",
        "compress": "deflate",
        "crs": "EPSG:3857",
        "transform": Affine(metres, 0.0, left, 0.0, -metres, top),
    }
    table = colour_table(source.band)
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(values, 1)
            if table is not None:
                dataset.write_colormap(1, table)
            dataset.set_band_description(1, source.band.title)
            dataset.update_tags(
                SYNTHETIC="yes: generated imagery, not an observation",
                EARTHGEN_WORLD=world.id,
                EARTHGEN_WORLD_JSON=world.canonical_json,
                EARTHGEN_WEIGHTS=source.weights_id,
                **band_tags(source.band),
            )
        return bytes(memory.read())
