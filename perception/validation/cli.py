"""The command line of the validators: `earthgen validate`.

The command line of the engine finds it as an entry point. It imports what it needs when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earthgen.cli_options import (
    EngineOptions,
    NamedOptions,
    Quiet,
    checked_ending,
    grouped,
    parsed_bounds,
    progress_bar,
)
from earthgen.errors import InvalidRequestError

app = typer.Typer(add_completion=False)

_MOST_ZOOMS = 19


@app.command()
@grouped
def validate(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Report to write: .html.")],
    bbox: Annotated[
        str | None,
        typer.Option(
            metavar="W,S,E,N",
            help="West, south, east, north in degrees.  [default: the picture of a world by prompt]",
        ),
    ] = None,
    zoom: Annotated[
        int | None,
        typer.Option(help="0 to 18.  [default: the finest at which the region has at most 1280 x 1280 pixels]"),
    ] = None,
    zooms: Annotated[str | None, typer.Option(metavar="A-B", help="Several zooms, such as 12-14 or 12,16.")] = None,
    dates: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Days from early to late; neighbours are compared."
            "  [default: with and without the edits that never end]",
        ),
    ] = None,
    checks: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Only these: anomaly, spectrum, seams, lattice, parents, class, prompt, segmentation, edit-bounds,"
            " change, caption.  [default: all]",
        ),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers: .json.")
    ] = None,
    *,
    where: NamedOptions,
    quiet: Quiet = False,
    using: EngineOptions,
) -> None:
    """Check a region of a world: realism, seams, zooms, prompts, edits, changes. The report has pictures.

    The exit code is 1 if a check fails, 2 if what is asked for makes no sense.

    Example: earthgen validate --root earth --seed 7 --bbox 11.3,47.2,11.4,47.27 --zoom 13 -o report.html
    """
    checked_ending(output, (".html", ".htm"))
    if as_json is not None:
        checked_ending(as_json, (".json",))
    bounds = None if bbox is None else parsed_bounds(bbox)
    chosen = _zooms(zoom, zooms)
    days = () if dates is None else tuple(dates.split(","))
    world = where.world(using.folder)
    if bounds is None and world.gsd is None:
        raise InvalidRequestError("no bbox is given; a world that is not by prompt needs one: W,S,E,N in degrees")
    from perception.validation.running import CHECKS, validate
    from perception.validation.subject import subject_of

    names = CHECKS if checks is None else tuple(checks.split(","))
    with using.open() as engine, progress_bar(output.name, quiet) as show:
        subject_of(engine, world, bounds, chosen, days)  # What makes no sense is said before anything is loaded.
        report = validate(engine, world, bounds, zooms=chosen, dates=days, checks=names, progress=show)
    report.write_html(output)
    if as_json is not None:
        report.write_json(as_json)
    for check in report.checks:
        typer.echo(f"{check.verdict:<14}  {check.name:<12}  {check.found}")
    typer.echo(f"{output}: {report.verdict}")
    if not report.passed:
        raise typer.Exit(1)


def _zooms(zoom: int | None, zooms: str | None) -> tuple[int, ...] | None:
    """The zooms of the options, or None if neither is given."""
    if zooms is None:
        return None if zoom is None else (zoom,)
    if zoom is not None:
        raise InvalidRequestError("both --zoom and --zooms are given; at most one of them is allowed")
    first, dash, last = zooms.partition("-")
    try:
        # A range is an object of its ends: one that is too long is refused before it is a list.
        chosen = range(int(first), int(last) + 1) if dash else [int(part) for part in zooms.split(",")]
    except ValueError as error:
        raise InvalidRequestError(f"zooms is {zooms!r}; A-B or A,B such as 12-14 is allowed") from error
    if not 1 <= len(chosen) <= _MOST_ZOOMS:
        raise InvalidRequestError(f"zooms is {zooms!r}; 1 to {_MOST_ZOOMS} zooms are allowed")
    return tuple(chosen)
