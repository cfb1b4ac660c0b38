"""The command line of posed views: `earthgen views`.

The command line of the engine finds it as an entry point. It imports what it needs when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earthgen.cli_options import (
    BandWeights,
    EngineOptions,
    NamedOptions,
    Quiet,
    checked_ending,
    grouped,
    parsed_bounds,
    progress_bar,
)
from earthgen.errors import InvalidRequestError

if TYPE_CHECKING:
    from perception.multiview.posed import PosedSet

app = typer.Typer(add_completion=False)


@app.command()
@grouped
def views(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder of the views; one that has them is gone on with."),
    ],
    bbox: Annotated[
        str | None,
        typer.Option(metavar="W,S,E,N", help="West, south, east, north in degrees.  [default: views that are there]"),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Paint a planned place there, whose classes are known, on ground by prompt.")
    ] = False,
    count: Annotated[int, typer.Option(help="Views; each fourth is held out.")] = 24,
    size: Annotated[int, typer.Option(help="Pixels along the side of a view.")] = 128,
    zoom: Annotated[int, typer.Option(help="17 or 18, of the ground.")] = 18,
    labelled: Annotated[int, typer.Option(help="Views whose labels are learned from, 3 to 5.")] = 4,
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit a field: colours, then classes. Ctrl-C stops, again goes on.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Of the colour stage; the classes have half as many.")] = 1200,
    head: Annotated[str, typer.Option(metavar="NAME", help="transformer or convolution.")] = "transformer",
    sam: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checkpoint of segment-anything.  [default: EfficientNet-Lite0 sees]"),
    ] = None,
    pseudo_labels: Annotated[
        str, typer.Option(metavar="NAME", help="Of views without labels: contrast, decoder or none.")
    ] = "contrast",
    fly_around: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Flight around what was fitted: .webp or .gif.")
    ] = None,
    frames: Annotated[int, typer.Option(min=2, max=512, help="Of the flight.")] = 48,
    *,
    where: NamedOptions,
    quiet: Quiet = False,
    band_weights: BandWeights = None,
    using: EngineOptions,
) -> None:
    """Make posed oblique views of a region: images, depth, labels and transforms.json. Fit a field, fly around it.

    Example: earthgen views --seed 3 --bbox 0.004,0.004,0.0053,0.0053 --plan -o views --fit --fly-around around.webp
    """
    if fly_around is not None:
        from perception.multiview.flight import ENDINGS

        checked_ending(fly_around, ENDINGS)
        if not fit:
            raise InvalidRequestError("--fly-around shows what was fitted; give --fit, too")
    from perception.multiview.posed import TRANSFORMS, read_views, write_views
    from perception.multiview.running import PSEUDO, FieldRun, FitSettings
    from perception.multiview.semantics import KINDS

    kind = next((name for name in KINDS if name == head), None)
    if kind is None:
        raise InvalidRequestError(f"head is {head!r}; allowed: {', '.join(KINDS)}")
    pseudo = next((name for name in PSEUDO if name == pseudo_labels), None)
    if pseudo is None:
        raise InvalidRequestError(f"pseudo-labels are {pseudo_labels!r}; allowed: {', '.join(PSEUDO)}")
    settings = FitSettings(steps, steps // 2, head=kind, pseudo=pseudo, sam=None if sam is None else str(sam))
    if (output / TRANSFORMS).exists():
        posed = read_views(output)
    elif bbox is None:
        raise InvalidRequestError(f"{output} holds no views; give --bbox W,S,E,N to make them")
    else:
        posed = _made(where, using, bbox, plan, count, size, zoom, labelled, band_weights, output.name, quiet)
        write_views(output, posed)
    typer.echo(
        f"{output / TRANSFORMS}: {len(posed.views)} views, {len(posed.held_out)} held out,"
        f" {len(posed.labelled)} of the others labelled"
    )
    if not fit:
        return
    run = FieldRun(posed, settings, output)
    run.resume()
    with progress_bar("fit", quiet) as show:
        fitted = run.run(show)
    typer.echo(f"{output / 'field.pt'}: {run.step} steps, {run.seconds:.0f} s")
    if fly_around is not None:
        from perception.multiview.cameras import around
        from perception.multiview.flight import write_flight

        with progress_bar(fly_around.name, quiet) as show:
            write_flight(fly_around, around(posed.box, frames, posed.views[0].camera.width), fitted.render, show)
        typer.echo(f"{fly_around}: {frames} frames of colours, classes and depth")


def _made(
    where: NamedOptions,
    using: EngineOptions,
    bbox: str,
    plan: bool,
    count: int,
    size: int,
    zoom: int,
    labelled: int,
    band_weights: Path | None,
    title: str,
    quiet: bool,
) -> PosedSet:
    from perception.multiview.cameras import orbit
    from perception.multiview.plan import planned_world
    from perception.multiview.posed import check_counts, posed_set
    from perception.multiview.rendering import render_views
    from perception.multiview.scene import scene_box, scene_of

    box = scene_box(parsed_bounds(bbox), zoom)
    check_counts(count, labelled)
    world = planned_world(box, where.seed or 0, where.prompt) if plan else where.world(using.folder)
    with using.open() as engine:
        scene = scene_of(engine, world, box, band_weights)
    with progress_bar(title, quiet) as show:
        return posed_set(scene, render_views(scene, orbit(scene, count, size), progress=show), labelled)
