"""The command line of dumps: `earthgen dump` and `earthgen inspect`.

The command line of the engine finds them as entry points. They import what they need when they run.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earthgen.cli_options import (
    BandWeights,
    CacheFolder,
    HowWell,
    PromptWeights,
    StoreUrl,
    WeightsSource,
    progress_bar,
)
from earthgen.errors import InvalidRequestError

if TYPE_CHECKING:
    from trainingsets.making import EngineOpener, Maker
    from trainingsets.planning import Estimate
    from trainingsets.spec import DumpSpec

dump_app = typer.Typer(add_completion=False)
inspect_app = typer.Typer(add_completion=False)

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dump_app.command()
def dump(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")],
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="classification, segmentation, change-detection, semantic-change, change-caption, vqa,"
            " change-dialogue, referring, super-resolution, multi-view, time-series.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="geotiff (with STAC), coco, webdataset, hf, parquet; of pairs also levir-cd, levir-mci, second; of"
            " multi-view nerf or webdataset.  [default: hf, or nerf]",
        ),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="Items.")] = 100,
    seed: Annotated[int, typer.Option(metavar="INTEGER", help="Chooses worlds, places and edits.")] = 0,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Side of a picture: 64 to 2048, a multiple of 32.")] = 256,
    gsd: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Metres per pixel, each scene takes one.  [default: 0.6,2.4,9.6, or what the task can]"
        ),
    ] = None,
    roots: Annotated[
        str, typer.Option(metavar="A,B", help="Where worlds start, each scene takes one: prompt, earth, planet.")
    ] = "prompt",
    tiles_per_scene: Annotated[
        int, typer.Option(metavar="N", help="Items from one world: neighbours cost less, and are more alike.")
    ] = 4,
    splits: Annotated[
        str, typer.Option(metavar="A,B,C", help="Shares for training, validation and test.")
    ] = "0.7,0.15,0.15",
    steps: Annotated[int, typer.Option(metavar="N", help="Dates of a time series.")] = 6,
    scale: Annotated[int, typer.Option(metavar="N", help="Of super-resolution: 2, 4, 8 or 16.")] = 4,
    low_gsd: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Of super-resolution, in place of --scale: metres per pixel of low pictures; --gsd is of high ones.",
        ),
    ] = None,
    views: Annotated[int, typer.Option(metavar="N", help="Of multi-view: of each scene.")] = 24,
    same_day: Annotated[
        bool, typer.Option("--same-day", help="Give pictures of several dates no light, haze and noise of their own.")
    ] = False,
    keep_if: Annotated[
        str,
        typer.Option(
            "--keep-if",
            metavar='"NAME<NUMBER and ..."',
            help="Keep only items whose scores fulfil this: anomaly, mahalanobis, slope, clipped, saturation, class_p,"
            " change_f1.",
        ),
    ] = "",
    quality: HowWell = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help="serial, process or ray.")] = "serial",
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes or actors, each with an engine.")] = 2,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Make only part I (from 0) of N; the last one to end finishes the dump."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a dump that is there.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Make a few items, print what the dump would take, write nothing.")
    ] = False,
    limit_bytes: Annotated[
        str | None, typer.Option(metavar="N", help="Stop before the items have more bytes; k, M, G, T are allowed.")
    ] = None,
    limit_time: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Start no item after so long.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="Further tries of an item or of lost workers.")] = 3,
    price: Annotated[
        float | None, typer.Option(metavar="NUMBER", min=0, help="Price of a worker's hour, for --plan.")
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, envvar="EARTHGEN_THREADS", help="CPU threads of each worker's engine.")
    ] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    cache: CacheFolder = None,
    store: StoreUrl = None,
    weights: WeightsSource = None,
    prompt_weights: PromptWeights = None,
    band_weights: BandWeights = None,
) -> None:
    """Write a labelled training set; run the same command with --resume to go on with a stopped one.

    Example: earthgen dump --task change-detection --format levir-cd --count 200 --seed 1 -o pairs
    """
    from earthgen.world import STANDARD
    from trainingsets.making import EngineOpener
    from trainingsets.running import BACKENDS, check
    from trainingsets.spec import DumpSpec
    from trainingsets.tasks import task_of

    chosen = task_of(task)
    spec = DumpSpec(
        task=task,
        format=form or (chosen.formats or ("hf",))[0],
        count=count,
        seed=seed,
        size=size,
        gsds=chosen.gsds if gsd is None else _numbers(gsd, "gsd"),
        roots=tuple(roots.split(",")),  # type: ignore[arg-type]  # checked by the specification
        tiles_per_scene=tiles_per_scene,
        splits=_numbers(splits, "splits"),  # type: ignore[arg-type]
        steps=steps,
        scale=scale,
        low_gsds=() if low_gsd is None else _numbers(low_gsd, "low-gsd"),
        views=views,
        date_effects=not same_day,
        keep_if=keep_if,
        quality=quality or STANDARD,  # type: ignore[arg-type]  # checked by the specification
    )
    check(spec)
    if backend not in BACKENDS:
        raise InvalidRequestError(f"backend is {backend!r}; allowed: {', '.join(BACKENDS)}")
    runner = os.environ.get("EARTHGEN_BACKEND") or "torch"
    opener = EngineOpener(weights, prompt_weights, band_weights, cache, threads, runner, store)
    opener.check(chosen.bands)
    options = _Run(output, backend, workers, _shard(shard), resume or shard is not None, quiet)
    if plan:
        _plan(spec, opener, options, price)
    else:
        _run(spec, opener, options, _bytes(limit_bytes), limit_time, retries)


class _Run:
    """Where and how."""

    def __init__(
        self, output: Path, backend: str, workers: int, shard: tuple[int, int], resume: bool, quiet: bool
    ) -> None:
        self.output, self.backend, self.workers = output, backend, workers
        self.shard, self.resume, self.quiet = shard, resume, quiet


def _run(
    spec: DumpSpec, opener: EngineOpener, options: _Run, bytes_: int | None, seconds: float | None, retries: int
) -> None:
    from trainingsets.folder import DumpFolder
    from trainingsets.running import Limits, run, shard_range

    shard_range(spec, *options.shard)
    with ExitStack() as stack:
        maker = stack.enter_context(opener.open())
        made_by = _made_by(maker, spec)
        folder = DumpFolder.create(options.output, spec, made_by, resume=options.resume)
        if options.backend != "serial":
            stack.close()  # Each worker has an engine of its own.
        show = stack.enter_context(progress_bar(options.output.name, options.quiet))
        outcome = run(
            folder,
            opener,
            backend=options.backend,  # type: ignore[arg-type]  # checked before
            workers=options.workers,
            shard=options.shard,
            limits=Limits(bytes_, seconds, retries),
            progress=show,
            maker=maker if options.backend == "serial" else None,
        )
    if outcome.complete:
        kept = f"{spec.count} items"
        if spec.keep_if:
            kept = f"{spec.count - sum(1 for _ in folder.dropped())} of {spec.count} items kept"
        typer.echo(f"{options.output}: {kept}, complete; see {options.output / 'README.md'}")
        return
    left = f"{options.output}: {spec.count - outcome.missing} of {spec.count} items"
    if outcome.stopped:
        typer.echo(f"{left}; {outcome.stopped}; go on with the same command and --resume")
    else:
        typer.echo(f"{left}; the other shards are missing; the last one finishes the dump")


def _plan(spec: DumpSpec, opener: EngineOpener, options: _Run, price: float | None) -> None:
    from trainingsets.folder import DumpFolder
    from trainingsets.planning import estimate
    from trainingsets.running import shard_range

    first, end = shard_range(spec, *options.shard)
    todo = list(range(first, end))
    with opener.open() as maker:
        made_by = _made_by(maker, spec)
        if options.output.exists() and any(options.output.iterdir()):
            todo = DumpFolder.create(options.output, spec, made_by, resume=True).missing(first, end)
        if not todo:
            typer.echo(f"{options.output}: nothing is left to be made")
            return
        guess = estimate(spec, maker, made_by, todo)
    for line in plan_lines(guess, 1 if options.backend == "serial" else options.workers, price):
        typer.echo(line)


def plan_lines(guess: Estimate, workers: int, price: float | None) -> list[str]:
    """An estimate in words."""
    lines = [
        f"items    {guess.items}",
        f"seconds  {guess.seconds_first:.2f} for the first item of a scene, {guess.seconds_next:.2f} for a further one",
        f"time     {_duration(guess.seconds / workers)} with {workers} worker{'s' if workers > 1 else ''}, if each has"
        " a core of its own",
        f"bytes    {guess.bytes:,}",
    ]
    if price is None:
        lines.append(f"price    {guess.core_hours():.3g} hours of a worker; say --price for money")
    else:
        lines.append(f"price    {guess.core_hours() * price:.2f} at {price:g} for a worker's hour")
    if guess.kept < guess.measured:
        lines.append(f"kept     {guess.kept} of {guess.measured} that were made")
    return [*lines, f"measured on {guess.measured} items of this dump, on this machine, now"]


@inspect_app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A dump, or a folder of pictures.")],
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the first items into a picture: .png.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Check a dump: counts, class balance, every file, duplicates, leakage between splits.

    The exit code is 1 if it has faults.

    Example: earthgen inspect pairs --sheet pairs.png
    """
    from trainingsets.inspection import inspect_folder

    with progress_bar(folder.name, quiet) as show:
        report = inspect_folder(folder, sheet, show)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1))
    else:
        for line in report.lines():
            typer.echo(line)
    if report.faults:
        raise typer.Exit(1)


def _made_by(maker: Maker, spec: DumpSpec) -> dict[str, str]:
    """What the bytes depend on: engine and bands, and what scores the items."""
    from trainingsets.tasks import task_of

    made_by = maker.made_by(task_of(spec.task).bands)
    if spec.keep_if:
        from trainingsets.scoring import scored_by

        made_by |= scored_by(spec)
    return made_by


def _numbers(text: str, what: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequestError(f"{what} is {text!r}; numbers with commas between are allowed") from error


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise InvalidRequestError(f"shard is {text!r}; I/N such as 0/4 is allowed")
    return int(number), int(count)


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS and text[-1:] else (text, "")
    try:
        size = int(float(number) * _UNITS[unit])
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(f"limit of bytes is {text!r}; a number such as 500M is allowed") from error
    if size <= 0:
        raise InvalidRequestError(f"limit of bytes is {text!r}; a number above 0 is allowed")
    return size


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
