"""WorldReader: a generated world behind rio-tiler's reader contract.

It translates rio-tiler's verbs into calls of an engine and generates nothing itself. The native grid
is Web Mercator's pixels at zooms 0 to 18: a request without an explicit size gets whole pixels of
one zoom, unresampled, so that it equals the tiles of the same place byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import attr
import numpy as np
import numpy.typing as npt
from affine import Affine
from morecantile import TileMatrixSet
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.features import bounds as geometry_bounds
from rasterio.features import geometry_mask
from rasterio.transform import from_bounds
from rasterio.warp import reproject, transform, transform_bounds, transform_geom
from rio_tiler.constants import WEB_MERCATOR_TMS, WGS84_CRS
from rio_tiler.errors import InvalidBandName, InvalidExpression
from rio_tiler.io.base import BaseReader
from rio_tiler.models import BandStatistics, ImageData, Info, PointData
from rio_tiler.utils import CRS_to_uri

from earthgen.bands import BandView
from earthgen.errors import AddressError, InvalidRequestError, RequestTooLargeError
from earthgen.export.band import band_tags, colour_table
from earthgen.picture import frame_of
from earthgen.pyramid import (
    MAX_LATITUDE,
    MAX_ZOOM,
    WINDOW_SIZE,
    Bounds,
    Box,
    Window,
    bounds_box,
    box_bounds,
    box_mercator_bounds,
    check_bounds,
    check_tile,
    check_zoom,
    point_pixel,
    tile_box,
    world_size,
)
from earthgen.world import Quality, World

WEB_MERCATOR = CRS.from_epsg(3857)
WORLD_BOUNDS: Bounds = (-180.0, -MAX_LATITUDE, 180.0, MAX_LATITUDE)
TILE_SIZES = (256, 512)
DEFAULT_SIZE = 1024
"""Pixels of the longest side when a request names neither a size nor a zoom."""
MOST_READ_AREAS = 4
"""Areas of `max_pixels` that the features of one request may have together."""

Cancelled = Callable[[], bool]


class EngineActivity(Protocol):
    """What an engine is doing."""

    @property
    def running(self) -> tuple[Window, ...]:
        """Windows being computed."""
        ...

    @property
    def queued(self) -> int:
        """Windows that wait."""
        ...

    @property
    def done(self) -> int:
        """Windows computed since the engine was opened."""
        ...

    @property
    def seconds_per_window(self) -> float:
        """Moving average; 0 before the first."""
        ...


class WorldEngine(Protocol):
    """What the service needs of `earthgen.engine.Engine`."""

    @property
    def weights_id(self) -> str:
        """Content id of the weights."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the pixels of an address could."""
        ...

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The qualities whose pixels differ."""
        ...

    @property
    def cached_bytes(self) -> int:
        """Bytes of finished windows in memory."""
        ...

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Cancelled | None = None
    ) -> npt.NDArray[np.uint8]:
        """A tile, (size, size, 3)."""
        ...

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> npt.NDArray[np.uint8]:
        """The pixels of a box, (h, w, 3)."""
        ...

    def point(
        self, world: World, longitude: float, latitude: float, *, zoom: int = 18, cancelled: Cancelled | None = None
    ) -> tuple[int, int, int]:
        """Red, green and blue of a place."""
        ...

    def prepare(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> None:
        """Make what the pixels of a box need, one window after another."""
        ...

    def is_ready(self, world: World, box: Box) -> bool:
        """Whether the pixels of a box need no generation."""
        ...

    def activity(self) -> EngineActivity:
        """What is being generated."""
        ...

    def close(self) -> None:
        """Drop what waits and end."""
        ...


def tile_pixels(z: int, x: int, y: int, size: int) -> Box:
    """The global pixels that a tile of `size` shows: 512-pixel tiles show the next zoom.

    Raises:
        AddressError: no such tile, or a size or zoom that is not served.
    """
    check_tile(z, x, y)
    if size not in TILE_SIZES:
        raise AddressError(f"tilesize is {size}; allowed: {', '.join(map(str, TILE_SIZES))}")
    if size == 256:
        return tile_box(z, x, y)
    if z >= MAX_ZOOM:
        raise AddressError(
            f"512-pixel tiles show the pixels of zoom {z + 1}; zoom 0..{MAX_ZOOM - 1} is allowed for them"
        )
    return Box(z + 1, y * size, x * size, size, size)


@attr.s
class WorldReader(BaseReader):
    """Reads one world: its colours, or the values of one of its bands.

    Attributes:
        input: the world.
        tms: only WebMercatorQuad.
        engine: makes the pixels.
        max_pixels: most pixels that one part, preview or feature may have.
        cancelled: returns True once nobody waits for the result any more.
        band: what is read in place of the colours; its coarsest zoom is the reader's.
    """

    input: World = attr.ib()
    tms: TileMatrixSet = attr.ib(default=WEB_MERCATOR_TMS)
    engine: WorldEngine = attr.ib(kw_only=True)
    max_pixels: int = attr.ib(default=2048 * 2048, kw_only=True)
    cancelled: Cancelled | None = attr.ib(default=None, kw_only=True)
    band: BandView | None = attr.ib(default=None, kw_only=True)

    minzoom: int = attr.ib(init=False)
    maxzoom: int = attr.ib(init=False, default=MAX_ZOOM)
    _spent: int = attr.ib(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """Describe the native grid: zoom 18 of Web Mercator."""
        self.minzoom = self.input.min_zoom if self.band is None else max(self.input.min_zoom, self.band.band.min_zoom)
        self.crs = WEB_MERCATOR
        self.width = self.height = world_size(MAX_ZOOM)
        self.bounds = box_mercator_bounds(Box(MAX_ZOOM, 0, 0, self.height, self.width))
        self.transform = from_bounds(*self.bounds, self.width, self.height)

    @property
    def colormap(self) -> dict[int, tuple[int, int, int, int]] | None:
        """What titiler draws the values in where a request says nothing: the legend of a band of classes."""
        return None if self.band is None else colour_table(self.band.band)

    @property
    def _contents(self) -> list[str]:
        """What each of the image's bands holds."""
        return ["red", "green", "blue"] if self.band is None else [self.band.band.title]

    def info(self) -> Info:
        """Bounds, bands and zooms, and the world that this is."""
        names = [f"b{number}" for number, _ in enumerate(self._contents, start=1)]
        # Info allows further fields; a subclass would lose them in titiler's response.
        return Info.model_validate(
            {
                "bounds": self.bounds,
                "crs": CRS_to_uri(self.crs),
                "band_metadata": [(name, {}) for name in names],
                "band_descriptions": list(zip(names, self._contents, strict=True)),
                "dtype": "uint8",
                "nodata_type": "None",
                "colorinterp": self._contents if self.band is None else ["palette" if self.colormap else "gray"],
                "colormap": self.colormap,
                "width": self.width,
                "height": self.height,
                "minzoom": self.minzoom,
                "maxzoom": self.maxzoom,
                "synthetic": True,
                "id": self.input.id,
                "world": self.input.to_dict(),
                "weights": (self.band or self.engine).weights_id,
            }
        )

    def statistics(
        self,
        categorical: bool = False,
        categories: list[float] | None = None,
        percentiles: list[int] | None = None,
        hist_options: dict[str, Any] | None = None,
        **preview_options: Any,
    ) -> dict[str, BandStatistics]:
        """Band statistics of the preview."""
        image = self.preview(**preview_options)
        return image.statistics(categorical, categories, percentiles, hist_options)

    def tile(
        self,
        tile_x: int,
        tile_y: int,
        tile_z: int,
        tilesize: int | None = None,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
    ) -> ImageData:
        """One tile, 256 or 512 pixels square.

        Raises:
            AddressError: no such tile or size.
        """
        size = tilesize or 256
        box = tile_pixels(tile_z, tile_x, tile_y, size)
        if self.band is None:
            pixels = self.engine.tile(self.input, tile_z, tile_x, tile_y, size=size, cancelled=self.cancelled)
        else:
            pixels = self._pixels(box)
        return _select(self._image(pixels, box_mercator_bounds(box)), indexes, expression)

    def part(
        self,
        bbox: Sequence[float],
        dst_crs: CRS | None = None,
        bounds_crs: CRS = WGS84_CRS,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
        max_size: int | None = None,
        height: int | None = None,
        width: int | None = None,
        zoom: int | None = None,
        resampling_method: str | None = None,
        reproject_method: str | None = None,
    ) -> ImageData:
        """An area.

        In Web Mercator and without `width` and `height` the result is the whole pixels that cover the
        area at one zoom: `zoom` if given, otherwise the finest at which the longest side has at most
        `max_size` (default 1024) pixels. Otherwise those pixels are resampled to what was asked for.

        Args:
            bbox: left, bottom, right, top in `bounds_crs`.
            dst_crs: of the result; Web Mercator by default.
            bounds_crs: of `bbox`.
            indexes: bands, 1 to 3.
            expression: band arithmetic, such as "b1/b2".
            max_size: most pixels along the longest side.
            height: exact rows of the result.
            width: exact columns of the result.
            zoom: of the pixels, 0 to 18.
            resampling_method: used when a size is given in Web Mercator; bilinear, or nearest of a band of classes.
            reproject_method: used for another `dst_crs`; as above.

        Raises:
            AddressError: bounds that are not finite, are empty, cross 180 degrees, or leave the projection.
            InvalidRequestError: a method that would mix the codes of classes.
            RequestTooLargeError: more than `max_pixels`.
        """
        bounds = _geographic(bbox, bounds_crs)
        image = self._area(bounds, dst_crs, max_size, height, width, zoom, resampling_method, reproject_method)
        return _select(image, indexes, expression)

    def preview(
        self,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
        max_size: int | None = DEFAULT_SIZE,
        height: int | None = None,
        width: int | None = None,
        dst_crs: CRS | None = None,
        zoom: int | None = None,
        resampling_method: str | None = None,
        reproject_method: str | None = None,
    ) -> ImageData:
        """The whole world, or the picture of a world by prompt, which has no whole; see `part`."""
        bounds = WORLD_BOUNDS if self.input.gsd is None else box_bounds(frame_of(self.input).box)
        image = self._area(bounds, dst_crs, max_size, height, width, zoom, resampling_method, reproject_method)
        return _select(image, indexes, expression)

    def point(
        self,
        lon: float,
        lat: float,
        coord_crs: CRS = WGS84_CRS,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
        zoom: int | None = None,
        resampling_method: str | None = None,
        reproject_method: str | None = None,
    ) -> PointData:
        """The pixel at a place, at zoom 18 unless told otherwise; one pixel needs no resampling.

        Raises:
            AddressError: a place outside the world.
        """
        longitude, latitude = lon, lat
        if coord_crs != WGS84_CRS:
            if not (math.isfinite(lon) and math.isfinite(lat)):
                raise AddressError(f"place ({lon}, {lat}) holds a number that is not finite")
            (longitude,), (latitude,) = transform(coord_crs, WGS84_CRS, [lon], [lat])[:2]
        level = MAX_ZOOM if zoom is None else zoom
        self.input.check_zoom(level)
        if self.band is None:
            values = self.engine.point(self.input, longitude, latitude, zoom=level, cancelled=self.cancelled)
        else:
            row, column = point_pixel(longitude, latitude, level)
            values = tuple(self._pixels(Box(level, row, column, 1, 1))[0, 0])
        point = PointData(
            np.ma.MaskedArray(np.array(values, dtype=np.uint8)),
            coordinates=(lon, lat),
            crs=coord_crs,
            band_descriptions=self._contents,
        )
        if expression:
            return _calculate(point, expression)
        if indexes is None:
            return point
        bands = _bands(indexes, self._contents)
        return PointData(
            point.array[[band - 1 for band in bands]],
            coordinates=(lon, lat),
            crs=coord_crs,
            band_names=[f"b{band}" for band in bands],
            band_descriptions=[point.band_descriptions[band - 1] for band in bands],
        )

    def feature(
        self,
        shape: dict[str, Any],
        shape_crs: CRS = WGS84_CRS,
        dst_crs: CRS | None = None,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
        align_bounds_with_dataset: bool = True,
        **part_options: Any,
    ) -> ImageData:
        """The area of a GeoJSON feature or geometry, masked outside it, see `part`.

        Raises:
            AddressError: a feature without a geometry, or bounds that `part` refuses.
        """
        geometry = shape.get("geometry", shape) if shape.get("type") == "Feature" else shape
        if not geometry:
            raise AddressError("the feature has no geometry; a polygon is needed")
        try:
            bbox = geometry_bounds(geometry)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise AddressError(f"the geometry has no bounds: {error}") from error
        # Whole pixels that cover the bounds are what `align_bounds_with_dataset` asks for, and always the case.
        image = self.part(bbox, dst_crs=dst_crs, bounds_crs=shape_crs, **part_options)
        outline = transform_geom(shape_crs, image.crs, geometry) if image.crs != shape_crs else geometry
        outside = geometry_mask([outline], (image.height, image.width), image.transform, all_touched=True)
        image.cutline_mask = outside
        image.array.mask = np.ma.getmaskarray(image.array) | outside
        return _select(image, indexes, expression)

    def _area(
        self,
        bounds: Bounds,
        dst_crs: CRS | None,
        max_size: int | None,
        height: int | None,
        width: int | None,
        zoom: int | None,
        resampling_method: str | None,
        reproject_method: str | None,
    ) -> ImageData:
        for name, value in (("max_size", max_size), ("height", height), ("width", width)):
            if value is not None and value < 1:
                raise AddressError(f"{name} is {value}; a whole number of pixels from 1 on is allowed")
        if zoom is not None:
            check_zoom(zoom)
            if height is not None or width is not None:
                raise AddressError(f"zoom {zoom} already fixes the size; give either zoom or width and height")
        native = dst_crs is None or dst_crs == WEB_MERCATOR
        # With an explicit zoom the request means those pixels, and the limit answers if they are too many.
        limit = max_size or (None if zoom is not None else DEFAULT_SIZE)
        box = _finest_box(bounds, MAX_ZOOM if zoom is None else zoom, limit, self.minzoom)
        if native and height is None and width is None:
            self._check_size(box.width, box.height, f"at zoom {box.zoom}")
            return self._read(box)
        method = self._method(resampling_method if native else reproject_method)
        grid = _target_grid(bounds, WEB_MERCATOR if native else dst_crs, box, height, width)
        self._check_size(grid.width, grid.height, "as asked for")
        return self._resample(grid, method)

    def _method(self, asked: str | None) -> str:
        """How pixels are resampled."""
        if self.colormap is None:
            return asked or "bilinear"
        if asked not in (None, "nearest", "mode"):
            raise InvalidRequestError(f"{asked} would mix the codes of classes; allowed: nearest, mode")
        return asked or "nearest"

    def _resample(self, grid: _Grid, method: str) -> ImageData:
        source = _source_box(grid, self.minzoom)
        # The source may be finer than the target by less than 2 along each axis, so 4 times its pixels is the rule;
        # more comes from a shape so distorted that it costs more than it shows.
        if source.width * source.height > 4 * max(self.max_pixels, world_size(0) ** 2):
            raise RequestTooLargeError(
                f"{grid.width} x {grid.height} pixels of this area need {source.width} x {source.height} pixels of "
                f"zoom {source.zoom}; at most {4 * self.max_pixels} are allowed"
            )
        image = self._read(source)
        shape = (grid.height, grid.width)
        georeference: dict[str, Any] = {
            "src_transform": image.transform,
            "src_crs": WEB_MERCATOR,
            "dst_transform": grid.transform,
            "dst_crs": grid.crs,
        }
        pixels, _ = reproject(
            image.array.data,
            np.zeros((image.count, *shape), dtype=np.uint8),
            resampling=Resampling[method],
            **georeference,
        )
        inside, _ = reproject(
            np.ones((image.height, image.width), dtype=np.uint8),
            np.zeros(shape, dtype=np.uint8),
            resampling=Resampling.nearest,
            **georeference,
        )
        mask = np.broadcast_to(inside == 0, pixels.shape)
        return self._image(np.moveaxis(pixels, 0, -1), grid.bounds, grid.crs, np.moveaxis(mask, 0, -1))

    def _read(self, box: Box) -> ImageData:
        """The one path from a box of pixels to an image."""
        self.input.check_zoom(box.zoom)
        self._spend(box)
        # Pixels coarser than the root of a world by prompt cost what they are made from.
        finer = max(0, self.input.root_zoom - box.zoom) if self.input.gsd is not None else 0
        if finer and box.width * box.height << 2 * finer > 4 * self.max_pixels:
            raise RequestTooLargeError(
                f"{box.width} x {box.height} pixels at zoom {box.zoom} are means of {1 << 2 * finer} pixels each;"
                f" at most {4 * self.max_pixels} are allowed in one request: ask for a smaller area"
            )
        return self._image(self._pixels(box), box_mercator_bounds(box))

    def _pixels(self, box: Box) -> npt.NDArray[np.uint8]:
        """The pixels of a box: (h, w, 3) of colours, (h, w, 1) of a band."""
        if self.band is None:
            return self.engine.pixels(self.input, box, cancelled=self.cancelled)
        return self.band.pixels(self.input, box, cancelled=self.cancelled)[..., None]

    def _image(
        self,
        pixels: npt.NDArray[np.uint8],
        bounds: Bounds,
        crs: CRS = WEB_MERCATOR,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> ImageData:
        """Pixels (h, w, bands) with their place in the world and the world's name as metadata."""
        array = np.ma.MaskedArray(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))
        array.mask = False if mask is None else np.moveaxis(mask, -1, 0)
        return ImageData(
            array,
            bounds=bounds,
            crs=crs,
            band_descriptions=self._contents,
            metadata={
                "SYNTHETIC": "yes: generated imagery, not an observation",
                "EARTHGEN_WORLD": self.input.id,
                "EARTHGEN_WORLD_JSON": self.input.canonical_json,
                "EARTHGEN_WEIGHTS": (self.band or self.engine).weights_id,
                **({} if self.band is None else band_tags(self.band.band)),
            },
        )

    def _spend(self, box: Box) -> None:
        """Bound what the features of one request cost together; each is bounded by itself already."""
        # However small, a window has to be made for it.
        cost = max(box.width * box.height, WINDOW_SIZE**2)
        most = MOST_READ_AREAS * self.max_pixels
        if self._spent and self._spent + cost > most:
            raise RequestTooLargeError(
                f"the features have more than {most} pixels together, {WINDOW_SIZE**2} at least for each; ask for"
                " fewer features, smaller ones or a coarser zoom"
            )
        self._spent += cost

    def _check_size(self, width: int, height: int, what: str) -> None:
        if width * height > self.max_pixels:
            raise RequestTooLargeError(
                f"{width} x {height} = {width * height} pixels {what}; at most {self.max_pixels} are allowed in one "
                "request: ask for a smaller area, a coarser zoom or a smaller size"
            )


@attr.s(auto_attribs=True, frozen=True)
class _Grid:
    """The pixels of a resampled result."""

    crs: CRS
    bounds: Bounds  # left, bottom, right, top in crs
    width: int
    height: int

    @property
    def transform(self) -> Affine:
        affine: Affine = from_bounds(*self.bounds, self.width, self.height)
        return affine


def _geographic(bbox: Sequence[float], crs: CRS) -> Bounds:
    """Bounds in any CRS as checked degrees, clipped to Web Mercator."""
    west, south, east, north = bbox
    if not all(map(math.isfinite, bbox)):
        raise AddressError(f"bounds {tuple(bbox)} hold a number that is not finite")
    if crs != WGS84_CRS:
        if west >= east or south >= north:
            raise AddressError(f"bounds {tuple(bbox)}: left must be less than right and bottom less than top")
        west, south, east, north = transform_bounds(crs, WGS84_CRS, west, south, east, north, densify_pts=21)
        # The edge of the world may come back a rounding error beyond 180 degrees.
        west, east = max(west, -180.0) if west > -180 - 1e-6 else west, min(east, 180.0) if east < 180 + 1e-6 else east
    check_bounds((west, south, east, north))
    return west, max(south, -MAX_LATITUDE), east, min(north, MAX_LATITUDE)


def _finest_box(bounds: Bounds, zoom: int, limit: int | None, coarsest: int) -> Box:
    """The box that covers bounds at `zoom`, or at the finest coarser zoom whose longest side is within `limit`."""
    box = bounds_box(bounds, zoom)
    while limit is not None and max(box.width, box.height) > limit and box.zoom > coarsest:
        box = bounds_box(bounds, box.zoom - 1)
    return box


def _target_grid(bounds: Bounds, crs: CRS, box: Box, height: int | None, width: int | None) -> _Grid:
    """The grid over `bounds` (degrees) in `crs`: of the given size, or with about the pixel count of `box`."""
    left, bottom, right, top = transform_bounds(WGS84_CRS, crs, *bounds, densify_pts=21)
    if not all(map(math.isfinite, (left, bottom, right, top))) or left >= right or bottom >= top:
        raise AddressError(f"bounds {bounds} have no rectangle in {crs.to_string()}; choose another dst_crs or area")
    aspect = (right - left) / (top - bottom)
    if height is None and width is None:
        longest = max(box.width, box.height)
        width, height = (longest, longest / aspect) if aspect >= 1 else (longest * aspect, longest)
    elif width is None:
        assert height is not None
        width = height * aspect
    elif height is None:
        height = width / aspect
    return _Grid(crs, (left, bottom, right, top), max(1, round(width)), max(1, round(height)))


def _source_box(grid: _Grid, coarsest: int) -> Box:
    """The native pixels a grid is made from: the coarsest zoom at least as fine, with a margin to interpolate in."""
    west, south, east, north = transform_bounds(grid.crs, WGS84_CRS, *grid.bounds, densify_pts=21)
    bounds = (max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0))
    check_bounds(bounds)
    for zoom in range(coarsest, MAX_ZOOM + 1):
        box = bounds_box(bounds, zoom)
        if box.width >= grid.width and box.height >= grid.height:
            break
    margin = box.grown(2)
    top = max(0, margin.row)
    bottom = min(world_size(box.zoom), margin.row + margin.height)
    return replace(margin, row=top, height=bottom - top)


def _bands(indexes: int | Sequence[int], contents: Sequence[str]) -> list[int]:
    bands = [indexes] if isinstance(indexes, int) else list(indexes)
    for band in bands:
        if not 1 <= band <= len(contents):
            allowed = ", ".join(f"{number} ({name})" for number, name in enumerate(contents, start=1))
            raise InvalidBandName(f"band {band} does not exist; allowed: {allowed}")
    return bands


_Bands = TypeVar("_Bands", ImageData, PointData)


def _calculate(bands: _Bands, expression: str) -> _Bands:
    """Band arithmetic; what rio-tiler trips over is an expression that makes no sense."""
    try:
        result = bands.apply_expression(expression)
    except (InvalidExpression, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InvalidExpression(f"expression {expression!r} cannot be computed: {error}") from error
    if result.array.ndim != bands.array.ndim or result.array.shape[1:] != bands.array.shape[1:]:
        raise InvalidExpression(f"expression {expression!r} gives no value for each pixel; use b1, b2 or b3 in it")
    return result


def _select(image: ImageData, indexes: int | Sequence[int] | None, expression: str | None) -> ImageData:
    """Bands or band arithmetic of an image; an expression wins, as it does in rio-tiler."""
    if expression:
        return _calculate(image, expression)
    if indexes is None:
        return image
    bands = _bands(indexes, image.band_descriptions)
    return ImageData(
        image.array[[band - 1 for band in bands]],
        bounds=image.bounds,
        crs=image.crs,
        metadata=image.metadata,
        cutline_mask=image.cutline_mask,
        band_names=[f"b{band}" for band in bands],
        band_descriptions=[image.band_descriptions[band - 1] for band in bands],
    )
