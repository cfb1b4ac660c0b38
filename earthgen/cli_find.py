"""`earthgen find`: places of a world that look like a text."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from earthgen.cli_options import (
    AsJson,
    EngineOptions,
    FinestGsd,
    Quiet,
    WorldOptions,
    grouped,
    parsed_bounds,
    progress_bar,
)

if TYPE_CHECKING:
    from earthgen.finding import Findings


@grouped
def find(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    bbox: Annotated[
        str | None,
        typer.Option(metavar="W,S,E,N", help="West, south, east, north in degrees.  [default: the whole world]"),
    ] = None,
    zoom: Annotated[
        int | None,
        typer.Option(help="Of the tiles, 0 to 18; or give --gsd.  [default: the finest with at most 256 tiles]"),
    ] = None,
    gsd: FinestGsd = None,
    count: Annotated[int, typer.Option(help="Most places, 1 to 100.")] = 8,
    limit: Annotated[int, typer.Option(help="Most tiles that are looked at, 1 to 4096.")] = 256,
    as_json: AsJson = False,
    *,
    where: WorldOptions,
    quiet: Quiet = False,
    using: EngineOptions,
) -> None:
    """Find the places of a world that look like a text; Ctrl-C prints what has been found so far.

    Example: earthgen find "a river mouth" --bbox -10,35,30,60 --zoom 8
    """
    bounds = None if bbox is None else parsed_bounds(bbox)
    world = where.world(using.folder)
    from earthgen.finding import Findings, search

    found = Findings(0, 0, ())
    with using.open() as engine, progress_bar(text, quiet) as show:
        steps = search(engine, world, text, bounds, zoom, gsd=gsd, count=count, limit=limit)
        try:
            for found in steps:
                show(found.done, found.total)
        except KeyboardInterrupt:
            _print_findings(found, as_json)
            raise
    _print_findings(found, as_json)


def _print_findings(found: Findings, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    typer.echo("  score   longitude    latitude  zoom/x/y")
    for place in found.places:
        typer.echo(
            f"{place.score:7.3f}  {place.longitude:10.5f}  {place.latitude:10.5f}  {place.zoom}/{place.x}/{place.y}"
        )
