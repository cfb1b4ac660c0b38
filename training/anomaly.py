"""Statistics of real imagery by ground sampling distance, from which `perception.validation.anomaly` measures.

    python -m training.anomaly --data DIR --out perception/weights/anomaly

Crops of 128 pixels of the train split give the principal components of the backbone's numbers over all bands, and in
each band the mean, the covariance (shrunk as Ledoit and Wolf 2004 do) and a few hundred crops as neighbours. Crops of
the val split, which are of other places, give the thresholds. Nothing is trained by gradient. The table that is printed
tells how well the distances tell held-out real crops from the same crops spoiled; it is kept in the card.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image, ImageFilter
from scipy.stats import rankdata
from sklearn.covariance import ledoit_wolf
from tqdm import tqdm

from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, Crops, CropSampler, read_levels
from earthgen.tower import LiteBackbone
from perception.validation.anomaly import (
    QUANTILES,
    SIDE,
    Reference,
    nearest,
    project,
    save_reference,
    spectral_slope,
    texture,
)

Pixels = npt.NDArray[np.uint8]
Spoil = Callable[[Pixels], Pixels]


def _blurred(picture: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)))


def _upscaled(picture: Pixels) -> Pixels:
    small = Image.fromarray(picture).resize((SIDE // 4, SIDE // 4), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _blocky(picture: Pixels) -> Pixels:
    return picture[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)


def _noisy(picture: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 15, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def _shuffled(picture: Pixels) -> Pixels:
    """The same colours in 8 x 8 blocks in another order: right locally, nonsense as a whole."""
    side = SIDE // 8
    blocks = picture.reshape(side, 8, side, 8, 3).swapaxes(1, 2).reshape(side * side, 8, 8, 3)
    mixed = blocks[np.random.default_rng(0).permutation(len(blocks))]
    return mixed.reshape(side, side, 8, 8, 3).swapaxes(1, 2).reshape(SIDE, SIDE, 3)


def _colours_swapped(picture: Pixels) -> Pixels:
    return picture[..., ::-1]


SPOILED: tuple[tuple[str, Spoil], ...] = (
    ("blurred, sigma 2 pixels", _blurred),
    ("up-sampled 4 times", _upscaled),
    ("blocks of 4 x 4 equal pixels", _blocky),
    ("noise of 15 grey levels", _noisy),
    ("blocks of 8 x 8 shuffled", _shuffled),
    ("red and blue swapped", _colours_swapped),
)


def auroc(real: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Chance that one of `other` lies higher than one of `real`; 0.5 tells nothing."""
    ranks = rankdata(np.concatenate([real, other]))
    return float((ranks[len(real) :].sum() - len(other) * (len(other) + 1) / 2) / (len(real) * len(other)))


def whitening(projected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) of (n, d), and the matrix (d, d) that makes the shrunk covariance the identity."""
    x = projected.double()
    covariance, _ = ledoit_wolf(x.numpy())
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    return x.mean(dim=0).float(), ((vectors / values.sqrt()) @ vectors.T).float()


def fit(
    train: list[torch.Tensor],
    held_out: list[torch.Tensor],
    slopes: list[list[float]],
    components: int,
    neighbours: int,
) -> dict[str, torch.Tensor]:
    """The tensors of a reference.

    Args:
        train: backbone's numbers (n, TEXTURE) of training crops of each band.
        held_out: the same of held-out crops.
        slopes: slopes of real crops of each band.
        components: principal components.
        neighbours: training crops of a band that are kept.
    """
    everything = torch.cat(train)
    mean, spread = everything.mean(dim=0), everything.std(dim=0).clamp(min=1e-3)
    standard = ((everything - mean) / spread).clamp(-6, 6)
    _, _, vectors = torch.linalg.svd(standard - standard.mean(dim=0), full_matrices=False)
    basis = vectors[:components].T.half().float()  # As it is stored.
    centres, whitens, kept, distances = [], [], [], []
    for features, other in zip(train, held_out, strict=True):
        centre, whiten = whitening(project(features, mean, spread, basis))
        white, white_other = ((project(each, mean, spread, basis) - centre) @ whiten.T for each in (features, other))
        some = white[torch.randperm(len(white), generator=torch.Generator().manual_seed(0))[:neighbours]].half().float()
        found = torch.stack([nearest(white_other, some), white_other.norm(dim=1)])
        centres.append(centre)
        whitens.append(whiten)
        kept.append(some)
        distances.append(torch.quantile(found, torch.tensor(QUANTILES), dim=1).T)
    return {
        "band_gsds": torch.tensor(BAND_GSDS),
        "mean": mean,
        "spread": spread,
        "basis": basis,
        "centre": torch.stack(centres),
        "whiten": torch.stack(whitens),
        "neighbours": torch.stack(kept),
        "distances": torch.stack(distances),
        "slopes": torch.tensor([[np.mean(each), np.std(each)] for each in slopes]),
    }


def table(reference: Reference, backbone: LiteBackbone, crops: list[Crops], held_out: list[torch.Tensor]) -> str:
    """AUROC of both distances for each way of spoiling, over all bands: each crop is compared within its band."""
    lines = ["| held-out crops | anomaly | mahalanobis | above the threshold |", "|---|---|---|---|"]

    def shares(features: torch.Tensor, band: int) -> npt.NDArray[np.float64]:
        white = reference.white(reference.project(features), band)
        near, far = reference.threshold(band)
        return torch.stack([reference.nearest(white, band) / near, white.norm(dim=1) / far]).double().numpy()

    real = [shares(features, band) for band, features in enumerate(held_out)]

    def line(name: str, other: list[npt.NDArray[np.float64]]) -> str:
        both = [
            np.mean([auroc(mine[which], theirs[which]) for mine, theirs in zip(real, other, strict=True)])
            for which in (0, 1)
        ]
        above = np.mean(np.concatenate([each[0] for each in other]) > 1)
        return f"| {name} | {both[0]:.3f} | {both[1]:.3f} | {above:.0%} |"

    lines.append(line("as they are", real))
    for name, spoil in tqdm(SPOILED, leave=False):
        spoiled = [texture(backbone, [spoil(one) for one in each.pixels[:128]]) for each in crops]
        lines.append(line(name, [shares(features, band) for band, features in enumerate(spoiled)]))
    for step in (1, 2):
        pairs = [(band, held_out[band + step]) for band in range(len(held_out) - step)]
        found = [shares(features, band) for band, features in pairs]
        both = [
            np.mean([auroc(real[band][which], each[which]) for (band, _), each in zip(pairs, found, strict=True)])
            for which in (0, 1)
        ]
        above = np.mean(np.concatenate([each[0] for each in found]) > 1)
        lines.append(f"| of a GSD {4**step} times coarser | {both[0]:.3f} | {both[1]:.3f} | {above:.0%} |")
    return "\n".join(lines)


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder to write")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    count: Annotated[int, typer.Option(min=64, help="training crops a band")] = 1500,
    held_out: Annotated[int, typer.Option(min=32, help="held-out crops a band")] = 400,
    components: Annotated[int, typer.Option(min=2, help="principal components")] = 32,
    neighbours: Annotated[int, typer.Option(min=8, help="training crops a band that are kept")] = 512,
) -> None:
    """Write reference.safetensors and print what it tells apart."""
    from perception.validation.anomaly import read_reference

    torch.manual_seed(0)
    folder = imagery_folder(data)
    backbone = LiteBackbone()
    drawn: dict[str, list[Crops]] = {}
    described: dict[str, list[torch.Tensor]] = {}
    for split, number in (("train", count), ("val", held_out)):
        sampler = CropSampler(read_levels(folder, split), SIDE, 0)  # type: ignore[arg-type]
        if sampler.bands != tuple(range(len(BAND_GSDS))):
            raise SystemExit(f"split {split} has crops of bands {sampler.bands} only; all of them are needed")
        drawn[split] = [sampler.draw(1, number, band) for band in sampler.bands]
        described[split] = [
            texture(backbone, list(crops.pixels)) for crops in tqdm(drawn[split], desc=split, leave=False)
        ]
    # Held-out crops are of few pictures: slopes of the training crops, which nothing was fitted to, count too.
    slopes = [
        [spectral_slope(picture) for crops in pair for picture in crops.pixels[:held_out]]
        for pair in zip(drawn["train"], drawn["val"], strict=True)
    ]
    tensors = fit(described["train"], described["val"], slopes, components, neighbours)
    about = {"crops": count, "held_out": held_out, "side": SIDE, "data": "imagery packs and Blue Marble"}
    path = save_reference(out, tensors, about)
    typer.echo(f"{path}: {path.stat().st_size:,} bytes")
    reference = read_reference(out)
    for band, gsd in enumerate(BAND_GSDS):
        near = " ".join(f"{value:.2f}" for value in reference.distances[band, 0])
        places = len({level.name for level in drawn["val"][band].levels})
        mean, spread = reference.slopes[band].tolist()
        typer.echo(f"{gsd:g} m: {places} held-out pictures; distances {near}; slope {mean:.2f} +- {spread:.2f}")
    typer.echo(table(reference, backbone, drawn["val"], described["val"]))


if __name__ == "__main__":
    typer.run(main)
