"""The cascade's network and its preconditioning.

One network serves every level. It is told the true ground sampling distance of the children, as
MetaEarth does (arXiv 2405.13570, method figure: the resolution goes through the timestep's kind of
sinusoid, an MLP of its own, and is added to the timestep's embedding), here row by row, since in Web
Mercator the distance changes with latitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from earthgen.detail import COEFFICIENTS, DETAIL_CHANNELS, local_contrast, smooth_detail
from earthgen.sampler import karras_sigmas
from earthgen.unet import LocalUNet, RowEmbedding, Upsampling

_WATER_BLUENESS = 0.3
"""Blue minus red of a parent, in [-1, 1] units, that is half land and half open water."""
_WATER_SOFTNESS = 0.05


@dataclass(frozen=True, slots=True)
class Condition:
    """What a cascade step knows.

    Attributes:
        parent: (b, 3, h, w) in [-1, 1], the stored pixels one level up.
        log2_gsd: (b, h), log2 of the children's metres per pixel, for each row of parents.
        parent_noise: (b,), standard deviation in [-1, 1] units of the noise that training added to the
            parent; 0 at inference says that the parent is to be believed.
        text: (b, text_width), unit vectors that say what is there; rows of zeros, or None, say nothing.
    """

    parent: torch.Tensor
    log2_gsd: torch.Tensor
    parent_noise: torch.Tensor
    text: torch.Tensor | None = None


class DetailDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    """A three-level U-Net over the positions of parent pixels.

    Args:
        channels: widths of the three resolutions.
        blocks: blocks of the stages: fine, middle, coarse, middle, fine.
        kernel: side of the depthwise kernels, in positions.
        expansion: widening inside a block.
        embedding: width of the row embedding.
        text_width: width of the text vectors that the network hears; 0 for a network that knows no text.
        upsampling: how resolutions are joined; see `LocalUNet`.
        detail_std: 45 standard deviations, one a detail channel; see `detail_scale`.
        contrast: how strong detail is where a parent is busy: (log2 of a GSD, offset, slope) rows in
            rising order of GSD; see `detail_scale`.
        water_calm: how much fainter detail is over open water, as a power of e; see `detail_scale`.
        sigmas: falling noise levels, ending in 0, at which the weights are to be sampled.
        margin: positions at each side of a window whose values depend visibly on where the window was
            cut; measured, see the weights' card. A multiple of ALIGNMENT.
        countryside: whether levels also draw fields, roads and villages, see `earthgen.countryside`; for weights
            that follow what their parents have and do not invent it.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, int, int] = (80, 160, 256),
        blocks: tuple[int, int, int, int, int] = (2, 2, 4, 2, 3),
        kernel: int = 7,
        expansion: int = 3,
        embedding: int = 192,
        text_width: int = 0,
        upsampling: Upsampling = "interpolate",
        detail_std: tuple[float, ...] = (1.0,) * DETAIL_CHANNELS,
        contrast: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),),
        water_calm: float = 0.0,
        sigmas: tuple[float, ...] = karras_sigmas(6),
        margin: int = 8,
        countryside: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.row_embedding = RowEmbedding(embedding, text_width)
        known = DETAIL_CHANNELS + 3 + 1 + COEFFICIENTS
        self.unet = LocalUNet(known, DETAIL_CHANNELS, channels, blocks, embedding, kernel, expansion, upsampling)

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
        rows = self.row_embedding(log_sigma, condition.log2_gsd, condition.parent_noise, condition.text)
        # The parent as it is, and in the units of the detail that it calls for.
        scale = self.detail_scale(condition.parent, condition.log2_gsd)
        slopes = smooth_detail(condition.parent)[:, :COEFFICIENTS] / scale[:, :COEFFICIENTS]
        known = [state, condition.parent, scale[:, :1].log(), slopes.clamp(-8, 8) / 2]
        out: torch.Tensor = self.unet(torch.cat(known, dim=1), rows)
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
