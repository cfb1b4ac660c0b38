"""Low-rank adaptation (Hu et al., LoRA, arXiv 2106.09685): a frozen linear layer and a small correction that learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from earthgen.errors import InvalidRequestError


class LoraLinear(nn.Module):
    """W x + (alpha / r) * B A x, where W stands still and B starts at 0, so that nothing changes at first.

    Args:
        base: the layer; it is frozen.
        rank: r.
        alpha: how much the correction weighs.
        dropout: of the correction's input, while training.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        self.dropout = nn.Dropout(dropout)
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., inputs) to (..., outputs)."""
        correction = (self.dropout(x) @ self.lora_a.t().to(x.dtype)) @ self.lora_b.t().to(x.dtype)
        out: torch.Tensor = self.base(x) + self.scale * correction
        return out


def add_lora(net: nn.Module, names: Sequence[str], rank: int, alpha: float, dropout: float) -> int:
    """Put a correction on every linear layer of a network that has one of some names; all else stands still.

    Args:
        net: it is changed.
        names: last parts of layers' names, such as "qkv".
        rank: see `LoraLinear`.
        alpha: see `LoraLinear`.
        dropout: see `LoraLinear`.

    Returns:
        How many layers.

    Raises:
        InvalidRequestError: there are no such layers.
    """
    found = [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in names
    ]
    if not found:
        raise InvalidRequestError(f"{type(net).__name__} has no linear layers called {', '.join(names)} to adapt")
    net.requires_grad_(False)
    for name, module in found:
        parent, _, last = name.rpartition(".")
        setattr(net.get_submodule(parent), last, LoraLinear(module, rank, alpha, dropout))
    return len(found)
