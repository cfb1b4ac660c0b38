"""The route that says which bands a world can be seen in."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request

from earthgen.bands import BANDS, Band, band_folder
from earthgen.pyramid import MAX_ZOOM
from earthgen.world import World
from tileserver.dependencies import WORLD_QUERY, service_of, world_of

router = APIRouter(tags=["one world"])


@router.get("/bands")
async def list_bands(
    request: Request,
    value: Annotated[World, Depends(world_of)],
    world: Annotated[str, Path(description="earth, planet, prompt, or the id of a registered world")],
) -> dict[str, Any]:
    """Every band by name: what it says, at which zooms, its legend, and where its tiles are or why there are none."""
    service = service_of(request)
    query = [item for item in request.query_params.multi_items() if item[0] in WORLD_QUERY]
    tiles = str(request.base_url).rstrip("/") + f"/worlds/{world}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png"
    described = []
    for band in BANDS.values():
        item = describe_band(band) | {"minzoom": max(band.min_zoom, value.min_zoom), "maxzoom": MAX_ZOOM}
        if band_folder(band.name, service.settings.band_weights) is None:
            item |= {"available": False, "absent": band.absent or "its weights are not installed"}
        else:
            item |= {
                "available": True,
                "tiles": f"{tiles}?{urlencode([*query, ('band', band.name), ('v', service.version)])}",
                "weights": service.band(band.name).weights_id,
            }
        described.append(item)
    return {"bands": described}


def describe_band(band: Band) -> dict[str, Any]:
    """A band's name, title, kind and legend as JSON."""
    described: dict[str, Any] = {"name": band.name, "title": band.title, "kind": band.kind}
    if band.classes:
        described["classes"] = [
            {"code": item.code, "name": item.name, "colour": "#{:02x}{:02x}{:02x}".format(*item.colour)}
            for item in band.classes
        ]
    return described
