"""`earthgen export`: an area of a world as one file of tiles, or as a GeoTIFF of several zooms."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earthgen.cli_options import (
    BandName,
    BandWeights,
    EngineOptions,
    Quiet,
    WorldOptions,
    grouped,
    parsed_bounds,
    progress_bar,
)
from earthgen.errors import InvalidRequestError

if TYPE_CHECKING:
    from earthgen.export.estimate import Estimate

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@grouped
def export(
    bbox: Annotated[str, typer.Option(metavar="W,S,E,N", help="West, south, east, north in degrees.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write: .pmtiles, .mbtiles or .tif.")
    ],
    zooms: Annotated[str, typer.Option(metavar="FIRST-LAST", help="Zooms, 0 to 18, such as 0-14.")],
    image: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Of images: png (exact), jpg or webp.")
    ] = "png",
    image_quality: Annotated[int, typer.Option(help="Of jpg and webp, 1 to 100.")] = 85,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would cost, measured on a few tiles.")] = False,
    limit_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Stop at so many bytes, such as 500M, to be gone on with later.")
    ] = None,
    limit_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after so long, such as 90s, 30m or 8h.")
    ] = None,
    max_tiles: Annotated[
        int | None,
        typer.Option(min=1, help="Refuse exports of more tiles.  [default: 1048576; 4096 of the finest zoom for .tif]"),
    ] = None,
    *,
    where: WorldOptions,
    band: BandName = None,
    quiet: Quiet = False,
    using: EngineOptions,
    band_weights: BandWeights = None,
) -> None:
    """Write an area of a world as PMTiles, MBTiles or a GeoTIFF pyramid; the same command goes on with a stopped one.

    Example: earthgen export --bbox 11.3,47.1,11.7,47.4 --zooms 0-14 --format webp -o innsbruck.pmtiles
    """
    from earthgen.bands import BandView, available_band
    from earthgen.export.area import AreaExport
    from earthgen.export.image import checked_image_format
    from earthgen.export.tileset import TileSet, parsed_zooms
    from earthgen.export.work import Limits

    bounds, range_of_zooms = parsed_bounds(bbox), parsed_zooms(zooms)
    limits = Limits(parsed_size(limit_bytes), parsed_time(limit_time))
    kind = checked_image_format(image, image_quality)
    shown = None if band is None else available_band(band, band_weights)
    order = AreaExport(bounds, range_of_zooms, kind, image_quality, max_tiles, shown)
    order.check(output)
    world = where.world(using.folder)
    order.check_world(world)
    with using.open() as engine, progress_bar(output.name, quiet) as show:
        view = engine if band is None else BandView(engine, band, band_weights)
        if plan:
            report = plan_report(order.estimate(view, world, output, show), output)
        else:
            made = order.write(view, world, output, show, limits=limits)
            if isinstance(made, TileSet):
                what = f"{made.total} tiles, zooms {made.min_zoom}-{made.max_zoom}"
            else:
                what = f"{made[0].width} x {made[0].height} pixels, zooms {made[-1].zoom}-{made[0].zoom}"
            report = f"{output}: {what}, {said_size(output.stat().st_size)}"
    typer.echo(report)


def plan_report(estimate: Estimate, output: Path) -> str:
    """What an export would cost, for people: a line a zoom and the sum."""
    lines = ["zoom       tiles", *(f"{zoom:>4}  {count:>10,}" for zoom, count in estimate.tiles.items())]
    free = shutil.disk_usage(output.parent).free
    lines += [
        f" all  {estimate.total:>10,}",
        f"size      about {said_size(estimate.bytes)}, and as much again while it is written;"
        f" {said_size(free)} are free there",
        f"time      about {said_time(estimate.seconds)} here, measured on {estimate.samples} tiles",
    ]
    return "\n".join(lines)


def parsed_size(text: str | None) -> int | None:
    """Bytes of a text such as 500M or 2.5G (powers of 1000).

    Raises:
        InvalidRequestError: the text is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE | re.ASCII)
    size = 0 if match is None else round(float(match[1]) * _UNITS[match[2].upper()])
    if size < 1:
        raise InvalidRequestError(f"limit of bytes is {text!r}; a number such as 500M is allowed")
    return size


def parsed_time(text: str | None) -> float | None:
    """Seconds of a text such as 90, 90s, 30m, 8h or 2d.

    Raises:
        InvalidRequestError: the text is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhd]?)", text.strip(), re.ASCII)
    seconds = 0.0 if match is None else float(match[1]) * _SECONDS[match[2] or "s"]
    if seconds <= 0:
        raise InvalidRequestError(f"limit of time is {text!r}; a number such as 90s, 30m or 8h is allowed")
    return seconds


def said_size(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def said_time(seconds: float) -> str:
    """Seconds for people."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} seconds"
