"""Dumps: items per second with 1 and 2 workers, where the time goes, and whether memory stays flat.

    python -m benchmarks.dump [--count 24] [--memory-items 10000] [--memory-engine shipped]

The first two tables use the shipped weights. Memory is watched over many items of an engine that only fills areas with
colours, so that labels, encoding and writing are the real ones and a run takes minutes; or of the real engine.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from torch.nn.modules import module as torch_module

from earthgen.bands import PixelSource
from earthgen.editing import layers_of
from earthgen.pyramid import Box
from earthgen.world import World
from trainingsets.folder import DumpFolder
from trainingsets.making import EngineMaker, EngineOpener, Opener
from trainingsets.running import run
from trainingsets.spec import DumpSpec
from trainingsets.tasks import TASKS

Pixels = npt.NDArray[np.uint8]


@dataclass
class Timed:
    """An engine whose calls are timed."""

    engine: PixelSource
    wall: float = 0.0
    cpu: float = 0.0
    weights_id: str = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.weights_id, self.fingerprint = self.engine.weights_id, self.engine.fingerprint

    def pixels(self, world: World, box: Box, *, cancelled: Any = None) -> Pixels:
        """Pixels of the engine."""
        wall, cpu = time.perf_counter(), time.process_time()
        pixels = self.engine.pixels(world, box, cancelled=cancelled)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        return pixels


class InNetworks:
    """CPU seconds of all threads inside calls of torch modules, each counted at the outermost."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._adding = threading.Lock()
        self._here = threading.local()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this is open."""
        handles = [
            torch_module.register_module_forward_pre_hook(self._enter),
            torch_module.register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: Any, inputs: Any) -> None:
        here = self._here
        here.depth = getattr(here, "depth", 0) + 1
        if here.depth == 1:
            here.begun = time.thread_time()

    def _leave(self, module: Any, inputs: Any, output: Any) -> None:
        here = self._here
        here.depth -= 1
        if here.depth == 0:
            with self._adding:
                self.seconds += time.thread_time() - here.begun


class Filling:
    """Noise of the seed, and edits as flat colours."""

    weights_id = fingerprint = "filling"

    def pixels(self, world: World, box: Box, *, cancelled: Any = None) -> Pixels:
        """uint8 (h, w, 3)."""
        pixels = np.random.default_rng(world.seed).integers(0, 255, (box.height, box.width, 3), dtype=np.uint8)
        for layer in layers_of(world.at()):
            pixels[layer.within(box)] = (9, 99, 60)
        return pixels


def where_time_goes(spec: DumpSpec, path: Path) -> None:
    """One process: shares of CPU time outside the engine, and outside its networks."""
    opener, networks = EngineOpener(), InNetworks()
    with opener.open() as maker, networks.watched():
        assert isinstance(maker, EngineMaker)
        timed = Timed(maker.engine)
        wall, cpu = time.perf_counter(), time.process_time()
        made_by = maker.made_by(TASKS[spec.task].bands)
        folder = DumpFolder.create(path, spec, made_by, resume=False)
        run(folder, opener, maker=EngineMaker(timed))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"| {spec.task} | {spec.count} | {cpu / spec.count:.2f} | {1 - timed.cpu / cpu:.1%} |"
        f" {1 - networks.seconds / cpu:.1%} | {wall / spec.count:.2f} |"
    )


def with_workers(spec: DumpSpec, path: Path, workers: int) -> float:
    """Items per second between the first and the last that are done; starting workers is left out."""
    opener = EngineOpener()
    with opener.open() as maker:
        folder = DumpFolder.create(path, spec, maker.made_by(TASKS[spec.task].bands), resume=False)
    done: list[float] = []

    def note(number: int, total: int) -> None:
        done.append(time.perf_counter())

    run(folder, opener, backend="process", workers=workers, progress=note)
    # The first report comes before any item, the second with the first one.
    return (len(done) - 2) / (done[-1] - done[1])


@dataclass(frozen=True)
class FillingOpener:
    """Opens a filling engine."""

    @contextmanager
    def open(self) -> Iterator[EngineMaker]:
        """A maker."""
        yield EngineMaker(Filling())


def memory(items: int, path: Path, opener: Opener, spec: DumpSpec) -> None:
    """Resident memory of one process every tenth of a long run."""
    rows: list[tuple[int, float]] = []

    def watch(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0:
            rows.append((done, resident_megabytes()))

    begun = time.perf_counter()
    with opener.open() as maker:
        folder = DumpFolder.create(path, spec, maker.made_by(()), resume=False)
        run(folder, opener, progress=watch, maker=maker)
    print(
        f"\n{items} items in {time.perf_counter() - begun:.0f} s; resident memory, MB: "
        + ", ".join(f"{done}: {megabytes:.0f}" for done, megabytes in rows)
        + f"; at the end {resident_megabytes():.0f}"
    )


def resident_megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(
    count: Annotated[
        int, typer.Option(help="items of each measurement with the shipped weights; 0 leaves these out")
    ] = 24,
    memory_items: Annotated[int, typer.Option(help="items over which memory is watched; 0 leaves it out")] = 10_000,
    memory_engine: Annotated[
        str, typer.Option(help="filling: areas with colours; or shipped: the real one")
    ] = "filling",
    size: Annotated[int, typer.Option(help="pixels along a side")] = 256,
) -> None:
    """Print the tables of docs/dump.md."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        if count:
            print("| task | items | CPU s an item | not in the engine | not in a network | wall s an item |")
            print("|---|---|---|---|---|---|")
            for task in ("classification", "change-caption"):
                spec = DumpSpec(task=task, format="hf", count=count, size=size, gsds=(0.6,))
                where_time_goes(spec, base / task)
            print("\n| workers | items/s |\n|---|---|")
            rates = []
            for workers in (1, 2):
                spec = DumpSpec(task="classification", format="hf", count=count, size=size, gsds=(0.6,))
                rates.append(with_workers(spec, base / f"workers-{workers}", workers))
                print(f"| {workers} | {rates[-1]:.2f} |")
            print(f"\nparallel efficiency of 2 workers: {rates[1] / (2 * rates[0]):.2f} on {os.cpu_count()} cores")
        if memory_items:
            if memory_engine not in ("filling", "shipped"):
                raise typer.BadParameter(f"memory engine is {memory_engine!r}; allowed: filling, shipped")
            filling = memory_engine == "filling"
            spec = DumpSpec(
                task="change-caption" if filling else "classification",
                format="webdataset",
                count=memory_items,
                size=128,
                gsds=(0.6, 2.4, 9.6) if filling else (0.6,),
                date_effects=False,
            )
            memory(memory_items, base / "memory", FillingOpener() if filling else EngineOpener(), spec)


if __name__ == "__main__":
    typer.run(main)
