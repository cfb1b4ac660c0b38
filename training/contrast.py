"""Measure how strong detail is: the numbers behind `DetailDenoiser.detail_scale`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from datasets.pyramids import BAND_GSDS, CropSampler
from earthgen.detail import DETAIL_CHANNELS, local_contrast, smooth_detail, split, to_unit
from training.augment import regrade, stored_parent

Contrast = tuple[tuple[float, float, float], ...]


def measure_detail(sampler: CropSampler, crops: int = 256) -> tuple[tuple[float, ...], Contrast]:
    """Fit, band by band, log detail strength as a line over local contrast; then the channels' spread.

    Args:
        sampler: of training crops of 128 pixels.
        crops: how many to look at in each band.

    Returns:
        `detail_std` (45 numbers) and `contrast` (a row a band) of the network's configuration.
    """
    bands = []
    for band in sampler.bands:
        random = torch.Generator().manual_seed(band)
        image = regrade(to_unit(sampler.draw(0, crops, band).pixels), random)
        parent = stored_parent(image)
        bands.append((band, split(image)[1] - smooth_detail(parent), local_contrast(parent)))

    spread = torch.stack([detail.square().mean(dim=(0, 2, 3)) for _, detail, _ in bands]).mean(dim=0).sqrt()
    rows, unit_squares = [], torch.zeros(DETAIL_CHANNELS)
    for band, detail, busy in bands:
        strength = (detail / spread[None, :, None, None]).square().mean(dim=1, keepdim=True)
        # The same 5x5 neighbourhood as the contrast's, away from the crops' edges, and with a floor.
        strength = 0.5 * (F.avg_pool2d(strength, 5, stride=1) + 1e-4).log()
        x, y = busy[:, :, 2:-2, 2:-2].flatten().double(), strength.flatten().double()
        slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0))
        offset = float(y.mean()) - slope * float(x.mean())
        rows.append((round(math.log2(BAND_GSDS[band]), 4), round(offset, 4), round(slope, 4)))
        unit = detail / (offset + slope * busy).clamp(-5.0, 1.5).exp()
        unit_squares += unit.square().clamp(max=16 * float(unit.square().mean())).mean(dim=(0, 2, 3)) / len(bands)
    return tuple(round(float(value), 5) for value in unit_squares.sqrt()), tuple(rows)
