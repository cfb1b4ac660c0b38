"""Exponential moving average of weights, its memory counted in images."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, batch: int, images_seen: int, half_life: int) -> None:
    """Move `average` towards `model`.

    Args:
        average: module of the same layout.
        model: the module that is being trained.
        batch: images in this step.
        images_seen: images seen so far; early on the memory is a tenth of them (EDM2's ramp).
        half_life: images after which an old weight counts half.
    """
    beta = 0.5 ** (batch / max(1.0, min(half_life, 0.1 * images_seen)))
    for kept, current in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(current.to(kept.dtype), 1.0 - beta)
