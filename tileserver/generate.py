"""The route that answers a prompt with one picture."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from earthgen.errors import RequestTooLargeError
from earthgen.picture import DEFAULT_SIZE, MAX_SIZE, PictureFormat, encode_picture, frame_of, make_picture
from earthgen.world import (
    MAX_GSD,
    MAX_GUIDANCE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MIN_GSD,
    MIN_GUIDANCE,
    STANDARD,
    Quality,
    World,
)
from tileserver.dependencies import service_of

router = APIRouter(tags=["pictures"])

MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "tif": "image/tiff"}


class PictureRequest(BaseModel):
    """What a picture shows, how fine and how large."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str = Field(max_length=MAX_PROMPT_CHARACTERS, description="What it shows.")
    gsd: float = Field(default=1.0, ge=MIN_GSD, le=MAX_GSD, description="Metres per pixel.")
    size: int = Field(default=DEFAULT_SIZE, ge=1, le=MAX_SIZE, description="Pixels along a side.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Chooses one of many.")
    negative: str = Field(default="", max_length=MAX_PROMPT_CHARACTERS, description="What it does not show.")
    guidance: float = Field(default=1.0, ge=MIN_GUIDANCE, le=MAX_GUIDANCE, description="How strongly.")
    quality: Quality = Field(default=STANDARD, description="With how much work detail is made.")
    format: Literal["png", "tif"] | None = Field(default=None, description="Of the file; else what Accept prefers.")


@router.post(
    "/generate",
    response_class=Response,
    responses={
        200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}, "description": "The picture."}
    },
)
async def generate(
    request: Request,
    asked: Annotated[
        PictureRequest,
        Body(
            openapi_examples={"town": {"value": {"prompt": "a harbour town on a rocky coast", "gsd": 1, "size": 512}}}
        ),
    ],
) -> Response:
    """One picture of a prompt, of exactly the resolution that was asked for: PNG, or GeoTIFF in EPSG:3857."""
    service = service_of(request)
    world = World(
        root="prompt",
        seed=asked.seed,
        prompt=asked.prompt,
        negative=asked.negative,
        guidance=asked.guidance,
        gsd=asked.gsd,
        quality=asked.quality,
    )
    frame = frame_of(world, asked.size)
    limit = 4 * service.settings.max_pixels
    if frame.box.width * frame.box.height > limit:
        raise RequestTooLargeError(
            f"{asked.size} x {asked.size} pixels of this gsd are made from {frame.box.width} x {frame.box.height}; at"
            f" most {limit} are allowed: ask for a smaller size"
        )
    picture_format = asked.format or _preferred(request.headers.get("accept", ""))

    def make(**options: Any) -> bytes:
        pixels = make_picture(service.engine, world, frame, **options)
        return encode_picture(service.engine, world, frame, pixels, picture_format)

    async with service.slots.hold(request) as cancelled:
        content = await run_in_threadpool(partial(make, cancelled=cancelled))
    headers = {"X-Earthgen": service.provenance(world), "Cache-Control": "no-store"}
    return Response(content, media_type=MEDIA_TYPES[picture_format], headers=headers)


def _preferred(accept: str) -> PictureFormat:
    """GeoTIFF for a client that names it and no PNG; a PNG otherwise."""
    named = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    tiff = any(name in ("image/tiff", "image/geotiff") for name in named)
    return "tif" if tiff and MEDIA_TYPES["png"] not in named else "png"
