"""Image towers that see one picture as a square of tokens: CLIP's vision transformer and a frozen small network.

Parameter names of the transformer are OpenAI's, so that a public CLIP's `visual.*` tensors map onto it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from perception.lite_pyramid import WIDTHS, LiteLevels, as_tokens

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class PatchTower(nn.Module, ABC):
    """A network from pictures to tokens.

    Attributes:
        grid: tokens along a side.
        width: numbers in a token.
    """

    grid: int
    width: int

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures (b, 3, h, w) in [-1, 1] to tokens (b, grid * grid, width), row by row."""

    @abstractmethod
    def tuned_parameters(self) -> list[nn.Parameter]:
        """Those that training moves."""


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), the approximation that CLIP was trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """A pre-norm transformer block of CLIP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGelu())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, l, c) to the same shape."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        out: torch.Tensor = x + self.mlp(self.ln_2(x))
        return out


class ClipTower(PatchTower):
    """CLIP's vision transformer (Radford et al., arXiv 2103.00020): its last patch tokens, before norm and projection.

    Args:
        image: pixels along a side of its input.
        patch: pixels along a side of a token's patch.
        width: numbers in a token.
        layers: blocks.
        heads: of each attention.
        tuned: how many blocks, from the last, training moves.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, image: int, patch: int, width: int, layers: int, heads: int, tuned: int = 6) -> None:
        super().__init__()
        self.image, self.grid, self.width, self.tuned = image, image // patch, width, tuned
        for name, values in (("mean", CLIP_MEAN), ("std", CLIP_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(self.grid**2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See `PatchTower.forward`."""
        images = (resized(images, self.image) + 1) / 2
        patches = self.conv1((images - self.mean) / self.std).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.resblocks:
            x = block(x)
        out: torch.Tensor = x[:, 1:]
        return out

    def tuned_parameters(self) -> list[nn.Parameter]:
        """Those of the last blocks."""
        blocks = list(self.resblocks)[max(0, len(self.resblocks) - self.tuned) :]
        return [parameter for block in blocks for parameter in block.parameters()]


class LiteTower(PatchTower):
    """A frozen EfficientNet-Lite0 with its ImageNet weights, and a projection of three of its stages that learns.

    The frozen part comes with a dependency; it is no part of the state dictionary, so weight files stay small.

    Args:
        image: pixels along a side of its input.
        patch: pixels along a side of a token's patch.
        width: numbers in a token.
    """

    def __init__(self, image: int, patch: int, width: int) -> None:
        super().__init__()
        self.image, self.grid, self.width = image, image // patch, width
        self.levels = LiteLevels()
        channels = sum(WIDTHS[1:])
        self.norm = nn.BatchNorm1d(channels)
        self.project = nn.Linear(channels, width)

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the frozen part sees: (b, 3, h, w) in [-1, 1] to (b, grid * grid, channels of its coarser levels)."""
        return as_tokens(self.levels(resized(images, self.image))[1:], self.grid)

    def from_features(self, features: torch.Tensor) -> torch.Tensor:
        """The part that learns: (b, l, channels) to (b, l, width)."""
        normed = self.norm(features.transpose(1, 2)).transpose(1, 2)
        out: torch.Tensor = self.project(normed)
        return out

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See `PatchTower.forward`."""
        return self.from_features(self.features(images))

    def tuned_parameters(self) -> list[nn.Parameter]:
        """Those of the projection."""
        return list(self.parameters())


def resized(images: torch.Tensor, side: int) -> torch.Tensor:
    """Pictures (b, 3, h, w) as squares of `side` pixels; nothing is cut off, so other shapes are squeezed."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
