"""The selective state space block (Mamba; Gu & Dao, arXiv 2312.00752, figure 3), in parts that vision models join anew.

A `Selection` holds what one scan needs: the projections that select time step, B and C at each position, and the
decay; a `Direction` has the short causal convolution before it as well. Several of them over one input, each from its
own end, make a bidirectional block.
Attribute names are those of the reference implementation, so that public checkpoints map onto them.

Tokens lie as (b, l, c) in memory and the inside of a scan as (b, e, l). The matrix products that lead from one to the
other write their result where it belongs, so that no tensor is copied just to be turned.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from perception.scan import selective_scan

_STEP_RANGE = (1e-3, 1e-1)
"""Time steps after softplus are drawn log-uniformly from this range at the start."""
_STEP_FLOOR = 1e-4


class Selection(nn.Module):
    """Parameters of one scan over E = `channels` channels that were convolved already.

    Args:
        channels: E, the inner width.
        states: N, states of each channel.
        rank: width of the bottleneck through which time steps are projected.
    """

    def __init__(self, channels: int, states: int, rank: int) -> None:
        super().__init__()
        self.x_proj = nn.Linear(channels, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1, states + 1).float().log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        low, high = map(math.log, _STEP_RANGE)
        steps = torch.empty(channels).uniform_(low, high).exp().clamp(min=_STEP_FLOOR)
        with torch.no_grad():
            # The inverse of softplus.
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def scanned(self, u: torch.Tensor, backwards: bool) -> torch.Tensor:
        """Scan what the convolution left, after SiLU: (b, e, l) to the same shape, not gated."""
        rank, states = self.dt_proj.in_features, self.A_log.shape[1]
        selected = torch.bmm(u.transpose(1, 2), self.x_proj.weight.t().expand(len(u), -1, -1))  # (b, l, rank + 2n)
        step, B, C = (part.transpose(1, 2) for part in selected.split([rank, states, states], dim=-1))
        bias, weight = self.dt_proj.bias[:, None], self.dt_proj.weight.expand(len(u), -1, -1)
        # The bias belongs inside softplus, so the scan is given none.
        delta = torch.baddbmm(bias, weight, step)
        return selective_scan(u, delta, -torch.exp(self.A_log), B, C, self.D, backwards=backwards)


class Direction(Selection):
    """A scan with a convolution of its own.

    Args:
        channels: E, the inner width.
        states: N, states of each channel.
        rank: width of the bottleneck through which time steps are projected.
        kernel: positions that the causal convolution sees.
    """

    def __init__(self, channels: int, states: int, rank: int, kernel: int) -> None:
        super().__init__(channels, states, rank)
        self.conv1d = nn.Conv1d(channels, channels, kernel, groups=channels)

    def forward(self, x: torch.Tensor, backwards: bool) -> torch.Tensor:
        """Scan a sequence.

        Args:
            x: (b, e, l).
            backwards: from the last position to the first, as turning x around, scanning and turning back would.

        Returns:
            (b, e, l), not gated.
        """
        return self.scanned(F.silu(convolved(self.conv1d, x, backwards)), backwards)


def convolved(conv: nn.Conv1d, x: torch.Tensor, backwards: bool = False) -> torch.Tensor:
    """Depthwise convolution (b, e, l) over what came before each position, or backwards over what comes after."""
    weight, bias = conv.weight, conv.bias
    reach, length = weight.shape[-1] - 1, x.shape[-1]
    if backwards:
        return F.conv1d(x, weight.flip(-1), bias, padding=reach, groups=len(weight))[..., reach:]
    return F.conv1d(x, weight, bias, padding=reach, groups=len(weight))[..., :length]


def project(weight: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """A linear layer's weight (e, c) on tokens (b, l, c), written as (b, e, l)."""
    return torch.bmm(weight.expand(len(tokens), -1, -1), tokens.transpose(1, 2))


def project_back(weight: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
    """A linear layer's weight (c, e) on a sequence (b, e, l), written as tokens (b, l, c)."""
    return torch.bmm(sequence.transpose(1, 2), weight.t().expand(len(sequence), -1, -1))
