"""Regions in pieces: the unit in which a GeoTIFF is made, resumed and joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterWindow

import earthgen
from earthgen.bands import Band
from earthgen.export.band import band_tags, colour_table
from earthgen.pyramid import EQUATOR_GSD, WINDOW_SIZE, Box, box_mercator_bounds
from earthgen.world import World

PIECE_SIZE = 4 * WINDOW_SIZE
"""Pixels along the side of a piece; pieces lie on a lattice of whole windows, so that no window is made twice."""
PIECE_FILES = "*_*_*.tif"
"""Pattern of the names of pieces."""
GDAL_OPTIONS: dict[str, int | str] = {"GDAL_CACHEMAX": 64_000_000, "GDAL_NUM_THREADS": "1", "GDAL_PAM_ENABLED": "NO"}
"""Flat memory, the same bytes on any number of cores, no files on the side."""


class PixelSource(Protocol):
    """What an export needs of an engine."""

    @property
    def weights_id(self) -> str:
        """Content id of the weights."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever pixels could change."""

    def pixels(self, world: World, box: Box) -> npt.NDArray[np.uint8]:
        """uint8 (h, w, 3) of a box, or (h, w) of a band."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the region: its global pixels, and where they lie in the file."""

    box: Box
    row: int
    column: int

    @property
    def name(self) -> str:
        """Of its file, in the folder of unfinished work."""
        return f"{self.box.zoom}_{self.row}_{self.column}.tif"

    @property
    def window(self) -> RasterWindow:
        """Where it lies in the file."""
        return RasterWindow(self.column, self.row, self.box.width, self.box.height)


def pieces_of(box: Box) -> Iterator[Piece]:
    """Cut a box along the lattice of PIECE_SIZE, row by row."""
    for top, bottom in _cuts(box.row, box.height):
        for left, right in _cuts(box.column, box.width):
            piece = Box(box.zoom, top, left, bottom - top, right - left)
            yield Piece(piece, top - box.row, left - box.column)


def _cuts(start: int, length: int) -> list[tuple[int, int]]:
    inner = range((start // PIECE_SIZE + 1) * PIECE_SIZE, start + length, PIECE_SIZE)
    edges = [start, *inner, start + length]
    return list(pairwise(edges))


def encode_piece(pixels: npt.NDArray[np.uint8], box: Box) -> bytes:
    """Pixels (h, w, 3) or (h, w) as a small deflated TIFF, made in memory: a full disk is met by plain file writing."""
    planes = np.moveaxis(np.atleast_3d(pixels), -1, 0)
    count, height, width = planes.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=count,
            dtype="uint8",
            interleave="pixel",
            photometric="RGB" if count == 3 else "MINISBLACK",
            compress="DEFLATE",
            zlevel=1,
            crs="EPSG:3857",
            transform=_transform(box),
        ) as dataset:
            dataset.write(planes)
        return bytes(memory.read())


def _transform(box: Box) -> Affine:
    """From (column, row) within a box to EPSG:3857 metres."""
    left, _, _, top = box_mercator_bounds(box)
    metres = EQUATOR_GSD / 2.0**box.zoom
    return Affine(metres, 0.0, left, 0.0, -metres, top)


def mosaic_xml(
    box: Box,
    pieces: Iterable[Piece],
    band: Band | None,
    overviews: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> str:
    """A GDAL virtual raster over pieces.

    Args:
        box: what it shows.
        pieces: of the box; their files lie beside the raster's.
        band: None for colours.
        overviews: files beside it that are its overviews, finest first.
        tags: what it says of itself.
    """
    transform = ", ".join(map(repr, _transform(box).to_gdal()))
    lines = [
        f'<VRTDataset rasterXSize="{box.width}" rasterYSize="{box.height}">',
        "<SRS>EPSG:3857</SRS>",
        f"<GeoTransform>{transform}</GeoTransform>",
    ]
    if tags:
        items = "".join(f"<MDI key={quoteattr(name)}>{escape(value)}</MDI>" for name, value in tags.items())
        lines.append(f"<Metadata>{items}</Metadata>")
    pieces = list(pieces)
    one = "Palette" if band is not None and band.kind == "classes" else "Gray"
    colours = ("Red", "Green", "Blue") if band is None else (one,)
    table = None if band is None else colour_table(band)
    for number, colour in enumerate(colours, start=1):
        lines.append(f'<VRTRasterBand dataType="Byte" band="{number}"><ColorInterp>{colour}</ColorInterp>')
        if table is not None:
            entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in table.values())
            lines.append(f"<ColorTable>{entries}</ColorTable>")
        lines += [
            f'<Overview><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
            f"<SourceBand>{number}</SourceBand></Overview>"
            for name in overviews
        ]
        for piece in pieces:
            size = f'xSize="{piece.box.width}" ySize="{piece.box.height}"'
            lines.append(
                f'<SimpleSource><SourceFilename relativeToVRT="1">{piece.name}</SourceFilename>'
                f"<SourceBand>{number}</SourceBand>"
                f'<SrcRect xOff="0" yOff="0" {size}/>'
                f'<DstRect xOff="{piece.column}" yOff="{piece.row}" {size}/></SimpleSource>'
            )
        lines.append("</VRTRasterBand>")
    lines.append("</VRTDataset>")
    return "\n".join(lines)


def export_tags(engine: PixelSource, world: World, box: Box, band: Band | None) -> dict[str, str]:
    """What a GeoTIFF says of itself: that it is synthetic, and from which world and weights."""
    return {
        "TIFFTAG_IMAGEDESCRIPTION": "Synthetic imagery made by a generative model; it shows no real place as it is",
        "TIFFTAG_SOFTWARE": f"earthgen {earthgen.__version__}",
        "EARTHGEN_SYNTHETIC": "YES",
        "EARTHGEN_WORLD": world.canonical_json,
        "EARTHGEN_WORLD_ID": world.id,
        "EARTHGEN_WEIGHTS": engine.weights_id,
        "EARTHGEN_FINGERPRINT": engine.fingerprint,
        "EARTHGEN_ZOOM": str(box.zoom),
        **({} if band is None else band_tags(band)),
    }
