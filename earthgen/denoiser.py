"""The cascade's network and its preconditioning.

One network serves every level. It is told the true ground sampling distance of the children, as
MetaEarth does (arXiv 2405.13570, method figure: the resolution goes through the timestep's kind of
sinusoid, an MLP of its own, and is added to the timestep's embedding), here row by row, since in Web
Mercator the distance changes with latitude.

It is local: nothing in it sees a whole window. It normalises over the channels of one position, mixes
space with convolutions only, and halves the resolution on blocks that are aligned to global
coordinates. So two windows that overlap compute the same values wherever both see enough context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from earthgen.detail import COEFFICIENTS, DETAIL_CHANNELS, local_contrast, smooth_detail
from earthgen.sampler import karras_sigmas

_WATER_BLUENESS = 0.3
"""Blue minus red of a parent, in [-1, 1] units, that is half land and half open water."""
_WATER_SOFTNESS = 0.05
ALIGNMENT = 4
"""Positions to which a window's corner must be aligned: two halvings of the resolution."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a cascade step knows.

    Attributes:
        parent: (b, 3, h, w) in [-1, 1], the stored pixels one level up.
        log2_gsd: (b, h), log2 of the children's metres per pixel, for each row of parents.
        parent_noise: (b,), standard deviation in [-1, 1] units of the noise that training added to the
            parent; 0 at inference says that the parent is to be believed.
    """

    parent: torch.Tensor
    log2_gsd: torch.Tensor
    parent_noise: torch.Tensor


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


def _zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all parameters 0, so that a residual branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class RowEmbedding(nn.Module):
    """Noise level, ground sampling distance and parent noise as one embedding for each row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.noise_level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.gsd = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.parent_noise = nn.Linear(1, width)

    def forward(self, log_sigma: torch.Tensor, log2_gsd: torch.Tensor, parent_noise: torch.Tensor) -> torch.Tensor:
        """(b,), (b, h), (b,) to (b, width, h)."""
        level = self.noise_level(sinusoid(log_sigma, 64, 0.5, 32.0))
        gsd = self.gsd(sinusoid(log2_gsd, 64, 2.0, 64.0))
        noise = self.parent_noise(parent_noise[:, None] * 10.0)
        return rearrange(F.silu(gsd + (level + noise)[:, None]), "b h d -> b d h")


class Block(nn.Module):
    """A residual block in the manner of ConvNeXt (arXiv 2201.03545, figure 4), modulated row by row."""

    def __init__(self, channels: int, embedding: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.reach = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.modulation = _zeroed(nn.Conv1d(embedding, 2 * channels, 1))
        self.widen = nn.Conv2d(channels, expansion * channels, 1)
        self.narrow = _zeroed(nn.Conv2d(expansion * channels, channels, 1))

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


class DetailDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    """A three-level U-Net over the positions of parent pixels.

    Args:
        channels: widths of the three resolutions.
        blocks: blocks of the stages: fine, middle, coarse, middle, fine.
        kernel: side of the depthwise kernels, in positions.
        expansion: widening inside a block.
        embedding: width of the row embedding.
        detail_std: 45 standard deviations, one a detail channel; see `detail_scale`.
        contrast: how strong detail is where a parent is busy: (log2 of a GSD, offset, slope) rows in
            rising order of GSD; see `detail_scale`.
        water_calm: how much fainter detail is over open water, as a power of e; see `detail_scale`.
        sigmas: falling noise levels, ending in 0, at which the weights are to be sampled.
        margin: positions at each side of a window whose values depend visibly on where the window was
            cut; measured, see the weights' card. A multiple of ALIGNMENT.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, int, int] = (80, 160, 256),
        blocks: tuple[int, int, int, int, int] = (2, 2, 4, 2, 3),
        kernel: int = 7,
        expansion: int = 3,
        embedding: int = 192,
        detail_std: tuple[float, ...] = (1.0,) * DETAIL_CHANNELS,
        contrast: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),),
        water_calm: float = 0.0,
        sigmas: tuple[float, ...] = karras_sigmas(6),
        margin: int = 8,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        fine, middle, coarse = channels
        self.row_embedding = RowEmbedding(embedding)
        self.enter = nn.Conv2d(DETAIL_CHANNELS + 3 + 1 + COEFFICIENTS, fine, 3, padding=1)
        self.fine_in = Stage(blocks[0], fine, embedding, kernel, expansion)
        self.to_middle = nn.Conv2d(4 * fine, middle, 1)
        self.middle_in = Stage(blocks[1], middle, embedding, kernel, expansion)
        self.to_coarse = nn.Conv2d(4 * middle, coarse, 1)
        self.coarse = Stage(blocks[2], coarse, embedding, kernel, expansion)
        self.from_coarse = nn.Conv2d(coarse, 4 * middle, 1)
        self.middle_out = Stage(blocks[3], middle, embedding, kernel, expansion)
        self.from_middle = nn.Conv2d(middle, 4 * fine, 1)
        self.fine_out = Stage(blocks[4], fine, embedding, kernel, expansion)
        self.leave = _zeroed(nn.Conv2d(fine, DETAIL_CHANNELS, 3, padding=1))

    def detail_scale(self, parent: torch.Tensor, log2_gsd: torch.Tensor) -> torch.Tensor:
        """The unit in which detail is generated, at each position.

        Detail is strong where the parent is busy and faint over water and sand: its root mean square is
        about exp(offset + slope * local contrast), with numbers that depend on the ground sampling
        distance. Divided by that and by `detail_std`, it has about unit variance everywhere, so that the
        network need not learn amplitudes and flat ground is not left with the noise of busy ground.
        Where the parent is as blue as open water, detail is fainter by exp(-water_calm): a chain that
        feeds on its own contrast would raise waves of land's strength from nothing.

        Args:
            parent: (b, 3, h, w) in [-1, 1].
            log2_gsd: (b, h).

        Returns:
            (b, 45, h, w), in [-1, 1] units.
        """
        offset, slope = self._contrast_at(log2_gsd)
        water = torch.sigmoid((parent[:, 2:] - parent[:, :1] - _WATER_BLUENESS) / _WATER_SOFTNESS)
        logarithm = offset + slope * local_contrast(parent) - self.config["water_calm"] * water
        strength = logarithm.clamp(-5.0, 1.5).exp()
        std = torch.tensor(self.config["detail_std"]).to(parent)
        scale: torch.Tensor = std[None, :, None, None] * strength
        return scale

    def _contrast_at(self, log2_gsd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Offset and slope, each (b, 1, h, 1), interpolated between the rows of `contrast`."""
        knots = torch.tensor(self.config["contrast"]).to(log2_gsd)
        if len(knots) == 1:
            fixed = knots[0, 1:].expand(*log2_gsd.shape, 2)
        else:
            upper = torch.searchsorted(knots[:, 0].contiguous(), log2_gsd.contiguous()).clamp(1, len(knots) - 1)
            low, high = knots[upper - 1], knots[upper]
            share = ((log2_gsd - low[..., 0]) / (high[..., 0] - low[..., 0])).clamp(0, 1)[..., None]
            fixed = low[..., 1:] + share * (high[..., 1:] - low[..., 1:])
        return fixed[:, None, :, None, 0], fixed[:, None, :, None, 1]

    def forward(self, state: torch.Tensor, log_sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Predict.

        Args:
            state: (b, 45, h, w), scaled to unit variance; h and w multiples of ALIGNMENT.
            log_sigma: (b,), natural logarithm of the noise level.
            condition: what the step knows.

        Returns:
            (b, 45, h, w), the network's raw output F of EDM's equation 7.
        """
        fine_rows = self.row_embedding(log_sigma, condition.log2_gsd, condition.parent_noise)
        middle_rows = F.avg_pool1d(fine_rows, 2)
        coarse_rows = F.avg_pool1d(middle_rows, 2)

        # The parent as it is, and in the units of the detail that it calls for.
        scale = self.detail_scale(condition.parent, condition.log2_gsd)
        slopes = smooth_detail(condition.parent)[:, :COEFFICIENTS] / scale[:, :COEFFICIENTS]
        known = [state, condition.parent, scale[:, :1].log(), slopes.clamp(-8, 8) / 2]

        # Down: each halving folds 2x2 positions into channels.
        fine = self.fine_in(self.enter(torch.cat(known, dim=1)), fine_rows)
        middle = self.middle_in(self.to_middle(F.pixel_unshuffle(fine, 2)), middle_rows)
        coarse = self.coarse(self.to_coarse(F.pixel_unshuffle(middle, 2)), coarse_rows)

        # Up: unfold and add what the same resolution knew on the way down.
        middle = self.middle_out(middle + F.pixel_shuffle(self.from_coarse(coarse), 2), middle_rows)
        fine = self.fine_out(fine + F.pixel_shuffle(self.from_middle(middle), 2), fine_rows)
        out: torch.Tensor = self.leave(fine)
        return out


class Preconditioned(nn.Module):
    """EDM's preconditioning (Karras et al. 2022, table 1 and equation 7) around a network.

    Args:
        net: the network F.
        sigma_data: standard deviation of the data; 1, since the state is normalised.
    """

    def __init__(self, net: DetailDenoiser, sigma_data: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.sigma_data = sigma_data

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The denoised state D(x; sigma), (b, 45, h, w), from x of that shape and sigma (b,)."""
        s = sigma[:, None, None, None]
        variance = s.square() + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = s * self.sigma_data * variance.rsqrt()
        c_in = variance.rsqrt()
        raw: torch.Tensor = self.net(c_in * x, sigma.log(), condition)
        return c_skip * x + c_out * raw

    def loss_weight(self, sigma: torch.Tensor) -> torch.Tensor:
        """EDM's lambda(sigma), (b,): 1 / c_out**2, so that every noise level weighs the same at the start."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()
