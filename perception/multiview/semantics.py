"""From colours to classes: what turns the samples of a frozen field's ray into the classes of its pixel.

`RayTransformer` after Qi et al., "Multi-view Remote Sensing Image Segmentation with SAM priors" (IGARSS 2024, arXiv
2405.14171), of which the abstract is public and no sizes: features of SAM are given to all samples of a ray, which
attend to each other. `RayConvolution` after their earlier work (GRSL 2022): convolutions along the samples, and the
rendered colour. Both render classes with the field's own weights, S(ray) = sum of w_i s_i.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from perception.multiview.field import Samples

Kind = Literal["transformer", "convolution"]
KINDS: tuple[Kind, ...] = ("transformer", "convolution")
_OCTAVES = 3
"""Of sines and cosines of a place."""


def positions(places: torch.Tensor) -> torch.Tensor:
    """Places (..., 3) from -1 to 1 with their sines and cosines: (..., 3 + 6 * octaves)."""
    waves = [fn(torch.pi * 2**octave * places) for octave in range(_OCTAVES) for fn in (torch.sin, torch.cos)]
    return torch.cat([places, *waves], dim=-1)


POSITION_WIDTH = 3 + 6 * _OCTAVES


class AlongRay(nn.Module):
    """A transformer block in which samples of a ray attend to each other, more to those that can be seen."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Samples (r, s, c) and logarithms of their weights (r, s) to (r, s, c)."""
        rays, samples, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(rays, samples, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None, None])
        x = x + self.join(mixed.transpose(1, 2).reshape(rays, samples, width))
        out: torch.Tensor = x + self.mlp(x)
        return out


class RayTransformer(nn.Module):
    """Samples of a ray, and what the image encoder sees at its pixel, to classes.

    Args:
        told: numbers that the field has of a place.
        prior: numbers that the encoder has of a pixel; 0 for a head that is told nothing by it.
        classes: how many.
        width: of a sample inside.
        layers: blocks.
        kept: samples of each ray that are looked at, those with the largest weights.
    """

    def __init__(
        self, told: int, prior: int, classes: int, width: int = 48, layers: int = 2, heads: int = 4, kept: int = 8
    ) -> None:
        super().__init__()
        self.kept = kept
        self.norm = nn.LayerNorm(told)
        self.embed = nn.Linear(told + 3 + POSITION_WIDTH, width)
        self.inject = nn.Sequential(nn.Linear(prior, width), nn.GELU(), nn.Linear(width, width)) if prior else None
        self.blocks = nn.ModuleList(AlongRay(width, heads) for _ in range(layers))
        self.classify = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, samples: Samples, prior: torch.Tensor | None) -> torch.Tensor:
        """Samples of r rays and the encoder's features (r, prior) to logits (r, classes)."""
        weights, picked = samples.weights.topk(min(self.kept, samples.weights.shape[1]), dim=1)

        def take(values: torch.Tensor) -> torch.Tensor:
            return values.gather(1, picked[..., None].expand(-1, -1, values.shape[-1]))

        parts = [self.norm(take(samples.features)), take(samples.colours), positions(take(samples.places))]
        x = self.embed(torch.cat(parts, dim=-1))
        if self.inject is not None:
            assert prior is not None
            x = x + self.inject(prior)[:, None]
        bias = torch.log(weights + 1e-3)
        for block in self.blocks:
            x = block(x, bias)
        logits: torch.Tensor = self.classify(x)
        shares = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-4)
        return (shares[..., None] * logits).sum(dim=1)


class RayConvolution(nn.Module):
    """Convolutions along the samples of a ray, rendering, and the rendered colour, to classes.

    Sizes are those of the authors' code, made smaller: 128 and 64 channels there, 20 classes.

    Args:
        told: numbers that the field has of a place.
        classes: how many.
        width: channels.
    """

    def __init__(self, told: int, classes: int, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(told), nn.Linear(told, width), nn.ReLU())
        self.along = nn.Conv1d(width, width, 5, padding=2)
        self.colour = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU())
        self.classify = nn.Linear(width + 32, classes)

    def forward(self, samples: Samples, prior: torch.Tensor | None = None) -> torch.Tensor:
        """See `RayTransformer.forward`; it looks at no prior."""
        x = self.embed(samples.features)
        x = F.relu(self.along(x.transpose(1, 2))).transpose(1, 2)
        shares = samples.weights / samples.weights.sum(dim=1, keepdim=True).clamp_min(1e-4)
        seen = (shares[..., None] * x).sum(dim=1)
        colour = (shares[..., None] * samples.colours).sum(dim=1)
        out: torch.Tensor = self.classify(torch.cat([seen, self.colour(colour)], dim=1))
        return out


Head = RayTransformer | RayConvolution


def head_of(kind: Kind, told: int, prior: int, classes: int) -> Head:
    """A new head of a kind."""
    return RayConvolution(told, classes) if kind == "convolution" else RayTransformer(told, prior, classes)
