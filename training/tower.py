"""Train the image tower: pictures of the packs into the space of their captions.

    python -m training.tower --data DIR --out runs/tower

The backbone is frozen, so its numbers are computed once for some thousand crops, many of them re-graded or
blurred, as generated pictures have other tones and less detail than real ones. The head learns in a few minutes.
The loss is contrastive in both directions (InfoNCE, Oord et al. 2018; CLIP, Radford et al. 2021) with two
differences: a picture has several true captions, all of which count, against the whole book of captions rather than
those of a batch; and captions that say nearly the same as a true one are left out, being neither true nor false.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from tqdm import tqdm, trange

from datasets.captions import CaptionBook, phrases
from datasets.packs import Split, imagery_folder
from datasets.pyramids import BAND_GSDS, CropSampler, Level, read_levels
from datasets.scenes import scene_of
from earthgen.conditioning import DEFAULT_ENCODER, TextEncoder, text_encoder
from earthgen.detail import to_unit
from earthgen.tower import FEATURES, LiteBackbone, TowerHead, save_tower, seen_log2_gsd
from training.augment import regrade

EUROSAT = "s2_eurosat_10m"
Array = npt.NDArray[np.float32]

_FLAT_RANGE = 24
_KIND_WEIGHTS = (0.45, 0.25, 0.0, 0.2, 0.1)
"""Weight of a picture's captions by kind, in the order of `CaptionBook.kinds`; re-grading made the tones untrue."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of a run.

    Attributes:
        crops: how many crops of each side in pixels, of each band of resolutions.
        eurosat: chips of EuroSAT, besides those among the crops.
        steps: steps of the head's training.
        batch: pictures a step.
        rate: peak learning rate.
        dropout: part of the backbone's numbers left out.
        alike: cosine of two captions from which on they say nearly the same.
        gsd_share: part of the pictures that tell their ground sampling distance.
        seed: of crops, captions and weights.
    """

    crops: dict[int, int] = field(default_factory=lambda: {64: 250, 128: 600, 256: 350})
    eurosat: int = 3000
    steps: int = 2500
    batch: int = 256
    rate: float = 1e-3
    dropout: float = 0.3
    alike: float = 0.75
    gsd_share: float = 0.8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Examples:
    """Crops as the backbone sees them.

    Attributes:
        features: float32 (n, FEATURES).
        log2_gsd: float32 (n,).
        keys: which row of `targets` is true of each, (n,).
        targets: float32 (rows, captions), weights that sum to 1.
        classes: EuroSAT class names, "" for other packs, (n,).
    """

    features: torch.Tensor
    log2_gsd: torch.Tensor
    keys: torch.Tensor
    targets: torch.Tensor
    classes: tuple[str, ...]


def gather(levels: list[Level], book: CaptionBook, settings: Settings, augmented: bool, folder: Path) -> Examples:
    """Draw crops and describe them with the backbone, whose numbers are kept in a file of `folder`."""
    drawn: list[tuple[Level, npt.NDArray[np.uint8]]] = []
    for side, count in settings.crops.items():
        sampler = CropSampler(levels, side, settings.seed)
        for band in sampler.bands:
            crops = sampler.draw(side * len(BAND_GSDS) + band, count, band)
            drawn += _few_flat(list(zip(crops.levels, crops.pixels, strict=True)))
    chips = [level for level in levels if level.pack == EUROSAT]
    order = np.random.default_rng(settings.seed).permutation(len(chips))[: settings.eurosat]
    drawn += [(chips[index], chips[index].pixels) for index in order]

    digest = hashlib.sha256(repr([augmented, settings.seed, len(levels)]).encode())
    for _, pixels in drawn:
        digest.update(pixels.tobytes())
    kept = folder / f"features-{digest.hexdigest()[:12]}.pt"
    if kept.is_file():
        features = torch.load(kept, weights_only=True)
    else:
        features = describe([pixels for _, pixels in drawn], settings.seed if augmented else None)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(features, kept)

    rows: dict[tuple[tuple[int, ...], ...], int] = {}
    seen, keys, classes = [], [], []
    for level, pixels in drawn:
        seen.append(seen_log2_gsd(level.gsd, *pixels.shape[:2]))
        keys.append(rows.setdefault(book.kinds(level, pixels), len(rows)))
        classes.append(level.name.split("/")[1] if level.pack == EUROSAT else "")
    targets = torch.zeros(len(rows), len(book.texts))
    for kinds, row in rows.items():
        for kind, weight in zip(kinds, _KIND_WEIGHTS, strict=True):
            for text in kind:
                targets[row, text] += weight / len(kind)
    targets /= targets.sum(dim=1, keepdim=True)
    return Examples(features, torch.tensor(seen), torch.tensor(keys), targets, tuple(classes))


def _few_flat(drawn: list[tuple[Level, npt.NDArray[np.uint8]]]) -> list[tuple[Level, npt.NDArray[np.uint8]]]:
    """Half of the coarsest crops are nothing but sea: of flat ones as many stay as make a tenth of the others."""
    flat = [int(np.ptp(pixels)) < _FLAT_RANGE for _, pixels in drawn]
    left = (len(drawn) - sum(flat)) // 10
    kept = []
    for crop, is_flat in zip(drawn, flat, strict=True):
        left -= is_flat
        if not is_flat or left >= 0:
            kept.append(crop)
    return kept


def describe(crops: list[npt.NDArray[np.uint8]], seed: int | None) -> torch.Tensor:
    """The backbone's numbers (n, FEATURES) of crops, re-graded and blurred at random if there is a seed."""
    backbone = LiteBackbone()
    random = torch.Generator().manual_seed(seed or 0)
    features = torch.empty(len(crops), FEATURES)
    for index, pixels in enumerate(tqdm(crops, unit="crop", smoothing=0.05)):
        image = to_unit(pixels[None])
        if seed is not None:
            # Half of them keep their tones: that snow is white and sand is not must be learnt too.
            if float(torch.rand((), generator=random)) < 0.5:
                image = regrade(image, random)
            image = blurred(image, random)
        with torch.inference_mode():
            features[index] = backbone((image + 1) * 127.5)[0]
    return features


def blurred(image: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """A third of the images (1, 3, h, w) lose detail: halved up to twice and interpolated back."""
    chance = float(torch.rand((), generator=random))
    if chance > 1 / 3 or min(image.shape[2:]) < 64:
        return image
    small = F.avg_pool2d(image, 2 if chance < 1 / 4 else 4)
    return F.interpolate(small, size=image.shape[2:], mode="bicubic", align_corners=False).clamp(-1, 1)


def train_head(examples: Examples, book: CaptionBook, settings: Settings) -> TowerHead:
    """Fit a head to examples."""
    torch.manual_seed(settings.seed)
    vectors = torch.from_numpy(book.vectors)
    head = TowerHead(vectors.shape[1], dropout=settings.dropout)
    head.mean.copy_(examples.features.mean(dim=0))
    head.spread.copy_(examples.features.std(dim=0).clamp(min=1e-3))
    temperature = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    is_true = examples.targets > 0
    # Neither true nor false: alike to one of a row's true captions.
    spared = torch.stack([(vectors @ vectors[row].T).amax(dim=1) > settings.alike for row in is_true]) & ~is_true
    optimiser = torch.optim.AdamW([*head.parameters(), temperature], lr=settings.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, settings.steps)
    progress = trange(settings.steps, unit="step", smoothing=0.05)
    for _ in progress:
        chosen = torch.randint(len(examples.keys), (settings.batch,))
        keys, log2_gsd = examples.keys[chosen], examples.log2_gsd[chosen]
        told = torch.rand(settings.batch) < settings.gsd_share
        image = head(examples.features[chosen], torch.where(told, log2_gsd, torch.full_like(log2_gsd, math.nan)))
        scale = temperature.exp().clamp(max=100)

        # Each picture among all captions.
        scores = (scale * image @ vectors.T).masked_fill(spared[keys], -math.inf).log_softmax(dim=1)
        to_text = -(examples.targets[keys] * scores.masked_fill(~is_true[keys], 0.0)).sum(dim=1).mean()

        # One caption of each picture among all pictures of the batch.
        drawn = torch.multinomial(examples.targets[keys], 1)[:, 0]
        fits, may_fit = is_true[keys][:, drawn].T, spared[keys][:, drawn].T
        scores = (scale * vectors[drawn] @ image.T).masked_fill(may_fit, -math.inf).log_softmax(dim=1)
        to_image = -(scores.masked_fill(~fits, 0.0).sum(dim=1) / fits.sum(dim=1)).mean()

        loss = (to_text + to_image) / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress.set_postfix(text=f"{float(to_text.detach()):.3f}", image=f"{float(to_image.detach()):.3f}")
    return head.eval()


@torch.inference_mode()
def report(head: TowerHead, examples: Examples, book: CaptionBook, encoder: TextEncoder) -> dict[str, float]:
    """Held-out retrieval, beside the same with the pictures shuffled, and EuroSAT by the names of its classes.

    Recall@k to text: some true noun is among the k nouns nearest to a picture, of all nouns that are true of any
    held-out picture. To pictures: for each such noun, one of the k nearest of 512 pictures is one that it is true of.
    """
    vectors = head(examples.features, examples.log2_gsd)
    is_true = examples.targets > 0
    all_nouns = {noun for group in phrases().values() for noun in group}
    nouns = [index for index, text in enumerate(book.texts) if text in all_nouns and bool(is_true[:, index].any())]
    text = torch.from_numpy(book.vectors[nouns])
    fits = is_true[:, nouns][examples.keys]
    random = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(fits), generator=random)
    sample = torch.randperm(len(fits), generator=random)[:512]
    found: dict[str, float] = {"pictures": len(fits), "nouns": len(nouns)}
    to_text = vectors @ text.T
    to_image, asked = (text @ vectors[sample].T), fits[sample].any(dim=0)
    for k in (1, 5):
        nearest = to_text.topk(k, dim=1).indices
        found[f"text_recall@{k}"] = float(fits.gather(1, nearest).any(dim=1).float().mean())
        found[f"text_recall@{k}_shuffled"] = float(fits[shuffled].gather(1, nearest).any(dim=1).float().mean())
        pictures = to_image.topk(k, dim=1).indices
        for name, truth in (("", fits[sample].T), ("_shuffled", fits[shuffled[sample]].T)):
            found[f"picture_recall@{k}{name}"] = float(truth.gather(1, pictures).any(dim=1)[asked].float().mean())
    other = torch.tensor([not name for name in examples.classes])
    found["text_recall@1_without_eurosat"] = float(
        fits[other].gather(1, to_text[other].topk(1, dim=1).indices).any(dim=1).float().mean()
    )
    found |= eurosat_accuracy(lambda chosen: vectors[chosen], examples.classes, encoder)
    return {name: round(value, 4) for name, value in found.items()}


def eurosat_accuracy(
    vectors_of: Callable[[torch.Tensor], torch.Tensor], classes: tuple[str, ...], encoder: TextEncoder
) -> dict[str, float]:
    """Accuracy and mean accuracy of a class when each chip takes the class whose nouns are nearest on average."""
    names = sorted(set(classes) - {""})
    nouns = [scene_of(EUROSAT, f"{name}/", 10.0).nouns["any"] for name in names]
    prompts = torch.stack([torch.from_numpy(encoder.encode_batch(group)).mean(dim=0) for group in nouns])
    chosen = torch.tensor([index for index, name in enumerate(classes) if name])
    truth = torch.tensor([names.index(name) for name in classes if name])
    right = ((vectors_of(chosen) @ F.normalize(prompts, dim=1).T).argmax(dim=1) == truth).float()
    by_class = [float(right[truth == index].mean()) for index in range(len(names))]
    return {"eurosat_zero_shot": float(right.mean()), "eurosat_by_class": float(np.mean(by_class))}


def val_settings(seed: int) -> Settings:
    """The held-out crops: fewer, as they are, with all held-out chips of EuroSAT."""
    return Settings(crops={64: 30, 128: 80, 256: 40}, eurosat=10_000, seed=seed)


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="steps of the head's training")] = 2_500,
) -> None:
    """Train the tower's head. Example: python -m training.tower --out runs/tower."""
    settings = Settings(steps=steps)
    folder, encoder = imagery_folder(data), text_encoder()
    levels: dict[Split, list[Level]] = {split: read_levels(folder, split) for split in ("train", "val")}
    book = CaptionBook.build(levels["train"] + levels["val"], encoder, out / "captions")
    seen = gather(levels["train"], book, settings, True, out)
    held_out = gather(levels["val"], book, val_settings(1), False, out)
    head = train_head(seen, book, settings)
    found = report(head, held_out, book, encoder)
    typer.echo(json.dumps(found, indent=1))
    save_tower(
        head,
        out / "weights",
        {
            "text_encoder": DEFAULT_ENCODER,
            "text_encoder_id": encoder.id,
            "settings": asdict(settings),
            "held_out": found,
        },
    )


if __name__ == "__main__":
    typer.run(main)
