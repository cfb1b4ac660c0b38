"""Aggregation of a cost volume: for every pixel and every class, how alike picture and word are.

Patterned on CAT-Seg (Cho et al., arXiv 2303.11797). Each class has a slice (c channels) of its own.
Spatial aggregation looks around within a slice and knows no other class; class aggregation compares the slices at one
place and knows no order of classes, so that any number of them may come in any order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn


class Mlp(nn.Sequential):
    """Norm, widening by 4 and back."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class WindowAttention(nn.Module):
    """Attention within windows, laid out from the corner or shifted by half (Liu et al., Swin, arXiv 2103.14030).

    Queries and keys also see guidance, values do not. Positions are known through the guidance and the convolution
    that embedded the slice.

    Args:
        width: c of a slice.
        guidance: channels of the guidance.
        heads: of the attention.
        window: positions along the side.
        shifted: whether windows are shifted by half their side.
    """

    def __init__(self, width: int, guidance: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, window // 2 if shifted else 0
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width + guidance, width)
        # A bias of keys would add the same to all that a query sees, and soft-max does not notice.
        self.key = nn.Linear(width + guidance, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """(b, h, w, c) and (b, h, w, g) to (b, h, w, c)."""
        height, width = x.shape[1:3]
        normed = self.norm(x)
        guided = torch.cat([normed, guidance], dim=-1)
        q, k, v = (self._windows(y) for y in (self.query(guided), self.key(guided), self.value(normed)))
        mask = self._mask(height, width, x.device)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.repeat(len(x), 1, 1)[:, None])
        x = x + self.out(self._joined(mixed, height, width))
        out: torch.Tensor = x + self.mlp(x)
        return out

    def _padding(self, height: int, width: int) -> tuple[int, int]:
        return -height % self.window, -width % self.window

    def _windows(self, x: torch.Tensor) -> torch.Tensor:
        """(b, h, w, c) to (b * windows, heads, window * window, c / heads)."""
        down, right = self._padding(*x.shape[1:3])
        x = F.pad(x, (0, 0, 0, right, 0, down)).roll((-self.shift, -self.shift), dims=(1, 2))
        return rearrange(
            x,
            "b (i s) (j t) (n c) -> (b i j) n (s t) c",
            s=self.window,
            t=self.window,
            n=self.heads,
        )

    def _joined(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """What `_windows` cut, joined again."""
        down, right = self._padding(height, width)
        x = rearrange(
            x,
            "(b i j) n (s t) c -> b (i s) (j t) (n c)",
            i=(height + down) // self.window,
            j=(width + right) // self.window,
            s=self.window,
        )
        return x.roll((self.shift, self.shift), dims=(1, 2))[:, :height, :width]

    def _mask(self, height: int, width: int, device: torch.device) -> torch.Tensor:
        """Bool (windows, n, n), true between positions that neither padding nor the roll separates."""
        down, right = self._padding(height, width)
        rows = torch.arange(height + down, device=device)
        columns = torch.arange(width + right, device=device)
        # Rolling brings the first rows below the last: those two do not belong together.
        below, beyond = (rows < self.shift).int(), (columns < self.shift).int()
        region = 2 * below[:, None] + beyond[None, :]
        padded = (rows >= height)[:, None] | (columns >= width)[None, :]
        region = torch.where(padded, -1, region).roll((-self.shift, -self.shift), dims=(0, 1))
        flat = rearrange(region, "(i s) (j t) -> (i j) (s t)", s=self.window, t=self.window)
        return flat[:, :, None] == flat[:, None, :]


class ClassAttention(nn.Module):
    """Linear attention among the classes of a place (Katharopoulos et al., arXiv 2006.16236), with elu + 1.

    Args:
        width: c of a slice.
        guidance: numbers of each class's text guidance.
        heads: of the attention.
    """

    def __init__(self, width: int, guidance: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width + guidance, width)
        self.key = nn.Linear(width + guidance, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """(b, k, h, w, c) and (k, g) to (b, k, h, w, c)."""
        batch, _, height, width, _ = x.shape
        # Compared on 2x2 means, where a class is told more surely and four times more cheaply.
        slices = rearrange(self.norm(x), "b k h w c -> (b k) c h w")
        pooled = F.avg_pool2d(slices, 2, ceil_mode=True)
        rows = pooled.shape[2]
        tokens = rearrange(pooled, "(b k) c h w -> (b h w) k c", b=batch)
        guided = torch.cat([tokens, guidance.expand(len(tokens), -1, -1)], dim=-1)
        q, k, v = (
            rearrange(y, "p k (n c) -> p n k c", n=self.heads)
            for y in (F.elu(self.query(guided)) + 1, F.elu(self.key(guided)) + 1, self.value(tokens))
        )
        memory = torch.einsum("pnkc,pnkd->pncd", k, v)
        weight = torch.einsum("pnkc,pnc->pnk", q, k.sum(dim=2))
        mixed = torch.einsum("pnkc,pncd->pnkd", q, memory) / weight[..., None].clamp(min=1e-6)
        mixed = self.out(rearrange(mixed, "p n k c -> p k (n c)"))
        spread = rearrange(mixed, "(b h w) k c -> (b k) c h w", b=batch, h=rows)
        spread = F.interpolate(spread, (height, width), mode="bilinear", align_corners=False)
        x = x + rearrange(spread, "(b k) c h w -> b k h w c", b=batch)
        out: torch.Tensor = x + self.mlp(x)
        return out


class AggregationRound(nn.Module):
    """A pair of window attentions, then class attention."""

    def __init__(self, width: int, guidance: int, heads: int, window: int) -> None:
        super().__init__()
        self.still = WindowAttention(width, guidance, heads, window, shifted=False)
        self.shifted = WindowAttention(width, guidance, heads, window, shifted=True)
        self.classes = ClassAttention(width, guidance, heads)

    def forward(self, x: torch.Tensor, picture: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Aggregate once.

        Args:
            x: (b, k, h, w, c).
            picture: (b, h, w, g).
            text: (k, g).
        """
        batch, classes = x.shape[:2]
        guidance = repeat(picture, "b h w g -> (b k) h w g", k=classes)
        slices = rearrange(x, "b k h w c -> (b k) h w c")
        slices = self.shifted(self.still(slices, guidance), guidance)
        out: torch.Tensor = self.classes(rearrange(slices, "(b k) h w c -> b k h w c", b=batch), text)
        return out


def cost_volume(features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Cosine of every patch with every class: (b, d, h, w) and (k, d) to (b, k, h, w)."""
    return torch.einsum("bdhw,kd->bkhw", F.normalize(features, dim=1), F.normalize(text, dim=1))
