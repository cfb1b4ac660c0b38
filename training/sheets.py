"""Sheets of samples to look at while a run goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from datasets.pyramids import BAND_GSDS, CropSampler
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import DETAIL_CHANNELS, join, smooth_detail, to_unit
from earthgen.pyramid import SCALE
from earthgen.sampler import dpm_solver_2m
from earthgen.unet import ALIGNMENT
from training.augment import stored_parent
from training.busyness import busyness
from training.pool import RootCrops

_DESCENTS = ((-121.85, 36.25), (-93.65, 42.02), (7.98, 46.51), (6.53, 27.15), (-60.0, -5.0), (2.35, 48.86))
"""Longitude and latitude: a coast, farmland, mountains, a desert, a rain forest, a city."""
_DESCENT_SIDE = 32


@torch.no_grad()
def generate_children(
    net: DetailDenoiser, parent: torch.Tensor, gsd: torch.Tensor, random: torch.Generator
) -> torch.Tensor:
    """Children of parents, sampled at the noise levels of the network's configuration.

    Args:
        net: the network.
        parent: (b, 3, h, w) in [-1, 1].
        gsd: (b,), metres per child pixel.
        random: source of the noise.

    Returns:
        (b, 3, 4h, 4w) in [-1, 1], rounded to bytes.
    """
    model = Preconditioned(net)
    count, _, height, width = parent.shape
    condition = Condition(parent, gsd.float().log2()[:, None].expand(-1, height), torch.zeros(count))
    noise = torch.randn(count, DETAIL_CHANNELS, height, width, generator=random)
    state = dpm_solver_2m(lambda x, sigma: model(x, sigma, condition), noise, net.config["sigmas"])
    children = join(parent, state * net.detail_scale(parent, condition.log2_gsd) + smooth_detail(parent)).clamp(-1, 1)
    return ((children + 1) * 127.5).round() / 127.5 - 1


def to_bytes(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    """(b, 3, h, w) in [-1, 1] to uint8 (b, h, w, 3)."""
    return np.asarray(((image + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1))


def draw_sheet(net: DetailDenoiser, sampler: CropSampler, path: Path) -> None:
    """One row a band: parent, bicubic, generated and real, for four held-out crops."""
    random = torch.Generator().manual_seed(0)
    rows = []
    for band in sampler.bands:
        crops = sampler.draw(1, 4, band)
        real = to_unit(crops.pixels)
        parent = stored_parent(real)
        panels = [
            F.interpolate(parent, scale_factor=4, mode="nearest"),
            F.interpolate(parent, scale_factor=4, mode="bicubic").clamp(-1, 1),
            generate_children(net, parent, torch.from_numpy(crops.gsd), random),
            real,
        ]
        rows.append(_row([to_bytes(panel) for panel in panels]))
    save_rows(rows, path, enlargement=2)


def draw_descent(net: DetailDenoiser, root: RootCrops, path: Path) -> dict[str, float]:
    """Chains from the root to the finest level, a row a place, a column a level: what the product's users see.

    Each level's parents are the middle of the children above it.

    Args:
        net: the network.
        root: where the chains begin.
        path: of the sheet.

    Returns:
        For each band from the coarsest on, the mean over the places of the logarithm of local lightness detail.
    """
    random = torch.Generator().manual_seed(0)
    places = [root.around(longitude, latitude, _DESCENT_SIDE) for longitude, latitude in _DESCENTS]
    parent = torch.cat([place.pixels for place in places])
    gsd = torch.cat([place.log2_gsd for place in places]).exp2()
    columns, strength = [], {}
    for band_gsd in reversed(BAND_GSDS):
        child = generate_children(net, parent, gsd, random)
        columns.append(to_bytes(child))
        strength[f"{band_gsd:g}m"] = round(float(busyness(child)[:, 0].mean()), 3)
        start = (child.shape[-1] - _DESCENT_SIDE) // 2 // ALIGNMENT * ALIGNMENT
        inside = slice(start, start + _DESCENT_SIDE)
        parent, gsd = child[:, :, inside, inside], gsd / SCALE
    rows = [np.concatenate([column[index] for column in columns], axis=1) for index in range(len(places))]
    save_rows(rows, path, enlargement=2)
    return strength


def _row(panels: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Panels (b, h, w, 3) side by side, example after example."""
    return np.concatenate([panel[index] for index in range(len(panels[0])) for panel in panels], axis=1)


def save_rows(rows: list[npt.NDArray[np.uint8]], path: Path, enlargement: int) -> None:
    """Stack rows (h, w, 3) of the same width into a JPEG, each pixel `enlargement` wide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = Image.fromarray(np.concatenate(rows, axis=0))
    size = (sheet.width * enlargement, sheet.height * enlargement)
    sheet.resize(size, Image.Resampling.NEAREST).save(path, quality=90)
