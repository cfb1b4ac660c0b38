"""The routes that list, describe and register worlds."""

import logging
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from earthgen.editing import layers_of
from earthgen.errors import RegistryError
from earthgen.layout import world_from_layout
from earthgen.pyramid import MAX_ZOOM
from earthgen.world import World
from tileserver.dependencies import WORLD_QUERY, named_world, service_of, world_of
from tileserver.guard import may_write

_logger = logging.getLogger(__name__)
router = APIRouter(tags=["worlds"])

_LAYOUT_EXAMPLE: dict[str, Any] = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"class": "forest"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[11.40, 47.26], [11.42, 47.26], [11.42, 47.27], [11.40, 47.27], [11.40, 47.26]]],
            },
        },
        {
            "type": "Feature",
            "properties": {"class": "road", "width": 10},
            "geometry": {"type": "LineString", "coordinates": [[11.40, 47.263], [11.42, 47.266]]},
        },
    ],
}


def describe(request: Request, name: str, world: World, query: str = "") -> dict[str, Any]:
    """A world as JSON: its value, its id, and where its pictures are."""
    service = service_of(request)
    base = str(request.base_url).rstrip("/") + f"/worlds/{name}"
    suffix = f"?{query}" if query else ""
    versioned = f"?{query}&v={service.version}" if query else f"?v={service.version}"
    return {
        "name": name,
        "id": world.id,
        **world.to_dict(),
        "synthetic": True,
        "minzoom": world.min_zoom,
        "maxzoom": MAX_ZOOM,
        "weights": service.engine.weights_id,
        "qualities": service.engine.qualities,
        "version": service.version,
        "links": {
            "self": base + suffix,
            "tiles": f"{base}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png{versioned}",
            "tilejson": f"{base}/WebMercatorQuad/tilejson.json{suffix}",
            "wmts": f"{base}/WMTSCapabilities.xml{suffix}",
            "preview": f"{base}/preview.png{suffix}",
        },
    }


@router.get("/worlds")
def list_worlds(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most worlds to list.")] = 100,
    offset: Annotated[int, Query(ge=0, description="Worlds to skip.")] = 0,
) -> dict[str, Any]:
    """The built-in worlds, then the registered ones."""
    registry = service_of(request).registry
    names = registry.names()
    worlds = []
    for name in names[offset : offset + limit]:
        try:
            worlds.append(describe(request, name, registry.get(name)))
        except RegistryError as error:
            # One damaged file must not hide all other worlds.
            _logger.error("%s", error)
    return {"worlds": worlds, "total": len(names)}


@router.post("/worlds", status_code=201, dependencies=[Depends(may_write)])
def register_world(
    request: Request,
    response: Response,
    world: Annotated[
        dict[str, Any],
        Body(
            description="A world's value; absent keys take their defaults: root `earth`, seed 0, no prompt, no edits."
            " `layout`, a GeoJSON FeatureCollection, becomes edits after those of `edits`.",
            openapi_examples={
                "planet": {"value": {"root": "planet", "seed": 7}},
                "prompt": {"value": {"root": "prompt", "prompt": "a harbour town on a rocky coast", "gsd": 1}},
                "edit": {"value": {"edits": [{"action": "snow", "polygon": [[11, 47], [11.1, 47], [11, 47.1]]}]}},
                "layout": {"value": {"layout": _LAYOUT_EXAMPLE}},
            },
        ),
    ],
) -> dict[str, Any]:
    """Make a world known under its id; the same value gets the same id, however often."""
    value = world_from_layout(world)
    layers_of(value)  # Refuses polygons that could never be shown.
    try:
        name = service_of(request).registry.register(value)
    except RegistryError as error:
        raise HTTPException(507, str(error)) from error
    description = describe(request, name, value)
    response.headers["Location"] = description["links"]["self"]
    return description


@router.get("/worlds/{world}")
async def get_world(
    request: Request,
    value: Annotated[World, Depends(named_world)],
    on_that_day: Annotated[World, Depends(world_of)],
    world: Annotated[str, Path(description="earth, planet, prompt, or the id of a registered world")],
) -> dict[str, Any]:
    """One world: its value with all edits, its id and its links, which carry the world's parameters and the date on."""
    query = urlencode([item for item in request.query_params.multi_items() if item[0] in WORLD_QUERY])
    return describe(request, world, value, query)
