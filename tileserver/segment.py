"""The route that finds in a world what a phrase names, or what is clicked or boxed."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from affine import Affine
from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rasterio.crs import CRS
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from earthgen.errors import InvalidRequestError, RequestTooLargeError
from earthgen.pyramid import (
    EQUATOR_GSD,
    MAX_ZOOM,
    Box,
    box_bounds,
    box_mercator_bounds,
    ground_sampling_distance,
    point_pixel,
)
from earthgen.world import World
from tileserver.admission import Cancelled
from tileserver.dependencies import named_world, service_of
from tileserver.detect import GEOJSON, GEOTIFF, MOST_AREAS, Day, pixel_areas
from tileserver.service import Service
from tileserver.watching import Answer, LoadedSegmenter, asked_box

if TYPE_CHECKING:
    from perception.segmentation import Segmentation

MOST_CLICKS = 64
MOST_CHARACTERS = 1000
"""Of a phrase as it comes in; the model's own limit is said by the model."""
LEAST_SIDE = 16
"""Pixels along a side of an area in which something can be looked for."""
PNG = "image/png"
AnswerFormat = Literal["geojson", "png", "tif"]
Place = tuple[float, float]

world_router = APIRouter(tags=["perception"])


class Click(BaseModel):
    """A place that is clicked."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    longitude: float
    latitude: float
    inside: bool = Field(default=True, description="Whether the thing is there; false: it is not.")


class SegmentRequest(BaseModel):
    """Where to look, and for what: one of a phrase, clicks and a box."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bbox: tuple[float, float, float, float] = Field(description="West, south, east, north in degrees.")
    zoom: Annotated[int, Field(ge=0, le=MAX_ZOOM)] | None = Field(default=None, description="Of the pixels; or gsd.")
    gsd: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Metres per pixel or finer, in the middle of the area."
    )
    date: Day | None = Field(default=None, description="Day of the world; see `date` of tiles.")
    phrase: Annotated[str, Field(max_length=MOST_CHARACTERS)] | None = Field(
        default=None, description='What to look for, in English: "the largest building left of the road".'
    )
    clicks: Annotated[list[Click], Field(min_length=1, max_length=MOST_CLICKS)] | None = Field(
        default=None, description="Places of the thing, and places beside it."
    )
    box: tuple[float, float, float, float] | None = Field(
        default=None, description="West, south, east, north of a box around the thing, in degrees."
    )
    model: Annotated[str, Field(max_length=64)] = Field(default="rsrefseg", description="See /perception/models.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.zoom is None) == (self.gsd is None):
            raise ValueError("give either zoom or gsd")
        given = [name for name in ("phrase", "clicks", "box") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of phrase, clicks and box, not {' and '.join(given) or 'none of them'}")
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """A world on its day and the pixels in which something is looked for, looked up and checked."""

    world: World
    box: Box

    def look(
        self, service: Service, asked: SegmentRequest, model: LoadedSegmenter, cancelled: Cancelled
    ) -> Segmentation:
        """Make the picture and find what is asked for."""
        from perception.pair import Image
        from perception.phrase_encoders import checked_phrase

        if asked.phrase is not None:
            # Said before a picture is made for nothing.
            checked_phrase(asked.phrase)
        points = [self._pixel(click.longitude, click.latitude, "click") for click in asked.clicks or ()]
        corners = None if asked.box is None else self._corners(asked.box)
        left, _, _, top = box_mercator_bounds(self.box)
        gsd = EQUATOR_GSD / 2.0**self.box.zoom
        pixels = service.engine.pixels(self.world, self.box, cancelled=cancelled)
        picture = Image(
            pixels, Affine(gsd, 0.0, left, 0.0, -gsd, top), CRS.from_epsg(3857), np.ones(pixels.shape[:2], dtype=bool)
        )
        if asked.phrase is not None:
            return model.segmenter.segment(picture, asked.phrase)
        if corners is not None:
            return model.segmenter.segment_box(picture, corners)
        return model.segmenter.segment_click(picture, points, [int(click.inside) for click in asked.clicks or ()])

    def _pixel(self, longitude: float, latitude: float, what: str) -> Place:
        west, south, east, north = box_bounds(self.box)
        if not (west <= longitude <= east and south <= latitude <= north):
            raise InvalidRequestError(
                f"the {what} {longitude:g},{latitude:g} is outside the area {west:g},{south:g},{east:g},{north:g}"
            )
        row, column = point_pixel(longitude, latitude, self.box.zoom)
        return (
            min(max(column - self.box.column, 0.0), float(self.box.width)),
            min(max(row - self.box.row, 0.0), float(self.box.height)),
        )

    def _corners(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        west, south, east, north = box
        if not (west < east and south < north):
            raise InvalidRequestError(f"the box {','.join(f'{value:g}' for value in box)} is empty")
        left, top = self._pixel(west, north, "box's corner")
        right, bottom = self._pixel(east, south, "box's corner")
        return left, top, right, bottom

    def facts(self, asked: SegmentRequest) -> dict[str, Any]:
        """What was looked at and for, as JSON."""
        west, south, east, north = box_bounds(self.box)
        question = asked.model_dump(include={"phrase", "clicks", "box"}, exclude_none=True)
        return {
            "bbox": [west, south, east, north],
            "synthetic": True,
            "world": self.world.id,
            "date": asked.date,
            "asked": question,
            "zoom": self.box.zoom,
            "gsd": ground_sampling_distance(self.box.zoom, (south + north) / 2),
            "width": self.box.width,
            "height": self.box.height,
        }


@world_router.post(
    "/perception/segment",
    response_class=Response,
    responses={
        200: {
            "content": {GEOJSON: {}, PNG: {}, GEOTIFF: {}},
            "description": "Areas as polygons with a summary, the mask as a see-through picture, or as a GeoTIFF in"
            " EPSG:3857.",
        },
        503: {"description": "Too many such requests wait already; Retry-After says when to come back."},
    },
)
async def segment(
    request: Request,
    world: Annotated[World, Depends(named_world)],
    asked: Annotated[
        SegmentRequest,
        Body(
            openapi_examples={
                "phrase": {"value": {"bbox": [11.4, 47.26, 11.41, 47.27], "zoom": 15, "phrase": "the river"}},
                "click": {
                    "value": {
                        "bbox": [11.4, 47.26, 11.41, 47.27],
                        "zoom": 15,
                        "clicks": [{"longitude": 11.405, "latitude": 47.265}],
                    }
                },
            }
        ),
    ],
    format: Annotated[AnswerFormat | None, Query(description="Of the answer; else what Accept prefers.")] = None,
    date: Annotated[str | None, Query(description="Not here: see date of the body.")] = None,
) -> Response:
    """Where in an area of a world is what a phrase names, or what is clicked or boxed?"""
    if date is not None:
        raise InvalidRequestError(f"date is {date!r}; say it in the body")
    service = service_of(request)
    job = Search(world.at(asked.date), asked_box(asked.bbox, asked.zoom, asked.gsd))
    job.world.check_zoom(job.box.zoom)
    limit = service.settings.detect_pixels
    if job.box.width * job.box.height > limit:
        raise RequestTooLargeError(
            f"the area has {job.box.width} x {job.box.height} pixels at zoom {job.box.zoom}; at most {limit} are"
            " allowed: ask for a smaller area or a lower zoom"
        )
    if min(job.box.width, job.box.height) < LEAST_SIDE:
        raise InvalidRequestError(
            f"the area has {job.box.width} x {job.box.height} pixels at zoom {job.box.zoom}; at least {LEAST_SIDE} a"
            " side are needed: ask for a larger area or a higher zoom"
        )
    async with service.detections.hold(request) as cancelled:
        answer, model, hit = await run_in_threadpool(partial(_answer, service, job, asked, cancelled))
    headers = {
        "X-Earthgen": f"{service.provenance(job.world)}; segmenter={asked.model}-{model.id}",
        "X-Cache": "HIT" if hit else "MISS",
        "Cache-Control": "no-store",
    }
    chosen = format or _preferred(request.headers.get("accept", ""))
    contents = {"tif": (answer.geotiff, GEOTIFF), "png": (answer.png, PNG), "geojson": (answer.geojson, GEOJSON)}
    content, media_type = contents[chosen]
    return Response(content, media_type=media_type, headers=headers)


def _answer(
    service: Service, job: Search, asked: SegmentRequest, cancelled: Cancelled
) -> tuple[Answer, LoadedSegmenter, bool]:
    """The answer, what gave it, and whether it was there already."""
    model = service.watcher.segmenter(asked.model)
    key = repr(("segment", job.world.id, asked, job.box, model.id, service.version))
    answer, hit = service.watcher.answer(key, partial(_look, service, job, asked, model, cancelled))
    return answer, model, hit


def _look(service: Service, job: Search, asked: SegmentRequest, model: LoadedSegmenter, cancelled: Cancelled) -> Answer:
    """Make the picture, look for what is asked for and write down where it is."""
    found = job.look(service, asked, model, cancelled)
    rows = pixel_areas(job.box)
    tags = {
        "SYNTHETIC": "yes: found in generated imagery, not in observations",
        "EARTHGEN_WORLD": job.world.id,
        "EARTHGEN_WORLD_JSON": job.world.canonical_json,
        "EARTHGEN_WEIGHTS": service.engine.weights_id,
        "EARTHGEN_MODEL_WEIGHTS": model.id,
    }
    collection = found.geojson(MOST_AREAS) | job.facts(asked)
    # Foreign members (RFC 7946 section 6.1), as in answers of change detection.
    collection |= {
        "model": {"name": found.model, "weights": model.id},
        "predicted_iou": None if found.quality is None else round(found.quality, 3),
        "found_pixels": int(found.mask.sum()),
        "found_m2": round(float(found.mask.sum(axis=1) @ rows), 2),
        "total_m2": round(float(job.box.width * rows.sum()), 2),
    }
    return Answer(json.dumps(collection).encode(), found.geotiff(tags), found.png())


def _preferred(accept: str) -> AnswerFormat:
    """PNG or GeoTIFF for a client that names it and no JSON; GeoJSON otherwise."""
    named = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if named & {GEOJSON, "application/json"}:
        return "geojson"
    if named & {GEOTIFF, "image/geotiff"}:
        return "tif"
    return "png" if PNG in named else "geojson"
