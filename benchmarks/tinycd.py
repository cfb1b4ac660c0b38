"""TinyCD, to run its published weights as a bar: Codegoni, Lombardi, Ferrari, arXiv 2207.13159.

Four stages of an EfficientNet-B4 see both dates. At each resolution a mixing block pairs the dates' channels, and a
pixelwise network makes a mask of them; from the coarsest up, features are doubled, masked and mixed. The weights are
for research only: nothing of them ships.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torchvision.models import efficientnet_b4

MULTIPLE = 8
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Mixing(nn.Module):
    """Channel c of one date beside channel c of the other, in groups (section 3.2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self._convmix = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, groups=outputs, padding=1), nn.PReLU(), nn.InstanceNorm2d(outputs)
        )

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Two (b, c, h, w) to (b, outputs, h, w)."""
        out: torch.Tensor = self._convmix(torch.stack([before, after], dim=2).flatten(1, 2))
        return out


class Pixelwise(nn.Module):
    """A small network at each pixel."""

    def __init__(self, widths: Sequence[int], last: nn.Module) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self._linears = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(inputs, outputs, 1), last if index == len(steps) - 1 else nn.PReLU())
                for index, (inputs, outputs) in enumerate(steps)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, widths[0], h, w) to (b, widths[-1], h, w)."""
        out: torch.Tensor = self._linears(x)
        return out


class MaskMixing(nn.Module):
    """A mask of one channel from two dates' features."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self._mixing = Mixing(inputs, widths[0])
        self._linear = Pixelwise(widths, nn.PReLU())

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Two (b, c, h, w) to (b, 1, h, w)."""
        out: torch.Tensor = self._linear(self._mixing(before, after))
        return out


class MaskedUp(nn.Module):
    """Doubled, masked, convolved."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self._convolution = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, groups=inputs, padding=1),
            nn.PReLU(),
            nn.InstanceNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 1),
            nn.PReLU(),
            nn.InstanceNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) and (b, 1, H, W) to (b, outputs, H, W)."""
        size = (mask.shape[2], mask.shape[3])
        out: torch.Tensor = self._convolution(F.interpolate(x, size, mode="bilinear", align_corners=True) * mask)
        return out


class TinyCD(nn.Module):
    """The network, with the authors' names of its tensors."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._backbone = efficientnet_b4().features[:4]
        self._first_mix = MaskMixing(6, (3, 10, 5, 1))
        self._mixing_mask = nn.ModuleList(
            [MaskMixing(48, (24, 12, 6, 1)), MaskMixing(64, (32, 16, 8, 1)), Mixing(112, 56)]
        )
        self._up = nn.ModuleList([MaskedUp(56, 64), MaskedUp(64, 64), MaskedUp(64, 32)])
        self._classify = Pixelwise((32, 16, 8, 1), nn.Identity())
        for name, values in (("mean", MEAN), ("spread", SPREAD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """Logits (b, 2, h, w) of a pair (b, t=2, 3, h, w) in [-1, 1]; unchanged is 0."""
        before, after = (((pair[:, date] + 1) / 2 - self.mean) / self.spread for date in range(2))
        found = [self._first_mix(before, after)]
        for index, stage in enumerate(self._backbone):
            before, after = stage(before), stage(after)
            if index:
                found.append(self._mixing_mask[index - 1](before, after))
        *masks, x = found
        for up, mask in zip(self._up, reversed(masks), strict=True):
            x = up(x, mask)
        change = self._classify(x)
        return torch.cat([torch.zeros_like(change), change], dim=1)


def load_tinycd(path: Path) -> TinyCD:
    """Published weights as a safetensors file."""
    net = TinyCD()
    net.load_state_dict(load_file(path))
    return net.eval()
