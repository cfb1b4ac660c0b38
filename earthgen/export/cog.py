"""A region of a world as one Cloud-Optimized GeoTIFF.

The region is made piece by piece in flat memory. Every finished piece lies as a small file in a folder beside
the output, whole or absent, so that a run that was stopped at any moment continues where it was; the pieces are
then joined, given overviews and moved into place at once. Equal arguments give equal bytes, interrupted or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rio_cogeo.cogeo import cog_translate, cog_validate
from rio_cogeo.profiles import cog_profiles

import earthgen
from earthgen.bands import Band
from earthgen.errors import ExportError, RequestTooLargeError
from earthgen.export.band import colour_table
from earthgen.export.pieces import (
    GDAL_OPTIONS,
    PIECE_FILES,
    PIECE_SIZE,
    Piece,
    PixelSource,
    encode_piece,
    export_tags,
    mosaic_xml,
    pieces_of,
)
from earthgen.export.work import check_target, publish, work_folder, write_whole
from earthgen.pyramid import Bounds, Box, bounds_box, world_size
from earthgen.world import World

MAX_PIXELS = 1 << 28
"""Most pixels that an export takes unless its caller says more."""
BLOCK_SIZE = 512
"""Pixels along the side of the file's own tiles."""

_FORMAT = 2


def export_cog(
    engine: PixelSource,
    world: World,
    bounds: Bounds,
    zoom: int,
    path: str | Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    band: Band | None = None,
) -> Box:
    """Write a region as a Cloud-Optimized GeoTIFF in EPSG:3857: 8-bit RGB, deflate, mean overviews.

    Of a band, its values in place of the colours; of classes with their colour table, and overviews of the most
    frequent class.

    The file says in its tags that it is synthetic, and from which world and weights. Unfinished work is kept in
    the folder `<path>.part`; calling again with the same arguments continues it.

    Args:
        engine: where the pixels come from.
        world: the world.
        bounds: west, south, east, north in degrees; the file covers whole pixels around them, and
            at least one pixel of its coarsest overview.
        zoom: Web Mercator zoom of the file's full resolution.
        path: the file to write, ending in .tif or .tiff; an existing file is replaced once the new one is whole.
        progress: called with (pieces done, pieces in all), first with what an earlier run left.
        max_pixels: refuse regions of more pixels.
        band: what `engine` gives, if it is a `BandView`; None for the colours.

    Returns:
        The global pixels that the file holds.

    Raises:
        AddressError: bounds or zoom outside the pyramid.
        RequestTooLargeError: more than `max_pixels`.
        ExportError: the file cannot be written, or another process is writing it.
    """
    target = Path(path)
    box = check_export(bounds, zoom, target, max_pixels=max_pixels)
    job = {
        "format": _FORMAT,
        "version": earthgen.__version__,
        "world": world.id,
        "weights": engine.weights_id,
        "fingerprint": engine.fingerprint,
        "box": [box.zoom, box.row, box.column, box.height, box.width],
        "piece_size": PIECE_SIZE,
    }
    if band is not None:
        job["band"] = band.name
    pieces = list(pieces_of(box))
    with (
        work_folder(target, job, PIECE_FILES, (rasterio.errors.RasterioError,)) as folder,
        rasterio.Env(**GDAL_OPTIONS),
    ):
        missing = [piece for piece in pieces if not (folder / piece.name).exists()]
        for left, piece in zip(range(len(missing), 0, -1), missing, strict=True):
            if progress is not None:
                progress(len(pieces) - left, len(pieces))
            write_whole(folder / piece.name, encode_piece(engine.pixels(world, piece.box), piece.box))
        if progress is not None:
            progress(len(pieces), len(pieces))
        finished = _joined(folder, box, pieces, export_tags(engine, world, box, band), band)
        publish(finished, target)
    return box


def check_export(bounds: Bounds, zoom: int, path: Path, *, max_pixels: int = MAX_PIXELS) -> Box:
    """Refuse what `export_cog` refuses before any work; the arguments and errors are its own.

    Returns:
        The global pixels that the file would hold.
    """
    box = _with_room_for_overviews(bounds_box(bounds, zoom))
    if box.width * box.height > max_pixels:
        raise RequestTooLargeError(
            f"the region has {box.width} x {box.height} = {box.width * box.height} pixels at zoom {zoom};"
            f" at most {max_pixels} are allowed"
        )
    check_target(path, (".tif", ".tiff"))
    return box


def _joined(folder: Path, box: Box, pieces: list[Piece], tags: dict[str, str], band: Band | None) -> Path:
    """Join the pieces into a finished, checked file inside `folder`."""
    mosaic, finished = folder / "mosaic.vrt", folder / "finished.tif"
    write_whole(mosaic, mosaic_xml(box, pieces, band).encode())
    for leftover in folder.glob("tmp*.tif"):
        leftover.unlink()
    cog_translate(
        mosaic,
        finished,
        {**cog_profiles.get("deflate"), "blockxsize": BLOCK_SIZE, "blockysize": BLOCK_SIZE, "BIGTIFF": "IF_SAFER"},
        overview_level=_overviews(box),
        overview_resampling="average" if band is None or band.kind == "values" else "mode",
        in_memory=False,
        allow_intermediate_compression=True,
        config=GDAL_OPTIONS,
        colormap=None if band is None else colour_table(band),
        additional_cog_metadata=tags,
        quiet=True,
    )
    valid, errors, warnings = cog_validate(finished, strict=True, quiet=True)
    if not valid:
        raise ExportError(f"the joined file is not a valid COG: {'; '.join([*errors, *warnings])}")
    # GDAL reports some failed writes only to its log, so read every pixel back before the file counts.
    with rasterio.open(finished) as whole:
        for piece in pieces:
            with rasterio.open(folder / piece.name) as part:
                if not np.array_equal(part.read(), whole.read(window=piece.window)):
                    raise ExportError(f"piece {piece.name} reads back differently from the joined file")
    return finished


def _overviews(box: Box) -> int:
    """Halvings until the longer side fits one block; rio-cogeo would stop at the shorter."""
    longest = max(box.height, box.width)
    return max(0, math.ceil(math.log2(longest / BLOCK_SIZE)))


def _with_room_for_overviews(box: Box) -> Box:
    """A sliver widened until its smallest overview still has a pixel across, or it would be no valid COG."""
    least = 1 << _overviews(box)
    size = world_size(box.zoom)
    height, width = max(box.height, least), max(box.width, least)
    return Box(box.zoom, min(box.row, size - height), min(box.column, size - width), height, width)
