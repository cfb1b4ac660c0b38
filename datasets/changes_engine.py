"""Pairs of dates from the engine, whose change is known by construction.

    python -m datasets.changes_engine --out runs/pairs --count 300

A pair is one world at two dates. Between them edits by prompt, fires and floods change it: those are the change, and
their classes are what the prompts asked for. Other edits are **not** change: some by prompt hold on both dates and lay
out the ground, and on one date ground of the same kind is generated anew from another seed, or lies in autumn, summer
or haze. So pixels that were synthesised again, borders of polygons and tones are no evidence of change. One pair in
seven has no change at all.

A pair is a function of its index and the engine's weights. It costs seconds, so pairs are kept in a folder; a
run that was stopped goes on where it was. Date effects are not in there: see `trainingsets.changes.dated`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import typer
from tqdm import tqdm

from earthgen.editing import FEATHER, Layer, layers_of
from earthgen.engine import Engine
from earthgen.pyramid import MAX_ZOOM, Box, world_size
from earthgen.world import Edit, World
from trainingsets.changes import CLASSES, Bytes, ChangeSample, generator

Split = Literal["train", "val"]

SIDE = 256
SOURCE = "engine"
VERSION = 1
"""Counts changes of what an index stands for."""
HELD_OUT = 5
"""Every so many-th index is held out; each index has a world and a place of its own."""
_CLOSE, _WIDE = 0.6, 9.6
_GSDS = (0.6, 0.6, 2.4, 9.6)
"""Metres per pixel of worlds by prompt; the engine takes the nearest level, zoom 18, 16 or 14 at the equator."""
_LEAST_DIFFERENCE = 6.0
"""Grey levels by which an edit must change the mean colour or the contrast of its area, or it is no change."""

_PROMPTS: dict[str, dict[bool, tuple[str, ...]]] = {
    "low vegetation": {
        True: ("meadow", "grass field", "green fields", "alpine meadow", "lawn"),
        False: ("green pasture", "meadow", "crop fields", "farmland with fields", "natural grassland"),
    },
    "bare ground": {
        True: ("bare ground", "bare soil", "dry sandy ground", "ploughed field", "scree"),
        False: ("bare fields", "barren land", "desert", "ploughed fields", "sand desert"),
    },
    "tree": {
        True: ("dense forest", "coniferous forest", "forest", "woodland"),
        False: ("dense forest", "forest", "coniferous forest", "rain forest"),
    },
    # "river" is left out: close up it gives a pale sheet.
    "water": {True: ("water", "sea"), False: ("lake", "water", "open sea")},
    "building": {
        True: ("town with streets and houses", "industrial area", "houses along streets", "dense houses", "warehouses"),
        False: ("residential area", "industrial area", "city", "suburb", "town"),
    },
}
"""What is asked for, close up and from afar: words that the weights were taught (docs/prompts.md)."""

_SAID = frozenset(prompt for kinds in _PROMPTS.values() for prompts in kinds.values() for prompt in prompts)
"""All of them."""

_LAND = (
    (-93.6, 42.0), (2.4, 48.9), (8.0, 46.5), (6.5, 27.2), (-60.0, -5.0), (-121.8, 36.3), (37.0, -1.3), (77.2, 28.6),
    (116.4, 39.9), (151.0, -33.8), (-99.1, 19.4), (-58.4, -34.6), (30.5, 50.4), (23.0, -20.0), (105.0, 16.0),
    (-110.0, 46.0), (14.4, 50.1), (-5.5, 40.3), (138.0, 36.0), (-47.9, -15.8),
)  # fmt: skip
"""Longitude and latitude of land around which worlds of the real Earth are looked at."""

_AFTERMATH = {"burn": "bare ground", "flood": "water"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One pair, before it is computed.

    Attributes:
        index: its address.
        before: the world on the first date.
        after: the world on the second; its last edits are the change.
        box: the pixels to look at.
        cover: class of the ground, or None where nobody said.
        layout: the class of each edit that both worlds begin with.
        changes: the class that each changing edit leaves, in the order of the last edits of `after`.
    """

    index: int
    before: World
    after: World
    box: Box
    cover: str | None
    layout: tuple[str, ...]
    changes: tuple[str, ...]

    @property
    def split(self) -> Split:
        """Training or held out."""
        return split_of(self.index)


def split_of(index: int) -> Split:
    """Whether a pair is for training or held out."""
    return "val" if index % HELD_OUT == HELD_OUT - 1 else "train"


def recipe(index: int) -> Recipe:
    """What pair `index` is: the same on any machine."""
    random = generator(VERSION, index)
    seed = int(random.integers(2**31))
    cover: str | None = None
    if random.random() < 0.2:
        zoom = int(random.choice((14, 16)))
        world, box, close = World(seed=seed), _land_box(zoom, random), False
    else:
        gsd = float(random.choice(_GSDS))
        close = gsd == _CLOSE
        cover = str(random.choice(list(_PROMPTS)))
        world = World(root="prompt", prompt=str(random.choice(_PROMPTS[cover][close])), gsd=gsd, seed=seed)
        zoom = world.root_zoom + 2
        middle = world_size(zoom) // 2
        row, column = (middle + int(value) for value in random.integers(-3000, 3000, 2))
        box = Box(zoom, row, column, SIDE, SIDE)

    laid = [_another(box, cover, close, random, largest=0.9) for _ in range(int(random.integers(4)))]
    changing: list[tuple[Edit, str]] = []
    if random.random() < 6 / 7:
        changing = [_changing(box, cover, close, random) for _ in range(int(random.integers(1, 4)))]
    # Houses that are generated anew stand elsewhere: that would be change.
    anew = cover not in (None, "building") and all(name != "building" for _, name in laid)
    still = tuple(_unchanging(box, anew, random) for _ in range(int(random.integers(1, 3))))
    on_first = bool(random.integers(2))

    common, last = (tuple(edit for edit, _ in some) for some in (laid, changing))
    before = replace(world, edits=common + (still if on_first else ()))
    after = replace(world, edits=common + (() if on_first else still) + last)
    layout, changes = (tuple(name for _, name in some) for some in (laid, changing))
    return Recipe(index, before, after, box, cover, layout, changes)


def layout_prompts(index: int) -> tuple[dict[str, str], dict[str, str]]:
    """What the prompts of a pair asked for, before and after: of each class that came of one prompt alone, that one."""
    what = recipe(index)
    edits = layers_of(what.after)
    said: list[tuple[str, str]] = []
    if what.cover is not None:
        said.append((what.cover, what.before.prompt))
    laid = list(zip(what.layout, what.after.edits, strict=False))
    changing = list(zip(what.changes, what.after.edits[len(edits) - len(what.changes) :], strict=True))
    found: list[dict[str, str]] = []
    for some in (laid, laid + changing):
        prompts: dict[str, set[str]] = {}
        for name, prompt in [*said, *((name, edit.prompt or edit.action) for name, edit in some)]:
            prompts.setdefault(name, set()).add(prompt)
        found.append({name: next(iter(one)) for name, one in prompts.items() if len(one) == 1 and one <= _SAID})
    return found[0], found[1]


def compute(engine: Engine, what: Recipe) -> ChangeSample:
    """Have the engine make a pair."""
    before, after = (engine.pixels(world, what.box) for world in (what.before, what.after))
    cover_before = np.full((SIDE, SIDE), 0 if what.cover is None else 1 + CLASSES.index(what.cover), dtype=np.uint8)
    layers = layers_of(what.after)
    for layer, name in zip(layers, what.layout, strict=False):
        cover_before[_share(layer, what.box) > 0.5] = 1 + CLASSES.index(name)
    cover_after = cover_before.copy()
    change = np.zeros((SIDE, SIDE), dtype=np.bool_)
    known = np.ones_like(change)
    for layer, name in zip(layers[len(layers) - len(what.changes) :], what.changes, strict=True):
        share = _share(layer, what.box)
        cover_after[share > 0.5] = 1 + CLASSES.index(name)
        change |= share > 0.5
        # Where an edit fades in, it is a matter of taste whether the ground changed.
        known &= (share == 0) | (share == 1)
        if not _shows(before, after, share == 1):
            known &= share == 0
    change &= cover_before != cover_after
    name = f"{what.index:05d}"
    return ChangeSample(SOURCE, name, name, before, after, change, known, cover_before, cover_after)


def _share(layer: Layer, box: Box) -> npt.NDArray[np.float64]:
    """How much of each pixel is the edit's, 0..1: (box.height, box.width)."""
    if box.zoom < layer.zoom:
        return layer.within(box).astype(np.float64)
    shift = box.zoom - layer.zoom
    rows = np.arange(box.row, box.row + box.height) >> shift
    columns = np.arange(box.column, box.column + box.width) >> shift
    at = Box(layer.zoom, int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    weights = layer.weights_in(at)[np.ix_(rows - rows[0], columns - columns[0])]
    return weights / FEATHER


def _shows(before: Bytes, after: Bytes, inside: npt.NDArray[np.bool_]) -> bool:
    """Whether the ground looks different: prompts are heard most of the time, not always."""
    if not inside.any():
        return False
    one, other = (image[inside].astype(np.float64) for image in (before, after))
    colour = np.abs(one.mean(axis=0) - other.mean(axis=0)).max()
    contrast = abs(one.mean(axis=1).std() - other.mean(axis=1).std())
    return bool(max(colour, contrast) >= _LEAST_DIFFERENCE)


def _changing(box: Box, cover: str | None, close: bool, random: np.random.Generator) -> tuple[Edit, str]:
    """An edit after which the ground is of another class, and that class."""
    if cover in (None, "low vegetation", "tree") and random.random() < 0.15:
        action: Literal["burn", "flood"] = "burn" if random.random() < 0.5 else "flood"
        return Edit(_polygon(box, random), action=action), _AFTERMATH[action]
    return _another(box, cover, close, random)


def _another(
    box: Box, cover: str | None, close: bool, random: np.random.Generator, largest: float = 0.6
) -> tuple[Edit, str]:
    """An edit by prompt for another class than the ground's, and that class."""
    names = [name for name in _PROMPTS if name != cover]
    # Most of what people look for is building.
    weights = np.array([2.0 if name == "building" else 1.0 for name in names])
    name = str(random.choice(names, p=weights / weights.sum()))
    prompt = str(random.choice(_PROMPTS[name][close]))
    return Edit(_polygon(box, random, largest), prompt, seed=int(random.integers(2**31))), name


def _unchanging(box: Box, anew: bool, random: np.random.Generator) -> Edit:
    """An edit after which the ground is still of its class."""
    polygon = _polygon(box, random, largest=1.2)
    if anew and random.random() < 0.6:
        return Edit(polygon, action="reseed", seed=int(random.integers(2**31)))
    action: Literal["autumn", "summer", "haze"] = ("autumn", "summer", "haze")[int(random.integers(3))]
    return Edit(polygon, action=action)


def _polygon(box: Box, random: np.random.Generator, largest: float = 0.6) -> tuple[tuple[float, float], ...]:
    """A polygon in or across the box: a turned rectangle or a lump with four to ten corners."""
    # At coarser zooms smaller areas would enter finer than they are looked at.
    least = 14 if box.zoom == MAX_ZOOM else 40
    height, width = (
        math.exp(random.uniform(math.log(least), math.log(largest * side))) for side in (box.height, box.width)
    )
    angles = np.array([0.25, 0.75, 1.25, 1.75]) * np.pi
    radii = np.full(4, math.sqrt(2))
    if random.random() < 0.5:
        corners = int(random.integers(5, 11))
        angles = (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
        radii = random.uniform(0.85, 1.35, corners)
    down, right = radii * np.sin(angles) * height / 2, radii * np.cos(angles) * width / 2
    turn = random.uniform(0, np.pi)
    row = box.row + random.uniform(0.1, 0.9) * box.height + np.cos(turn) * down + np.sin(turn) * right
    column = box.column + random.uniform(0.1, 0.9) * box.width - np.sin(turn) * down + np.cos(turn) * right
    return tuple(_place(box.zoom, float(r), float(c)) for r, c in zip(row, column, strict=True))


def _place(zoom: int, row: float, column: float) -> tuple[float, float]:
    """Longitude and latitude of a pixel."""
    size = world_size(zoom)
    latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / size))))
    return column / size * 360 - 180, latitude


def _land_box(zoom: int, random: np.random.Generator) -> Box:
    longitude, latitude = _LAND[int(random.integers(len(_LAND)))]
    longitude, latitude = longitude + random.uniform(-0.3, 0.3), latitude + random.uniform(-0.3, 0.3)
    size = world_size(zoom)
    column = int((longitude + 180) / 360 * size)
    row = int((1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2 * size)
    return Box(zoom, row, column, SIDE, SIDE)


# --- The folder ---


def generate(folder: Path, count: int, weights: Path | None = None, split: Split | None = None) -> None:
    """Compute the pairs 0 .. count - 1 that the folder lacks, or only those of one split.

    Raises:
        ValueError: the folder holds pairs of another version or of other weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Engine.open(weights, memory_bytes=64 << 20, threads=1) as engine:
        made_by = {"version": VERSION, "weights": engine.weights_id}
        about = folder / "pairs.json"
        if about.exists() and json.loads(about.read_text(encoding="utf-8")) != made_by:
            raise ValueError(f"{folder} holds pairs that other weights made; name another folder")
        about.write_text(json.dumps(made_by), encoding="utf-8")
        for index in tqdm(range(count), unit="pair"):
            path = _file(folder, index)
            if split in (None, split_of(index)) and not path.exists():
                _save(path, compute(engine, recipe(index)))


def read_engine_pairs(folder: Path, split: Split) -> Iterator[ChangeSample]:
    """The pairs of a folder, by index.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = sorted(folder.glob("engine-*.npz"))
    if not paths:
        raise FileNotFoundError(
            f"no pairs in {folder}; make some with: python -m datasets.changes_engine --out {folder}"
        )
    for path in paths:
        name = path.stem.removeprefix("engine-")
        if split_of(int(name)) == split:
            with np.load(path) as arrays:
                yield ChangeSample(SOURCE, name, name, **{key: arrays[key] for key in arrays.files})


def _file(folder: Path, index: int) -> Path:
    return folder / f"engine-{index:05d}.npz"


def _save(path: Path, sample: ChangeSample) -> None:
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    names = ("before", "after", "change", "known", "cover_before", "cover_after")
    np.savez_compressed(partial, **{name: getattr(sample, name) for name in names})
    os.replace(partial, path)


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the pairs")],
    count: Annotated[int, typer.Option(min=1, help="pairs in all")] = 300,
    weights: Annotated[Path | None, typer.Option(metavar="DIR", help="of the cascade; default the shipped")] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="only pairs that are held out")] = False,
) -> None:
    """Make pairs. Example: python -m datasets.changes_engine --out runs/pairs --count 300."""
    generate(out, count, weights, "val" if held_out else None)


if __name__ == "__main__":
    typer.run(main)
