"""The routes that export an area of a world as one file: what it would cost, begin, follow, fetch, cancel.

An export takes longer than anybody keeps a connection open, so it is a job: it is asked after, and its file fetched
when it is whole. Its id is random and all that one needs for that; jobs are listed nowhere.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from earthgen.errors import InvalidRequestError
from earthgen.export.area import FILE_KINDS, FileKind
from earthgen.export.image import DEFAULT_QUALITY, IMAGE_FORMATS, ImageFormat
from earthgen.pyramid import MAX_ZOOM
from earthgen.world import World
from tileserver.admission import Cancelled
from tileserver.dependencies import service_of, world_of
from tileserver.export_jobs import Job, Order, area_of, patient
from tileserver.guard import may_write
from tileserver.service import Service

MEDIA_TYPES: dict[FileKind, str] = {
    "pmtiles": "application/vnd.pmtiles",
    "mbtiles": "application/vnd.sqlite3",
    "tif": "image/tiff",
}
_NO_STORE = {"Cache-Control": "no-store"}

router = APIRouter(tags=["exports"])
world_router = APIRouter(tags=["exports"])

Zoom = Annotated[int, Field(ge=0, le=MAX_ZOOM)]


class ExportRequest(BaseModel):
    """Which area, and as what."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bbox: tuple[float, float, float, float] = Field(description="West, south, east, north in degrees.")
    zooms: tuple[Zoom, Zoom] = Field(description="The coarsest and the finest.")
    file: FileKind = Field(default="pmtiles", description="PMTiles, MBTiles or a Cloud-Optimized GeoTIFF.")
    image: ImageFormat = Field(default="png", description="Of tiles or blocks: png is exact, jpg and webp are small.")
    quality: Annotated[int, Field(ge=1, le=100)] = Field(default=DEFAULT_QUALITY, description="Of jpg and webp.")
    band: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="A band in place of the colours; see /worlds/{world}/bands."
    )


Asked = Annotated[
    ExportRequest,
    Body(
        openapi_examples={
            "archive": {"value": {"bbox": [11.3, 47.1, 11.7, 47.4], "zooms": [0, 12], "image": "webp"}},
            "geotiff": {"value": {"bbox": [11.3, 47.1, 11.7, 47.4], "zooms": [8, 12], "file": "tif"}},
        }
    ),
]
ExportId = Annotated[str, Path(max_length=64, description="Of the answer that began it.")]


@router.get("/exports")
def about_exports(request: Request) -> dict[str, Any]:
    """Who may begin exports here, of which kinds, and how much."""
    service = service_of(request)
    settings, bounded = service.settings, service.exports.bounded
    return {
        "may_start": "nobody" if settings.read_only else "key" if settings.api_keys else "anybody",
        "files": list(_kinds()),
        "images": list(IMAGE_FORMATS),
        "max_tiles": bounded.tiles,
        "max_bytes": bounded.bytes,
        "client_exports": bounded.of_one_client,
        "lifetime_s": bounded.lifetime,
    }


@world_router.post("/exports/plan")
async def plan_export(request: Request, world: Annotated[World, Depends(world_of)], asked: Asked) -> dict[str, Any]:
    """How many tiles, bytes and seconds an export would take, measured on a few of its tiles; nothing is kept."""
    service = service_of(request)
    order = _order(world, asked)
    await run_in_threadpool(partial(_check, service, order, world))
    async with service.slots.hold(request) as cancelled:
        return await run_in_threadpool(partial(_plan, service, order, world, cancelled))


@world_router.post(
    "/exports",
    status_code=202,
    dependencies=[Depends(may_write)],
    responses={
        413: {"description": "More tiles than one export may have."},
        429: {"description": "You have as many unfinished exports as one client may."},
        503: {"description": "There are as many unfinished exports as there may be."},
    },
)
def start_export(
    request: Request, response: Response, world: Annotated[World, Depends(world_of)], asked: Asked
) -> dict[str, Any]:
    """Begin an export; the answer says where it can be followed."""
    service = service_of(request)
    order = _order(world, asked)
    _check(service, order, world)
    job = service.exports.start(order, service.clients.of(request))
    description = _describe(request, job)
    response.headers.update(_NO_STORE | {"Location": description["links"]["self"]})
    return description


@router.get("/exports/{export}")
def get_export(request: Request, response: Response, export: ExportId) -> dict[str, Any]:
    """How far an export is."""
    response.headers.update(_NO_STORE)
    return _describe(request, _job(request, export))


@router.get(
    "/exports/{export}/file",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "The file; parts of it by Range."},
        409: {"description": "It is not finished."},
    },
)
def get_export_file(request: Request, export: ExportId) -> Response:
    """The file of a finished export."""
    service = service_of(request)
    job = _job(request, export)
    if job.state.status != "done":
        raise HTTPException(409, f"the export is {job.state.status}; its file is there when it is done")
    path = service.exports.file(job)
    if not path.is_file():
        raise _unknown(export)
    # Which weights made it is in the file itself; this server's may be others by now.
    made_from = f"synthetic; world={World.from_dict(job.order.world).id}"
    headers = {"X-Earthgen": made_from, "Cache-Control": "private, no-cache"}
    return FileResponse(path, media_type=MEDIA_TYPES[job.order.file], filename=job.order.name, headers=headers)


@router.delete("/exports/{export}", status_code=204, dependencies=[Depends(may_write)])
def cancel_export(request: Request, export: ExportId) -> Response:
    """Give an export up, or throw its file away."""
    service_of(request).exports.cancel(_job(request, export))
    return Response(status_code=204)


def _kinds() -> tuple[FileKind, ...]:
    """Kinds of files that can be written here."""
    return tuple(kind for kind in FILE_KINDS if kind != "pmtiles" or find_spec("pmtiles") is not None)


def _order(world: World, asked: ExportRequest) -> Order:
    if asked.file not in _kinds():
        raise InvalidRequestError(f"file is {asked.file!r}; this server writes {', '.join(_kinds())}")
    return Order(world.to_dict(), asked.bbox, asked.zooms, asked.file, asked.image, asked.quality, asked.band)


def _check(service: Service, order: Order, world: World) -> None:
    """Refuse what could not be carried out, while there is a status to say it.

    Raises:
        InvalidRequestError, AddressError, RequestTooLargeError: it makes no sense, or is too much.
    """
    area = area_of(order, service.source(order.band), service.exports.bounded.tiles)
    area.check_world(world)
    # The name's ending says what it will be; where it will lie is not known before it is begun.
    area.check(_anywhere(order))


def _plan(service: Service, order: Order, world: World, cancelled: Cancelled) -> dict[str, Any]:
    view, bounded = service.source(order.band), service.exports.bounded
    area = area_of(order, view, bounded.tiles)
    path = _anywhere(order)
    tiles = area.check(path)
    estimate = area.estimate(patient(view, cancelled), world, path)
    return {
        "tiles": estimate.tiles,
        "total": estimate.total,
        "bytes": estimate.bytes,
        "seconds": estimate.seconds,
        "measured_on": estimate.samples,
        "fits": estimate.bytes <= bounded.bytes,
        "max_tiles": bounded.tiles,
        "max_bytes": bounded.bytes,
        "bbox": list(tiles.bounds),
        "name": order.name,
        "world": world.id,
        "synthetic": True,
    }


def _anywhere(order: Order) -> FilePath:
    """A path that is never written to, since only its ending is looked at."""
    return FilePath(f"export.{order.file}")


def _job(request: Request, name: str) -> Job:
    job = service_of(request).exports.get(name)
    if job is None:
        raise _unknown(name)
    return job


def _unknown(name: str) -> HTTPException:
    return HTTPException(404, f"there is no export {name!r}: it was never begun here, was cancelled, or is too old")


def _describe(request: Request, job: Job) -> dict[str, Any]:
    service = service_of(request)
    base = str(request.base_url).rstrip("/") + f"/exports/{job.id}"
    state, order = job.state, job.order
    return {
        "id": job.id,
        "status": state.status,
        "done": state.done,
        "total": state.total,
        "seconds_left": state.seconds_left,
        "detail": state.detail,
        "bytes": state.bytes,
        "name": order.name,
        "world": World.from_dict(order.world).id,
        "bbox": list(order.bounds),
        "zooms": list(order.zooms),
        "file": order.file,
        "image": order.image,
        "quality": order.quality,
        "band": order.band,
        "created": _time(job.created),
        "expires": _time(service.exports.expires(job)),
        "synthetic": True,
        "links": {"self": base, "file": f"{base}/file"},
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
