"""What requests are made of: the world, and the options of titiler that a generated world can honour.

titiler runs plain functions and dataclasses as dependencies in a pool of threads; those of the tile
route are coroutines here, because twelve hops between threads cost more than a tile from memory.
"""

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Path, Query
from pydantic import BeforeValidator, Field, StringConstraints
from rio_tiler.types import WarpResampling
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from titiler.core.dependencies import (
    BidxExprParams,
    DefaultDependency,
    HistogramParams,
    StatisticsParams,
)

from earthgen.bands import BandView
from earthgen.errors import WorldError
from earthgen.pyramid import MAX_ZOOM
from earthgen.registry import BUILT_IN
from earthgen.world import MAX_PROMPT_CHARACTERS, MAX_SEED, Quality, Root, World
from tileserver.admission import Cancelled
from tileserver.reader import WorldEngine
from tileserver.service import Service

MAX_BANDS = 16
"""Bands that one result may have, whether asked for as bidx or made by an expression."""
MAX_EXPRESSION_CHARACTERS = 500
MAX_HISTOGRAM_BINS = 1024
_ZOOM = "(?:[0-9]|1[0-8])"
BY_PROMPT = "prompt"
"""The name of worlds whose prompt and GSD are in the address."""
WORLD_QUERY = ("seed", "prompt", "negative", "guidance", "gsd", "root", "date", "quality")
"""Query parameters that say which world a request is about."""
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "public, no-cache"


def service_of(request: Request) -> Service:
    """The service that the app's lifespan made."""
    service = getattr(request.app.state, "service", None)
    if not isinstance(service, Service):
        raise HTTPException(503, "the server is starting or stopping", {"Retry-After": "2"})
    return service


def absent_if_empty(value: Any) -> Any:
    """None for the empty value that a form sends for what was not filled in."""
    return None if value == "" else value


async def named_world(
    request: Request,
    world: Annotated[
        str, Path(description="earth, planet, prompt, or the id of a registered world", examples=["earth"])
    ],
    seed: Annotated[
        Annotated[int, Field(ge=0, le=MAX_SEED)] | None,
        BeforeValidator(absent_if_empty),
        Query(description="Seed of a world that is not registered; 0 by default."),
    ] = None,
    prompt: Annotated[
        Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] | None,
        BeforeValidator(absent_if_empty),
        Query(description="Text that guides it; world `prompt` starts from it."),
    ] = None,
    negative: Annotated[
        Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] | None,
        BeforeValidator(absent_if_empty),
        Query(description="Text that it is guided away from."),
    ] = None,
    guidance: Annotated[
        float | None,
        BeforeValidator(absent_if_empty),
        Query(description="How strongly, 1 to 20; 1, no guidance, by default."),
    ] = None,
    gsd: Annotated[
        float | None,
        BeforeValidator(absent_if_empty),
        Query(description="Metres per pixel that the prompt of world `prompt` speaks of, 0.3 to 1200."),
    ] = None,
    root: Annotated[
        Root | None, BeforeValidator(absent_if_empty), Query(description="Must agree with the world's own root.")
    ] = None,
    quality: Annotated[
        Quality | None,
        BeforeValidator(absent_if_empty),
        Query(description="With how much work detail is made; by default the world's own, which is `standard` mostly."),
    ] = None,
) -> World:
    """The world that a request names, with all edits, of a quality if one is given.

    Raises:
        UnknownWorldError: nobody registered that id.
        WorldError: a parameter contradicts the named world, or makes no sense.
    """
    asked: dict[str, Any] = {"seed": seed, "prompt": prompt, "negative": negative, "guidance": guidance, "gsd": gsd}
    given = {name: item for name, item in asked.items() if item is not None}
    if world in BUILT_IN or world == BY_PROMPT:
        value = World.from_dict({"root": world, **given})
    else:
        value = await run_in_threadpool(service_of(request).registry.get, world)
        for name, item in given.items():
            own = getattr(value, name)
            # Compared as a world would hold it: text is normalised.
            if own is None or getattr(replace(value, **{name: item}), name) != own:
                raise WorldError(f"world {world} is registered with {name} {own!r}; {name}={item!r} cannot change it")
    if root is not None and root != value.root:
        raise WorldError(f"world {world} has root {value.root!r}; root={root!r} cannot change it")
    return value if quality is None else replace(value, quality=quality)


async def world_of(
    world: Annotated[World, Depends(named_world)],
    date: Annotated[
        Annotated[str, Field(max_length=10)] | None,
        BeforeValidator(absent_if_empty),
        Query(description="Day whose edits hold, as 2026-05-01; by default those that never end."),
    ] = None,
) -> World:
    """The world that a request is about: the named one, on a day if one is given.

    Raises:
        WorldError: no such day.
    """
    return world if date is None else world.at(date)


async def band_view(
    request: Request,
    band: Annotated[
        str | None,
        BeforeValidator(absent_if_empty),
        Query(
            description="Show a band in place of the colours; see /worlds/{world}/bands.",
            examples=["landcover"],
        ),
    ] = None,
) -> BandView | None:
    """The band that is asked for; None: the colours.

    Raises:
        InvalidRequestError: no such band, or one without weights.
    """
    return None if band is None else service_of(request).band(band)


@dataclass
class ReaderParams(DefaultDependency):
    """What a WorldReader needs besides its world."""

    engine: WorldEngine
    max_pixels: int
    cancelled: Cancelled | None
    band: BandView | None


async def reader_params(request: Request, band: Annotated[BandView | None, Depends(band_view)]) -> ReaderParams:
    """The engine, the limits, whether the client is still there, and what of the world is shown."""
    service = service_of(request)
    state = request.state
    return ReaderParams(
        service.engine,
        getattr(state, "max_pixels", service.settings.max_pixels),
        getattr(state, "cancelled", None),
        band,
    )


@dataclass
class WorldBandParams(BidxExprParams):
    """Bands and expressions, not more than memory allows."""

    def __post_init__(self) -> None:
        """Check the number of bands."""
        if self.indexes and len(self.indexes) > MAX_BANDS:
            raise HTTPException(422, f"bidx names {len(self.indexes)} bands; at most {MAX_BANDS} are allowed")
        if self.expression:
            bands = self.expression.count(";") + 1
            if bands > MAX_BANDS or len(self.expression) > MAX_EXPRESSION_CHARACTERS:
                raise HTTPException(
                    422,
                    f"expression has {bands} bands and {len(self.expression)} characters; at most {MAX_BANDS} and "
                    f"{MAX_EXPRESSION_CHARACTERS} are allowed",
                )


@dataclass
class WorldPixelParams(DefaultDependency):
    """Which pixels a request reads and how they are resampled; generated worlds have no nodata and no scale."""

    zoom: Annotated[
        int | None, Query(ge=0, le=MAX_ZOOM, description="Zoom of the pixels; by default the size decides.")
    ] = None
    resampling_method: Annotated[
        WarpResampling | None,
        Query(alias="resampling", description="Used where width or height is given. Defaults to `bilinear`."),
    ] = None
    reproject_method: Annotated[
        WarpResampling | None,
        Query(alias="reproject", description="Used for another dst_crs. Defaults to `bilinear`."),
    ] = None


@dataclass
class NoParams(DefaultDependency):
    """No options: a tile is a tile."""


@dataclass
class WorldStatisticsParams(StatisticsParams):
    """Percentiles within 0..100."""

    def __post_init__(self) -> None:
        """Set the default and check the range."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        for percentile in self.percentiles or ():
            if not 0 <= percentile <= 100:
                raise HTTPException(422, f"p is {percentile}; a percentile from 0 to 100 is allowed")


@dataclass
class WorldHistogramParams(HistogramParams):
    """Bins that fit into memory, in order."""

    def __post_init__(self) -> None:
        """Check what numpy would choke on."""
        edges = self.bins.split(",") if self.bins else []
        count = int(edges[0]) if len(edges) == 1 else len(edges)
        rising = len(edges) == 1 or all(int(a) <= int(b) for a, b in pairwise(edges))
        if edges and (
            not 1 <= count <= MAX_HISTOGRAM_BINS or len(self.bins or "") > 8 * MAX_HISTOGRAM_BINS or not rising
        ):
            raise HTTPException(422, f"histogram_bins is not 1 to {MAX_HISTOGRAM_BINS} bins or as many rising edges")
        super().__post_init__()  # type: ignore[no-untyped-call]
        if self.range and self.range[0] > self.range[1]:
            raise HTTPException(422, f"histogram_range is {self.range}; the first number must not exceed the second")


async def no_process() -> None:
    """No algorithms yet: titiler's own are for elevation and single bands."""


def inline(dependency: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The same options as a coroutine, so that they are read where the request runs and not in a thread.

    What an option's own reader cannot make sense of is the client's mistake, not ours.
    """

    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return dependency(*args, **kwargs)
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
            options = {name: value for name, value in kwargs.items() if value is not None}
            raise HTTPException(422, f"{options} makes no sense: {error}") from error

    call.__signature__ = inspect.signature(dependency)  # type: ignore[attr-defined]
    call.__doc__ = dependency.__doc__
    return call


async def area_request(
    request: Request,
    world: Annotated[World, Depends(world_of)],
    band: Annotated[BandView | None, Depends(band_view)],
) -> AsyncIterator[None]:
    """Route dependency of what reads an area: 304 for what the client has, then a slot while it is made.

    Sets `request.state.cancelled` for the reader and `request.state.headers` for the answer.
    """
    service = service_of(request)
    if request.method == "GET":
        etag = service.etag(world, request.url)
        headers = {"ETag": etag, "Cache-Control": REVALIDATE, "X-Earthgen": service.provenance(world, band)}
        if matches(request, etag):
            raise HTTPException(304, headers=headers)
        request.state.headers = headers
    async with service.slots.hold(request) as cancelled:
        request.state.cancelled = cancelled
        yield


async def coverage_request(
    request: Request,
    cover_scale: Annotated[int | None, Query(gt=0, le=64, description="Sub-pixels along a pixel's side.")] = None,
) -> None:
    """Route dependency of statistics of a polygon: fine coverage takes memory, so it leaves fewer pixels."""
    limit = service_of(request).settings.max_pixels
    request.state.max_pixels = min(limit, 16 * limit // (cover_scale or 10) ** 2)


async def text_request(request: Request) -> None:
    """Route dependency of what sends a client's own text back: half of a surrogate pair can be read and not written."""
    body = await request.body()
    if b"\\ud" not in body.lower():
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise HTTPException(422, f"the body has {half} in a text, which is half a character") from error
    except ValueError:
        # No JSON at all, which is said where the body is read.
        return


async def tileset_request(
    minzoom: Annotated[int | None, Query(ge=0, le=MAX_ZOOM)] = None,
    maxzoom: Annotated[int | None, Query(ge=0, le=MAX_ZOOM)] = None,
) -> None:
    """Route dependency of titiler's tileset document, which has no bounds of its own."""


async def wmts_request(
    zooms: Annotated[
        list[Annotated[str, StringConstraints(pattern=rf"^(\*|WebMercatorQuad)::{_ZOOM},{_ZOOM}$")]] | None, Query()
    ] = None,
) -> None:
    """Route dependency of the WMTS document: titiler would count up to any zoom."""


def matches(request: Request, etag: str) -> bool:
    """Whether If-None-Match says that the client has this entity already."""
    header = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or tags == ["*"]
