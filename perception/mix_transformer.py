"""The Mix Transformer of SegFormer (Xie et al., arXiv 2105.15203): a pyramid of four maps from one image.

Names of parameters are those of the authors' code (`patch_embed1`, `block1`, `norm1`, ...), which public checkpoints
have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

STRIDE = 32
"""Pixels of the image to one of the coarsest map."""


@dataclass(frozen=True, slots=True)
class MixTransformerConfig:
    """Sizes of the four stages; as they are, MiT-B1.

    Attributes:
        widths: channels.
        depths: blocks.
        heads: of the attentions.
        reductions: how many times coarser keys and values are than queries, along a side.
        drop_path: chance that training leaves out the last block; it grows from 0 at the first.
    """

    widths: tuple[int, int, int, int] = (64, 128, 320, 512)
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    drop_path: float = 0.1


class OverlapPatchEmbed(nn.Module):
    """Patches that overlap, by a strided convolution, and a norm."""

    def __init__(self, inputs: int, width: int, side: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, side, stride=stride, padding=side // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        """(b, inputs, h, w) to tokens (b, l, c) and the number of their rows."""
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), x.shape[2]


class ReducedAttention(nn.Module):
    """Attention to a coarser copy of the map."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.sr = nn.Conv2d(width, width, reduction, stride=reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(width) if reduction > 1 else None
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """(b, l, c) to the same shape."""
        batch, length, width = x.shape
        seen = x
        if self.sr is not None and self.norm is not None:
            as_map = x.transpose(1, 2).reshape(batch, width, rows, length // rows)
            seen = self.norm(self.sr(as_map).flatten(2).transpose(1, 2))
        q, k, v = (
            part.reshape(batch, -1, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.q(x), *self.kv(seen).chunk(2, dim=-1))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: torch.Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


class DepthwiseConv(nn.Module):
    """A depthwise 3x3 convolution of tokens: it tells them where they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """(b, l, c) to the same shape."""
        batch, length, width = x.shape
        as_map = x.transpose(1, 2).reshape(batch, width, rows, length // rows)
        out: torch.Tensor = self.dwconv(as_map).flatten(2).transpose(1, 2)
        return out


class MixFFN(nn.Module):
    """Widening by 4 and back, with a depthwise convolution between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.dwconv = DepthwiseConv(4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """(b, l, c) to the same shape."""
        out: torch.Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x), rows)))
        return out


class MixBlock(nn.Module):
    """A pre-norm transformer block, left out at random while training."""

    def __init__(self, width: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = ReducedAttention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MixFFN(width)

    def forward(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """(b, l, c) to the same shape."""
        x = x + self._kept(self.attn(self.norm1(x), rows))
        return x + self._kept(self.mlp(self.norm2(x), rows))

    def _kept(self, branch: torch.Tensor) -> torch.Tensor:
        """The branch, for some samples 0 and for the others larger, so that the mean stays."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * branch.new_empty(len(branch), 1, 1).bernoulli_(keep) / keep


class MixTransformer(nn.Module):
    """The network.

    Args:
        config: its sizes.
    """

    def __init__(self, config: MixTransformerConfig) -> None:
        super().__init__()
        rates = torch.linspace(0, config.drop_path, sum(config.depths)).tolist()
        inputs = 3
        for stage, (width, depth, heads, reduction) in enumerate(
            zip(config.widths, config.depths, config.heads, config.reductions, strict=True), start=1
        ):
            patch, stride = (7, 4) if stage == 1 else (3, 2)
            blocks = [MixBlock(width, heads, reduction, rates.pop(0)) for _ in range(depth)]
            self.add_module(f"patch_embed{stage}", OverlapPatchEmbed(inputs, width, patch, stride))
            self.add_module(f"block{stage}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage}", nn.LayerNorm(width, eps=1e-6))
            inputs = width
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images (b, 3, h, w), normalised, to maps of 1/4, 1/8, 1/16 and 1/32 of their size, finest first."""
        maps = []
        x = images
        for stage in range(1, 5):
            tokens, rows = self.get_submodule(f"patch_embed{stage}")(x)
            for block in self.get_submodule(f"block{stage}").children():
                tokens = block(tokens, rows)
            tokens = self.get_submodule(f"norm{stage}")(tokens)
            x = tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], rows, -1)
            maps.append(x)
        return maps
