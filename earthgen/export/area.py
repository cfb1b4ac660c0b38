"""An area of a world as one file, whichever of its three kinds: checked, estimated and written in one way.

The command line and the service both ask here, so that what one refuses the other refuses, with the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from earthgen.bands import Band
from earthgen.errors import InvalidRequestError
from earthgen.export.cog import MAX_PIXELS
from earthgen.export.cog_pyramid import check_pyramid, export_cog_pyramid
from earthgen.export.estimate import Estimate, estimate_export
from earthgen.export.image import DEFAULT_QUALITY, ImageFormat, encode_image
from earthgen.export.pieces import PixelSource
from earthgen.export.tiles import MAX_TILES, TileSource, check_tiles, export_tiles
from earthgen.export.tileset import TileAddress, TileSet
from earthgen.export.work import Limits
from earthgen.pyramid import TILE_SIZE, Bounds, Box
from earthgen.world import World

FileKind = Literal["pmtiles", "mbtiles", "tif"]
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)
_PICTURES = (".tif", ".tiff")
_ARCHIVES = (".pmtiles", ".mbtiles")


class AreaSource(TileSource, PixelSource, Protocol):
    """What an export needs of an engine, or of a `BandView`."""


@dataclass(frozen=True, slots=True)
class AreaExport:
    """What to export; the ending of the file's name says as what.

    Attributes:
        bounds: west, south, east, north in degrees.
        zooms: the coarsest and the finest.
        image: png is exact; jpg and webp are small.
        quality: of jpg and webp, 1 to 100.
        max_tiles: refuse more; of a GeoTIFF, as many tiles' pixels of the finest zoom. None: 1,048,576, or 4,096.
        band: what the engine gives, if it is a `BandView`; None for the colours.
    """

    bounds: Bounds
    zooms: tuple[int, int]
    image: ImageFormat = "png"
    quality: int = DEFAULT_QUALITY
    max_tiles: int | None = None
    band: Band | None = None

    def check(self, path: Path) -> TileSet:
        """Refuse what `write` refuses before any work.

        Returns:
            The tiles of an archive, or those that a GeoTIFF's pixels lie in.

        Raises:
            AddressError: bounds or zooms outside the pyramid.
            InvalidRequestError: another ending, no such image format or quality, or one that cannot hold a band.
            RequestTooLargeError: more than `max_tiles`.
            ExportError: nothing can be written there, or PMTiles' library is not installed.
        """
        ending = path.suffix.lower()
        if ending in _PICTURES:
            boxes = check_pyramid(
                self.bounds,
                self.zooms,
                path,
                image=self.image,
                quality=self.quality,
                max_pixels=self._max_pixels,
                band=self.band,
            )
            return TileSet.covering(self.bounds, boxes[-1].zoom, self.zooms[1])
        if ending not in _ARCHIVES:
            raise InvalidRequestError(
                f"{path} ends in {path.suffix or 'nothing'!r}; allowed: {', '.join((*_ARCHIVES, *_PICTURES))}"
            )
        return check_tiles(
            self.bounds, self.zooms, path, image=self.image, quality=self.quality, max_tiles=self._max_tiles
        )

    def check_world(self, world: World) -> None:
        """Refuse a world, or a band, that has nothing at the coarsest zoom.

        Raises:
            AddressError: it begins at a finer one, which the message names.
        """
        world.check_zoom(self.zooms[0])
        if self.band is not None:
            self.band.check_zoom(self.zooms[0])

    def estimate(
        self,
        engine: AreaSource,
        world: World,
        path: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> Estimate:
        """What writing would cost here, measured on a few tiles; nothing is written. Errors are those of `check`."""
        shown = None if path.suffix.lower() in _PICTURES else self.band

        def encode(tile: TileAddress) -> bytes:
            pixels = engine.tile(world, *tile)
            return encode_image(pixels if shown is None else shown.render(pixels), self.image, self.quality)

        return estimate_export(engine, world, self.check(path), encode, progress)

    def write(
        self,
        engine: AreaSource,
        world: World,
        path: Path,
        progress: Callable[[int, int], None] | None = None,
        *,
        limits: Limits | None = None,
        workers: int | None = None,
    ) -> TileSet | list[Box]:
        """Write the file; the same call goes on with what an earlier one left in `<path>.part`.

        Args:
            engine: where the pixels come from.
            world: the world.
            path: of the file.
            progress: called with (parts done, parts in all).
            limits: where to stop.
            workers: tiles of an archive that are asked for at a time; None takes one more than there are usable cores.

        Returns:
            An archive's tiles, or the pixels of each level of a GeoTIFF, finest first.

        Raises:
            InvalidRequestError, ExportError: as `check`; and another process is writing it, or a limit is reached.
        """
        self.check(path)
        if path.suffix.lower() in _PICTURES:
            return export_cog_pyramid(
                engine,
                world,
                self.bounds,
                self.zooms,
                path,
                progress,
                image=self.image,
                quality=self.quality,
                max_pixels=self._max_pixels,
                band=self.band,
                limits=limits,
            )
        return export_tiles(
            engine,
            world,
            self.bounds,
            self.zooms,
            path,
            progress,
            image=self.image,
            quality=self.quality,
            max_tiles=self._max_tiles,
            band=self.band,
            limits=limits,
            workers=workers,
        )

    @property
    def _max_tiles(self) -> int:
        return self.max_tiles or MAX_TILES

    @property
    def _max_pixels(self) -> int:
        return MAX_PIXELS if self.max_tiles is None else self.max_tiles * TILE_SIZE**2
