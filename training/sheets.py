"""Sheets of samples to look at while a run goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from datasets.pyramids import CropSampler
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import join, smooth_detail, to_unit
from earthgen.sampler import dpm_solver_2m, karras_sigmas
from training.augment import stored_parent


@torch.no_grad()
def generate_children(
    net: DetailDenoiser, parent: torch.Tensor, gsd: torch.Tensor, steps: int, random: torch.Generator
) -> torch.Tensor:
    """Children (b, 3, 4h, 4w) in [-1, 1] of parents (b, 3, h, w); gsd (b,) in metres per child pixel."""
    model = Preconditioned(net)
    condition = Condition(parent, gsd.float().log2()[:, None].expand(-1, parent.shape[2]), torch.zeros(parent.shape[0]))
    noise = torch.randn(parent.shape[0], len(net.config["detail_std"]), *parent.shape[2:], generator=random)
    state = dpm_solver_2m(lambda x, sigma: model(x, sigma, condition), noise, karras_sigmas(steps))
    std = torch.tensor(net.config["detail_std"])[None, :, None, None]
    return join(parent, state * std + smooth_detail(parent)).clamp(-1, 1)


def to_bytes(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    """(b, 3, h, w) in [-1, 1] to uint8 (b, h, w, 3)."""
    return ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def draw_sheet(net: DetailDenoiser, sampler: CropSampler, path: Path, steps: int = 6) -> None:
    """One row a band: parent, bicubic, generated and real, for four held-out crops."""
    random = torch.Generator().manual_seed(0)
    rows = []
    for band in sampler.bands:
        crops = sampler.draw(1, 4, band)
        real = to_unit(crops.pixels)
        parent = stored_parent(real)
        columns = [
            F.interpolate(parent, scale_factor=4, mode="nearest"),
            F.interpolate(parent, scale_factor=4, mode="bicubic").clamp(-1, 1),
            generate_children(net, parent, torch.from_numpy(crops.gsd), steps, random),
            real,
        ]
        panels = [to_bytes(column) for column in columns]
        rows.append(
            np.concatenate([np.concatenate([panel[index] for panel in panels], axis=1) for index in range(4)], axis=1)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).resize(
        (rows[0].shape[1] * 2, len(rows) * rows[0].shape[0] * 2), Image.Resampling.NEAREST
    ).save(path, quality=90)
