"""Train on generated pictures, test on real ones: with and without the validators' filter, beside and with real ones.

    python -m benchmarks.transfer --data DIR

Two tasks. Scenes: the ten classes of EuroSAT at 10 m. Land cover: chips of 64 pixels at 1 to 1.5 m of Dubai and West
Virginia of which three quarters are water, trees, low vegetation, bare ground or built. A linear head is fitted on
frozen features of an ImageNet EfficientNet-Lite0 and tested on held-out real chips. Classes of generated chips are
those of the prompts that they were made from; the filter (`--keep-if`, as of `earthgen dump`) sees whole pictures of
128 pixels, from which four chips are cut. A class of which nothing fulfils it is left as it is. Filtered pictures are
compared with as many that were drawn at random.

Intervals are 95 %, from a bootstrap over both the training pictures and the tested ones; each class keeps its share.
The image tower behind `class_p` has learnt from captions of the real packs, EuroSAT's training split among them, so a
filter by it is not free of real data; `anomaly` and the rest know no classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from tqdm import tqdm

from benchmarks.adherence import EUROSAT, Generate, LinearProbe, engine_generator
from datasets.labelled import read_labelled
from datasets.packs import PACKS, Split, imagery_folder, read_pack
from datasets.scenes import scene_of
from earthgen.bands import LAND_COVER
from earthgen.engine import Engine
from earthgen.tower import ImageTower, LiteTower, image_tower
from perception.validation.anomaly import AnomalyScorer, shipped_scorer
from perception.validation.words import cosines, others, rank_p_value
from trainingsets.grounds import COVER
from trainingsets.keeping import Condition, parse

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Describe = Callable[[Sequence[Pixels]], torch.Tensor]

CHIP, PICTURE = 64, 128
_COVERED = 0.75
_COVERS: dict[str, tuple[str, ...]] = {
    "water": ("water",),
    "tree": ("trees",),
    "low vegetation": ("low vegetation",),
    "bare ground": ("bare ground",),
    "building": ("road", "building", "other paved"),
}
"""Classes of `COVER`, and what of the land-cover legend counts as each."""


@dataclass(frozen=True, slots=True)
class Chips:
    """Chips to learn from or to be tested on.

    Attributes:
        features: float32 (n, d).
        classes: (n,).
        pictures: which picture each is cut from, (n,); pictures are drawn as a whole.
    """

    features: torch.Tensor
    classes: Numbers
    pictures: Numbers

    def of(self, pictures: Sequence[int]) -> Chips:
        """The chips of some pictures; of one that is named twice, twice."""
        rows = np.concatenate([np.flatnonzero(self.pictures == picture) for picture in pictures])
        return Chips(self.features[rows], self.classes[rows], self.pictures[rows])

    def and_(self, other: Chips) -> Chips:
        """Both; pictures of the other one get numbers of their own."""
        return Chips(
            torch.cat([self.features, other.features]),
            np.concatenate([self.classes, other.classes]),
            np.concatenate([self.pictures, other.pictures + self.pictures.max(initial=-1) + 1]),
        )

    def by_class(self) -> list[Numbers]:
        """The pictures of each class."""
        return [np.unique(self.pictures[self.classes == number]) for number in range(int(self.classes.max()) + 1)]


@dataclass(frozen=True, slots=True)
class Made:
    """Generated pictures: their chips, and scores of each picture by its number."""

    chips: Chips
    scores: tuple[dict[str, float | None], ...]

    def kept(self, conditions: tuple[Condition, ...]) -> list[int]:
        """The pictures that fulfil conditions."""
        return [number for number, scores in enumerate(self.scores) if all(each.holds(scores) for each in conditions)]


def make(
    generate: Generate,
    describe: Describe,
    scorer: AnomalyScorer,
    tower: ImageTower,
    prompts: Sequence[Sequence[str]],
    gsd: float,
    count: int,
) -> Made:
    """`count` generated pictures of each class, the prompts of a class taken in turn."""
    chips: list[Pixels] = []
    classes: list[int] = []
    scores: list[dict[str, float | None]] = []
    for number, words in enumerate(tqdm(prompts, desc=f"{gsd:g} m", leave=False)):
        for seed in range(count):
            prompt = words[seed % len(words)]
            picture = generate(prompt, gsd, seed)
            near = cosines(tower, [picture], gsd, [prompt, *others(tower, [prompt])])[0]
            found = scorer.score(picture, gsd)
            about = {"anomaly": found.anomaly, "mahalanobis": found.mahalanobis, "slope": abs(found.slope)}
            about |= {"clipped": found.clipped, "saturation": found.saturation}
            scores.append({**about, "class_p": rank_p_value(float(near[0]), near[1:]), "change_f1": None})
            chips += [picture[top : top + CHIP, left : left + CHIP] for top in (0, CHIP) for left in (0, CHIP)]
            classes += [number] * 4
    return Made(Chips(describe(chips), np.array(classes), np.arange(len(chips)) // 4), tuple(scores))


def accuracy(seen: Chips, held_out: Chips, classes: int) -> float:
    """Mean over the classes of the share of held-out chips that are told rightly, 0..1."""
    targets = F.one_hot(torch.from_numpy(seen.classes), classes).float()
    # Classes of unlike size count alike.
    targets = targets - targets.mean(dim=0)
    answers = LinearProbe.fit(seen.features, targets)(held_out.features).argmax(dim=1).numpy()
    right = answers == held_out.classes
    return float(np.mean([right[held_out.classes == number].mean() for number in np.unique(held_out.classes)]))


def redrawn(chips: Chips, random: np.random.Generator) -> Chips:
    """As many pictures of each class, drawn with replacement."""
    return chips.of([int(one) for mine in chips.by_class() if len(mine) for one in random.choice(mine, len(mine))])


def interval(values: Sequence[float]) -> str:
    """The middle 95 %."""
    low, high = np.quantile(values, (0.025, 0.975))
    return f"{low:.3f} to {high:.3f}"


def table(made: Made, real: Chips, held_out: Chips, names: Sequence[str], keep_if: str, replicates: int) -> list[str]:
    """Lines of a report: what was learnt from, chips, accuracy, interval; then what the filter makes of it."""
    fulfil = set(made.kept(parse(keep_if)))
    by_class = made.chips.by_class()
    lacking = [name for name, mine in zip(names, by_class, strict=True) if not fulfil & set(mine.tolist())]
    kept = [
        int(one)
        for name, mine in zip(names, by_class, strict=True)
        for one in mine
        if name in lacking or int(one) in fulfil
    ]
    sizes = [int(np.isin(mine, kept).sum()) for mine in by_class]
    random = np.random.default_rng(0)

    def at_random() -> Chips:
        """As many pictures of each class as the filter keeps."""
        drawn = [
            int(one)
            for mine, size in zip(by_class, sizes, strict=True)
            for one in random.choice(mine, size, replace=False)
        ]
        return made.chips.of(drawn)

    some = made.chips.of(kept)
    rows: dict[str, Callable[[], Chips]] = {
        "generated": lambda: made.chips,
        f"generated, {keep_if}": lambda: some,
        "generated, as many at random": at_random,
        "real": lambda: real,
        "real and generated": lambda: real.and_(made.chips),
        f"real and generated, {keep_if}": lambda: real.and_(some),
        "real and as many generated at random": lambda: real.and_(at_random()),
    }
    found: dict[str, list[float]] = {name: [] for name in rows}
    for _ in tqdm(range(replicates), desc="bootstrap", leave=False):
        tested = redrawn(held_out, random)
        for name, chips in rows.items():
            found[name].append(accuracy(redrawn(chips(), random), tested, len(names)))
    lines = ["| learnt from | chips | mean accuracy of the classes | 95 % |", "|---|---|---|---|"]
    for name, chips in rows.items():
        once = np.mean([accuracy(chips(), held_out, len(names)) for _ in range(5 if "random" in name else 1)])
        lines.append(f"| {name} | {len(chips().classes)} | {once:.3f} | {interval(found[name])} |")
    lines.append(f"| chance | | {1 / len(names):.3f} | |")
    for one, other in ((1, 2), (5, 6), (4, 3)):
        first, second = list(rows)[one], list(rows)[other]
        apart = np.subtract(found[first], found[second])
        lines += ["", f"{first} less {second}: {apart.mean():+.3f} ({interval(apart.tolist())})"]
    kept_of = ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))
    lines += ["", f"kept of {len(made.scores) // len(names)} pictures a class: {kept_of}"]
    if lacking:
        lines.append(f"of these nothing fulfils the condition, so all are kept: {', '.join(lacking)}")
    return lines


def real_scenes(folder: Path, describe: Describe, names: Sequence[str], split: Split, count: int | None) -> Chips:
    """EuroSAT chips, the first `count` of each class, or all."""
    pack = next(pack for pack in PACKS if pack.name == EUROSAT)
    chips: dict[str, list[Pixels]] = {name: [] for name in names}
    for picture in read_pack(folder, pack, split):
        mine = chips[picture.name.split("/")[1]]
        if count is None or len(mine) < count:
            mine.append(picture.pixels)
    return _chips(list(chips.values()), describe)


def real_covers(data: Path, describe: Describe, split: Split, count: int | None) -> Chips:
    """Chips of one cover, the same from every picture in turn; `count` of each class, or at most 200."""
    bits = [sum(1 << _legend(name) for name in names) for names in _COVERS.values()]
    chips: list[list[Pixels]] = [[] for _ in bits]
    for item in read_labelled(data, "landcover", split):
        if item.gsd > 2:
            continue
        for top in range(0, item.image.shape[0] - CHIP + 1, CHIP):
            for left in range(0, item.image.shape[1] - CHIP + 1, CHIP):
                part = (slice(top, top + CHIP), slice(left, left + CHIP))
                target = item.target[part]
                for number, mine in enumerate(bits):
                    if ((target > 0) & (target & ~np.uint8(mine) == 0)).mean() >= _COVERED:
                        chips[number].append(item.image[part])
    most = 200 if count is None else count
    spread = [[mine[at] for at in np.unique(np.linspace(0, len(mine) - 1, most).astype(int))] for mine in chips if mine]
    if len(spread) < len(chips):
        raise typer.BadParameter(f"split {split} has no chips of some cover")
    return _chips(spread, describe)


def _chips(by_class: Sequence[Sequence[Pixels]], describe: Describe) -> Chips:
    pictures = [picture for mine in by_class for picture in mine]
    classes = np.repeat(np.arange(len(by_class)), [len(mine) for mine in by_class])
    return Chips(describe(pictures), classes, np.arange(len(pictures)))


def _legend(name: str) -> int:
    return [item.name for item in LAND_COVER].index(name)


def main(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/ and labels/; default $EARTHGEN_DATA")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="cascade weights; default: the shipped ones")] = None,
    prompt_weights: Annotated[str | None, typer.Option(help="prompt weights; default: the shipped ones")] = None,
    keep_if: Annotated[str, typer.Option(help="conditions on scores of pictures")] = "class_p<=0.1 and anomaly<1",
    count: Annotated[int, typer.Option(min=4, help="generated pictures a class")] = 30,
    real: Annotated[int, typer.Option(min=2, help="real chips a class to learn from")] = 10,
    replicates: Annotated[int, typer.Option(min=20, help="of the bootstrap")] = 100,
) -> None:
    """Print two tables."""
    folder = imagery_folder(data)
    tower, scorer = image_tower(), shipped_scorer()
    if not isinstance(tower, LiteTower):
        raise typer.BadParameter("the shipped tower is needed")
    pack = next(pack for pack in PACKS if pack.name == EUROSAT)
    names = sorted({picture.name.split("/")[1] for picture in read_pack(folder, pack, "val")})
    nouns = [scene_of(EUROSAT, f"{name}/", 10.0).nouns["any"] for name in names]
    with Engine.open(weights, prompt_weights=prompt_weights) as engine:
        generate = engine_generator(engine, PICTURE)
        scenes = make(generate, tower.features, scorer, tower, nouns, 10.0, count)
        prompts = [COVER[name].close for name in _COVERS]
        covers = make(generate, tower.features, scorer, tower, prompts, 1.2, count)
    seen = real_scenes(folder, tower.features, names, "train", real)
    held_out = real_scenes(folder, tower.features, names, "val", None)
    typer.echo(f"Scenes of EuroSAT at 10 m, tested on {len(held_out.classes)} real chips\n")
    typer.echo("\n".join(table(scenes, seen, held_out, names, keep_if, replicates)))
    seen = real_covers(folder.parent, tower.features, "train", real)
    held_out = real_covers(folder.parent, tower.features, "val", None)
    typer.echo(f"\nLand cover at 1 to 1.5 m, tested on {len(held_out.classes)} real chips\n")
    typer.echo("\n".join(table(covers, seen, held_out, tuple(_COVERS), keep_if, replicates)))


if __name__ == "__main__":
    typer.run(main)
