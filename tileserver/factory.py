"""WorldFactory: titiler's routes for generated worlds, with a tile route of its own.

The tile route knows its entity tag before it makes anything, waits in a queue that a client can leave,
and never blocks the event loop; every other route is titiler's.
"""

from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import jinja2
import morecantile
from attrs import define, field
from fastapi import Depends, HTTPException, Path, Query
from morecantile.defaults import TileMatrixSets
from pydantic import Field
from rio_tiler.types import ColorMapType
from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates
from titiler.core.dependencies import ColorMapParams, DefaultDependency, ImageRenderingParams
from titiler.core.factory import TilerFactory
from titiler.core.models.mapbox import TileJSON
from titiler.core.resources.enums import ImageType
from titiler.core.routing import EndpointScope
from titiler.extensions.wmts import wmtsExtension

from earthgen.bands import BandView
from earthgen.errors import AddressError
from earthgen.export.band import encode_band
from earthgen.picture import frame_of
from earthgen.pyramid import MAX_ZOOM
from earthgen.world import World
from tileserver.admission import Cancelled
from tileserver.dependencies import (
    IMMUTABLE,
    REVALIDATE,
    WORLD_QUERY,
    NoParams,
    WorldBandParams,
    WorldHistogramParams,
    WorldPixelParams,
    WorldStatisticsParams,
    area_request,
    band_view,
    coverage_request,
    inline,
    matches,
    no_process,
    reader_params,
    service_of,
    text_request,
    tileset_request,
    wmts_request,
    world_of,
)
from tileserver.errors import not_found
from tileserver.reader import WORLD_BOUNDS, WorldReader, tile_pixels
from tileserver.rendering import MEDIA_TYPES, BandFormat, TileFormat, encode_tile, render_world_image

TMS = "WebMercatorQuad"
TILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {media_type: {} for media_type in set(MEDIA_TYPES.values())}, "description": "The tile."},
    304: {"description": "The client's copy is still right; nothing was generated."},
    404: {"description": "No such world, zoom, column or row."},
    429: {"description": "This client has asked for more than its share; Retry-After says when to come back."},
    503: {"description": "Too many tiles wait already; Retry-After says when to come back."},
}
_RENDERING = ("bidx", "expression", "rescale", "color_formula", "colormap", "colormap_name", "return_mask")
"""Query parameters that change a tile's bytes, in titiler's names."""

_bands = inline(WorldBandParams)
_pixels = inline(WorldPixelParams)
_nothing = inline(NoParams)
_statistics = inline(WorldStatisticsParams)
_histogram = inline(WorldHistogramParams)
_colormap = inline(ColorMapParams)
_rendering = inline(ImageRenderingParams)

_AREAS: list[EndpointScope] = [
    {"path": "/preview", "method": "GET"},
    {"path": "/preview.png", "method": "GET"},
    {"path": "/preview/1x1.png", "method": "GET"},
    {"path": "/bbox/0,0,1,1.png", "method": "GET"},
    {"path": "/bbox/0,0,1,1/1x1.png", "method": "GET"},
    {"path": "/point/0,0", "method": "GET"},
    {"path": "/statistics", "method": "GET"},
    {"path": "/statistics", "method": "POST"},
    {"path": "/feature", "method": "POST"},
    {"path": "/feature.png", "method": "POST"},
    {"path": "/feature/1x1.png", "method": "POST"},
]
"""One address of each route that generates an area, for titiler's matching of route dependencies."""


def web_mercator() -> TileMatrixSets:
    """The only tile matrix set served, ending at the zoom where worlds end."""
    full = morecantile.tms.get(TMS)
    matrices = [matrix for matrix in full.tileMatrices if int(matrix.id) <= MAX_ZOOM]
    return TileMatrixSets({TMS: full.model_copy(update={"tileMatrices": matrices})})


def _templates() -> Jinja2Templates:
    """Our own WMTS document: titiler's names itself as the provider and repeats the limits of every zoom."""
    loader = jinja2.FileSystemLoader(FilePath(__file__).parent / "templates")
    return Jinja2Templates(env=jinja2.Environment(autoescape=jinja2.select_autoescape(["xml"]), loader=loader))


@define(kw_only=True)
class WorldFactory(TilerFactory):
    """Routes of one world, under a prefix that holds `{world}`."""

    reader: type[WorldReader] = WorldReader
    reader_dependency: Any = reader_params
    path_dependency: Any = world_of
    layer_dependency: Any = _bands
    dataset_dependency: Any = _pixels
    tile_dependency: Any = _nothing
    stats_dependency: Any = _statistics
    histogram_dependency: Any = _histogram
    process_dependency: Any = no_process
    colormap_dependency: Any = _colormap
    render_dependency: Any = _rendering
    render_func: Callable[..., tuple[bytes, str]] = render_world_image
    supported_tms: TileMatrixSets = field(factory=web_mercator)
    # titiler's viewer loads its scripts from other people's servers; the map is served beside these routes.
    add_viewer: bool = False
    attribution: str = ""

    def __attrs_post_init__(self) -> None:
        """Add the WMTS document and the dependencies of area requests, then register all routes."""
        self.extensions = [
            *self.extensions,
            wmtsExtension(
                tile_dependencies=[WorldBandParams, ImageRenderingParams, ColorMapParams],
                layer_identifier_provider=lambda world: f"earthgen_{world.root}_{world.id}",
                templates=_templates(),
            ),
        ]
        self.route_dependencies = [
            *self.route_dependencies,
            (_AREAS, [Depends(area_request)]),
            ([{"path": "/statistics", "method": "POST"}], [Depends(coverage_request), Depends(text_request)]),
            ([{"path": f"/tiles/{TMS}", "method": "GET"}], [Depends(tileset_request)]),
            ([{"path": "/WMTSCapabilities.xml", "method": "GET"}], [Depends(wmts_request)]),
        ]
        super().__attrs_post_init__()  # type: ignore[no-untyped-call]

    def tile(self) -> None:
        """Register the tile route."""

        @self.router.get(
            "/tiles/{tileMatrixSetId}/{z}/{x}/{y}",
            operation_id=f"{self.operation_prefix}getTile",
            response_class=Response,
            responses=TILE_RESPONSES,
        )
        @self.router.get(
            "/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}",
            operation_id=f"{self.operation_prefix}getTileWithFormat",
            response_class=Response,
            responses=TILE_RESPONSES,
        )
        async def tile(
            request: Request,
            tileMatrixSetId: Annotated[Literal["WebMercatorQuad"], Path(description="Only WebMercatorQuad.")],
            z: Annotated[int, Path(description=f"Zoom, 0 to {MAX_ZOOM}.")],
            x: Annotated[int, Path(description="Column, 0 to 2**z - 1 from the west.")],
            y: Annotated[int, Path(description="Row, 0 to 2**z - 1 from the north.")],
            format: Annotated[BandFormat, Field(description="png is exact; tif is the values of a band.")] = "png",
            tilesize: Annotated[Literal["256", "512"], Query(description="Pixels along a side.")] = "256",
            v: Annotated[
                str | None,
                Query(description="Version of the pixels, from TileJSON; with it tiles may be kept for ever."),
            ] = None,
            view: BandView | None = Depends(band_view),
            world: World = Depends(self.path_dependency),
            reader_params: DefaultDependency = Depends(self.reader_dependency),
            layer_params: DefaultDependency = Depends(self.layer_dependency),
            colormap: ColorMapType | None = Depends(self.colormap_dependency),
            render_params: DefaultDependency = Depends(self.render_dependency),
        ) -> Response:
            """One tile, 256 or 512 pixels square; 512-pixel tiles show the pixels of the next zoom."""
            service = service_of(request)
            size = int(tilesize)
            try:
                box = tile_pixels(z, x, y, size)
                world.check_zoom(box.zoom)
                if view is not None:
                    view.band.check_zoom(box.zoom)
            except AddressError as error:
                raise not_found(error) from error

            options = sorted((name, value) for name, value in request.query_params.multi_items() if name in _RENDERING)
            if view is not None and options:
                raise HTTPException(
                    422, f"{options[0][0]} cannot be combined with band={view.band.name}; leave one of them out"
                )
            if view is None and format == "tif":
                raise HTTPException(422, "tif tiles hold the values of a band: give ?band=, or ask for /bbox/...tif")
            etag = service.etag(world, z, x, y, size, format, options, view and view.fingerprint)
            headers = {
                "ETag": etag,
                # With the version in it, an address always means the same bytes: worlds are values.
                "Cache-Control": IMMUTABLE if v == service.version else REVALIDATE,
                "X-Earthgen": service.provenance(world, view),
            }
            if matches(request, etag):
                return Response(status_code=304, headers=headers)

            def make(cancelled: Cancelled) -> bytes:
                if view is not None:
                    values = view.pixels(world, box, cancelled=cancelled)
                    if format == "tif":
                        return encode_band(view, world, box, values)
                    return encode_tile(view.band.render(values), format)
                # Told apart from bands above.
                assert format != "tif"
                reader = self.reader(world, **(reader_params.as_dict() | {"cancelled": cancelled}))
                if not options:
                    pixels = reader.engine.tile(world, z, x, y, size=size, cancelled=cancelled)
                    return encode_tile(pixels, format)
                image = reader.tile(x, y, z, tilesize=size, **layer_params.as_dict())
                return self.render_func(
                    image, colormap=colormap, output_format=ImageType[format], **render_params.as_dict()
                )[0]

            source = box if view is None else view.source_box(box)
            made = await service.tile(request, etag, world, source, make)
            if view is None:
                service.shown(request, world, box)
            headers["X-Cache"] = made.cache
            headers["Server-Timing"] = made.timing
            return Response(made.content, media_type=MEDIA_TYPES[format], headers=headers)

    def tilejson(self) -> None:
        """Register the TileJSON route."""

        @self.router.get(
            "/{tileMatrixSetId}/tilejson.json",
            response_model=TileJSON,
            response_model_exclude_none=True,
            operation_id=f"{self.operation_prefix}getTileJSON",
        )
        async def tilejson(
            request: Request,
            tileMatrixSetId: Annotated[Literal["WebMercatorQuad"], Path(description="Only WebMercatorQuad.")],
            tilesize: Annotated[Literal["256", "512"], Query(description="Pixels along a tile's side.")] = "256",
            tile_format: Annotated[TileFormat, Query(description="Image format of the tiles.")] = "png",
            view: BandView | None = Depends(band_view),
            world: World = Depends(self.path_dependency),
        ) -> dict[str, Any]:
            """TileJSON 3 of the world; its tile addresses carry the world's parameters and the version on."""
            service = service_of(request)
            address = self.url_for(request, "tile", tileMatrixSetId=TMS, z="{z}", x="{x}", y="{y}", format=tile_format)
            carried = [item for item in request.query_params.multi_items() if item[0] in (*WORLD_QUERY, *_RENDERING)]
            if tilesize != "256":
                carried.append(("tilesize", tilesize))
            if view is not None:
                carried.append(("band", view.band.name))
            coarsest = world.min_zoom if view is None else max(world.min_zoom, view.band.min_zoom)
            carried.append(("v", service.version))
            large = int(tilesize != "256")
            document = {
                "name": f"earthgen {world.root}, seed {world.seed}" + (f", {view.band.title}" if view else ""),
                "description": "Synthetic imagery: generated, not observed.",
                "version": "1.0.0",
                "attribution": self.attribution or None,
                "tiles": [f"{address}?{urlencode(carried)}"],
                "minzoom": max(0, coarsest - large),
                "maxzoom": MAX_ZOOM - large,
                "bounds": list(WORLD_BOUNDS),
                # MapLibre takes its tile size from here; it would assume 512 otherwise.
                "tileSize": int(tilesize),
                "world": world.id,
            }
            if world.gsd is not None:
                frame = frame_of(world)
                document["center"] = [frame.longitude, frame.latitude, frame.box.zoom - large]
            return document
