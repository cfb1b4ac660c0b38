"""Several zooms of a region as one Cloud-Optimized GeoTIFF: the overviews are the world's own coarser zooms.

Means that GDAL takes of the finest pixels would differ from what the world shows there by a grey level of rounding;
here a reader that zooms out sees the very pixels of `Engine.pixels`. The region is widened to whole pixels of its
coarsest overview, so that each overview lies where its zoom's pixels lie.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rio_cogeo.cogeo import cog_validate

import earthgen
from earthgen.bands import Band
from earthgen.errors import AddressError, ExportError, InvalidRequestError, RequestTooLargeError
from earthgen.export.cog import BLOCK_SIZE, MAX_PIXELS
from earthgen.export.image import DEFAULT_QUALITY, ImageFormat, checked_image_format
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
from earthgen.export.work import Allowance, Limits, check_target, publish, work_folder, write_whole
from earthgen.pyramid import MAX_ZOOM, Bounds, Box, bounds_box, check_zoom
from earthgen.world import World

_FORMAT = 1
_COMPRESSIONS: dict[ImageFormat, str] = {"png": "DEFLATE", "jpg": "JPEG", "webp": "WEBP"}


def export_cog_pyramid(
    engine: PixelSource,
    world: World,
    bounds: Bounds,
    zooms: tuple[int, int],
    path: str | Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    image: ImageFormat = "png",
    quality: int = DEFAULT_QUALITY,
    max_pixels: int = MAX_PIXELS,
    band: Band | None = None,
    limits: Limits | None = None,
) -> list[Box]:
    """Write a region as a Cloud-Optimized GeoTIFF in EPSG:3857 whose overviews are the world's coarser zooms.

    Unfinished work is kept in the folder `<path>.part`; calling again with the same arguments continues it, to the
    bytes that an undisturbed run gives.

    Args:
        engine: where the pixels come from.
        world: the world.
        bounds: west, south, east, north in degrees.
        zooms: the coarsest and the finest; overviews end where one block holds the region.
        path: the file to write, ending in .tif or .tiff; an existing file is replaced once the new one is whole.
        progress: called with (pieces done, pieces in all).
        image: how blocks are packed: png for deflate (exact), jpg or webp.
        quality: of jpg and webp, 1 to 100.
        max_pixels: refuse regions of more pixels at the finest zoom.
        band: what `engine` gives, if it is a `BandView`; None for the colours.
        limits: where to stop.

    Returns:
        The global pixels of each level of the file, finest first.

    Raises:
        AddressError: bounds or zooms outside the pyramid.
        InvalidRequestError: an image format that cannot hold a band's values.
        RequestTooLargeError: more than `max_pixels`.
        ExportError: the file cannot be written, another process is writing it, or a limit is reached.
    """
    target = Path(path)
    boxes = check_pyramid(bounds, zooms, target, image=image, quality=quality, max_pixels=max_pixels, band=band)
    job = {
        "kind": "cog pyramid",
        "format": _FORMAT,
        "version": earthgen.__version__,
        "world": world.id,
        "fingerprint": engine.fingerprint,
        "boxes": [[box.zoom, box.row, box.column, box.height, box.width] for box in boxes],
        "image": [image, quality],
        "piece_size": PIECE_SIZE,
        "band": None if band is None else band.name,
    }
    levels = {box: list(pieces_of(box)) for box in boxes}
    pieces = sorted((piece for level in levels.values() for piece in level), key=lambda piece: _turn(piece.box))
    allowance = Allowance(limits or Limits(), target, len(pieces), "pieces")
    with (
        work_folder(target, job, PIECE_FILES, (rasterio.errors.RasterioError,)) as folder,
        rasterio.Env(**GDAL_OPTIONS),
    ):
        missing = [piece for piece in pieces if not (folder / piece.name).exists()]
        used = sum(file.stat().st_size for file in folder.glob(PIECE_FILES))
        for left, piece in zip(range(len(missing), 0, -1), missing, strict=True):
            done = len(pieces) - left
            if progress is not None:
                progress(done, len(pieces))
            content = encode_piece(engine.pixels(world, piece.box), piece.box)
            used += len(content)
            allowance.check_room(used, done)
            write_whole(folder / piece.name, content)
            if left > 1:
                allowance.check_time(done + 1)
        if progress is not None:
            progress(len(pieces), len(pieces))
        tags = export_tags(engine, world, boxes[0], band)
        publish(_joined(folder, levels, tags, band, image, quality), target)
    return boxes


def check_pyramid(
    bounds: Bounds,
    zooms: tuple[int, int],
    path: Path,
    *,
    image: ImageFormat = "png",
    quality: int = DEFAULT_QUALITY,
    max_pixels: int = MAX_PIXELS,
    band: Band | None = None,
) -> list[Box]:
    """Refuse what `export_cog_pyramid` refuses before any work; arguments, result and errors are its own."""
    checked_image_format(image, quality)
    if band is not None and image != "png":
        raise InvalidRequestError(f"a GeoTIFF of band {band.name} holds values; image format png is allowed")
    check_target(path, (".tif", ".tiff"))
    min_zoom, max_zoom = zooms
    check_zoom(min_zoom)
    if min_zoom > max_zoom:
        raise AddressError(f"zooms {min_zoom}-{max_zoom}: the coarser zoom comes first")
    boxes = _levels(bounds_box(bounds, max_zoom), min_zoom)
    finest = boxes[0]
    if finest.width * finest.height > max_pixels:
        raise RequestTooLargeError(
            f"the region has {finest.width} x {finest.height} = {finest.width * finest.height} pixels at zoom"
            f" {max_zoom}; at most {max_pixels} are allowed"
        )
    return boxes


def _levels(box: Box, min_zoom: int) -> list[Box]:
    """The boxes of the finest zoom and its overviews: each halves the one before exactly."""
    halvings = 0
    while box.zoom - halvings > min_zoom and max(box.height, box.width) > BLOCK_SIZE << halvings:
        halvings += 1
    top, left = box.row >> halvings, box.column >> halvings
    bottom, right = -(-(box.row + box.height) >> halvings), -(-(box.column + box.width) >> halvings)
    return [
        Box(box.zoom - up, *(value << halvings - up for value in (top, left, bottom - top, right - left)))
        for up in range(halvings + 1)
    ]


def _turn(box: Box) -> tuple[int, int]:
    """When a piece is made: place by place along a Z-curve and from coarse to fine, so that parents are at hand."""
    up = MAX_ZOOM - box.zoom
    return _interleaved(box.row << up, box.column << up), box.zoom


def _interleaved(row: int, column: int) -> int:
    """The bits of two numbers in turn."""
    return 2 * int(f"{row:b}", 4) + int(f"{column:b}", 4)


def _joined(
    folder: Path,
    levels: dict[Box, list[Piece]],
    tags: dict[str, str],
    band: Band | None,
    image: ImageFormat,
    quality: int,
) -> Path:
    """Join the pieces into a finished, checked file inside `folder`."""
    finest, *coarser = levels
    names = {box: f"level{box.zoom}.vrt" for box in levels}
    for box in coarser:
        write_whole(folder / names[box], mosaic_xml(box, levels[box], band).encode())
    xml = mosaic_xml(finest, levels[finest], band, [names[box] for box in coarser], tags)
    write_whole(folder / names[finest], xml.encode())
    finished = folder / "finished.tif"
    finished.unlink(missing_ok=True)
    rasterio.shutil.copy(
        folder / names[finest],
        finished,
        driver="COG",
        compress=_COMPRESSIONS[image],
        blocksize=BLOCK_SIZE,
        overviews="FORCE_USE_EXISTING" if coarser else "NONE",
        bigtiff="IF_SAFER",
        **({"predictor": "YES"} if image == "png" else {"quality": quality}),
    )
    valid, errors, warnings = cog_validate(finished, strict=bool(coarser), quiet=True)
    if not valid:
        raise ExportError(f"the joined file is not a valid COG: {'; '.join([*errors, *warnings])}")
    # GDAL reports some failed writes only to its log, so read every pixel back before the file counts.
    for number, (box, pieces) in enumerate(levels.items()):
        options = {} if box is finest else {"overview_level": number - 1}
        with rasterio.open(finished, **options) as whole:
            for piece in pieces:
                with rasterio.open(folder / piece.name) as part:
                    back = whole.read(window=piece.window)
                    if image == "png" and not np.array_equal(part.read(), back):
                        raise ExportError(f"piece {piece.name} reads back differently from the joined file")
    return finished
