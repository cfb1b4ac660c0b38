"""The whole chain as users see it: tiles of each zoom, every level above them invented, beside real pictures.

    python -m benchmarks.chain --data DIR [--weights DIR ...]

Places are drawn at random on the land of the real Earth; real pictures are held-out crops of the same band of
ground sampling distance. They are not the same places, and the packs hold more towns than the Earth does, so
look at differences between weights rather than at 0. KID is taken in the features of two networks: an anti-aliased
VGG16 (of ST-LPIPS), which no weights here were trained against, and EfficientNet-Lite0, whose features the
adversarial tail uses. Beside it: how strong local detail is (natural logarithm), the slope of the power spectrum,
and how coherent edges are (1 where all of a neighbourhood's gradients lie along one line: roads, fields and roofs
raise it, scrub does not; Weickert 1998, section 1.3.3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import stlpips_pytorch.stlpips as stlpips
import torch
import torch.nn.functional as F
import typer
from tqdm import tqdm

from benchmarks.quality import Images, LiteFeatures, kid, spectral_slope
from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, CropSampler, read_levels
from earthgen import Engine, World
from earthgen.detail import to_unit
from earthgen.pyramid import ROOT_ZOOM, SCALE, Box, world_size
from earthgen.roots import open_root
from training.busyness import busyness
from training.pool import water_share

_SIDE = 128
_FARTHEST = 60.0
"""Degrees of latitude; further out the ground sampling distance leaves its band."""


class VggFeatures(torch.nn.Module):
    """Features of the anti-aliased VGG16 of ST-LPIPS: means and deviations of its last three stages, (b, 2560)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stlpips.LPIPS(net="vgg", variant="shift_tolerant", verbose=False).eval()

    @torch.inference_mode()
    def forward(self, images: Images) -> torch.Tensor:
        """Images (b, 3, h, w), uint8."""
        stages = self.net.net(self.net.scaling_layer(images.float() / 127.5 - 1))[-3:]
        pooled = torch.cat([F.normalize(torch.cat(torch.std_mean(x, dim=(2, 3)), dim=1), dim=1) for x in stages], dim=1)
        # KID's cubic kernel divides by the number of features: it wants numbers of about 1.
        scaled: torch.Tensor = pooled * (pooled.shape[1] / len(stages)) ** 0.5
        return scaled


def coherence(images: Images) -> float:
    """Mean coherence of the structure tensor of the luma, weighted by gradient energy; 0..1."""
    luma = images.mean(dim=1, keepdim=True)
    horizontal, vertical = luma[:, :, 1:-1, 2:] - luma[:, :, 1:-1, :-2], luma[:, :, 2:, 1:-1] - luma[:, :, :-2, 1:-1]
    xx, yy, xy = (F.avg_pool2d(a, 9, stride=3) for a in (horizontal**2, vertical**2, horizontal * vertical))
    energy = xx + yy
    return float((((xx - yy) ** 2 + 4 * xy**2).sqrt()).sum() / energy.sum().clamp(min=1e-9))


def land_boxes(count: int) -> list[tuple[int, int]]:
    """Rows and columns at the root's zoom of places on land, always the same ones."""
    root = open_root(World())
    random = np.random.default_rng(11)
    limit = world_size(ROOT_ZOOM)
    boxes: list[tuple[int, int]] = []
    while len(boxes) < count:
        fraction = (1 - np.arcsinh(np.tan(np.radians(random.uniform(-_FARTHEST, _FARTHEST)))) / np.pi) / 2
        row, column = int(fraction * limit), int(random.integers(limit))
        if water_share(root.pixels(Box(ROOT_ZOOM, row - 8, column - 8, 16, 16))) < 0.1:
            boxes.append((row, column))
    return boxes


def chain_images(engine: Engine, places: list[tuple[int, int]], zoom: int) -> Images:
    """(n, 3, 128, 128) in [-1, 1] around the places."""
    factor = SCALE ** ((zoom - ROOT_ZOOM) // 2)
    pictures: list[npt.NDArray[np.uint8]] = []
    for row, column in tqdm(places, desc=f"z{zoom}", leave=False):
        box = Box(zoom, row * factor - _SIDE // 2, column * factor - _SIDE // 2, _SIDE, _SIDE)
        pictures.append(engine.pixels(World(root="earth", seed=7), box))
    return to_unit(np.stack(pictures))


def row(name: str, images: Images, real: Images, nets: tuple[torch.nn.Module, ...]) -> str:
    """Cells of the table."""
    distances = " | ".join(f"{kid(net, real, images)[0]:.2f}" for net in nets)
    strength = float(busyness(images)[:, 0].mean())
    return f"{name} | {distances} | {strength:.2f} | {spectral_slope(images):.2f} | {coherence(images):.3f} |"


@torch.inference_mode()
def main(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="weights folder, may be given several times; default: the shipped ones")
    ] = None,
    count: Annotated[int, typer.Option(min=16, help="places, and real crops a band")] = 48,
) -> None:
    """Print a table: for each zoom, each weights folder and other real crops."""
    levels = CropSampler(read_levels(imagery_folder(data), "val"), _SIDE, 0)
    nets = (VggFeatures(), LiteFeatures())
    places = land_boxes(count)
    typer.echo("| zoom | what | KID x 1000, VGG16 | KID x 1000, Lite0 | detail | spectral slope | coherence |")
    typer.echo("|---|---|---|---|---|---|---|")
    for band in sorted(levels.bands, reverse=True):
        zoom = ROOT_ZOOM + 2 * (len(BAND_GSDS) - band)
        real, other = (to_unit(levels.draw(number, count, band).pixels) for number in (1, 2))
        folders: list[str | None] = [*weights] if weights else [None]
        for folder in folders:
            with Engine.open(folder) as engine:
                name = "shipped" if folder is None else Path(folder).name
                typer.echo(f"| {zoom} | {row(name, chain_images(engine, places, zoom), real, nets)}")
        typer.echo(f"| {zoom} | {row('real', other, real, nets)}")


if __name__ == "__main__":
    typer.run(main)
