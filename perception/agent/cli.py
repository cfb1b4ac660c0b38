"""`earthgen ask`: questions about what changed between two pictures, or between two days of a world.

The command line of the engine finds it as an entry point. What it needs is imported when it runs.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earthgen.cli_options import EngineOptions, NamedOptions, grouped, parsed_bounds, progress_bar, write_whole
from earthgen.errors import InvalidRequestError

if TYPE_CHECKING:
    from perception.agent.answering import Agent, Answer
    from perception.agent.language import EndpointPlanner, LocalPlanner
    from perception.agent.planning import Memory
    from perception.agent.tools import File
    from perception.pair import Pair

MAX_PIXELS = 4096 * 4096
"""Pixels of a world that are compared."""

app = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
@grouped
def ask(
    question: Annotated[
        str | None,
        typer.Argument(metavar="QUESTION", help="In plain words; without one, questions are read line by line."),
    ] = None,
    before: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The earlier picture: GeoTIFF, PNG, JPEG, WebP.")
    ] = None,
    after: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The later one, of the same size and place.")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="METRES", help="Of a pixel, for pictures without a reference system.")
    ] = None,
    bbox: Annotated[
        str | None, typer.Option(metavar="W,S,E,N", help="Of a world: west, south, east, north in degrees.")
    ] = None,
    dates: Annotated[
        str | None, typer.Option(metavar="DAY,DAY", help="Of a world: the earlier and the later day.")
    ] = None,
    zoom: Annotated[int | None, typer.Option(help="Of a world's pixels, 0 to 18; or --gsd.")] = None,
    gsd: Annotated[float | None, typer.Option(metavar="METRES", help="Of a world's pixels, or finer.")] = None,
    *,
    where: NamedOptions,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Detector that answers.  [default: the first that names classes]"),
    ] = None,
    model_weights: Annotated[
        str | None, typer.Option(metavar="DIR", help="Its weights.  [default: the ones that ship]")
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            metavar="URL|DIR",
            envvar="EARTHGEN_AGENT_LLM",
            help="Language model that plans: an OpenAI-compatible address, or a folder or .gguf file.  [default: none]",
        ),
    ] = None,
    llm_model: Annotated[
        str | None, typer.Option(metavar="NAME", envvar="EARTHGEN_AGENT_MODEL", help="Its name at that address.")
    ] = None,
    llm_timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="For an answer of it.")] = 30.0,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where exports go.")] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each answer.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    using: EngineOptions,
) -> None:
    """Answer questions about what changed, from what a change detector finds.

    A key for --llm is read from $EARTHGEN_AGENT_KEY.
    Example: earthgen ask "count the new buildings" --before before.tif --after after.tif
    """
    if question is not None:
        # What is wrong with the question is said before pictures are made.
        from perception.agent.planning import read_question

        read_question(question)
    pictures, world = (before, after), (bbox, dates)
    if (all(pictures) and not any(world)) == (all(world) and not any(pictures)):
        raise InvalidRequestError("give either --before and --after, or --bbox and --dates of a world")
    if not folder.is_dir():
        raise InvalidRequestError(f"folder {folder} does not exist")
    with ExitStack() as stack:
        if before is not None and after is not None:
            from perception.pair import read_pair

            pair = read_pair(before, after)
        else:
            assert bbox is not None and dates is not None
            pair = _pair_of(where, using, bbox, dates, zoom, gsd)
        from perception.agent.answering import Agent
        from perception.agent.opening import open_scene

        show = stack.enter_context(progress_bar("looking", quiet))
        scene = open_scene(pair, model, model_weights, gsd=pixel_size, progress=show)
        agent = Agent(scene, _planner(llm, llm_model, llm_timeout))
        if question is not None:
            _answer(agent, question, None, folder, as_json)
        else:
            _converse(agent, folder, as_json)


def _converse(agent: Agent, folder: Path, as_json: bool) -> None:
    """Answer questions of standard input, each with the memory of the one before, until it ends."""
    memory: Memory | None = None
    prompt = sys.stdin.isatty() and not as_json
    while True:
        if prompt:
            print("? ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if not line.strip():
            continue
        try:
            memory = _answer(agent, line, memory, folder, as_json).memory
        except InvalidRequestError as error:
            # One bad line ends no conversation.
            typer.echo(json.dumps({"detail": str(error)}) if as_json else f"{error}")


def _answer(agent: Agent, question: str, memory: Memory | None, folder: Path, as_json: bool) -> Answer:
    answer = agent.ask(question, memory)
    written = [_write(file, folder) for file in answer.files]
    if as_json:
        value = answer.as_json(with_files=False)
        for file, path in zip(value["files"], written, strict=True):
            file["path"] = str(path)
        typer.echo(json.dumps(value))
        return answer
    typer.echo(answer.text)
    for path in written:
        typer.echo(f"wrote {path}")
    for note in answer.notes:
        typer.echo(f"({note})")
    return answer


def _write(file: File, folder: Path) -> Path:
    """Write an export under a name that is free."""
    path, number = folder / file.name, 2
    while path.exists():
        path = folder / f"{Path(file.name).stem}-{number}{Path(file.name).suffix}"
        number += 1
    write_whole(path, lambda stream: stream.write(file.content))
    return path


def _planner(llm: str | None, model: str | None, timeout: float) -> EndpointPlanner | LocalPlanner | None:
    if llm is None:
        return None
    import os

    from perception.agent.language import open_planner

    return open_planner(llm, model, os.environ.get("EARTHGEN_AGENT_KEY") or None, timeout=timeout)


def _pair_of(
    where: NamedOptions, using: EngineOptions, bbox: str, dates: str, zoom: int | None, gsd: float | None
) -> Pair:
    """Both pictures of a world."""
    from affine import Affine
    from rasterio.crs import CRS

    from earthgen.pyramid import EQUATOR_GSD, bounds_box, box_mercator_bounds, check_bounds, zoom_for_gsd
    from perception.pair import Pair

    bounds = parsed_bounds(bbox)
    check_bounds(bounds)
    if (zoom is None) == (gsd is None):
        raise InvalidRequestError("give either --zoom or --gsd")
    if gsd is not None:
        zoom = zoom_for_gsd(gsd, (bounds[1] + bounds[3]) / 2)
    assert zoom is not None
    days = [day.strip() for day in dates.split(",")]
    if len(days) != 2 or days[0] == days[1]:
        raise InvalidRequestError(f"dates are {dates!r}; two different days are allowed, as 2026-04-30,2026-05-01")
    world = where.world(using.folder)
    earlier, later = (world.at(day) for day in days)
    first, second = (date.fromisoformat(day) for day in days)
    if first > second:
        raise InvalidRequestError(f"{first} is later than {second}; swap them")
    world.check_zoom(zoom)
    box = bounds_box(bounds, zoom)
    if box.width * box.height > MAX_PIXELS:
        raise InvalidRequestError(
            f"the area has {box.width} x {box.height} pixels at zoom {zoom}; at most {MAX_PIXELS} are allowed"
        )
    left, _, _, top = box_mercator_bounds(box)
    size = EQUATOR_GSD / 2.0**zoom
    with using.open() as engine:
        pictures = [engine.pixels(then, box) for then in (earlier, later)]
    pair = Pair(pictures[0], pictures[1], Affine(size, 0.0, left, 0.0, -size, top), CRS.from_epsg(3857))
    return replace(pair, before_date=first, after_date=second)
