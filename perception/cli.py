"""The command line of perception: `earthgen watch detect | caption | segment | models`.

The command line of the engine finds it as an entry point. Commands import what they need when they run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from earthgen.cli_options import checked_ending, progress_bar
from earthgen.errors import InvalidRequestError
from perception.cli_caption import caption
from perception.cli_segment import segment

app = typer.Typer(
    help="Find and describe what changed between two pictures of one place, and what a phrase names in one.",
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def detect(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The earlier picture: GeoTIFF, PNG, JPEG, WebP.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The later one, of the same size and place.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Change map to write: .tif.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="See `earthgen watch models`.")] = "cdmamba",
    classes: Annotated[
        str | None,
        typer.Option(metavar='"A,B,C"', help="What may be there, for semantic-cd.  [default: the model's own classes]"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder or file of weights, or hf:OWNER/NAME.  [default: the ones that ship]"),
    ] = None,
    tower: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="OpenCLIP model that weights of semantic-cd sit on, if they do."),
    ] = None,
    geojson: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the areas as polygons.")] = None,
    tile: Annotated[int, typer.Option(help="Pixels along the side of a piece of a large picture.")] = 256,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring pieces share.")] = 64,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Write what changed between two pictures as a GeoTIFF.

    Bands: change (0 or 1), its probability (0 to 255) and, of a model that names classes, those before and after.
    Example: earthgen watch detect before.tif after.tif -o change.tif --model cdmamba
    """
    checked_ending(output, (".tif", ".tiff"))
    if geojson is not None:
        checked_ending(geojson, (".geojson", ".json"))
    if output.resolve() in (before.resolve(), after.resolve()):
        raise InvalidRequestError(f"{output} is one of the pictures; give the change map another name")
    import perception
    from perception.registry import check_finds_change, load_detector

    check_finds_change(model)
    pair = perception.read_pair(before, after)
    if geojson is not None and pair.crs is None:
        raise InvalidRequestError(
            f"{before} has no reference system, so its changes have no coordinates; leave --geojson out"
        )
    detector = load_detector(model, weights, tower=tower)
    names = None if classes is None else classes.split(",")
    with progress_bar(output.name, quiet) as show:
        found = detector.detect(pair, classes=names, tile=tile, overlap=overlap, progress=show)
    found.write_geotiff(output)
    if geojson is not None:
        found.write_geojson(geojson)
    changed = int(found.mask.sum())
    typer.echo(f"{output}: {changed} of {found.mask.size} pixels changed ({changed / found.mask.size:.2%})")


app.command()(caption)
app.command()(segment)


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the models: name, task, whether weights ship, paper."""
    from perception.registry import MODELS, describe

    if as_json:
        typer.echo(json.dumps([describe(model, model.weights) for model in MODELS.values()], indent=2))
        return
    for model in MODELS.values():
        shipped = "weights ship" if model.weights else "no weights ship"
        typer.echo(f"{model.name:<12} {model.task:<31} {shipped:<16} {model.paper}")
