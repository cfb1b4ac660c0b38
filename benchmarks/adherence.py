"""Whether generated pictures are what was asked for: content by a classifier, text by a tower, resolution by a ruler.

    python -m benchmarks.adherence --data DIR

Three tables. Cls-OA by the field's protocol (Xu et al. 2023, Txt2Img-MHN): a classifier that has seen generated
pictures of each class only is tested on real held-out ones, beside the same classifier trained on as many real ones,
and chance. Similarity: cosine of prompt and picture in the shipped tower's space, beside the same pictures with the
prompts shuffled. Resolution: a regressor that learnt on real crops to tell log2 GSD from the picture alone, and
what it says of pictures that were asked for at known resolutions. Classifier and regressor are linear, on the
frozen features of the tower's backbone; the tower itself learnt from the packs' captions, so its similarity is
kinder to the packs' own words than to others.
"""

from __future__ import annotations

import math
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

from datasets.packs import imagery_folder
from datasets.pyramids import CropSampler, Level, read_levels
from datasets.scenes import scene_of
from earthgen.engine import Engine
from earthgen.picture import frame_of, make_picture
from earthgen.tower import ImageTower, LiteTower, image_tower
from earthgen.world import World

Pixels = npt.NDArray[np.uint8]
Generate = Callable[[str, float, int], Pixels]
"""From a prompt, metres per pixel and a seed to uint8 (h, w, 3)."""
Describe = Callable[[Sequence[Pixels]], torch.Tensor]
"""From pictures to float32 features (n, d)."""

EUROSAT = "s2_eurosat_10m"
_EUROSAT_GSD, _EUROSAT_SIDE = 10.0, 64
PROMPTS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("dense forest", (0.6, 2.4, 10.0)),
    ("suburb with streets and houses", (0.6, 2.4)),
    ("city", (2.4, 10.0, 40.0)),
    ("industrial area", (0.6, 2.4, 10.0)),
    ("farmland with fields", (2.4, 10.0, 40.0)),
    ("desert", (2.4, 10.0, 40.0, 300.0)),
    ("river", (2.4, 10.0, 40.0)),
    ("harbour", (2.4, 10.0)),
    ("open sea", (2.4, 10.0, 300.0)),
    ("mountains", (10.0, 40.0, 300.0)),
    ("alpine meadow", (0.6, 2.4)),
    ("snow", (0.6, 40.0, 300.0)),
    ("airport runway", (2.4, 10.0)),
    ("car park", (0.6,)),
    ("coast", (10.0, 40.0, 300.0)),
    ("rain forest", (40.0, 300.0)),
)
"""What is asked for, and at which metres per pixel."""


def engine_generator(engine: Engine, side: int, guidance: float = 1.0) -> Generate:
    """Pictures of worlds by prompt, `side` pixels square."""

    def generate(prompt: str, gsd: float, seed: int) -> Pixels:
        world = World(root="prompt", prompt=prompt, gsd=gsd, seed=seed, guidance=guidance)
        return make_picture(engine, world, frame_of(world, side))

    return generate


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A linear map of standardised features, fitted by least squares with a ridge.

    Attributes:
        mean: of the features, (d,).
        spread: of the features, (d,).
        weights: (d + 1, outputs); the last row is the offset.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def fit(cls, features: torch.Tensor, targets: torch.Tensor, ridge: float = 0.001) -> LinearProbe:
        """Fit targets (n, outputs) to features (n, d); `ridge` is a share of n."""
        mean, spread = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-3)
        x = _standard(features, mean, spread).double()
        # With fewer pictures than features the n x n system is the small one; both give the same answer.
        offset = targets.double().mean(dim=0)
        gram = x @ x.T + ridge * len(x) * torch.eye(len(x), dtype=torch.float64)
        weights = x.T @ torch.linalg.solve(gram, targets.double() - offset)
        return cls(mean, spread, torch.cat([weights, offset[None]]).float())

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs (n, outputs) of features (n, d)."""
        return _standard(features, self.mean, self.spread) @ self.weights[:-1] + self.weights[-1]


def _standard(features: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    # Divided by the root of d, so that the ridge means the same for any number of features.
    return ((features - mean) / spread).clamp(-6, 6) / math.sqrt(features.shape[1])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Features (n, d) and class numbers (n,)."""

    features: torch.Tensor
    classes: torch.Tensor


def overall_accuracy(seen: Labelled, held_out: Labelled, classes: int) -> tuple[float, tuple[float, ...]]:
    """Accuracy on the held-out pictures, 0..1, and of each class."""
    targets = F.one_hot(seen.classes, classes).float()
    answers = LinearProbe.fit(seen.features, targets)(held_out.features).argmax(dim=1)
    right = (answers == held_out.classes).float()
    return float(right.mean()), tuple(float(right[held_out.classes == index].mean()) for index in range(classes))


def generated_classes(
    generate: Generate, describe: Describe, prompts: Sequence[Sequence[str]], gsd: float, count: int
) -> Labelled:
    """`count` generated pictures of each class, the prompts of a class taken in turn."""
    pictures, classes = [], []
    for index, nouns in enumerate(tqdm(prompts, desc="classes", leave=False)):
        for seed in range(count):
            pictures.append(generate(nouns[seed % len(nouns)], gsd, seed))
            classes.append(index)
    return Labelled(describe(pictures), torch.tensor(classes))


def real_classes(levels: Sequence[Level], describe: Describe, names: Sequence[str], count: int | None) -> Labelled:
    """EuroSAT chips, the first `count` of each class, or all."""
    pictures, classes = [], []
    for index, name in enumerate(names):
        chips = [level.pixels for level in levels if level.name.startswith(f"{EUROSAT}/{name}/")][:count]
        pictures += chips
        classes += [index] * len(chips)
    return Labelled(describe(pictures), torch.tensor(classes))


@dataclass(frozen=True, slots=True)
class Similarity:
    """Cosines of prompts and pictures.

    Attributes:
        matched: mean of each picture with its own prompt.
        shuffled: mean over the same pictures with all other prompts.
        recall: part of the pictures whose own prompt is the nearest of all.
        chance: what that part would be by chance.
    """

    matched: float
    shuffled: float
    recall: float
    chance: float


def similarity(
    tower: ImageTower, prompts: Sequence[str], pictures: Sequence[Pixels], gsds: Sequence[float]
) -> Similarity:
    """Compare pictures with the prompts that they were made from, and with all others."""
    names = sorted(set(prompts))
    own = np.array([names.index(prompt) for prompt in prompts])
    cosines = tower.embed(pictures, list(gsds)) @ tower.text.encode_batch(names).T
    matched = cosines[np.arange(len(own)), own]
    others = (cosines.sum(axis=1) - matched) / max(1, len(names) - 1)
    recall = (cosines.argmax(axis=1) == own).mean()
    return Similarity(float(matched.mean()), float(others.mean()), float(recall), 1 / len(names))


def octave_errors(ruler: LinearProbe, features: torch.Tensor, gsds: Sequence[float]) -> torch.Tensor:
    """Octaves (n,) by which the ruler's reading is above the GSD that was asked for."""
    return ruler(features)[:, 0] - torch.tensor(gsds).log2()


def fit_ruler(levels: Sequence[Level], describe: Describe, side: int, count: int) -> tuple[LinearProbe, torch.Tensor]:
    """A regressor of log2 GSD from crops of real pictures, and the crops' features."""
    crops = CropSampler(levels, side, 0).draw(0, count)
    features = describe(list(crops.pixels))
    return LinearProbe.fit(features, torch.from_numpy(crops.gsd).float().log2()[:, None]), features


def report(
    generate: Generate,
    small: Generate,
    tower: LiteTower,
    levels: dict[str, list[Level]],
    per_class: int,
    seeds: int,
    side: int,
    crops: int,
) -> str:
    """The three tables.

    Args:
        generate: makes pictures of `side` pixels.
        small: makes pictures of 64 pixels, as EuroSAT's are.
        tower: compares, and lends its backbone.
        levels: real pictures, "train" and "val".
        per_class: generated pictures of each class of EuroSAT.
        seeds: pictures of each prompt at each resolution.
        side: of the pictures that similarity and resolution are measured on.
        crops: real crops that the ruler learns from; a quarter as many measure it.
    """
    names = sorted({level.name.split("/")[1] for level in levels["val"] if level.pack == EUROSAT})
    nouns = [scene_of(EUROSAT, f"{name}/", _EUROSAT_GSD).nouns["any"] for name in names]
    held_out = real_classes(levels["val"], tower.features, names, None)
    made = generated_classes(small, tower.features, nouns, _EUROSAT_GSD, per_class)
    real = real_classes(levels["train"], tower.features, names, per_class)
    lines = [
        f"EuroSAT, 10 m: {per_class} pictures a class seen, tested on {len(held_out.classes)} real ones",
        "",
        f"| learnt from | overall accuracy | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for what, seen in (("generated", made), ("real", real)):
        accuracy, by_class = overall_accuracy(seen, held_out, len(names))
        lines.append(f"| {what} | {accuracy:.3f} | {' | '.join(f'{value:.2f}' for value in by_class)} |")
    lines.append(f"| chance | {1 / len(names):.3f} |{' |' * len(names)}")

    asked = [(prompt, gsd, seed) for prompt, gsds in PROMPTS for gsd in gsds for seed in range(seeds)]
    pictures = [generate(*what) for what in tqdm(asked, desc="prompts", leave=False)]
    prompts, gsds = [what[0] for what in asked], [what[1] for what in asked]
    found = similarity(tower, prompts, pictures, gsds)
    lines += [
        "",
        f"{len(asked)} pictures of {side} pixels: {len(PROMPTS)} prompts at 1 to 4 resolutions, {seeds} seeds each",
        "",
        "| cosine to the prompt | to the other prompts | own prompt is nearest | by chance |",
        "|---|---|---|---|",
        f"| {found.matched:.3f} | {found.shuffled:.3f} | {found.recall:.3f} | {found.chance:.3f} |",
    ]

    ruler, _ = fit_ruler(levels["train"], tower.features, side, crops)
    check = CropSampler(levels["val"], side, 1).draw(0, max(16, crops // 4))
    real_errors = octave_errors(ruler, tower.features(list(check.pixels)), check.gsd.tolist())
    made_errors = octave_errors(ruler, tower.features(pictures), gsds)
    lines += ["", "| pictures | GSD | mean error, octaves | mean absolute error, octaves |", "|---|---|---|---|"]
    lines.append(f"| real, held out | all | {real_errors.mean():+.2f} | {real_errors.abs().mean():.2f} |")
    lines.append(f"| generated | all | {made_errors.mean():+.2f} | {made_errors.abs().mean():.2f} |")
    for gsd in sorted(set(gsds)):
        errors = made_errors[torch.tensor(gsds) == torch.tensor(gsd)]
        lines.append(f"| generated | {gsd:g} m | {errors.mean():+.2f} | {errors.abs().mean():.2f} |")
    return "\n".join(lines)


def main(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="cascade weights; default: the shipped ones")] = None,
    prompt_weights: Annotated[str | None, typer.Option(help="prompt weights; default: the shipped ones")] = None,
    guidance: Annotated[float, typer.Option(min=1.0, max=20.0, help="guidance scale")] = 1.0,
    per_class: Annotated[int, typer.Option(min=2, help="generated pictures a class of EuroSAT")] = 50,
    seeds: Annotated[int, typer.Option(min=1, help="pictures of a prompt at a resolution")] = 8,
    side: Annotated[int, typer.Option(min=64, max=512, help="pixels along a side of the other pictures")] = 128,
    crops: Annotated[int, typer.Option(min=64, help="real crops that the ruler learns from")] = 2_000,
) -> None:
    """Print three tables."""
    folder = imagery_folder(data)
    tower = image_tower()
    if not isinstance(tower, LiteTower):
        raise typer.BadParameter("the shipped tower is needed")
    with Engine.open(weights, prompt_weights=prompt_weights) as engine:
        typer.echo(
            report(
                engine_generator(engine, side, guidance),
                engine_generator(engine, _EUROSAT_SIDE, guidance),
                tower,
                {"train": read_levels(folder, "train"), "val": read_levels(folder, "val")},
                per_class,
                seeds,
                side,
                crops,
            )
        )


if __name__ == "__main__":
    typer.run(main)
