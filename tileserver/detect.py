"""The routes that find what changed between two days of a world, or between two worlds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from affine import Affine
from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rasterio.crs import CRS
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from earthgen.errors import InvalidRequestError, RequestCancelledError, RequestTooLargeError
from earthgen.pyramid import (
    EQUATOR_GSD,
    MAX_ZOOM,
    Box,
    box_bounds,
    box_mercator_bounds,
    ground_sampling_distance,
    world_size,
)
from earthgen.registry import BUILT_IN
from earthgen.world import MAX_PROMPT_CHARACTERS, MAX_SEED, Quality, World
from tileserver.admission import Cancelled
from tileserver.dependencies import BY_PROMPT, named_world, service_of
from tileserver.service import Service
from tileserver.watching import Answer, LoadedDetector, asked_box

if TYPE_CHECKING:
    from perception.pair import Pair

MOST_CLASSES = 64
MAX_CLASS_CHARACTERS = 100
FREE_CLASSES = 16
"""Class names up to which a request may have all its pixels: each name takes memory at every pixel."""
MOST_AREAS = 2000
"""Polygons in one answer; the smaller ones are left out and counted."""
GEOJSON = "application/geo+json"
GEOTIFF = "image/tiff"
_SEMI_MAJOR, _ECCENTRICITY_2 = 6378137.0, 0.00669437999014
"""Of the WGS84 ellipsoid: metres, and the square of its eccentricity."""

router = APIRouter(tags=["perception"])
world_router = APIRouter(tags=["perception"])

Day = Annotated[str, Field(max_length=10)]
AnswerFormat = Literal["geojson", "tif"]


class OtherWorld(BaseModel):
    """The later world, where it is not the one of the address; what is absent is as in the address."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    world: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="earth, planet, prompt, or the id of a registered world."
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] | None = None
    negative: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] | None = None
    guidance: float | None = None
    gsd: float | None = None
    quality: Quality | None = None


class ComparisonRequest(BaseModel):
    """Where to look, and at which days or worlds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bbox: tuple[float, float, float, float] = Field(description="West, south, east, north in degrees.")
    zoom: Annotated[int, Field(ge=0, le=MAX_ZOOM)] | None = Field(default=None, description="Of the pixels; or gsd.")
    gsd: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Metres per pixel or finer, in the middle of the area."
    )
    before_date: Day | None = Field(default=None, description="Day of the earlier picture; see `date` of tiles.")
    after_date: Day | None = Field(default=None, description="Day of the later picture.")
    after_world: OtherWorld | None = Field(default=None, description="World of the later picture; else the same.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.zoom is None) == (self.gsd is None):
            raise ValueError("give either zoom or gsd")
        if self.after_world is None and self.before_date == self.after_date:
            raise ValueError("before and after are the same; give two dates, or after_world")
        if self.before_date and self.after_date and self.before_date > self.after_date:
            raise ValueError(f"before_date {self.before_date} is later than after_date {self.after_date}; swap them")
        return self


class DetectRequest(ComparisonRequest):
    """Where to look, at which days or worlds, and for what."""

    model: Annotated[str, Field(max_length=64)] = Field(default="cdmamba", description="See /perception/models.")
    classes: (
        Annotated[list[Annotated[str, Field(max_length=MAX_CLASS_CHARACTERS)]], Field(max_length=MOST_CLASSES)] | None
    ) = Field(default=None, description="What may be there, for a model that takes any classes; else its own.")


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Two worlds on their days and the pixels in which they are compared, looked up and checked.

    Attributes:
        before: world of the earlier picture.
        after: world of the later one.
        box: the pixels.
    """

    before: World
    after: World
    box: Box

    def pair(self, service: Service, cancelled: Cancelled) -> Pair:
        """Both pictures, made if they have to be."""
        from perception.pair import Pair

        left, _, _, top = box_mercator_bounds(self.box)
        gsd = EQUATOR_GSD / 2.0**self.box.zoom
        return Pair(
            service.engine.pixels(self.before, self.box, cancelled=cancelled),
            service.engine.pixels(self.after, self.box, cancelled=cancelled),
            Affine(gsd, 0.0, left, 0.0, -gsd, top),
            CRS.from_epsg(3857),
        )

    def facts(self, asked: ComparisonRequest) -> dict[str, Any]:
        """What was compared, as JSON."""
        west, south, east, north = box_bounds(self.box)
        return {
            "bbox": [west, south, east, north],
            "synthetic": True,
            "before": {"world": self.before.id, "date": asked.before_date},
            "after": {"world": self.after.id, "date": asked.after_date},
            "zoom": self.box.zoom,
            "gsd": ground_sampling_distance(self.box.zoom, (south + north) / 2),
            "width": self.box.width,
            "height": self.box.height,
        }


@router.get("/perception/models")
def list_models(request: Request) -> dict[str, Any]:
    """Every model: what it does, how near it is to its paper, its classes, and whether this server has its weights."""
    service = service_of(request)
    return {
        "models": service.watcher.models(),
        "max_pixels": service.settings.detect_pixels,
        "max_classes": MOST_CLASSES,
        "free_classes": FREE_CLASSES,
    }


@world_router.post(
    "/perception/detect",
    response_class=Response,
    responses={
        200: {
            "content": {GEOJSON: {}, GEOTIFF: {}},
            "description": "Changed areas as polygons with a summary, or the change map as a GeoTIFF in EPSG:3857.",
        },
        503: {"description": "Too many such requests wait already; Retry-After says when to come back."},
    },
)
async def detect(
    request: Request,
    before: Annotated[World, Depends(named_world)],
    world: Annotated[str, Path(description="earth, planet, prompt, or the id of a registered world")],
    asked: Annotated[
        DetectRequest,
        Body(
            openapi_examples={
                "days": {
                    "value": {
                        "bbox": [11.4, 47.26, 11.41, 47.27],
                        "zoom": 16,
                        "before_date": "2026-04-30",
                        "after_date": "2026-05-01",
                    }
                },
                "worlds": {
                    "value": {
                        "bbox": [11.4, 47.26, 11.41, 47.27],
                        "gsd": 1.0,
                        "after_world": {"seed": 8},
                        "model": "semantic-cd",
                        "classes": ["forest", "houses", "water"],
                    }
                },
            }
        ),
    ],
    format: Annotated[AnswerFormat | None, Query(description="Of the answer; else what Accept prefers.")] = None,
    date: Annotated[str | None, Query(description="Not here: see before_date and after_date.")] = None,
) -> Response:
    """What changed in an area between two days of a world, or between it and another world."""
    service = service_of(request)
    job = await comparison_of(request, world, before, asked, date, classes=len(asked.classes or ()))
    async with service.detections.hold(request) as cancelled:
        answer, model, hit = await run_in_threadpool(partial(_answer, service, job, asked, cancelled))
    headers = {
        "X-Earthgen": f"{service.provenance(job.before)}; after={job.after.id}; detector={asked.model}-{model.id}",
        "X-Cache": "HIT" if hit else "MISS",
        "Cache-Control": "no-store",
    }
    if (format or _preferred(request.headers.get("accept", ""))) == "tif":
        return Response(answer.geotiff, media_type=GEOTIFF, headers=headers)
    return Response(answer.geojson, media_type=GEOJSON, headers=headers)


async def comparison_of(
    request: Request, name: str, before: World, asked: ComparisonRequest, date: str | None, classes: int = 0
) -> Comparison:
    """What a request compares.

    Args:
        request: of the client.
        name: of the world in its address.
        before: that world.
        asked: its body.
        date: what its query says of a day, which is nothing for it to say.
        classes: that will be looked for, since many leave fewer pixels.

    Raises:
        InvalidRequestError, AddressError, WorldError, UnknownWorldError: it makes no sense.
        RequestTooLargeError: it has too many pixels.
    """
    if date is not None:
        raise InvalidRequestError(f"date is {date!r}; say before_date and after_date in the body, since there are two")
    after = await _later_world(request, name, before, asked.after_world)
    comparison = Comparison(
        before.at(asked.before_date), after.at(asked.after_date), asked_box(asked.bbox, asked.zoom, asked.gsd)
    )
    box = comparison.box
    for value in (comparison.before, comparison.after):
        value.check_zoom(box.zoom)
    limit = service_of(request).settings.detect_pixels * FREE_CLASSES // max(FREE_CLASSES, classes)
    if box.width * box.height > limit:
        many = f" with {classes} classes" if classes > FREE_CLASSES else ""
        raise RequestTooLargeError(
            f"the area has {box.width} x {box.height} pixels at zoom {box.zoom}; at most {limit} are allowed{many}: ask"
            " for a smaller area or a lower zoom"
        )
    return comparison


async def _later_world(request: Request, name: str, before: World, other: OtherWorld | None) -> World:
    """The world of the later picture, with all its edits."""
    if other is None:
        return before
    given = other.model_dump(exclude_none=True, exclude={"world"})
    if other.world is None and (name in BUILT_IN or name == BY_PROMPT):
        return dataclasses.replace(before, **given)
    everything = dict.fromkeys(("seed", "prompt", "negative", "guidance", "gsd", "quality"))
    return await named_world(request, other.world or name, **(everything | {"quality": before.quality} | given))


def _answer(
    service: Service, job: Comparison, asked: DetectRequest, cancelled: Cancelled
) -> tuple[Answer, LoadedDetector, bool]:
    """The answer, what gave it, and whether it was there already."""
    model = service.watcher.detector(asked.model)
    key = repr((job.before.id, job.after.id, asked, job.box, model.id, service.version))
    answer, hit = service.watcher.answer(key, partial(_look, service, job, asked, model, cancelled))
    return answer, model, hit


def _look(
    service: Service, job: Comparison, asked: DetectRequest, model: LoadedDetector, cancelled: Cancelled
) -> Answer:
    """Make both pictures, compare them and write down what was found."""
    if asked.classes is not None and not model.detector.classes:
        # Said before two pictures are made for nothing.
        raise InvalidRequestError(f"{asked.model} finds that something changed, not what; leave the classes out")
    found = model.detector.detect(job.pair(service, cancelled), classes=asked.classes, progress=reporting(cancelled))
    tags = {
        "SYNTHETIC": "yes: a comparison of generated imagery, not of observations",
        "EARTHGEN_BEFORE": job.before.id,
        "EARTHGEN_BEFORE_JSON": job.before.canonical_json,
        "EARTHGEN_AFTER": job.after.id,
        "EARTHGEN_AFTER_JSON": job.after.canonical_json,
        "EARTHGEN_WEIGHTS": service.engine.weights_id,
        "EARTHGEN_MODEL_WEIGHTS": model.id,
    }
    rows = pixel_areas(job.box)
    collection = found.geojson(MOST_AREAS)
    # Foreign members (RFC 7946 section 6.1): any reader of GeoJSON takes the areas and passes over the rest.
    collection |= job.facts(asked) | {
        "model": {"name": found.model, "weights": model.id, "classes": list(found.classes)},
        "changed_pixels": int(found.mask.sum()),
        "changed_m2": round(float(found.mask.sum(axis=1) @ rows), 2),
        "total_m2": round(float(job.box.width * rows.sum()), 2),
    }
    return Answer(json.dumps(collection).encode(), found.geotiff(tags))


def reporting(cancelled: Cancelled) -> Callable[[int, int], None]:
    """Progress of a detection that ends it when its client has gone away."""

    def report(done: int, total: int) -> None:
        if cancelled():
            raise RequestCancelledError("the client closed the connection before its answer was ready")

    return report


def pixel_areas(box: Box) -> npt.NDArray[np.float64]:
    """Square metres on the ground of one pixel in each row of a box, on the WGS84 ellipsoid; shape (height,)."""
    edges = np.arange(box.row, box.row + box.height + 1, dtype=np.float64)
    # The sine of Web Mercator's latitude is a tanh.
    sines = np.tanh(np.pi * (1 - 2 * edges / world_size(box.zoom)))
    e = np.sqrt(_ECCENTRICITY_2)
    # The area between the equator and a latitude, over b^2 and the width in radians (Snyder 1987, equation 3-12).
    belts = sines / (2 * (1 - _ECCENTRICITY_2 * sines**2)) + np.arctanh(e * sines) / (2 * e)
    width = 2 * np.pi / world_size(box.zoom)
    areas: npt.NDArray[np.float64] = _SEMI_MAJOR**2 * (1 - _ECCENTRICITY_2) * width * -np.diff(belts)
    return areas


def _preferred(accept: str) -> AnswerFormat:
    """GeoTIFF for a client that names it and no JSON; GeoJSON otherwise."""
    named = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    tiff = bool(named & {GEOTIFF, "image/geotiff"})
    return "tif" if tiff and not named & {GEOJSON, "application/json"} else "geojson"
