"""Image towers: dense features that can be compared with words.

A tower gives one vector a patch, in a space that it shares with a text encoder (`earthgen.conditioning.TextEncoder`),
and finer or shallower maps that a decoder can lean on. `OpenClipTower` takes them from any OpenCLIP vision transformer,
`SmallTower` is a small convolutional network that is trained together with whatever reads it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from earthgen.errors import WeightsError


@dataclass(frozen=True, slots=True)
class DenseFeatures:
    """What a tower sees.

    Attributes:
        joint: (b, d, h / stride, w / stride), comparable with text vectors by their cosine.
        skips: two maps (b, c, ...) of any resolution: for the first and for the second doubling of a decoder.
    """

    joint: torch.Tensor
    skips: tuple[torch.Tensor, torch.Tensor]


class ImageTower(nn.Module, ABC):
    """An image encoder with dense, text-comparable features.

    Attributes:
        stride: pixels along the side of a patch; heights and widths must be multiples.
        joint_width: d.
        skip_widths: channels of the two skips.
    """

    stride: int
    joint_width: int
    skip_widths: tuple[int, int]

    @abstractmethod
    def forward(self, images: torch.Tensor) -> DenseFeatures:
        """Features of images (b, 3, h, w) in [-1, 1]; normalising them is the tower's business."""

    @abstractmethod
    def tuned_parameters(self) -> list[nn.Parameter]:
        """Parameters that training may change."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position of a map (b, c, h, w)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, channel norm, widening by 4 and back (Liu et al., arXiv 2201.03545, figure 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reach = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = ChannelNorm(width)
        self.widen = nn.Conv2d(width, 4 * width, 1)
        self.narrow = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to the same shape."""
        out: torch.Tensor = x + self.narrow(F.gelu(self.widen(self.norm(self.reach(x)))))
        return out


class SmallTower(ImageTower):
    """Three stages of ConvNeXt blocks at 1/2, 1/4 and 1/8 of the resolution.

    Args:
        widths: channels of the stages.
        joint_width: d.
    """

    stride = 8

    def __init__(self, widths: tuple[int, int, int], joint_width: int) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.joint_width = joint_width
        self.skip_widths = (quarter, half)
        self.to_half = nn.Sequential(nn.Conv2d(3, half, 4, stride=2, padding=1), ConvNextBlock(half))
        self.to_quarter = nn.Sequential(
            ChannelNorm(half), nn.Conv2d(half, quarter, 2, stride=2), ConvNextBlock(quarter)
        )
        self.to_eighth = nn.Sequential(
            ChannelNorm(quarter), nn.Conv2d(quarter, eighth, 2, stride=2), ConvNextBlock(eighth), ConvNextBlock(eighth)
        )
        self.project = nn.Sequential(ChannelNorm(eighth), nn.Conv2d(eighth, joint_width, 1))

    def forward(self, images: torch.Tensor) -> DenseFeatures:
        """See `ImageTower.forward`."""
        half = self.to_half(images)
        quarter = self.to_quarter(half)
        return DenseFeatures(self.project(self.to_eighth(quarter)), (quarter, half))

    def tuned_parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return list(self.parameters())


class OpenClipTower(ImageTower):
    """The vision transformer of an OpenCLIP model, read densely.

    In the last block attention is replaced by its own value projection (Zhou et al., MaskCLIP, arXiv 2112.01071), so
    that a patch's vector speaks of that patch; the class token is left out. Positions are interpolated for images of
    other sizes than the model was trained on. Skips are the maps after two thirds and after one third of the blocks.

    Args:
        net: from `earthgen.conditioning.load_open_clip`.

    Raises:
        WeightsError: the image half is no plain vision transformer with a class token.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: Any) -> None:
        super().__init__()
        visual = net.visual
        parts = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "transformer", "ln_post", "proj")
        missing = [part for part in parts if not hasattr(visual, part)]
        if missing or getattr(visual, "attn_pool", None) is not None or visual.proj is None:
            raise WeightsError("the image half of this OpenCLIP model is no plain vision transformer, as it must be")
        blocks = visual.transformer.resblocks
        if not isinstance(blocks[-1].attn, nn.MultiheadAttention) or blocks[-1].attn.in_proj_weight is None:
            raise WeightsError("the attention of this OpenCLIP model is not of the plain kind, as it must be")
        self.visual = visual
        self.stride = int(visual.conv1.stride[0])
        self.joint_width = int(visual.proj.shape[1])
        width = int(visual.conv1.out_channels)
        self.skip_widths = (width, width)
        colours = visual.preprocess_cfg
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(colours[name]).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> DenseFeatures:
        """See `ImageTower.forward`."""
        visual = self.visual
        height, width = (side // self.stride for side in images.shape[-2:])
        x = visual.conv1(((images + 1) / 2 - self.mean) / self.std).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = visual.ln_pre(x + self._positions(height, width))

        *blocks, last = visual.transformer.resblocks
        depth = len(blocks) + 1
        kept = {}
        for index, block in enumerate(blocks):
            x = block(x)
            kept[index + 1] = x
        x = visual.ln_post(_values_only(last, x)) @ visual.proj

        def as_map(states: torch.Tensor) -> torch.Tensor:
            return rearrange(states[:, 1:], "b (h w) c -> b c h w", h=height)

        late, early = (kept.get(max(1, round(depth * share / 3)), x) for share in (2, 1))
        return DenseFeatures(as_map(x), (as_map(late), as_map(early)))

    def _positions(self, height: int, width: int) -> torch.Tensor:
        """Position embeddings (1, 1 + h * w, c), interpolated if the grid is not the trained one."""
        embedding: torch.Tensor = self.visual.positional_embedding
        rows, columns = self.visual.grid_size
        if (rows, columns) == (height, width):
            return embedding[None]
        grid = rearrange(embedding[1:], "(h w) c -> 1 c h w", h=rows)
        grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return torch.cat([embedding[None, :1], rearrange(grid, "1 c h w -> 1 (h w) c")], dim=1)

    def tuned_parameters(self) -> list[nn.Parameter]:
        """Those of the attention layers only, as CAT-Seg tunes CLIP (Cho et al., arXiv 2303.11797)."""
        tuned: list[nn.Parameter] = []
        for block in self.visual.transformer.resblocks:
            tuned += block.attn.parameters()
        return tuned


def _values_only(block: Any, x: torch.Tensor) -> torch.Tensor:
    """A transformer block (b, l, c) in which every token attends to itself alone."""
    attention = block.attn
    width = x.shape[-1]
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[2 * width :]
    values = F.linear(block.ln_1(x), attention.in_proj_weight[2 * width :], bias)
    x = x + block.ls_1(attention.out_proj(values))
    out: torch.Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return out
