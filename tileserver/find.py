"""The route that looks for places by text and tells what it has found while it looks.

A search takes as long as the tiles it looks at, so it answers as a stream: one line of JSON after each tile, each a
whole answer by itself. Whoever has seen enough hangs up, and the search ends.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BeforeValidator, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from earthgen.errors import RequestCancelledError
from earthgen.pyramid import MAX_ZOOM, Bounds
from earthgen.world import MAX_PROMPT_CHARACTERS, World
from tileserver.admission import Cancelled
from tileserver.dependencies import absent_if_empty, service_of, world_of
from tileserver.service import Service

if TYPE_CHECKING:
    from earthgen.finding import Findings

MEDIA_TYPE = "application/x-ndjson"
MAX_COUNT = 100
MAX_LIMIT = 1024
"""Tiles that one request may have looked at; the command line goes further."""

router = APIRouter(tags=["one world"])
_logger = logging.getLogger(__name__)

Degrees = Annotated[float | None, BeforeValidator(absent_if_empty)]


async def search_bounds(
    west: Annotated[Degrees, Query(description="Edge of the area in degrees; none of the four is the whole world.")] = (
        None
    ),
    south: Annotated[Degrees, Query()] = None,
    east: Annotated[Degrees, Query()] = None,
    north: Annotated[Degrees, Query()] = None,
) -> Bounds | None:
    """The area to search: all four edges, or none."""
    edges = {"west": west, "south": south, "east": east, "north": north}
    missing = [name for name, edge in edges.items() if edge is None]
    if len(missing) == len(edges):
        return None
    if west is None or south is None or east is None or north is None:
        raise HTTPException(422, f"{', '.join(missing)} missing; give west, south, east and north, or none of them")
    return west, south, east, north


async def search_slot(request: Request) -> AsyncIterator[Cancelled]:
    """Hold a place among the searches until the answer has been sent; says whether the client is gone."""
    async with service_of(request).searches.hold(request) as cancelled:
        yield cancelled


@router.get(
    "/find",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {MEDIA_TYPE: {"example": '{"done": 1, "total": 64, "places": []}\n'}},
            "description": "A line after each tile: tiles looked at, tiles to look at, the best places so far.",
        },
        503: {"description": "Too many searches wait already; Retry-After says when to come back."},
    },
)
async def find(
    request: Request,
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=MAX_PROMPT_CHARACTERS,
            description="What to look for.",
            examples=["a river mouth"],
        ),
    ],
    world: Annotated[World, Depends(world_of)],
    bounds: Annotated[Bounds | None, Depends(search_bounds)],
    cancelled: Annotated[Cancelled, Depends(search_slot)],
    zoom: Annotated[
        Annotated[int, Field(ge=0, le=MAX_ZOOM)] | None,
        BeforeValidator(absent_if_empty),
        Query(description="Of the tiles; by default the finest at which the area has at most 256."),
    ] = None,
    count: Annotated[int, Query(ge=1, le=MAX_COUNT, description="Most places.")] = 8,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most tiles that are looked at.")] = 64,
) -> StreamingResponse:
    """Places of a world that look like a text, as lines of JSON while the search goes on."""
    service = service_of(request)
    begin = partial(_begin, service, world, q, bounds, zoom, count=count, limit=limit, cancelled=cancelled)
    # With the first tile done, whatever is wrong with the request has been found out while there is a status to say it.
    first, steps = await run_in_threadpool(begin)
    headers = {"X-Earthgen": service.provenance(world), "Cache-Control": "no-store"}
    return StreamingResponse(_lines(first, steps), media_type=MEDIA_TYPE, headers=headers)


def _begin(service: Service, *asked: Any, **options: Any) -> tuple[Findings, Iterator[Findings]]:
    """Begin a search, which loads the image tower, and look at the first tile."""
    from earthgen.finding import search

    steps = search(service.engine, *asked, **options)
    return next(steps), steps


async def _lines(first: Findings, steps: Iterator[Findings]) -> AsyncIterator[str]:
    """The findings as lines; a failure of ours on the way is the last line, since the status has been sent."""
    findings: Findings | None = first
    try:
        while findings is not None:
            yield json.dumps(dataclasses.asdict(findings)) + "\n"
            findings = await run_in_threadpool(next, steps, None)
    except RequestCancelledError:
        pass
    except Exception as error:
        _logger.error("a search failed", exc_info=error)
        yield json.dumps({"detail": f"the search failed ({type(error).__name__}); the server's log has more"}) + "\n"
