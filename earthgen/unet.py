"""The local U-Net that the cascade's network and the prompt root's network share.

It is local: nothing in it sees a whole window. It normalises over the channels of one position, mixes
space with convolutions only, and halves the resolution on blocks that are aligned to global
coordinates. So two windows that overlap compute the same values wherever both see enough context.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

Upsampling = Literal["interpolate", "unfold"]
UPSAMPLINGS: tuple[Upsampling, ...] = get_args(Upsampling)
ALIGNMENT = 4
"""Positions to which a window's corner must be aligned: two halvings of the resolution."""


def sinusoid(value: torch.Tensor, features: int, shortest: float, longest: float) -> torch.Tensor:
    """Sinusoidal features of a scalar (Vaswani et al. 2017, section 3.5) with geometric periods.

    Args:
        value: any shape (...).
        features: even number of features.
        shortest: shortest period, in units of `value`.
        longest: longest period.

    Returns:
        (..., features).
    """
    periods = torch.logspace(math.log10(shortest), math.log10(longest), features // 2).to(value)
    phase = 2 * math.pi * value[..., None] / periods
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all parameters 0, so that a residual branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class RowEmbedding(nn.Module):
    """Noise level, ground sampling distance, parent noise and text as one embedding for each row."""

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.noise_level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.gsd = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.parent_noise = nn.Linear(1, width)
        # Without a bias: a row of zeros is no text.
        self.text = zeroed(nn.Linear(text_width, width, bias=False)) if text_width else None

    def forward(
        self, log_sigma: torch.Tensor, log2_gsd: torch.Tensor, parent_noise: torch.Tensor, text: torch.Tensor | None
    ) -> torch.Tensor:
        """(b,), (b, h), (b,) and unit vectors (b, text_width), to (b, width, h)."""
        level = self.noise_level(sinusoid(log_sigma, 64, 0.5, 32.0))
        gsd = self.gsd(sinusoid(log2_gsd, 64, 2.0, 64.0))
        whole = level + self.parent_noise(parent_noise[:, None] * 10.0)
        if self.text is not None and text is not None:
            # A unit vector's numbers are small; bring them to unit variance.
            whole = whole + self.text(text * math.sqrt(text.shape[-1]))
        return rearrange(F.silu(gsd + whole[:, None]), "b h d -> b d h")


class Block(nn.Module):
    """A residual block in the manner of ConvNeXt (arXiv 2201.03545, figure 4), modulated row by row."""

    def __init__(self, channels: int, embedding: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.reach = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.modulation = zeroed(nn.Conv1d(embedding, 2 * channels, 1))
        self.widen = nn.Conv2d(channels, expansion * channels, 1)
        self.narrow = zeroed(nn.Conv2d(expansion * channels, channels, 1))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) and (b, d, h) to (b, c, h, w)."""
        scale, shift = self.modulation(embedding)[..., None].chunk(2, dim=1)
        h = self.reach(x)
        # Root mean square over the channels of each position (Zhang & Sennrich 2019): local by nature.
        h = h * torch.rsqrt(h.square().mean(dim=1, keepdim=True) + 1e-6)
        h = torch.addcmul(shift, h, 1 + scale)
        out: torch.Tensor = x + self.narrow(F.silu(self.widen(h)))
        return out


class Stage(nn.Module):
    """Blocks at one resolution."""

    def __init__(self, blocks: int, channels: int, embedding: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, embedding, kernel, expansion) for _ in range(blocks))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) and (b, d, h) to (b, c, h, w)."""
        for block in self.blocks:
            x = block(x, embedding)
        return x


class LocalUNet(nn.Module):
    """Three resolutions of blocks between a first and a last 3x3 convolution; the last one starts as nothing.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        channels: widths of the three resolutions.
        blocks: blocks of the stages: fine, middle, coarse, middle, fine.
        embedding: width of the row embedding.
        kernel: side of the depthwise kernels, in positions.
        expansion: widening inside a block.
        upsampling: "interpolate" (bilinear), or "unfold" (channels into positions), as the first weights have it:
            unfolding gives each position of a block its own weights, and the picture their lattice.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: tuple[int, int, int],
        blocks: tuple[int, int, int, int, int],
        embedding: int,
        kernel: int,
        expansion: int,
        upsampling: Upsampling = "interpolate",
    ) -> None:
        super().__init__()
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling is {upsampling!r}; allowed: {', '.join(UPSAMPLINGS)}")
        fine, middle, coarse = channels
        self._unfolds = upsampling == "unfold"
        unfolded = 4 if self._unfolds else 1
        self.enter = nn.Conv2d(channels_in, fine, 3, padding=1)
        self.fine_in = Stage(blocks[0], fine, embedding, kernel, expansion)
        self.to_middle = nn.Conv2d(4 * fine, middle, 1)
        self.middle_in = Stage(blocks[1], middle, embedding, kernel, expansion)
        self.to_coarse = nn.Conv2d(4 * middle, coarse, 1)
        self.coarse = Stage(blocks[2], coarse, embedding, kernel, expansion)
        self.from_coarse = nn.Conv2d(coarse, unfolded * middle, 1)
        self.middle_out = Stage(blocks[3], middle, embedding, kernel, expansion)
        self.from_middle = nn.Conv2d(middle, unfolded * fine, 1)
        self.fine_out = Stage(blocks[4], fine, embedding, kernel, expansion)
        self.leave = zeroed(nn.Conv2d(fine, channels_out, 3, padding=1))

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(b, channels_in, h, w) and a row embedding (b, embedding, h) to (b, channels_out, h, w).

        h and w are multiples of ALIGNMENT.
        """
        middle_rows = F.avg_pool1d(rows, 2)
        coarse_rows = F.avg_pool1d(middle_rows, 2)

        # Down: each halving folds 2x2 positions into channels.
        fine = self.fine_in(self.enter(x), rows)
        middle = self.middle_in(self.to_middle(F.pixel_unshuffle(fine, 2)), middle_rows)
        coarse = self.coarse(self.to_coarse(F.pixel_unshuffle(middle, 2)), coarse_rows)

        # Up: add what the same resolution knew on the way down.
        middle = self.middle_out(middle + self._doubled(self.from_coarse(coarse)), middle_rows)
        fine = self.fine_out(fine + self._doubled(self.from_middle(middle)), rows)
        out: torch.Tensor = self.leave(fine)
        return out

    def _doubled(self, x: torch.Tensor) -> torch.Tensor:
        if self._unfolds:
            return F.pixel_shuffle(x, 2)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
