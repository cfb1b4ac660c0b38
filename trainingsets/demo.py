"""A small dump of each task, read back.

python -m trainingsets.demo --out runs/dump-demo --count 8
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from trainingsets.folder import DumpFolder
from trainingsets.inspection import inspect_folder
from trainingsets.making import EngineOpener
from trainingsets.running import run
from trainingsets.spec import DumpSpec
from trainingsets.tasks import TASKS

DEMOS: tuple[tuple[str, str], ...] = (
    ("classification", "webdataset"),
    ("segmentation", "geotiff"),
    ("change-detection", "levir-cd"),
    ("semantic-change", "second"),
    ("change-caption", "levir-mci"),
    ("vqa", "parquet"),
    ("change-dialogue", "hf"),
    ("referring", "coco"),
    ("super-resolution", "hf"),
    ("multi-view", "nerf"),
    ("time-series", "geotiff"),
)
"""Every task, in formats that together are all."""
VIEWS, VIEW_SIZE = 8, 128
"""Posed views of a scene, and the most pixels of one: enough to see what they are, in a tenth of the time."""


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the dumps")] = Path("runs/dump-demo"),
    count: Annotated[int, typer.Option(min=1, help="items of each")] = 8,
    size: Annotated[int, typer.Option(help="pixels along a side")] = 256,
    seed: Annotated[int, typer.Option(help="of all dumps")] = 0,
) -> None:
    """Write a small dump of each task and inspect it; goes on where it was stopped."""
    opener = EngineOpener()
    faults = 0
    with opener.open() as maker:
        for task, form in DEMOS:
            spec = DumpSpec(
                task=task,
                format=form,
                count=count,
                seed=seed,
                size=min(size, VIEW_SIZE) if task == "multi-view" else size,
                tiles_per_scene=1,
                gsds=TASKS[task].gsds,
                views=VIEWS,
            )
            begun = time.perf_counter()
            folder = DumpFolder.create(out / task, spec, maker.made_by(TASKS[task].bands), resume=True)
            outcome = run(folder, opener, maker=maker)
            report = inspect_folder(folder.path)
            faults += len(report.faults)
            seconds = time.perf_counter() - begun
            print(
                f"{folder.path}: {outcome.made} items as {form} in {seconds:.0f} s, {len(report.faults)} faults",
                flush=True,
            )
            for fault in report.faults:
                print(f"  {fault}")
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    typer.run(main)
