"""What a frozen EfficientNet-Lite0 sees at four scales: a backbone for small networks that have seen few pictures.

The frozen part comes with a dependency and keeps its ImageNet weights. It is no part of a state dictionary, so weight
files stay small, and what it sees of a picture can be kept while other parts learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

WIDTHS = (24, 40, 112, 320)
"""Channels of the levels, at 1/4, 1/8, 1/16 and 1/32 of the picture."""
_TAPS = (2, 4, 10, 15)
"""Blocks whose output a level is."""


class LiteLevels:
    """The frozen part. It is no module, so that whatever holds it neither saves nor trains it."""

    def __init__(self) -> None:
        from earthgen.tower import LiteBackbone

        self._backbone = LiteBackbone()

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Pictures (b, 3, h, w) in [-1, 1] to four maps (b, c, h', w') of `WIDTHS` channels, the finest first."""
        backbone = self._backbone.to(images.device)
        x = backbone.stem((images * 127.5 + 0.5) / 128.0)
        found = []
        for index, block in enumerate(backbone.blocks):
            x = block(x)
            if index in _TAPS:
                found.append(x)
        return found


def as_tokens(levels: Sequence[torch.Tensor], grid: int) -> torch.Tensor:
    """Maps (b, c, h, w) brought to one grid and joined: (b, grid * grid, all channels)."""
    return rearrange(torch.cat([_brought(level, grid) for level in levels], dim=1), "b c h w -> b (h w) c")


def _brought(x: torch.Tensor, grid: int) -> torch.Tensor:
    if x.shape[-1] >= grid:
        return F.adaptive_avg_pool2d(x, grid)
    return F.interpolate(x, (grid, grid), mode="bilinear", align_corners=False)


class LitePyramid(nn.Module):
    """The frozen levels and, of each, a norm and a projection that learn.

    Args:
        widths: channels of the four maps.
    """

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.levels = LiteLevels()
        self.projections = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(seen), nn.Conv2d(seen, width, 1))
            for seen, width in zip(WIDTHS, widths, strict=True)
        )

    def from_levels(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The part that learns: what `levels` gives to maps of `widths` channels."""
        return [project(level) for project, level in zip(self.projections, levels, strict=True)]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Pictures (b, 3, h, w) in [-1, 1], h and w multiples of 32, to four maps, the finest first."""
        return self.from_levels(self.levels(images))
